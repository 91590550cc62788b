//! The classic text protocol: `get` and `set` as every memcached client has spoken them since 2003.
//!
//! [`Classic::decode`] takes the front of a connection's buffer, [`Classic::encode`] writes replies;
//! both are called by `server::session` and do no I/O. A line is found, its words are cut at single
//! or repeated spaces (keystonemiddleware's client ends its `set` line with one), and each command
//! reads its own words. Meta commands stand on lines like these among the others: `meta` reads them
//! and writes their answers. Look-ups, which are most of it, are `lookup`'s, and the answers to them `value_line`'s.
//!
//! Invariants:
//! - a multiget is checked whole before its first key is executed, then decodes into one `Get` a
//!   key, the last of which ends the run: a bad key answers one error for the whole line;
//! - the stream stays in step: an error behind a readable length skips the data block, one with an
//!   unreadable length skips the line, anything else closes;
//! - bytes already searched for a line end are not searched again, so that a client which sends one
//!   byte at a time costs what it sends.
//!
//! Sources: protocol.txt, and memcached 1.6.45 where protocol.txt is silent.

mod lookup;
mod value_line;

use serde::{Deserialize, Serialize};

use super::MEMCACHED_VERSION;
use super::binary;
use super::command::{
    Bad, Command, Data, Decoded, Direction, Envelope, Exptime, Form, Key, Mode, Recovery, Request,
    Stats, Store, Upload,
};
use super::error::Error;
use super::line::{Line, is_key, words_of};
use super::meta::{self, KeyRoom};
use super::number;
use super::reply::{PrefixCounts, Reply, ReplySink, Stat, Unreadable, Value};
use lookup::Run;

pub use lookup::Lookup;
pub use value_line::{encode_lent, encode_value};

/// A line other than a multiget with more before its end closes the connection. Differs from
/// memcached, which does so only where the end is not at hand.
const LINE_BYTES_MAX: usize = 2048;

/// A multiget's line may grow up to this: some 14,000 keys of keystonemiddleware's.
pub const MULTIGET_BYTES_MAX: usize = 1 << 20;

/// Longest value whose length memcached's parser takes: `i32::MAX` less the line end.
pub(super) const VALUE_BYTES_MAX: i32 = i32::MAX - 2;

/// The state of one connection's classic protocol between two commands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Classic {
    /// The rest of a multiget, whose checked line is still in the buffer.
    run: Option<Run>,
    /// How far the buffer has been searched for a line end.
    #[serde(skip)]
    searched: usize,
}

impl Classic {
    /// Decodes the request at the front of `buffer`. After a `Request` or `Bad` the caller drops
    /// what it says was consumed before it calls again. A key that came in base64 is decoded into
    /// `room`. Costs time in the length of the line.
    pub fn decode<'b>(&mut self, buffer: &'b [u8], room: &'b KeyRoom) -> Decoded<'b> {
        if let Some(run) = self.run {
            return self.next_of_run(buffer, run);
        }
        // A client of the binary protocol would wait for ever for the end of a line.
        if buffer.first() == Some(&binary::REQUEST_MAGIC) {
            return close(None);
        }
        let Some(offset) = memchr::memchr(b'\n', &buffer[self.searched..]) else {
            self.searched = buffer.len();
            return too_long(buffer, buffer.len()).unwrap_or(Decoded::NeedMore);
        };
        let line_bytes = self.searched + offset + 1;
        self.searched = 0;
        if let Some(refused) = too_long(buffer, line_bytes - 1) {
            return refused;
        }
        let line = Line::new(buffer, line_bytes);
        if line_bytes < 4 {
            return line.error(Error::BadFormat);
        }
        self.dispatch(line, room)
    }

    fn dispatch<'b>(&mut self, line: Line<'b>, room: &'b KeyRoom) -> Decoded<'b> {
        match line.name() {
            b"get" => self.get(line, false),
            b"set" => store(line, Mode::Set),
            [b'm', _] => meta::decode(line, room).unwrap_or_else(|| unknown(line)),
            b"gets" => self.get(line, true),
            b"gat" => self.get_and_touch(line, false),
            b"gats" => self.get_and_touch(line, true),
            b"add" => store(line, Mode::Add),
            b"replace" => store(line, Mode::Replace),
            b"append" => store(line, Mode::Append),
            b"prepend" => store(line, Mode::Prepend),
            b"cas" => store(line, Mode::Cas(0)),
            b"delete" => delete(line),
            b"incr" => arithmetic(line, Direction::Up),
            b"decr" => arithmetic(line, Direction::Down),
            b"touch" => touch(line),
            b"flush_all" => flush_all(line),
            b"stats" => stats(line),
            b"version" => line.answered(Command::Version),
            b"quit" => line.command(Command::Quit),
            b"verbosity" => verbosity(line),
            b"cache_memlimit" => cache_memlimit(line),
            b"refresh_certs" => line.command(Command::RefreshCerts),
            b"shutdown" => shutdown(line),
            b"watch" => line.error(Error::WatchNotAllowed),
            b"lru_crawler" => line.error(lru_crawler(line)),
            b"slabs" => line.error(Error::NoSlabs),
            _ => unknown(line),
        }
    }

    /// Writes the answer to a request into `sink`, as its envelope wants it.
    ///
    /// # Errors
    /// If the value that was found cannot be read; a miss has been written then.
    pub fn encode<V: Value>(
        envelope: &Envelope<'_>,
        reply: Reply<'_, V>,
        sink: &mut impl ReplySink<V>,
    ) -> Result<(), Unreadable> {
        match reply {
            Reply::Hit(hit) => {
                let written = encode_value(hit, envelope.with_cas, sink);
                end_run(envelope, sink);
                return written;
            }
            Reply::Miss => end_run(envelope, sink),
            _ if envelope.noreply => {}
            Reply::Number(number) => {
                sink.bytes(itoa::Buffer::new().format(number.value).as_bytes());
                sink.bytes(b"\r\n");
            }
            Reply::Stats(stats) => encode_stats(&stats, sink),
            Reply::PrefixDump(prefixes) => encode_prefixes(&prefixes, sink),
            Reply::Error(error) => Self::encode_error(error, sink),
            Reply::NotRefreshed(line) => {
                sink.bytes(line.as_bytes());
                sink.bytes(b"\r\n");
            }
            Reply::Stored(_) => sink.bytes(b"STORED\r\n"),
            Reply::NotStored => sink.bytes(b"NOT_STORED\r\n"),
            Reply::Exists => sink.bytes(b"EXISTS\r\n"),
            Reply::NotFound => sink.bytes(b"NOT_FOUND\r\n"),
            Reply::Deleted => sink.bytes(b"DELETED\r\n"),
            Reply::Touched(_) => sink.bytes(b"TOUCHED\r\n"),
            Reply::Ok => sink.bytes(b"OK\r\n"),
            Reply::Reset => sink.bytes(b"RESET\r\n"),
            Reply::Version => {
                sink.bytes(b"VERSION ");
                sink.bytes(MEMCACHED_VERSION.as_bytes());
                sink.bytes(b"\r\n");
            }
            Reply::Close => {}
            Reply::Fetched(..)
            | Reply::Vivified(..)
            | Reply::Facts(_)
            | Reply::Nothing
            | Reply::Mechanisms(_)
            | Reply::Authenticated
            | Reply::Continue => {
                debug_assert!(false, "the text protocol's commands are not answered so");
            }
        }
        Ok(())
    }

    /// Writes an error line.
    pub fn encode_error<V: Value>(error: Error, sink: &mut impl ReplySink<V>) {
        sink.bytes(error.line().as_bytes());
        sink.bytes(b"\r\n");
    }
}

/// Refuses a line that has this many bytes before its end, or so far. The same for both, so that how
/// it arrives makes no difference.
fn too_long(buffer: &[u8], bytes: usize) -> Option<Decoded<'static>> {
    const MULTIGETS: [&[u8]; 4] = [b"get ", b"gets ", b"gat ", b"gats "];
    if bytes <= LINE_BYTES_MAX {
        None
    } else if !MULTIGETS.iter().any(|name| buffer.starts_with(name)) {
        Some(close(None))
    } else if bytes > MULTIGET_BYTES_MAX {
        Some(close(Some(Error::RequestTooLarge)))
    } else {
        None
    }
}

fn close(reply: Option<Error>) -> Decoded<'static> {
    Decoded::Bad(Bad {
        reply,
        form: Form::Classic,
        recovery: Recovery::Close,
    })
}

/// A browser that lost its way is hung up on; anything else is told that it is not understood.
fn unknown(line: Line<'_>) -> Decoded<'_> {
    let last = words_of(line.text).skip(1).last();
    if last.is_some_and(|word| word.starts_with(b"HTTP/")) {
        return close(None);
    }
    line.quiet_error(Error::UnknownCommand, 0)
}

/// `set <key> <flags> <exptime> <bytes> [<cas unique>] [noreply]`, then the data block.
fn store(line: Line<'_>, mode: Mode) -> Decoded<'_> {
    let mut words = line.words();
    let mut word = || words.next();
    let (Some(key), Some(flags), Some(exptime), Some(length)) = (word(), word(), word(), word())
    else {
        return line.error(Error::BadFormat);
    };
    let value_bytes = match number::signed_32(length) {
        Some(length @ 0..=VALUE_BYTES_MAX) => length as u32,
        _ => return line.error(Error::BadFormat),
    };
    let block_bytes = u64::from(value_bytes) + 2;
    let mode = match mode {
        Mode::Cas(_) => word().and_then(number::unsigned).map(Mode::Cas),
        mode => Some(mode),
    };
    let numbers = (number::client_flags(flags), number::signed(exptime));
    let (Some(mode), (Some(client_flags), Some(exptime))) = (mode, numbers) else {
        return line.quiet_error(Error::BadFormat, block_bytes);
    };
    if !is_key(key) {
        return line.quiet_error(Error::BadFormat, block_bytes);
    }
    let store = Store {
        mode,
        key: Key(key),
        client_flags,
        // memcached reads 64 bits and keeps 32.
        exptime: Exptime::new(exptime as i32),
        value: Data(&[]),
        terms: None,
    };
    let envelope = Envelope {
        noreply: line.noreply(),
        ..Envelope::default()
    };
    with_block(line, store, envelope, value_bytes)
}

/// Takes the data block if it is at hand.
pub(super) fn with_block<'b>(
    line: Line<'b>,
    store: Store<'b>,
    envelope: Envelope<'b>,
    value_bytes: u32,
) -> Decoded<'b> {
    let upload = Upload {
        store,
        envelope,
        header_bytes: line.bytes,
        value_bytes,
        line_end_bytes: 2,
    };
    let value_end = line.bytes + value_bytes as usize;
    let Some(block) = line.buffer.get(line.bytes..value_end + 2) else {
        return Decoded::NeedBody(upload);
    };
    let (value, end) = block.split_at(value_bytes as usize);
    if end != b"\r\n" {
        return Decoded::BadBody(upload);
    }
    Decoded::Request(Request {
        command: Command::Store(Store {
            value: Data(value),
            ..store
        }),
        envelope,
        consumed: value_end + 2,
    })
}

/// `delete <key> [0] [noreply]`. Differs from memcached 1.6.45, and answers as 1.6.18: another
/// number is refused, which libmemcached's capability test asks for.
fn delete(line: Line<'_>) -> Decoded<'_> {
    let words = || line.words();
    let Some(key) = words().next() else {
        return line.error(Error::BadFormat);
    };
    let mut rest = words().skip(1);
    let rest = [rest.next(), rest.next(), rest.next()];
    let valid = matches!(
        rest,
        [None | Some(b"0" | b"noreply"), None, None] | [Some(b"0"), Some(b"noreply"), None]
    );
    if !valid {
        return line.quiet_error(Error::BadDelete, 0);
    }
    if !is_key(key) {
        return line.quiet_error(Error::BadFormat, 0);
    }
    line.command(Command::Delete {
        key: Key(key),
        terms: None,
    })
}

/// `incr <key> <delta> [noreply]`
fn arithmetic(line: Line<'_>, direction: Direction) -> Decoded<'_> {
    let mut words = line.words();
    let (Some(key), Some(delta)) = (words.next(), words.next()) else {
        return line.error(Error::BadFormat);
    };
    if !is_key(key) {
        return line.quiet_error(Error::BadFormat, 0);
    }
    let Some(delta) = number::unsigned(delta) else {
        return line.quiet_error(Error::BadDelta, 0);
    };
    line.command(Command::Arithmetic {
        key: Key(key),
        direction,
        delta,
        terms: None,
    })
}

/// `touch <key> <exptime> [noreply]`
fn touch(line: Line<'_>) -> Decoded<'_> {
    let mut words = line.words();
    let (Some(key), Some(exptime)) = (words.next(), words.next()) else {
        return line.error(Error::BadFormat);
    };
    if !is_key(key) {
        return line.quiet_error(Error::BadFormat, 0);
    }
    let Some(exptime) = number::signed_32(exptime) else {
        return line.quiet_error(Error::BadExptime, 0);
    };
    line.command(Command::Touch {
        key: Key(key),
        exptime: Exptime::new(exptime),
    })
}

/// `flush_all [<delay>] [noreply]`
fn flush_all(line: Line<'_>) -> Decoded<'_> {
    let words = line.words().count();
    if words == usize::from(line.noreply()) {
        return line.command(Command::FlushAll {
            at: Some(Exptime::Never),
        });
    }
    let delay = line.words().next().and_then(number::signed_32);
    line.command(Command::FlushAll {
        at: delay.map(Exptime::new),
    })
}

/// `stats [settings|items|slabs|sizes|conns|reset|detail on|off|dump]`
fn stats(line: Line<'_>) -> Decoded<'_> {
    let mut words = line.words();
    let stats = match words.next() {
        None => Stats::General,
        Some(b"settings") => Stats::Settings,
        Some(b"items") => Stats::Items,
        Some(b"slabs") => Stats::Slabs,
        Some(b"sizes") => Stats::Sizes,
        Some(b"conns") => Stats::Conns,
        Some(b"reset") => Stats::Reset,
        Some(b"detail") => match words.next() {
            Some(b"on") => Stats::DetailOn,
            Some(b"off") => Stats::DetailOff,
            Some(b"dump") => Stats::DetailDump,
            _ => return line.error(Error::BadStatsDetail),
        },
        Some(b"cachedump") => return line.error(Error::CacheDumpNotAllowed),
        Some(_) => return line.error(Error::UnknownCommand),
    };
    line.answered(Command::Stats(stats))
}

/// `verbosity <level> [noreply]`
fn verbosity(line: Line<'_>) -> Decoded<'_> {
    match line.words().next().and_then(number::unsigned_32) {
        Some(level) => line.command(Command::Verbosity { level }),
        None => line.quiet_error(Error::BadFormat, 0),
    }
}

/// `lru_crawler <anything>`: what would list keys is refused for that, the rest since there is none.
fn lru_crawler(line: Line<'_>) -> Error {
    match line.words().next() {
        Some(b"metadump") => Error::MetadumpNotAllowed,
        Some(b"mgdump") => Error::KeyDumpNotAllowed,
        _ => Error::NoLruCrawler,
    }
}

/// `cache_memlimit <megabytes> [noreply]`
fn cache_memlimit(line: Line<'_>) -> Decoded<'_> {
    const MEGABYTES_MAX: u32 = 1_000_000_000;
    match line.words().next().and_then(number::unsigned_32) {
        None => line.quiet_error(Error::UnknownCommand, 0),
        Some(..8) => line.quiet_error(Error::MemoryLimitTooSmall, 0),
        Some(megabytes @ 8..=MEGABYTES_MAX) => line.command(Command::CacheMemlimit { megabytes }),
        Some(_) => line.quiet_error(Error::MemoryLimitInBytes, 0),
    }
}

/// `shutdown [graceful]`
fn shutdown(line: Line<'_>) -> Decoded<'_> {
    let mut words = line.words();
    let mode_known = matches!(
        (words.next(), words.next()),
        (None | Some(b"graceful"), None)
    );
    line.command(Command::Shutdown { mode_known })
}

fn end_run<V>(envelope: &Envelope<'_>, sink: &mut impl ReplySink<V>) {
    if envelope.ends_run {
        encode_end(sink);
    }
}

/// Writes what follows the values of a `get`.
pub fn encode_end<V>(sink: &mut impl ReplySink<V>) {
    sink.bytes(b"END\r\n");
}

fn encode_stats<V>(stats: &[Stat], sink: &mut impl ReplySink<V>) {
    for stat in stats {
        for part in ["STAT ", &stat.name, " ", &stat.value, "\r\n"] {
            sink.bytes(part.as_bytes());
        }
    }
    sink.bytes(b"END\r\n");
}

pub(super) fn encode_prefixes<V>(prefixes: &[PrefixCounts], sink: &mut impl ReplySink<V>) {
    for counts in prefixes {
        sink.bytes(b"PREFIX ");
        sink.bytes(&counts.prefix);
        let PrefixCounts {
            gets,
            hits,
            sets,
            deletes,
            ..
        } = counts;
        let line = format!(" get {gets} hit {hits} set {sets} del {deletes}\r\n");
        sink.bytes(line.as_bytes());
    }
    sink.bytes(b"END\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_the_binary_protocol_is_not_left_waiting() {
        let request = [0x80, 0x0b, 0, 0];
        for length in 1..=request.len() {
            let room = KeyRoom::default();
            let decoded = Classic::default().decode(&request[..length], &room);
            assert_eq!(decoded, close(None));
        }
    }

    #[test]
    fn a_line_is_not_searched_again_for_its_end() {
        let mut codec = Classic::default();
        let room = KeyRoom::default();
        assert_eq!(codec.decode(b"get tok", &room), Decoded::NeedMore);
        assert_eq!(codec.searched, 7);
        let Decoded::Request(request) = codec.decode(b"get token\r\n", &room) else {
            panic!("the line is complete");
        };
        assert_eq!((request.consumed, codec.searched), (11, 0));
    }
}
