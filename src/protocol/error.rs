//! Every error a client can be told, with memcached's exact words.
//!
//! `ERROR` means an unknown command, `CLIENT_ERROR` the client's fault, `SERVER_ERROR` the server's
//! (protocol.txt, "Error strings"). The decoder and the engine name the error; only the encoders
//! know its bytes.

/// An error line of the text protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The command's name means nothing.
    UnknownCommand,
    /// Arguments are missing or cannot be read; also a key over 250 bytes or with control bytes.
    BadFormat,
    /// `delete` with an argument other than `0` and `noreply`.
    BadDelete,
    /// The data block does not end in `\r\n`.
    BadDataChunk,
    /// `incr` or `decr` by something that is no 64-bit number.
    BadDelta,
    /// `incr` or `decr` of a value that is no number.
    NotNumeric,
    /// `touch`, `gat` or `flush_all` with an exptime that does not fit 32 bits.
    BadExptime,
    /// A meta command with a flag twice.
    DuplicateFlag,
    /// A meta command with a flag that no meta command has.
    InvalidFlag,
    /// A flag of a meta command whose number cannot be read.
    BadFlagToken,
    /// A key that is no base64.
    BadKeyEncoding,
    /// `J` with something that is no 64-bit number.
    BadInitial,
    /// `D` with something that is no 64-bit number.
    BadDeltaFlag,
    /// More flags than an answer is made for.
    TooManyFlags,
    /// An opaque of more than 32 bytes, its `O` counted.
    OpaqueTooLong,
    /// Any bad flag of `ma`.
    BadArithmeticFlag,
    /// `ms` with a mode that it does not know.
    BadStoreMode,
    /// `ma` with a mode that it does not know.
    BadArithmeticMode,
    /// STAT with a name that it does not know.
    NoSuchStats,
    /// A user and password that do not belong together, or a command before any were given.
    AuthenticationFailure,
    /// A command of the text protocol before a `set` has authenticated.
    Unauthenticated,
    /// User and password are longer than any are.
    AuthenticationTooLong,
    /// User and password do not end in `\r\n`.
    BadAuthenticationEnd,
    /// User and password without a space between them.
    BadAuthentication,
    /// A command that writes, of a client that may only read.
    WritingNotAllowed,
    /// `flush_all` under `-F`.
    FlushNotAllowed,
    /// `shutdown` without `-A`.
    ShutdownNotEnabled,
    /// `shutdown` with an argument other than `graceful`.
    BadShutdownMode,
    /// `stats detail` with an argument other than `on`, `off` and `dump`.
    BadStatsDetail,
    /// `stats detail` under `-X`.
    StatsDetailNotAllowed,
    /// `stats cachedump`, which would show keys.
    CacheDumpNotAllowed,
    /// `watch`, which would show keys.
    WatchNotAllowed,
    /// `lru_crawler metadump`, which would show keys.
    MetadumpNotAllowed,
    /// `lru_crawler mgdump`, which would show keys.
    KeyDumpNotAllowed,
    /// `lru_crawler`: there is none.
    NoLruCrawler,
    /// `slabs`: there are none.
    NoSlabs,
    /// The item would be larger than `-I` allows.
    TooLarge,
    /// No room could be made for the item.
    OutOfMemory,
    /// No room for the new value of an `incr` or `decr`.
    OutOfMemoryForDelta,
    /// No room for the number that `ma` would have made.
    OutOfMemoryForNumber,
    /// A line that is longer than any buffer.
    RequestTooLarge,
    /// `cache_memlimit` below 8 megabytes.
    MemoryLimitTooSmall,
    /// `cache_memlimit` with a number that must have been meant as bytes.
    MemoryLimitInBytes,
    /// `cache_memlimit` above what the memory file was made for.
    MemoryLimitNotAdjusted,
}

impl Error {
    /// The line as it goes out, without its `\r\n`.
    pub fn line(self) -> &'static str {
        match self {
            Error::UnknownCommand => "ERROR",
            Error::BadFormat => "CLIENT_ERROR bad command line format",
            Error::BadDelete => {
                "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
            }
            Error::BadDataChunk => "CLIENT_ERROR bad data chunk",
            Error::BadDelta => "CLIENT_ERROR invalid numeric delta argument",
            Error::NotNumeric => "CLIENT_ERROR cannot increment or decrement non-numeric value",
            Error::BadExptime => "CLIENT_ERROR invalid exptime argument",
            Error::DuplicateFlag => "CLIENT_ERROR duplicate flag",
            Error::InvalidFlag => "CLIENT_ERROR invalid flag",
            Error::BadFlagToken => "CLIENT_ERROR bad token in command line format",
            Error::BadKeyEncoding => "CLIENT_ERROR error decoding key",
            Error::BadInitial => "CLIENT_ERROR invalid numeric initial value",
            Error::BadDeltaFlag => "CLIENT_ERROR invalid numeric delta value",
            Error::TooManyFlags => "CLIENT_ERROR options flags are too long",
            Error::OpaqueTooLong => "CLIENT_ERROR opaque token too long",
            Error::BadArithmeticFlag => "CLIENT_ERROR invalid or duplicate flag",
            Error::BadStoreMode => "CLIENT_ERROR invalid mode for ms M token",
            Error::BadArithmeticMode => "CLIENT_ERROR invalid mode for ma M token",
            Error::NoSuchStats => "ERROR",
            Error::AuthenticationFailure => "CLIENT_ERROR authentication failure",
            Error::Unauthenticated => "CLIENT_ERROR unauthenticated",
            Error::AuthenticationTooLong => "CLIENT_ERROR auth token too long",
            Error::BadAuthenticationEnd => "CLIENT_ERROR bad command line termination",
            Error::BadAuthentication => "CLIENT_ERROR bad authentication token format",
            Error::WritingNotAllowed => "CLIENT_ERROR writing not allowed",
            Error::FlushNotAllowed => "CLIENT_ERROR flush_all not allowed",
            Error::ShutdownNotEnabled => "SERVER_ERROR: shutdown not enabled",
            Error::BadShutdownMode => "CLIENT_ERROR invalid shutdown mode",
            Error::BadStatsDetail => "CLIENT_ERROR usage: stats detail on|off|dump",
            Error::StatsDetailNotAllowed => "CLIENT_ERROR stats detail not allowed",
            Error::CacheDumpNotAllowed => "CLIENT_ERROR stats cachedump not allowed",
            Error::WatchNotAllowed => "CLIENT_ERROR watch commands not allowed",
            Error::MetadumpNotAllowed => "ERROR metadump not allowed",
            Error::KeyDumpNotAllowed => "ERROR key dump not allowed",
            Error::NoLruCrawler => "CLIENT_ERROR lru crawler disabled",
            Error::NoSlabs => "CLIENT_ERROR slab reassignment disabled",
            Error::TooLarge => "SERVER_ERROR object too large for cache",
            Error::OutOfMemory => "SERVER_ERROR out of memory storing object",
            Error::OutOfMemoryForDelta => "SERVER_ERROR out of memory",
            Error::OutOfMemoryForNumber => "SERVER_ERROR Out of memory allocating new item",
            Error::RequestTooLarge => "SERVER_ERROR out of memory reading request",
            Error::MemoryLimitTooSmall => "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m",
            Error::MemoryLimitInBytes => {
                "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes"
            }
            Error::MemoryLimitNotAdjusted => {
                "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust"
            }
        }
    }
}
