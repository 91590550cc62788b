//! What a running server does, one line for each command about a key: for finding out what one request met.
//!
//! Asks the admin socket, which tells only while somebody asks (`server::admin::watch`). Filters are applied here; the
//! server sends everything, so that a filter costs it nothing.
//!
//! Invariant: no key is shown, only what tells keys apart while one watcher watches.

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::units::{bytes, count, harmless};
use super::{Error, Target, http};
use crate::stats::events::{Event, Op, Outcome};
use crate::stats::watch_line::{BadLine, Line};
use crate::token::class::Class;

/// What to watch, and for how long.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these commands; all if there are none.
    pub ops: Vec<Op>,
    /// Only of these services; of all if there are none.
    pub services: Vec<String>,
    /// Only of these classes; of all if there are none.
    pub classes: Vec<Class>,
    /// Only look-ups that found nothing.
    pub misses: bool,
    /// End after so many events.
    pub count: Option<u64>,
    /// End after so long.
    pub time: Option<Duration>,
    /// Print the lines as the server sends them.
    pub json: bool,
}

impl Options {
    fn wants(&self, event: &Event<String>) -> bool {
        let is_among = |all: bool, found: bool| all || found;
        is_among(self.ops.is_empty(), self.ops.contains(&event.op))
            && is_among(
                self.services.is_empty(),
                self.services.contains(&event.service),
            )
            && is_among(self.classes.is_empty(), self.classes.contains(&event.class))
            && (!self.misses || matches!(event.outcome, Outcome::Miss { .. }))
    }
}

/// Watches a server, and writes a line for each event that is wanted, until it is enough. Waits for the server for as
/// long as it likes.
///
/// # Errors
/// Those of [`Lines`]; a reader of `out` that went away is none.
pub fn run(target: &Target, options: &Options, out: &mut dyn Write) -> Result<(), Error> {
    let mut lines = Lines::begin(target)?;
    let ends_at = options.time.map(|time| Instant::now() + time);
    let mut left = options.count;
    while left != Some(0) {
        let patience = match ends_at {
            None => Duration::MAX,
            Some(ends_at) => ends_at.saturating_duration_since(Instant::now()),
        };
        if patience.is_zero() {
            return Ok(());
        }
        let Some(line) = lines.within(patience) else {
            return Ok(());
        };
        let (text, line) = line?;
        let is_written = match &line {
            Line::Event(event) if !options.wants(event) => continue,
            Line::Event(event) => {
                left = left.map(|left| left - 1);
                match options.json {
                    true => writeln!(out, "{text}"),
                    false => writeln!(out, "{}", Shown(event)),
                }
            }
            _ if options.json => writeln!(out, "{text}"),
            Line::Lost { count: lost } => {
                let lost = count(*lost);
                writeln!(
                    out,
                    "{lost} events were lost: they came faster than they were read"
                )
            }
            Line::Begun(_) => Ok(()),
        };
        match is_written {
            Err(why) if why.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|why| Error::System("write to standard output", why))?,
        }
    }
    Ok(())
}

/// What a server tells a watcher.
#[derive(Debug)]
pub struct Lines {
    target: Target,
    lines: http::Lines,
}

impl Lines {
    /// Begins to watch.
    ///
    /// # Errors
    /// Those of [`http::lines`]: nobody listens there, it may not be connected to, as many watch as may.
    pub fn begin(target: &Target) -> Result<Lines, Error> {
        Ok(Lines {
            target: target.clone(),
            lines: http::lines(target, "/watch")?,
        })
    }

    /// The next line as it came and as it is read, or `None` if nothing has come for so long.
    ///
    /// # Errors
    /// [`Error::Lost`] when the server ends; [`Error::Answer`] for what is no such line, or another release's.
    pub fn within(&mut self, patience: Duration) -> Option<Result<(String, Line), Error>> {
        let ended = || {
            let why = io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended");
            Error::Lost(self.target.clone(), why)
        };
        let text = match self.lines.within(patience)? {
            None => return Some(Err(ended())),
            Some(Err(error)) => return Some(Err(error)),
            Some(Ok(text)) => text,
        };
        let read = Line::read(&text).map_err(|bad| Error::Answer(self.target.clone(), told(bad)));
        Some(read.map(|line| (text, line)))
    }
}

fn told(bad: BadLine) -> String {
    format!("answered what this tool does not read: {bad}")
}

/// An event as a line for people.
struct Shown<'e>(&'e Event<String>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event {
            at_ms,
            op,
            key,
            service,
            class,
            outcome,
        } = self.0;
        let seconds = *at_ms as f64 / 1_000.0;
        let (service, class) = (harmless(service), class.name());
        let op = op.name();
        write!(
            f,
            "{seconds:>10.3}  {service:<12} {op:<10} {class:<13} {key}  "
        )?;
        match outcome {
            Outcome::Hit {
                age_seconds,
                ttl_seconds,
                value_bytes,
                stored_bytes,
            } => {
                let size = Size(*value_bytes, *stored_bytes);
                let left = Left(*ttl_seconds);
                write!(f, "hit: {size}, {age_seconds} s old, {left}")
            }
            Outcome::Miss { cause } => write!(f, "miss: {}", cause.name()),
            Outcome::Stored {
                ttl_seconds,
                value_bytes,
                stored_bytes,
            } => {
                let size = Size(*value_bytes, *stored_bytes);
                write!(f, "stored: {size}, {}", Left(*ttl_seconds))
            }
            Outcome::NotStored { value_bytes } => {
                write!(f, "not stored: {}", bytes(*value_bytes))
            }
            Outcome::Deleted => f.write_str("deleted"),
            Outcome::NotFound => f.write_str("not found"),
        }
    }
}

/// Bytes of a value, and those it is kept in.
struct Size(u64, u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size(value, stored) if value == stored => f.write_str(&bytes(*value)),
            Size(value, stored) => write!(f, "{} in {}", bytes(*value), bytes(*stored)),
        }
    }
}

/// Seconds until an item expires.
struct Left(Option<u32>);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(seconds) => write!(f, "{seconds} s left"),
            None => f.write_str("never expires"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::by_class::MissCause;
    use crate::stats::events::KeyHash;

    fn event(op: Op, outcome: Outcome) -> Event<String> {
        Event {
            at_ms: 12_345,
            op,
            key: KeyHash(0xab),
            service: "nova".into(),
            class: Class::Token,
            outcome,
        }
    }

    fn miss() -> Event<String> {
        let cause = MissCause::Evicted;
        event(Op::Get, Outcome::Miss { cause })
    }

    fn stored() -> Event<String> {
        let outcome = Outcome::Stored {
            ttl_seconds: Some(300),
            value_bytes: 13 << 10,
            stored_bytes: 450,
        };
        event(Op::Set, outcome)
    }

    #[test]
    fn a_line_says_who_asked_for_what_and_what_came_of_it() {
        let shown = |event| Shown(&event).to_string();
        let head = "    12.345  nova         get        token         00000000000000ab  ";
        assert_eq!(shown(miss()), format!("{head}miss: evicted"));
        let hit = event(
            Op::Get,
            Outcome::Hit {
                age_seconds: 7,
                ttl_seconds: None,
                value_bytes: 100,
                stored_bytes: 100,
            },
        );
        assert_eq!(
            shown(hit),
            format!("{head}hit: 100 bytes, 7 s old, never expires")
        );
        let line = shown(stored());
        assert!(
            line.ends_with("stored: 13 KB in 450 bytes, 300 s left"),
            "{line}"
        );
        let mut hostile = miss();
        hostile.service = "\u{1b}[2J\nroot".into();
        assert!(!shown(hostile).contains(char::is_control));
    }

    #[test]
    fn filters_are_all_to_be_met() {
        let any = Options::default();
        assert!(any.wants(&miss()) && any.wants(&stored()));
        let misses = Options {
            misses: true,
            services: vec!["nova".into(), "glance".into()],
            ..Options::default()
        };
        assert!(misses.wants(&miss()) && !misses.wants(&stored()));
        let other = Options {
            services: vec!["glance".into()],
            ..misses
        };
        assert!(!other.wants(&miss()));
        let sets = Options {
            ops: vec![Op::Set],
            classes: vec![Class::Token],
            ..Options::default()
        };
        assert!(sets.wants(&stored()) && !sets.wants(&miss()));
    }
}
