//! What items were worth when they leave: how long they were held, and how often they were read.
//!
//! Counted by the shard that lets an item go, with fixed bounds, for each [`Cause`]. A value that is overwritten in
//! place is counted as replaced too, though its item stays.

use super::counts::Cause;
use super::item::{AT_ONCE, Header, NEVER};
use crate::histogram::{Distribution, Histogram};

/// Bounds of the time that a value was held, in seconds.
const HELD_SECONDS: [u64; 12] = [
    1, 5, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 14_400, 86_400,
];

/// Bounds of the share of its time to live for which an evicted value was held, in percent.
const TTL_PERCENT: [u64; 10] = [5, 10, 20, 30, 40, 50, 60, 70, 80, 90];

/// Bounds of how often a value was read. An item's header counts up to 63.
const READS: [u64; 7] = [0, 1, 2, 5, 10, 20, 50];

/// One item's departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Why it left.
    pub cause: Cause,
    /// Whether it was read since it was written.
    pub fetched: bool,
    /// How often, as far as that is counted.
    reads: u32,
    /// How long it could be read, in seconds.
    held_seconds: u32,
    /// How long it might have been held, if it was to expire.
    ttl_seconds: Option<u32>,
}

impl Removal {
    /// That of an item that leaves now.
    pub fn of(item: &Header<'_>, cause: Cause, now_seconds: u32) -> Removal {
        let (written_at, expiry) = (item.written_at(), item.expiry());
        let ends_at = match expiry {
            NEVER => now_seconds,
            // Once its time was over it could not be read any more, though it was still there.
            expiry => expiry.min(now_seconds),
        };
        let expires = !matches!(expiry, NEVER | AT_ONCE);
        Removal {
            cause,
            fetched: item.fetched(),
            reads: item.reads(),
            held_seconds: ends_at.saturating_sub(written_at),
            ttl_seconds: expires.then(|| expiry.saturating_sub(written_at)),
        }
    }
}

/// What was counted of the items that left, since the store was made, and before that by those whose counts
/// it goes on with.
#[derive(Debug)]
pub struct Departures {
    held_seconds: [Histogram<{ HELD_SECONDS.len() }>; Cause::ALL.len()],
    reads: [Histogram<{ READS.len() }>; Cause::ALL.len()],
    /// Of evicted items that were to expire, the share of that time for which they were held.
    pub evicted_ttl_percent: Histogram<{ TTL_PERCENT.len() }>,
}

impl Default for Departures {
    fn default() -> Departures {
        Departures {
            held_seconds: std::array::from_fn(|_| Histogram::new(&HELD_SECONDS, 1)),
            reads: std::array::from_fn(|_| Histogram::new(&READS, 1)),
            evicted_ttl_percent: Histogram::new(&TTL_PERCENT, 100),
        }
    }
}

impl Departures {
    /// How long the values were held that left for this cause, in seconds: as long as they could be read.
    pub fn held_seconds(&self, cause: Cause) -> &Histogram<{ HELD_SECONDS.len() }> {
        &self.held_seconds[cause as usize]
    }

    /// How often they were read, up to 63 times each.
    pub fn reads(&self, cause: Cause) -> &Histogram<{ READS.len() }> {
        &self.reads[cause as usize]
    }

    pub(super) fn count(&self, removal: &Removal) {
        let held_seconds = u64::from(removal.held_seconds);
        self.held_seconds(removal.cause).count(held_seconds);
        self.reads(removal.cause).count(removal.reads.into());
        if let (Cause::Evicted, Some(ttl)) = (removal.cause, removal.ttl_seconds) {
            let percent = held_seconds * 100 / u64::from(ttl.max(1));
            self.evicted_ttl_percent.count(percent);
        }
    }

    /// All that was counted, by name, to be handed on.
    pub fn totals(&self) -> impl Iterator<Item = (String, Distribution)> {
        let by_cause = Cause::ALL.into_iter().flat_map(|cause| {
            let name = cause.name();
            [
                (
                    format!("held_seconds_{name}"),
                    self.held_seconds(cause).read(),
                ),
                (format!("reads_{name}"), self.reads(cause).read()),
            ]
        });
        let percent = self.evicted_ttl_percent.read();
        by_cause.chain([("evicted_ttl_percent".to_owned(), percent)])
    }

    /// Goes on from what others have counted, by the same names.
    pub fn inherit<'d>(&self, of_name: impl Fn(&str) -> Option<&'d Distribution>) {
        for cause in Cause::ALL {
            let name = cause.name();
            if let Some(before) = of_name(&format!("held_seconds_{name}")) {
                self.held_seconds(cause).add(before);
            }
            if let Some(before) = of_name(&format!("reads_{name}")) {
                self.reads(cause).add(before);
            }
        }
        if let Some(before) = of_name("evicted_ttl_percent") {
            self.evicted_ttl_percent.add(before);
        }
    }
}
