//! How large the memory and the items in it may be: `-m`, `--memory-ceiling` and `-I` against each other and
//! against the machine.
//!
//! `resolve.rs` asks, with bytes; a size that cannot be used is a [`Problem`], which says what would do.

use super::machine::MemoryBound;
use super::settings::ITEM_BYTES;
use super::units::{GIB, MIB, Problem, show_size};

const MEMORY_LIMIT_MIN: u64 = 8 * MIB;

/// Beyond this no machine goes, and sums of sizes stay far from overflow.
pub(super) const MEMORY_MAX: u64 = 1024 * 1024 * GIB;

/// Whether the server may hold so much: -m, within what the machine has.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_limit(limit: u64, bound: Option<&MemoryBound>) -> Result<(), Problem> {
    if limit < MEMORY_LIMIT_MIN {
        let remedy = format!("give at least {}", show_size(MEMORY_LIMIT_MIN));
        return Err(Problem::new("too small", remedy));
    }
    if limit > MEMORY_MAX {
        let remedy = format!("give at most {}", show_size(MEMORY_MAX));
        return Err(Problem::new("too large", remedy));
    }
    match bound {
        Some(bound) if limit > bound.bytes => {
            let most = bound.bytes / MIB;
            let what = format!("more than the {most} MiB that {} allows", bound.source);
            Err(Problem::new(what, below(most)))
        }
        _ => Ok(()),
    }
}

fn below(most_mib: u64) -> String {
    match most_mib {
        0..8 => "a machine or control group with more memory is needed".into(),
        most => format!("give at most {most}m"),
    }
}

/// Whether so much may be asked for while the server runs: --memory-ceiling, with its -m.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_ceiling(ceiling: u64, limit: u64) -> Result<(), Problem> {
    if ceiling < limit {
        let least = show_size(limit);
        let what = format!("below memory_limit, which is {least}");
        return Err(Problem::new(
            what,
            format!("give at least {least}, or leave it out"),
        ));
    }
    if ceiling > MEMORY_MAX {
        let remedy = format!("give at most {}", show_size(MEMORY_MAX));
        return Err(Problem::new("too large", remedy));
    }
    Ok(())
}

/// Whether an item may be so large: -I, with its -m.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_item(item: u64, limit: u64) -> Result<(), Problem> {
    let (least, most) = ITEM_BYTES;
    let remedy = format!(
        "give 1k to 1024m and at most half of memory_limit, here {}",
        show_size((limit / 2).min(most))
    );
    let what = match item {
        item if item < least => "too small",
        item if item > most => "too large",
        item if item > limit / 2 => "more than half of memory_limit",
        _ => return Ok(()),
    };
    Err(Problem::new(what, remedy))
}
