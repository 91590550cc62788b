//! A found item as a reply carries it: its bytes where they lie, or unpacked on the way out.
//!
//! Made by the engine for every hit. A packed value is unpacked straight into the reply's buffer, behind
//! its line: no copy in between, nothing allocated, and the item is let go at once.

use crate::clock::Stopwatch;
use crate::packing::{Damaged, Packing};
use crate::protocol::reply::{Unreadable, Value};
use crate::stats::Counters;
use crate::store::{self, ItemRef};

/// Of so many unpackings one is timed, for all.
const TIMED: u64 = 16;

/// A found item, pinned.
#[derive(Debug)]
pub struct Found<'e> {
    item: ItemRef<'e>,
    packed: Option<Packed<'e>>,
}

/// What it takes to unpack a value.
struct Packed<'e> {
    packing: &'e Packing,
    counters: &'e Counters,
    /// Length of the value; 0 if it is damaged, so that unpacking it fails.
    bytes: usize,
}

impl<'e> Found<'e> {
    pub(super) fn new(
        item: ItemRef<'e>,
        packing: &'e Packing,
        counters: &'e Counters,
    ) -> Found<'e> {
        let packed = (item.packing() != store::Packing::NONE).then(|| Packed {
            packing,
            counters,
            bytes: Packing::value_bytes(item.piece(0)).unwrap_or(0),
        });
        Found { item, packed }
    }

    /// Opaque to the server.
    pub fn client_flags(&self) -> u32 {
        self.item.client_flags()
    }

    /// What `cas` compares.
    pub fn cas_unique(&self) -> u64 {
        self.item.cas_unique()
    }

    fn unpack(&self, packed: &Packed<'_>, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let counters = packed.counters;
        let timed = counters.values_unpacked.get().is_multiple_of(TIMED);
        let watch = timed.then(Stopwatch::start);
        // A packed value lies in one piece: one that would not is not stored packed.
        let stored = self.item.piece(0);
        let done = packed.packing.unpack(self.item.packing(), stored, out);
        counters.values_unpacked.add(1);
        if let Some(watch) = watch {
            counters.unpack_nanos.add(watch.nanos() * TIMED);
        }
        done.map_err(|Damaged| Unreadable)
    }
}

impl Value for Found<'_> {
    fn len(&self) -> usize {
        match &self.packed {
            Some(packed) => packed.bytes,
            None => self.item.len(),
        }
    }

    fn is_in_place(&self) -> bool {
        self.packed.is_none()
    }

    fn piece(&self, offset: usize) -> &[u8] {
        match &self.packed {
            Some(_) => &[],
            None => self.item.piece(offset),
        }
    }

    fn held_bytes(&self) -> usize {
        self.item.pinned_bytes()
    }

    fn append_to(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        match &self.packed {
            Some(packed) => self.unpack(packed, out),
            None => {
                self.append_pieces(out);
                Ok(())
            }
        }
    }
}

impl std::fmt::Debug for Packed<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Packed({} bytes)", self.bytes)
    }
}
