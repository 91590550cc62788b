//! Departures and other events of the store, counted.
//!
//! Every item that leaves does so for one [`Cause`], and is counted once, by the shard that lets it go; what
//! it was worth until then, `departures` counts.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::departures::Removal;

const CAUSES: usize = Cause::ALL.len();

/// Why an item left: one word for each way, used by code, statistics and documentation alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its time was over.
    Expired = 0,
    /// Others needed the room.
    Evicted = 1,
    /// A client deleted it.
    Deleted = 2,
    /// A newer value of its key took its place.
    Replaced = 3,
    /// It was written before a `flush_all`.
    Flushed = 4,
    /// Its token was revoked.
    Revoked = 5,
}

impl Cause {
    /// All causes, in the order of their numbers.
    pub const ALL: [Cause; 6] = [
        Cause::Expired,
        Cause::Evicted,
        Cause::Deleted,
        Cause::Replaced,
        Cause::Flushed,
        Cause::Revoked,
    ];

    /// Its one word.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Expired => "expired",
            Cause::Evicted => "evicted",
            Cause::Deleted => "deleted",
            Cause::Replaced => "replaced",
            Cause::Flushed => "flushed",
            Cause::Revoked => "revoked",
        }
    }
}

/// Counters of the store's own work; the engine counts commands.
#[derive(Debug, Default)]
pub(super) struct Counters {
    removed: [AtomicU64; CAUSES],
    removed_unfetched: [AtomicU64; CAUSES],
    pub(super) stored: AtomicU64,
    pub(super) overwritten: AtomicU64,
    pub(super) moved: AtomicU64,
    pub(super) moved_bytes: AtomicU64,
    pub(super) returned: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, removal: &Removal) {
        let cause = removal.cause as usize;
        self.removed[cause].fetch_add(1, Relaxed);
        if !removal.fetched {
            self.removed_unfetched[cause].fetch_add(1, Relaxed);
        }
    }

    /// Goes on from what others have counted.
    pub(super) fn add(&self, before: &Counts) {
        let pairs = |counts: &'_ [AtomicU64; CAUSES], more: &[u64; CAUSES]| {
            for (count, more) in counts.iter().zip(more) {
                count.fetch_add(*more, Relaxed);
            }
        };
        pairs(&self.removed, &before.removed);
        pairs(&self.removed_unfetched, &before.removed_unfetched);
        self.stored.fetch_add(before.stored, Relaxed);
        self.overwritten.fetch_add(before.overwritten, Relaxed);
        self.moved.fetch_add(before.moved, Relaxed);
        self.moved_bytes.fetch_add(before.moved_bytes, Relaxed);
        self.returned.fetch_add(before.returned, Relaxed);
    }

    /// All counts at one moment.
    pub(super) fn read(&self) -> Counts {
        let all =
            |counts: &[AtomicU64; CAUSES]| std::array::from_fn(|cause| counts[cause].load(Relaxed));
        Counts {
            removed: all(&self.removed),
            removed_unfetched: all(&self.removed_unfetched),
            stored: self.stored.load(Relaxed),
            overwritten: self.overwritten.load(Relaxed),
            moved: self.moved.load(Relaxed),
            moved_bytes: self.moved_bytes.load(Relaxed),
            returned: self.returned.load(Relaxed),
        }
    }
}

/// What the store has counted at one moment, or the difference of two such moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    removed: [u64; CAUSES],
    removed_unfetched: [u64; CAUSES],
    /// Items stored, in place or not.
    pub stored: u64,
    /// Those that took the place of their older value.
    pub overwritten: u64,
    /// Items that an evacuation moved.
    pub moved: u64,
    /// Bytes of those.
    pub moved_bytes: u64,
    /// Keys that came back from the ghost.
    pub returned: u64,
}

impl Counts {
    /// Items that left for this cause.
    pub fn removed(&self, cause: Cause) -> u64 {
        self.removed[cause as usize]
    }

    /// Those of them that nobody had read.
    pub fn removed_unfetched(&self, cause: Cause) -> u64 {
        self.removed_unfetched[cause as usize]
    }

    /// What was counted since `zero`.
    pub fn since(mut self, zero: &Counts) -> Counts {
        self.with_each(*zero, u64::saturating_sub);
        self
    }

    /// What was counted together with what others counted.
    pub fn plus(mut self, others: &Counts) -> Counts {
        self.with_each(*others, u64::saturating_add);
        self
    }

    fn with_each(&mut self, mut other: Counts, combine: fn(u64, u64) -> u64) {
        let pairs = self.named().into_iter().zip(other.named());
        pairs.for_each(|((_, count), (_, other))| *count = combine(*count, *other));
    }

    /// All counts, each with its name.
    pub fn named(&mut self) -> Vec<(String, &mut u64)> {
        let mut named: Vec<(String, &mut u64)> = [
            ("stored", &mut self.stored),
            ("overwritten", &mut self.overwritten),
            ("moved", &mut self.moved),
            ("moved_bytes", &mut self.moved_bytes),
            ("returned", &mut self.returned),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into();
        let removed = self.removed.iter_mut().zip(&mut self.removed_unfetched);
        for (cause, (all, unfetched)) in Cause::ALL.into_iter().zip(removed) {
            named.push((format!("removed_{}", cause.name()), all));
            named.push((format!("removed_unfetched_{}", cause.name()), unfetched));
        }
        named
    }
}
