//! The configuration: from a command line and two kinds of files to one
//! [`Config`] in which nothing is left open.
//!
//! `main.rs` calls [`Source::load`] and does what the [`Action`] says;
//! `tokencached-tool check-config` calls [`load`] and only reports. Nobody
//! else imports this module: each of the others declares a small `Options`,
//! which the `Config` holds, filled.
//!
//! Sources, lowest first: built-in defaults; `--memcached-conf`
//! (`memcached_conf.rs`); `--config` (`file.rs`); the command line (`args.rs`).
//! Each gives a partial `Settings` (`settings.rs`) by way of the one table of
//! flags (`flags.rs`, `extended.rs`), in which each value keeps its origin.
//! They are laid over each other and resolved once (`resolve.rs` and
//! `sockets.rs`, with `listen.rs`, `sizes.rs`, `units.rs`, and what `machine.rs` knows); `show.rs` writes the
//! result down for people and for `stats settings`. `access.rs` reads the one table of the TOML file, and
//! `renewed.rs` compares what is read on SIGHUP, and `source.rs` records what was read. `tool_flags.rs` is the
//! command line of `tokencached-tool`, which shares nothing with the rest;
//! `documents.rs` makes man pages and completions of both.
//!
//! Invariants:
//! - *one line*: an error is one line that names the setting, its value, its
//!   source, and what would do.
//! - *nothing falls silently*: what is accepted without effect is in
//!   [`Config::notes`] or [`Config::warnings`], once.

mod access;
pub mod advise_flags;
mod args;
pub mod documents;
mod extended;
mod file;
mod flags;
mod listen;
pub mod load_flags;
mod machine;
mod memcached_conf;
mod renewed;
mod resolve;
mod settings;
mod show;
pub mod simulation_flags;
mod sizes;
mod sockets;
mod source;
pub mod tool_flags;
mod units;
pub mod watch_flags;

use std::ffi::OsString;
use std::fmt;
use std::io;

pub use self::machine::{Machine, MemoryBound};
pub use self::show::Shown;
pub use self::source::{Record, Source};

use self::args::CommandLine;
use self::flags::Ask;
use self::settings::{Origin, Settings};
use self::units::Problem;

/// The exit status for a configuration that cannot be used: `EX_CONFIG` of
/// `sysexits.h`.
pub const EX_CONFIG: u8 = 78;

/// The exit status for what may be over by itself, such as an address in use: `EX_OSERR`.
pub const EX_OSERR: u8 = 71;

/// The version of memcached whose options and protocol this is.
const MEMCACHED_VERSION: &str = "1.6.45";
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A configuration in which every value is decided.
pub struct Config {
    /// What the store is made from.
    pub store: crate::store::Options,
    /// What the engine allows and shows.
    pub engine: crate::engine::Options,
    /// Where and how the server listens.
    pub server: crate::server::Options,
    /// How often `-v` was given: 0 is the quietest. `engine.verbosity`, which the
    /// `verbosity` command changes, begins with it.
    pub verbosity: u8,
    /// What was accepted without effect, one line each; for the log at start.
    pub notes: Vec<String>,
    /// What the operator should know or change, one line each; for the log at
    /// start.
    pub warnings: Vec<String>,
    /// Each setting with its value and source, in the order of `-h`.
    pub settings: Vec<Shown>,
}

impl Config {
    /// The text of `--print-config`: a setting a line, aligned, with its source.
    pub fn table(&self) -> String {
        show::table(&self.settings)
    }

    /// The error of a value that only proved unusable when it was acted on,
    /// such as an address that is taken.
    ///
    /// `key` is the setting's name as `--print-config` shows it (`listen`,
    /// `unix_socket`, `http`, `user`, `lock_memory`, ...), or that of an option of `-o`.
    pub fn blame(&self, key: &str, what: &str, remedy: &str) -> ConfigError {
        let problem = Problem::new(what, remedy);
        let of_o = |shown: &&Shown| {
            let rest = shown.value.strip_prefix(key);
            shown.key == "extended" && rest.is_some_and(|rest| rest.starts_with('='))
        };
        let shown = self.settings.iter().find(|shown| shown.key == key);
        match shown.or_else(|| self.settings.iter().rfind(of_o)) {
            Some(shown) => ConfigError::line(&shown.to_string(), &problem),
            None => ConfigError::line(key, &problem),
        }
    }
}

/// What a command line asks the program to do.
#[allow(clippy::large_enum_variant)] // There is one in the life of a process.
pub enum Action {
    /// Serve.
    Run(Config),
    /// Print this text to standard output and leave with status 0.
    Print(String),
}

/// Why a configuration cannot be used. Prints as one line: the setting, its
/// value, its source; what is wrong; what would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    fn line(subject: &str, problem: &Problem) -> Self {
        let text = format!("{subject}: {}; {}", problem.what, problem.remedy);
        ConfigError(text.replace(char::is_control, " "))
    }

    /// A value that cannot be used.
    fn value(key: &str, text: &str, origin: &Origin, problem: &Problem) -> Self {
        let key = key.escape_debug();
        let text = text.escape_debug();
        Self::line(&format!("{key} = \"{text}\" ({origin})"), problem)
    }

    /// A name that cannot be used, whatever its value.
    fn refused(key: &str, origin: &Origin, problem: &Problem) -> Self {
        Self::line(&format!("{} ({origin})", key.escape_debug()), problem)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Reads the whole configuration: `args` without the program's name, and the
/// files they name.
///
/// Looks host names up, which may block. Nothing is bound, opened or changed.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    machine: &Machine,
) -> Result<Action, ConfigError> {
    load_with(args, machine, |path: &str| std::fs::read(path))
}

/// As [`load`], with `read` in the place of the file system.
pub fn load_with(
    args: impl IntoIterator<Item = OsString>,
    machine: &Machine,
    read: impl Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Action, ConfigError> {
    let command = args::command_line(utf8(args)?)?;
    if let Some(ask) = command.print {
        return Ok(Action::Print(print(ask)));
    }
    let print_config = command.print_config;
    let config = resolve::resolve(overlaid(command, read)?, machine)?;
    if print_config {
        return Ok(Action::Print(config.table()));
    }
    Ok(Action::Run(config))
}

fn overlaid(
    command: CommandLine,
    read: impl Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Settings, ConfigError> {
    let mut settings = command.settings;
    if let Some(path) = command.config_file {
        let bytes = read_named("--config", &path, &read)?;
        settings = settings.over(file::parse(&bytes, &path)?);
    }
    if let Some(path) = command.memcached_conf {
        let bytes = read_named("--memcached-conf", &path, &read)?;
        settings = settings.over(memcached_conf::parse(&bytes, &path)?);
    }
    Ok(settings)
}

fn read_named(
    flag: &str,
    path: &str,
    read: impl Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Vec<u8>, ConfigError> {
    read(path).map_err(|error| {
        let what = format!("cannot be read: {error}");
        let problem = Problem::new(what, format!("name a readable file, or leave {flag} out"));
        let key = flag.trim_start_matches('-').replace('-', "_");
        ConfigError::value(&key, path, &Origin::command_line(flag), &problem)
    })
}

fn utf8(args: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, ConfigError> {
    let text = |arg: OsString| {
        arg.into_string().map_err(|arg| {
            let shown = arg.to_string_lossy().into_owned();
            let problem = Problem::new("not UTF-8 text", "write it in ASCII or UTF-8");
            ConfigError::refused(&shown, &Origin::command_line(""), &problem)
        })
    };
    args.into_iter().map(text).collect()
}

fn print(ask: Ask) -> String {
    match ask {
        Ask::Version => {
            format!("tokencached {OWN_VERSION} (memcached {MEMCACHED_VERSION} compatible)\n")
        }
        Ask::License => LICENSE.into(),
        _ => flags::help(MEMCACHED_VERSION, OWN_VERSION),
    }
}

const LICENSE: &str = "\
tokencached is licensed under the Apache License, Version 2.0; you may obtain a
copy at https://www.apache.org/licenses/LICENSE-2.0. It is distributed on an
\"AS IS\" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND.
";
