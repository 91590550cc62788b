//! The command line of `tokencached-tool`.
//!
//! The binary parses it, turns it into the `Options` of the subcommand with
//! [`Load::options`], and calls `tool/`. The options after `check-config` are
//! the daemon's own and are not read here: they go to [`super::load`] as they
//! are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};

use super::advise_flags::Advise;
use super::load_flags::Load;
use super::simulation_flags::{Generate, Replay, Simulate};
use super::watch_flags::{Record, Watch};
use crate::tool::{DEFAULT_HTTP_PORT, Error, Target, top};

/// Checks a configuration of tokencached, asks a server for its statistics, and
/// measures what its requests cost.
#[derive(Debug, Parser)]
#[command(name = "tokencached-tool", version, max_term_width = 100)]
pub struct ToolFlags {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what is wrong with a configuration, and where; start nothing
    ///
    /// Ends with status 0 if the configuration is usable, else with 78.
    #[command(disable_help_flag = true)]
    CheckConfig {
        /// The same options as for tokencached
        #[arg(
            value_name = "OPTIONS",
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        options: Vec<OsString>,
    },
    /// Print a server's statistics, or how it does
    ///
    /// Without --http and --admin, over memcached's protocol, so of memcached too. With one of them: hit rates of the
    /// last minute, hour and day, what Keystone was spared, who asked, and whether the memory is enough.
    Stats(Stats),
    /// Watch a server on the terminal: hit rates, load, memory, services
    ///
    /// What `stats --http` prints, live. ? shows the keys, q ends.
    Top(Top),
    /// Show what a running server is asked, and what comes of it: a line for each command about a key
    ///
    /// For root and the server's own user. No key is shown, only what tells keys apart while this watches. Columns: seconds
    /// since it began, service, command, class of the item, key, and what came of it.
    Watch(Watch),
    /// Record what a running server is asked into a trace, for simulate and advise
    ///
    /// For root and the server's own user. Nothing in the trace leads back to a token. Ctrl-C ends it earlier; what
    /// there is is written.
    Record(Record),
    /// Drive a server with gets and sets, check every value, and say what they cost it
    ///
    /// In a closed loop, as fast as it answers, or with --rate as fast as requests come. With --compare, two servers in
    /// turns. For a clean measurement, pin the server and this to cores of their own (taskset).
    Load(Load),
    /// Make a trace of token requests up: who asks an API with which token, and when
    Generate(Generate),
    /// Replay traces through caches in virtual time, and say what hits and what Keystone has to validate
    ///
    /// The store in it is tokencached's own; the others are rivals and bounds. Hit rates count
    /// legitimate requests only.
    Simulate(Simulate),
    /// Send a trace's requests to a server, faster than they came, and count what hits
    ///
    /// Sets what misses, as keystonemiddleware would. For holding a simulation against a real cache.
    Replay(Replay),
    /// Say what other memory and another token_cache_time would be worth, in validations a second
    ///
    /// Of a running server, by what it missed of late; or by replaying a trace through tokencached's own store, with
    /// more and less of both.
    Advise(Advise),
    /// Write man pages and shell completions into a folder, for those who make packages
    #[command(hide = true)]
    Documents {
        /// The folder, which is made
        folder: PathBuf,
    },
}

/// The server that a subcommand talks to.
#[derive(Debug, Args)]
pub struct Server {
    /// HOST, HOST:PORT, or the path of a unix socket as unix:PATH
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11211")]
    pub target: String,
}

impl Server {
    /// The server's address; looks a name up, which may block.
    ///
    /// # Errors
    /// [`Error::Target`] if it is no address.
    pub fn target(&self) -> Result<Target, Error> {
        self.target.parse()
    }
}

/// `stats`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("server").args(["target", "http", "admin"])))]
pub struct Stats {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// Which statistics: settings, items, slabs, sizes, conns; without, the general ones
    #[arg(value_name = "ARG", conflicts_with_all = ["http", "admin"])]
    pub argument: Option<String>,
    /// Where to ask how it does.
    #[command(flatten)]
    pub status: StatusServer,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Where a server says how it does.
#[derive(Debug, Args)]
pub struct StatusServer {
    /// Ask at the server's --http how it does: HOST or HOST:PORT [default: 127.0.0.1:9150]
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = DEFAULT_HTTP,
        conflicts_with = "admin")]
    pub http: Option<String>,
    /// Ask over the server's admin socket how it does [default: /run/tokencached/admin.sock]
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = DEFAULT_ADMIN)]
    pub admin: Option<PathBuf>,
}

/// Where the server's --http is unless it says otherwise.
const DEFAULT_HTTP: &str = "127.0.0.1:9150";

/// Where the server's admin socket is as a service of its own.
pub(super) const DEFAULT_ADMIN: &str = "/run/tokencached/admin.sock";

/// Where it is in the place of memcached.
const TAKEOVER_ADMIN: &str = "/run/memcached/admin.sock";

/// The admin socket that is meant: by default the one that is there.
pub(super) fn admin_socket(given: &Path) -> Target {
    let takeover = Path::new(TAKEOVER_ADMIN);
    let is_elsewhere = given == Path::new(DEFAULT_ADMIN) && !given.exists() && takeover.exists();
    Target::Unix(if is_elsewhere { takeover } else { given }.to_owned())
}

impl StatusServer {
    /// The address that was given, if one was; looks a name up, which may block.
    ///
    /// # Errors
    /// [`Error::Target`] if it is no address.
    pub fn target(&self) -> Result<Option<Target>, Error> {
        match (&self.admin, &self.http) {
            (Some(path), _) => Ok(Some(admin_socket(path))),
            (None, Some(address)) => Target::tcp(address, DEFAULT_HTTP_PORT).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The same, or else where the server's --http is by default.
    ///
    /// # Errors
    /// Those of [`StatusServer::target`].
    pub fn target_or_default(&self) -> Result<Target, Error> {
        match self.target()? {
            Some(target) => Ok(target),
            None => Target::tcp(DEFAULT_HTTP, DEFAULT_HTTP_PORT),
        }
    }
}

/// `top`.
#[derive(Debug, Args)]
pub struct Top {
    /// The server: at its --http, unless --admin says otherwise.
    #[command(flatten)]
    pub status: StatusServer,
    /// Seconds between two looks, such as 2 or 0.5
    #[arg(long, value_name = "S", default_value = "2", value_parser = interval)]
    pub interval: Duration,
}

impl Top {
    /// What `tool/` needs to know; looks a name up, which may block.
    ///
    /// # Errors
    /// [`Error::Target`] if the address is none.
    pub fn options(&self) -> Result<top::Options, Error> {
        Ok(top::Options {
            target: self.status.target_or_default()?,
            interval: self.interval,
        })
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "give a number of seconds above 0, such as 5 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(wrong)
}

/// The server makes its figures ten times a second at most.
fn interval(text: &str) -> Result<Duration, String> {
    let possible = Duration::from_millis(100)..=Duration::from_secs(3_600);
    seconds(text)
        .ok()
        .filter(|interval| possible.contains(interval))
        .ok_or_else(|| "give a number of seconds from 0.1 to 3600".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        ToolFlags::command().debug_assert();
    }

    #[test]
    fn check_config_leaves_the_daemons_options_alone() {
        let words = ["tool", "check-config", "-m", "64", "--print-config", "-h"];
        let Command::CheckConfig { options } = ToolFlags::parse_from(words).command else {
            panic!("another subcommand");
        };
        assert_eq!(options, ["-m", "64", "--print-config", "-h"]);
    }

    #[test]
    fn a_status_is_asked_for_over_http_or_the_admin_socket() {
        let top = |words: &[&str]| {
            let words = ["tool", "top"].iter().chain(words);
            let Command::Top(flags) = ToolFlags::parse_from(words).command else {
                panic!("another subcommand");
            };
            flags.options().unwrap()
        };
        let asked = |words: &[&str]| top(words).target.to_string();
        assert_eq!(asked(&[]), "127.0.0.1:9150");
        assert_eq!(asked(&["--http", "127.0.0.2"]), "127.0.0.2:9150");
        assert_eq!(asked(&["--http", "127.0.0.2:1"]), "127.0.0.2:1");
        assert_eq!(asked(&["--admin"]), "unix:/run/tokencached/admin.sock");
        assert_eq!(asked(&["--admin", "x"]), "unix:x");
        assert_eq!(top(&["--interval", "0.5"]).interval.as_millis(), 500);
    }

    #[test]
    fn what_contradicts_itself_is_no_command_line() {
        for words in [
            "stats --http --admin",
            "stats settings --http",
            "stats --target x --http",
            "stats --target x --admin",
            "top --interval 0.01",
            "top --interval 1e9",
            "top --http --admin",
            "advise --http --admin",
            "advise --trace x --http",
            "advise --trace x --admin",
            "advise --memory 64",
            "advise --http --ttl 300",
            "advise --admin --memory 64",
            "advise --http --values plain",
        ] {
            let words = ["tool"].into_iter().chain(words.split(' '));
            assert!(
                ToolFlags::try_parse_from(words.clone()).is_err(),
                "{words:?}"
            );
        }
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "x", "nan", "1e300"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
