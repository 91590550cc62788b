//! The moka crate: TinyLFU with a window, or LRU.
//!
//! Its maintenance, which it otherwise does now and then, is done after each put, so that the
//! result does not depend on the machine; what has expired is taken out before each put, so the policies are
//! those of the crate with expired entries freed first.

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::expiry::Expiries;
use super::hasher::NumberHasher;
use super::{Entry, Policy, Seconds, charged_bytes};
use crate::tool::trace::TokenId;

/// Which of the crate's policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// W-TinyLFU.
    TinyLfu,
    /// Least recently used.
    Lru,
}

/// A cache of the crate; the values are the bytes that they are charged with.
#[derive(Debug)]
pub struct Moka {
    cache: Cache<TokenId, u32, NumberHasher>,
    expiries: Expiries,
}

impl Moka {
    /// An empty cache of so many bytes for so many tokens.
    pub fn new(kind: Kind, memory_bytes: u64, tokens: usize) -> Moka {
        let policy = match kind {
            Kind::TinyLfu => EvictionPolicy::tiny_lfu(),
            Kind::Lru => EvictionPolicy::lru(),
        };
        let cache = Cache::builder()
            .max_capacity(memory_bytes)
            .weigher(|_, charged: &u32| *charged)
            .eviction_policy(policy)
            .build_with_hasher(NumberHasher::default());
        Moka {
            cache,
            expiries: Expiries::new(tokens),
        }
    }
}

impl Policy for Moka {
    fn get(&mut self, token: TokenId, now: Seconds) -> bool {
        // Asked for in any case: TinyLFU counts misses too.
        let is_there = self.cache.get(&token).is_some();
        is_there && self.expiries.alive(token, now)
    }

    fn put(&mut self, token: TokenId, entry: Entry, now: Seconds) {
        while let Some(expired) = self.expiries.pop_expired(now) {
            self.cache.invalidate(&expired);
        }
        self.expiries.put(token, entry.expiry);
        self.cache.insert(token, charged_bytes(entry.value_bytes));
        self.cache.run_pending_tasks();
    }
}
