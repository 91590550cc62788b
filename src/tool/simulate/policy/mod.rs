//! What every policy that is compared can do.
//!
//! A policy is a cache of so many bytes, in which tokens are numbers and values are lengths.
//! The simulator asks it for each request's token, and puts what was missed. Time comes
//! as an argument, in the whole seconds that the protocol has; an entry put with the expiry `E` is
//! a hit as long as the second is below `E`, in every policy alike.
//!
//! Each policy is a file. The policies of other people's crates have no virtual time: what has
//! expired is taken out of them by [`expiry`] before it can be hit.

pub mod belady;
pub mod expiry;
pub mod hasher;
pub mod infinite;
pub mod list;
pub mod memcached;
pub mod moka;
pub mod queue;
pub mod quick_cache;
pub mod residents;
pub mod s3_fifo;
pub mod sieve;
pub mod spec;
pub mod tokencached;

use crate::tool::trace::TokenId;

/// Seconds of virtual time; never 0 nor 1.
pub type Seconds = u32;

/// The expiry of what never expires.
pub const NEVER: Seconds = 0;

/// Bytes of an entry's key: that of a plain token.
pub const KEY_BYTES: u32 = crate::tool::keys::PLAIN_BYTES as u32;

/// Bytes that an entry is charged beside key and value, where the policy has no account of its own:
/// as many as tokencached needs, so that policies are compared and not how they keep their books.
pub const OVERHEAD_BYTES: u32 = 56;

/// Bytes that an entry is charged.
pub fn charged_bytes(value_bytes: u32) -> u32 {
    KEY_BYTES + value_bytes + OVERHEAD_BYTES
}

/// What is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Length of the value.
    pub value_bytes: u32,
    /// When it expires; [`NEVER`] never.
    pub expiry: Seconds,
}

/// A cache with a way of choosing what leaves.
pub trait Policy {
    /// Whether the token's entry is there and alive; notes that it was asked for.
    fn get(&mut self, token: TokenId, now: Seconds) -> bool;

    /// Puts an entry, over an older one of its token, and lets others leave for it. May choose not
    /// to keep it.
    fn put(&mut self, token: TokenId, entry: Entry, now: Seconds);

    /// What a cache does by itself, once each second of virtual time.
    fn second(&mut self, now: Seconds) {
        let _ = now;
    }
}
