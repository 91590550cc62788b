//! Floor 0: how values are spread, counted by fixed bounds, as Prometheus wants it.
//!
//! Whoever sees a value calls [`Histogram::count`]; a view reads a [`Distribution`]. Values are whole
//! numbers, nanoseconds, bytes or hundredths, since those can be added without a lock; a view divides them by
//! [`Histogram::per_unit`].
//!
//! Invariants:
//! - a value is counted in one bucket, the first whose bound it does not exceed, or in the last, which has none;
//! - any number of threads count at the same time; none waits for another.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

/// Values counted by upper bounds, which rise.
#[derive(Debug)]
pub struct Histogram<const BOUNDS: usize> {
    bounds: &'static [u64; BOUNDS],
    per_unit: u64,
    counts: [AtomicU64; BOUNDS],
    beyond: AtomicU64,
    sum: AtomicU64,
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    /// One with these bounds, in which nothing is counted; `per_unit` of what is counted make one of what is
    /// shown, as 1,000,000,000 nanoseconds make a second.
    pub const fn new(bounds: &'static [u64; BOUNDS], per_unit: u64) -> Histogram<BOUNDS> {
        Histogram {
            bounds,
            per_unit,
            counts: [const { AtomicU64::new(0) }; BOUNDS],
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value. Costs a search through the bounds and two additions; never blocks.
    pub fn count(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        // Relaxed: counts order nothing else.
        self.counts
            .get(bucket)
            .unwrap_or(&self.beyond)
            .fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// What has been counted. A value that is counted meanwhile may be in the sum and not yet in a bucket, or the
    /// other way round.
    pub fn read(&self) -> Distribution {
        let counts = self.counts.iter().chain([&self.beyond]);
        Distribution {
            counts: counts.map(|count| count.load(Relaxed)).collect(),
            sum: self.sum.load(Relaxed),
        }
    }

    /// Goes on from what others have counted; from nothing, if they had another number of bounds.
    pub fn add(&self, before: &Distribution) {
        if before.counts.len() != BOUNDS + 1 {
            return;
        }
        let counts = self.counts.iter().chain([&self.beyond]);
        for (count, more) in counts.zip(&before.counts) {
            count.fetch_add(*more, Relaxed);
        }
        self.sum.fetch_add(before.sum, Relaxed);
    }

    /// The bounds, in what is counted.
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// How many of what is counted make one of what is shown.
    pub fn per_unit(&self) -> u64 {
        self.per_unit
    }
}

/// What a histogram had counted at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Distribution {
    /// Values in each bucket, none in two; the last has no bound.
    pub counts: Vec<u64>,
    /// All values added up.
    pub sum: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [u64; 3] = [0, 10, 100];

    #[test]
    fn a_value_is_counted_once_in_the_first_bucket_that_takes_it() {
        let histogram = Histogram::new(&BOUNDS, 1);
        for value in [0, 1, 10, 11, 100, 101, 7_000] {
            histogram.count(value);
        }
        let read = histogram.read();
        assert_eq!(read.counts, [1, 2, 2, 2]);
        assert_eq!(read.sum, 7_223);
    }

    #[test]
    fn what_others_counted_is_added_and_of_other_bounds_nothing() {
        let (one, two) = (Histogram::new(&BOUNDS, 1), Histogram::new(&BOUNDS, 1));
        one.count(5);
        two.count(7);
        two.add(&one.read());
        assert_eq!(two.read().counts, [0, 2, 0, 0]);
        let other = Histogram::new(&[1, 2], 1);
        other.count(1);
        two.add(&other.read());
        assert_eq!((two.read().counts, two.read().sum), (vec![0, 2, 0, 0], 12));
    }
}
