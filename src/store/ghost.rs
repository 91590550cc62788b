//! The ghost: which keys left not long ago.
//!
//! One for each shard of the index, under the shard's lock. A key that comes back while its ghost is
//! here has shown that it is used more than once; `eviction` decides by the time since its last use
//! whether it goes straight to the main chain. It holds as many keys as `eviction` says, in 8
//! bytes each: 32 bits of the key's hash, the cause of leaving, and the second of the last use.
//!
//! Invariants:
//! - bounded: a bucket of eight, and in it the one that was used the longest ago makes room;
//! - a false positive (two keys with the same 32 bits) costs a place in the main chain, never a
//!   wrong value.

use super::Cause;

const BUCKET: usize = 8;
const CAUSE_SHIFT: u32 = 29;
const SECONDS_MASK: u32 = (1 << CAUSE_SHIFT) - 1;

/// Keys that left one shard.
#[derive(Debug, Default)]
pub struct Ghost {
    /// `BUCKET` entries a bucket; 0 is an empty entry. An entry is fingerprint (32 bits), cause (3),
    /// second (29, so that 17 years pass before it wraps).
    entries: Vec<u64>,
}

impl Ghost {
    /// Notes that a key left which was last used at that second, and remembers about so many keys.
    pub fn insert(&mut self, hash: u64, cause: Cause, used_at_seconds: u32, keys: usize) {
        self.fit(keys);
        let fingerprint = hash as u32;
        let detail = (cause as u32) << CAUSE_SHIFT | (used_at_seconds & SECONDS_MASK).max(1);
        let bucket = self.bucket(fingerprint);
        let entries = &mut self.entries[bucket];
        let same = |&entry: &u64| (entry >> 32) as u32 == fingerprint && entry != 0;
        let age = |&(_, entry): &(usize, &u64)| *entry as u32 & SECONDS_MASK;
        let slot = entries.iter().position(same).or_else(|| {
            // An empty entry has second 0 and is the oldest of all.
            entries
                .iter()
                .enumerate()
                .min_by_key(age)
                .map(|(slot, _)| slot)
        });
        if let Some(slot) = slot {
            entries[slot] = u64::from(fingerprint) << 32 | u64::from(detail);
        }
    }

    /// Forgets a key; says for how many seconds it had not been used, if it was known.
    pub fn take(&mut self, hash: u64, now_seconds: u32) -> Option<u32> {
        if self.entries.is_empty() {
            return None;
        }
        let fingerprint = hash as u32;
        let bucket = self.bucket(fingerprint);
        let entry = self.entries[bucket]
            .iter_mut()
            .find(|entry| **entry != 0 && (**entry >> 32) as u32 == fingerprint)?;
        let used_at = std::mem::take(entry) as u32 & SECONDS_MASK;
        Some(now_seconds.wrapping_sub(used_at) & SECONDS_MASK)
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<u64>()
    }

    fn bucket(&self, fingerprint: u32) -> std::ops::Range<usize> {
        let buckets = (self.entries.len() / BUCKET) as u64;
        let number = ((u64::from(fingerprint) * buckets) >> 32) as usize;
        number * BUCKET..(number + 1) * BUCKET
    }

    /// Grows or shrinks to about `wanted` entries, keeping what fits.
    fn fit(&mut self, wanted: usize) {
        let wanted = wanted.max(1).next_multiple_of(BUCKET);
        let held = self.entries.len();
        if wanted <= held && held <= 2 * wanted + 4 * BUCKET {
            return;
        }
        let length = if wanted > held {
            (wanted + wanted / 4).next_multiple_of(BUCKET)
        } else {
            wanted
        };
        let old = std::mem::replace(&mut self.entries, vec![0; length]);
        for entry in old.into_iter().filter(|&entry| entry != 0) {
            let bucket = self.bucket((entry >> 32) as u32);
            if let Some(empty) = self.entries[bucket].iter_mut().find(|slot| **slot == 0) {
                *empty = entry;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
    }

    #[test]
    fn a_key_is_known_once_after_it_left() {
        let mut ghost = Ghost::default();
        assert_eq!(ghost.take(hash(1), 130), None);
        ghost.insert(hash(1), Cause::Evicted, 100, 100);
        assert_eq!(ghost.take(hash(1), 130), Some(30));
        assert_eq!(ghost.take(hash(1), 130), None);
    }

    #[test]
    fn it_remembers_as_many_keys_as_it_is_told_and_stays_bounded() {
        let mut ghost = Ghost::default();
        for number in 0..10_000 {
            ghost.insert(hash(number), Cause::Evicted, number as u32, 200);
        }
        assert!(ghost.bytes() <= 8 * 320, "{} bytes", ghost.bytes());
        let recent = (9_900..10_000).filter(|&number| ghost.take(hash(number), 10_000).is_some());
        assert!(recent.count() > 90, "the newest are the ones that are kept");
    }

    #[test]
    fn growing_keeps_what_was_known() {
        let mut ghost = Ghost::default();
        for number in 0..8 {
            ghost.insert(hash(number), Cause::Expired, 5, 8);
        }
        ghost.insert(hash(100), Cause::Expired, 5, 2_000);
        assert!(
            (0..8)
                .filter(|&number| ghost.take(hash(number), 10).is_some())
                .count()
                >= 6
        );
    }
}
