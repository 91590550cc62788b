//! When entries expire, and which have.
//!
//! For policies that free what has expired before what is alive, and for other people's caches, which
//! have no virtual time.
//!
//! Invariant: expiries are put in their order, as they are where all have one TTL, so the first
//! in the queue is the first to expire.

use std::collections::VecDeque;

use super::{NEVER, Seconds};
use crate::tool::trace::TokenId;

/// The expiry of what is not there.
const ABSENT: Seconds = 1;

/// The expiries of all entries.
#[derive(Debug)]
pub struct Expiries {
    by_token: Vec<Seconds>,
    queue: VecDeque<(Seconds, TokenId)>,
}

impl Expiries {
    /// None, of so many tokens.
    pub fn new(tokens: usize) -> Expiries {
        Expiries {
            by_token: vec![ABSENT; tokens],
            queue: VecDeque::new(),
        }
    }

    /// Notes that an entry was put.
    pub fn put(&mut self, token: TokenId, expiry: Seconds) {
        self.by_token[token as usize] = expiry;
        if expiry != NEVER {
            self.queue.push_back((expiry, token));
        }
    }

    /// Notes that an entry left.
    pub fn remove(&mut self, token: TokenId) {
        self.by_token[token as usize] = ABSENT;
    }

    /// Whether an entry is there, alive or expired.
    pub fn holds(&self, token: TokenId) -> bool {
        self.by_token[token as usize] != ABSENT
    }

    /// Whether an entry is there and alive.
    pub fn alive(&self, token: TokenId, now: Seconds) -> bool {
        let expiry = self.by_token[token as usize];
        expiry == NEVER || expiry > now
    }

    /// Takes the next entry that has expired and not left.
    pub fn pop_expired(&mut self, now: Seconds) -> Option<TokenId> {
        while let Some(&(expiry, token)) = self.queue.front()
            && expiry <= now
        {
            self.queue.pop_front();
            if self.by_token[token as usize] == expiry {
                self.remove(token);
                return Some(token);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_expires_once_and_only_by_its_newest_expiry() {
        let mut expiries = Expiries::new(3);
        expiries.put(0, 10);
        expiries.put(1, 11);
        expiries.put(2, NEVER);
        expiries.put(0, 20);
        assert!(expiries.alive(1, 10) && !expiries.alive(1, 11));
        assert_eq!(expiries.pop_expired(15), Some(1));
        assert_eq!(expiries.pop_expired(15), None);
        assert!(expiries.alive(0, 19) && expiries.alive(2, 99) && !expiries.holds(1));
        assert_eq!(expiries.pop_expired(20), Some(0));
    }
}
