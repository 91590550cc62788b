//! The index of one shard: from a key's hash to its item's place in the heap.
//!
//! Called by the store under the shard's lock. An open-addressed table of 8-byte slots, sorted by
//! tag: a key's home follows from its tag by multiplication, slots behind it are searched in order,
//! and a larger tag or an empty slot ends the search. Sorting makes growth a single pass that needs
//! no key and no hash, so the table can grow by a quarter at a time and costs at most 12 bytes an item.
//!
//! Invariants:
//! - occupied slots are in the order of their tags, and no empty slot lies between a slot and its home;
//! - a tag is no proof: the caller compares the full key of every place that a search gives.

use super::ghost::Ghost;

const TAG_BITS: u32 = 24;
const PLACE_BITS: u32 = 40;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;
/// Places are counted in units of 4 bytes, so 40 bits reach 4 TiB.
const PLACE_UNIT: u64 = 4;
/// Slots behind the last home, more where they are needed, so that a search never wraps around.
const TAIL: usize = 16;
/// Slots of an empty table.
const SLOTS_MIN: usize = 8;

/// The 24 bits of a hash by which the index sorts.
fn tag(hash: u64) -> u64 {
    hash >> 24 & ((1 << TAG_BITS) - 1)
}

/// The places of one tag; a plain loop, since every look-up runs through it.
#[derive(Debug)]
pub struct Candidates<'s> {
    slots: std::slice::Iter<'s, u64>,
    least: u64,
}

impl Iterator for Candidates<'_> {
    type Item = u64;

    #[inline(always)]
    fn next(&mut self) -> Option<u64> {
        loop {
            let slot = *self.slots.next()?;
            if slot == 0 || slot > self.least + PLACE_MASK {
                return None;
            }
            if slot >= self.least {
                return Some(position(slot));
            }
        }
    }
}

/// One shard: its table and the ghost of what left it.
#[derive(Debug)]
pub struct Shard {
    slots: Vec<u64>,
    homes: usize,
    items: usize,
    /// Keys that left this shard.
    pub ghost: Ghost,
}

impl Default for Shard {
    fn default() -> Shard {
        Shard {
            slots: vec![0; SLOTS_MIN + TAIL],
            homes: SLOTS_MIN,
            items: 0,
            ghost: Ghost::default(),
        }
    }
}

impl Shard {
    /// The positions of items whose keys may be the one hashed.
    #[inline(always)]
    pub fn candidates(&self, hash: u64) -> Candidates<'_> {
        let tag = tag(hash);
        Candidates {
            slots: self.slots[self.home(tag)..].iter(),
            least: tag << PLACE_BITS,
        }
    }

    /// Adds an item. The caller has made sure that its key is not there.
    pub fn insert(&mut self, hash: u64, place: u64) {
        debug_assert!(place.is_multiple_of(PLACE_UNIT) && place / PLACE_UNIT <= PLACE_MASK);
        // At most 6/7 full.
        if self.items * 7 >= self.homes * 6 {
            self.resize(self.homes + self.homes / 4);
        }
        let slot = (tag(hash) << PLACE_BITS) | (place / PLACE_UNIT);
        insert_in_order(&mut self.slots, self.homes, slot);
        self.items += 1;
    }

    /// Removes the item at `place`; says whether it was there.
    pub fn remove(&mut self, hash: u64, place: u64) -> bool {
        let Some(found) = self.slot_of(hash, place) else {
            return false;
        };
        let mut hole = found;
        while self.slots[hole + 1] != 0 && self.home(self.slots[hole + 1] >> PLACE_BITS) <= hole {
            self.slots[hole] = self.slots[hole + 1];
            hole += 1;
        }
        self.slots[hole] = 0;
        self.items -= 1;
        if self.homes > SLOTS_MIN && self.items * 3 < self.homes * 2 {
            self.resize((self.items * 5 / 4).max(SLOTS_MIN));
        }
        true
    }

    /// Points the entry of the item at `from` to `to`; says whether it was there.
    pub fn relocate(&mut self, hash: u64, from: u64, to: u64) -> bool {
        match self.slot_of(hash, from) {
            Some(slot) => {
                self.slots[slot] = (tag(hash) << PLACE_BITS) | (to / PLACE_UNIT);
                true
            }
            None => false,
        }
    }

    /// Whether the item at `place` is the one that the index knows.
    pub fn contains(&self, hash: u64, place: u64) -> bool {
        self.slot_of(hash, place).is_some()
    }

    /// Items in this shard.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Bytes that table and ghost take.
    pub fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u64>() + self.ghost.bytes()
    }

    fn home(&self, tag: u64) -> usize {
        home(tag, self.homes)
    }

    fn slot_of(&self, hash: u64, place: u64) -> Option<usize> {
        let wanted = (tag(hash) << PLACE_BITS) | (place / PLACE_UNIT);
        let start = self.home(tag(hash));
        let searched = self.slots[start..]
            .iter()
            .take_while(|&&slot| slot != 0 && slot >> PLACE_BITS <= tag(hash));
        searched
            .enumerate()
            .find(|&(_, &slot)| slot == wanted)
            .map(|(offset, _)| start + offset)
    }

    /// Lays the slots out over another number of homes.
    fn resize(&mut self, homes: usize) {
        let homes = homes.max(SLOTS_MIN);
        let mut slots = vec![0; homes + TAIL];
        let mut next = 0;
        for &slot in self.slots.iter().filter(|&&slot| slot != 0) {
            let place = home(slot >> PLACE_BITS, homes).max(next);
            next = place + 1;
            keep_last_empty(&mut slots, next);
            slots[place] = slot;
        }
        self.slots = slots;
        self.homes = homes;
    }
}

fn position(slot: u64) -> u64 {
    (slot & PLACE_MASK) * PLACE_UNIT
}

fn home(tag: u64, homes: usize) -> usize {
    ((tag * homes as u64) >> TAG_BITS) as usize
}

/// Puts `slot` in its order, moving later ones on.
fn insert_in_order(slots: &mut Vec<u64>, homes: usize, slot: u64) {
    let tag = slot >> PLACE_BITS;
    let mut at = home(tag, homes);
    while slots[at] != 0 && slots[at] >> PLACE_BITS <= tag {
        at += 1;
    }
    let run = slots[at..].iter().take_while(|&&slot| slot != 0).count();
    keep_last_empty(slots, at + run + 1);
    slots.copy_within(at..at + run, at + 1);
    slots[at] = slot;
}

/// Lengthens the tail so that `used` slots are not all: an empty one ends every search.
fn keep_last_empty(slots: &mut Vec<u64>, used: usize) {
    if used >= slots.len() {
        slots.resize(used + TAIL, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number << 40
    }

    fn check(shard: &Shard) {
        let occupied: Vec<(usize, u64)> = (0..shard.slots.len())
            .map(|at| (at, shard.slots[at]))
            .filter(|&(_, slot)| slot != 0)
            .collect();
        assert_eq!(occupied.len(), shard.items);
        for pair in occupied.windows(2) {
            assert!(pair[0].1 >> PLACE_BITS <= pair[1].1 >> PLACE_BITS);
        }
        for (at, slot) in occupied {
            let home = shard.home(slot >> PLACE_BITS);
            assert!(home <= at && shard.slots[home..at].iter().all(|&slot| slot != 0));
        }
        assert_eq!(shard.slots.last(), Some(&0));
    }

    #[test]
    fn it_holds_what_a_set_holds_through_growth_and_shrinking() {
        let mut shard = Shard::default();
        let mut model = BTreeSet::new();
        for step in 0..20_000u64 {
            let number = step * 7_919 % 3_001 + 1;
            // The second half of the steps mostly removes.
            let removes = step % 5 >= if step < 10_000 { 4 } else { 1 };
            if removes {
                assert_eq!(
                    shard.remove(hash(number), number * 4),
                    model.remove(&number)
                );
            } else if model.insert(number) {
                shard.insert(hash(number), number * 4);
            }
            if step % 97 == 0 {
                check(&shard);
            }
        }
        for number in 1..=3_001 {
            let found = shard
                .candidates(hash(number))
                .any(|place| place == number * 4);
            assert_eq!(found, model.contains(&number));
        }
    }

    #[test]
    fn an_item_costs_at_most_twelve_bytes_whatever_the_count() {
        let mut shard = Shard::default();
        for number in 1..40_000u64 {
            shard.insert(hash(number), number * 4);
            if number > 1_000 {
                assert!(shard.bytes() as u64 <= number * 12, "{number} items");
            }
        }
    }

    #[test]
    fn keys_with_one_tag_are_all_found() {
        let mut shard = Shard::default();
        for number in 1..200 {
            shard.insert(0, number * 4);
        }
        check(&shard);
        assert_eq!(shard.candidates(0).count(), 199);
        assert!(shard.relocate(0, 40, 4_000_000));
        assert!(shard.remove(0, 4_000_000) && !shard.remove(0, 40));
        check(&shard);
    }

    #[test]
    fn the_largest_tag_stays_within_the_table() {
        let mut shard = Shard::default();
        for number in 1..500 {
            shard.insert(u64::MAX, number * 4);
        }
        check(&shard);
        assert_eq!(shard.candidates(u64::MAX).count(), 499);
    }
}
