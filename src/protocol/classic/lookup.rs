//! Look-ups: `get`, `gets`, `gat`, `gats`, and the keys of a multiget one after another.
//!
//! Most of what a cache is asked is a `get` of one key, or one more key of a multiget. [`Classic::lookup`] reads
//! these in one pass over the key and leaves everything else, the first key of a multiget too, to
//! [`Classic::decode`], which comes here for the line as a whole.
//!
//! Invariant: what `lookup` reads, `decode` would read as the same; so it may be left out.

use serde::{Deserialize, Serialize};

use super::Classic;
use crate::protocol::KEY_BYTES_MAX;
use crate::protocol::command::{Command, Decoded, Envelope, Exptime, Form, Key, Request};
use crate::protocol::error::Error;
use crate::protocol::graphic::graphic_prefix;
use crate::protocol::line::{Line, are_keys, blanks};
use crate::protocol::number;

/// What the keys of one multiget line have in common.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    with_cas: bool,
    touch: Option<Exptime>,
}

/// A key that is looked up for its value, and no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup<'b> {
    /// The item asked for.
    pub key: Key<'b>,
    /// The value is answered with its CAS unique.
    pub with_cas: bool,
    /// It is the last of its line, so `END` follows.
    pub ends_run: bool,
    /// Bytes to drop from the front of the buffer once it is answered.
    pub consumed: usize,
}

impl Classic {
    /// The look-up at the front of `buffer`, if it is an ordinary one and all of it is there. Costs time in the
    /// length of the key.
    #[inline]
    pub fn lookup<'b>(&mut self, buffer: &'b [u8]) -> Option<Lookup<'b>> {
        let (start, with_cas) = match self.run {
            None if self.searched == 0 && buffer.starts_with(b"get ") => (4, false),
            Some(Run {
                with_cas,
                touch: None,
            }) => (0, with_cas),
            _ => return None,
        };
        let key_bytes = graphic_prefix(&buffer[start..]);
        if !(1..=KEY_BYTES_MAX).contains(&key_bytes) {
            return None;
        }
        let (key, behind) = buffer[start..].split_at(key_bytes);
        let (ends_run, end_bytes) = match behind {
            [b'\r', b'\n', ..] => (true, 2),
            // Of a multiget that has begun; so there is another key, unless it is a blank.
            [b' ', next, ..] if self.run.is_some() && *next > b' ' => (false, 1),
            _ => return None,
        };
        if ends_run {
            self.run = None;
        }
        Some(Lookup {
            key: Key(key),
            with_cas,
            ends_run,
            consumed: start + key_bytes + end_bytes,
        })
    }

    pub(super) fn get<'b>(&mut self, line: Line<'b>, with_cas: bool) -> Decoded<'b> {
        let run = Run {
            with_cas,
            touch: None,
        };
        self.begin_run(line, line.name().len(), run)
    }

    pub(super) fn get_and_touch<'b>(&mut self, line: Line<'b>, with_cas: bool) -> Decoded<'b> {
        let mut words = line.words();
        let (Some(exptime), Some(first)) = (words.next(), words.next()) else {
            return line.error(Error::BadFormat);
        };
        let Some(touch) = number::signed_32(exptime) else {
            return line.error(Error::BadExptime);
        };
        let run = Run {
            with_cas,
            touch: Some(Exptime::new(touch)),
        };
        self.begin_run(line, line.position_of(first), run)
    }

    /// Checks every key of the line from `start` on, then decodes the first.
    fn begin_run<'b>(&mut self, line: Line<'b>, start: usize, run: Run) -> Decoded<'b> {
        let first = start + blanks(&line.text[start..]);
        // Nearly always there is one key and nothing behind it.
        let alone = graphic_prefix(&line.text[first..]);
        if (1..=KEY_BYTES_MAX).contains(&alone) && first + alone == line.text.len() {
            return Decoded::Request(Request {
                command: Command::Get {
                    key: Key(&line.text[first..]),
                    touch: run.touch,
                    terms: None,
                },
                envelope: Envelope {
                    noreply: false,
                    with_cas: run.with_cas,
                    ends_run: true,
                    form: Form::Classic,
                },
                consumed: line.bytes,
            });
        }
        if !are_keys(&line.text[first..]) {
            return line.error(Error::BadFormat);
        }
        self.run_step(line.buffer, first, run)
    }

    pub(super) fn next_of_run<'b>(&mut self, buffer: &'b [u8], run: Run) -> Decoded<'b> {
        self.run_step(buffer, 0, run)
    }

    /// Decodes the key at `start` of a checked line and notes whether more follow it.
    fn run_step<'b>(&mut self, buffer: &'b [u8], start: usize, run: Run) -> Decoded<'b> {
        // A line end follows the last key, so both searches end within the line.
        let end = start + graphic_prefix(&buffer[start..]);
        let next = end + blanks(&buffer[end..]);
        let line_end = match &buffer[next..] {
            [b'\n', ..] => Some(next + 1),
            [b'\r', b'\n', ..] => Some(next + 2),
            _ => None,
        };
        self.run = match line_end {
            Some(_) => None,
            None => Some(run),
        };
        Decoded::Request(Request {
            command: Command::Get {
                key: Key(&buffer[start..end]),
                touch: run.touch,
                terms: None,
            },
            envelope: Envelope {
                noreply: false,
                with_cas: run.with_cas,
                ends_run: line_end.is_some(),
                form: Form::Classic,
            },
            consumed: line_end.unwrap_or(next),
        })
    }

    /// Whether the rest of a multiget is waiting in the buffer.
    pub fn in_run(&self) -> bool {
        self.run.is_some()
    }

    /// Whether a buffer that begins like this can be gone on with: of a multiget, the rest has to be there.
    pub fn goes_on_with(&self, buffer: &[u8]) -> bool {
        let rest_is_there = |end| are_keys(Line::new(buffer, end + 1).text);
        self.run.is_none() || memchr::memchr(b'\n', buffer).is_some_and(rest_is_there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::meta::KeyRoom;

    /// What `decode` makes of it, if that is a look-up without more.
    fn decoded<'b>(
        classic: &mut Classic,
        buffer: &'b [u8],
        room: &'b KeyRoom,
    ) -> Option<Lookup<'b>> {
        let Decoded::Request(Request {
            command:
                Command::Get {
                    key,
                    touch: None,
                    terms: None,
                },
            envelope,
            consumed,
        }) = classic.decode(buffer, room)
        else {
            return None;
        };
        Some(Lookup {
            key,
            with_cas: envelope.with_cas,
            ends_run: envelope.ends_run,
            consumed,
        })
    }

    #[test]
    fn a_look_up_is_read_as_decode_reads_it() {
        let of_bytes = |bytes| [b"get ".as_slice(), &vec![b'k'; bytes], b"\r\n"].concat();
        let (longest, too_long) = (of_bytes(250), of_bytes(251));
        let lines: [&[u8]; 12] = [
            b"get a\r\n",
            b"get a\n",
            b"get a \r\n",
            b"get  a\r\n",
            b"get a b  c\r\n",
            b"gets a b\r\nget c\r\n",
            b"gat 5 a b\r\n",
            b"get a b ",
            b"get \r\n",
            b"get a\x7f\r\n",
            &longest,
            &too_long,
        ];
        let room = KeyRoom::default();
        let mut looked_up = 0;
        for line in lines {
            let mut classic = Classic::default();
            let mut rest = line;
            while !rest.is_empty() {
                let (mut plain, mut whole) = (classic.clone(), classic.clone());
                let expected = decoded(&mut whole, rest, &room);
                if let Some(lookup) = plain.lookup(rest) {
                    assert_eq!(Some(lookup), expected);
                    assert_eq!(plain.in_run(), whole.in_run());
                    looked_up += 1;
                }
                let Some(lookup) = expected else { break };
                classic = whole;
                rest = &rest[lookup.consumed..];
            }
        }
        // Not: what has more blanks than it needs, an odd line end, or is the first of several keys.
        assert_eq!(looked_up, 5);
    }
}
