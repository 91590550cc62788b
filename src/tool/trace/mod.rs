//! A trace: who asked an API with which token, and when.
//!
//! Made by `generate`, kept in a file by `file`, replayed by
//! [`simulate`](super::simulate) and `replay`. It holds the requests of a whole
//! cloud to one API; which of the API's units serves a request is decided when it is replayed.
//!
//! Tokens are numbers: a trace holds no credential.
//!
//! Invariants: requests are in the order of their time; every request names a token of the trace.

pub mod file;

/// Which token of a trace: its place in [`Trace::tokens`].
pub type TokenId = u32;

/// Whose token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A user's, a service's, a program's: its requests are the ones that hit ratios are about.
    Legitimate,
    /// One of a flood that would push the others out. Its requests are counted apart.
    Attack,
    /// No token, but what other users of a memcached keep there without an expiry (dogpile.cache
    /// does). Its requests are counted apart.
    Lasting,
}

/// What is known of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Whose it is.
    pub kind: Kind,
    /// The client that uses it, for balancing by source address.
    pub source: u32,
    /// Length of its value as keystonemiddleware caches it.
    pub value_bytes: u32,
    /// Length of that value as tokencached keeps it, packed.
    pub packed_bytes: u32,
}

/// One look into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Since the start of the trace.
    pub millis: u32,
    /// The token that came with it.
    pub token: TokenId,
}

/// What is said of a whole trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The scenario's name, or what the trace was recorded from.
    pub name: String,
    /// The seed it was generated from.
    pub seed: u64,
    /// The scenario's parameters that are not its own defaults, as `name=value`.
    pub parameters: Vec<String>,
    /// How long it lasts, in milliseconds.
    pub millis: u32,
}

/// The requests of a cloud to one API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Where it comes from.
    pub about: About,
    /// All tokens that occur.
    pub tokens: Vec<Token>,
    /// All requests, by time.
    pub requests: Vec<Request>,
}
