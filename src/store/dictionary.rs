//! Dictionaries: blocks of bytes that packed values need to be read again.
//!
//! Part of the heap, in front of the segments, so that a process which takes the heap over can read
//! what it finds there. The store knows nothing of what is in them: the engine adds one
//! ([`Store::add_dictionary`]), packs values with it, and names it in each [`Put`](super::Put); the
//! store counts who needs it. A reference is the engine's own while the dictionary is *open* for new
//! values, an item's while the index knows the item, or a [`DictionaryHold`]: that of a value which
//! has been packed and not been stored yet.
//!
//! # Layout
//!
//! [`DICTIONARIES_MAX`] slots of one page and [`DICTIONARY_BYTES_MAX`] bytes each, sparse (`geometry`):
//!
//! ```text
//! word 0   number, 0 while the slot is free      word 2   checksum
//! word 1   length                                word 3   the last number that the slot had
//! 4096     bytes
//! ```
//!
//! Invariants:
//! - a number names one dictionary from its adding until nothing needs it; its last three bits are
//!   its slot;
//! - a count that has reached zero stays there: only a reference makes another one, so a dictionary
//!   that was let go is never needed again and may be freed at any time;
//! - the slot's bytes are written before its number, and not changed while it has one;
//! - what dictionaries take, the engine's working copies included, counts against the memory limit.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::geometry::{self, DICTIONARIES_MAX, DICTIONARY_BYTES_MAX};
use super::heap::Heap;
use super::item::Header;
use super::packing::{DictionaryNumber, Packing};
use super::segment::Kind;
use super::{Cause, Store};

const PAGE_BYTES: u64 = 4096;

/// One slot's count, and what it is charged for.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Number in the upper half, references in the lower one; 0 while the slot is free. In one word,
    /// so that a reference is never taken to another dictionary than the one meant.
    references: AtomicU64,
    /// Bytes charged against the memory limit.
    bytes: AtomicU64,
}

impl Slot {
    fn is(state: u64, number: DictionaryNumber) -> bool {
        state >> 32 == u64::from(number.get())
    }

    /// Adds a reference to one that the caller knows of.
    fn add(&self) {
        self.references.fetch_add(1, Relaxed);
    }

    /// Adds a reference if there is any.
    fn add_if_needed(&self, number: DictionaryNumber) -> bool {
        let more = |state| {
            let is_needed = Self::is(state, number) && state as u32 > 0;
            is_needed.then_some(state + 1)
        };
        self.references.fetch_update(Acquire, Relaxed, more).is_ok()
    }

    fn release(&self) {
        // Release pairs with the acquire of who frees the slot.
        self.references.fetch_sub(1, Release);
    }
}

/// What the lock of the dictionaries protects: which of them are open for new values.
#[derive(Debug, Default)]
pub(super) struct Open([bool; DICTIONARIES_MAX]);

/// All slots.
#[derive(Debug, Default)]
pub(super) struct Dictionaries {
    slots: [Slot; DICTIONARIES_MAX],
    open: parking_lot::Mutex<Open>,
}

impl Dictionaries {
    fn slot(&self, number: DictionaryNumber) -> &Slot {
        &self.slots[number.slot()]
    }

    /// Counts an item that the index now knows. There is a reference already.
    pub(super) fn acquire(&self, packing: Packing) {
        if let Some(number) = packing.dictionary() {
            self.slot(number).add();
        }
    }

    /// Counts an item that the index no longer knows.
    pub(super) fn release(&self, packing: Packing) {
        if let Some(number) = packing.dictionary() {
            self.slot(number).release();
        }
    }

    /// Whether the dictionary that is needed is there. For a heap that is being taken over.
    pub(super) fn has(&self, packing: Packing) -> bool {
        packing
            .dictionary()
            .is_none_or(|number| Slot::is(self.slot(number).references.load(Relaxed), number))
    }

    /// References of a dictionary, without the engine's own.
    pub(super) fn needed_by(&self, number: DictionaryNumber) -> u32 {
        let state = self.slot(number).references.load(Acquire);
        let open = self.open.lock().0[number.slot()];
        (state as u32).saturating_sub(u32::from(open))
    }

    /// All that are there, open or not.
    pub(super) fn numbers(&self) -> impl Iterator<Item = DictionaryNumber> {
        let number = |slot: &Slot| (slot.references.load(Relaxed) >> 32) as u16;
        self.slots
            .iter()
            .map(number)
            .filter_map(DictionaryNumber::new)
    }

    /// Bytes charged.
    pub(super) fn bytes(&self) -> u64 {
        self.slots.iter().map(|slot| slot.bytes.load(Relaxed)).sum()
    }
}

/// Keeps a dictionary while a value packed with it is on its way into the store.
pub struct DictionaryHold<'s> {
    store: &'s Store,
    number: DictionaryNumber,
}

impl Drop for DictionaryHold<'_> {
    fn drop(&mut self) {
        self.store.dictionaries.slot(self.number).release();
    }
}

impl Store {
    /// Keeps a dictionary and opens it for new values; `memory_bytes` is what the caller's working
    /// copies take beside it. May let items leave for the room. `None` if [`DICTIONARIES_MAX`] are
    /// alive, it is empty or too long, all together would take more than a quarter of the memory limit,
    /// or no room can be made.
    ///
    /// Copies the bytes under the heap lock: rare, some microseconds.
    pub fn add_dictionary(
        &self,
        bytes: &[u8],
        memory_bytes: usize,
        now_seconds: u32,
    ) -> Option<DictionaryNumber> {
        if bytes.is_empty() || bytes.len() > DICTIONARY_BYTES_MAX {
            return None;
        }
        let charge = charge(bytes.len(), memory_bytes);
        let mut log = self.log.lock();
        let mut open = self.dictionaries.open.lock();
        if self.dictionaries.bytes() + charge > self.limit_bytes.load(Relaxed) / 4 {
            return None;
        }
        let is_free = |slot: &Slot| slot.references.load(Acquire) == 0;
        let slot = self.dictionaries.slots.iter().position(is_free)?;
        let segments = charge.div_ceil(self.geometry.segment_bytes) as u32;
        self.make_room(&mut log, segments, charge as usize, now_seconds)
            .ok()?;
        let number = Entry::at(&self.heap, slot).write(slot, bytes)?;
        self.charge(&self.dictionaries.slots[slot], charge);
        open.0[slot] = true;
        let state = u64::from(number.get()) << 32 | 1;
        // Release: who takes a reference sees what was written.
        self.dictionaries.slots[slot]
            .references
            .store(state, Release);
        Some(number)
    }

    /// Changes what the caller's working copies of a dictionary are charged, after taking a heap
    /// over.
    pub fn charge_dictionary(&self, number: DictionaryNumber, memory_bytes: usize) {
        let _open = self.dictionaries.open.lock();
        let slot = self.dictionaries.slot(number);
        if Slot::is(slot.references.load(Relaxed), number) {
            let length = Entry::at(&self.heap, number.slot()).length();
            self.charge(slot, charge(length, memory_bytes));
        }
    }

    fn charge(&self, slot: &Slot, bytes: u64) {
        let before = slot.bytes.swap(bytes, Relaxed);
        self.table_bytes
            .fetch_add(bytes as i64 - before as i64, Relaxed);
    }

    /// Keeps a dictionary for a value that has been packed with it; `None` if nothing needed it any
    /// more. The value must not be stored then. Two atomic operations, no lock.
    pub fn hold_dictionary(&self, number: DictionaryNumber) -> Option<DictionaryHold<'_>> {
        let held = self.dictionaries.slot(number).add_if_needed(number);
        // Made only where there is a reference: it releases one when it is dropped.
        held.then(|| DictionaryHold {
            store: self,
            number,
        })
    }

    /// Items that need a dictionary, those on their way into the store included.
    pub fn dictionary_items(&self, number: DictionaryNumber) -> u32 {
        self.dictionaries.needed_by(number)
    }

    /// All dictionaries, for reading what is packed with them: number and bytes.
    pub fn dictionaries(&self) -> Vec<(DictionaryNumber, Vec<u8>)> {
        let _open = self.dictionaries.open.lock();
        let bytes = |number: DictionaryNumber| Entry::at(&self.heap, number.slot()).bytes().into();
        self.dictionaries
            .numbers()
            .map(|number| (number, bytes(number)))
            .collect()
    }

    /// Ends the use of a dictionary for new values: it goes once no item needs it.
    pub fn close_dictionary(&self, number: DictionaryNumber) {
        let mut open = self.dictionaries.open.lock();
        if std::mem::take(&mut open.0[number.slot()]) {
            self.dictionaries.slot(number).release();
        }
    }

    /// Frees the dictionaries that nothing needs; gives their numbers.
    pub fn free_dictionaries(&self) -> Vec<DictionaryNumber> {
        let _open = self.dictionaries.open.lock();
        let numbers: Vec<DictionaryNumber> = self.dictionaries.numbers().collect();
        let unneeded = |number: &DictionaryNumber| {
            // Acquire: whoever needed it has done with it.
            self.dictionaries.slot(*number).references.load(Acquire) as u32 == 0
        };
        let freed: Vec<DictionaryNumber> = numbers.into_iter().filter(unneeded).collect();
        for number in &freed {
            Entry::at(&self.heap, number.slot()).clear();
            let slot = self.dictionaries.slot(*number);
            self.charge(slot, 0);
            slot.references.store(0, Release);
        }
        freed
    }

    /// Lets all items leave that need a dictionary, segment by segment. Items that are being written
    /// stay: call it again until [`Store::dictionary_items`] is 0. For a background thread.
    pub fn evict_dictionary(&self, number: DictionaryNumber, now_seconds: u32) {
        let mut segment = 0;
        loop {
            let log = self.log.lock();
            if segment >= log.fresh() {
                return;
            }
            let header = self.segments().header(segment);
            // Acquire: what its writers published is seen. While the heap lock is held no one begins
            // to write there.
            let unwritten = self.states[segment as usize].writers.load(Acquire) == 0;
            let has_items = matches!(header.kind(), Some(Kind::Open | Kind::Sealed | Kind::Head));
            if has_items && unwritten {
                let needs = |item: &Header<'_>| item.packing().dictionary() == Some(number);
                self.empty(segment, now_seconds, |item| {
                    needs(item).then_some(Cause::Evicted)
                });
            }
            drop(log);
            segment += 1;
        }
    }

    /// Finds the dictionaries of a heap that another process wrote; each is open, and needed by
    /// nobody so far. A damaged one is dropped, and with it the items that need it.
    pub(super) fn recover_dictionaries(&self) {
        let mut open = self.dictionaries.open.lock();
        for (slot, state) in self.dictionaries.slots.iter().enumerate() {
            let entry = Entry::at(&self.heap, slot);
            let Some(number) = entry.sound_number(slot) else {
                entry.clear();
                continue;
            };
            open.0[slot] = true;
            self.charge(state, charge(entry.length(), 0));
            state
                .references
                .store(u64::from(number.get()) << 32 | 1, Relaxed);
        }
    }

    /// Compares the counts with the items that were found. Only while nobody writes.
    pub(super) fn audit_dictionaries(&self, found: &[u32; DICTIONARIES_MAX]) -> Result<(), String> {
        for (slot, &found) in found.iter().enumerate() {
            let state = self.dictionaries.slots[slot].references.load(Acquire);
            let number = DictionaryNumber::new((state >> 32) as u16);
            let counted = number.map_or(0, |number| self.dictionaries.needed_by(number));
            if counted != found {
                return Err(format!(
                    "{found} items need dictionary {number:?}, {counted} are counted"
                ));
            }
        }
        Ok(())
    }
}

/// Whole pages of the heap, and the working copies.
fn charge(length: usize, memory_bytes: usize) -> u64 {
    PAGE_BYTES + (length as u64).next_multiple_of(PAGE_BYTES) + memory_bytes as u64
}

/// A slot in the heap.
struct Entry<'h> {
    heap: &'h Heap,
    start: u64,
}

impl<'h> Entry<'h> {
    fn at(heap: &'h Heap, slot: usize) -> Entry<'h> {
        Entry {
            heap,
            start: geometry::dictionary_start(slot),
        }
    }

    fn word(&self, word: u64) -> &std::sync::atomic::AtomicU32 {
        self.heap.word(self.start + 4 * word)
    }

    fn length(&self) -> usize {
        self.word(1).load(Relaxed) as usize
    }

    /// The bytes. The caller holds the dictionaries' lock, under which alone they change.
    fn bytes(&self) -> &'h [u8] {
        let length = self.length().min(DICTIONARY_BYTES_MAX);
        self.heap.bytes(self.start + PAGE_BYTES, length)
    }

    /// Writes a dictionary into a free slot; its number comes last.
    fn write(&self, slot: usize, bytes: &[u8]) -> Option<DictionaryNumber> {
        let last = self.word(3).load(Relaxed) as u16;
        let number = DictionaryNumber::after(last, slot)?;
        self.heap.write(self.start + PAGE_BYTES, bytes);
        self.word(1).store(bytes.len() as u32, Relaxed);
        self.word(2).store(checksum(number, bytes), Relaxed);
        self.word(3).store(number.get().into(), Relaxed);
        self.word(0).store(number.get().into(), Release);
        Some(number)
    }

    /// Frees the slot and gives its memory back; a failure to do so leaves it for the next one.
    fn clear(&self) {
        self.word(0).store(0, Relaxed);
        let _ = self
            .heap
            .punch(self.start + PAGE_BYTES, DICTIONARY_BYTES_MAX as u64);
    }

    /// The number of what lies here, if it is whole.
    fn sound_number(&self, slot: usize) -> Option<DictionaryNumber> {
        let number = u16::try_from(self.word(0).load(Acquire)).ok()?;
        let number = DictionaryNumber::new(number).filter(|number| number.slot() == slot)?;
        let length = self.length();
        let sound = length > 0
            && length <= DICTIONARY_BYTES_MAX
            && checksum(number, self.bytes()) == self.word(2).load(Relaxed);
        sound.then_some(number)
    }
}

fn checksum(number: DictionaryNumber, bytes: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&number.get().to_le_bytes());
    checksum.update(&(bytes.len() as u64).to_le_bytes());
    checksum.update(bytes);
    checksum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Options;

    #[test]
    fn a_dictionary_that_nothing_needs_cannot_be_held_again() {
        let store = Store::new(&Options::default()).unwrap();
        let number = store.add_dictionary(b"bytes", 0, 100).unwrap();
        let held = store.hold_dictionary(number).unwrap();
        store.close_dictionary(number);
        assert!(store.free_dictionaries().is_empty(), "it is held");
        drop(held);
        assert!(store.hold_dictionary(number).is_none());
        assert!(store.hold_dictionary(number).is_none());
        assert_eq!(store.free_dictionaries(), [number]);
        let next = store.add_dictionary(b"others", 0, 100).unwrap();
        assert_eq!(next.slot(), number.slot());
        assert!(next != number && store.hold_dictionary(number).is_none());
    }

    #[test]
    fn dictionaries_take_at_most_a_quarter_of_the_memory() {
        let store = Store::new(&Options {
            memory_limit_bytes: 8 << 20,
            ..Options::default()
        })
        .unwrap();
        let megabyte = || store.add_dictionary(&[7; 1_000], 1 << 20, 100);
        assert!(megabyte().is_some());
        assert!(megabyte().is_none());
        assert!(store.add_dictionary(&[7; 1_000], 1 << 19, 100).is_some());
        assert!(store.usage().dictionary_bytes <= 2 << 20);
    }
}
