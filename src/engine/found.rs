//! A found item as a reply carries it: its bytes where they lie, or unpacked on the way out.
//!
//! Made by the engine for every hit. A packed value is unpacked straight into the reply's buffer, behind
//! its line: no copy in between, nothing allocated, and the item is let go at once.

use crate::clock::Stopwatch;
use crate::packing::{Damaged, Packing};
use crate::protocol::reply::{Unreadable, Value};
use crate::stats::Counters;
use crate::store::{self, ItemRef};
use crate::token::class::Class;

/// Of so many unpackings one is timed, for all.
const TIMED: u64 = 16;

/// A found item, pinned.
pub struct Found<'e> {
    item: ItemRef<'e>,
    packing: &'e Packing,
    counters: &'e Counters,
}

impl<'e> Found<'e> {
    pub(super) fn new(
        item: ItemRef<'e>,
        packing: &'e Packing,
        counters: &'e Counters,
    ) -> Found<'e> {
        Found {
            item,
            packing,
            counters,
        }
    }

    /// Opaque to the server.
    pub fn client_flags(&self) -> u32 {
        self.item.client_flags()
    }

    /// What it was taken for when it was stored.
    pub fn class(&self) -> Class {
        Class::from_number(self.item.class())
    }

    /// What `cas` compares.
    pub fn cas_unique(&self) -> u64 {
        self.item.cas_unique()
    }

    /// The item as the store has it.
    pub(super) fn item(&self) -> &ItemRef<'e> {
        &self.item
    }

    fn unpack(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let counters = self.counters;
        let timed = counters.values_unpacked.get().is_multiple_of(TIMED);
        let watch = timed.then(Stopwatch::start);
        let how = self.item.packing();
        let done = self.packing.unpack(how, stored(&self.item), out);
        counters.values_unpacked.add(1);
        if let Some(watch) = watch {
            counters.unpack_nanos.add(watch.nanos() * TIMED);
        }
        done.map_err(|Damaged| Unreadable)
    }
}

/// Whether what is stored is the value as it came.
fn is_in_place(item: &ItemRef<'_>) -> bool {
    item.packing() == store::Packing::NONE
}

/// What is stored of a packed value. It lies in one piece: one that would not is not stored packed.
fn stored<'i>(item: &'i ItemRef<'_>) -> &'i [u8] {
    item.piece(0)
}

/// Length of the value as it came; for a damaged one 0, so that reading it fails.
#[inline]
pub(super) fn value_bytes(item: &ItemRef<'_>) -> usize {
    if is_in_place(item) {
        item.len()
    } else {
        Packing::value_bytes(stored(item)).unwrap_or(0)
    }
}

impl Value for Found<'_> {
    fn len(&self) -> usize {
        value_bytes(&self.item)
    }

    fn is_in_place(&self) -> bool {
        is_in_place(&self.item)
    }

    fn piece(&self, offset: usize) -> &[u8] {
        if self.is_in_place() {
            self.item.piece(offset)
        } else {
            &[]
        }
    }

    fn held_bytes(&self) -> usize {
        self.item.pinned_bytes()
    }

    fn append_to(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if self.is_in_place() {
            self.append_pieces(out);
            return Ok(());
        }
        self.unpack(out)
    }
}

impl std::fmt::Debug for Found<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.item.fmt(formatter)
    }
}
