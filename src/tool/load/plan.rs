//! What one burst of load is: how many requests, until when, and what they are.
//!
//! Shared by all connections of a [`Driver`](super::driver::Driver), on whatever threads they are.

use super::options::Options;
use super::popularity::Popularity;
use crate::tool::Error;
use crate::tool::exchange::{Exchange, Shared};
use crate::tool::random::Random;
use hdrhistogram::Histogram;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How many keys a set tries that find a set under way.
const TRIES: u32 = 8;

/// One burst.
#[derive(Debug)]
pub struct Plan {
    remaining: AtomicU64,
    /// When it began.
    pub begun: Instant,
    /// When it ends, if it has not before.
    pub deadline: Option<Instant>,
    popularity: Popularity,
    get_percent: u8,
    pipeline: u64,
    multiget: usize,
    /// Batches a second over all connections; without, each connection sends one as soon as it can.
    pub rate: Option<f64>,
    /// A connection that breaks is opened anew.
    pub reconnect: bool,
}

impl Plan {
    /// A burst of so long that begins now.
    ///
    /// # Errors
    /// [`Error::Options`] for an exponent that is none.
    pub fn new(options: &Options, duration: Option<Duration>) -> Result<Plan, Error> {
        let popularity = options.popularity().ok_or_else(|| {
            Error::Options("the exponent of Zipf's law must be above 0".to_owned())
        })?;
        let begun = Instant::now();
        Ok(Plan {
            remaining: AtomicU64::new(options.requests.unwrap_or(u64::MAX)),
            begun,
            deadline: duration.map(|duration| begun + duration),
            popularity,
            get_percent: options.get_percent,
            pipeline: options.pipeline as u64,
            multiget: options.multiget,
            rate: options.rate,
            reconnect: options.reconnect,
        })
    }

    /// How many requests the next batch has; 0 when all are taken or the time is over.
    pub fn take(&self, now: Instant) -> u64 {
        if self.is_over(now) {
            return 0;
        }
        let take = |remaining: u64| Some(remaining - remaining.min(self.pipeline));
        let before = self.remaining.fetch_update(Relaxed, Relaxed, take);
        before.unwrap_or(0).min(self.pipeline)
    }

    /// Whether the time is over.
    pub fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Adds so many gets and sets to a batch. Where every key tried has a set under way already, a set is a get.
    pub fn push(
        &self,
        requests: u64,
        exchange: &mut Exchange,
        shared: &Shared,
        random: &mut Random,
    ) {
        for _ in 0..requests {
            let set = random.below(100) >= u64::from(self.get_percent);
            if set && (0..TRIES).any(|_| exchange.push_set(shared, self.popularity.draw(random))) {
                continue;
            }
            let keys = (0..self.multiget).map(|_| self.popularity.draw(random));
            exchange.push_get(shared, keys);
        }
    }
}

/// An empty histogram of nanoseconds, up to 100 seconds, to three digits.
pub fn latencies() -> Histogram<u64> {
    let most = 100_000_000_000;
    Histogram::new_with_bounds(1, most, 3).expect("bounds and digits are in their ranges")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_hands_out_exactly_the_requests_wanted() {
        let options = Options {
            requests: Some(10),
            pipeline: 4,
            ..Options::new("127.0.0.1:1".parse().unwrap())
        };
        let plan = Plan::new(&options, None).unwrap();
        let taken = [(); 4].map(|()| plan.take(Instant::now()));
        assert_eq!(taken, [4, 4, 2, 0]);
    }

    #[test]
    fn nothing_is_handed_out_once_the_time_is_over() {
        let options = Options::new("127.0.0.1:1".parse().unwrap());
        let second = Duration::from_secs(1);
        let plan = Plan::new(&options, Some(second)).unwrap();
        assert_eq!(plan.take(plan.begun), 1);
        assert_eq!(plan.take(plan.begun + second), 0);
    }
}
