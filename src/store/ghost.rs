//! The ghost: which keys left not long ago.
//!
//! One for each shard of the index, under the shard's lock. A key that comes back while its ghost is
//! here has shown that it is used more than once; `returns` decides what that means. It holds as many
//! keys as `eviction` says, in 8 bytes each: 32 bits of the key's hash, and how it left.
//!
//! Invariants:
//! - bounded: a bucket of eight, and in it the one that was used the longest ago makes room;
//! - a false positive (two keys with the same 32 bits) costs a place in the main chain, never a
//!   wrong value.

use super::returns::Departure;
use super::segment::Chain;

const BUCKET: usize = 8;
const CHAIN_SHIFT: u32 = 30;
const TURN_SHIFT: u32 = 16;

/// Keys that left one shard.
#[derive(Debug, Default)]
pub struct Ghost {
    /// `BUCKET` entries a bucket; 0 is an empty entry. An entry is fingerprint (32 bits), chain (2, never
    /// 0), turn (14), second (16).
    entries: Vec<u64>,
}

impl Ghost {
    /// Notes how a key leaves, and remembers about so many keys.
    pub fn insert(&mut self, hash: u64, departure: Departure, keys: usize) {
        self.fit(keys);
        let fingerprint = hash as u32;
        let bucket = self.bucket(fingerprint);
        let entries = &mut self.entries[bucket];
        let same = |&entry: &u64| (entry >> 32) as u32 == fingerprint && entry != 0;
        let older_by = |&(_, entry): &(usize, &u64)| match *entry {
            0 => i32::MAX,
            known => older_by_seconds(unpacked(known), departure),
        };
        let slot = entries.iter().position(same).or_else(|| {
            entries
                .iter()
                .enumerate()
                .max_by_key(older_by)
                .map(|(slot, _)| slot)
        });
        if let Some(slot) = slot {
            entries[slot] = u64::from(fingerprint) << 32 | u64::from(packed(&departure));
        }
    }

    /// Forgets a key; says how it left, if it was known.
    pub fn take(&mut self, hash: u64) -> Option<Departure> {
        if self.entries.is_empty() {
            return None;
        }
        let fingerprint = hash as u32;
        let bucket = self.bucket(fingerprint);
        let entry = self.entries[bucket]
            .iter_mut()
            .find(|entry| **entry != 0 && (**entry >> 32) as u32 == fingerprint)?;
        Some(unpacked(std::mem::take(entry)))
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

/// By how much one key was used before another, or after it if negative. Seconds wrap, so that only
/// differences tell.
fn older_by_seconds(known: Departure, leaving: Departure) -> i32 {
    /// What leaves may have been used that long before what left already.
    const AHEAD_MAX: u32 = Departure::SECONDS_MASK / 16;
    let difference = known.idle_seconds(leaving.used_at_seconds);
    match difference > Departure::SECONDS_MASK - AHEAD_MAX {
        true => difference as i32 - Departure::SECONDS_MASK as i32 - 1,
        false => difference as i32,
    }
}

/// The lower half of an entry.
fn packed(departure: &Departure) -> u32 {
    let chain = match departure.chain {
        None => 1,
        Some(Chain::Probation) => 2,
        Some(Chain::Main) => 3,
    };
    chain << CHAIN_SHIFT
        | (departure.turn & Departure::TURN_MASK) << TURN_SHIFT
        | departure.used_at_seconds & Departure::SECONDS_MASK
}

/// What is in the lower half of an entry.
fn unpacked(entry: u64) -> Departure {
    let detail = entry as u32;
    Departure {
        chain: match detail >> CHAIN_SHIFT {
            2 => Some(Chain::Probation),
            3 => Some(Chain::Main),
            _ => None,
        },
        turn: detail >> TURN_SHIFT & Departure::TURN_MASK,
        used_at_seconds: detail & Departure::SECONDS_MASK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
    }

    fn used_at(second: u32) -> Departure {
        Departure {
            chain: Some(Chain::Main),
            turn: 5,
            used_at_seconds: second,
        }
    }

    #[test]
    fn a_key_is_known_once_after_it_left() {
        let mut ghost = Ghost::default();
        assert_eq!(ghost.take(hash(1)), None);
        for chain in [None, Some(Chain::Probation), Some(Chain::Main)] {
            let departure = Departure {
                chain,
                turn: Departure::TURN_MASK,
                used_at_seconds: 100,
            };
            ghost.insert(hash(1), departure, 100);
            assert_eq!(ghost.take(hash(1)), Some(departure));
            assert_eq!(ghost.take(hash(1)), None);
        }
    }

    #[test]
    fn it_remembers_as_many_keys_as_it_is_told_and_stays_bounded() {
        let mut ghost = Ghost::default();
        for number in 0..10_000 {
            ghost.insert(hash(number), used_at(number as u32), 200);
        }
        assert!(ghost.bytes() <= 8 * 320, "{} bytes", ghost.bytes());
        let recent = (9_900..10_000).filter(|&number| ghost.take(hash(number)).is_some());
        assert!(recent.count() > 90, "the newest are the ones that are kept");
    }

    #[test]
    fn what_left_a_night_ago_makes_room_for_what_leaves_now() {
        for hours in [1, 8, 10, 14, 17] {
            let mut ghost = Ghost::default();
            for number in 0..2_000 {
                ghost.insert(hash(number), used_at(1_000 + number as u32 / 20), 1_000);
            }
            let now = 1_100 + hours * 3_600;
            for number in 2_000..2_500 {
                ghost.insert(hash(number), used_at(now), 1_000);
            }
            let known = (2_000..2_500).filter(|&number| ghost.take(hash(number)).is_some());
            assert!(known.count() > 450, "after {hours} hours");
        }
    }

    #[test]
    fn growing_keeps_what_was_known() {
        let mut ghost = Ghost::default();
        for number in 0..8 {
            ghost.insert(hash(number), used_at(5), 8);
        }
        ghost.insert(hash(100), used_at(5), 2_000);
        assert!(
            (0..8)
                .filter(|&number| ghost.take(hash(number)).is_some())
                .count()
                >= 6
        );
    }
}
