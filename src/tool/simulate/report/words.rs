//! How the tables and the page name things: memory sizes, settings, figures, and what to know before
//! one reads them.

use super::grid::{Axis, Cell, Grid, Setting};
use std::borrow::Cow;

/// What to know before one reads the figures. Names stand between backticks.
pub const HOW_TO_READ: [&str; 6] = [
    "A figure is the percentage of the legitimate requests that found their token cached, and, in \
     parentheses, how many validations a second the others cost Keystone. What comes in a warm-up is not \
     counted.",
    "The requests of an attack, and those for what other users of a cache keep there without an expiry, \
     are in neither; what became of them is said under the table.",
    "Memory is that of one unit's cache: every API unit has its own (1 MB is 1,048,576 bytes). Whether \
     one unit's requests are counted or all units' is said in the heading.",
    "`infinite` is the bound: a cache from which nothing goes before it expires, whatever the memory. Its \
     misses are a token's first request and those after an expiry.",
    "`belady` knows the future, and lets go what is needed latest: about the best that this memory allows.",
    "Each of the other policies could be built. The best of them in a column is marked, with those that \
     two decimals do not tell from it, unless all are equal.",
];

/// What makes a report, and its version.
pub const GENERATOR: &str = concat!("tokencached-tool ", env!("CARGO_PKG_VERSION"));

/// A size of memory: `512 KB`, `64 MB`, `1.4 MB`, `2 GB`.
pub fn memory(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    let whole = UNITS
        .iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match whole {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None if bytes > 1 << 20 => format!("{:.1} MB", bytes as f64 / f64::from(1 << 20)),
        None => format!("{bytes} bytes"),
    }
}

/// A figure with three digits: `9.53`, `26.7`, `127`, `1270`.
pub fn three_digits(figure: f64) -> String {
    let decimals = match figure.abs() {
        below if below < 9.995 => 2,
        below if below < 99.95 => 1,
        _ => 0,
    };
    format!("{figure:.decimals$}")
}

/// A text as one line that does nothing to a terminal.
pub fn one_line(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, "?").into(),
        false => text.into(),
    }
}

/// What a column's head says.
pub fn column(axis: Axis, value: u64) -> String {
    match (axis, value) {
        (Axis::Memory, bytes) => memory(bytes),
        (Axis::Ttl, seconds) => format!("{seconds} s"),
        (Axis::Units, 1) => "1 unit".to_owned(),
        (Axis::Units, units) => format!("{units} units"),
    }
}

/// What a grid is about, but for the scenario's name: `all 3 units (roundrobin), plain values, TTL 300 s`.
pub fn setting(grid: &Grid<'_>) -> String {
    setting_of(&grid.setting, grid.is_whole)
}

/// The same of a setting, whose grids count all units' requests or not.
pub fn setting_of(setting: &Setting<'_>, is_whole: bool) -> String {
    let mut parts = vec![units(setting, is_whole), values(setting.values)];
    parts.extend(setting.ttl.map(|ttl| format!("TTL {ttl} s")));
    parts.extend(
        setting
            .memory
            .map(|bytes| format!("{} a unit", memory(bytes))),
    );
    parts.join(", ")
}

fn units(setting: &Setting<'_>, is_whole: bool) -> String {
    let balance = one_line(setting.balance);
    match setting.units {
        None if is_whole => format!("all units ({balance})"),
        None => format!("the first of the units ({balance})"),
        Some(units) if units.all == 1 => "one unit".to_owned(),
        Some(units) if units.all == units.replayed => {
            format!("all {} units ({balance})", units.all)
        }
        Some(units) if units.replayed == 1 => {
            format!("the first of {} units ({balance})", units.all)
        }
        Some(units) => format!("{} of {} units ({balance})", units.replayed, units.all),
    }
}

fn values(values: &str) -> String {
    match values.parse::<u64>() {
        Ok(bytes) => format!("values of {bytes} bytes"),
        Err(_) => format!("{} values", one_line(values)),
    }
}

/// What is said under a grid: how many seeds, and what is not in its cells.
pub fn notes(grid: &Grid<'_>) -> Vec<String> {
    let range = |figure: fn(&Cell) -> Option<f64>| {
        range(&grid.cells().filter_map(figure).collect::<Vec<_>>())
    };
    let mut notes = Vec::new();
    let seeds = grid.cells().map(|cell| cell.seeds).max().unwrap_or(0);
    if seeds > 1 {
        let spreads = grid.cells().map(|cell| cell.spread_points);
        let spread = spreads.fold(0.0, f64::max);
        notes.push(format!(
            "Means of {seeds} seeds, whose hit percentages differ by at most {spread:.2} points."
        ));
    }
    notes.extend(
        range(|cell| cell.attack_validations_per_second).map(|range| {
            format!("The attack's own validations, not in the figures: {range} a second.")
        }),
    );
    notes.extend(range(|cell| cell.lasting_hit_percent).map(|range| {
        format!("What other users keep in the cache was found in {range} % of the requests for it.")
    }));
    notes
}

/// `16.7`, or `16.7 to 17.2`; `None` of nothing.
fn range(figures: &[f64]) -> Option<String> {
    let lowest = three_digits(figures.iter().copied().reduce(f64::min)?);
    let highest = three_digits(figures.iter().copied().reduce(f64::max)?);
    Some(match lowest == highest {
        true => lowest,
        false => format!("{lowest} to {highest}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::simulate::report::{grid::grids, made_up};

    #[test]
    fn memory_is_named_in_the_largest_whole_unit() {
        let named: Vec<_> = [
            512 << 10,
            16 << 20,
            2 << 30,
            (1 << 20) + (1 << 19),
            1_500_000,
            5,
        ]
        .map(memory)
        .into();
        assert_eq!(
            named,
            ["512 KB", "16 MB", "2 GB", "1536 KB", "1.4 MB", "5 bytes"]
        );
    }

    #[test]
    fn figures_have_three_digits() {
        let shown = [0.0, 0.625, 9.996, 26.74, 99.96, 1270.4].map(three_digits);
        assert_eq!(shown, ["0.00", "0.62", "10.0", "26.7", "100", "1270"]);
    }

    #[test]
    fn a_setting_says_whose_requests_are_counted() {
        let mut report = made_up::report();
        let first = |report: &_, axis| setting(&grids(report, axis)[0]);
        assert_eq!(
            first(&report, Axis::Memory),
            "the first of 3 units (roundrobin), plain values, TTL 300 s"
        );
        assert_eq!(
            first(&report, Axis::Units),
            "the first of the units (roundrobin), plain values, TTL 300 s, 16 MB a unit"
        );
        report.rows[0].units_replayed = 3;
        report.rows[0].values = "500".to_owned();
        assert_eq!(
            first(&report, Axis::Memory),
            "all 3 units (roundrobin), values of 500 bytes, TTL 300 s"
        );
    }

    #[test]
    fn notes_tell_of_seeds_and_of_an_attack_where_there_is_one() {
        let report = made_up::report();
        let notes = |grid: usize| notes(&grids(&report, Axis::Memory)[grid]);
        let seeds = "Means of 2 seeds, whose hit percentages differ by at most 0.20 points.";
        assert_eq!(notes(0), [seeds]);
        assert_eq!(
            notes(2),
            [
                seeds,
                "The attack's own validations, not in the figures: 17.0 a second."
            ]
        );
    }
}
