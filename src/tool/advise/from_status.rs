//! What a running server advises: from what it missed, and why.
//!
//! [`advise`] reads a [`Status`]. What more memory is worth, the server counts itself (`stats::need`); what had expired
//! is the most that a longer `token_cache_time` would be worth; what it never saw, no cache has.
//!
//! Invariants:
//! - *as long as too little was watched, nothing is advised*, and what there is is shown;
//! - the server's words are shown such that they do nothing to a terminal.

use std::fmt;

use serde::Serialize;

use super::{LOOK_UPS_MIN, VALIDATION_COST_MS, keystone_cores, table};
use crate::stats::history::Window;
use crate::stats::status::Status;
use crate::tool::simulate::policy::tokencached::MEMORY_BYTES_MIN;
use crate::tool::simulate::report::words::three_digits;
use crate::tool::{status, units};

/// Time that has to be watched before anything is advised, in seconds.
const WATCHED_SECONDS_MIN: u32 = 600;

const MIB: u64 = 1 << 20;

/// What a server says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// `server`.
    pub source: &'static str,
    /// What it has seen of late.
    #[serde(flatten)]
    pub seen: Seen,
    /// Whether that is too little to go by.
    pub is_too_early: bool,
    /// The limit, and what more would have been worth; estimates.
    pub memory: Vec<Row>,
    /// What follows, a sentence or two each.
    pub advice: Vec<String>,
}

/// What was seen during the last day, or since the start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    /// How long it was watched.
    pub watched_seconds: u32,
    /// Look-ups in that time.
    pub look_ups: u64,
    /// Those that found a value.
    pub hits: u64,
    /// Those of what had been evicted and would still be valid.
    pub evicted: u64,
    /// Those of what had expired.
    pub expired: u64,
    /// Of all misses since the start, those of what was never there, in percent; `None` without a miss.
    pub never_seen_percent: Option<f64>,
    /// The memory limit.
    pub limit_bytes: u64,
    /// Memory in use.
    pub used_bytes: u64,
    /// Items evicted since the start.
    pub evictions: u64,
    /// What a validation costs Keystone, in milliseconds of CPU.
    pub validation_cost_ms: u32,
    /// Of the look-ups that hit, those that spared a validation: a part of one.
    pub validations_per_hit: f64,
}

/// What a limit would have been worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// The limit.
    pub memory_bytes: u64,
    /// Whether it is the one that there is.
    pub is_present: bool,
    /// Look-ups that would have found a value.
    pub hits: u64,
    /// The same in percent.
    pub hit_percent: f64,
    /// How much more Keystone would have been asked.
    pub validations_per_second_change: f64,
    /// How many more processors it would have needed.
    pub keystone_cores_change: f64,
}

/// Reads a server's status. A validation costs Keystone `cost_ms`; `None` for what the server takes it for.
pub fn advise(status: &Status, cost_ms: Option<u32>) -> Advice {
    let seen = Seen::of(status, cost_ms);
    let is_too_early = seen.watched_seconds < WATCHED_SECONDS_MIN || seen.look_ups < LOOK_UPS_MIN;
    let advice = match is_too_early {
        true => vec![too_early(&seen)],
        false => {
            let verdict = status::verdict(&status.memory);
            let more = [
                given_back(&seen),
                Some(longer_ttl(&seen)),
                never_seen(&seen),
            ];
            [verdict]
                .into_iter()
                .chain(more.into_iter().flatten())
                .collect()
        }
    };
    Advice {
        source: "server",
        memory: rows(status, &seen),
        seen,
        is_too_early,
        advice,
    }
}

impl Seen {
    fn of(status: &Status, cost_ms: Option<u32>) -> Seen {
        let longest = status.windows.iter().max_by_key(|window| window.seconds);
        let Window {
            watched_seconds,
            served,
            ..
        } = longest.copied().unwrap_or_default();
        let memory = &status.memory;
        Seen {
            watched_seconds,
            look_ups: served.gets(),
            hits: served.hits,
            evicted: served.evicted,
            expired: served.expired,
            never_seen_percent: never_seen_percent(status),
            limit_bytes: memory.limit_bytes,
            used_bytes: memory.used_bytes,
            evictions: memory.evictions,
            validation_cost_ms: cost_ms.unwrap_or_else(|| validation_cost_ms(status)),
            validations_per_hit: units::part(served.validations_avoided, served.hits)
                .map_or(1.0, |part| part.min(1.0)),
        }
    }

    fn percent(&self, look_ups: u64) -> f64 {
        100.0 * look_ups as f64 / self.look_ups.max(1) as f64
    }

    /// Validations a second that so many hits more spare: as many of them as of those that there were.
    fn validations_per_second(&self, hits: u64) -> f64 {
        hits as f64 * self.validations_per_hit / f64::from(self.watched_seconds.max(1))
    }

    fn keystone_cores(&self, hits: u64) -> f64 {
        keystone_cores(self.validations_per_second(hits), self.validation_cost_ms)
    }
}

/// What the server takes a validation for.
fn validation_cost_ms(status: &Status) -> u32 {
    let total = &status.total;
    match total.saved_ms.checked_div(total.validations_avoided) {
        Some(cost_ms) if cost_ms > 0 => u32::try_from(cost_ms).unwrap_or(u32::MAX),
        _ => VALIDATION_COST_MS,
    }
}

fn never_seen_percent(status: &Status) -> Option<f64> {
    let all: f64 = status.misses.iter().map(|missed| missed.count as f64).sum();
    let never = status
        .misses
        .iter()
        .filter(|missed| missed.cause == "never_seen");
    let never: f64 = never.map(|missed| missed.count as f64).sum();
    (all > 0.0).then(|| 100.0 * never / all)
}

fn rows(status: &Status, seen: &Seen) -> Vec<Row> {
    let row = |memory_bytes, is_present, hits: u64| {
        let more = hits.saturating_sub(seen.hits);
        // Not -0.
        Row {
            memory_bytes,
            is_present,
            hits,
            hit_percent: seen.percent(hits),
            validations_per_second_change: 0.0 - seen.validations_per_second(more),
            keystone_cores_change: 0.0 - seen.keystone_cores(more),
        }
    };
    let steps = status.memory.need.iter().flat_map(|need| &need.steps);
    let steps = steps.map(|step| row(step.limit_bytes, false, step.hits));
    [row(seen.limit_bytes, true, seen.hits)]
        .into_iter()
        .chain(steps)
        .collect()
}

fn too_early(seen: &Seen) -> String {
    format!(
        "Too early to advise: {} look-ups in {} were watched, and it takes {} in {}; ask again then.",
        units::count(seen.look_ups),
        units::time(seen.watched_seconds.into()),
        units::count(LOOK_UPS_MIN),
        units::time(WATCHED_SECONDS_MIN.into())
    )
}

/// Memory that is hardly used: what is left is twice what is in use, for busier times.
fn given_back(seen: &Seen) -> Option<String> {
    let (limit, used) = (seen.limit_bytes, seen.used_bytes);
    if seen.evictions > 0 || used >= limit / 2 {
        return None;
    }
    let left = (2 * used)
        .checked_next_multiple_of(MIB)?
        .max(MEMORY_BYTES_MIN);
    let back = limit.checked_sub(left).filter(|bytes| *bytes > 0)?;
    Some(format!(
        "Memory: {} of {} are in use, and nothing was ever evicted: {} could be given back, and the {} that are left \
         would be twice what is in use; look at the busiest hour first.",
        units::bytes(used),
        units::bytes(limit),
        units::bytes(back),
        units::bytes(left)
    ))
}

fn longer_ttl(seen: &Seen) -> String {
    if seen.expired == 0 {
        return "TTL: nothing was asked for once it had expired, so a longer token_cache_time would spare Keystone nothing."
            .to_owned();
    }
    format!(
        "TTL: {} of the look-ups missed what had expired. A longer token_cache_time would spare Keystone these at most, \
         {} validations a second, {} processors; each second that it is longer is one in which a revoked token is \
         still let in.",
        units::percent(units::part(seen.expired, seen.look_ups)),
        three_digits(seen.validations_per_second(seen.expired)),
        three_digits(seen.keystone_cores(seen.expired))
    )
}

fn never_seen(seen: &Seen) -> Option<String> {
    let percent = seen.never_seen_percent.filter(|percent| *percent > 0.0)?;
    Some(format!(
        "{} of the misses since the start were of what had never been there, or is not remembered: new tokens are helped by no memory and no TTL, only by \
         clients that keep their tokens.",
        units::percent(Some(percent / 100.0))
    ))
}

/// For people.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a Advice);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Advice { seen, advice, .. } = self.0;
        writeln!(
            f,
            "{} look-ups in the last {}; {} of {} in use, {} items evicted since the start; a validation costs Keystone \
             {} ms.\n",
            units::count(seen.look_ups),
            units::time(seen.watched_seconds.into()),
            units::bytes(seen.used_bytes),
            units::bytes(seen.limit_bytes),
            units::count(seen.evictions),
            seen.validation_cost_ms
        )?;
        if seen.look_ups > 0 {
            let heading = [
                "Memory",
                "hit rate",
                "change of validations/s",
                "of Keystone processors",
            ];
            table::write(f, heading, self.0.memory.iter().map(cells))?;
        }
        table::write_sentences(f, advice)
    }
}

impl Advice {
    /// For programs.
    pub fn to_json(&self) -> String {
        super::json(self)
    }
}

fn cells(row: &Row) -> [String; 4] {
    [
        table::label(&units::bytes(row.memory_bytes), row.is_present),
        table::percent(row.hit_percent),
        table::change(row.validations_per_second_change),
        table::change(row.keystone_cores_change),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::history::Sample;
    use crate::stats::need::need;
    use crate::stats::status::{Memory, Missed};

    /// A server of 64 MB that is asked ten times a second, with 90 % of hits.
    fn server(watched_seconds: u32, served: Sample, memory: Memory) -> Status {
        let day = Window {
            seconds: 86_400,
            watched_seconds,
            served,
        };
        let missed = |cause: &str, count| Missed {
            cause: cause.to_owned(),
            count,
        };
        Status {
            total: served,
            windows: vec![Window::default(), day],
            misses: vec![missed("never_seen", 30), missed("expired", 10)],
            memory: Memory {
                limit_bytes: 64 * MIB,
                need: need(&day, 64 * MIB, 1_000),
                ..memory
            },
            ..Status::default()
        }
    }

    fn served() -> Sample {
        Sample {
            hits: 9_000,
            misses: 1_000,
            validations_avoided: 9_000,
            saved_ms: 9_000 * 200,
            ..Sample::default()
        }
    }

    fn full() -> Memory {
        Memory {
            used_bytes: 63 * MIB,
            evictions: 5,
            ..Memory::default()
        }
    }

    const NEVER: &str = "75.0 % of the misses since the start were of what had never been there, or is not remembered: new \
         tokens are helped by no memory and no TTL, only by clients that keep their tokens.";

    const NOT_LONGER: &str = "TTL: nothing was asked for once it had expired, so a longer token_cache_time would spare \
                              Keystone nothing.";

    #[test]
    fn what_was_hardly_watched_is_shown_and_nothing_advised() {
        let young = advise(&server(180, served(), full()), None);
        assert!(young.is_too_early);
        let told = "Too early to advise: 10,000 look-ups in 3 min were watched, and it takes 1,000 in 10 min; ask again \
                    then.";
        assert_eq!(young.advice, [told]);
        assert_eq!(young.memory[0].hit_percent, 90.0);

        let few = Sample {
            hits: 999,
            misses: 0,
            ..Sample::default()
        };
        assert!(advise(&server(3_600, few, full()), None).is_too_early);
        let silent = advise(&Status::default(), None);
        assert!(silent.is_too_early);
        assert!(
            Text(&silent)
                .to_string()
                .contains("Too early to advise: 0 look-ups in 0 s")
        );
    }

    #[test]
    fn what_more_memory_would_have_found_is_a_row_each() {
        let lost = Sample {
            evicted: 500,
            lacked: [100, 100, 300, 0, 0],
            ..served()
        };
        let advice = advise(&server(1_000, lost, full()), None);
        let expected = "\
10,000 look-ups in the last 16 min 40 s; 63 MB of 64 MB in use, 5 items evicted since the start; a validation costs Keystone 200 ms.

Memory           hit rate  change of validations/s  of Keystone processors
64 MB (present)   90.00 %                        0                       0
72 MB             91.00 %                    -0.10                   -0.02
80 MB             92.00 %                    -0.20                   -0.04
96 MB             95.00 %                    -0.50                   -0.10
128 MB            95.00 %                    -0.50                   -0.10
192 MB            95.00 %                    -0.50                   -0.10

At 64 MB, 5.0 % of the look-ups of the last 16 minutes missed what had been evicted; 96 MB would have kept it.
";
        let told = Text(&advice).to_string();
        assert_eq!(told, format!("{expected}{NOT_LONGER}\n{NEVER}\n"));
    }

    #[test]
    fn hits_of_other_things_than_tokens_spare_no_validation() {
        let mixed = Sample {
            evicted: 500,
            lacked: [500, 0, 0, 0, 0],
            validations_avoided: 4_500,
            ..served()
        };
        let advice = advise(&server(1_000, mixed, full()), Some(100));
        assert_eq!(advice.memory[1].validations_per_second_change, -0.25);
        assert_eq!(advice.memory[1].keystone_cores_change, -0.025);
    }

    #[test]
    fn memory_that_is_hardly_used_can_be_given_back() {
        let of = |used_bytes, evictions| {
            let memory = Memory {
                used_bytes,
                evictions,
                ..Memory::default()
            };
            let said = advise(&server(1_000, served(), memory), None).advice;
            said.into_iter().find(|line| line.starts_with("Memory:"))
        };
        let told = "Memory: 10 MB of 64 MB are in use, and nothing was ever evicted: 44 MB could be given back, and the \
                    20 MB that are left would be twice what is in use; look at the busiest hour first.";
        assert_eq!(of(10 * MIB, 0).unwrap(), told);
        assert!(of(MIB, 0).unwrap().contains("56 MB could be given back"));
        assert_eq!(of(10 * MIB, 1), None);
        assert_eq!(of(32 * MIB, 0), None);
    }

    #[test]
    fn what_had_expired_is_the_most_that_a_longer_ttl_spares() {
        let expired = Sample {
            expired: 400,
            ..served()
        };
        let advice = advise(&server(1_000, expired, full()), Some(150));
        let told = "TTL: 4.0 % of the look-ups missed what had expired. A longer token_cache_time would spare Keystone \
                    these at most, 0.40 validations a second, 0.06 processors; each second that it is longer is one \
                    in which a revoked token is still let in.";
        assert_eq!(advice.advice[1], told);
    }

    #[test]
    fn without_a_miss_nothing_is_said_of_misses() {
        let mut perfect = server(1_000, served(), full());
        perfect.misses.clear();
        let said = advise(&perfect, None);
        assert_eq!(said.seen.never_seen_percent, None);
        assert_eq!(said.advice.len(), 2, "{:?}", said.advice);
    }

    #[test]
    fn what_a_server_sends_does_nothing_to_a_terminal_nor_to_the_sums() {
        let mut odd = server(u32::MAX, served(), Memory::default());
        odd.memory.limit_bytes = u64::MAX;
        odd.memory.used_bytes = u64::MAX / 2 - 1;
        if let Some(need) = &mut odd.memory.need {
            need.verdict = "a\x1b[2Jb".to_owned();
            need.steps[0].hits = 0;
        }
        odd.total.saved_ms = u64::MAX;
        let said = Text(&advise(&odd, None)).to_string();
        assert!(!said.contains('\x1b'), "{said}");
    }
}
