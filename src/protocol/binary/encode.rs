//! Answers of the binary protocol: a header of 24 bytes, then extras, key and value.

use super::opcode::{Opcode, Operation};
use crate::protocol::MEMCACHED_VERSION;
use crate::protocol::classic;
use crate::protocol::command::{Frame, Mode};
use crate::protocol::error::Error;
use crate::protocol::reply::{Hit, Reply, ReplySink, Stat, Unreadable, Value};

const RESPONSE_MAGIC: u8 = 0x81;

/// `doc/protocol-binary.xml`, "Response Status".
mod status {
    pub const NOT_FOUND: u16 = 0x01;
    pub const EXISTS: u16 = 0x02;
    pub const TOO_LARGE: u16 = 0x03;
    pub const INVALID_ARGUMENTS: u16 = 0x04;
    pub const NOT_STORED: u16 = 0x05;
    pub const NOT_NUMERIC: u16 = 0x06;
    pub const AUTHENTICATION_ERROR: u16 = 0x20;
    pub const AUTHENTICATION_CONTINUE: u16 = 0x21;
    pub const UNKNOWN_COMMAND: u16 = 0x81;
    pub const OUT_OF_MEMORY: u16 = 0x82;
}

/// Writes the answer to a request into `sink`.
///
/// # Errors
/// If the value that was found cannot be read; a miss has been written then.
#[inline(never)]
pub fn encode<V: Value>(
    frame: &Frame<'_>,
    reply: Reply<'_, V>,
    sink: &mut impl ReplySink<V>,
) -> Result<(), Unreadable> {
    let success = Answer::default();
    match reply {
        Reply::Hit(hit) => return encode_hit(frame, hit, sink),
        Reply::Miss => encode_miss(frame, sink),
        Reply::Error(error) => encode_error(frame, error, sink),
        Reply::NotStored => encode_failure(frame, not_stored(frame.opcode), sink),
        Reply::Exists => encode_failure(frame, status::EXISTS, sink),
        Reply::NotFound => encode_failure(frame, status::NOT_FOUND, sink),
        _ if frame.quiet => {}
        Reply::Stored(stored) => success.unique(stored.cas_unique).write(frame, sink),
        Reply::Touched(touched) => Answer {
            unique: touched.cas_unique,
            extras: &touched.client_flags.to_be_bytes(),
            ..success
        }
        .write(frame, sink),
        Reply::Number(number) => success
            .unique(number.cas_unique)
            .value(&number.value.to_be_bytes())
            .write(frame, sink),
        Reply::Version => success
            .value(MEMCACHED_VERSION.as_bytes())
            .write(frame, sink),
        Reply::Mechanisms(names) => success.value(names.as_bytes()).write(frame, sink),
        Reply::Authenticated => success.value(b"Authenticated").write(frame, sink),
        Reply::Continue => {
            Answer::of(status::AUTHENTICATION_CONTINUE).write(frame, sink);
        }
        Reply::Stats(stats) => encode_stats(frame, &stats, sink),
        Reply::PrefixDump(prefixes) => {
            let mut dump = Vec::new();
            classic::encode_prefixes::<V>(&prefixes, &mut dump);
            success.key(b"detailed").value(&dump).write(frame, sink);
            success.write(frame, sink);
        }
        Reply::Deleted | Reply::Ok | Reply::Reset | Reply::Nothing | Reply::Close => {
            success.write(frame, sink)
        }
        Reply::Fetched(..) | Reply::Vivified(..) | Reply::Facts(_) | Reply::NotRefreshed(_) => {
            debug_assert!(false, "only the text protocols' commands are answered so");
        }
    }
    Ok(())
}

/// Writes an error, with memcached's words.
pub fn encode_error<V>(frame: &Frame<'_>, error: Error, sink: &mut impl ReplySink<V>) {
    encode_failure(frame, status_of(error), sink);
}

fn status_of(error: Error) -> u16 {
    match error {
        Error::UnknownCommand => status::UNKNOWN_COMMAND,
        Error::TooLarge => status::TOO_LARGE,
        Error::NotNumeric => status::NOT_NUMERIC,
        Error::NoSuchStats | Error::StatsDetailNotAllowed => status::NOT_FOUND,
        // As in memcached, whose clients know no other word for "not allowed".
        Error::AuthenticationFailure | Error::FlushNotAllowed | Error::WritingNotAllowed => {
            status::AUTHENTICATION_ERROR
        }
        Error::OutOfMemory | Error::OutOfMemoryForDelta | Error::OutOfMemoryForNumber => {
            status::OUT_OF_MEMORY
        }
        _ => status::INVALID_ARGUMENTS,
    }
}

/// What a storage command is told whose condition was not met.
fn not_stored(opcode: u8) -> u16 {
    match Opcode::read(opcode).map(|opcode| opcode.operation) {
        Some(Operation::Store(Mode::Add)) => status::EXISTS,
        Some(Operation::Store(Mode::Replace)) => status::NOT_FOUND,
        _ => status::NOT_STORED,
    }
}

fn encode_failure<V>(frame: &Frame<'_>, status: u16, sink: &mut impl ReplySink<V>) {
    let words = match status {
        status::NOT_FOUND => "Not found",
        status::EXISTS => "Data exists for key.",
        status::TOO_LARGE => "Too large.",
        status::NOT_STORED => "Not stored.",
        status::NOT_NUMERIC => "Non-numeric server-side value for incr or decr",
        status::AUTHENTICATION_ERROR => "Auth failure.",
        status::UNKNOWN_COMMAND => "Unknown command",
        status::OUT_OF_MEMORY => "Out of memory",
        _ => "Invalid arguments",
    };
    Answer::of(status)
        .value(words.as_bytes())
        .write(frame, sink);
}

fn encode_miss<V>(frame: &Frame<'_>, sink: &mut impl ReplySink<V>) {
    match frame.key {
        _ if frame.quiet => {}
        None => encode_failure(frame, status::NOT_FOUND, sink),
        Some(key) => Answer::of(status::NOT_FOUND).key(key.0).write(frame, sink),
    }
}

fn encode_hit<V: Value>(
    frame: &Frame<'_>,
    hit: Hit<'_, V>,
    sink: &mut impl ReplySink<V>,
) -> Result<(), Unreadable> {
    let mark = sink.mark();
    let flags = hit.client_flags.to_be_bytes();
    let value_bytes = if frame.value { hit.value.len() } else { 0 };
    Answer {
        unique: hit.cas_unique,
        extras: &flags,
        key: frame.key.map_or(&[][..], |key| key.0),
        ..Answer::default()
    }
    .write_head(frame, value_bytes, sink);
    if !frame.value {
        return Ok(());
    }
    sink.value(hit.value).inspect_err(|_| {
        sink.rewind(mark);
        encode_miss(frame, sink);
    })
}

/// A frame for each, and an empty one behind them.
fn encode_stats<V>(frame: &Frame<'_>, stats: &[Stat], sink: &mut impl ReplySink<V>) {
    for stat in stats {
        Answer::default()
            .key(stat.name.as_bytes())
            .value(stat.value.as_bytes())
            .write(frame, sink);
    }
    Answer::default().write(frame, sink);
}

/// One response.
#[derive(Clone, Copy, Default)]
struct Answer<'a> {
    status: u16,
    unique: u64,
    extras: &'a [u8],
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Answer<'a> {
    fn of(status: u16) -> Answer<'a> {
        Answer {
            status,
            ..Answer::default()
        }
    }

    fn unique(self, unique: u64) -> Answer<'a> {
        Answer { unique, ..self }
    }

    fn key(self, key: &'a [u8]) -> Answer<'a> {
        Answer { key, ..self }
    }

    fn value(self, value: &'a [u8]) -> Answer<'a> {
        Answer { value, ..self }
    }

    fn write<V>(&self, frame: &Frame<'_>, sink: &mut impl ReplySink<V>) {
        self.write_head(frame, self.value.len(), sink);
        sink.bytes(self.value);
    }

    /// Writes all but the value, which is of this length.
    fn write_head<V>(&self, frame: &Frame<'_>, value_bytes: usize, sink: &mut impl ReplySink<V>) {
        // Keys, extras and stored values are far below what these lengths hold.
        let body_bytes = (self.extras.len() + self.key.len() + value_bytes) as u32;
        let mut header = [0; super::HEADER_BYTES];
        header[0] = RESPONSE_MAGIC;
        header[1] = frame.opcode;
        header[2..4].copy_from_slice(&(self.key.len() as u16).to_be_bytes());
        header[4] = self.extras.len() as u8;
        header[6..8].copy_from_slice(&self.status.to_be_bytes());
        header[8..12].copy_from_slice(&body_bytes.to_be_bytes());
        header[12..16].copy_from_slice(&frame.opaque.to_be_bytes());
        header[16..24].copy_from_slice(&self.unique.to_be_bytes());
        sink.bytes(&header);
        sink.bytes(self.extras);
        sink.bytes(self.key);
    }
}
