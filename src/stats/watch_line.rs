//! Events as lines of text, one JSON object each: what a watcher of a running server reads.
//!
//! The server writes a [`Line::Begun`] first, then a [`Line::Event`] for each event, and a [`Line::Lost`] where events
//! were dropped; the operator's tool reads them with the same types.
//!
//! Invariant: who reads passes over fields that it does not know, so that another release may add some; what would
//! be read wrongly has another [`FORMAT`].

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::events::{Event, KeyHash};
use crate::clock::Now;

/// The number of this way to write events.
pub const FORMAT: u32 = 1;

/// One line. Written with `&str` for the service's label and read with `String`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line<S = String> {
    /// The first.
    Begun(Begun),
    /// Something was done to a key.
    Event(Event<S>),
    /// Events were dropped since the line before.
    Lost {
        /// How many.
        count: u64,
    },
}

/// What the lines that follow are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// [`FORMAT`] of who writes.
    pub format: u32,
    /// The release of the server.
    pub version: String,
    /// The Unix second in which the watcher began: what an event's `at_ms` counts from.
    pub started: i64,
    /// Milliseconds that the server's second had lasted by then: items expire when a second begins.
    #[serde(default)]
    pub second_ms: u32,
}

impl Begun {
    /// The first line of a watcher that began then.
    pub fn new(began: Now) -> Begun {
        Begun {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: began.unix_seconds,
            second_ms: (began.nanos % 1_000_000_000 / 1_000_000) as u32,
        }
    }
}

/// Why a line could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLine {
    /// It begins lines of another format.
    Format(u32),
    /// It is none of these.
    Malformed,
}

impl fmt::Display for BadLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadLine::Format(format) => write!(
                formatter,
                "events are in format {format}, and this release reads {FORMAT}: use the tool of that server's release"
            ),
            BadLine::Malformed => {
                formatter.write_str("this is no line of events: they come from a server's watcher")
            }
        }
    }
}

impl std::error::Error for BadLine {}

impl<S: Serialize> Line<S> {
    /// Appends the line, with its end.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        // A vector takes everything, and what is written has names for keys.
        let written = serde_json::to_writer(&mut *out, self);
        debug_assert!(written.is_ok());
        out.push(b'\n');
    }
}

impl Line {
    /// Reads a line, with or without its end.
    ///
    /// # Errors
    /// It is in another format, or no such line.
    pub fn read(text: &str) -> Result<Line, BadLine> {
        match serde_json::from_str(text) {
            Ok(Line::Begun(begun)) if begun.format != FORMAT => Err(BadLine::Format(begun.format)),
            Ok(line) => Ok(line),
            Err(_) => Err(format_of(text).map_or(BadLine::Malformed, BadLine::Format)),
        }
    }
}

/// The format that a first line names, if that is another one: the rest of it may be anything.
fn format_of(text: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Named {
        format: u32,
    }
    let named: Named = serde_json::from_str(text).ok()?;
    Some(named.format).filter(|&format| format != FORMAT)
}

/// Sixteen digits, since not all who read JSON know numbers of 64 bits.
impl fmt::Display for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeyHash, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let number = u64::from_str_radix(&digits, 16);
        number
            .map(KeyHash)
            .map_err(|_| D::Error::custom("a key's hash is hexadecimal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::by_class::MissCause;
    use crate::stats::events::{Op, Outcome};
    use crate::token::class::Class;

    fn event(op: Op, outcome: Outcome) -> Event<&'static str> {
        Event {
            at_ms: 1_500,
            op,
            key: KeyHash(0xab),
            service: "nova",
            class: Class::TokenMac,
            outcome,
        }
    }

    fn written<S: Serialize>(line: &Line<S>) -> String {
        let mut out = Vec::new();
        line.append_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let outcome = Outcome::Hit {
            age_seconds: 12,
            ttl_seconds: Some(288),
            value_bytes: 13_000,
            stored_bytes: 450,
        };
        assert_eq!(
            written(&Line::Event(event(Op::Get, outcome))),
            concat!(
                r#"{"type":"event","at_ms":1500,"op":"get","key":"00000000000000ab","service":"nova","#,
                r#""class":"token_mac","outcome":"hit","age_seconds":12,"ttl_seconds":288,"#,
                r#""value_bytes":13000,"stored_bytes":450}"#,
                "\n"
            )
        );
        let outcome = Outcome::Miss {
            cause: MissCause::NeverSeen,
        };
        let line = written(&Line::Event(event(Op::Get, outcome)));
        let end = r#""outcome":"miss","cause":"never_seen"}"#;
        assert_eq!(
            line.trim_end().strip_suffix(end).map(str::is_empty),
            Some(false)
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (ttl_seconds, value_bytes, stored_bytes) = (None, u64::MAX, 7);
        let outcomes = [
            Outcome::Hit {
                age_seconds: 1,
                ttl_seconds,
                value_bytes,
                stored_bytes,
            },
            Outcome::Stored {
                ttl_seconds,
                value_bytes,
                stored_bytes,
            },
            Outcome::NotStored { value_bytes },
            Outcome::Deleted,
            Outcome::NotFound,
        ];
        let missed = MissCause::ALL.map(|cause| Outcome::Miss { cause });
        for outcome in outcomes.into_iter().chain(missed) {
            let event = event(Op::Gat, outcome);
            let expected = Line::Event(event.with_service("nova".to_owned()));
            let line = written(&Line::Event(event));
            assert_eq!(Line::read(&line), Ok(expected), "{line}");
        }
        let began = Now {
            nanos: 7_345_678_901,
            ..Now::at(7, 1_790_000_000)
        };
        let begun = Begun::new(began);
        assert_eq!((begun.started, begun.second_ms), (1_790_000_007, 345));
        for line in [Line::Begun(begun), Line::Lost { count: 3 }] {
            assert_eq!(Line::read(&written(&line)), Ok(line));
        }
    }

    #[test]
    fn fields_of_another_release_are_passed_over() {
        let line = r#"{"type":"lost","count":3,"why":{"of":["another"]}}"#;
        assert_eq!(Line::read(line), Ok(Line::Lost { count: 3 }));
        let outcome = Outcome::NotFound;
        let line = written(&Line::Event(event(Op::Delete, outcome)));
        let more = line.replace("\"key\"", r#""news":1.5,"key""#);
        assert_ne!(line, more);
        assert_eq!(Line::read(&more), Line::read(&line));
    }

    #[test]
    fn another_format_is_told_apart_whatever_else_its_line_has() {
        for rest in [
            r#""version":"9.0.0","started":1"#,
            r#""version":["9","0"]"#,
            r#""began":"today""#,
        ] {
            let line = format!(r#"{{"type":"begun","format":2,{rest}}}"#);
            assert_eq!(Line::read(&line), Err(BadLine::Format(2)), "{rest}");
        }
    }

    #[test]
    fn what_is_no_line_of_events_is_refused() {
        let event = written(&Line::Event(event(Op::Get, Outcome::Deleted)));
        for line in [
            "",
            "{}",
            "END",
            r#"{"type":"begun","format":1}"#,
            r#"{"type":"other"}"#,
            &event.replace("00ab", "00xy"),
            &event.replace("deleted", "gone"),
        ] {
            assert_eq!(Line::read(line), Err(BadLine::Malformed), "{line}");
        }
    }

    #[test]
    fn classes_and_causes_go_by_the_words_that_metrics_have() {
        for class in Class::ALL {
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        }
        for cause in MissCause::ALL {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
        }
    }
}
