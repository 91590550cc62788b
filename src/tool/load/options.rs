//! What a run of `load`, `load --hold` or `load --idle` is asked to do, and which wishes are
//! refused.
//!
//! The binary fills [`Options`]; [`load`](super), [`hold`](crate::tool::hold) and
//! [`idle`](crate::tool::idle) check it before they open a connection. Defaults are in [`Options::new`]
//! only.
//!
//! Invariant: *no deadlock by size*. The tool reads no reply before it has sent a whole batch, so a
//! batch whose replies could fill the sockets before its requests are through is refused.

use super::popularity::Popularity;
use crate::tool::exchange::{Protocol, Shared};
use crate::tool::open_files;
use crate::tool::pad::{HEAD_BYTES, Pad};
use crate::tool::process::listening_at;
use crate::tool::tokens::{Form, Tokens};
use crate::tool::workload::{Ledger, Workload};
use crate::tool::{Error, Target};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Keys that the requests of one batch may name, so that a batch of gets fits into the sockets'
/// buffers: the tool reads no reply before it has sent the whole batch.
const BATCH_KEYS_MAX: usize = 1000;

/// Bytes of values in a batch that mixes gets and sets; the same reason.
const MIXED_BATCH_BYTES_MAX: usize = 1 << 20;

/// Keys that the tool keeps account of.
const KEYS_MAX: u64 = 200_000_000;

/// Bytes of a value when nothing else is said.
const VALUE_BYTES: RangeInclusive<usize> = 8192..=8192;

/// Bytes that a catalogue may be asked to have; a memcached takes no item over 1 MiB by default.
const CATALOGUE_BYTES_MAX: usize = 1_000_000;

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Random bytes.
    Random,
    /// What keystonemiddleware caches.
    Tokens(Form),
}

/// What to do to which server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub target: Target,
    /// What is spoken.
    pub protocol: Protocol,
    /// Connections, each with one batch on its way; at least 1.
    pub connections: usize,
    /// How many of them ask, while the others are open and silent; `None` for all.
    pub active: Option<usize>,
    /// Threads that the connections are spread over; at least 1.
    pub threads: usize,
    /// Batches a second over all connections, evenly spread; `None` for a closed loop.
    pub rate: Option<f64>,
    /// Stop after so many requests over all connections. With a duration too, whichever comes
    /// first.
    pub requests: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Distinct keys; at least 1. The tool keeps 8 bytes for each.
    pub keys: u64,
    /// The exponent of Zipf's law, by which some keys are asked for more than others; `None` for all alike.
    pub zipf: Option<f64>,
    /// What values are.
    pub values: Values,
    /// Bytes of a random value, evenly spread; see [`parse_value_bytes`]. At least 16, for the
    /// version within the value; when `None`, 8 KiB. Tokens are as long as they are.
    pub value_bytes: Option<RangeInclusive<usize>>,
    /// Which cloud's catalogue tokens have; 0 is the recorded one, any other is made up.
    pub catalogue: u64,
    /// What length the catalogue is brought to by whole services; when `None`, it is left as it is.
    pub catalogue_bytes: Option<usize>,
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
    /// A connection that breaks is opened anew and its batch sent once more, until somebody answers it; with
    /// gets alone.
    pub reconnect: bool,
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
            protocol: Protocol::Classic,
            connections: 16,
            active: None,
            threads: 1,
            rate: None,
            requests: None,
            duration: None,
            keys: 1000,
            zipf: None,
            values: Values::Random,
            value_bytes: None,
            catalogue: 0,
            catalogue_bytes: None,
            get_percent: 100,
            fill: false,
            multiget: 1,
            pipeline: 1,
            exptime_seconds: 3600,
            reconnect: false,
            server_pid: None,
            seed: 1,
        }
    }

    /// Refuses options that cannot be carried out.
    pub(in crate::tool) fn check(&self) -> Result<(), Error> {
        let wrong = self.wrong_connections().or_else(|| self.wrong_requests());
        match wrong.or_else(|| self.wrong_values()) {
            Some(wrong) => Err(Error::Options(wrong)),
            None => Ok(()),
        }
    }

    fn wrong_connections(&self) -> Option<String> {
        let active = self.active_connections();
        let wrong = if self.connections == 0 || active == 0 || self.threads == 0 {
            "connections, active connections and threads must be at least 1".to_owned()
        } else if active > self.connections {
            format!(
                "of {} connections no more than that can be active",
                self.connections
            )
        } else if self.threads > active {
            format!(
                "{} threads have nothing to do with {active} active connections",
                self.threads
            )
        } else if self.rate.is_some_and(|rate| !(1.0..=1e7).contains(&rate)) {
            "a rate must be from 1 to 10000000 a second".to_owned()
        } else if self.rate.is_some() && self.reconnect {
            "to connect again is for a closed loop, without a rate".to_owned()
        } else {
            return None;
        };
        Some(wrong)
    }

    fn wrong_requests(&self) -> Option<String> {
        let least = [self.multiget, self.pipeline];
        let keys_in_batch = self.multiget.saturating_mul(self.pipeline);
        let batch_bytes = self.pipeline.saturating_mul(self.value_bytes_at_most());
        let mixed = !matches!(self.get_percent, 0 | 100);
        let wrong = if least.contains(&0) || self.keys == 0 {
            "keys, multiget and pipeline must be at least 1".to_owned()
        } else if self.keys > KEYS_MAX {
            format!("at most {KEYS_MAX} keys: the tool keeps 8 bytes for each")
        } else if self.popularity().is_none() {
            "the exponent of Zipf's law must be above 0, such as 0.99".to_owned()
        } else if self.get_percent > 100 {
            "the percentage of gets must be at most 100".to_owned()
        } else if self.reconnect && self.get_percent != 100 {
            "to connect again is for gets alone (--get-percent 100): a set that was lost may be done or not".to_owned()
        } else if keys_in_batch > BATCH_KEYS_MAX {
            format!("pipeline times multiget must be at most {BATCH_KEYS_MAX}")
        } else if mixed && batch_bytes > MIXED_BATCH_BYTES_MAX {
            format!(
                "with gets and sets mixed, pipeline times value bytes must be at most {MIXED_BATCH_BYTES_MAX}"
            )
        } else {
            return None;
        };
        Some(wrong)
    }

    fn wrong_values(&self) -> Option<String> {
        let too_long = |bytes: &usize| *bytes > CATALOGUE_BYTES_MAX;
        let too_short =
            |bytes: &RangeInclusive<usize>| *bytes.start() < HEAD_BYTES || bytes.is_empty();
        let of_tokens = matches!(self.values, Values::Tokens(_));
        let wrong = if of_tokens && self.value_bytes.is_some() {
            "tokens are as long as their catalogue makes them: give catalogue bytes instead of value bytes".to_owned()
        } else if !of_tokens && (self.catalogue != 0 || self.catalogue_bytes.is_some()) {
            "only tokens have a catalogue: ask for values that are tokens, mac or encrypt as well"
                .to_owned()
        } else if self.value_bytes.as_ref().is_some_and(too_short) {
            format!("values must have at least {HEAD_BYTES} bytes, which hold their version")
        } else if self.catalogue_bytes.as_ref().is_some_and(too_long) {
            format!("a catalogue must have at most {CATALOGUE_BYTES_MAX} bytes")
        } else {
            return None;
        };
        Some(wrong)
    }

    fn value_bytes_at_most(&self) -> usize {
        match self.values {
            Values::Random => *self.random_bytes().end(),
            Values::Tokens(form) => form.value_bytes_at_most(self.catalogue_bytes),
        }
    }

    fn random_bytes(&self) -> RangeInclusive<usize> {
        self.value_bytes.clone().unwrap_or(VALUE_BYTES)
    }

    fn workload(&self) -> Workload {
        match self.values {
            Values::Random => Workload::Random(Pad::new(self.seed, self.random_bytes())),
            Values::Tokens(form) => {
                let (catalogue, bytes) = (self.catalogue, self.catalogue_bytes);
                Workload::Tokens(Tokens::new(form, catalogue, bytes, self.seed))
            }
        }
    }

    pub(in crate::tool) fn shared(&self) -> Arc<Shared> {
        Arc::new(Shared {
            workload: self.workload(),
            ledger: Ledger::new(self.keys),
            protocol: self.protocol,
            exptime_seconds: self.exptime_seconds,
            answered: AtomicU64::new(0),
        })
    }

    /// Connections that ask.
    pub fn active_connections(&self) -> usize {
        self.active.unwrap_or(self.connections)
    }

    /// How long to drive the server: where nothing is said, 5 seconds.
    pub fn duration(&self) -> Option<Duration> {
        let five = || self.requests.is_none().then_some(Duration::from_secs(5));
        self.duration.or_else(five)
    }

    /// How requests are spread over the keys; `None` for an exponent that is none.
    pub(super) fn popularity(&self) -> Option<Popularity> {
        Popularity::new(self.keys, self.zipf)
    }

    /// Raises the soft limit of open files to what the connections need.
    pub(super) fn allow_files(&self) -> Result<(), Error> {
        open_files::allow(self.connections as u64)
    }

    pub(in crate::tool) async fn server(&self) -> Option<u32> {
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

/// Reads what values are: `random`, `tokens`, `mac` or `encrypt`.
///
/// # Errors
/// [`Error::Options`] for anything else.
pub fn parse_values(text: &str) -> Result<Values, Error> {
    match text.parse() {
        Ok(form) => Ok(Values::Tokens(form)),
        Err(()) if text == "random" => Ok(Values::Random),
        Err(()) => Err(Error::Options(format!(
            "{text:?} is no kind of values: give random, tokens, mac or encrypt"
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
    fn values_are_random_or_tokens_in_one_of_three_forms() {
        assert_eq!(parse_values("random").unwrap(), Values::Random);
        let forms = [
            ("tokens", Form::Plain),
            ("mac", Form::Mac),
            ("encrypt", Form::Encrypt),
        ];
        for (name, form) in forms {
            assert_eq!(parse_values(name).unwrap(), Values::Tokens(form));
        }
        for wrong in ["", "MAC", "token"] {
            assert!(parse_values(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_that_cannot_be_carried_out_are_refused() {
        let tokens = |options: &mut Options| options.values = Values::Tokens(Form::Mac);
        for right in [|_: &mut Options| {}, tokens] {
            let mut changed = options();
            right(&mut changed);
            assert!(changed.check().is_ok());
        }
        let wrong: [fn(&mut Options); 18] = [
            |options| options.active = Some(17),
            |options| options.active = Some(0),
            |options| options.threads = 0,
            |options| options.threads = 17,
            |options| options.rate = Some(0.5),
            |options| options.zipf = Some(0.0),
            |options| (options.rate, options.reconnect) = (Some(100.0), true),
            |options| options.connections = 0,
            |options| options.keys = 0,
            |options| options.get_percent = 101,
            |options| options.value_bytes = Some(1..=100),
            |options| (options.pipeline, options.multiget) = (101, 10),
            |options| (options.pipeline, options.get_percent) = (999, 50),
            |options| {
                options.values = Values::Tokens(Form::Plain);
                (options.pipeline, options.get_percent) = (100, 50);
            },
            |options| {
                options.values = Values::Tokens(Form::Plain);
                options.value_bytes = Some(8192..=8192);
            },
            |options| {
                options.values = Values::Tokens(Form::Plain);
                options.catalogue_bytes = Some(2_000_000);
            },
            |options| options.catalogue_bytes = Some(12_000),
            |options| options.catalogue = 1,
        ];
        for change in wrong {
            let mut changed = options();
            change(&mut changed);
            let Err(Error::Options(why)) = changed.check() else {
                panic!("not refused: {changed:?}");
            };
            assert!(!why.contains('\n'));
        }
    }
}
