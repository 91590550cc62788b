//! What a run of `load`, `load --hold` or `load --idle` is asked to do, and which wishes are
//! refused.
//!
//! The binary fills [`Options`]; [`load`](super::load), [`hold`](super::hold) and
//! [`idle`](super::idle) check it before they open a connection. Defaults are in [`Options::new`]
//! only.
//!
//! Invariant: *no deadlock by size*. The tool reads no reply before it has sent a whole batch, so a
//! batch whose replies could fill the sockets before its requests are through is refused.

use super::exchange::Shared;
use super::process::listening_at;
use super::workload::{HEAD_BYTES, Ledger, Workload};
use super::{Error, Target};
use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Keys that the requests of one batch may name, so that a batch of gets fits into the sockets'
/// buffers: the tool reads no reply before it has sent the whole batch.
const BATCH_KEYS_MAX: usize = 1000;

/// Bytes of values in a batch that mixes gets and sets; the same reason.
const MIXED_BATCH_BYTES_MAX: usize = 1 << 20;

/// What to do to which server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub target: Target,
    /// Connections, each with one batch on its way; at least 1.
    pub connections: usize,
    /// Stop after so many requests over all connections. With a duration too, whichever comes
    /// first.
    pub requests: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Distinct keys, all equally likely; at least 1. The tool keeps 12 bytes for each.
    pub keys: u64,
    /// Bytes of a value, evenly spread; see [`parse_value_bytes`]. At least 16, for the version
    /// within the value.
    pub value_bytes: RangeInclusive<usize>,
    /// Percentage of gets; the rest are sets.
    pub get_percent: u8,
    /// Set every key once, in order, before measuring.
    pub fill: bool,
    /// Keys of one get.
    pub multiget: usize,
    /// Requests sent at once over one connection.
    pub pipeline: usize,
    /// The exptime of sets in seconds, as the protocol has it; 0 is never.
    pub exptime_seconds: u32,
    /// The server's process; when `None`, found by its socket if it is on this machine.
    pub server_pid: Option<u32>,
    /// The same seed gives the same keys and values, and the same requests on each connection.
    pub seed: u64,
}

impl Options {
    /// 16 connections for 5 seconds, getting 1,000 keys with values of 8 KiB that expire after an
    /// hour.
    pub fn new(target: Target) -> Self {
        Options {
            target,
            connections: 16,
            requests: None,
            duration: None,
            keys: 1000,
            value_bytes: 8192..=8192,
            get_percent: 100,
            fill: false,
            multiget: 1,
            pipeline: 1,
            exptime_seconds: 3600,
            server_pid: None,
            seed: 1,
        }
    }

    /// Refuses options that cannot be carried out.
    pub(super) fn check(&self) -> Result<(), Error> {
        let least = [self.connections, self.multiget, self.pipeline];
        let keys_in_batch = self.multiget.saturating_mul(self.pipeline);
        let batch_bytes = self.pipeline.saturating_mul(*self.value_bytes.end());
        let mixed = !matches!(self.get_percent, 0 | 100);
        let wrong = if least.contains(&0) || self.keys == 0 {
            "connections, keys, multiget and pipeline must be at least 1".to_owned()
        } else if self.keys > u64::from(u32::MAX) {
            format!("at most {} keys", u32::MAX)
        } else if self.get_percent > 100 {
            "the percentage of gets must be at most 100".to_owned()
        } else if *self.value_bytes.start() < HEAD_BYTES || self.value_bytes.is_empty() {
            format!("values must have at least {HEAD_BYTES} bytes, which hold their version")
        } else if keys_in_batch > BATCH_KEYS_MAX {
            format!("pipeline times multiget must be at most {BATCH_KEYS_MAX}")
        } else if mixed && batch_bytes > MIXED_BATCH_BYTES_MAX {
            format!(
                "with gets and sets mixed, pipeline times value bytes must be at most {MIXED_BATCH_BYTES_MAX}"
            )
        } else {
            return Ok(());
        };
        Err(Error::Options(wrong))
    }

    pub(super) fn shared(&self) -> Shared {
        Shared {
            workload: Workload::new(self.seed, self.value_bytes.clone()),
            ledger: RefCell::new(Ledger::new(self.keys)),
            exptime_seconds: self.exptime_seconds,
            answered: Cell::new(0),
        }
    }

    pub(super) async fn server(&self) -> Option<u32> {
        match self.server_pid {
            Some(pid) => Some(pid),
            None => listening_at(&self.target).await,
        }
    }
}

/// Reads a number of bytes, `8192`, or a range of them, `5000-20000`.
///
/// # Errors
/// [`Error::Options`] for anything else.
pub fn parse_value_bytes(text: &str) -> Result<RangeInclusive<usize>, Error> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (least.parse(), most.parse()) {
        (Ok(least), Ok(most)) if least <= most => Ok(least..=most),
        _ => Err(Error::Options(format!(
            "{text:?} is no size of values: give bytes, such as 8192, or a range, such as 5000-20000"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::new("127.0.0.1:1".parse().unwrap())
    }

    #[test]
    fn sizes_are_numbers_or_ranges() {
        assert_eq!(parse_value_bytes("8192").unwrap(), 8192..=8192);
        assert_eq!(parse_value_bytes("5000-20000").unwrap(), 5000..=20000);
        for wrong in ["", "x", "5-", "9-8", "1-2-3"] {
            assert!(parse_value_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_that_cannot_be_carried_out_are_refused() {
        assert!(options().check().is_ok());
        let wrong: [fn(&mut Options); 6] = [
            |options| options.connections = 0,
            |options| options.keys = 0,
            |options| options.get_percent = 101,
            |options| options.value_bytes = 1..=100,
            |options| (options.pipeline, options.multiget) = (101, 10),
            |options| (options.pipeline, options.get_percent) = (999, 50),
        ];
        for change in wrong {
            let mut changed = options();
            change(&mut changed);
            assert!(matches!(changed.check(), Err(Error::Options(_))));
        }
    }
}
