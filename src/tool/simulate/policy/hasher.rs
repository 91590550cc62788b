//! Hashing a token's number alike in every run, for other people's caches.

use std::hash::{BuildHasher, Hasher};

use crate::tool::random::mix;

/// A hasher for one number.
#[derive(Debug, Clone, Copy, Default)]
pub struct NumberHasher(u64);

impl BuildHasher for NumberHasher {
    type Hasher = NumberHasher;

    fn build_hasher(&self) -> NumberHasher {
        NumberHasher(0)
    }
}

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number);
    }
}
