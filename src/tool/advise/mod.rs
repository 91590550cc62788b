//! `advise`: how much memory and which `token_cache_time` would be worth what, in validations a second at Keystone.
//!
//! From a trace ([`from_trace`], said by [`trace_words`]): it is replayed through tokencached's own store, with more and
//! less of both than there is now. Or from a running server ([`from_status`]), which knows what it missed and why. Both
//! give tables, advice in sentences, and the same as JSON; they are laid out by `table`.
//!
//! Invariants:
//! - *the advice follows from the figures beside it*, and from nothing else;
//! - *what cannot be told is said not to be*: a trace that is too short, a server that has just begun.

pub mod from_status;
pub mod from_trace;
mod table;
pub mod trace_words;

/// Fewer look-ups than these advise nothing.
const LOOK_UPS_MIN: u64 = 1_000;

/// What a validation costs Keystone, in milliseconds of CPU, where nothing else is known: measured with Keystone 30.0.0,
/// without a cache of its own.
pub const VALIDATION_COST_MS: u32 = 100;

/// For programs.
fn json(advice: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(advice).expect("objects whose keys are text")
}

/// How many processors Keystone is busy with at so many validations a second.
fn keystone_cores(validations_per_second: f64, cost_ms: u32) -> f64 {
    validations_per_second * f64::from(cost_ms) / 1_000.0
}
