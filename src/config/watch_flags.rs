//! The command lines of `tokencached-tool watch` and `record`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::tool_flags::{DEFAULT_ADMIN, admin_socket, seconds};
use super::units::{self, MIB};
use crate::stats::events::Op;
use crate::token::class::Class;
use crate::tool::{Target, record, watch};

/// The admin socket of a server.
#[derive(Debug, Args)]
pub struct AdminSocket {
    /// The server's admin socket; by default that of tokencached-takeover, too, if it is there
    #[arg(long, value_name = "PATH", default_value = DEFAULT_ADMIN)]
    pub admin: PathBuf,
}

impl AdminSocket {
    fn target(&self) -> Target {
        admin_socket(&self.admin)
    }
}

/// `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// The server.
    #[command(flatten)]
    pub server: AdminSocket,
    /// Only these commands, such as get,set
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = op)]
    pub op: Vec<Op>,
    /// Only of these services
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub service: Vec<String>,
    /// Only of these classes: token, token_mac, token_encrypt, dogpile, other
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = class)]
    pub class: Vec<Class>,
    /// Only look-ups that found nothing
    #[arg(long)]
    pub misses: bool,
    /// End after so many lines
    #[arg(long, short = 'n', value_name = "N")]
    pub count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// Print each event as a line of JSON
    #[arg(long)]
    pub json: bool,
}

impl Watch {
    /// The server, and what `tool/` needs to know.
    pub fn options(&self) -> (Target, watch::Options) {
        let options = watch::Options {
            ops: self.op.clone(),
            services: self.service.clone(),
            classes: self.class.clone(),
            misses: self.misses,
            count: self.count,
            time: self.seconds,
            json: self.json,
        };
        (self.server.target(), options)
    }
}

/// `record`.
#[derive(Debug, Args)]
pub struct Record {
    /// The server.
    #[command(flatten)]
    pub server: AdminSocket,
    /// The file to write; - is standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Seconds to record; at most a week
    #[arg(long, value_name = "S", default_value = "900", value_parser = record_seconds)]
    pub seconds: Duration,
    /// The size at which it ends at the latest, in MiB, or with k or m; at most 256m. Meanwhile it takes up to four
    /// times as much memory here
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = record_bytes)]
    pub size: u64,
}

impl Record {
    /// What `tool/` needs to know.
    pub fn options(&self) -> record::Options {
        record::Options {
            target: self.server.target(),
            output: self.output.clone(),
            time: self.seconds,
            bytes_max: self.size,
        }
    }
}

fn op(name: &str) -> Result<Op, String> {
    let known = Op::ALL.into_iter().find(|op| op.name() == name);
    known.ok_or_else(|| {
        format!(
            "no such command; there are: {}",
            Op::ALL.map(Op::name).join(", ")
        )
    })
}

fn class(name: &str) -> Result<Class, String> {
    let known = Class::ALL.into_iter().find(|class| class.name() == name);
    known.ok_or_else(|| {
        format!(
            "no such class; there are: {}",
            Class::ALL.map(Class::name).join(", ")
        )
    })
}

fn record_seconds(text: &str) -> Result<Duration, String> {
    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    let time = seconds(text)?;
    match time > Duration::ZERO && time <= WEEK {
        true => Ok(time),
        false => Err("from a moment to a week, such as 900".to_owned()),
    }
}

fn record_bytes(text: &str) -> Result<u64, String> {
    let bytes = units::size(text, MIB).map_err(|problem| problem.what.to_string())?;
    match (MIB / 16..=256 * MIB).contains(&bytes) {
        true => Ok(bytes),
        false => Err("from 64k to 256m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::tool_flags::{Command, ToolFlags};

    fn parse(line: &str) -> Result<Command, String> {
        let words = ["tokencached-tool"].into_iter().chain(line.split(' '));
        let parsed = ToolFlags::try_parse_from(words);
        parsed
            .map(|flags| flags.command)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_watch_is_what_its_flags_say() {
        let line =
            "watch --op get,set --service nova --class token_mac --misses -n 3 --seconds 0.5";
        let Ok(Command::Watch(flags)) = parse(line) else {
            panic!("{:?}", parse(line));
        };
        let (target, options) = flags.options();
        assert_eq!(target.to_string(), "unix:/run/tokencached/admin.sock");
        assert_eq!(options.ops, [Op::Get, Op::Set]);
        assert_eq!(options.classes, [Class::TokenMac]);
        assert_eq!(options.services, ["nova"]);
        assert!(options.misses && !options.json);
        assert_eq!(options.count, Some(3));
        assert_eq!(options.time, Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_recording_is_bounded_in_time_and_size() {
        let Ok(Command::Record(flags)) = parse("record -o x") else {
            panic!("{:?}", parse("record -o x"));
        };
        let options = flags.options();
        assert_eq!(options.time, Duration::from_secs(900));
        assert_eq!(options.bytes_max, 64 << 20);
        for wrong in [
            "--seconds 0",
            "--seconds 604801",
            "--size 1k",
            "--size 257m",
            "--size x",
        ] {
            assert!(parse(&format!("record -o x {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let said = parse("watch --op got").unwrap_err();
        assert!(said.contains("get, gat, touch"), "{said}");
        let said = parse("watch --class tokens").unwrap_err();
        assert!(said.contains("other, token, token_mac"), "{said}");
    }
}
