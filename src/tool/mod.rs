//! The operator's tool: what `tokencached-tool` does once its command line is read.
//!
//! Each subcommand is a module with an `Options` struct and a function that takes it and gives a
//! report; a report prints itself as a table (`Display`) or as one line of JSON (`to_json`). The
//! command line is defined by the binary, which is thin: it fills `Options`, calls, prints, and
//! turns an [`Error`] into one line on standard error.
//!
//! - [`stats`] asks a server for its statistics, as memcached tells them; [`status`] asks how it does, over [`http`],
//!   and [`top`] shows that live. They write numbers as [`units`] has them.
//! - [`load`] drives a server with a closed loop and says what a request costs it; [`hold`] says
//!   how many items it keeps; [`idle`] says what a silent connection costs. They share [`workload`]
//!   (keys and values, which come from [`keys`] and [`pad`] or [`tokens`]), [`exchange`] (requests
//!   out, replies in, every byte checked), [`wire`] (sockets) and [`process`] (what the kernel knows
//!   about the server).
//! - [`replay`] sends a [`trace`]'s requests to a server at their times and counts the hits, as
//!   [`simulate`] does with models of caches.
//!
//! - [`watch`] shows what a running server is asked, [`record`] makes a [`trace`] of it.
//! - [`generate`] makes a [`trace`] of token requests up; [`simulate`] replays traces through caches in
//!   virtual time, [`replay`] through a server. They write [`files`] whole and show [`progress`].
//! - [`advise`] says what other memory and another TTL would be worth, from a trace or from a server's [`status`].
//!
//! But for the simulator's policy that is the store itself, and the types of the status that the server sends, nothing
//! here knows tokencached's inside: the tool speaks the classic text protocol, so that
//! every figure can be taken from memcached as well. Keys and values are made up; no token of a
//! live server is ever read or printed.

pub mod advise;
pub mod exchange;
pub mod files;
pub mod generate;
pub mod hold;
pub mod http;
pub mod idle;
pub mod keys;
pub mod load;
pub mod open_files;
pub mod pad;
pub mod process;
pub mod progress;
pub mod random;
pub mod record;
pub mod replay;
pub mod report;
pub mod signals;
pub mod simulate;
pub mod stats;
pub mod status;
pub mod tokens;
pub mod top;
pub mod trace;
pub mod units;
pub mod watch;
pub mod wire;
pub mod workload;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// The port of a target that names none.
pub const DEFAULT_PORT: u16 = 11211;

/// The port of HTTP where none is named.
pub const DEFAULT_HTTP_PORT: u16 = 9150;

/// Where a server listens.
///
/// Parsed from `HOST:PORT`, `HOST` (port 11211), `[::1]:PORT`, or a path of a unix socket
/// (`/run/x.sock`, `unix:/run/x.sock`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

impl FromStr for Target {
    type Err = Error;

    /// Resolves names once, to their first address; blocks while it does.
    fn from_str(given: &str) -> Result<Self, Error> {
        if let Some(path) = given.strip_prefix("unix:") {
            return Ok(Target::Unix(path.into()));
        }
        if given.contains('/') {
            return Ok(Target::Unix(given.into()));
        }
        Target::tcp(given, DEFAULT_PORT)
    }
}

impl Target {
    /// A TCP address from `HOST:PORT`, `HOST` (this port), `[::1]:PORT`. Resolves names once, to their first address;
    /// blocks while it does.
    ///
    /// # Errors
    /// [`Error::Target`] if it is none.
    pub fn tcp(given: &str, port: u16) -> Result<Target, Error> {
        let resolved = given
            .to_socket_addrs()
            .or_else(|_| (given, port).to_socket_addrs());
        match resolved.map(|mut addresses| addresses.next()) {
            Ok(Some(address)) => Ok(Target::Tcp(address)),
            _ => Err(Error::Target(given.to_owned())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => write!(f, "{address}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a subcommand gave up. Prints as one line: what failed, where, and what would help.
#[derive(Debug)]
pub enum Error {
    /// The text is no address and no path.
    Target(String),
    /// No connection could be opened.
    Connect(Target, io::Error),
    /// Nobody answers HTTP.
    Unreachable(Target, io::Error),
    /// The server's answer over HTTP is of no use; what is the matter with it, and what would do.
    Answer(Target, String),
    /// A connection broke, or stayed silent too long, after it had been opened.
    Lost(Target, io::Error),
    /// The server sent something that is no reply to what was asked.
    Garbled(Target, String),
    /// The server understood and refused; its own words.
    Refused(Target, String),
    /// The options contradict each other or ask for what cannot be measured.
    Options(String),
    /// The server's process could not be looked at.
    Process(u32, io::Error),
    /// A file cannot be used; what is the matter with it.
    File(PathBuf, String),
    /// The tool itself could not get what it needs from the operating system.
    System(&'static str, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Target(given) => write!(
                f,
                "{given:?} is no server's address: give HOST:PORT or the path of a unix socket"
            ),
            Error::Connect(target, why) => write!(
                f,
                "cannot connect to {target}: {why}; is the server running, and does it listen there?"
            ),
            Error::Unreachable(target, why) => {
                write!(f, "cannot reach {target}: {why}; {}", remedy(target, why))
            }
            Error::Answer(target, what) => write!(f, "{target} {what}"),
            Error::Lost(target, why) => write!(
                f,
                "lost the connection to {target}: {why}; the server's log may say why"
            ),
            Error::Garbled(target, line) => write!(
                f,
                "{target} answered {line:?}, which is no answer to the request: does a memcached listen there?"
            ),
            Error::Refused(target, line) => write!(
                f,
                "{target} refused: {line}; see the server's documentation of this command"
            ),
            Error::Options(what) => f.write_str(what),
            Error::Process(pid, why) => write!(
                f,
                "cannot read /proc/{pid}: {why}; run on the server's machine, as its user or root"
            ),
            Error::File(path, what) => write!(f, "{}: {what}", path.display()),
            Error::System(what, why) => write!(f, "cannot {what}: {why}"),
        }
    }
}

/// What to look at if a server does not answer HTTP.
fn remedy(target: &Target, why: &io::Error) -> &'static str {
    match (target, why.kind()) {
        (_, io::ErrorKind::PermissionDenied) => "ask as root or as the server's user",
        (Target::Tcp(_), _) => "is the server running, with --http at this address?",
        (Target::Unix(_), _) => "is the server running, and is this its admin socket?",
    }
}

impl Error {
    /// What is the matter, for those who know where: without the target, the error's number and what
    /// would help.
    pub fn why(&self) -> String {
        match self {
            Error::Connect(_, why) | Error::Unreachable(_, why) | Error::Lost(_, why) => {
                let why = why.to_string();
                let words = why.split(" (os error").next();
                words.unwrap_or_default().to_owned()
            }
            Error::Answer(_, what) => format!("it {what}"),
            _ => self.to_string(),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Connect(_, why)
            | Error::Unreachable(_, why)
            | Error::Lost(_, why)
            | Error::Process(_, why)
            | Error::System(_, why) => Some(why),
            _ => None,
        }
    }
}

/// What a server said, fit to be shown: at most 80 characters, control characters replaced.
pub(crate) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end()
        .chars()
        .take(80)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, Error> {
        text.parse()
    }

    #[test]
    fn targets_are_addresses_or_paths() {
        let local = |port| Target::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(parse("127.0.0.1:4000").unwrap(), local(4000));
        assert_eq!(parse("127.0.0.1").unwrap(), local(DEFAULT_PORT));
        assert_eq!(parse("[::1]:5").unwrap().to_string(), "[::1]:5");
        assert_eq!(parse("/run/x").unwrap(), Target::Unix("/run/x".into()));
        assert_eq!(parse("unix:x").unwrap(), Target::Unix("x".into()));
    }

    #[test]
    fn a_wrong_target_is_explained_in_one_line() {
        let message = parse("127.0.0.1:port").unwrap_err().to_string();
        assert!(message.contains("HOST:PORT"), "{message}");
        assert!(!message.contains('\n'));
    }

    #[test]
    fn what_is_the_matter_is_told_in_words_alone() {
        let refused = io::Error::from_raw_os_error(111);
        let error = Error::Unreachable(parse("127.0.0.1").unwrap(), refused);
        assert_eq!(error.why(), "Connection refused");
        assert!(error.to_string().contains("cannot reach 127.0.0.1:11211"));
    }

    #[test]
    fn what_a_server_said_is_made_harmless() {
        assert_eq!(shown(b"ERR\x1b[1m\r\n"), "ERR?[1m");
        assert_eq!(shown(&[b'x'; 500]).len(), 80);
    }
}
