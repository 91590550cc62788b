//! Which items leave when others need the room.
//!
//! Called by the store under the heap lock, before it reserves. New items go to *probation*, items
//! that proved themselves, or came back soon after they had left, to *main*; each chain is first in, first out.
//! A segment in which nothing can be read any more is free at once. Else one segment at a time is
//! evacuated item by item: of probation while it has more than its share, else of main. The share follows
//! the keys that come back (`returns`): it grows for those that probation gave up and shrinks for those of
//! main. What was read some seconds after it was written, and since its last
//! move, moves to main; the rest leaves, and the ghost remembers its key and how it left. A
//! key that comes back goes to main if it would have been a hit there. Tokens used once, by a flood
//! of them too, so pass through probation and push out nothing that is in use.
//!
//! # Parameters
//!
//! [`Eviction`]'s defaults are what this simulation found best: hits in % of the legitimate requests
//! with values of 10 KB that are not packed, mean of two seeds, in 16 and in 64 MB, one unit of three.
//! `tokencached-tool simulate --set hours=3 --values 10240 --seeds 1,2 --memory 16,64 --scenario
//! large,ci,slow-ci,flash-crowd,mint-once,mint-thrice,dogpile --policies ...` prints it.
//!
//! ```text
//!                       large        ci           slow-ci      flash-crowd  mint-once    mint-thrice  dogpile      mean
//! no limit, the bound   84.81        58.37        62.77        85.23        84.81        84.81        84.88
//! LRU, expired first    70.06 84.81  51.81 58.00  33.89 60.64  68.56 84.43  57.81 80.18  57.89 81.20  68.14 84.85  67.30
//! S3-FIFO, the same     75.11 84.80  48.71 57.91  33.57 47.83  73.07 84.54  69.98 82.91  68.47 81.13  74.19 82.87  68.93
//! the defaults          74.74 84.81  56.51 58.34  34.43 60.11  72.85 84.47  71.46 84.42  66.20 82.71  73.61 84.75  70.67
//! probation-min=2       74.73 84.81  56.47 58.34  34.43 60.10  72.84 84.48  71.47 84.42  66.20 82.71  73.64 84.73  70.67
//! probation-min=10      74.75 84.81  56.49 58.34  34.43 60.11  72.85 84.46  71.41 84.42  66.21 82.71  73.63 84.77  70.67
//! probation-max=30      74.74 84.81  56.17 58.34  34.29 56.12  72.86 84.47  71.46 84.42  66.56 83.76  73.61 84.74  70.45
//! probation-max=60      74.74 84.81  56.51 58.34  34.43 59.77  72.85 84.47  71.46 84.42  66.20 82.71  73.61 84.75  70.65
//! regret=3              74.70 84.81  56.41 58.34  34.21 60.17  72.81 84.45  71.27 84.42  65.41 82.56  73.63 84.81  70.57
//! probation-gain=0      73.61 84.81  45.32 58.34  33.28 46.39  71.10 84.48  70.77 84.42  65.55 83.03  72.34 84.42  68.42
//! main-gain=0           64.36 84.81  51.44 58.34  31.82 59.26  63.43 84.46  54.60 84.42  54.33 78.66  62.18 84.75  65.49
//! main-gain=2           72.00 84.81  56.27 58.34  32.55 60.15  70.43 84.47  70.09 84.42  61.82 81.87  71.68 84.75  69.55
//! main-gain=8           74.39 84.81  56.43 58.34  33.38 59.81  72.44 84.48  71.51 84.42  66.79 83.19  73.11 84.74  70.56
//! probation-gain=4,main-gain=8 74.72 84.81  56.49 58.34  34.43 60.13  72.82 84.45  71.40 84.42  66.16 82.62  73.62 84.80  70.66
//! proves-after=0        73.80 84.81  55.66 58.34  34.40 60.11  71.95 84.48  71.04 84.42  66.32 82.72  72.81 84.75  70.40
//! proves-after=10       74.69 84.81  56.96 58.34  34.41 60.11  72.84 84.47  71.42 84.42  66.22 82.70  73.64 84.75  70.70
//! idle=40               74.72 84.80  56.48 58.32  34.43 59.98  72.84 84.44  71.37 84.35  66.22 82.85  73.65 84.72  70.66
//! idle=100              74.69 84.81  56.48 58.34  34.43 59.89  72.84 84.47  71.46 84.45  66.20 82.05  73.64 84.76  70.61
//! ghost=0               70.75 84.80  53.99 58.26  32.84 60.18  69.20 84.44  61.36 83.08  58.47 81.77  69.10 84.64  68.06
//! ghost=50              74.53 84.81  55.66 58.31  33.95 60.12  72.69 84.47  68.61 83.88  63.27 82.53  73.06 84.74  70.05
//! ghost=400             74.67 84.81  56.51 58.34  34.37 60.07  72.79 84.47  71.49 84.50  66.37 82.68  73.54 84.75  70.67
//! return=50             73.96 84.81  55.79 58.34  33.97 60.12  72.11 84.43  70.49 84.42  64.33 81.87  72.60 84.75  70.14
//! return=200            74.17 84.81  56.65 58.34  34.39 60.07  72.40 84.50  71.46 84.42  66.20 83.56  72.79 84.75  70.61
//! return=100000         73.32 84.81  56.66 58.34  34.25 60.10  71.48 84.51  71.44 84.42  66.00 83.77  71.25 84.75  70.36
//! work=2                74.76 84.81  56.46 58.34  34.42 60.07  72.75 84.47  71.57 84.42  66.43 82.83  73.58 84.75  70.69
//! work=8                74.78 84.81  56.41 58.34  34.43 60.11  72.90 84.47  71.37 84.42  65.94 82.67  73.45 84.75  70.63
//! segment-kib=32        74.87 84.80  56.51 58.34  34.49 59.87  72.96 84.43  71.47 84.39  65.92 82.42  73.79 84.76  70.64
//! segment-kib=128       74.53 84.80  56.31 58.34  34.16 59.82  72.63 84.39  71.17 84.39  66.01 82.37  73.04 84.76  70.48
//! ```
//!
//! What is within 0.05 of the defaults does not decide: half the segments are twice the bookkeeping,
//! and `work=8` is twice the longest step of a set. What the table says beside:
//!
//! - no fixed share serves all: a flood wants probation small, commands that last a minute want it to be most
//!   of the memory (`slow-ci`; `probation-gain=0` leaves it at its smallest, `probation-max=30` was the most
//!   that a share by age would give);
//! - a key of main that comes back has to count for more than one of probation (`main-gain=2` is as much), since
//!   it was in use before it left;
//! - a key that comes back must not go to main just because it comes back (`return=100000`): pollers too
//!   slow for the memory would push out what is faster;
//! - an attacker who uses each token three times costs more than one who uses each once (`mint-thrice`, with
//!   a third of the tokens): such tokens look used, and their returns look like those of commands;
//! - where the memory lasts for less than commands do, least recently used is ahead: `slow-ci` in 64 MB by 0.5
//!   points, in 32 by 1.4; with eight requests a command, three seconds apart, in 16 MB by 3, with twenty,
//!   one second apart, by 6.6.
//!
//! `lasting-idle` shows in no column here. With five times as many entries that never expire, each used for
//! minutes (`--scenario dogpile --set hours=4 --set lasting_per_second=10 --set lasting_pause_seconds=20`),
//! tokens are hit 84.77 % at 120 s and 84.76 % at 300 s and beyond, in 128 MB (the bound: 84.81); the default is what a
//! token would have.
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
use super::segment::{Chain, Evacuation, Kind, Lane, Log};
use super::{Cause, LockedShard, Miss, Refusal, Store};

/// Segments kept free.
pub(super) const RESERVE: i64 = 2;

/// Free segments that a heap taken over must have. Its index may take a segment more or less than
/// the one it had, and nothing should leave for that; the next set restores the reserve.
pub(super) const TAKE_OVER_FREE: i64 = -1;

/// Main is left alone while it has no more segments than this.
const MAIN_SEGMENTS_MIN: u32 = 2;

/// [`Store::is_evacuating`]'s number for none.
pub(super) const NO_SEGMENT: u32 = u32::MAX;

/// How items are chosen to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Smallest share of the segments in use, in percent, that probation has before main.
    pub probation_percent_min: u32,
    /// Its largest share.
    pub probation_percent_max: u32,
    /// A key that comes back before its chain has given up so many percent of all segments since it
    /// left tells that the chain has too little room; one that comes later counts less in proportion.
    pub regret_percent: u32,
    /// Items by whose bytes the share of probation grows for such a key of probation.
    pub probation_gain: u32,
    /// Items by whose bytes it shrinks for such a key of main.
    pub main_gain: u32,
    /// A read this soon after the write, in seconds, does not count: the requests of one page arrive
    /// together.
    pub proves_after_seconds: u32,
    /// An item of probation moves to main only if it was not idle for the last part of the time that it has been
    /// there, so many percent.
    pub idle_percent: u32,
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
            probation_percent_min: 5,
            probation_percent_max: 90,
            regret_percent: 1,
            probation_gain: 2,
            main_gain: 4,
            proves_after_seconds: 5,
            idle_percent: 60,
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
    pub(super) fn evacuate_step(
        &self,
        log: &mut Log,
        may_move: bool,
        now_seconds: u32,
    ) -> Option<usize> {
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
        let [probation, main] = &log.chains;
        let main_age = main
            .sealed
            .front()
            .map_or(u32::MAX, |&oldest| self.age(oldest, now_seconds));
        let probation_is_full = self
            .returns
            .probation_is_full(probation.segments, log.in_use);
        if !probation_is_full && main.segments > MAIN_SEGMENTS_MIN {
            self.returns.main_gives_up_after(main_age);
            return Chain::Main;
        }
        self.returns.main_holds_for(main_age);
        Chain::Probation
    }

    /// How long ago a segment was opened, in seconds.
    fn age(&self, segment: SegmentId, now_seconds: u32) -> u32 {
        now_seconds.saturating_sub(self.states[segment as usize].opened_at.load(Relaxed))
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
        let segments = self.segments();
        let chain = segments.header(segment).chain();
        let count = segments.parts(segment).count() as u32;
        let held = Chain::BOTH.map(|chain| log.chains[chain as usize].segments);
        self.returns.give_up(chain, count, held);
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

    pub(super) fn set_evacuation(&self, log: &mut Log, segment: Option<SegmentId>) {
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
        shard.remove(self, hash, item, cause, now_seconds);
        Some(room)
    }

    /// Whether an item has shown that it is used, one of probation not only long ago, and one that never expires
    /// not too long ago: no time of its own would ever take it away.
    fn is_in_use(&self, item: &Header<'_>, now_seconds: u32) -> bool {
        let idle_seconds = now_seconds.saturating_sub(item.accessed_at());
        let forgotten =
            item.expiry() == NEVER && idle_seconds > self.options.eviction.lasting_idle_seconds;
        item.proven() && !forgotten && !self.is_over(item, idle_seconds, now_seconds)
    }

    /// Whether an item of probation was used at first and then no more.
    fn is_over(&self, item: &Header<'_>, idle_seconds: u32, now_seconds: u32) -> bool {
        let age = self.age(self.geometry.segment_of(item.position()), now_seconds);
        let idle_percent = u64::from(self.options.eviction.idle_percent);
        self.chain_of(item) == Chain::Probation
            && u64::from(idle_seconds) * 100 > u64::from(age) * idle_percent
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
        let old_bytes = item.room();
        // Both are the same write, so a process that finds the two live loses nothing and takes one.
        moved.set_life(Life::Live);
        item.set_life(Life::Dead);
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
                    self.relink(log, head, now_seconds);
                    return bytes;
                }
                let cause = match valid {
                    Ok(()) => Cause::Evicted,
                    Err(Miss::Flushed) => Cause::Flushed,
                    Err(_) => Cause::Expired,
                };
                shard.remove(self, hash, &item, cause, now_seconds);
            }
        }
        log.retire(segments, head);
        bytes
    }

    fn relink(&self, log: &mut Log, head: SegmentId, now_seconds: u32) {
        let segments = self.segments();
        let from = segments.header(head).chain();
        let count = segments.parts(head).count() as u32;
        log.chains[from as usize].segments -= count;
        log.chains[Chain::Main as usize].segments += count;
        self.states[head as usize]
            .opened_at
            .store(now_seconds, Relaxed);
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
                shard.remove(self, hash, item, cause, now_seconds);
            }
        }
        room
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
