//! The real store, with the parameters of its eviction as they are or as they are to be tried.
//!
//! Values are bytes that mean nothing, stored as they are: what packing makes of tokens is in the
//! lengths that the simulator gives. The store is kept as the daemon keeps it, once a second.

use std::io;

use super::{Entry, KEY_BYTES, Policy, Seconds};
use crate::store::{
    Condition, Eviction, MEMORY_LIMIT_BYTES_MIN, Marks, Options, Packing, Put, Store,
};
use crate::tool::random::{mix, write_hex};
use crate::tool::trace::TokenId;

/// Longest value that can be put.
pub const VALUE_BYTES_MAX: u32 = 900_000;

/// The least memory that a server runs with.
pub const MEMORY_BYTES_MIN: u64 = MEMORY_LIMIT_BYTES_MIN;

/// The store, as a policy.
#[derive(Debug)]
pub struct Tokencached {
    store: Store,
    value: Box<[u8]>,
}

impl Tokencached {
    /// An empty store of so many bytes. The same seed lets the same items leave.
    ///
    /// # Errors
    /// Those of making and mapping its memory.
    pub fn new(memory_bytes: u64, eviction: Eviction, seed: u64) -> io::Result<Tokencached> {
        let item_bytes_max = (1 << 20).min(memory_bytes / 2) as u32;
        let store = Store::new(&Options {
            memory_limit_bytes: memory_bytes.max(MEMORY_LIMIT_BYTES_MIN),
            memory_ceiling_bytes: memory_bytes.max(MEMORY_LIMIT_BYTES_MIN),
            item_bytes_max,
            evict: true,
            eviction,
            hash_seed: Some(seed),
        })?;
        Ok(Tokencached {
            store,
            value: vec![0; VALUE_BYTES_MAX as usize].into(),
        })
    }
}

impl Policy for Tokencached {
    fn get(&mut self, token: TokenId, now: Seconds) -> bool {
        self.store.get(&key(token), now).is_ok()
    }

    fn put(&mut self, token: TokenId, entry: Entry, now: Seconds) {
        let put = Put {
            key: &key(token),
            value: &[&self.value[..entry.value_bytes as usize]],
            packing: Packing::NONE,
            class: 0,
            client_flags: 0,
            expiry: Some(entry.expiry),
            condition: Condition::Always,
            cas_unique: None,
            marks: Marks::default(),
        };
        // A store that finds no room for a value does not have it: that is what is counted.
        let _ = self.store.put(&put, now);
    }

    fn second(&mut self, now: Seconds) {
        self.store.housekeep(now);
    }
}

/// A key as long as a plain token's, different in its first digits.
fn key(token: TokenId) -> [u8; KEY_BYTES as usize] {
    let mut key = [b'0'; KEY_BYTES as usize];
    key[..7].copy_from_slice(b"tokens/");
    write_hex(&mix(u64::from(token)).to_be_bytes(), &mut key[7..23]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_a_hit_until_it_expires() {
        let mut policy = Tokencached::new(8 << 20, Eviction::default(), 1).unwrap();
        let entry = Entry {
            value_bytes: 10_000,
            expiry: 1_300,
        };
        assert!(!policy.get(7, 1_000));
        policy.put(7, entry, 1_000);
        assert!(policy.get(7, 1_299) && !policy.get(8, 1_299));
        assert!(!policy.get(7, 1_300));
    }
}
