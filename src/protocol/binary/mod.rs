//! The binary protocol: what keystonemiddleware speaks as soon as SASL or TLS is configured.
//!
//! [`decode`] takes the front of a connection's buffer, [`encode()`] writes replies; both are called by
//! `server::session` and do no I/O. A request is a header of 24 bytes, extras, a key and a value, all
//! lengths in front: nothing is searched, and the same [`command`](super::command) model as for the text
//! protocols comes out.
//!
//! Invariants:
//! - no length is believed before it fits the others and the opcode: a header that contradicts itself
//!   closes the connection after its error, since nobody knows where the next request begins;
//! - a refused value, and the body of an unknown opcode, are skipped, and the stream stays in step;
//! - what is waited for in the buffer is at most 64 KiB long: values alone may be longer, and those the
//!   engine is asked about first.
//!
//! For keys of keystonemiddleware's shape a failure is told as a success or a miss ([`Failure`]), unless
//! `strict`: its client (`python-binary-memcached`, `Protocol.set` and `get`) raises on every other status,
//! and keystonemiddleware (`auth_token/_cache.py`) makes that an error of the API.
//!
//! Sources: memcached's `doc/protocol-binary.xml`, and `proto_bin.c` of 1.6.45 where that is silent.

mod encode;
mod opcode;

pub use encode::{encode, encode_error};

use super::KEY_BYTES_MAX;
use super::command::{
    Bad, Command, Data, Decoded, Direction, Envelope, Exptime, Failure, Form, Frame, Key, Mode,
    Recovery, Request, Sasl, Stats, Store, Terms, Upload,
};
use super::error::Error;
use opcode::{Opcode, Operation};

/// The first byte of every request.
pub const REQUEST_MAGIC: u8 = 0x80;

const HEADER_BYTES: usize = 24;

/// Longest body that is announced in earnest, as in memcached.
const BODY_BYTES_MAX: u32 = 1 << 30;

/// Longest name of a SASL mechanism, as in memcached.
const MECHANISM_BYTES_MAX: usize = 32;

/// Longest message of SASL: far more than a user and a password, and little for one to keep who has none.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// What no expiry of a counter means: it is not to be made (`doc/protocol-binary.xml`, "Increment").
const DO_NOT_MAKE: u32 = u32::MAX;

/// How every key of keystonemiddleware's begins (`auth_token/_cache.py`, `_CACHE_KEY_TEMPLATE`).
const TOKEN_KEY_PREFIX: &[u8] = b"tokens/";

/// The header of a request.
#[derive(Clone, Copy, Debug)]
struct Header {
    code: u8,
    key_bytes: u16,
    extras_bytes: u8,
    body_bytes: u32,
    opaque: u32,
    unique: u64,
}

/// A request whose header is consistent and whose extras and key have arrived.
struct Parts<'b> {
    header: Header,
    opcode: Opcode,
    extras: &'b [u8],
    key: &'b [u8],
    /// Everything behind the key.
    rest: &'b [u8],
    value_bytes: u32,
    strict: bool,
}

/// Decodes the request at the front of `buffer`. After a `Request` or `Bad` the caller drops what it says
/// was consumed before it calls again. Costs the same for every request.
pub fn decode(buffer: &[u8], strict: bool) -> Decoded<'_> {
    if buffer.first() != Some(&REQUEST_MAGIC) {
        return Decoded::Bad(Bad {
            reply: None,
            form: Form::Classic,
            recovery: Recovery::Close,
        });
    }
    let Some(header) = buffer.first_chunk().map(Header::read) else {
        return Decoded::NeedMore;
    };
    let head_bytes =
        HEADER_BYTES + usize::from(header.extras_bytes) + usize::from(header.key_bytes);
    let Some(value_bytes) = header.value_bytes() else {
        return header.close(Error::UnknownCommand);
    };
    if header.body_bytes > BODY_BYTES_MAX {
        return header.close(Error::RequestTooLarge);
    }
    if usize::from(header.key_bytes) > KEY_BYTES_MAX {
        return header.close(Error::BadFormat);
    }
    let Some(opcode) = Opcode::read(header.code) else {
        return header.skip(Error::UnknownCommand);
    };
    if !opcode.takes(header.extras_bytes, header.key_bytes, value_bytes) {
        return header.close(Error::BadFormat);
    }
    let Some((head, rest)) = buffer.split_at_checked(head_bytes) else {
        return Decoded::NeedMore;
    };
    let (extras, key) = head[HEADER_BYTES..].split_at(usize::from(header.extras_bytes));
    let parts = Parts {
        header,
        opcode,
        extras,
        key,
        rest,
        value_bytes,
        strict,
    };
    parts.decode()
}

impl Header {
    fn read(bytes: &[u8; HEADER_BYTES]) -> Header {
        let two = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let four = |at: usize| u32::from(two(at)) << 16 | u32::from(two(at + 2));
        Header {
            code: bytes[1],
            key_bytes: two(2),
            extras_bytes: bytes[4],
            body_bytes: four(8),
            opaque: four(12),
            unique: u64::from(four(16)) << 32 | u64::from(four(20)),
        }
    }

    /// What the body has beside extras and key; `None` if it is shorter than those.
    fn value_bytes(&self) -> Option<u32> {
        let head = u32::from(self.key_bytes) + u32::from(self.extras_bytes);
        self.body_bytes.checked_sub(head)
    }

    fn frame(&self) -> Frame<'static> {
        Frame {
            opcode: self.code,
            opaque: self.opaque,
            quiet: false,
            key: None,
            value: false,
            failure: Failure::Told,
        }
    }

    /// An error after which the stream cannot be brought back in step.
    fn close(&self, error: Error) -> Decoded<'static> {
        Decoded::Bad(Bad {
            reply: Some(error),
            form: Form::Binary(self.frame()),
            recovery: Recovery::Close,
        })
    }

    /// An error with which the whole request goes.
    fn skip(&self, error: Error) -> Decoded<'static> {
        Decoded::Bad(Bad {
            reply: Some(error),
            form: Form::Binary(self.frame()),
            recovery: Recovery::Skip(HEADER_BYTES as u64 + u64::from(self.body_bytes)),
        })
    }
}

impl<'b> Parts<'b> {
    fn decode(&self) -> Decoded<'b> {
        let key = Key(self.key);
        let command = match self.opcode.operation {
            Operation::Get => Command::Get {
                key,
                touch: None,
                terms: None,
            },
            Operation::Touch if self.opcode.with_value => Command::Get {
                key,
                touch: Some(Exptime::unsigned(self.number(0))),
                terms: None,
            },
            Operation::Touch => Command::Touch {
                key,
                exptime: Exptime::unsigned(self.number(0)),
            },
            Operation::Store(mode) => return self.store(mode),
            Operation::Extend(mode) => return self.extend(mode),
            Operation::Delete => Command::Delete {
                key,
                terms: self.compared(),
            },
            Operation::Count(direction) => self.count(direction),
            Operation::Flush => Command::FlushAll {
                at: Some(match self.extras {
                    [] => Exptime::Never,
                    _ => Exptime::unsigned(self.number(0)),
                }),
            },
            Operation::Noop => Command::Nothing,
            Operation::Version => Command::Version,
            Operation::Stat => match stats(self.key) {
                Some(stats) => Command::Stats(stats),
                None => return self.header.skip(Error::NoSuchStats),
            },
            Operation::Verbosity => Command::Verbosity {
                level: self.number(0),
            },
            Operation::Quit => Command::Quit,
            Operation::ListMechanisms => Command::Sasl(Sasl::ListMechanisms),
            Operation::Start | Operation::Step => return self.sasl(),
        };
        self.request(command, 0)
    }

    fn count(&self, direction: Direction) -> Command<'b> {
        let expiration: u32 = self.number(16);
        let vivify = (expiration != DO_NOT_MAKE).then(|| Exptime::unsigned(expiration));
        Command::Arithmetic {
            key: Key(self.key),
            direction,
            delta: self.long(0),
            terms: Some(Terms {
                vivify,
                initial: self.long(8),
                unique: self.unique(),
                ..Terms::default()
            }),
        }
    }

    fn store(&self, mode: Mode) -> Decoded<'b> {
        let terms = Terms {
            drops_old: mode == Mode::Set,
            ..Terms::default()
        };
        let (mode, terms) = match self.unique() {
            // memcached stores all three so, whatever they are called.
            Some(unique) => (Mode::Cas(unique), Some(terms)),
            None => (mode, None),
        };
        self.with_value(Store {
            mode,
            key: Key(self.key),
            client_flags: self.number(0),
            exptime: Exptime::unsigned(self.number(4)),
            value: Data(&[]),
            terms,
        })
    }

    fn extend(&self, mode: Mode) -> Decoded<'b> {
        self.with_value(Store {
            mode,
            key: Key(self.key),
            client_flags: 0,
            exptime: Exptime::Never,
            value: Data(&[]),
            terms: self.compared(),
        })
    }

    /// Takes the value if it is at hand.
    fn with_value(&self, store: Store<'b>) -> Decoded<'b> {
        match self.rest.get(..self.value_bytes as usize) {
            Some(value) => {
                let value = Data(value);
                self.request(Command::Store(Store { value, ..store }), value.0.len())
            }
            None => Decoded::NeedBody(Upload {
                store,
                envelope: self.envelope(),
                header_bytes: self.head_bytes(),
                value_bytes: self.value_bytes,
                line_end_bytes: 0,
            }),
        }
    }

    fn sasl(&self) -> Decoded<'b> {
        let bytes = self.value_bytes as usize;
        if self.key.len() > MECHANISM_BYTES_MAX || bytes > MESSAGE_BYTES_MAX {
            return self.header.skip(Error::BadFormat);
        }
        let Some(message) = self.rest.get(..bytes) else {
            return Decoded::NeedMore;
        };
        let message = Data(message);
        let sasl = match self.opcode.operation {
            Operation::Step => Sasl::Step { message },
            _ => Sasl::Start {
                mechanism: self.key,
                message,
            },
        };
        self.request(Command::Sasl(sasl), bytes)
    }

    fn request(&self, command: Command<'b>, value_bytes: usize) -> Decoded<'b> {
        Decoded::Request(Request {
            command,
            envelope: self.envelope(),
            consumed: self.head_bytes() + value_bytes,
        })
    }

    fn envelope(&self) -> Envelope<'b> {
        let opcode = self.opcode;
        let is_token = !self.strict && self.key.starts_with(TOKEN_KEY_PREFIX);
        let failure = match opcode.operation {
            Operation::Get if is_token => Failure::AsMiss,
            Operation::Store(Mode::Set) if is_token => Failure::AsStored,
            _ => Failure::Told,
        };
        Envelope {
            form: Form::Binary(Frame {
                quiet: opcode.quiet,
                key: opcode.with_key.then_some(Key(self.key)),
                value: opcode.with_value,
                failure,
                ..self.header.frame()
            }),
            ..Envelope::default()
        }
    }

    fn head_bytes(&self) -> usize {
        HEADER_BYTES + self.extras.len() + self.key.len()
    }

    /// The CAS unique that is asked for; 0 asks for none.
    fn unique(&self) -> Option<u64> {
        (self.header.unique != 0).then_some(self.header.unique)
    }

    fn compared(&self) -> Option<Terms> {
        self.unique().map(|unique| Terms {
            unique: Some(unique),
            ..Terms::default()
        })
    }

    /// The four bytes at `at` of the extras, which the opcode is known to have.
    fn number(&self, at: usize) -> u32 {
        let bytes = self.extras.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    fn long(&self, at: usize) -> u64 {
        u64::from(self.number(at)) << 32 | u64::from(self.number(at + 4))
    }
}

/// What STAT is asked for. As in memcached, nothing is read behind the first three names.
fn stats(key: &[u8]) -> Option<Stats> {
    Some(match key {
        b"" => Stats::General,
        _ if key.starts_with(b"reset") => Stats::Reset,
        _ if key.starts_with(b"settings") => Stats::Settings,
        _ if key.starts_with(b"detail dump") => Stats::DetailDump,
        _ if key.starts_with(b"detail on") => Stats::DetailOn,
        _ if key.starts_with(b"detail off") => Stats::DetailOff,
        b"items" => Stats::Items,
        b"slabs" => Stats::Slabs,
        b"sizes" => Stats::Sizes,
        _ => return None,
    })
}
