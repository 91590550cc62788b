//! What keys that come back tell: whether they belong in main, and which chain has too little room.
//!
//! `eviction` notes here what each chain gives up; the ghost keeps a [`Departure`] of each key that left;
//! a put of a key that was not there hands it back. A key that comes back soon after its chain
//! gave it up would have been a hit, had the chain had a little more room: for one of probation the share
//! of probation grows, for one of main it shrinks, the less the later it comes. So the share settles where
//! more room would win as many hits in one chain as in the other: at a few percent where tokens
//! are used once or for hours, at most of the memory where they live as long as a command of some minutes.
//!
//! Room is counted in segments that a chain gave up, not in seconds: the same at any load. That an item
//! might have expired meanwhile is not looked at. Nothing of this is handed on to another process, which
//! begins with the smallest share, and until its main has turned over lets any key that comes back go there.
//!
//! Atomics, without a lock; two puts that come back at once both count.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::item::Header;
use super::segment::Chain;
use super::shortfall::Shortfall;
use super::time_left::TimeLeft;
use super::{Cause, Eviction};

/// How a key left. The ghost keeps it in 36 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The chain that gave it up, `None` if it expired.
    pub chain: Option<Chain>,
    /// Turns that this chain had had by then, as far as [`Departure::TURN_MASK`] goes.
    pub turn: u32,
    /// The second of its last use, as far as [`Departure::SECONDS_MASK`] goes.
    pub used_at_seconds: u32,
    /// How long it was still to be held then.
    pub time_left: TimeLeft,
}

impl Departure {
    /// Turns are counted in 12 bits, in which the chain gives up four heaps at least, and sixteen of the usual
    /// 256 segments; the ghost remembers some two.
    pub const TURN_MASK: u32 = (1 << 12) - 1;

    /// Seconds are counted in 16 bits: 18 hours, and tokens that rest for as long have expired.
    pub const SECONDS_MASK: u32 = (1 << 16) - 1;

    /// Why it is not there now: what was evicted and would have expired meanwhile, more memory had not kept.
    pub fn cause(&self, now_seconds: u32) -> Cause {
        let is_over = self.time_left.is_over_after(self.idle_seconds(now_seconds));
        match self.chain {
            Some(_) if !is_over => Cause::Evicted,
            _ => Cause::Expired,
        }
    }

    /// How long it has not been used, in seconds.
    pub fn idle_seconds(&self, now_seconds: u32) -> u32 {
        now_seconds.wrapping_sub(self.used_at_seconds) & Departure::SECONDS_MASK
    }
}

/// What is known of the room that the chains have and need.
#[derive(Debug)]
pub struct Returns {
    /// Segments that each chain gave up so far.
    given_up: [AtomicU32; 2],
    /// Segments that each chain had when one last gave some up.
    held: [AtomicU32; 2],
    /// A turn is so many bits of segments: one segment, unless there are very many.
    turn_shift: u32,
    /// Share of the segments in use that probation may have, 0 to 1: the bits of an `f64`, since one
    /// item is a very small part of a large heap.
    probation_share: AtomicU64,
    /// How long items stay in main, in seconds, as last seen; `u32::MAX` while none has to leave it.
    main_seconds: AtomicU32,
}

impl Returns {
    /// Nothing is known yet of a heap of at most so many segments: probation has its smallest share.
    pub fn new(eviction: &Eviction, segments: u32) -> Returns {
        const TURNS_OF_A_HEAP_LOG2: u32 = 10;
        Returns {
            given_up: Default::default(),
            held: Default::default(),
            turn_shift: segments
                .max(1)
                .ilog2()
                .saturating_sub(TURNS_OF_A_HEAP_LOG2 - 1),
            probation_share: AtomicU64::new(share(eviction.probation_percent_min).to_bits()),
            main_seconds: AtomicU32::new(u32::MAX),
        }
    }

    /// Notes that a chain gives up so many segments, of those that the chains hold.
    pub fn give_up(&self, chain: Chain, segments: u32, held: [u32; 2]) {
        self.given_up[chain as usize].fetch_add(segments, Relaxed);
        for (known, held) in self.held.iter().zip(held) {
            known.store(held, Relaxed);
        }
    }

    /// How much more memory would have kept a key that left so; `None` if it did not leave for others, or if none
    /// would have that is reckoned with.
    pub fn shortfall(&self, departure: &Departure, now_seconds: u32) -> Option<Shortfall> {
        let chain = departure.chain?;
        let held = self.held[chain as usize].load(Relaxed);
        let by_room = Shortfall::of(self.given_up_since(chain, departure), held.into());
        let idle_seconds = departure.idle_seconds(now_seconds);
        let main_seconds = self.main_seconds.load(Relaxed);
        if chain == Chain::Main || idle_seconds <= main_seconds {
            return by_room;
        }
        let too_late = idle_seconds - main_seconds;
        let by_time = Shortfall::of(too_late.into(), main_seconds.into());
        by_room.into_iter().chain(by_time).min()
    }

    fn given_up_since(&self, chain: Chain, departure: &Departure) -> u64 {
        let turns = self.turn(chain).wrapping_sub(departure.turn) & Departure::TURN_MASK;
        u64::from(turns) << self.turn_shift
    }

    /// How the key of an item leaves that is in this chain.
    pub fn departure(&self, chain: Chain, cause: Cause, item: &Header<'_>) -> Departure {
        let used_at_seconds = item.accessed_at();
        let time_left = TimeLeft::of(used_at_seconds, item.expiry());
        self.departure_of(chain, cause, used_at_seconds, time_left)
    }

    fn departure_of(
        &self,
        chain: Chain,
        cause: Cause,
        used_at_seconds: u32,
        time_left: TimeLeft,
    ) -> Departure {
        Departure {
            chain: (cause == Cause::Evicted).then_some(chain),
            turn: self.turn(chain) & Departure::TURN_MASK,
            used_at_seconds,
            time_left,
        }
    }

    /// Learns from a key that comes back with an item of `bytes` to a heap of so many bytes and
    /// `segments`.
    pub fn learn(
        &self,
        eviction: &Eviction,
        departure: &Departure,
        bytes: usize,
        (heap_bytes, segments): (u64, u64),
    ) {
        let Some(chain) = departure.chain else {
            return;
        };
        let given_up = self.given_up_since(chain, departure);
        let soon = (segments * u64::from(eviction.regret_percent) / 100).max(1);
        // The longer it was away, the more room would have kept it: so much less each part of it is worth.
        let weight = soon as f64 / given_up.max(soon) as f64;
        let items = match chain {
            Chain::Probation => f64::from(eviction.probation_gain),
            Chain::Main => -f64::from(eviction.main_gain),
        };
        let change = items * weight * bytes as f64 / heap_bytes.max(1) as f64;
        let least = share(eviction.probation_percent_min);
        let most = share(eviction.probation_percent_max).max(least);
        // Relaxed: a number of its own, on which nothing else depends.
        let _ = self.probation_share.fetch_update(Relaxed, Relaxed, |bits| {
            let share = f64::from_bits(bits) + change;
            Some(share.clamp(least, most).to_bits())
        });
    }

    fn turn(&self, chain: Chain) -> u32 {
        self.given_up[chain as usize].load(Relaxed) >> self.turn_shift
    }

    fn probation_share(&self) -> f64 {
        f64::from_bits(self.probation_share.load(Relaxed))
    }

    /// Whether probation has more segments than its share of those in use.
    pub fn probation_is_full(&self, segments: u32, in_use: u32) -> bool {
        f64::from(segments) > f64::from(in_use) * self.probation_share()
    }

    /// Notes how long the oldest items of main have been there when they have to leave.
    pub fn main_gives_up_after(&self, seconds: u32) {
        self.main_seconds.store(seconds, Relaxed);
    }

    /// Notes that items have been in main for so long and need not leave.
    pub fn main_holds_for(&self, seconds: u32) {
        self.main_seconds.fetch_max(seconds, Relaxed);
    }

    /// Whether a key that was not used for so long would still be in main, had it been there.
    pub fn would_have_stayed(&self, eviction: &Eviction, idle_seconds: u32) -> bool {
        let main_seconds = u64::from(self.main_seconds.load(Relaxed));
        u64::from(idle_seconds) * 100 <= main_seconds * u64::from(eviction.return_percent)
    }
}

fn share(percent: u32) -> f64 {
    f64::from(percent) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAP: (u64, u64) = (64 << 20, 256);

    const ENDLESS: TimeLeft = TimeLeft::ENDLESS;

    /// The share of probation in percent after 1,000 keys of 10 KB came back, each `later` segments
    /// after its chain gave it up.
    fn percent_after(returns: &Returns, chain: Chain, later: u32) -> f64 {
        let eviction = Eviction::default();
        for second in 0..1_000 {
            let departure = returns.departure_of(chain, Cause::Evicted, second, ENDLESS);
            returns.give_up(chain, later, [0, 0]);
            returns.learn(&eviction, &departure, 10_000, HEAP);
        }
        returns.probation_share() * 100.0
    }

    #[test]
    fn a_chain_whose_keys_come_back_gets_more_room_the_sooner_they_come() {
        let returns = Returns::new(&Eviction::default(), 256);
        let late = percent_after(&returns, Chain::Probation, 40) - 5.0;
        assert!((1.0..3.0).contains(&late), "{late}");
        let soon = percent_after(&returns, Chain::Probation, 2) - 5.0 - late;
        assert!((25.0..35.0).contains(&soon), "{soon}");
        assert_eq!(percent_after(&returns, Chain::Main, 2), 5.0);
    }

    #[test]
    fn keys_that_had_expired_tell_nothing() {
        let returns = Returns::new(&Eviction::default(), 256);
        let expired = returns.departure_of(Chain::Probation, Cause::Expired, 0, ENDLESS);
        returns.learn(&Eviction::default(), &expired, 10_000, HEAP);
        assert_eq!(returns.probation_share(), 0.05);
        assert!(returns.probation_is_full(6, 100) && !returns.probation_is_full(5, 100));
    }

    #[test]
    fn a_heap_of_very_many_segments_learns_as_a_small_one_does() {
        let segments = 1 << 17;
        let returns = Returns::new(&Eviction::default(), segments);
        let room = (u64::from(segments) << 20, u64::from(segments));
        let learn = |later: u32| {
            let before = returns.probation_share();
            let departure = returns.departure_of(Chain::Probation, Cause::Evicted, 0, ENDLESS);
            returns.give_up(Chain::Probation, later, [0, 0]);
            returns.learn(&Eviction::default(), &departure, 10_000, room);
            returns.probation_share() - before
        };
        let soon = learn(segments / 100);
        let a_heap_later = learn(segments) / soon;
        assert!((0.005..0.02).contains(&a_heap_later), "{a_heap_later}");
    }

    #[test]
    fn seconds_and_turns_may_wrap() {
        let returns = Returns::new(&Eviction::default(), 256);
        returns.give_up(Chain::Probation, u32::MAX, [0, 0]);
        assert!(percent_after(&returns, Chain::Probation, 2) > 30.0);
        let departure = returns.departure_of(Chain::Main, Cause::Evicted, 0x1_fff0, ENDLESS);
        assert_eq!(departure.idle_seconds(0x2_0010), 0x20);
    }
}
