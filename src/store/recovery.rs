//! Reading a heap that another process wrote.
//!
//! Called once, before any worker runs. Every segment is walked item by item; an item that is live,
//! complete, valid and right by its checksum enters the new index, everything else is dropped and
//! counted. Nothing in the heap is trusted: lengths are checked before they are followed.
//!
//! A heap that ends whoever reads it is not read for ever: each process that takes it over is counted in
//! its superblock first, and [`Store::prove`] clears the count.
//!
//! Invariants:
//! - of two copies of a key the one written later wins;
//! - an item that was being written, or was dead, expired or flushed, does not come back.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;

use super::geometry::{Geometry, SegmentId};
use super::heap::Heap;
use super::item::{Checksum, HEADER_BYTES, Header, Life, footprint};
use super::segment::Kind;
use super::superblock::Superblock;
use super::{Options, Store, eviction};

/// So many processes in a row may take a heap over and end before they have proved themselves.
const STARTS_MAX: u32 = 2;

/// What was found in a heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Items that can be read again.
    pub items: u64,
    /// Items whose bytes do not match their checksum, whose lengths make no sense, or whose dictionary
    /// is damaged.
    pub damaged: u64,
    /// Items that were being written.
    pub unfinished: u64,
    /// Items that had expired or were flushed.
    pub spent: u64,
    /// Items larger than are allowed now.
    pub too_large: u64,
}

impl Store {
    /// Makes a store over a heap that another process wrote, with what can be read in it. Items
    /// beyond a smaller limit leave as if it had been lowered while running, larger ones than are
    /// allowed now are dropped. A limit beyond the ceiling that the file was made for becomes that
    /// ceiling, and the largest item at most half of it. Reads all of the heap once, to check it.
    ///
    /// # Errors
    /// If the file is no heap, of another format, or two processes in a row have taken it over and not
    /// [proved](Store::prove) themselves: start with an empty one then.
    pub fn open(
        file: OwnedFd,
        options: &Options,
        now_seconds: u32,
    ) -> io::Result<(Store, Recovered)> {
        let heap = Heap::open(file)?;
        let geometry = Superblock::of(&heap)
            .geometry()
            .map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
        count_start(&heap)?;
        let store = Store::over(heap, geometry, &options.within(&geometry));
        if store.uses_unused_segments() {
            let what = "segments are in use that were never used";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        store.settle(now_seconds);
        store.recover_dictionaries();
        let recovered = store.recover(now_seconds);
        store.fit_limit(eviction::TAKE_OVER_FREE, now_seconds);
        Ok((store, recovered))
    }

    /// Notes that this process does not end of the heap that it has taken over. Never blocks.
    pub fn prove(&self) {
        Superblock::of(&self.heap).set_starts(0);
    }

    /// Whether the first segment that was never used is in use, so that nobody knows how many are.
    fn uses_unused_segments(&self) -> bool {
        let fresh = Superblock::of(&self.heap).fresh();
        let kind = |segment| self.segments().header(segment).kind();
        fresh < self.geometry.segments && kind(fresh) != Some(Kind::Free)
    }

    fn recover(&self, now_seconds: u32) -> Recovered {
        let mut recovered = Recovered::default();
        let mut chained = Vec::new();
        let mut claimed = HashSet::new();
        // Beyond the fresh ones nothing was ever written, and looking would take memory.
        let used = Superblock::of(&self.heap)
            .fresh()
            .min(self.geometry.segments);
        for segment in 0..used {
            match self.segments().header(segment).kind() {
                Some(Kind::Open | Kind::Sealed) => {
                    self.recover_segment(segment, now_seconds, &mut recovered);
                    chained.push((segment, 1));
                }
                Some(Kind::Head) => {
                    // No two items may own one segment.
                    let parts = self.parts_of(segment, used);
                    let unclaimed =
                        |parts: &Vec<SegmentId>| parts.iter().all(|&part| claimed.insert(part));
                    match parts.filter(unclaimed) {
                        Some(parts) => {
                            let count = parts.len() as u32 + 1;
                            if self.recover_large(segment, count, now_seconds, &mut recovered) {
                                chained.push((segment, count));
                            }
                        }
                        None => recovered.damaged += 1,
                    }
                }
                Some(Kind::Free | Kind::Part) | None => {}
            }
        }
        self.log.lock().adopt(self.segments(), chained);
        recovered
    }

    fn recover_segment(&self, segment: SegmentId, now_seconds: u32, recovered: &mut Recovered) {
        let segments = self.segments();
        let header = segments.header(segment);
        header.set_next(None);
        let start = self.geometry.start(segment);
        let written = header.written().min(self.geometry.segment_bytes);
        let mut next = self.geometry.data_start(segment);
        while next + HEADER_BYTES as u64 <= start + written {
            let item = Header::at(&self.heap, next);
            let end = next + item.room() as u64;
            let footprint = footprint(item.key_bytes(), item.value_bytes());
            let nonsense = self.geometry.is_large(footprint)
                || footprint > item.room()
                || end > start + written;
            if item.key_bytes() == 0 || item.life().is_none() || nonsense {
                // Nothing behind it can be found: the rest of the segment is dropped.
                recovered.damaged += 1;
                break;
            }
            self.recover_item(&item, now_seconds, recovered);
            next = end;
        }
        header.set_written(next.max(self.geometry.data_start(segment)) - start);
    }

    /// Takes over a large item of `count` segments; says whether it can be read again.
    fn recover_large(
        &self,
        head: SegmentId,
        count: u32,
        now_seconds: u32,
        recovered: &mut Recovered,
    ) -> bool {
        let item = Header::at(&self.heap, self.geometry.data_start(head));
        let footprint = footprint(item.key_bytes(), item.value_bytes());
        let sound = item.key_bytes() > 0
            && self.geometry.is_large(footprint)
            && self.geometry.segments_for(footprint) == count;
        if !sound {
            recovered.damaged += 1;
            return false;
        }
        self.recover_item(&item, now_seconds, recovered)
    }

    /// The further segments of the large item at `head`; `None` if one of them is no part, or they
    /// never end.
    fn parts_of(&self, head: SegmentId, used: u32) -> Option<Vec<SegmentId>> {
        let segments = self.segments();
        let mut parts = Vec::new();
        let mut next = segments.header(head).next();
        while let Some(part) = next {
            let is_part = part < used && segments.header(part).kind() == Some(Kind::Part);
            if !is_part || parts.len() >= used as usize {
                return None;
            }
            parts.push(part);
            next = segments.header(part).next();
        }
        Some(parts)
    }

    /// Enters an item into the index if it may be read again; marks it dead otherwise.
    fn recover_item(&self, item: &Header<'_>, now_seconds: u32, recovered: &mut Recovered) -> bool {
        match item.life() {
            Some(Life::Live) => {}
            Some(Life::Writing) => {
                recovered.unfinished += 1;
                item.set_life(Life::Dead);
                return false;
            }
            Some(Life::Dead) | None => return false,
        }
        if self.validity(item, now_seconds).is_err() {
            recovered.spent += 1;
            item.set_life(Life::Dead);
            return false;
        }
        if !self.item_fits(item.key_bytes(), item.value_bytes()) {
            recovered.too_large += 1;
            item.set_life(Life::Dead);
            return false;
        }
        let is_of_sequence = item.sequence() < Superblock::of(&self.heap).take_over_sequence();
        let is_sound = is_of_sequence && self.checksum_of(item) == item.checksum();
        if !is_sound || !self.dictionaries.has(item.packing()) {
            recovered.damaged += 1;
            item.set_life(Life::Dead);
            return false;
        }
        self.enter(item, recovered)
    }

    fn enter(&self, item: &Header<'_>, recovered: &mut Recovered) -> bool {
        let hash = self.hash(item.key());
        let mut shard = self.lock(hash);
        if let Some(other) = self.find(&shard, hash, item.key()) {
            if other.sequence() >= item.sequence() {
                item.set_life(Life::Dead);
                return false;
            }
            shard.shard.remove(hash, other.position());
            other.set_life(Life::Dead);
            self.state_of(&other)
                .subtract(self.segments().item_bytes(&other));
            self.dictionaries.release(other.packing());
            recovered.items -= 1;
        }
        self.dictionaries.acquire(item.packing());
        shard.shard.insert(hash, item.position());
        let bytes = self.segments().item_bytes(item);
        self.state_of(item)
            .add(bytes, item.expiry(), item.sequence());
        recovered.items += 1;
        true
    }

    pub(super) fn checksum_of(&self, item: &Header<'_>) -> u32 {
        let mut checksum = Checksum::default();
        checksum.update(item.key());
        let mut offset = 0;
        while offset < item.value_bytes() {
            let (position, room) = self.segments().value_piece(item.value_position(), offset);
            let length = room.min(item.value_bytes() - offset);
            checksum.update(self.heap.bytes(position, length));
            offset += length;
            if length == 0 {
                break;
            }
        }
        checksum.finish(item.key_bytes(), item.value_bytes(), &item.identity())
    }
}

/// Counts a process that takes the heap over, unless the last ones ended too soon after doing so.
fn count_start(heap: &Heap) -> io::Result<()> {
    let superblock = Superblock::of(heap);
    let starts = superblock.starts();
    if starts >= STARTS_MAX {
        let what =
            format!("{starts} processes in a row have taken it over and ended within ten seconds");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    superblock.set_starts(starts + 1);
    Ok(())
}

impl Options {
    /// The same for a heap that is cut already.
    fn within(&self, geometry: &Geometry) -> Options {
        let ceiling = geometry.ceiling_bytes();
        let memory_limit_bytes = self.memory_limit_bytes.min(ceiling);
        let half = u32::try_from(memory_limit_bytes / 2).unwrap_or(u32::MAX);
        Options {
            memory_limit_bytes,
            memory_ceiling_bytes: ceiling,
            item_bytes_max: self.item_bytes_max.min(half),
            ..self.clone()
        }
    }
}
