//! The quick_cache crate: CLOCK-Pro, in its words with a hot and a cold part and ghosts.
//!
//! What has expired is taken out before each put, so this is the crate's policy with expired entries
//! freed first.

use quick_cache::unsync::{Cache, DefaultLifecycle};

use super::expiry::Expiries;
use super::hasher::NumberHasher;
use super::{Entry, Policy, Seconds, charged_bytes};
use crate::tool::trace::TokenId;

/// A cache of the crate; the values are the bytes that they are charged with.
#[derive(Debug)]
pub struct QuickCache {
    cache: Cache<TokenId, u32, Weighter, NumberHasher>,
    expiries: Expiries,
}

impl QuickCache {
    /// An empty cache of so many bytes for so many tokens, whose values have about `value_bytes`.
    pub fn new(memory_bytes: u64, tokens: usize, value_bytes: u32) -> QuickCache {
        let items = memory_bytes / u64::from(charged_bytes(value_bytes));
        let cache = Cache::with(
            items as usize,
            memory_bytes,
            Weighter,
            NumberHasher::default(),
            DefaultLifecycle::default(),
        );
        QuickCache {
            cache,
            expiries: Expiries::new(tokens),
        }
    }
}

impl Policy for QuickCache {
    fn get(&mut self, token: TokenId, now: Seconds) -> bool {
        let is_there = self.cache.get(&token).is_some();
        is_there && self.expiries.alive(token, now)
    }

    fn put(&mut self, token: TokenId, entry: Entry, now: Seconds) {
        while let Some(expired) = self.expiries.pop_expired(now) {
            self.cache.remove(&expired);
        }
        self.expiries.put(token, entry.expiry);
        self.cache.insert(token, charged_bytes(entry.value_bytes));
    }
}

#[derive(Debug, Clone)]
struct Weighter;

impl quick_cache::Weighter<TokenId, u32> for Weighter {
    fn weight(&self, _token: &TokenId, charged: &u32) -> u64 {
        u64::from(*charged)
    }
}
