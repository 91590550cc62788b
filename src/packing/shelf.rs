//! The dictionaries that are alive, digested: which one packs a value, and which one unpacks it.
//!
//! Read on every request without a lock (a snapshot that is replaced as a whole, `arc_swap`); changed
//! when a dictionary comes or goes. Where there are several, since a cloud may show its projects
//! different catalogues, a token is packed with those of its own catalogue, that which packed the last
//! value first.
//!
//! Invariant: a dictionary is found by its whole number, so a value that needs one which has gone is
//! never read with another.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::codec::{Packer, Unpacker};
use crate::store::{DICTIONARIES_MAX, DictionaryNumber};
use crate::token::value;

/// A dictionary made ready for use, and not known to the store yet.
pub struct Digest {
    /// For packing.
    pub packer: Packer,
    /// For unpacking.
    pub unpacker: Unpacker,
    bytes: usize,
    catalogue: Option<Catalogue>,
}

/// What a catalogue is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Catalogue(u32);

impl Catalogue {
    /// That of a token, or of a dictionary, which has one token's catalogue. Costs a search up to where
    /// it begins.
    pub fn of(content: &[u8]) -> Option<Catalogue> {
        value::catalogue_begin(content).map(|begin| Catalogue(crc32fast::hash(begin)))
    }
}

impl Digest {
    /// Digests a dictionary: some 50 microseconds. `None` without memory.
    pub fn new(dictionary: &[u8]) -> Option<Digest> {
        Some(Digest {
            packer: Packer::new(dictionary)?,
            unpacker: Unpacker::new(dictionary)?,
            bytes: dictionary.len(),
            catalogue: Catalogue::of(dictionary),
        })
    }

    /// Bytes that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.packer.memory_bytes() + self.unpacker.memory_bytes()
    }
}

/// A dictionary of the store's.
pub struct Dictionary {
    /// Its number in the store.
    pub number: DictionaryNumber,
    /// What packs and unpacks with it.
    pub digest: Digest,
    /// What it is kept for, a [`Use`].
    used_for: AtomicU8,
    /// The second in which it was last known to pack or unpack a value.
    used_at: AtomicU32,
    /// Whether it has unpacked one since that was last looked at.
    was_read: AtomicBool,
    /// What values like the one it was made of are packed into, about; 0 before the first.
    typical_bytes: AtomicU32,
}

impl Dictionary {
    fn new(number: DictionaryNumber, digest: Digest, now_seconds: u32) -> Dictionary {
        Dictionary {
            number,
            digest,
            used_for: AtomicU8::new(Use::Packing as u8),
            used_at: AtomicU32::new(now_seconds),
            was_read: AtomicBool::new(false),
            typical_bytes: AtomicU32::new(0),
        }
    }

    fn is_open(&self) -> bool {
        self.used_for.load(Relaxed) == Use::Packing as u8
    }

    fn is_leaving(&self) -> bool {
        self.used_for.load(Relaxed) == Use::Leaving as u8
    }

    fn unused_seconds(&self, now_seconds: u32) -> u32 {
        now_seconds.saturating_sub(self.used_at.load(Relaxed))
    }

    /// Whether a value packed into so many bytes suits this dictionary, so that no other one is tried.
    /// Nothing does before it is known what the dictionary can do.
    pub fn suits(&self, packed_bytes: usize) -> bool {
        let typical = self.typical_bytes.load(Relaxed) as usize;
        packed_bytes < typical + typical / 8
    }

    /// Whether so many bytes are nothing unusual, so that the catalogue has hardly changed.
    pub fn expects(&self, packed_bytes: usize) -> bool {
        const ROOM_BYTES: usize = 64;
        let typical = self.typical_bytes.load(Relaxed) as usize;
        typical > 0 && packed_bytes <= typical + typical / 2 + ROOM_BYTES
    }

    /// Notes that it unpacks a value.
    pub fn note_read(&self) {
        if !self.was_read.load(Relaxed) {
            self.was_read.store(true, Relaxed);
        }
    }

    /// Notes that it packed a value, better than any other that was tried.
    pub fn note_won(&self, content_bytes: usize, packed_bytes: usize, now_seconds: u32) {
        if self.used_at.load(Relaxed) != now_seconds {
            self.used_at.store(now_seconds, Relaxed);
        }
        // A small value says nothing of the catalogue.
        if content_bytes * 2 < self.digest.bytes {
            return;
        }
        let typical = i64::from(self.typical_bytes.load(Relaxed));
        let packed = packed_bytes as i64;
        let next = if typical == 0 {
            packed
        } else if self.expects(packed_bytes) {
            typical + (packed - typical) / 8
        } else {
            // A value of another catalogue says little of this one.
            typical + 1
        };
        self.typical_bytes.store(next as u32, Relaxed);
    }

    /// Notes that another dictionary packed a value into so many bytes, better than this one. If both
    /// are of much the same catalogue, what was typical of this one is no longer good enough.
    pub fn note_lost(&self, least_bytes: usize) {
        let typical = self.typical_bytes.load(Relaxed) as usize;
        if (least_bytes..least_bytes * 2).contains(&typical) {
            self.typical_bytes.store(least_bytes as u32, Relaxed);
        }
    }
}

/// What a dictionary is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Use {
    /// It packs new values.
    Packing,
    /// A better one has taken its place: it is kept for the items that need it.
    Reading,
    /// It has to make room, and the items that need it leave.
    Leaving,
}

/// A dictionary that packs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// Its number.
    pub number: DictionaryNumber,
    /// Whether it has to go, and the items that need it; else it goes once none does.
    pub leaves: bool,
}

type Slots = [Option<Arc<Dictionary>>; DICTIONARIES_MAX];

/// All dictionaries, by slot.
pub struct Shelf {
    slots: ArcSwap<Slots>,
    /// The slot of the dictionary that packed the last value.
    last: AtomicUsize,
    changing: Mutex<()>,
}

impl Default for Shelf {
    fn default() -> Shelf {
        Shelf {
            slots: ArcSwap::default(),
            last: AtomicUsize::new(0),
            changing: Mutex::new(()),
        }
    }
}

impl Shelf {
    /// Runs `read` with the dictionary of this number, if it is alive.
    pub fn with<R>(
        &self,
        number: DictionaryNumber,
        read: impl FnOnce(Option<&Dictionary>) -> R,
    ) -> R {
        let slots = self.slots.load();
        let found = slots[number.slot()].as_deref();
        read(found.filter(|dictionary| dictionary.number == number))
    }

    /// Runs `choose` with the dictionaries that may pack a token of this catalogue: those of the same one,
    /// or, where there are none, all; that which packed the last value first. Says whether they are of the
    /// same one.
    pub fn with_open<R>(
        &self,
        catalogue: Option<Catalogue>,
        choose: impl FnOnce(&[&Dictionary], bool) -> R,
    ) -> R {
        let slots = self.slots.load();
        let last = self.last.load(Relaxed);
        let order = std::iter::once(last).chain((0..DICTIONARIES_MAX).filter(|&slot| slot != last));
        let open = order
            .filter_map(|slot| slots[slot].as_deref())
            .filter(|dictionary| dictionary.is_open());
        let mut open: SmallVec<[&Dictionary; DICTIONARIES_MAX]> = open.collect();
        let is_same = |dictionary: &&Dictionary| dictionary.digest.catalogue == catalogue;
        let is_known = open.iter().any(is_same);
        if is_known {
            open.retain(|dictionary| is_same(&&**dictionary));
        }
        choose(&open, is_known)
    }

    /// Makes a dictionary the one that is tried first.
    pub fn prefer(&self, number: DictionaryNumber) {
        if self.last.load(Relaxed) != number.slot() {
            self.last.store(number.slot(), Relaxed);
        }
    }

    /// Adds a dictionary that the store has taken, and prefers it.
    pub fn add(&self, number: DictionaryNumber, digest: Digest, now_seconds: u32) {
        let dictionary = Arc::new(Dictionary::new(number, digest, now_seconds));
        self.change(|slots| slots[number.slot()] = Some(dictionary));
        self.prefer(number);
    }

    /// Takes a dictionary away that the store has let go.
    pub fn remove(&self, number: DictionaryNumber) {
        self.change(|slots| {
            let slot = &mut slots[number.slot()];
            if slot
                .as_ref()
                .is_some_and(|dictionary| dictionary.number == number)
            {
                *slot = None;
            }
        });
    }

    /// Ends a dictionary's use for new values: a better one has taken its place.
    pub fn supersede(&self, number: DictionaryNumber) {
        self.keep_for(number, Use::Reading);
    }

    /// Has a dictionary make room: the items that need it leave.
    pub fn dismiss(&self, number: DictionaryNumber) {
        self.keep_for(number, Use::Leaving);
    }

    fn keep_for(&self, number: DictionaryNumber, used_for: Use) {
        self.with(number, |dictionary| {
            if let Some(dictionary) = dictionary {
                dictionary.used_for.store(used_for as u8, Relaxed);
            }
        });
    }

    /// Whether one is making room already.
    pub fn any_leaves(&self) -> bool {
        let slots = self.slots.load();
        slots
            .iter()
            .flatten()
            .any(|dictionary| dictionary.is_leaving())
    }

    /// Takes a read since the last call for a use.
    pub fn note_reads(&self, now_seconds: u32) {
        for dictionary in self.slots.load().iter().flatten() {
            if dictionary.was_read.swap(false, Relaxed) {
                dictionary.used_at.store(now_seconds, Relaxed);
            }
        }
    }

    /// The dictionary that has been of no use for the longest time, if that is `seconds` or more, and
    /// it does not have to go already.
    pub fn unused_for(&self, seconds: u32, now_seconds: u32) -> Option<DictionaryNumber> {
        self.longest_unused(now_seconds, |_| true)
            .filter(|&(unused, _)| unused >= seconds)
            .map(|(_, number)| number)
    }

    /// The same whatever the time, but for the one that packed the last value.
    pub fn least_used(&self, now_seconds: u32) -> Option<DictionaryNumber> {
        let last = self.last.load(Relaxed);
        self.longest_unused(now_seconds, |number| number.slot() != last)
            .map(|(_, number)| number)
    }

    fn longest_unused(
        &self,
        now_seconds: u32,
        may_go: impl Fn(DictionaryNumber) -> bool,
    ) -> Option<(u32, DictionaryNumber)> {
        let slots = self.slots.load();
        slots
            .iter()
            .flatten()
            .filter(|dictionary| !dictionary.is_leaving() && may_go(dictionary.number))
            .map(|dictionary| (dictionary.unused_seconds(now_seconds), dictionary.number))
            .max()
    }

    /// The dictionaries, but for the one that packed the last value, that pack nothing: for good, or
    /// for so many seconds.
    pub fn spare(&self, seconds: u32, now_seconds: u32) -> Vec<Spare> {
        let last = self.last.load(Relaxed);
        let slots = self.slots.load();
        let is_spare = |dictionary: &&Arc<Dictionary>| {
            let unused = dictionary.unused_seconds(now_seconds) >= seconds;
            dictionary.number.slot() != last && (unused || !dictionary.is_open())
        };
        let spare = |dictionary: &Arc<Dictionary>| Spare {
            number: dictionary.number,
            leaves: dictionary.is_leaving(),
        };
        slots.iter().flatten().filter(is_spare).map(spare).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Slots)) {
        let _one_at_a_time = self.changing.lock();
        let mut slots = Slots::clone(&self.slots.load());
        change(&mut slots);
        self.slots.store(Arc::new(slots));
    }
}
