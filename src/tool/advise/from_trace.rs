//! What other memory and other TTLs would be worth, by replaying a trace.
//!
//! [`advise`] replays it through the real store twice: at several sizes with the present TTL, and at several TTLs with
//! the present memory. All units' requests are counted: it is what Keystone is asked. What comes of it, [`trace_words`]
//! says.
//!
//! Invariant: the figures are those of `simulate --policies tokencached --all-units` under the same conditions.
//!
//! [`trace_words`]: super::trace_words

use std::num::NonZero;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::{keystone_cores, trace_words};
use crate::tool::Error;
use crate::tool::progress::Progress;
use crate::tool::simulate::balance::Balance;
use crate::tool::simulate::policy::Seconds;
use crate::tool::simulate::policy::spec::Spec;
use crate::tool::simulate::policy::tokencached::MEMORY_BYTES_MIN;
use crate::tool::simulate::replay::Values;
use crate::tool::simulate::report::{self, words};
use crate::tool::simulate::{self, Fitted, Simulation, Units};
use crate::tool::trace::{About, Trace};

/// Parts of the present memory that are tried, in quarters.
const QUARTERS: [u64; 6] = [1, 2, 4, 6, 8, 16];

/// What is tried of them, and believed of a trace.
const MEMORY_BYTES: RangeInclusive<u64> = MEMORY_BYTES_MIN..=1 << 40;

/// What a server has where nothing is known of it: the default of `-m`.
const USUAL_MEMORY_BYTES: u64 = 64 << 20;

/// Values of `token_cache_time` that are tried, beside the present one.
const TTL_SECONDS: [Seconds; 7] = [60, 120, 300, 600, 900, 1_800, 3_600];

/// How often a TTL has to come round in the time that is counted, to be told of.
const ROUNDS_MIN: u32 = 3;

/// What to try.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of each unit's cache, the present ones first. If that is all, others around it are tried; if it is empty,
    /// the present ones are those that the trace was recorded with, or 64 MiB.
    pub memory_bytes: Vec<u64>,
    /// Values of `token_cache_time`, the present one first. If that is all, the usual ones are tried; if it is empty,
    /// the present one is that with which the trace was recorded, or 300 s.
    pub ttl_seconds: Vec<Seconds>,
    /// Units that the requests are shared out to; `None` for what fits the trace.
    pub units: Option<u32>,
    /// Requests of this time at the start are not counted; `None` for what fits the trace.
    pub warm_up_seconds: Option<u32>,
    /// The lengths of values.
    pub values: Values,
    /// What a validation costs Keystone, in milliseconds of CPU.
    pub validation_cost_ms: u32,
    /// Caches replayed at once; each takes the memory of one.
    pub threads: NonZero<usize>,
}

/// What a trace says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// `trace`.
    pub source: &'static str,
    /// Under which conditions.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// At the present TTL, the least memory first.
    pub memory: Vec<Row>,
    /// At the present memory, the shortest TTL first.
    pub ttl: Vec<Row>,
    /// TTLs that the trace is too short for.
    pub ttl_seconds_left_out: Vec<Seconds>,
    /// What follows, a sentence or two each.
    pub advice: Vec<String>,
}

/// How the trace was replayed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Conditions {
    /// The trace's name.
    pub trace: String,
    /// The seed it was generated from.
    pub seed: u64,
    /// The scenario's parameters, as `name=value`.
    pub parameters: Vec<String>,
    /// Whether it was recorded from a server, and not made up.
    pub is_recorded: bool,
    /// Units that the requests were shared out to, round robin, each with a cache of its own.
    pub units: u32,
    /// The values' lengths: `plain`, `packed`, or bytes.
    pub values: String,
    /// Time at the start that is not counted.
    pub warm_up_seconds: f64,
    /// Time that is counted.
    pub counted_seconds: f64,
    /// What a validation costs Keystone, in milliseconds of CPU.
    pub validation_cost_ms: u32,
    /// The present memory of a unit's cache.
    pub present_memory_bytes: u64,
    /// The present `token_cache_time`.
    pub present_ttl_seconds: Seconds,
}

/// What a cache would be worth. All units together; legitimate requests only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Memory of each unit's cache.
    pub memory_bytes: u64,
    /// `token_cache_time`.
    pub ttl_seconds: Seconds,
    /// Whether it is the one that there is.
    pub is_present: bool,
    /// Look-ups.
    pub requests: u64,
    /// Those that found their token.
    pub hits: u64,
    /// The same in percent.
    pub hit_percent: f64,
    /// What Keystone is left to validate.
    pub validations_per_second: f64,
    /// How much more that is than with the present cache.
    pub validations_per_second_change: f64,
    /// Processors that Keystone needs for it.
    pub keystone_cores: f64,
    /// How many more than now.
    pub keystone_cores_change: f64,
}

/// Replays a trace. Takes as long as that takes, on all of its threads.
///
/// # Errors
/// Those of [`Simulation::replay`].
pub fn advise(trace: &Trace, options: &Options, progress: &Progress) -> Result<Advice, Error> {
    let conditions = conditions(trace, options)?;
    let memory_bytes = memory_bytes(options, &conditions);
    let (ttl_seconds, ttl_seconds_left_out) = ttl_seconds(options, &conditions);
    let present_memory = conditions.present_memory_bytes;
    let present_ttl = conditions.present_ttl_seconds;
    let is_other = |ttl: &Seconds| *ttl != present_ttl;
    let others: Vec<Seconds> = ttl_seconds.into_iter().filter(is_other).collect();
    let units = vec![conditions.units];
    let at_present_ttl = caches(options, memory_bytes, vec![present_ttl], units.clone())?;
    let at_present_memory = caches(options, vec![present_memory], others, units)?;
    at_present_memory.check()?;
    let memory = replayed(trace, &at_present_ttl, progress)?;
    let mut ttl = match at_present_memory.ttl_seconds[..] {
        [] => Vec::new(),
        _ => replayed(trace, &at_present_memory, progress)?,
    };
    let present = memory.iter().find(|row| row.memory_bytes == present_memory);
    ttl.extend(present.cloned());
    ttl.sort_by_key(|row| row.ttl_seconds);
    let mut advice = Advice {
        source: "trace",
        memory: rows(&memory, &conditions),
        ttl: rows(&ttl, &conditions),
        ttl_seconds_left_out,
        conditions,
        advice: Vec::new(),
    };
    advice.advice = trace_words::sentences(&advice);
    Ok(advice)
}

/// What the options leave open is as the trace has it.
fn conditions(trace: &Trace, options: &Options) -> Result<Conditions, Error> {
    let about = &trace.about;
    let present_ttl: Vec<Seconds> = options.ttl_seconds.iter().copied().take(1).collect();
    let asked = caches(
        options,
        Vec::new(),
        present_ttl,
        options.units.into_iter().collect(),
    )?;
    let fitted = Fitted::new(&asked, about);
    let counted = about.millis.saturating_sub(fitted.warm_up_millis);
    let first = options.memory_bytes.first();
    Ok(Conditions {
        trace: words::one_line(&about.name).into_owned(),
        seed: about.seed,
        parameters: about.parameters.clone(),
        is_recorded: about.recorded.is_some(),
        units: fitted.units[0],
        values: options.values.to_string(),
        warm_up_seconds: f64::from(fitted.warm_up_millis) / 1_000.0,
        counted_seconds: f64::from(counted) / 1_000.0,
        validation_cost_ms: options.validation_cost_ms,
        present_memory_bytes: first
            .copied()
            .unwrap_or_else(|| recorded_memory_bytes(about)),
        present_ttl_seconds: fitted.ttl_seconds[0],
    })
}

/// The memory of the server that the trace was recorded from; the usual one where that is not known.
fn recorded_memory_bytes(about: &About) -> u64 {
    let recorded = about.recorded.map(|recorded| recorded.memory_bytes);
    let possible = recorded.filter(|bytes| MEMORY_BYTES.contains(bytes));
    possible.unwrap_or(USUAL_MEMORY_BYTES)
}

/// The sizes to try, the least first.
fn memory_bytes(options: &Options, conditions: &Conditions) -> Vec<u64> {
    let present = conditions.present_memory_bytes;
    let mut sizes = match &options.memory_bytes[..] {
        [] | [_] => {
            let around = QUARTERS.map(|quarters| present.saturating_mul(quarters) / 4);
            let possible = around
                .into_iter()
                .filter(|bytes| MEMORY_BYTES.contains(bytes));
            possible.chain([present]).collect()
        }
        given => given.to_vec(),
    };
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// The TTLs to try, the shortest first, and those that the trace is too short for.
fn ttl_seconds(options: &Options, conditions: &Conditions) -> (Vec<Seconds>, Vec<Seconds>) {
    let present = conditions.present_ttl_seconds;
    let mut all = match &options.ttl_seconds[..] {
        [] | [_] => [&TTL_SECONDS[..], &[present]].concat(),
        given => given.to_vec(),
    };
    all.sort_unstable();
    all.dedup();
    all.into_iter()
        .partition(|ttl| *ttl == present || conditions.is_long_enough_for(*ttl))
}

impl Conditions {
    /// Whether a TTL comes round often enough in the time that is counted.
    pub fn is_long_enough_for(&self, ttl_seconds: Seconds) -> bool {
        f64::from(ttl_seconds) * f64::from(ROUNDS_MIN) <= self.counted_seconds
    }
}

fn caches(
    options: &Options,
    memory_bytes: Vec<u64>,
    ttl_seconds: Vec<Seconds>,
    units: Vec<u32>,
) -> Result<simulate::Options, Error> {
    Ok(simulate::Options {
        policies: vec![Spec::parse("tokencached")?],
        memory_bytes,
        ttl_seconds,
        units,
        balances: vec![Balance::RoundRobin],
        replayed: Units::All,
        values: vec![options.values],
        validation_millis: None,
        warm_up_seconds: options.warm_up_seconds,
        threads: options.threads,
    })
}

fn replayed(
    trace: &Trace,
    caches: &simulate::Options,
    progress: &Progress,
) -> Result<Vec<report::Row>, Error> {
    let mut simulation = Simulation::new(caches);
    simulation.replay(trace, progress)?;
    Ok(simulation.report(String::new()).rows)
}

fn rows(found: &[report::Row], conditions: &Conditions) -> Vec<Row> {
    let is_present = |row: &report::Row| {
        row.memory_bytes == conditions.present_memory_bytes
            && row.ttl_seconds == conditions.present_ttl_seconds
    };
    let present = found.iter().find(|row| is_present(row));
    let present = present.map_or(0.0, report::Row::validations_per_second);
    let cost_ms = conditions.validation_cost_ms;
    let row = |row: &report::Row| {
        let validations = row.validations_per_second();
        Row {
            memory_bytes: row.memory_bytes,
            ttl_seconds: row.ttl_seconds,
            is_present: is_present(row),
            requests: row.tally.requests,
            hits: row.tally.hits,
            hit_percent: row.hit_percent(),
            validations_per_second: validations,
            validations_per_second_change: validations - present,
            keystone_cores: keystone_cores(validations, cost_ms),
            keystone_cores_change: keystone_cores(validations - present, cost_ms),
        }
    };
    found.iter().map(row).collect()
}
