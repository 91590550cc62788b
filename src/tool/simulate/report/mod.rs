//! What a simulation found: one row for each cache that was replayed.
//!
//! The views of it are files of their own: [`table`] for a terminal and for Markdown, [`records`] for
//! CSV and JSON, and [`page`], with curves. Each is a function from a [`Report`] to a `String` of lines;
//! [`files::replace`](crate::tool::files::replace) brings it into a file.
//!
//! The tables and the page share [`grid`], which arranges the rows and takes the mean over seeds, and
//! [`words`], which names things. The page's charts are chosen by [`curves`], scaled by [`scale`],
//! coloured by [`palette`] and drawn by [`chart`].
//!
//! Invariant: *the same simulation gives the same tables and the same page*. Neither has a date, a fact
//! about the machine or a figure of speed; only the records have.

pub mod chart;
pub mod curves;
pub mod grid;
#[cfg(test)]
mod made_up;
pub mod page;
pub mod palette;
pub mod records;
pub mod scale;
pub mod table;
pub mod words;

use serde::Serialize;

use super::policy::Seconds;

/// The cache that a row is about, and what it was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The scenario's name, or the trace's.
    pub scenario: String,
    /// The seed that the trace was generated from.
    pub seed: u64,
    /// Units that the cloud's requests were shared out to, each with a cache of its own.
    pub units: u32,
    /// How they were shared out: `roundrobin`, `leastconn` or `source`.
    pub balance: String,
    /// Caches whose requests are counted in this row: all of the units', or only the first one.
    pub units_replayed: u32,
    /// The values' lengths: `plain`, `packed`, or bytes.
    pub values: String,
    /// What keystonemiddleware's `token_cache_time` was, in seconds.
    pub ttl_seconds: Seconds,
    /// Memory of each unit's cache.
    pub memory_bytes: u64,
    /// Which policy.
    pub policy: String,
    /// What was counted.
    #[serde(flatten)]
    pub tally: Tally,
    /// Virtual time in which it was counted, in seconds.
    pub counted_seconds: f64,
    /// Requests replayed in a second of one core's time, the warm-up included.
    pub replayed_per_second: f64,
}

/// Requests and hits, the warm-up left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Requests with legitimate tokens.
    pub requests: u64,
    /// Those of them that found their token cached.
    pub hits: u64,
    /// Requests with an attack's tokens.
    pub attack_requests: u64,
    /// Those of them that found their token cached.
    pub attack_hits: u64,
    /// Requests for what other users of the cache keep there.
    pub lasting_requests: u64,
    /// Those of them that found it.
    pub lasting_hits: u64,
}

impl Row {
    /// Percentage of the legitimate requests that were hits.
    pub fn hit_percent(&self) -> f64 {
        100.0 * self.tally.hits as f64 / self.tally.requests.max(1) as f64
    }

    /// Validations a second that the legitimate requests of the replayed units cost Keystone.
    pub fn validations_per_second(&self) -> f64 {
        (self.tally.requests - self.tally.hits) as f64 / self.counted_seconds
    }

    /// Validations a second that the attack costs Keystone.
    pub fn attack_validations_per_second(&self) -> f64 {
        (self.tally.attack_requests - self.tally.attack_hits) as f64 / self.counted_seconds
    }
}

/// What a simulation found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The command line that makes it again.
    pub command: String,
    /// What each trace is: a sentence a scenario, with its parameters.
    pub traces: Vec<String>,
    /// By scenario, seed, units, values, TTL, memory and policy, in the order they were asked for.
    pub rows: Vec<Row>,
}
