//! An item being written: reserved, filled piece by piece, published.
//!
//! [`Store::put`] makes one and fills it at once; [`Store::begin_upload`] gives one to a connection
//! whose large value is still arriving ([`Arriving`]). Until it is published nobody else knows it; dropped before
//! that, its room is dead space that the next evacuation wins back.
//!
//! Invariants:
//! - an upload counts as a writer of its segment, so that the segment is not emptied under it;
//! - uploads that outlive one call own whole segments, and together at most a quarter of the limit:
//!   clients that announce large values and never send them cannot take the cache away from others.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::item::{Checksum, Header, Life, footprint};
use super::put::{Outcome, Put, Refusal, Target, Write};
use super::segment::{Kind, Segments};
use super::{Cause, Store};

/// A reserved item under way.
pub struct Upload<'s> {
    store: &'s Store,
    position: u64,
    key_bytes: usize,
    value_bytes: usize,
    written: usize,
    checksum: Checksum,
    /// Its chain is the one that it joins if it owns whole segments.
    target: Target,
    /// Bytes it holds of what all uploads together may.
    charged: u64,
    published: bool,
}

/// A large value that is still arriving.
pub enum Arriving<'s> {
    /// It is written into its room.
    Into(Upload<'s>),
    /// It goes by, as the condition was not met when it was announced, and lets nobody leave for it. What
    /// happens to the key meanwhile does not change the outcome: the put took place before.
    Past {
        /// Bytes that have not gone by yet.
        missing: usize,
        /// What became of the put.
        outcome: Outcome,
    },
}

impl Arriving<'_> {
    /// Bytes of the value that have not arrived yet.
    pub fn missing(&self) -> usize {
        match self {
            Arriving::Into(upload) => upload.missing(),
            Arriving::Past { missing, .. } => *missing,
        }
    }

    /// Length of the value; 0 of one that goes by.
    pub fn value_bytes(&self) -> usize {
        match self {
            Arriving::Into(upload) => upload.value_bytes,
            Arriving::Past { .. } => 0,
        }
    }

    /// Takes the next bytes of the value. Copies them at most once, under no lock.
    ///
    /// # Panics
    /// If there are more than [`Arriving::missing`].
    pub fn write(&mut self, bytes: &[u8]) {
        match self {
            Arriving::Into(upload) => upload.write(bytes),
            Arriving::Past { missing, .. } => *missing -= bytes.len(),
        }
    }

    /// Publishes the complete value as [`Store::put`] would.
    ///
    /// # Panics
    /// If bytes are missing.
    pub fn finish(self, put: &Put<'_>, now_seconds: u32) -> Outcome {
        match self {
            Arriving::Into(upload) => {
                let write = Write::new(upload.store, put, upload.value_bytes, now_seconds);
                upload.publish(&write)
            }
            Arriving::Past { missing, outcome } => {
                assert_eq!(missing, 0, "only complete values have an outcome");
                outcome
            }
        }
    }
}

impl Store {
    /// Reserves whole segments for a large value that is still arriving, if the condition of `put`
    /// holds; `put` has no value yet.
    ///
    /// # Errors
    /// `TooLarge` above `-I`; `OutOfMemory` if no room can be made, or unfinished uploads hold a
    /// quarter of the memory already.
    pub fn begin_upload(
        &self,
        put: &Put<'_>,
        value_bytes: usize,
        now_seconds: u32,
    ) -> Result<Arriving<'_>, Refusal> {
        if !self.item_fits(put.key.len(), value_bytes) {
            return Err(Refusal::TooLarge);
        }
        let write = Write::new(self, put, value_bytes, now_seconds);
        let target = match self.place_ahead(&write) {
            Ok(target) => target,
            Err(outcome) => {
                let missing = value_bytes;
                return Ok(Arriving::Past { missing, outcome });
            }
        };
        let segments = self
            .geometry
            .segments_for(footprint(put.key.len(), value_bytes));
        let bytes = u64::from(segments) * self.geometry.segment_bytes;
        let held = self.upload_bytes.fetch_add(bytes, Relaxed) + bytes;
        // One upload is always allowed, whatever its share.
        if held > bytes && held > self.limit_bytes.load(Relaxed) / 4 {
            self.upload_bytes.fetch_sub(bytes, Relaxed);
            return Err(Refusal::OutOfMemory);
        }
        match self.reserve(&write, target) {
            Ok(mut upload) => {
                upload.charged = bytes;
                Ok(Arriving::Into(upload))
            }
            Err(refusal) => {
                self.upload_bytes.fetch_sub(bytes, Relaxed);
                Err(refusal)
            }
        }
    }

    /// Reserves an item's room and writes its key. May let others leave.
    pub(super) fn reserve(&self, write: &Write<'_>, target: Target) -> Result<Upload<'_>, Refusal> {
        let lengths = (write.key.len(), write.value_bytes);
        let position = self.reserve_room(target, lengths, write.now_seconds)?;
        let item = Header::at(&self.heap, position);
        self.heap.write(item.key_position(), write.key);
        let mut checksum = Checksum::default();
        checksum.update(write.key);
        Ok(Upload {
            store: self,
            position,
            key_bytes: lengths.0,
            value_bytes: lengths.1,
            written: 0,
            checksum,
            target,
            charged: 0,
            published: false,
        })
    }

    fn reserve_room(
        &self,
        Target { chain, lane, .. }: Target,
        lengths: (usize, usize),
        now_seconds: u32,
    ) -> Result<u64, Refusal> {
        let footprint = footprint(lengths.0, lengths.1);
        let segments = self.segments();
        let mut log = self.log.lock();
        if self.geometry.is_large(footprint) {
            let wanted = self.geometry.segments_for(footprint);
            self.make_room(&mut log, wanted, footprint, now_seconds)?;
            return log
                .reserve_large(segments, lengths, now_seconds)
                .ok_or(Refusal::OutOfMemory);
        }
        self.make_room(&mut log, 0, footprint, now_seconds)?;
        if let Some(position) = log.reserve_in_open(segments, (chain, lane), lengths) {
            return Ok(position);
        }
        self.make_room(&mut log, 1, footprint, now_seconds)?;
        // What the index has grown into is not kept beside it.
        let kept = self.free_segments(&log).max(1) as usize;
        log.punch_free(segments, kept);
        if !log.open(segments, chain, lane, now_seconds) {
            return Err(Refusal::OutOfMemory);
        }
        log.reserve_in_open(segments, (chain, lane), lengths)
            .ok_or(Refusal::OutOfMemory)
    }
}

impl Upload<'_> {
    /// Bytes of the value that have not been written yet.
    fn missing(&self) -> usize {
        self.value_bytes - self.written
    }

    /// Adds the next bytes of the value. Copies them once, under no lock.
    ///
    /// # Panics
    /// If there are more than [`Upload::missing`].
    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        assert!(
            bytes.len() <= self.missing(),
            "a value has the length announced"
        );
        self.checksum.update(bytes);
        let item = Header::at(&self.store.heap, self.position);
        while !bytes.is_empty() {
            let segments = self.store.segments();
            let (position, room) = segments.value_piece(item.value_position(), self.written);
            let (piece, rest) = bytes.split_at(bytes.len().min(room));
            self.store.heap.write(position, piece);
            self.written += piece.len();
            bytes = rest;
        }
    }

    /// Adds the bytes of the value that have been written so far to `bytes`. Copies them once, under no
    /// lock.
    pub fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.reserve(self.written);
        let item = Header::at(&self.store.heap, self.position);
        let mut offset = 0;
        while offset < self.written {
            let segments = self.store.segments();
            let (position, room) = segments.value_piece(item.value_position(), offset);
            let length = room.min(self.written - offset);
            bytes.extend_from_slice(self.store.heap.bytes(position, length));
            offset += length;
        }
    }

    /// Makes the item the one that its key leads to, if the condition holds (still, for a `put`
    /// that has looked before).
    pub(super) fn publish(mut self, write: &Write<'_>) -> Outcome {
        assert_eq!(self.missing(), 0, "only complete values are published");
        let store = self.store;
        let mut shard = store.lock(write.hash);
        let present = store.present(&mut shard, write);
        let terms = match write.terms(present.as_ref()) {
            Ok(terms) => terms,
            Err(outcome) => return outcome,
        };
        if let Some(old) = present {
            shard.remove(store, write.hash, &old, Cause::Replaced, write.now_seconds);
        }
        let identity = write.identity(store.next_sequence());
        let item = Header::at(&store.heap, self.position);
        let checksum = std::mem::take(&mut self.checksum);
        let checksum = checksum.finish(self.key_bytes, self.value_bytes, &identity);
        item.identify(identity, terms.expiry, write.now_seconds, checksum);
        item.set_marks(terms.marks);
        item.set_life(Life::Live);
        store.dictionaries.acquire(identity.packing);
        shard.shard.insert(write.hash, self.position);
        let bytes = store.segments().item_bytes(&item);
        store
            .state_of(&item)
            .add(bytes, terms.expiry, identity.sequence);
        store.counters.stored.fetch_add(1, Relaxed);
        self.published = true;
        Outcome::Stored {
            cas_unique: identity.cas_unique,
            left: self.target.left,
        }
    }
}

impl Drop for Upload<'_> {
    /// Ends the writing. The segments of a large item join their chain now, or become free.
    fn drop(&mut self) {
        let store = self.store;
        let item = Header::at(&store.heap, self.position);
        let segment = store.geometry.segment_of(self.position);
        let large = store
            .geometry
            .is_large(footprint(self.key_bytes, self.value_bytes));
        if !self.published {
            item.set_life(Life::Dead);
        }
        // Release: what was written was written before the segment may be emptied.
        store.states[segment as usize].writers.fetch_sub(1, Release);
        if large {
            let mut log = store.log.lock();
            if self.published {
                let segments = store.segments();
                let count = segments.parts(segment).count() as u32;
                let chain = self.target.chain;
                log.chains[chain as usize].segments += count;
                log.append(segments, segment, chain, Kind::Head);
            } else {
                log.retire_unchained(store.segments(), segment);
            }
        }
        store.upload_bytes.fetch_sub(self.charged, Relaxed);
    }
}

impl Segments<'_> {
    /// Where byte `offset` of a value lies, and how many bytes follow it in its segment.
    pub(super) fn value_piece(&self, value_position: u64, offset: usize) -> (u64, usize) {
        let geometry = self.geometry;
        let head = geometry.segment_of(value_position);
        let in_head = geometry.start(head) + geometry.segment_bytes - value_position;
        let Some(beyond) = (offset as u64).checked_sub(in_head) else {
            return (value_position + offset as u64, in_head as usize - offset);
        };
        let data_bytes = geometry.data_bytes() as u64;
        let part = 1 + (beyond / data_bytes) as usize;
        let Some(segment) = self.parts(head).nth(part) else {
            return (value_position, 0);
        };
        let skipped = beyond % data_bytes;
        (
            geometry.data_start(segment) + skipped,
            (data_bytes - skipped) as usize,
        )
    }
}
