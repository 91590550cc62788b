//! The command line of `tokencached-tool`.
//!
//! The binary parses it, turns it into the `Options` of the subcommand with
//! [`Load::options`], and calls `tool/`. The options after `check-config` are
//! the daemon's own and are not read here: they go to [`super::load`] as they
//! are.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::simulation_flags::{Generate, Replay, Simulate};
use crate::tool::load::{self, Values, parse_value_bytes, parse_values};
use crate::tool::{Error, Target};

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
    /// Print a server's statistics
    Stats(Stats),
    /// Drive a server with gets and sets, check every value, and say what they cost it
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
pub struct Stats {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// Which statistics: settings, items, slabs, sizes, conns; without, the general ones
    #[arg(value_name = "ARG")]
    pub argument: Option<String>,
}

/// `load`.
#[derive(Debug, Args)]
pub struct Load {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// Connections, each with one batch of requests on its way
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub connections: usize,
    /// Stop after so many requests
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// Stop after so many seconds (default: 5, unless --requests is given)
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// Distinct keys, all equally likely
    #[arg(long, value_name = "K", default_value_t = 1000)]
    pub keys: u64,
    /// What the values are: random bytes; or what keystonemiddleware caches for as many distinct
    /// project-scoped tokens, in plain JSON (tokens) or as memcache_security_strategy MAC (mac) and
    /// ENCRYPT (encrypt) make it
    #[arg(long, value_name = "random|tokens|mac|encrypt", default_value = "random", value_parser = values)]
    pub values: Values,
    /// With random values: bytes of each, or a range such as 5000-20000 (default: 8192)
    #[arg(long, value_name = "BYTES", value_parser = value_bytes)]
    pub value_bytes: Option<RangeInclusive<usize>>,
    /// With tokens: which cloud's catalogue they carry. 0 is a recorded one of 12 KB; any other
    /// number is a cloud with other endpoint ids, URLs and names throughout
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub catalogue: u64,
    /// With tokens: add made-up services to the catalogue until it has at least so many bytes, or
    /// leave out its last ones
    #[arg(long, value_name = "BYTES")]
    pub catalogue_bytes: Option<usize>,
    /// Percentage of gets; the rest are sets
    #[arg(long, value_name = "PERCENT", default_value_t = 100)]
    pub get_percent: u8,
    /// Set every key once before measuring
    #[arg(long)]
    pub fill: bool,
    /// Requests sent at once over one connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub pipeline: usize,
    /// Keys of one get
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub multiget: usize,
    /// The exptime of sets, in seconds; 0 is never
    #[arg(long, value_name = "S", default_value_t = 3600)]
    pub exptime: u32,
    /// With gets alone: a connection that breaks is opened anew, and what was asked is asked again; to see what a
    /// restart of the server costs. The server's process is not looked at then
    #[arg(long, conflicts_with_all = ["hold", "idle", "server_pid"])]
    pub reconnect: bool,
    /// The server's process; without, looked for on this machine
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// The same seed gives the same keys, values and requests
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Set every key once, then say how many of them the server holds
    #[arg(long, conflicts_with_all = ["idle", "fill", "requests", "seconds"])]
    pub hold: bool,
    /// Open N connections that stay silent, and say what each costs the server
    #[arg(long, value_name = "N", conflicts_with = "requests")]
    pub idle: Option<usize>,
    /// With --idle: one get over each connection before it falls silent
    #[arg(long, requires = "idle")]
    pub get_first: bool,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}

impl Load {
    /// What `tool/` needs to know; looks the target's name up, which may block.
    ///
    /// # Errors
    /// [`Error::Target`] if the target is no address.
    pub fn options(&self) -> Result<load::Options, Error> {
        Ok(load::Options {
            target: self.server.target()?,
            connections: self.connections,
            requests: self.requests,
            duration: self.seconds,
            keys: self.keys,
            values: self.values,
            value_bytes: self.value_bytes.clone(),
            catalogue: self.catalogue,
            catalogue_bytes: self.catalogue_bytes,
            get_percent: self.get_percent,
            fill: self.fill,
            multiget: self.multiget,
            pipeline: self.pipeline,
            exptime_seconds: self.exptime,
            reconnect: self.reconnect,
            server_pid: self.server_pid,
            seed: self.seed,
        })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "give a number of seconds above 0, such as 5 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(wrong)
}

fn values(text: &str) -> Result<Values, String> {
    parse_values(text).map_err(|error| error.to_string())
}

fn value_bytes(text: &str) -> Result<RangeInclusive<usize>, String> {
    parse_value_bytes(text).map_err(|error| error.to_string())
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
    fn load_takes_its_defaults_from_the_tool() {
        let Command::Load(flags) = ToolFlags::parse_from(["tool", "load"]).command else {
            panic!("another subcommand");
        };
        let target = "127.0.0.1:11211".parse().unwrap();
        let (given, defaults) = (flags.options().unwrap(), load::Options::new(target));
        assert_eq!(format!("{given:?}"), format!("{defaults:?}"));
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "x", "nan", "1e300"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
