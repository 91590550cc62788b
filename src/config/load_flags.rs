//! The command line of `tokencached-tool load`.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;

use super::tool_flags::{Server, seconds};
use crate::tool::Error;
use crate::tool::exchange::Protocol;
use crate::tool::load::compare::Comparison;
use crate::tool::load::{self, Values, parse_value_bytes, parse_values};

/// `load`.
#[derive(Debug, Args)]
pub struct Load {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// What to speak
    #[arg(long, value_name = "classic|meta|binary", default_value = "classic", value_parser = protocol)]
    pub protocol: Protocol,
    /// Connections, each with one batch of requests on its way
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub connections: usize,
    /// How many of them ask; the others are open and silent (default: all)
    #[arg(long, value_name = "N")]
    pub active: Option<usize>,
    /// Threads that the connections are spread over
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// Send so many batches a second, evenly spread, whether the ones before are answered or not. Latency counts from
    /// when a batch was due
    #[arg(long, value_name = "R")]
    pub rate: Option<f64>,
    /// Stop after so many requests
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// Stop after so many seconds (default: 5, unless --requests is given)
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// Distinct keys
    #[arg(long, value_name = "K", default_value_t = 1000)]
    pub keys: u64,
    /// Some keys are asked for more than others: Zipf's law with this exponent, such as 0.99 (default: all alike)
    #[arg(long, value_name = "S")]
    pub zipf: Option<f64>,
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
    #[arg(long, conflicts_with_all = ["hold", "idle", "server_pid", "compare"])]
    pub reconnect: bool,
    /// The server's process; without, looked for on this machine
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// The same seed gives the same keys, values and requests
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Set every key once, then say how many of them the server holds
    #[arg(long, conflicts_with_all = ["idle", "fill", "requests", "seconds", "rate"])]
    pub hold: bool,
    /// Open N connections that stay silent, and say what each costs the server
    #[arg(long, value_name = "N", conflicts_with_all = ["requests", "rate"])]
    pub idle: Option<usize>,
    /// With --idle: one get over each connection before it falls silent
    // What --idle cannot be with is named again: clap lets `requires` pass in its presence.
    #[arg(long, requires = "idle", conflicts_with_all = ["requests", "rate", "hold", "reconnect", "compare"])]
    pub get_first: bool,
    /// Start two servers and compare them in short bursts (--seconds, default 0.7) that alternate. Each command line
    /// has {port} or {socket} where the server is told to listen; no shell reads it
    #[arg(long, num_args = 2, value_names = ["CMD A", "CMD B"],
        conflicts_with_all = ["target", "server_pid", "hold", "idle"])]
    pub compare: Option<Vec<String>>,
    /// With --compare: bursts of each server
    // Again, what --compare cannot be with.
    #[arg(long, value_name = "N", default_value_t = 9, requires = "compare",
        conflicts_with_all = ["target", "server_pid", "hold", "idle", "reconnect"])]
    pub rounds: usize,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

impl Load {
    /// What `tool/` needs to know; looks the target's name up, which may block.
    ///
    /// # Errors
    /// [`Error::Target`] if the target is no address.
    pub fn options(&self) -> Result<load::Options, Error> {
        Ok(load::Options {
            target: self.server.target()?,
            protocol: self.protocol,
            connections: self.connections,
            active: self.active,
            threads: self.threads,
            rate: self.rate,
            requests: self.requests,
            duration: self.seconds,
            keys: self.keys,
            zipf: self.zipf,
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

    /// The servers that are compared, if that is wanted.
    pub fn comparison(&self) -> Option<Comparison> {
        let [a, b] = self.compare.as_deref()? else {
            return None;
        };
        Some(Comparison {
            commands: [a.clone(), b.clone()],
            rounds: self.rounds,
        })
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    text.parse().map_err(|error: Error| error.to_string())
}

fn values(text: &str) -> Result<Values, String> {
    parse_values(text).map_err(|error| error.to_string())
}

fn value_bytes(text: &str) -> Result<RangeInclusive<usize>, String> {
    parse_value_bytes(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tool_flags::{Command, ToolFlags};
    use clap::Parser;

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
    fn two_servers_are_compared_and_no_target_is_named() {
        let words = ["tool", "load", "--compare", "a {port}", "b {socket}"];
        let Command::Load(flags) = ToolFlags::parse_from(words).command else {
            panic!("another subcommand");
        };
        let comparison = flags.comparison().unwrap();
        assert_eq!(comparison.commands, ["a {port}", "b {socket}"]);
        assert_eq!(comparison.rounds, 9);
        for more in [
            &["--target", "x"][..],
            &["--hold"],
            &["--reconnect"],
            &["--idle", "5"],
        ] {
            assert!(
                ToolFlags::try_parse_from(words.iter().chain(more)).is_err(),
                "{more:?}"
            );
        }
    }

    #[test]
    fn a_detail_of_what_is_not_wanted_is_refused() {
        for detail in [&["--rounds", "3"][..], &["--get-first"]] {
            for more in [
                &[][..],
                &["--target", "x"],
                &["--hold"],
                &["--reconnect"],
                &["--requests", "5"],
                &["--rate", "5"],
                &["--server-pid", "5"],
            ] {
                let words = ["tool", "load"].iter().chain(detail).chain(more);
                assert!(
                    ToolFlags::try_parse_from(words).is_err(),
                    "{detail:?} {more:?}"
                );
            }
        }
    }
}
