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

    /// When it was written, in seconds.
    pub(super) fn written_at(&self) -> u32 {
        self.item.written_at()
    }

    /// When it expires as it is now, in seconds.
    pub(super) fn expiry(&self) -> u32 {
        self.item.expiry()
    }

    /// Length of the value as it is stored.
    pub(super) fn stored_bytes(&self) -> usize {
        self.item.len()
    }

    /// What is stored of a packed value. It lies in one piece: one that would not is not stored packed.
    fn stored(&self) -> &[u8] {
        self.item.piece(0)
    }

    fn unpack(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let counters = self.counters;
        let timed = counters.values_unpacked.get().is_multiple_of(TIMED);
        let watch = timed.then(Stopwatch::start);
        let how = self.item.packing();
        let done = self.packing.unpack(how, self.stored(), out);
        counters.values_unpacked.add(1);
        if let Some(watch) = watch {
            counters.unpack_nanos.add(watch.nanos() * TIMED);
        }
        done.map_err(|Damaged| Unreadable)
    }
}

impl Value for Found<'_> {
    /// For a damaged value 0, so that reading it fails.
    fn len(&self) -> usize {
        if self.is_in_place() {
            self.item.len()
        } else {
            Packing::value_bytes(self.stored()).unwrap_or(0)
        }
    }

    fn is_in_place(&self) -> bool {
        self.item.packing() == store::Packing::NONE
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
