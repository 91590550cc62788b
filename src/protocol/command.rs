//! The command model that every protocol decodes into.
//!
//! Meta is the widest of memcached's protocols, so commands carry its semantics in typed fields, the
//! [`Terms`], and the classic commands are special cases without any. A command borrows the
//! connection's buffer, names at most one key, and holds nothing that only the wire needs: that is the
//! [`Envelope`]'s.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::Error;

/// A key: 1 to 250 bytes as the client wrote them, without spaces and control bytes; any bytes where
/// they came in base64 (protocol.txt, "Meta Get", flag b).
///
/// Its `Debug` shows the length alone, since a key is derived from a credential.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key<'b>(pub &'b [u8]);

impl fmt::Debug for Key<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({} bytes)", self.0.len())
    }
}

/// A value as the client wrote it; its `Debug` shows the length alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Data<'b>(pub &'b [u8]);

impl fmt::Debug for Data<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Data({} bytes)", self.0.len())
    }
}

/// When an item expires, as the client said it (protocol.txt, "Expiration times").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exptime {
    /// 0: never.
    Never,
    /// Negative: at once.
    AtOnce,
    /// Up to 30 days: seconds from now.
    Relative(u32),
    /// Anything larger: a Unix time in seconds.
    Absolute(u32),
}

impl Exptime {
    const RELATIVE_SECONDS_MAX: i32 = 60 * 60 * 24 * 30;

    /// Sorts a number from the wire into its meaning.
    pub fn new(exptime: i32) -> Exptime {
        match exptime {
            0 => Exptime::Never,
            ..0 => Exptime::AtOnce,
            1..=Exptime::RELATIVE_SECONDS_MAX => Exptime::Relative(exptime as u32),
            _ => Exptime::Absolute(exptime as u32),
        }
    }

    /// Sorts a number without a sign, as the binary protocol has it.
    pub fn unsigned(exptime: u32) -> Exptime {
        i32::try_from(exptime).map_or(Exptime::Absolute(exptime), Exptime::new)
    }
}

/// What one request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'b> {
    /// Look a key up; with `touch`, renew its expiry as well (`get`, `gets`, `gat`, `gats`, `mg`).
    Get {
        /// The item asked for.
        key: Key<'b>,
        /// A new expiry, if the item is there.
        touch: Option<Exptime>,
        /// What `mg` asks beyond that.
        terms: Option<Terms>,
    },
    /// Store a value (`set`, `add`, `replace`, `append`, `prepend`, `cas`, `ms`).
    Store(Store<'b>),
    /// Remove an item, or make it stale or empty (`delete`, `md`).
    Delete {
        /// The item to remove.
        key: Key<'b>,
        /// What `md` asks beyond that.
        terms: Option<Terms>,
    },
    /// Count an item's decimal value up or down.
    Arithmetic {
        /// The item that holds the number.
        key: Key<'b>,
        /// Up, which wraps at 2^64, or down, which stops at 0.
        direction: Direction,
        /// By how much.
        delta: u64,
        /// What `ma` asks beyond that.
        terms: Option<Terms>,
    },
    /// Renew an item's expiry.
    Touch {
        /// The item to touch.
        key: Key<'b>,
        /// Its new expiry.
        exptime: Exptime,
    },
    /// Make all items invalid, now or at a later time.
    FlushAll {
        /// `Never` and `AtOnce` both mean now; `None` could not be read, which matters only where
        /// the command is allowed at all.
        at: Option<Exptime>,
    },
    /// Change the memory limit of the running server.
    CacheMemlimit {
        /// The new limit.
        megabytes: u32,
    },
    /// Change how much is logged.
    Verbosity {
        /// 0 (warnings) to 3 (everything).
        level: u32,
    },
    /// Read the certificates of TLS again.
    RefreshCerts,
    /// Show counters or settings.
    Stats(Stats),
    /// Name the memcached release that is spoken.
    Version,
    /// Show what is known of an item, but for its value (`me`).
    Inspect {
        /// The item to show.
        key: Key<'b>,
        /// The key came in base64.
        key_is_binary: bool,
    },
    /// Answer, and nothing else (`mn`, NOOP).
    Nothing,
    /// Say who one is: the session's business, which alone knows whether that is asked for.
    Sasl(Sasl<'b>),
    /// End the server.
    Shutdown {
        /// Whether the mode asked for is known, which matters only where the command is allowed.
        mode_known: bool,
    },
    /// End the connection.
    Quit,
}

impl Command<'_> {
    /// Whether it changes an item, a counter's zero line or the server: what a client that may only read
    /// is refused. A look-up does if it renews an expiry, makes an item, or offers to make one anew,
    /// which keeps others from doing so.
    pub fn writes(&self) -> bool {
        match self {
            Command::Get { touch, terms, .. } => {
                touch.is_some() || terms.as_ref().is_some_and(Terms::write)
            }
            Command::Stats(stats) => {
                matches!(stats, Stats::Reset | Stats::DetailOn | Stats::DetailOff)
            }
            Command::Store(_)
            | Command::Delete { .. }
            | Command::Arithmetic { .. }
            | Command::Touch { .. }
            | Command::FlushAll { .. }
            | Command::CacheMemlimit { .. }
            | Command::Verbosity { .. }
            | Command::RefreshCerts
            | Command::Shutdown { .. } => true,
            Command::Version
            | Command::Inspect { .. }
            | Command::Nothing
            | Command::Sasl(_)
            | Command::Quit => false,
        }
    }
}

/// A step of SASL (binary protocol, SASL opcodes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sasl<'b> {
    /// Name the mechanisms.
    ListMechanisms,
    /// Begin with this mechanism and the client's first message, which may be empty.
    Start {
        /// The mechanism's name.
        mechanism: &'b [u8],
        /// The message.
        message: Data<'b>,
    },
    /// Go on with the client's next message.
    Step {
        /// The message.
        message: Data<'b>,
    },
}

/// A storage command: its header, and its value once that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store<'b> {
    /// Under which conditions, and how, the value is stored.
    pub mode: Mode,
    /// The item's key.
    pub key: Key<'b>,
    /// Opaque to the server; given back with the value.
    pub client_flags: u32,
    /// When the item expires. `append` and `prepend` leave the old expiry.
    pub exptime: Exptime,
    /// The data block without its `\r\n`.
    pub value: Data<'b>,
    /// What `ms` asks beyond the classic commands.
    pub terms: Option<Terms>,
}

/// What a command asks beyond the classic ones; each command reads what concerns it (protocol.txt,
/// "Meta Commands"; of the binary protocol, a CAS unique and the number that a counter begins with).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// A meta command asks, which is not counted by key prefix.
    pub by_meta: bool,
    /// A value that cannot be stored takes the old one with it, as it always does with a plain `set`.
    pub drops_old: bool,
    /// The key came in base64, and is shown so (`b`).
    pub key_is_binary: bool,
    /// Only if the item's CAS unique is this one (`C`).
    pub unique: Option<u64>,
    /// The CAS unique that what is written gets (`E`).
    pub new_unique: Option<u64>,
    /// A new expiry (`T`).
    pub touch: Option<Exptime>,
    /// Make the item if it is absent, with this expiry (`N`).
    pub vivify: Option<Exptime>,
    /// `T` stands behind `N`, so it has the last word on a new item.
    pub touch_after_vivify: bool,
    /// An item that expires before this is to be made anew by who asks first (`R`).
    pub recache: Option<Exptime>,
    /// `T` stands before `R`, which then looks at the new expiry.
    pub touch_before_recache: bool,
    /// Keep the item, as a stale one (`I` of `md`); store a value that is too old, as a stale one (`I`
    /// of `ms`).
    pub invalidate: bool,
    /// Keep the item without its value (`x`).
    pub drop_value: bool,
    /// The look-up does not count as a read (`u`).
    pub unnoticed: bool,
    /// Who asks may only read, so that it is never told to make an item anew. No client says this of
    /// itself.
    pub only_reads: bool,
    /// Opaque to the server, of a new value (`F`).
    pub client_flags: u32,
    /// The number that a vivified counter begins with (`J`).
    pub initial: u64,
}

impl Terms {
    /// Whether a look-up with these changes anything.
    fn write(&self) -> bool {
        self.touch.is_some() || self.vivify.is_some() || self.recache.is_some()
    }
}

/// The storage modes (protocol.txt, "Storage commands").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Always.
    Set,
    /// Only if the key is absent.
    Add,
    /// Only if the key is present.
    Replace,
    /// Behind the present value.
    Append,
    /// Before the present value.
    Prepend,
    /// Only if the item's CAS unique is still this one.
    Cas(u64),
}

/// Which way an `Arithmetic` command counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `incr`
    Up,
    /// `decr`
    Down,
}

/// The argument of `stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stats {
    /// No argument: the general counters.
    General,
    /// The settings in force.
    Settings,
    /// Items by slab class: there are none here.
    Items,
    /// Slab classes: there are none here.
    Slabs,
    /// A histogram of sizes, which is off.
    Sizes,
    /// One entry a connection.
    Conns,
    /// Begin counting by key prefix.
    DetailOn,
    /// Stop counting by key prefix.
    DetailOff,
    /// Show the counters by key prefix.
    DetailDump,
    /// Zero the counters.
    Reset,
}

/// What belongs to the request on the wire and not to the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'b> {
    /// The client wants no answer, errors included.
    pub noreply: bool,
    /// Values are answered with their CAS unique (`gets`, `gats`).
    pub with_cas: bool,
    /// This `get` is the last of its line, so `END` follows.
    pub ends_run: bool,
    /// What the answer looks like.
    pub form: Form<'b>,
}

/// What an answer looks like, and what of the request goes into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form<'b> {
    /// A line of the classic text protocol.
    #[default]
    Classic,
    /// A line of a meta command.
    Meta(Asked<'b>),
    /// A frame of the binary protocol.
    Binary(Frame<'b>),
}

/// What the answer to a binary request is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    /// The opcode, which comes back as it came.
    pub opcode: u8,
    /// The client's mark on its request, which comes back as it came.
    pub opaque: u32,
    /// Only failures and hits are answered.
    pub quiet: bool,
    /// The key, where it is answered with the value.
    pub key: Option<Key<'b>>,
    /// The value is asked for.
    pub value: bool,
    /// How it is told that the command could not be carried out.
    pub failure: Failure,
}

/// How it is told that a command could not be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// By its status.
    Told,
    /// As if the value had been stored.
    AsStored,
    /// As if there were no such item.
    AsMiss,
}

/// What the answer to a meta command is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Asked<'b> {
    /// The flags as the client wrote them, since they are answered in their order.
    pub flags: &'b [u8],
    /// The key, for those who ask for it back (`k`).
    pub key: Key<'b>,
    /// It came in base64.
    pub key_is_binary: bool,
    /// What is nothing but well is not answered (`q`).
    pub quiet: bool,
    /// The value is asked for (`v`).
    pub value: bool,
    /// Without it, the item has a CAS unique that the client knows (`C` of `mg`).
    pub known_unique: Option<u64>,
    /// The length of the value that came with the command, for `ms` alone.
    pub given_bytes: Option<u32>,
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Asked({} bytes of flags)", self.flags.len())
    }
}

/// One complete request and how many bytes of the buffer it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'b> {
    /// What is asked for.
    pub command: Command<'b>,
    /// How to answer it.
    pub envelope: Envelope<'b>,
    /// Bytes to drop from the front of the buffer once it is executed.
    pub consumed: usize,
}

/// What a decoder makes of the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'b> {
    /// A complete request.
    Request(Request<'b>),
    /// Nothing complete yet: read more and ask again.
    NeedMore,
    /// A storage command whose header is complete and whose data block is not.
    NeedBody(Upload<'b>),
    /// A storage command whose data block does not end in `\r\n`. Whether that or the value's size is
    /// what the client is told, the store's limit decides.
    BadBody(Upload<'b>),
    /// Bad input, and how to go on after it.
    Bad(Bad),
}

/// A storage command waiting for its data block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload<'b> {
    /// The header; its `value` is still empty.
    pub store: Store<'b>,
    /// How to answer once the block is in.
    pub envelope: Envelope<'b>,
    /// Length of all before the value.
    pub header_bytes: usize,
    /// Length of the value.
    pub value_bytes: u32,
    /// Length of the line end behind it, which the binary protocol does not have.
    pub line_end_bytes: usize,
}

/// Bad input: what the client is told and how the stream stays in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The answer; `None` where memcached is silent.
    pub reply: Option<Error>,
    /// What it looks like.
    pub form: Form<'static>,
    /// What to do with the stream.
    pub recovery: Recovery,
}

/// How a connection goes on after bad input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Drop this many bytes from the buffer, and from what is still to come.
    Skip(u64),
    /// The stream cannot be brought back in step: close it.
    Close,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_days_divide_relative_from_absolute() {
        assert_eq!(Exptime::new(2_592_000), Exptime::Relative(2_592_000));
        assert_eq!(Exptime::new(2_592_001), Exptime::Absolute(2_592_001));
        assert_eq!(Exptime::new(-1), Exptime::AtOnce);
        assert_eq!(Exptime::new(0), Exptime::Never);
    }

    #[test]
    fn debug_shows_no_key_and_no_value() {
        let command = Command::Store(Store {
            mode: Mode::Set,
            key: Key(b"tokens/secret"),
            client_flags: 0,
            exptime: Exptime::Never,
            value: Data(b"gAAAA-bearer"),
            terms: None,
        });
        let shown = format!("{command:?}");
        assert!(!shown.contains("secret") && !shown.contains("bearer"));
        assert!(
            !shown.contains("116, 111"),
            "not as numbers either: {shown}"
        );
    }
}
