//! `stats`: asks a server for its statistics, as `stats` or `stats <argument>`, and prints them as
//! a table.
//!
//! The binary calls [`fetch`] and prints [`Table`] or [`json`]. Blocking, over one short connection. Source:
//! memcached's `protocol.txt`, "Statistics".
//!
//! Invariants: *bounded*, at most five seconds of silence and 16 MiB of lines; *one request*, an
//! argument that would smuggle in a second one is refused before anything is sent.

use serde::{Serialize, Serializer};

use super::report::table;
use super::{Error, Target, shown};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long the server may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Bytes of a whole answer.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Asks for the statistics named by `argument` (`items`, `slabs`, `settings`, ...; `None`: the
/// general ones) and gives names and values in the server's order. Empty after an argument that
/// only does something, such as `reset`.
///
/// # Errors
/// [`Error::Refused`] with the server's words for an argument that it does not know,
/// [`Error::Options`] for one that cannot be sent, [`Error::Connect`], [`Error::Lost`],
/// [`Error::Garbled`].
pub fn fetch(target: &Target, argument: Option<&str>) -> Result<Vec<(String, String)>, Error> {
    let request = request(argument)?;
    let stream = connect(target).map_err(|why| Error::Connect(target.clone(), why))?;
    ask(stream, request.as_bytes(), target)
}

fn request(argument: Option<&str>) -> Result<String, Error> {
    match argument {
        None => Ok("stats\r\n".to_owned()),
        Some(argument) if argument.chars().any(char::is_control) || argument.len() > 200 => {
            Err(Error::Options(format!(
                "{argument:?} cannot be asked for: give a short word, such as items or settings"
            )))
        }
        Some(argument) => Ok(format!("stats {argument}\r\n")),
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn connect(target: &Target) -> io::Result<Box<dyn Stream>> {
    match target {
        Target::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, SILENCE_MAX)?;
            stream.set_read_timeout(Some(SILENCE_MAX))?;
            Ok(Box::new(stream))
        }
        Target::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(SILENCE_MAX))?;
            Ok(Box::new(stream))
        }
    }
}

fn ask(
    mut stream: impl Stream,
    request: &[u8],
    target: &Target,
) -> Result<Vec<(String, String)>, Error> {
    let lost = |why: io::Error| Error::Lost(target.clone(), why);
    stream.write_all(request).map_err(lost)?;
    let mut answer = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    let mut pairs = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        answer
            .read_until(b'\n', &mut line)
            .map_err(explained)
            .map_err(lost)?;
        let Some(whole) = line.strip_suffix(b"\n") else {
            return Err(lost(io::ErrorKind::UnexpectedEof.into()));
        };
        match Line::parse(whole) {
            Line::Pair(name, value) => pairs.push((name, value)),
            Line::End => return Ok(pairs),
            Line::Refusal => return Err(Error::Refused(target.clone(), shown(whole))),
            Line::Other => return Err(Error::Garbled(target.clone(), shown(whole))),
        }
    }
}

/// A read that timed out says "resource temporarily unavailable", which helps nobody.
fn explained(why: io::Error) -> io::Error {
    match why.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer for {} s", SILENCE_MAX.as_secs()),
        ),
        _ => why,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Pair(String, String),
    End,
    Refusal,
    Other,
}

impl Line {
    fn parse(line: &[u8]) -> Line {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "STAT" | "PREFIX" | "ITEM" => {
                let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                Line::Pair(name.to_owned(), value.to_owned())
            }
            "END" | "RESET" | "OK" => Line::End,
            "ERROR" | "CLIENT_ERROR" | "SERVER_ERROR" => Line::Refusal,
            _ => Line::Other,
        }
    }
}

/// Statistics as they are printed: one line each, names and values in two columns, control
/// characters replaced.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a>(pub &'a [(String, String)]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let harmless = |text: &str| text.replace(char::is_control, "?");
        table(f, || {
            let pairs = self.0.iter();
            pairs.map(|(name, value)| (harmless(name), harmless(value)))
        })
    }
}

/// Statistics as one line of JSON: an object of the names and values in the server's order, all of them text as they came.
pub fn json(pairs: &[(String, String)]) -> String {
    serde_json::to_string(&Object(pairs)).expect("an object of text")
}

struct Object<'a>(&'a [(String, String)]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that has its answer ready and remembers what it was sent.
    struct Canned {
        answer: io::Cursor<Vec<u8>>,
    }

    impl Read for Canned {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.answer.read(into)
        }
    }

    impl Write for Canned {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answered(answer: &str) -> Result<Vec<(String, String)>, Error> {
        let answer = io::Cursor::new(answer.as_bytes().to_vec());
        ask(Canned { answer }, b"stats\r\n", &Target::Unix("x".into()))
    }

    #[test]
    fn pairs_come_in_the_servers_order() {
        let pairs =
            answered("STAT version 1.6 beta\r\nSTAT empty\r\nSTAT pid 7\r\nEND\r\n").unwrap();
        let expected = [("version", "1.6 beta"), ("empty", ""), ("pid", "7")];
        assert!(
            pairs
                .iter()
                .map(|(a, b)| (a.as_str(), b.as_str()))
                .eq(expected)
        );
    }

    #[test]
    fn an_argument_that_only_acts_gives_nothing() {
        assert!(answered("RESET\r\n").unwrap().is_empty());
        assert!(answered("OK\r\n").unwrap().is_empty());
    }

    #[test]
    fn json_has_the_same_pairs_in_the_same_order() {
        let pairs = answered("STAT version 1.6 \"x\"\r\nSTAT pid 7\r\nEND\r\n").unwrap();
        assert_eq!(json(&pairs), r#"{"version":"1.6 \"x\"","pid":"7"}"#);
        assert_eq!(json(&[]), "{}");
    }

    #[test]
    fn what_is_no_statistics_is_an_error() {
        assert!(matches!(answered("ERROR\r\n"), Err(Error::Refused(..))));
        assert!(matches!(
            answered("HTTP/1.1 400\r\n"),
            Err(Error::Garbled(..))
        ));
        assert!(matches!(answered("STAT a 1\r\n"), Err(Error::Lost(..))));
    }

    #[test]
    fn an_argument_cannot_smuggle_in_a_request() {
        assert_eq!(request(Some("items")).unwrap(), "stats items\r\n");
        assert!(request(Some("x\r\nflush_all")).is_err());
    }

    #[test]
    fn the_table_is_aligned() {
        let pairs = [
            ("pid".to_owned(), "7".to_owned()),
            ("version".to_owned(), "\x1b1".to_owned()),
        ];
        assert_eq!(Table(&pairs).to_string(), "pid      7\nversion  ?1\n");
    }
}
