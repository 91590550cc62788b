//! A report's rows, arranged as the tables and charts show them: policies down, one varied thing
//! across, the mean over seeds in each cell.
//!
//! Called by [`table`](super::table), [`curves`](super::curves) and [`page`](super::page), so that all
//! of them show the same figures.
//!
//! Invariants: every row of the report is in exactly one grid of an axis; policies stand in the order
//! of their first occurrence, columns in ascending order; every line has one cell a column, empty where
//! nothing was replayed.

use std::cmp::Ordering::Equal;

use super::{Report, Row};
use crate::tool::simulate::policy::Seconds;

/// What the columns of a grid are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Memory of each unit's cache, in bytes.
    Memory,
    /// keystonemiddleware's `token_cache_time`, in seconds.
    Ttl,
    /// How many units the cloud's requests were shared out to.
    Units,
}

impl Axis {
    /// What the tables of a report have as columns: the first of memory, TTL and units that varies.
    pub fn of_tables(report: &Report) -> Axis {
        [Axis::Memory, Axis::Ttl, Axis::Units]
            .into_iter()
            .find(|axis| axis.values(&report.rows).len() > 1)
            .unwrap_or(Axis::Memory)
    }

    /// All values that rows have on this axis, ascending.
    pub fn values<'r>(self, rows: impl IntoIterator<Item = &'r Row>) -> Vec<u64> {
        let mut values: Vec<_> = rows.into_iter().map(|row| self.value(row)).collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    fn value(self, row: &Row) -> u64 {
        match self {
            Axis::Memory => row.memory_bytes,
            Axis::Ttl => row.ttl_seconds.into(),
            Axis::Units => row.units.into(),
        }
    }
}

/// Units of a cloud, and how many of them were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// That the requests were shared out to.
    pub all: u32,
    /// Whose requests are counted.
    pub replayed: u32,
}

/// What all rows of a grid have in common. What the grid's columns are is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'r> {
    /// The scenario's name.
    pub scenario: &'r str,
    /// The cloud's units.
    pub units: Option<Units>,
    /// How requests were shared out to them.
    pub balance: &'r str,
    /// The values' lengths, as [`Row::values`] has them.
    pub values: &'r str,
    /// keystonemiddleware's `token_cache_time`.
    pub ttl: Option<Seconds>,
    /// Memory of each unit's cache.
    pub memory: Option<u64>,
}

impl<'r> Setting<'r> {
    fn of(row: &'r Row, axis: Axis) -> Self {
        let units = Units {
            all: row.units,
            replayed: row.units_replayed,
        };
        Setting {
            scenario: &row.scenario,
            units: (axis != Axis::Units).then_some(units),
            balance: &row.balance,
            values: &row.values,
            ttl: (axis != Axis::Ttl).then_some(row.ttl_seconds),
            memory: (axis != Axis::Memory).then_some(row.memory_bytes),
        }
    }

    /// What the grids that belong under one heading have in common: all but TTL and memory.
    pub fn section(self) -> Self {
        Setting {
            ttl: None,
            memory: None,
            ..self
        }
    }
}

/// Figures of one policy in one column: means over the seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Percentage of the legitimate requests that were hits.
    pub hit_percent: f64,
    /// Between the seeds' lowest and highest hit percentage.
    pub spread_points: f64,
    /// Validations a second that the legitimate requests cost Keystone.
    pub validations_per_second: f64,
    /// Validations a second that an attack costs Keystone; `None` without an attack.
    pub attack_validations_per_second: Option<f64>,
    /// Percentage of the requests for other users' entries that were hits; `None` without such.
    pub lasting_hit_percent: Option<f64>,
    /// How many rows the means are of.
    pub seeds: usize,
}

impl Cell {
    /// The mean of rows that differ in their seed only; `None` of none.
    fn mean(rows: &[&Row]) -> Option<Cell> {
        let hits = rows.iter().map(|row| row.hit_percent());
        let highest = hits.clone().reduce(f64::max)?;
        let lowest = hits.clone().reduce(f64::min)?;
        let has_attack = rows.iter().any(|row| row.tally.attack_requests > 0);
        let has_lasting = rows.iter().any(|row| row.tally.lasting_requests > 0);
        Some(Cell {
            hit_percent: mean_of(rows, Row::hit_percent),
            spread_points: highest - lowest,
            validations_per_second: mean_of(rows, Row::validations_per_second),
            attack_validations_per_second: has_attack
                .then(|| mean_of(rows, Row::attack_validations_per_second)),
            lasting_hit_percent: has_lasting.then(|| mean_of(rows, lasting_hit_percent)),
            seeds: rows.len(),
        })
    }

    /// The hit percentage as every view shows it, with two decimals.
    pub fn shown_hits(&self) -> String {
        format!("{:.2}", self.hit_percent)
    }
}

fn mean_of(rows: &[&Row], figure: impl Fn(&Row) -> f64) -> f64 {
    rows.iter().map(|row| figure(row)).sum::<f64>() / rows.len() as f64
}

fn lasting_hit_percent(row: &Row) -> f64 {
    100.0 * row.tally.lasting_hits as f64 / row.tally.lasting_requests.max(1) as f64
}

/// A policy's cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Line<'r> {
    /// Which policy.
    pub policy: &'r str,
    /// One a column.
    pub cells: Vec<Option<Cell>>,
}

/// A table of policies by one varied thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid<'r> {
    /// What the columns are.
    pub axis: Axis,
    /// What does not vary.
    pub setting: Setting<'r>,
    /// Whether all units' requests are counted.
    pub is_whole: bool,
    /// The columns' values.
    pub columns: Vec<u64>,
    /// One a policy.
    pub lines: Vec<Line<'r>>,
}

/// All grids of a report that have `axis` across, in the order of their first row.
pub fn grids(report: &Report, axis: Axis) -> Vec<Grid<'_>> {
    let mut gathered: Vec<(Setting<'_>, Vec<&Row>)> = Vec::new();
    for row in &report.rows {
        let setting = Setting::of(row, axis);
        match gathered.iter_mut().find(|(known, _)| *known == setting) {
            Some((_, rows)) => rows.push(row),
            None => gathered.push((setting, vec![row])),
        }
    }
    gathered
        .into_iter()
        .map(|(setting, rows)| Grid::of(axis, setting, &rows))
        .collect()
}

impl<'r> Grid<'r> {
    fn of(axis: Axis, setting: Setting<'r>, rows: &[&'r Row]) -> Self {
        let columns = axis.values(rows.iter().copied());
        let lines = policies(rows.iter().copied())
            .into_iter()
            .map(|policy| {
                let own: Vec<_> = rows.iter().filter(|row| row.policy == policy).collect();
                let at = |value: &u64| {
                    let of_column = own.iter().filter(|row| axis.value(row) == *value);
                    Cell::mean(&of_column.map(|row| **row).collect::<Vec<_>>())
                };
                Line {
                    policy,
                    cells: columns.iter().map(at).collect(),
                }
            })
            .collect();
        Grid {
            axis,
            setting,
            is_whole: rows.iter().all(|row| row.units_replayed == row.units),
            columns,
            lines,
        }
    }

    /// All its cells that are not empty.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.lines
            .iter()
            .flat_map(|line| line.cells.iter().flatten())
    }

    /// Whether a cell is the best that its column's real policies reach, as far as is shown. No cell is
    /// where all of them are.
    pub fn is_best(&self, line: &Line<'_>, column: usize) -> bool {
        let real = || self.lines.iter().filter(|line| !is_bound(line.policy));
        let hits = |line: &Line<'_>| line.cells[column].map(|cell| cell.hit_percent);
        let shown = |line: &Line<'_>| line.cells[column].map(|cell| cell.shown_hits());
        let best = real().max_by(|a, b| hits(a).partial_cmp(&hits(b)).unwrap_or(Equal));
        let best = best.and_then(shown);
        best.is_some()
            && !is_bound(line.policy)
            && shown(line) == best
            && real().any(|other| shown(other) != best)
    }
}

/// The policies of rows, in the order of their first occurrence.
pub fn policies<'r>(rows: impl IntoIterator<Item = &'r Row>) -> Vec<&'r str> {
    let mut policies: Vec<&str> = Vec::new();
    for row in rows {
        if !policies.contains(&row.policy.as_str()) {
            policies.push(&row.policy);
        }
    }
    policies
}

/// The policy that a name is of, with or without parameters: what is before the first colon.
pub fn base(policy: &str) -> &str {
    policy.split(':').next().unwrap_or(policy)
}

/// Whether it is no policy that could be built, but what such ones are measured against.
pub fn is_bound(policy: &str) -> bool {
    ["infinite", "belady"].contains(&base(policy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::simulate::report::made_up;

    #[test]
    fn the_first_thing_that_varies_is_across() {
        let mut report = made_up::report();
        assert_eq!(Axis::of_tables(&report), Axis::Memory);
        report.rows.retain(|row| row.memory_bytes == 16 << 20);
        assert_eq!(Axis::of_tables(&report), Axis::Ttl);
        report.rows.retain(|row| row.ttl_seconds == 300);
        assert_eq!(Axis::of_tables(&report), Axis::Memory);
        report.rows[0].units = 9;
        assert_eq!(Axis::of_tables(&report), Axis::Units);
    }

    #[test]
    fn cells_are_means_over_seeds() {
        let report = made_up::report();
        let grid = &grids(&report, Axis::Memory)[0];
        assert_eq!(grid.columns, [16 << 20, 64 << 20]);
        let policies: Vec<_> = grid.lines.iter().map(|line| line.policy).collect();
        assert_eq!(policies, made_up::POLICIES);
        let cell = grid.lines[0].cells[0].unwrap();
        assert_eq!(cell.seeds, 2);
        assert!((cell.hit_percent - 77.1).abs() < 1e-9);
        assert!((cell.spread_points - 0.2).abs() < 1e-9);
        assert!((cell.validations_per_second - 22.9).abs() < 1e-9);
        assert_eq!(cell.attack_validations_per_second, None);
    }

    #[test]
    fn what_was_not_replayed_is_empty() {
        let mut report = made_up::report();
        report
            .rows
            .retain(|row| row.policy != "lru" || row.seed == 1 || row.memory_bytes == 64 << 20);
        report
            .rows
            .retain(|row| row.policy != "belady" || row.memory_bytes == 16 << 20);
        let grids = grids(&report, Axis::Memory);
        assert_eq!(grids.len(), 4);
        let cells = |line: usize| &grids[0].lines[line].cells;
        assert_eq!(cells(1)[0].unwrap().seeds, 1);
        assert_eq!(cells(1)[1].unwrap().seeds, 2);
        assert_eq!(cells(2)[1], None);
    }

    #[test]
    fn the_best_are_real_policies_and_not_all_of_them() {
        let report = made_up::report();
        let grid = &grids(&report, Axis::Memory)[0];
        let best = |column| {
            let lines = grid.lines.iter();
            let best = lines.filter(move |line| grid.is_best(line, column));
            best.map(|line| line.policy).collect::<Vec<_>>()
        };
        assert_eq!(best(0), ["tokencached"]);
        assert_eq!(best(1), [""; 0], "all real policies are at the bound");
    }
}
