//! A report for programs: CSV, a line a row, and JSON, one object.
//!
//! The only file that names the `csv` crate. Both views have every field of a
//! [`Row`], under its own name, and the figures that follow from them; nothing is rounded.

use serde::Serialize;

use super::{Report, Row};
use crate::tool::simulate::policy::Seconds;

/// A row as it is written: flat, since CSV is.
#[derive(Serialize)]
struct Record<'r> {
    scenario: &'r str,
    seed: u64,
    units: u32,
    balance: &'r str,
    units_replayed: u32,
    values: &'r str,
    ttl_seconds: Seconds,
    memory_bytes: u64,
    policy: &'r str,
    requests: u64,
    hits: u64,
    attack_requests: u64,
    attack_hits: u64,
    lasting_requests: u64,
    lasting_hits: u64,
    counted_seconds: f64,
    replayed_per_second: f64,
    hit_percent: f64,
    validations_per_second: f64,
    attack_validations_per_second: f64,
}

impl<'r> From<&'r Row> for Record<'r> {
    fn from(row: &'r Row) -> Self {
        Record {
            scenario: &row.scenario,
            seed: row.seed,
            units: row.units,
            balance: &row.balance,
            units_replayed: row.units_replayed,
            values: &row.values,
            ttl_seconds: row.ttl_seconds,
            memory_bytes: row.memory_bytes,
            policy: &row.policy,
            requests: row.tally.requests,
            hits: row.tally.hits,
            attack_requests: row.tally.attack_requests,
            attack_hits: row.tally.attack_hits,
            lasting_requests: row.tally.lasting_requests,
            lasting_hits: row.tally.lasting_hits,
            counted_seconds: row.counted_seconds,
            replayed_per_second: row.replayed_per_second,
            hit_percent: row.hit_percent(),
            validations_per_second: row.validations_per_second(),
            attack_validations_per_second: row.attack_validations_per_second(),
        }
    }
}

/// The report as it is written.
#[derive(Serialize)]
struct Whole<'r> {
    command: &'r str,
    version: &'static str,
    traces: &'r [String],
    rows: Vec<Record<'r>>,
}

/// The rows as CSV: a header with the fields' names, then a line a row.
pub fn csv(report: &Report) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in &report.rows {
        let written = writer.serialize(Record::from(row));
        written.expect("flat records of the same fields, in memory");
    }
    let bytes = writer.into_inner().expect("memory takes everything");
    String::from_utf8(bytes).expect("CSV of text is text")
}

/// The report as one line of JSON. A figure that is no number is null.
pub fn json(report: &Report) -> String {
    let whole = Whole {
        command: &report.command,
        version: env!("CARGO_PKG_VERSION"),
        traces: &report.traces,
        rows: report.rows.iter().map(Record::from).collect(),
    };
    let line = serde_json::to_string(&whole).expect("objects whose keys are text");
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::simulate::report::made_up;
    use serde_json::Value;

    /// The names that a row has when it is serialised as it is.
    fn names_of_a_row() -> Vec<String> {
        let row = serde_json::to_value(&made_up::report().rows[0]).unwrap();
        row.as_object().unwrap().keys().cloned().collect()
    }

    const DERIVED: [&str; 3] = [
        "hit_percent",
        "validations_per_second",
        "attack_validations_per_second",
    ];

    #[test]
    fn csv_has_every_field_and_what_follows_from_them() {
        let report = made_up::report();
        let text = csv(&report);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().unwrap().clone();
        let place = |name: &str| header.iter().position(|field| field == name).unwrap();
        assert_eq!(header.len(), names_of_a_row().len() + DERIVED.len());
        for name in names_of_a_row() {
            assert!(header.iter().any(|field| field == name), "{name}");
        }

        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), report.rows.len());
        for (record, row) in records.iter().zip(&report.rows) {
            assert_eq!(record[place("scenario")], row.scenario);
            assert_eq!(record[place("hits")], row.tally.hits.to_string());
            let derived = DERIVED.map(|name| record[place(name)].parse::<f64>().unwrap());
            let expected = [
                row.hit_percent(),
                row.validations_per_second(),
                row.attack_validations_per_second(),
            ];
            assert_eq!(derived, expected);
        }
    }

    #[test]
    fn json_is_one_line_that_parses_back() {
        let report = made_up::report();
        let line = json(&report);
        assert_eq!(line.matches('\n').count(), 1);
        let parsed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["command"], report.command);
        assert_eq!(parsed["traces"].as_array().unwrap().len(), 2);
        let rows = parsed["rows"].as_array().unwrap();
        assert_eq!(rows.len(), report.rows.len());
        for (parsed, row) in rows.iter().zip(&report.rows) {
            for (name, value) in serde_json::to_value(row).unwrap().as_object().unwrap() {
                assert_eq!(parsed[name], *value);
            }
            assert_eq!(parsed["hit_percent"], row.hit_percent());
        }
    }

    #[test]
    fn an_empty_report_has_empty_views() {
        let report = Report {
            command: String::new(),
            traces: Vec::new(),
            rows: Vec::new(),
        };
        assert_eq!(csv(&report), "");
        assert!(json(&report).ends_with("\"rows\":[]}\n"));
    }
}
