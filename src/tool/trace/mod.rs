//! A trace: who asked an API with which token, and when.
//!
//! Made up by `generate` or recorded from a running server by `record`, kept in a file by `file`, replayed by
//! [`simulate`](super::simulate) and `replay`. It holds the requests of a whole
//! cloud to one API; which of the API's units serves a request is decided when it is replayed.
//!
//! Tokens are numbers: a trace holds no credential.
//!
//! Invariants: requests are in the order of their time, and so are changes; each names a token and a service of the
//! trace.

pub mod file;

use serde::{Deserialize, Serialize};

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
    /// For how long it was to be held, as it was recorded; 0 for as long as all.
    pub ttl_seconds: u32,
}

/// One look into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Since the start of the trace.
    pub millis: u32,
    /// The token that came with it.
    pub token: TokenId,
    /// Who asked: a place in [`Trace::services`].
    pub service: u8,
}

/// What was done to a value. Whoever replays a trace puts what his own cache misses, and leaves these alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// It was stored.
    Set = 1,
    /// It was deleted, or made stale.
    Delete = 2,
    /// It was given another expiry.
    Touch = 3,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 3] = [Op::Set, Op::Delete, Op::Touch];
}

/// A change of what is cached, as it was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// What was done, by whom, and to what.
    pub request: Request,
    /// What was done.
    pub op: Op,
}

/// What is known of the server that a trace was recorded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Before this nothing was recorded: requests there stand for values that were cached already.
    pub warm_up_millis: u32,
    /// The time for which most values were to be held.
    pub ttl_seconds: u32,
    /// From a miss to the set that followed it: the median, in milliseconds.
    pub validation_millis: u32,
    /// The server's memory limit; 0 where it was not known.
    pub memory_bytes: u64,
    /// Look-ups that the server answered in that time, of keys that expire and were there once.
    pub look_ups: u64,
    /// Hits among them.
    pub hits: u64,
    /// Look-ups of keys that were never stored, which are not in the trace.
    pub left_out: u64,
    /// Events that were lost, since they came faster than they were taken.
    pub lost: u64,
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
    /// What it was recorded from; `None` if it was made up.
    pub recorded: Option<Recorded>,
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
    /// What they are called that asked; at most [`SERVICES_MAX`].
    pub services: Vec<String>,
    /// What else was done, by time.
    pub changes: Vec<Change>,
}

/// Most services of a trace.
pub const SERVICES_MAX: usize = 64;
