//! The ghost: which keys left not long ago.
//!
//! One for each shard of the index, under the shard's lock. A key that comes back while its ghost is
//! here has shown that it is used more than once; `returns` decides what that means. Of a key from which
//! it learns nothing the cause alone is noted, so that a miss can be told from that of a key never seen. It
//! holds as many keys as `eviction` says, in 8 bytes each: 28 bits of the key's hash, and how it left.
//!
//! Invariants:
//! - bounded, by the items that there are, or were when none had to leave for others: a bucket of eight, and in it the one that was used the longest ago makes room; a ninth entry
//!   is for notes alone;
//! - a note never takes the place of a key from which `returns` learns, and always makes room for one;
//! - a false positive (two keys with the same 28 bits) costs a place in the main chain, or a miss that is
//!   counted wrongly, never a wrong value.

use super::Cause;
use super::returns::Departure;
use super::segment::Chain;
use super::time_left::TimeLeft;

/// Entries of a bucket for keys from which `returns` learns.
const BUCKET: usize = 8;
/// All of them.
const BUCKET_WITH_NOTE: usize = BUCKET + 1;
const FINGERPRINT_BITS: u32 = 28;
const FINGERPRINT_SHIFT: u32 = 36;
const CHAIN_SHIFT: u32 = 34;
const TURN_SHIFT: u32 = 22;
const TIME_LEFT_SHIFT: u32 = 16;

/// What is known of a key that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was in use: what `returns` learns from.
    Used(Departure),
    /// Why it left, and no more.
    Noted(Cause),
}

impl Known {
    /// Why the key is not there now.
    pub fn cause(&self, now_seconds: u32) -> Cause {
        match self {
            Known::Used(departure) => departure.cause(now_seconds),
            Known::Noted(cause) => *cause,
        }
    }
}

/// Keys that left one shard.
#[derive(Debug, Default)]
pub struct Ghost {
    /// `BUCKET_WITH_NOTE` entries a bucket; 0 is an empty entry. An entry is fingerprint (28 bits), chain (2),
    /// turn (12), time left (6), second (16); of a note the chain is 0 and the turn the number of its cause plus 1.
    entries: Vec<u64>,
}

impl Ghost {
    /// Remembers how a key leaves that was in use, and about so many keys.
    pub fn insert(&mut self, hash: u64, departure: Departure, keys: usize) {
        match departure.chain {
            Some(_) => self.fit(keys),
            // While items leave by themselves there is room to remember them all.
            None => self.grow(keys),
        }
        let fingerprint = fingerprint(hash);
        let bucket = self.bucket(fingerprint);
        let entries = &mut self.entries[bucket];
        if let Some(noted) = position(entries, fingerprint).filter(|&slot| is_free(entries[slot])) {
            entries[noted] = 0;
        }
        let older_by = |&(_, &entry): &(usize, &u64)| match is_free(entry) {
            true => i32::MAX,
            false => older_by_seconds(used_at_seconds(entry), departure.used_at_seconds),
        };
        let slot = position(entries, fingerprint).or_else(|| {
            let oldest = entries[..BUCKET].iter().enumerate().max_by_key(older_by);
            oldest.map(|(slot, _)| slot)
        });
        let Some(slot) = slot else {
            return;
        };
        let entry = u64::from(fingerprint) << FINGERPRINT_SHIFT | packed(&departure);
        let displaced = std::mem::replace(&mut entries[slot], entry);
        if is_free(displaced)
            && let Some(empty) = entries.iter_mut().find(|entry| **entry == 0)
        {
            *empty = displaced;
        }
    }

    /// Notes why a key leaves from which nothing is learnt, where that costs no other key its place; room for
    /// about so many keys is kept, and more if there is.
    pub fn note(&mut self, hash: u64, cause: Cause, now_seconds: u32, keys: usize) {
        self.grow(keys);
        let fingerprint = fingerprint(hash);
        let bucket = self.bucket(fingerprint);
        let entries = &mut self.entries[bucket];
        let older_by = |&slot: &usize| match entries[slot] {
            0 => i32::MAX,
            noted => older_by_seconds(used_at_seconds(noted), now_seconds),
        };
        let slot = position(entries, fingerprint).or_else(|| {
            let free = (0..entries.len()).filter(|&slot| is_free(entries[slot]));
            free.max_by_key(older_by)
        });
        if let Some(slot) = slot.filter(|&slot| is_free(entries[slot])) {
            let second = u64::from(now_seconds & Departure::SECONDS_MASK);
            let detail = (cause as u64 + 1) << TURN_SHIFT | second;
            entries[slot] = u64::from(fingerprint) << FINGERPRINT_SHIFT | detail;
        }
    }

    /// Forgets a key; says how it left, if it was known.
    pub fn take(&mut self, hash: u64) -> Option<Known> {
        let at = self.place(hash)?;
        unpacked(std::mem::take(&mut self.entries[at]))
    }

    /// How a key left, if it is known.
    pub fn known(&self, hash: u64) -> Option<Known> {
        let at = self.place(hash)?;
        unpacked(self.entries[at])
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<u64>()
    }

    /// Where a key is.
    fn place(&self, hash: u64) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let fingerprint = fingerprint(hash);
        let bucket = self.bucket(fingerprint);
        let begin = bucket.start;
        position(&self.entries[bucket], fingerprint).map(|slot| begin + slot)
    }

    fn bucket(&self, fingerprint: u32) -> std::ops::Range<usize> {
        let buckets = (self.entries.len() / BUCKET_WITH_NOTE) as u64;
        let number = ((u64::from(fingerprint) * buckets) >> FINGERPRINT_BITS) as usize;
        number * BUCKET_WITH_NOTE..(number + 1) * BUCKET_WITH_NOTE
    }

    fn held(&self) -> usize {
        self.entries.len() / BUCKET_WITH_NOTE * BUCKET
    }

    /// Grows to about `wanted` keys, if it is smaller.
    fn grow(&mut self, wanted: usize) {
        if self.held() < wanted.max(1) {
            self.fit(wanted);
        }
    }

    /// Grows or shrinks to about `wanted` keys, keeping what fits, those in use first.
    fn fit(&mut self, wanted: usize) {
        let wanted = wanted.max(1).next_multiple_of(BUCKET);
        let held = self.held();
        if wanted <= held && held <= 2 * wanted + 4 * BUCKET {
            return;
        }
        let length = if wanted > held {
            (wanted + wanted / 4).next_multiple_of(BUCKET)
        } else {
            wanted
        };
        let room = vec![0; length / BUCKET * BUCKET_WITH_NOTE];
        let old = std::mem::replace(&mut self.entries, room);
        let used = old.iter().filter(|&&entry| !is_free(entry));
        used.for_each(|&entry| self.keep(entry, BUCKET));
        let noted = old.iter().filter(|&&entry| entry != 0 && is_free(entry));
        noted.for_each(|&entry| self.keep(entry, BUCKET_WITH_NOTE));
    }

    /// Puts an entry into the first empty place of its bucket's first so many.
    fn keep(&mut self, entry: u64, places: usize) {
        let bucket = self.bucket((entry >> FINGERPRINT_SHIFT) as u32);
        let mut places = self.entries[bucket].iter_mut().take(places);
        if let Some(empty) = places.find(|slot| **slot == 0) {
            *empty = entry;
        }
    }
}

/// What of a key's hash is kept.
fn fingerprint(hash: u64) -> u32 {
    hash as u32 >> (u32::BITS - FINGERPRINT_BITS)
}

/// The entry of a fingerprint among these.
fn position(entries: &[u64], fingerprint: u32) -> Option<usize> {
    let same = |&entry: &u64| (entry >> FINGERPRINT_SHIFT) as u32 == fingerprint && entry != 0;
    entries.iter().position(same)
}

/// Whether an entry is empty or a note: what makes room for a key in use.
fn is_free(entry: u64) -> bool {
    entry >> CHAIN_SHIFT & 3 == 0
}

fn used_at_seconds(entry: u64) -> u32 {
    entry as u32 & Departure::SECONDS_MASK
}

/// By how much one key was used before another, or after it if negative. Seconds wrap, so that only
/// differences tell.
fn older_by_seconds(known_at: u32, leaving_at: u32) -> i32 {
    /// What leaves may have been used that long before what left already.
    const AHEAD_MAX: u32 = Departure::SECONDS_MASK / 16;
    let difference = leaving_at.wrapping_sub(known_at) & Departure::SECONDS_MASK;
    match difference > Departure::SECONDS_MASK - AHEAD_MAX {
        true => difference as i32 - Departure::SECONDS_MASK as i32 - 1,
        false => difference as i32,
    }
}

/// An entry but for its fingerprint.
fn packed(departure: &Departure) -> u64 {
    let chain = match departure.chain {
        None => 1,
        Some(Chain::Probation) => 2,
        Some(Chain::Main) => 3,
    };
    let turn = u64::from(departure.turn & Departure::TURN_MASK);
    let second = u64::from(departure.used_at_seconds & Departure::SECONDS_MASK);
    let time_left = departure.time_left.bits();
    chain << CHAIN_SHIFT | turn << TURN_SHIFT | time_left << TIME_LEFT_SHIFT | second
}

/// What an entry says.
fn unpacked(entry: u64) -> Option<Known> {
    let turn = (entry >> TURN_SHIFT) as u32 & Departure::TURN_MASK;
    let chain = match entry >> CHAIN_SHIFT & 3 {
        0 => {
            let cause = Cause::ALL.get((turn as usize).checked_sub(1)?);
            return cause.copied().map(Known::Noted);
        }
        2 => Some(Chain::Probation),
        3 => Some(Chain::Main),
        _ => None,
    };
    Some(Known::Used(Departure {
        chain,
        turn,
        used_at_seconds: used_at_seconds(entry),
        time_left: TimeLeft::from_bits(entry >> TIME_LEFT_SHIFT),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
    }

    fn cause_of(ghost: &Ghost, hash: u64, now_seconds: u32) -> Option<Cause> {
        ghost.known(hash).map(|known| known.cause(now_seconds))
    }

    fn used_at(second: u32) -> Departure {
        Departure {
            chain: Some(Chain::Main),
            turn: 5,
            used_at_seconds: second,
            time_left: TimeLeft::ENDLESS,
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
                time_left: TimeLeft::of(100, 400),
            };
            ghost.insert(hash(1), departure, 100);
            assert_eq!(cause_of(&ghost, hash(1), 399), Some(departure.cause(399)));
            assert_eq!(ghost.take(hash(1)), Some(Known::Used(departure)));
            assert_eq!(ghost.take(hash(1)), None);
        }
    }

    #[test]
    fn it_remembers_as_many_keys_as_it_is_told_and_stays_bounded() {
        let mut ghost = Ghost::default();
        for number in 0..10_000 {
            ghost.insert(hash(number), used_at(number as u32), 200);
        }
        assert!(ghost.bytes() <= 8 * 360, "{} bytes", ghost.bytes());
        let recent = (9_900..10_000).filter(|&number| ghost.take(hash(number)).is_some());
        assert!(recent.count() > 90, "the newest are the ones that are kept");
    }

    #[test]
    fn a_cause_is_noted_where_there_is_room_and_forgotten_first() {
        let mut ghost = Ghost::default();
        for (number, cause) in [Cause::Expired, Cause::Deleted, Cause::Flushed]
            .into_iter()
            .enumerate()
        {
            let key = hash(number as u64);
            ghost.note(key, cause, 100, 100);
            assert_eq!(cause_of(&ghost, key, 100), Some(cause));
            assert_eq!(ghost.take(key), Some(Known::Noted(cause)));
            assert_eq!(cause_of(&ghost, key, 100), None);
        }
        ghost.note(hash(1), Cause::Deleted, 100, 100);
        ghost.insert(hash(1), used_at(100), 100);
        ghost.note(hash(1), Cause::Deleted, 100, 100);
        assert_eq!(ghost.take(hash(1)), Some(Known::Used(used_at(100))));
        assert_eq!(ghost.take(hash(1)), None, "it was there once");
    }

    #[test]
    fn notes_cost_no_key_in_use_its_place_and_find_some_of_their_own() {
        let (mut with, mut without) = (Ghost::default(), Ghost::default());
        let keys = 400;
        let fill = |ghost: &mut Ghost, from: u64| {
            for number in from..from + 1_000 {
                ghost.insert(hash(number), used_at(number as u32 / 9), keys);
            }
        };
        fill(&mut with, 0);
        fill(&mut without, 0);
        (0..2_000)
            .for_each(|number| with.note(hash(number * 3 + 90_000), Cause::Deleted, 60_000, keys));
        fill(&mut with, 1_000);
        fill(&mut without, 1_000);
        let latest =
            (90_000..96_000).filter(|&number| cause_of(&with, hash(number), 100).is_some());
        assert!(latest.count() > 30, "one of a bucket at least");
        (0..2_000).for_each(|number| {
            assert_eq!(with.take(hash(number)), without.take(hash(number)));
        });
    }

    #[test]
    fn when_everything_is_flushed_most_of_it_is_remembered() {
        let mut ghost = Ghost::default();
        (0..1_000).for_each(|number| {
            let left = 1_000 - number as usize;
            ghost.note(hash(number), Cause::Flushed, 50, left * 2);
        });
        let known = (0..1_000).filter(|&number| cause_of(&ghost, hash(number), 100).is_some());
        assert!(known.count() > 990);
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
