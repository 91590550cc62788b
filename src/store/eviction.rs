//! Which items leave when others need the room.
//!
//! Called by the store under the heap lock, before it reserves. New items go to *probation*, items
//! that proved themselves, or came back soon after they had left, to *main*; each chain is first in, first out.
//! A segment in which nothing can be read any more is free at once. Else one segment at a time is
//! evacuated item by item: of probation while it has more than its share, which is larger while what
//! is in it is young, else of main. What was read some seconds after it was written, and since its last
//! move, moves to main; the rest leaves, its key and the time of its last use remembered by the ghost. A
//! key that comes back goes to main if it would have been a hit there. Tokens used once, by a flood
//! of them too, so pass through probation and push out nothing that is in use.
//!
//! # Parameters
//!
//! [`Eviction`]'s defaults are what this simulation found best: hits in % of the legitimate requests
//! with values of 10 KB that are not packed, mean of two seeds, in 16 and in 64 MB, one unit of three.
//! `tokencached-tool simulate --set hours=4 --values 10240 --seeds 1,2 --memory 16,64
//! --scenario large,ci,flash-crowd,mint-once,mint-thrice,dogpile --policies ...` prints it.
//!
//! ```text
//!                       large        ci           flash-crowd  mint-once    mint-thrice  dogpile      mean
//! no limit, the bound   84.79        58.35        86.39        84.81        84.80        84.87
//! LRU, expired first    69.96 84.78  51.76 57.97  66.29 84.95  57.78 80.14  57.85 81.15  68.09 84.84  70.46
//! the defaults          74.66 84.79  56.11 58.31  69.93 84.92  70.43 84.45  66.44 83.61  73.19 84.55  74.28
//! probation=5           74.65 84.79  56.11 58.31  69.93 84.91  70.43 84.45  66.44 83.52  73.19 84.40  74.26
//! probation=20          74.07 84.79  56.11 58.31  69.69 84.90  70.43 84.45  66.44 83.67  73.12 84.72  74.23
//! probation=30          72.94 84.79  56.11 58.31  68.95 84.86  70.43 84.45  66.44 83.13  72.13 84.81  73.95
//! probation-max=10      74.57 84.79  49.50 58.31  69.44 84.92  71.40 84.45  66.47 83.61  73.51 84.55  73.79
//! probation-max=50      74.66 84.79  56.35 58.31  69.78 84.92  66.91 84.45  64.07 83.61  73.19 84.55  73.80
//! probation-seconds=4   74.57 84.79  53.10 58.31  69.98 84.92  70.97 84.45  66.78 83.61  73.51 84.55  74.13
//! probation-seconds=15  72.97 84.79  56.11 58.31  68.96 84.92  70.43 84.45  66.44 83.69  72.12 84.55  73.98
//! proves-after=0        72.97 84.79  53.66 58.08  68.53 84.81  69.25 84.41  65.63 83.19  71.68 84.61  73.47
//! proves-after=10       74.59 84.79  56.13 58.32  69.90 84.93  70.40 84.45  66.38 83.76  73.28 84.54  74.29
//! ghost=0               72.50 84.79  53.28 58.19  68.54 84.72  64.21 83.12  65.88 79.07  71.51 83.08  72.41
//! ghost=50              74.54 84.79  54.89 58.26  69.92 84.92  70.06 83.92  67.09 83.04  73.22 84.45  74.09
//! ghost=400             74.61 84.79  56.14 58.32  69.88 84.90  70.30 84.53  66.37 83.61  73.13 84.56  74.26
//! return=50             74.35 84.79  55.61 58.31  69.86 84.70  70.46 84.45  66.79 82.66  73.27 84.56  74.15
//! return=200            74.14 84.79  56.24 58.31  69.41 85.11  69.75 84.45  65.34 83.94  72.55 84.55  74.05
//! return=100000         73.04 84.79  56.24 58.31  68.38 85.03  69.61 84.45  64.54 83.95  71.20 84.55  73.67
//! work=2                74.39 84.79  56.10 58.31  69.77 84.92  70.34 84.45  66.36 83.59  72.93 84.56  74.21
//! work=8                74.69 84.79  56.12 58.31  69.96 84.92  70.49 84.45  66.50 83.61  73.24 84.56  74.30
//! segment-kib=32        74.76 84.79  56.15 58.31  70.03 84.89  70.54 84.42  66.55 83.64  73.35 84.56  74.33
//! segment-kib=128       74.42 84.79  55.94 58.31  69.72 84.78  70.06 84.42  66.18 83.54  72.83 84.55  74.13
//! ```
//!
//! What is within 0.05 of the defaults does not decide: half the segments are twice the
//! bookkeeping, and `work=8` is twice the longest step of a set. What the table says beside: probation has to be
//! as long as a command takes (`ci`), but not so large that a flood fills it (`mint-once`); a key that
//! comes back must not go to main just because it comes back (`return=100000`), since pollers too slow
//! for the memory would push out what is faster; an attacker who uses each token three times costs more
//! than one who uses each once (`mint-thrice`, with a third of the tokens), since such tokens look used.
//!
//! `lasting-idle` shows in no column here. With five times as many entries that never expire, each used for
//! minutes (`dogpile`, `lasting_per_second=10`, `lasting_pause_seconds=20`), tokens are hit 84.02 % at
//! 120 s, 83.96 % at 300 s and 83.94 % from 600 s on, in 128 MB; the default is what a token would have.
//!
//! Invariants:
//! - one set pays for at most [`Eviction::work_per_byte`] times its own bytes of evacuation and at least one
//!   item, except where it would otherwise find no room at all;
//! - [`RESERVE`] segments are kept free for moving into; once the segment being moved into is full and
//!   no other is free, items leave whatever their marks, so that room is found in bounded work;
//! - under `-M` no item that can be read leaves: what is alive moves together, dead space is won back.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::geometry::SegmentId;
use super::item::{Header, Life, NEVER, footprint};
use super::segment::{Chain, ChainState, Evacuation, Kind, Lane, Log};
use super::{Cause, LockedShard, Miss, Refusal, Store};

/// Segments kept free.
pub(super) const RESERVE: i64 = 2;

/// Free segments that a heap taken over must have. Its index may take a segment more or less than
/// the one it had, and nothing should leave for that; the next set restores the reserve.
pub(super) const TAKE_OVER_FREE: i64 = -1;

/// Main is left alone while it has no more segments than this.
const MAIN_SEGMENTS_MIN: u32 = 2;

/// Segments that one set compacts at most under `-M`.
const COMPACTED_MAX: u32 = 8;

/// [`Store::is_evacuating`]'s number for none.
pub(super) const NO_SEGMENT: u32 = u32::MAX;

/// How items are chosen to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Share of the segments in use, in percent, up to which probation is never evacuated before main.
    pub probation_percent: u32,
    /// The same while its oldest items came less than `probation_seconds` ago.
    pub probation_percent_max: u32,
    /// What new items should have to show that they are used, in seconds.
    pub probation_seconds: u32,
    /// A read this soon after the write, in seconds, does not count: the requests of one page arrive
    /// together.
    pub proves_after_seconds: u32,
    /// Keys that the ghost remembers, in percent of the items held.
    pub ghost_percent: u32,
    /// A key that comes back goes to main if it was last used within so many percent of the time that
    /// items stay there: if it would have been a hit there.
    pub return_percent: u32,
    /// Bytes of evacuation that one byte of a set pays for at most.
    pub work_per_byte: u32,
    /// An item without an expiry that was not read for so many seconds leaves when its segment is
    /// evacuated, whatever its marks.
    pub lasting_idle_seconds: u32,
    /// Bytes of a segment; `None` for a 256th of the limit, from 64 KiB to 1 MiB.
    pub segment_bytes: Option<u64>,
}

impl Default for Eviction {
    /// What the table above found best.
    fn default() -> Eviction {
        Eviction {
            probation_percent: 10,
            probation_percent_max: 30,
            probation_seconds: 8,
            proves_after_seconds: 5,
            ghost_percent: 200,
            return_percent: 100,
            work_per_byte: 4,
            lasting_idle_seconds: 300,
            segment_bytes: None,
        }
    }
}

impl Store {
    /// Whether this segment is being emptied, so that nothing new should be written into it.
    pub(super) fn is_evacuating(&self, segment: SegmentId) -> bool {
        // Acquire pairs with the release in `next_victim`.
        self.evacuating.load(Acquire) == segment
    }

    /// Segments that may still be taken; negative while more are in use than the limit allows.
    pub(super) fn free_segments(&self, log: &Log) -> i64 {
        let segment_bytes = self.geometry.segment_bytes;
        let limit = self.limit_bytes.load(Relaxed);
        let allowed = limit.saturating_sub(self.table_bytes()) / segment_bytes;
        allowed.min(u64::from(self.geometry.segments)) as i64 - i64::from(log.in_use)
    }

    /// Makes `wanted` segments free, and takes its share in restoring the reserve for an item of
    /// `bytes` bytes.
    ///
    /// # Errors
    /// `OutOfMemory` if they cannot be had.
    pub(super) fn make_room(
        &self,
        log: &mut Log,
        wanted: u32,
        bytes: usize,
        now_seconds: u32,
    ) -> Result<(), Refusal> {
        log.clear_limbo(self.segments());
        if !self.options.evict {
            return self.make_room_by_compacting(log, wanted, now_seconds);
        }
        let wanted = i64::from(wanted);
        let mut work_left = self.options.eviction.work_per_byte as usize * bytes;
        let mut idle_steps = 0;
        loop {
            let free = self.free_segments(log);
            if free >= wanted && (free >= RESERVE || work_left == 0) {
                return Ok(());
            }
            match self.evacuate_step(log, true, now_seconds) {
                Some(0) => idle_steps += 1,
                Some(work) => {
                    work_left = work_left.saturating_sub(work);
                    idle_steps = 0;
                }
                None if free >= wanted => return Ok(()),
                None => return Err(Refusal::OutOfMemory),
            }
            // Segments that are read or written just now cannot be won: give up after a round.
            if idle_steps > self.geometry.segments {
                return Err(Refusal::OutOfMemory);
            }
        }
    }

    /// Evacuates one item, or finds the next segment to evacuate. Gives the bytes dealt with, `None`
    /// if there is nothing to evacuate.
    fn evacuate_step(&self, log: &mut Log, may_move: bool, now_seconds: u32) -> Option<usize> {
        let Some(evacuation) = log.evacuation else {
            let victim = self.next_victim(log, now_seconds)?;
            return Some(self.begin_evacuation(log, victim, may_move, now_seconds));
        };
        let segments = self.segments();
        let header = segments.header(evacuation.segment);
        let end = self.geometry.start(evacuation.segment) + header.written();
        if evacuation.next >= end {
            self.end_evacuation(log, evacuation.segment);
            return Some(0);
        }
        let item = Header::at(&self.heap, evacuation.next);
        let room = self.evacuate_item(log, &item, may_move, now_seconds)?;
        log.evacuation = Some(Evacuation {
            next: evacuation.next + room as u64,
            ..evacuation
        });
        Some(room)
    }

    /// Frees what is spent; else names the segment whose turn it is.
    fn next_victim(&self, log: &mut Log, now_seconds: u32) -> Option<Option<SegmentId>> {
        if self.sweep(log, now_seconds) {
            return Some(None);
        }
        if log.chains.iter().all(|chain| chain.sealed.is_empty()) {
            log.seal_all(self.segments());
        }
        let from = self.next_chain(log, now_seconds);
        let other = match from {
            Chain::Probation => Chain::Main,
            Chain::Main => Chain::Probation,
        };
        self.pop_unwritten(log, from)
            .or_else(|| self.pop_unwritten(log, other))
            .map(Some)
    }

    /// The chain whose turn it is to be evacuated. Notes on the way how long items stay in main.
    fn next_chain(&self, log: &Log, now_seconds: u32) -> Chain {
        let eviction = &self.options.eviction;
        let [probation, main] = &log.chains;
        let age = |chain: &ChainState| {
            let opened_at =
                |&oldest: &SegmentId| self.states[oldest as usize].opened_at.load(Relaxed);
            let oldest = chain.sealed.front().map(opened_at);
            oldest.map_or(u32::MAX, |opened_at| now_seconds.saturating_sub(opened_at))
        };
        let allowed = if age(probation) < eviction.probation_seconds {
            eviction
                .probation_percent_max
                .max(eviction.probation_percent)
        } else {
            eviction.probation_percent
        };
        let probation_is_full = probation.segments * 100 > log.in_use * allowed;
        let main_age = age(main);
        if !probation_is_full && main.segments > MAIN_SEGMENTS_MIN {
            self.main_seconds.store(main_age, Relaxed);
            return Chain::Main;
        }
        // What is left alone stays at least as long as it has been there.
        self.main_seconds.fetch_max(main_age, Relaxed);
        Chain::Probation
    }

    /// Whether an item that was not used for so long would still be in main, had it been there.
    pub(super) fn would_have_stayed(&self, idle_seconds: u32) -> bool {
        let main_seconds = u64::from(self.main_seconds.load(Relaxed));
        let share = u64::from(self.options.eviction.return_percent);
        u64::from(idle_seconds) * 100 <= main_seconds * share
    }

    /// The oldest segment of a chain into which nobody is writing.
    fn pop_unwritten(&self, log: &mut Log, chain: Chain) -> Option<SegmentId> {
        let sealed = &mut log.chains[chain as usize].sealed;
        // Acquire: what its writers published is seen.
        let unwritten =
            |&segment: &SegmentId| self.states[segment as usize].writers.load(Acquire) == 0;
        let oldest = sealed.iter().position(unwritten)?;
        sealed.remove(oldest)
    }

    fn begin_evacuation(
        &self,
        log: &mut Log,
        victim: Option<SegmentId>,
        may_move: bool,
        now_seconds: u32,
    ) -> usize {
        let Some(segment) = victim else {
            return 0;
        };
        if self.segments().header(segment).kind() == Some(Kind::Head) {
            return self.evacuate_large(log, segment, may_move, now_seconds);
        }
        self.set_evacuation(log, Some(segment));
        0
    }

    fn end_evacuation(&self, log: &mut Log, segment: SegmentId) {
        self.set_evacuation(log, None);
        log.retire(self.segments(), segment);
    }

    fn set_evacuation(&self, log: &mut Log, segment: Option<SegmentId>) {
        log.evacuation = segment.map(|segment| Evacuation {
            segment,
            next: self.geometry.data_start(segment),
        });
        // Release: a set that sees this before it overwrites in place goes elsewhere; one that does
        // not holds the shard of its item, which is looked at under that lock, after it.
        self.evacuating
            .store(segment.unwrap_or(NO_SEGMENT), Release);
    }

    /// Lets one item move or leave. Gives the room it has, `None` where under `-M` it cannot move.
    /// A dead item stays dead; what any other is, and how long, is only certain under its shard's
    /// lock, since it may be overwritten in place.
    fn evacuate_item(
        &self,
        log: &mut Log,
        item: &Header<'_>,
        may_move: bool,
        now_seconds: u32,
    ) -> Option<usize> {
        if item.life() == Some(Life::Dead) {
            return Some(item.room());
        }
        let hash = self.hash(item.key());
        let mut shard = self.lock(hash);
        let room = item.room();
        if !shard.contains(hash, item.position()) {
            return Some(room);
        }
        let moves = |log: &mut Log, shard: &mut LockedShard<'_>| {
            self.move_item(log, shard, hash, item, now_seconds)
        };
        let cause = match self.validity(item, now_seconds) {
            Ok(()) if !self.options.evict => return moves(log, &mut shard).then_some(room),
            Ok(()) if may_move && self.is_in_use(item, now_seconds) && moves(log, &mut shard) => {
                return Some(room);
            }
            Ok(()) => Cause::Evicted,
            Err(Miss::Flushed) => Cause::Flushed,
            Err(_) => Cause::Expired,
        };
        shard.remove(self, hash, item, cause);
        Some(room)
    }

    /// Whether an item has shown that it is used, and one that never expires not too long ago: no
    /// time of its own would ever take it away.
    fn is_in_use(&self, item: &Header<'_>, now_seconds: u32) -> bool {
        let idle_seconds = now_seconds.saturating_sub(item.accessed_at());
        let forgotten =
            item.expiry() == NEVER && idle_seconds > self.options.eviction.lasting_idle_seconds;
        item.proven() && !forgotten
    }

    /// Moves an item to main; says whether there was room.
    fn move_item(
        &self,
        log: &mut Log,
        shard: &mut LockedShard<'_>,
        hash: u64,
        item: &Header<'_>,
        now_seconds: u32,
    ) -> bool {
        let segments = self.segments();
        let lengths = (item.key_bytes(), item.value_bytes());
        let (chain, lane) = match item.expiry() {
            // One lane takes all, so that one free segment is room enough for the whole of another.
            _ if !self.options.evict => (Chain::Probation, Lane::Moved),
            NEVER => (Chain::Main, Lane::Lasting),
            _ => (Chain::Main, Lane::Moved),
        };
        let mut room = log.reserve_in_open(segments, (chain, lane), lengths);
        if room.is_none()
            && self.free_segments(log) >= 1
            && log.open(segments, chain, lane, now_seconds)
        {
            room = log.reserve_in_open(segments, (chain, lane), lengths);
        }
        let Some(position) = room else {
            return false;
        };
        let moved = Header::at(&self.heap, position);
        let bytes = footprint(lengths.0, lengths.1);
        self.heap.copy(
            item.key_position(),
            moved.key_position(),
            lengths.0 + lengths.1,
        );
        item.copy_to(&moved);
        moved.trim();
        moved.unprove();
        moved.set_life(Life::Writing);
        let old_bytes = item.room();
        item.set_life(Life::Dead);
        moved.set_life(Life::Live);
        shard.shard.relocate(hash, item.position(), position);
        self.state_of(item).subtract(old_bytes);
        let state = self.state_of(&moved);
        state.add(bytes, moved.expiry(), moved.sequence());
        state.writers.fetch_sub(1, Release);
        self.counters.moved.fetch_add(1, Relaxed);
        self.counters.moved_bytes.fetch_add(bytes as u64, Relaxed);
        true
    }

    /// Lets a large item go to the end of main, without copying, or leave.
    fn evacuate_large(
        &self,
        log: &mut Log,
        head: SegmentId,
        may_move: bool,
        now_seconds: u32,
    ) -> usize {
        let segments = self.segments();
        let item = Header::at(&self.heap, self.geometry.data_start(head));
        let bytes = segments.item_bytes(&item);
        if item.life() == Some(Life::Live) {
            let hash = self.hash(item.key());
            let mut shard = self.lock(hash);
            if shard.contains(hash, item.position()) {
                let valid = self.validity(&item, now_seconds);
                let stays = valid.is_ok() && may_move && self.is_in_use(&item, now_seconds);
                if stays && self.free_segments(log) >= 1 {
                    item.unprove();
                    self.relink(log, head);
                    return bytes;
                }
                let cause = match valid {
                    Ok(()) => Cause::Evicted,
                    Err(Miss::Flushed) => Cause::Flushed,
                    Err(_) => Cause::Expired,
                };
                shard.remove(self, hash, &item, cause);
            }
        }
        log.retire(segments, head);
        bytes
    }

    fn relink(&self, log: &mut Log, head: SegmentId) {
        let segments = self.segments();
        let from = segments.header(head).chain();
        let count = segments.parts(head).count() as u32;
        log.chains[from as usize].segments -= count;
        log.chains[Chain::Main as usize].segments += count;
        log.append(segments, head, Chain::Main, Kind::Head);
    }

    /// Frees one sealed segment in which nothing can be read any more; says whether there was one.
    pub(super) fn sweep(&self, log: &mut Log, now_seconds: u32) -> bool {
        let flushed = self.flush_sequence.load(Relaxed);
        for chain in Chain::BOTH {
            let sealed = &mut log.chains[chain as usize].sealed;
            let is_spent =
                |&segment: &SegmentId| self.states[segment as usize].is_spent(now_seconds, flushed);
            let Some(segment) = sealed
                .iter()
                .position(is_spent)
                .and_then(|at| sealed.remove(at))
            else {
                continue;
            };
            self.empty(segment, now_seconds, |_| None);
            if self.states[segment as usize].live_items.load(Relaxed) == 0 {
                log.retire(self.segments(), segment);
                return true;
            }
            // A worker whose second is not over yet has renewed one of its items.
            log.chains[chain as usize].sealed.push_front(segment);
        }
        false
    }

    /// Takes the items of a segment out of the index, of the valid ones those that have another
    /// reason to leave. The caller holds the heap lock, and nobody writes a new item there.
    pub(super) fn empty(
        &self,
        segment: SegmentId,
        now_seconds: u32,
        leaves: impl Fn(&Header<'_>) -> Option<Cause>,
    ) {
        let segments = self.segments();
        let end = self.geometry.start(segment) + segments.header(segment).written();
        let large = segments.header(segment).kind() == Some(Kind::Head);
        let mut next = self.geometry.data_start(segment);
        while next < end && self.states[segment as usize].live_items.load(Relaxed) > 0 {
            let item = Header::at(&self.heap, next);
            next += self.empty_item(&item, now_seconds, &leaves) as u64;
            if large {
                return;
            }
        }
    }

    /// Takes an item out of the index if it cannot be read any more or `leaves`; gives the room it has.
    fn empty_item(
        &self,
        item: &Header<'_>,
        now_seconds: u32,
        leaves: impl Fn(&Header<'_>) -> Option<Cause>,
    ) -> usize {
        if item.life() == Some(Life::Dead) {
            return item.room();
        }
        let hash = self.hash(item.key());
        let mut shard = self.lock(hash);
        let room = item.room();
        if shard.contains(hash, item.position()) {
            let cause = match self.validity(item, now_seconds) {
                Ok(()) => leaves(item),
                Err(Miss::Flushed) => Some(Cause::Flushed),
                Err(_) => Some(Cause::Expired),
            };
            if let Some(cause) = cause {
                shard.remove(self, hash, item, cause);
            }
        }
        room
    }

    /// `-M`: wins dead space back by moving what is alive together. Keeps [`RESERVE`] segments more
    /// than are wanted, to move into, and stops when [`COMPACTED_MAX`] segments have won nothing.
    fn make_room_by_compacting(
        &self,
        log: &mut Log,
        wanted: u32,
        now_seconds: u32,
    ) -> Result<(), Refusal> {
        if wanted == 0 {
            return Ok(());
        }
        let wanted = i64::from(wanted) + RESERVE;
        while self.free_segments(log) < wanted && self.sweep(log, now_seconds) {}
        for _ in 0..COMPACTED_MAX {
            if self.free_segments(log) >= wanted {
                return Ok(());
            }
            if log.evacuation.is_none() {
                let sparsest = self.sparsest(log).ok_or(Refusal::OutOfMemory)?;
                self.set_evacuation(log, Some(sparsest));
            }
            while log.evacuation.is_some() {
                self.evacuate_step(log, true, now_seconds)
                    .ok_or(Refusal::OutOfMemory)?;
            }
        }
        Err(Refusal::OutOfMemory)
    }

    /// Takes the sealed segment with the fewest live bytes out of its chain, if moving them wins at
    /// least an eighth of a segment.
    fn sparsest(&self, log: &mut Log) -> Option<SegmentId> {
        let segments = self.segments();
        let live_bytes = |segment: SegmentId| segments.state(segment).live_bytes.load(Relaxed);
        let is_candidate = |segment: &SegmentId| {
            segments.header(*segment).kind() == Some(Kind::Sealed)
                && segments.state(*segment).writers.load(Acquire) == 0
                && live_bytes(*segment) <= self.geometry.segment_bytes / 8 * 7
        };
        let sealed = log
            .chains
            .iter()
            .flat_map(|chain| chain.sealed.iter().copied());
        let sparsest = sealed
            .filter(is_candidate)
            .min_by_key(|&segment| live_bytes(segment))?;
        for chain in &mut log.chains {
            chain.sealed.retain(|&segment| segment != sparsest);
        }
        Some(sparsest)
    }

    /// Lets items leave until the limit holds and this many segments are free, then gives unused
    /// memory back to the system.
    pub(super) fn fit_limit(&self, free_wanted: i64, now_seconds: u32) {
        while self.fit_some(free_wanted, now_seconds) {}
        self.log.lock().punch_free(self.segments(), 0);
    }

    /// Gives memory back that the tables have grown into: free segments beyond the limit.
    pub(super) fn give_back_excess(&self) {
        let mut log = self.log.lock();
        let kept = self.free_segments(&log).max(0) as usize;
        log.punch_free(self.segments(), kept);
    }

    /// A part of [`Store::fit_limit`], short enough to hold the heap lock for; says whether there is
    /// more to do.
    fn fit_some(&self, free_wanted: i64, now_seconds: u32) -> bool {
        const STEPS: u32 = 1_000;
        let mut log = self.log.lock();
        log.clear_limbo(self.segments());
        if !self.options.evict {
            return self.sweep(&mut log, now_seconds);
        }
        let in_use = log.in_use;
        for _ in 0..STEPS {
            if self.free_segments(&log) >= free_wanted
                || self.evacuate_step(&mut log, false, now_seconds).is_none()
            {
                return false;
            }
        }
        // Segments that are being read are not won by going on.
        log.in_use < in_use || log.evacuation.is_some()
    }
}
