//! What other memory limits would have been worth, told from what was missed: the advice of the status page.
//!
//! Look-ups of what had to leave for others are counted by how much more memory would have kept it (`by_class`); here
//! they become hit ratios at other limits, and a sentence.
//!
//! Invariant: an estimate is said as one, with the time that it was taken from.

use serde::{Deserialize, Serialize};

use super::history::Window;
use crate::store::Shortfall;

/// Of so many look-ups one may be lost before more memory is worth a word.
const TOLERATED: u64 = 1_000;

/// The part of the losses that a limit has to end to be named as the remedy, in percent.
const REMEDY_PERCENT: f64 = 95.0;

/// Keys that are remembered for each item held, about.
const KEYS_AN_ITEM: u64 = 2;

/// Keys that are forgotten sooner may come back unrecognised: what `token_cache_time` is by default.
const REMEMBERED_SECONDS_MIN: u32 = 300;

/// Fewer look-ups than these tell nothing.
const GETS_MIN: u64 = 100;

const MIB: u64 = 1 << 20;

/// What other limits would have been worth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Need {
    /// How long it was watched, in seconds.
    pub seconds: u32,
    /// Look-ups in that time.
    pub gets: u64,
    /// Those that found a value.
    pub hits: u64,
    /// Those of what had been evicted and would still be valid.
    pub lost: u64,
    /// How long keys that had to leave were remembered, about; `None` if none had to.
    pub remembered_seconds: Option<u32>,
    /// What more memory would have found, the least memory first.
    pub steps: Vec<Step>,
    /// All that in a sentence.
    pub verdict: String,
}

/// A limit, and what it would have been worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// The limit.
    pub limit_bytes: u64,
    /// Look-ups that would have found a value.
    pub hits: u64,
}

/// What the look-ups of a window say of the limit of a store that holds so many items; `None` if they are too few to say anything.
pub fn need(window: &Window, limit_bytes: u64, items: u64) -> Option<Need> {
    let served = &window.served;
    if served.gets() < GETS_MIN {
        return None;
    }
    let mut hits = served.hits;
    let steps = Shortfall::ALL.iter().zip(served.lacked);
    let steps = steps.map(|(shortfall, lacked)| {
        hits = hits.saturating_add(lacked);
        let more_bytes = (limit_bytes / 8).saturating_mul(shortfall.eighths());
        let limit_bytes = limit_bytes.saturating_add(more_bytes);
        Step {
            limit_bytes: limit_bytes
                .checked_next_multiple_of(MIB)
                .unwrap_or(limit_bytes),
            hits,
        }
    });
    let mut need = Need {
        seconds: window.watched_seconds,
        gets: served.gets(),
        hits: served.hits,
        lost: served.evicted,
        remembered_seconds: remembered_seconds(window, items),
        steps: steps.collect(),
        verdict: String::new(),
    };
    need.verdict = verdict(&need, limit_bytes);
    Some(need)
}

/// How long a key is remembered that had to leave; `None` if none had to.
fn remembered_seconds(window: &Window, items: u64) -> Option<u32> {
    let watched = u64::from(window.watched_seconds.max(1));
    let seconds = items.saturating_mul(KEYS_AN_ITEM).saturating_mul(watched);
    let seconds = seconds.checked_div(window.served.evictions)?;
    Some(u32::try_from(seconds).unwrap_or(u32::MAX))
}

fn verdict(need: &Need, limit_bytes: u64) -> String {
    let limit = megabytes(limit_bytes);
    let watched = time(need.seconds);
    let forgotten = need
        .remembered_seconds
        .filter(|&seconds| seconds < REMEMBERED_SECONDS_MIN)
        .map(time);
    if is_hardly(need.lost, need.gets) {
        return match forgotten {
            None => format!(
                "{limit} is enough: in the last {watched}, what had been evicted was hardly asked for again."
            ),
            Some(time) => format!(
                "At {limit}, keys that had to leave are remembered for {time} only, and were hardly asked for \
                 within: what is asked for later cannot be told from new."
            ),
        };
    }
    let part = percent(need.lost, need.gets);
    let lost = format!(
        "At {limit}, {part} of the look-ups of the last {watched} missed what had been evicted"
    );
    let kept = |step: &Step| step.hits.saturating_sub(need.hits);
    let remedies = |step: &&Step| kept(step) as f64 * 100.0 >= need.lost as f64 * REMEDY_PERCENT;
    let told = match (need.steps.iter().find(remedies), need.steps.last()) {
        (Some(step), _) => format!(
            "{lost}; {} would have kept it.",
            megabytes(step.limit_bytes)
        ),
        (None, Some(most)) => {
            let kept = percent(kept(most), need.lost);
            let limit = megabytes(most.limit_bytes);
            format!("{lost}; {limit} would have kept {kept} of it.")
        }
        (None, None) => format!("{lost}."),
    };
    match forgotten {
        None => told,
        Some(time) => {
            format!("{told} Keys that had to leave are remembered for {time} only: it may be more.")
        }
    }
}

fn is_hardly(lost: u64, gets: u64) -> bool {
    lost.saturating_mul(TOLERATED) < gets
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(MIB))
}

/// With one decimal below ten.
fn percent(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    match percent < 9.95 {
        true => format!("{percent:.1} %"),
        false => format!("{percent:.0} %"),
    }
}

fn time(seconds: u32) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..86_400 => (seconds / 3_600, "hour"),
        _ => return "day".to_owned(),
    };
    match count {
        1 => unit.to_owned(),
        _ => format!("{count} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::history::Sample;

    fn window(hits: u64, evicted: u64, lacked: [u64; 5]) -> Window {
        Window {
            seconds: 86_400,
            watched_seconds: 21_700,
            served: Sample {
                hits,
                misses: 1_000 - hits,
                evicted,
                lacked,
                ..Sample::default()
            },
        }
    }

    const ITEMS: u64 = 1_000;

    #[test]
    fn what_is_forgotten_soon_is_not_called_enough() {
        let mut window = window(100, 0, [0; 5]);
        let of = |window: &Window| need(window, 8 * MIB, ITEMS).unwrap();
        window.served.evictions = 1_000;
        assert_eq!(of(&window).remembered_seconds, Some(43_400));
        assert!(of(&window).verdict.starts_with("8 MB is enough"));
        window.served.evictions = 1_000_000;
        let told = "At 8 MB, keys that had to leave are remembered for 43 seconds only, and were hardly asked for \
                    within: what is asked for later cannot be told from new.";
        assert_eq!(of(&window).verdict, told);
        window.served.evicted = 500;
        let told = of(&window).verdict;
        assert!(
            told.ends_with("for 43 seconds only: it may be more."),
            "{told}"
        );
    }

    #[test]
    fn counts_beyond_reason_are_told_without_a_panic() {
        let mut window = window(10, u64::MAX, [u64::MAX; 5]);
        window.served.hits = u64::MAX;
        window.served.evictions = 1;
        assert!(
            !need(&window, u64::MAX, u64::MAX)
                .unwrap()
                .verdict
                .is_empty()
        );
    }

    #[test]
    fn the_least_memory_that_ends_the_losses_is_named() {
        let need = need(&window(900, 30, [5, 5, 19, 1, 0]), 64 * MIB, ITEMS).unwrap();
        let told = "At 64 MB, 3.0 % of the look-ups of the last 6 hours missed what had been evicted; \
                    96 MB would have kept it.";
        assert_eq!(need.verdict, told);
        let steps = need
            .steps
            .iter()
            .map(|step| (step.limit_bytes / MIB, step.hits));
        let expected = [(72, 905), (80, 910), (96, 929), (128, 930), (192, 930)];
        assert!(steps.eq(expected), "{:?}", need.steps);
    }

    #[test]
    fn memory_that_would_not_do_is_not_called_the_remedy() {
        let need = need(&window(500, 400, [0, 0, 0, 40, 60]), 100 * MIB, ITEMS).unwrap();
        let told = "At 100 MB, 40 % of the look-ups of the last 6 hours missed what had been evicted; \
                    300 MB would have kept 25 % of it.";
        assert_eq!(need.verdict, told);
    }

    #[test]
    fn nothing_more_is_wanted_where_nothing_is_lost() {
        let of = |window| need(&window, 64 * MIB, ITEMS).map(|need| need.verdict);
        let told = "64 MB is enough: in the last 6 hours, what had been evicted was hardly asked for again.";
        assert_eq!(of(window(500, 0, [0; 5])).as_deref(), Some(told));
        let mut few = window(50, 20, [0; 5]);
        few.served.misses = 20;
        assert_eq!(of(few), None);
    }

    #[test]
    fn a_time_is_said_in_the_unit_that_fits() {
        let said = [1, 119, 120, 7_199, 7_200, 86_399, 86_400].map(time);
        let expected = [
            "second",
            "119 seconds",
            "2 minutes",
            "119 minutes",
            "2 hours",
            "23 hours",
            "day",
        ];
        assert_eq!(said, expected);
    }
}
