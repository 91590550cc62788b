//! Which entries are there, what they take, and which have expired: the account that the simple
//! policies share.
//!
//! Invariant: `used_bytes` is the sum of what all residents are charged.

use super::expiry::Expiries;
use super::{Entry, Seconds, charged_bytes};
use crate::tool::trace::TokenId;

/// What a policy does about entries that have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// They stay until their turn comes like that of any other.
    Stay,
    /// They are freed before any that is alive leaves.
    First,
}

/// The account of a cache's entries.
#[derive(Debug)]
pub struct Residents {
    charged: Vec<u32>,
    expiries: Expiries,
    expired: Expired,
    used_bytes: u64,
    capacity_bytes: u64,
}

impl Residents {
    /// None, in so many bytes, of so many tokens.
    pub fn new(capacity_bytes: u64, tokens: usize, expired: Expired) -> Residents {
        Residents {
            charged: vec![0; tokens],
            expiries: Expiries::new(tokens),
            expired,
            used_bytes: 0,
            capacity_bytes,
        }
    }

    /// Whether an entry is there and alive.
    pub fn alive(&self, token: TokenId, now: Seconds) -> bool {
        self.expiries.alive(token, now)
    }

    /// Whether an entry is there, alive or expired.
    pub fn holds(&self, token: TokenId) -> bool {
        self.expiries.holds(token)
    }

    /// Takes an entry in.
    pub fn add(&mut self, token: TokenId, entry: Entry) {
        let charged = charged_bytes(entry.value_bytes);
        self.charged[token as usize] = charged;
        self.used_bytes += u64::from(charged);
        self.expiries.put(token, entry.expiry);
    }

    /// Lets an entry go.
    pub fn remove(&mut self, token: TokenId) {
        self.used_bytes -= u64::from(self.charged(token));
        self.charged[token as usize] = 0;
        self.expiries.remove(token);
    }

    /// Bytes that an entry is charged; 0 if it is not there.
    pub fn charged(&self, token: TokenId) -> u32 {
        self.charged[token as usize]
    }

    /// Whether there is no room for another entry of this length.
    pub fn lacks_room_for(&self, entry: Entry) -> bool {
        self.used_bytes + u64::from(charged_bytes(entry.value_bytes)) > self.capacity_bytes
    }

    /// Lets the next expired entry go, where that is done first; says which, and what it was charged.
    pub fn pop_expired(&mut self, now: Seconds) -> Option<(TokenId, u32)> {
        if self.expired == Expired::Stay {
            return None;
        }
        let token = self.expiries.pop_expired(now)?;
        let charged = std::mem::take(&mut self.charged[token as usize]);
        self.used_bytes -= u64::from(charged);
        Some((token, charged))
    }

    /// Bytes of the cache.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }
}
