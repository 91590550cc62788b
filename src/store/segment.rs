//! Segments: the heap cut into equal parts, and who owns which.
//!
//! [`Log`] is what the heap lock protects: the free segments, the two chains, their open segments. It
//! reserves room and knows nothing of keys; `eviction` decides what leaves. [`State`] is what has to
//! be counted without the heap lock, one a segment.
//!
//! # Layout
//!
//! A segment begins with 64 bytes: kind and chain, bytes written (this header included), the next
//! segment of a large item, and the order in which chains are evacuated. Items follow one after
//! another. A large item owns a list of whole segments: its header and key in the first, its value
//! going on behind the header of each further one.
//!
//! Invariants:
//! - up to `written`, every item's lengths are valid, so a segment can be walked at any time;
//! - a segment is in exactly one of: free, open in a chain, sealed in a chain, under evacuation,
//!   emptied and waiting for its pins, or part of a large item;
//! - `in_use` counts all but the free ones, and is at most the limit once room has been made.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::geometry::{Geometry, SEGMENT_HEADER_BYTES, SegmentId};
use super::heap::Heap;
use super::item::{Header, NEVER, footprint};
use super::superblock::Superblock;

/// What a segment is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Free = 0,
    /// Items are being added.
    Open = 1,
    /// Full, or closed for adding.
    Sealed = 2,
    /// The first segment of a large item.
    Head = 3,
    /// A further segment of a large item.
    Part = 4,
}

/// The two chains of segments, each first in, first out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Items that have yet to show that they are used.
    Probation = 0,
    /// Items that have.
    Main = 1,
}

impl Chain {
    /// Both, in the order of their numbers.
    pub const BOTH: [Chain; 2] = [Chain::Probation, Chain::Main];
}

/// Which items share an open segment, so that they leave together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Written by a client, with an expiry.
    New = 0,
    /// Moved by an evacuation.
    Moved = 1,
    /// Without an expiry.
    Lasting = 2,
}

const LANES: usize = 3;

impl Lane {
    /// Where a client's item with this expiry is written.
    pub fn of(expiry: u32) -> Lane {
        if expiry == NEVER {
            Lane::Lasting
        } else {
            Lane::New
        }
    }
}

/// A segment's own header in the heap.
#[derive(Clone, Copy, Debug)]
pub struct SegmentHeader<'h> {
    heap: &'h Heap,
    start: u64,
}

impl<'h> SegmentHeader<'h> {
    /// The header of `segment`.
    pub fn of(heap: &'h Heap, geometry: &Geometry, segment: SegmentId) -> SegmentHeader<'h> {
        SegmentHeader {
            heap,
            start: geometry.start(segment),
        }
    }

    /// What the segment is used for; `None` where only damage can have written it.
    pub fn kind(&self) -> Option<Kind> {
        match self.heap.word(self.start).load(Relaxed) & 0xff {
            0 => Some(Kind::Free),
            1 => Some(Kind::Open),
            2 => Some(Kind::Sealed),
            3 => Some(Kind::Head),
            4 => Some(Kind::Part),
            _ => None,
        }
    }

    /// The chain it belongs to.
    pub fn chain(&self) -> Chain {
        match self.heap.word(self.start).load(Relaxed) >> 8 & 1 {
            0 => Chain::Probation,
            _ => Chain::Main,
        }
    }

    /// Sets kind and chain.
    pub fn set(&self, kind: Kind, chain: Chain) {
        let word = kind as u32 | (chain as u32) << 8;
        self.heap.word(self.start).store(word, Relaxed);
    }

    /// Bytes written, the header included.
    pub fn written(&self) -> u64 {
        u64::from(self.heap.word(self.start + 4).load(Acquire))
    }

    /// Moves the end of what is written. Release, so that a process which reads it also sees the
    /// lengths of the item reserved before it.
    pub fn set_written(&self, written: u64) {
        self.heap
            .word(self.start + 4)
            .store(written as u32, Release);
    }

    /// The next segment of a large item.
    pub fn next(&self) -> Option<SegmentId> {
        self.heap.word(self.start + 8).load(Relaxed).checked_sub(1)
    }

    /// Links the next segment of a large item.
    pub fn set_next(&self, next: Option<SegmentId>) {
        let word = next.map_or(0, |segment| segment + 1);
        self.heap.word(self.start + 8).store(word, Relaxed);
    }

    /// Its place in the order of evacuation.
    pub fn order(&self) -> u64 {
        self.heap.long(self.start + 16).load(Relaxed)
    }

    /// Sets its place in the order of evacuation.
    pub fn set_order(&self, order: u64) {
        self.heap.long(self.start + 16).store(order, Relaxed);
    }
}

/// What is counted of one segment without the heap lock.
#[derive(Debug, Default)]
pub struct State {
    /// Readers that hold a value in it; taken under a shard's lock.
    pub pins: AtomicU32,
    /// Items in it that are reserved and not yet published.
    pub writers: AtomicU32,
    /// Items in it that the index knows.
    pub live_items: AtomicU32,
    /// Their bytes, all of their room.
    pub live_bytes: AtomicU64,
    /// The second in which it was opened, or its large item put at the end of a chain; 0 if another
    /// process did that, as if it were as old as the machine.
    pub opened_at: AtomicU32,
    /// The latest expiry of its items; `u32::MAX` if one never expires.
    expiry_max: AtomicU32,
    /// The newest write sequence of its items.
    sequence_max: AtomicU64,
}

impl State {
    /// Counts an item that the index now knows.
    pub fn add(&self, bytes: usize, expiry: u32, sequence: u64) {
        self.live_items.fetch_add(1, Relaxed);
        self.live_bytes.fetch_add(bytes as u64, Relaxed);
        self.renew(expiry, sequence);
    }

    /// Notes that one of its items was overwritten in place.
    pub fn renew(&self, expiry: u32, sequence: u64) {
        self.sequence_max.fetch_max(sequence, Relaxed);
        self.expires(expiry);
    }

    /// Counts an item that the index no longer knows.
    pub fn subtract(&self, bytes: usize) {
        self.live_items.fetch_sub(1, Relaxed);
        self.live_bytes.fetch_sub(bytes as u64, Relaxed);
    }

    /// Notes the expiry of one of its items.
    pub fn expires(&self, expiry: u32) {
        let expiry = if expiry == NEVER { u32::MAX } else { expiry };
        self.expiry_max.fetch_max(expiry, Relaxed);
    }

    /// Whether no item in it can be read any more, and none is being written.
    pub fn is_spent(&self, now_seconds: u32, flush_sequence: u64) -> bool {
        // Acquire pairs with the release of a writer that has published and gone.
        self.writers.load(Acquire) == 0
            && (self.live_items.load(Relaxed) == 0
                || self.expiry_max.load(Relaxed) <= now_seconds
                || self.sequence_max.load(Relaxed) <= flush_sequence)
    }

    /// Whether its memory may be written again: nothing in it is known, read or being written.
    pub fn is_idle(&self) -> bool {
        // Acquire pairs with the release of the last reader's unpin.
        self.live_items.load(Relaxed) == 0
            && self.writers.load(Acquire) == 0
            && self.pins.load(Acquire) == 0
    }

    fn clear(&self) {
        self.live_bytes.store(0, Relaxed);
        self.expiry_max.store(0, Relaxed);
        self.sequence_max.store(0, Relaxed);
    }
}

/// One chain: the segments that are being filled and those that are full.
#[derive(Debug, Default)]
pub struct ChainState {
    open: [Option<SegmentId>; LANES],
    /// Oldest first; heads of large items among them.
    pub sealed: VecDeque<SegmentId>,
    /// All segments of the chain, those of large items counted each.
    pub segments: u32,
}

/// What the heap lock protects.
#[derive(Debug)]
pub struct Log {
    /// Both chains, by number.
    pub chains: [ChainState; 2],
    /// The segment under evacuation and how far it is done.
    pub evacuation: Option<Evacuation>,
    /// Emptied segments (and heads of large items) that are still being read.
    pub limbo: Vec<SegmentId>,
    /// Segments that are not free.
    pub in_use: u32,
    free: Vec<SegmentId>,
    /// Free segments that take no memory, since it was given back.
    punched: Vec<SegmentId>,
    /// Segments from here on were never used and take no memory.
    fresh: SegmentId,
    order: u64,
}

/// How far an evacuation has come.
#[derive(Clone, Copy, Debug)]
pub struct Evacuation {
    /// The segment, no longer in its chain's list.
    pub segment: SegmentId,
    /// The position of the next item.
    pub next: u64,
}

/// Gives access to segments: what most functions here need together.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'s> {
    /// The memory file.
    pub heap: &'s Heap,
    /// How it is cut.
    pub geometry: &'s Geometry,
    /// One state a segment.
    pub states: &'s [State],
}

impl<'s> Segments<'s> {
    /// A segment's header.
    pub fn header(&self, segment: SegmentId) -> SegmentHeader<'s> {
        SegmentHeader::of(self.heap, self.geometry, segment)
    }

    /// A segment's state.
    pub fn state(&self, segment: SegmentId) -> &'s State {
        &self.states[segment as usize]
    }

    /// The items of a segment in the order of their places, whatever their life.
    pub fn items(self, segment: SegmentId) -> impl Iterator<Item = Header<'s>> {
        let end = self.geometry.start(segment) + self.header(segment).written();
        let mut next = self.geometry.data_start(segment);
        std::iter::from_fn(move || {
            let header = (next < end).then(|| Header::at(self.heap, next))?;
            next += header.room() as u64;
            Some(header)
        })
    }

    /// The segments of the large item whose first one is `head`, that one included.
    pub fn parts(self, head: SegmentId) -> impl Iterator<Item = SegmentId> {
        std::iter::successors(Some(head), move |&segment| self.header(segment).next())
    }

    /// Bytes that the item takes: its room, or its whole segments.
    pub fn item_bytes(&self, item: &Header<'_>) -> usize {
        let footprint = footprint(item.key_bytes(), item.value_bytes());
        if self.geometry.is_large(footprint) {
            let segments = u64::from(self.geometry.segments_for(footprint));
            return (segments * self.geometry.segment_bytes) as usize;
        }
        item.room()
    }
}

impl Default for Log {
    fn default() -> Log {
        Log {
            chains: Default::default(),
            evacuation: None,
            limbo: Vec::new(),
            in_use: 0,
            free: Vec::new(),
            punched: Vec::new(),
            fresh: 0,
            order: 1,
        }
    }
}

impl Log {
    /// Reserves room for an item in a chain's open segment; `None` if it does not fit there.
    pub fn reserve_in_open(
        &mut self,
        segments: Segments<'_>,
        (chain, lane): (Chain, Lane),
        (key_bytes, value_bytes): (usize, usize),
    ) -> Option<u64> {
        let segment = self.chains[chain as usize].open[lane as usize]?;
        let header = segments.header(segment);
        let written = header.written();
        let room = footprint(key_bytes, value_bytes);
        let end = written + room as u64;
        if end > segments.geometry.segment_bytes {
            return None;
        }
        let position = segments.geometry.start(segment) + written;
        Header::at(segments.heap, position).reserve(key_bytes, value_bytes, room);
        // Before the end moves, so that nobody sees the room without its writer.
        segments.state(segment).writers.fetch_add(1, Relaxed);
        header.set_written(end);
        Some(position)
    }

    /// Opens a new segment for a lane and seals the one it had. The caller has checked the limit.
    pub fn open(
        &mut self,
        segments: Segments<'_>,
        chain: Chain,
        lane: Lane,
        now_seconds: u32,
    ) -> bool {
        self.seal(segments, chain, lane);
        let Some(segment) = self.take(segments) else {
            return false;
        };
        let header = segments.header(segment);
        header.set_next(None);
        header.set_written(SEGMENT_HEADER_BYTES);
        header.set(Kind::Open, chain);
        segments
            .state(segment)
            .opened_at
            .store(now_seconds, Relaxed);
        let chain = &mut self.chains[chain as usize];
        chain.open[lane as usize] = Some(segment);
        chain.segments += 1;
        true
    }

    /// Seals the open segment of a lane, if there is one.
    pub fn seal(&mut self, segments: Segments<'_>, chain: Chain, lane: Lane) {
        if let Some(open) = self.chains[chain as usize].open[lane as usize].take() {
            self.append(segments, open, chain, Kind::Sealed);
        }
    }

    /// Seals whatever is open in either chain: the last resort when nothing else can be evacuated.
    pub fn seal_all(&mut self, segments: Segments<'_>) {
        for chain in Chain::BOTH {
            for lane in [Lane::New, Lane::Moved, Lane::Lasting] {
                self.seal(segments, chain, lane);
            }
        }
    }

    /// Puts a segment behind all others of a chain.
    pub fn append(&mut self, segments: Segments<'_>, segment: SegmentId, chain: Chain, kind: Kind) {
        let header = segments.header(segment);
        header.set(kind, chain);
        header.set_order(self.order);
        self.order += 1;
        self.chains[chain as usize].sealed.push_back(segment);
    }

    /// Takes whole segments for a large item and links them; its header is laid out in the first.
    /// They belong to no chain until the item is published.
    pub fn reserve_large(
        &mut self,
        segments: Segments<'_>,
        (key_bytes, value_bytes): (usize, usize),
        now_seconds: u32,
    ) -> Option<u64> {
        let count = segments
            .geometry
            .segments_for(footprint(key_bytes, value_bytes));
        let mut next = None;
        for number in (0..count).rev() {
            let Some(segment) = self.take(segments) else {
                self.give_back(segments, next);
                return None;
            };
            let header = segments.header(segment);
            header.set_next(next);
            header.set_written(segments.geometry.segment_bytes);
            let kind = if number == 0 {
                // Before the segment says that it has an item.
                let item = Header::at(segments.heap, segments.geometry.data_start(segment));
                item.reserve(key_bytes, value_bytes, 0);
                Kind::Head
            } else {
                Kind::Part
            };
            header.set(kind, Chain::Probation);
            next = Some(segment);
        }
        let head = next?;
        let position = segments.geometry.data_start(head);
        let state = segments.state(head);
        state.opened_at.store(now_seconds, Relaxed);
        state.writers.fetch_add(1, Relaxed);
        Some(position)
    }

    fn give_back(&mut self, segments: Segments<'_>, head: Option<SegmentId>) {
        let parts: Vec<SegmentId> = head
            .map(|head| segments.parts(head).collect())
            .unwrap_or_default();
        for part in parts {
            self.release(segments, part);
        }
    }

    /// Segments from this one on were never used.
    pub fn fresh(&self) -> SegmentId {
        self.fresh
    }

    fn take(&mut self, segments: Segments<'_>) -> Option<SegmentId> {
        let segment = match self.free.pop().or_else(|| self.punched.pop()) {
            Some(segment) => segment,
            None if self.fresh < segments.geometry.segments => {
                self.fresh += 1;
                // Before the segment says that it is used, so that a reader of the heap looks there.
                Superblock::of(segments.heap).set_fresh(self.fresh);
                self.fresh - 1
            }
            None => return None,
        };
        self.in_use += 1;
        segments.state(segment).clear();
        Some(segment)
    }

    /// Makes one segment free. It is idle and in no chain's list.
    pub fn release(&mut self, segments: Segments<'_>, segment: SegmentId) {
        segments.header(segment).set(Kind::Free, Chain::Probation);
        segments.state(segment).clear();
        self.in_use -= 1;
        self.free.push(segment);
    }

    /// Makes a sealed segment, or all of a large item, free once nobody reads it.
    pub fn retire(&mut self, segments: Segments<'_>, segment: SegmentId) {
        let header = segments.header(segment);
        let count = match header.kind() {
            Some(Kind::Head) => segments.parts(segment).count() as u32,
            _ => 1,
        };
        self.chains[header.chain() as usize].segments -= count;
        self.retire_unchained(segments, segment);
    }

    /// The same for segments that no chain counts: a large item that was never published.
    pub fn retire_unchained(&mut self, segments: Segments<'_>, segment: SegmentId) {
        if !segments.state(segment).is_idle() {
            self.limbo.push(segment);
            return;
        }
        let parts: Vec<SegmentId> = segments.parts(segment).collect();
        for part in parts {
            self.release(segments, part);
        }
    }

    /// Frees what was waiting for its last reader.
    pub fn clear_limbo(&mut self, segments: Segments<'_>) {
        for segment in std::mem::take(&mut self.limbo) {
            self.retire_unchained(segments, segment);
        }
    }

    /// Gives the memory of free segments back to the system, but for so many; they can be taken again.
    /// What the system does not take stays in use, where it will be used again.
    pub fn punch_free(&mut self, segments: Segments<'_>, kept: usize) {
        let bytes = segments.geometry.segment_bytes;
        while self.free.len() > kept
            && let Some(segment) = self.free.pop()
        {
            match segments.heap.punch(segments.geometry.start(segment), bytes) {
                Ok(()) => self.punched.push(segment),
                Err(_) => {
                    self.free.push(segment);
                    return;
                }
            }
        }
    }

    /// Takes over the segments of a heap that another process wrote: `chained` ones with the count
    /// that their item owns, in any order; all others are free.
    pub fn adopt(&mut self, segments: Segments<'_>, mut chained: Vec<(SegmentId, u32)>) {
        chained.sort_by_key(|&(segment, _)| segments.header(segment).order());
        self.fresh = Superblock::of(segments.heap)
            .fresh()
            .min(segments.geometry.segments);
        let mut used = vec![false; self.fresh as usize];
        for (segment, count) in chained {
            let header = segments.header(segment);
            self.order = self.order.max(header.order() + 1);
            let kind = if count > 1 || header.kind() == Some(Kind::Head) {
                Kind::Head
            } else {
                Kind::Sealed
            };
            header.set(kind, header.chain());
            for part in segments.parts(segment) {
                used[part as usize] = true;
            }
            let chain = &mut self.chains[header.chain() as usize];
            chain.sealed.push_back(segment);
            chain.segments += count;
            self.in_use += count;
        }
        for segment in (0..self.fresh)
            .rev()
            .filter(|&segment| !used[segment as usize])
        {
            segments.header(segment).set(Kind::Free, Chain::Probation);
            self.free.push(segment);
        }
    }
}
