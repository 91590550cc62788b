//! What a replayed trace advises, in sentences, and how it is shown.
//!
//! Each sentence is a function from rows to text: [`sentences`] puts them together, [`Text`] adds the tables.

use std::fmt;

use super::from_trace::{Advice, Conditions, Row};
use super::{LOOK_UPS_MIN, table};
use crate::tool::simulate::policy::Seconds;
use crate::tool::simulate::policy::tokencached::MEMORY_BYTES_MIN;
use crate::tool::simulate::report::words::{memory, one_line, three_digits};
use crate::tool::units;

/// So many points below the best hit rate are as good as it.
const AS_GOOD_POINTS: f64 = 0.1;

/// A longer TTL that spares less than this part of the validations is not worth its cost.
const WORTH_A_WORD: f64 = 0.01;

/// What follows from the rows.
pub fn sentences(advice: &Advice) -> Vec<String> {
    let conditions = &advice.conditions;
    if let Some(sentence) = too_few(&advice.memory) {
        return vec![sentence];
    }
    let mut sentences = on_memory(&advice.memory);
    sentences.extend(on_ttl(&advice.ttl));
    sentences.extend(on_length(conditions, &advice.ttl_seconds_left_out));
    sentences
}

/// What is said where nothing can be advised.
fn too_few(rows: &[Row]) -> Option<String> {
    let requests = rows.first().map_or(0, |row| row.requests);
    (requests < LOOK_UPS_MIN).then(|| {
        format!(
            "Nothing to advise: {} look-ups are counted, and it takes {}.",
            units::count(requests),
            units::count(LOOK_UPS_MIN)
        )
    })
}

/// The least memory that is as good as any, and what that means for what there is.
fn on_memory(rows: &[Row]) -> Vec<String> {
    let best = rows.iter().map(|row| row.hit_percent).fold(0.0, f64::max);
    let is_as_good = |row: &&Row| row.hit_percent >= best - AS_GOOD_POINTS;
    let (Some(least), Some(present), Some(most)) = (
        rows.iter().find(is_as_good),
        rows.iter().find(|row| row.is_present),
        rows.last(),
    ) else {
        return Vec::new();
    };
    let mut sentences = vec![match least.memory_bytes.cmp(&present.memory_bytes) {
        std::cmp::Ordering::Less => less_memory(least, present),
        std::cmp::Ordering::Equal => format!(
            "Memory: {} is right, the least that was tried of what hits within 0.1 points of the best.",
            memory(present.memory_bytes)
        ),
        std::cmp::Ordering::Greater => more_memory(least, present),
    }];
    if least.memory_bytes == rows[0].memory_bytes && least.memory_bytes > MEMORY_BYTES_MIN {
        sentences.push(format!(
            "Less than {} was not tried, and may do as well: give smaller sizes with --memory.",
            memory(least.memory_bytes)
        ));
    } else if least == most {
        sentences.push(format!(
            "No more than {} was tried, and more may be worth still more: give larger sizes with --memory.",
            memory(most.memory_bytes)
        ));
    }
    sentences
}

fn less_memory(least: &Row, present: &Row) -> String {
    format!(
        "Memory: {} is enough, the least that was tried of what hits within 0.1 points of the best; {} of the {} \
         of each unit could be given back.",
        memory(least.memory_bytes),
        memory(present.memory_bytes - least.memory_bytes),
        memory(present.memory_bytes)
    )
}

fn more_memory(least: &Row, present: &Row) -> String {
    format!(
        "Memory: {} in each unit instead of {} would make {} of the look-ups hits instead of {}, and {}.",
        memory(least.memory_bytes),
        memory(present.memory_bytes),
        table::percent(least.hit_percent),
        table::percent(present.hit_percent),
        spared(least)
    )
}

/// What a row spares Keystone.
fn spared(row: &Row) -> String {
    format!(
        "spare Keystone {} validations a second, {} processors",
        three_digits(-row.validations_per_second_change),
        three_digits(-row.keystone_cores_change)
    )
}

/// What longer TTLs are worth, and their price.
fn on_ttl(rows: &[Row]) -> Vec<String> {
    let Some(present) = rows.iter().find(|row| row.is_present) else {
        return Vec::new();
    };
    let mut longer = rows
        .iter()
        .filter(|row| row.ttl_seconds > present.ttl_seconds);
    let is_worth_it = |row: &&Row| {
        -row.validations_per_second_change > WORTH_A_WORD * present.validations_per_second
    };
    let mut worth_it = longer.clone().filter(is_worth_it);
    match (worth_it.next(), worth_it.next_back(), longer.next_back()) {
        (Some(first), last, _) => [Some(first), last]
            .into_iter()
            .flatten()
            .map(|row| longer_ttl(row, present))
            .collect(),
        (None, _, Some(longest)) => vec![format!(
            "TTL: a token_cache_time longer than {} s, up to {} s, would spare Keystone next to nothing.",
            present.ttl_seconds, longest.ttl_seconds
        )],
        (None, _, None) => Vec::new(),
    }
}

/// The window is the whole TTL: what was validated just before it is revoked is let in until it expires.
fn longer_ttl(row: &Row, present: &Row) -> String {
    let ttl = row.ttl_seconds;
    format!(
        "TTL: token_cache_time = {ttl} would {}; a revoked token would be let in for up to {ttl} s, {} s longer than now.",
        spared(row),
        ttl - present.ttl_seconds
    )
}

/// What the trace is too short to tell.
fn on_length(conditions: &Conditions, left_out: &[Seconds]) -> Vec<String> {
    let counted = units::time(conditions.counted_seconds as u64);
    let present = conditions.present_ttl_seconds;
    let mut sentences = Vec::new();
    if !conditions.is_long_enough_for(present) {
        sentences.push(format!(
            "The {counted} that are counted are less than three times the present TTL of {present} s: take all figures \
             for an extrapolation, and a longer trace for an advice."
        ));
    }
    if !left_out.is_empty() {
        let all: Vec<String> = left_out.iter().map(|ttl| format!("{ttl} s")).collect();
        sentences.push(format!(
            "Left out: a TTL of {}, for which the {counted} that are counted are too short (three TTLs at least).",
            all.join(", ")
        ));
    }
    sentences
}

/// For people.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a Advice);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Advice {
            conditions,
            memory: sizes,
            ttl,
            advice,
            ..
        } = self.0;
        writeln!(f, "{}\n", head(conditions))?;
        let at = format!("Memory, at a TTL of {} s", conditions.present_ttl_seconds);
        write_rows(f, &at, sizes, |row| memory(row.memory_bytes))?;
        let at = format!("TTL, in {}", memory(conditions.present_memory_bytes));
        write_rows(f, &at, ttl, |row| format!("{} s", row.ttl_seconds))?;
        table::write_sentences(f, advice)
    }
}

impl Advice {
    /// For programs.
    pub fn to_json(&self) -> String {
        super::json(self)
    }
}

fn head(conditions: &Conditions) -> String {
    let parameters = conditions.parameters.iter();
    let name: String = parameters.fold(conditions.trace.clone(), |name, parameter| {
        format!("{name} {}", one_line(parameter))
    });
    let units = match conditions.units {
        1 => "1 unit".to_owned(),
        units => format!("{units} units, each with a cache of its own"),
    };
    format!(
        "{name}: {units}; values {}; {} are counted after a warm-up of {}; a validation costs Keystone {} ms.",
        conditions.values,
        units::time(conditions.counted_seconds as u64),
        units::time(conditions.warm_up_seconds as u64),
        conditions.validation_cost_ms
    )
}

fn write_rows(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    rows: &[Row],
    label: impl Fn(&Row) -> String,
) -> fmt::Result {
    let heading = [
        what,
        "hit rate",
        "validations/s",
        "change",
        "Keystone processors",
        "change",
    ];
    let cells = |row: &Row| {
        [
            table::label(&label(row), row.is_present),
            table::percent(row.hit_percent),
            three_digits(row.validations_per_second),
            table::change(row.validations_per_second_change),
            three_digits(row.keystone_cores),
            table::change(row.keystone_cores_change),
        ]
    };
    table::write(f, heading, rows.iter().map(cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A row of 100 look-ups a second; the present one validates 20 of them.
    fn row(memory_mib: u64, ttl_seconds: Seconds, hit_percent: f64) -> Row {
        let validations_per_second = 100.0 - hit_percent;
        Row {
            memory_bytes: memory_mib * MIB,
            ttl_seconds,
            is_present: memory_mib == 64 && ttl_seconds == 300,
            requests: 100_000,
            hits: (1_000.0 * hit_percent) as u64,
            hit_percent,
            validations_per_second,
            validations_per_second_change: validations_per_second - 20.0,
            keystone_cores: validations_per_second / 10.0,
            keystone_cores_change: (validations_per_second - 20.0) / 10.0,
        }
    }

    fn sizes<const N: usize>(rows: [(u64, f64); N]) -> Vec<String> {
        on_memory(&rows.map(|(mib, hits)| row(mib, 300, hits)))
    }

    fn ttls<const N: usize>(rows: [(Seconds, f64); N]) -> Vec<String> {
        on_ttl(&rows.map(|(ttl, hits)| row(64, ttl, hits)))
    }

    fn counted(seconds: f64, present_ttl_seconds: Seconds) -> Conditions {
        Conditions {
            trace: "large".to_owned(),
            seed: 1,
            parameters: vec!["hours=1".to_owned()],
            units: 3,
            values: "packed".to_owned(),
            is_recorded: false,
            warm_up_seconds: 1_800.0,
            counted_seconds: seconds,
            validation_cost_ms: 100,
            present_memory_bytes: 64 * MIB,
            present_ttl_seconds,
        }
    }

    #[test]
    fn memory_that_is_worth_nothing_can_be_given_back() {
        let said = sizes([(16, 70.0), (32, 79.92), (64, 80.0), (128, 80.01)]);
        let told = "Memory: 32 MB is enough, the least that was tried of what hits within 0.1 points of the best; \
                    32 MB of the 64 MB of each unit could be given back.";
        assert_eq!(said, [told]);
    }

    #[test]
    fn memory_that_is_just_enough_is_left() {
        let said = sizes([(32, 79.8), (64, 80.0), (128, 80.05)]);
        let told = "Memory: 64 MB is right, the least that was tried of what hits within 0.1 points of the best.";
        assert_eq!(said, [told]);
    }

    #[test]
    fn memory_that_is_missing_is_asked_for_with_what_it_is_worth() {
        let said = sizes([(32, 70.0), (64, 80.0), (96, 85.2), (128, 85.3)]);
        let told = "Memory: 96 MB in each unit instead of 64 MB would make 85.20 % of the look-ups hits instead of \
                    80.00 %, and spare Keystone 5.20 validations a second, 0.52 processors.";
        assert_eq!(said, [told]);
    }

    #[test]
    fn where_the_most_is_the_best_more_may_be_better() {
        let said = sizes([(32, 70.0), (64, 80.0), (128, 85.0)]);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[1].starts_with("No more than 128 MB was tried"));
    }

    #[test]
    fn where_the_least_is_enough_less_may_be() {
        let said = sizes([(16, 80.0), (64, 80.0)]);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[1].starts_with("Less than 16 MB was not tried"));
        let least = sizes([(8, 80.0), (64, 80.0)]);
        assert_eq!(least.len(), 1, "8 MB is the least there is");
    }

    #[test]
    fn longer_ttls_are_told_with_their_price() {
        let said = ttls([
            (60, 60.0),
            (300, 80.0),
            (600, 84.0),
            (900, 86.0),
            (3_600, 90.0),
        ]);
        let next = "TTL: token_cache_time = 600 would spare Keystone 4.00 validations a second, 0.40 processors; \
                    a revoked token would be let in for up to 600 s, 300 s longer than now.";
        let most = "TTL: token_cache_time = 3600 would spare Keystone 10.0 validations a second, 1.00 processors; \
                    a revoked token would be let in for up to 3600 s, 3300 s longer than now.";
        assert_eq!(said, [next, most]);
        assert_eq!(ttls([(300, 80.0), (600, 84.0)]), [next]);
    }

    #[test]
    fn longer_ttls_that_are_worth_nothing_are_not_advised() {
        let told = "TTL: a token_cache_time longer than 300 s, up to 900 s, would spare Keystone next to nothing.";
        assert_eq!(ttls([(300, 80.0), (600, 80.1), (900, 80.15)]), [told]);
        assert_eq!(ttls([(300, 80.0), (900, 79.0)]), [told]);
        assert!(ttls([(60, 60.0), (300, 80.0)]).is_empty());
    }

    #[test]
    fn what_the_trace_is_too_short_for_is_said() {
        let told = "Left out: a TTL of 1800 s, 3600 s, for which the 30 min that are counted are too short (three TTLs \
                    at least).";
        assert_eq!(on_length(&counted(1_800.0, 300), &[1_800, 3_600]), [told]);
        let said = on_length(&counted(1_800.0, 900), &[]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("less than three times the present TTL of 900 s"));
        assert!(on_length(&counted(900.0, 300), &[]).is_empty());
    }

    #[test]
    fn all_that_was_replayed_is_shown() {
        let advice = Advice {
            source: "trace",
            conditions: counted(1_800.0, 300),
            memory: vec![row(32, 300, 70.0), row(64, 300, 80.0)],
            ttl: vec![row(64, 300, 80.0), row(64, 600, 84.0)],
            ttl_seconds_left_out: vec![],
            advice: vec!["Said.".to_owned()],
        };
        let expected = "\
large hours=1: 3 units, each with a cache of its own; values packed; 30 min are counted after a warm-up of 30 min; a validation costs Keystone 100 ms.

Memory, at a TTL of 300 s  hit rate  validations/s  change  Keystone processors  change
32 MB                       70.00 %           30.0   +10.0                 3.00   +1.00
64 MB (present)             80.00 %           20.0       0                 2.00       0

TTL, in 64 MB    hit rate  validations/s  change  Keystone processors  change
300 s (present)   80.00 %           20.0       0                 2.00       0
600 s             84.00 %           16.0   -4.00                 1.60   -0.40

Said.
";
        assert_eq!(Text(&advice).to_string(), expected);
    }
}
