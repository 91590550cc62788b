//! `load --hold`: how many items a server keeps. Sets distinct keys once, in order, then asks for
//! each, in order.
//!
//! What a server holds at a given memory limit is the newest keys it did not evict. Takes
//! [`load::Options`](super::load::Options), of which connections, percentages, pipeline and limits
//! do not count; calls [`exchange`](super::exchange).
//!
//! Invariant: a key counts as held only when its value came back with every byte right.

use super::exchange::Counts;
use super::load::{Options, block_on, fill};
use super::process::Sample;
use super::report::Figures;
use super::{Error, exchange::Exchange, exchange::Shared};
use std::fmt;
use std::time::{Duration, Instant};

/// Gets on their way at once while counting.
const READ_PIPELINE: u64 = 16;

/// What a server kept.
#[derive(Debug, Clone)]
pub struct Report {
    /// Keys that were set.
    pub keys: u64,
    /// What came back: `stored` from the sets, `hits` and `misses` from the gets.
    pub counts: Counts,
    /// Time of sets and gets together.
    pub elapsed: Duration,
    /// Resident memory of the server before the first set, if its process is known.
    pub rss_bytes_before: Option<u64>,
    /// Resident memory of the server after the last get.
    pub rss_bytes: Option<u64>,
}

impl Report {
    /// Whether every request was answered and every byte was right.
    pub fn is_clean(&self) -> bool {
        self.counts.errors == 0 && self.counts.wrong_values == 0
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        self.figures().to_json()
    }

    fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        figures
            .add("keys", self.keys)
            .add("stored", self.counts.stored)
            .add("held", self.counts.hits)
            .add("held_value_bytes", self.counts.hit_bytes)
            .add("gone", self.counts.misses)
            .add("wrong_values", self.counts.wrong_values)
            .add("errors", self.counts.errors)
            .add("first_error", self.counts.first_error.as_deref())
            .add("elapsed_seconds", self.elapsed.as_secs_f64())
            .add("server_rss_bytes_before", self.rss_bytes_before)
            .add("server_rss_bytes", self.rss_bytes);
        figures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.figures().fmt(f)
    }
}

/// Sets `options.keys` keys and counts which of them are held; blocks until it is done.
///
/// # Errors
/// As [`load::run`](super::load::run).
pub fn run(options: &Options) -> Result<Report, Error> {
    options.check()?;
    let shared = options.shared();
    block_on(&options.target, &shared, measure(options, &shared))
}

async fn measure(options: &Options, shared: &Shared) -> Result<Report, Error> {
    let server = options.server().await;
    let rss_bytes = || {
        let sample = server.map(Sample::of).transpose()?;
        Ok(sample.map(|sample| sample.rss_bytes))
    };
    let begun = Instant::now();
    let rss_bytes_before = rss_bytes()?;
    let mut exchange = fill(options, shared).await?;
    count(&mut exchange, options.keys, shared).await?;
    Ok(Report {
        keys: options.keys,
        rss_bytes: rss_bytes()?,
        counts: exchange.into_parts().1,
        elapsed: begun.elapsed(),
        rss_bytes_before,
    })
}

async fn count(exchange: &mut Exchange, keys: u64, shared: &Shared) -> Result<(), Error> {
    let mut key = 0;
    while key < keys {
        let end = keys.min(key + READ_PIPELINE);
        for key in key..end {
            exchange.push_get(shared, key..key + 1);
        }
        exchange.run(shared).await?;
        key = end;
    }
    Ok(())
}
