//! The bound: a cache that forgets nothing before its time.

use super::{Entry, NEVER, Policy, Seconds};
use crate::tool::trace::TokenId;

/// Keeps everything until it expires, whatever memory that takes.
#[derive(Debug)]
pub struct Infinite {
    /// By token; 0 for what was never put.
    expiries: Vec<Seconds>,
}

impl Infinite {
    /// An empty cache for so many tokens.
    pub fn new(tokens: usize) -> Infinite {
        Infinite {
            expiries: vec![0; tokens],
        }
    }
}

impl Policy for Infinite {
    fn get(&mut self, token: TokenId, now: Seconds) -> bool {
        self.expiries[token as usize] > now
    }

    fn put(&mut self, token: TokenId, entry: Entry, _now: Seconds) {
        self.expiries[token as usize] = match entry.expiry {
            NEVER => Seconds::MAX,
            expiry => expiry,
        };
    }
}
