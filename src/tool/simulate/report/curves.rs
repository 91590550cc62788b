//! Which charts a report gives, and their scales.
//!
//! Called by [`page`](super::page); takes the means from [`grid`](super::grid) and gives
//! [`Chart`]s to be drawn. What is not on a chart's x axis is held at one value: a TTL of 300 s, memory
//! of 64 MB, or, where those were not replayed, the lowest TTL and the middle size of memory.
//!
//! Invariants: a chart has at least two values across; hit ratios are zoomed to what occurs, rates
//! begin at 0; the store's curve is under those of the other policies, and thicker, so that it is seen
//! where they lie on top of one another. How far each is from the bound has a chart of its own, with a
//! logarithmic scale, since that is where they do.

use super::Report;
use super::chart::{Chart, Curve};
use super::grid::{Axis, Cell, Grid, Line, Setting, base, grids, is_bound, policies};
use super::palette::{Style, styles};
use super::scale::{LOST_MIN, Scale, linear, logarithmic, percent};
use super::words;

const TTL_SECONDS: u64 = 300;
const MEMORY_BYTES: u64 = 64 << 20;

/// A part of a page: what there is about one scenario, values, and units.
pub struct Section<'r> {
    /// What it is about.
    pub setting: Setting<'r>,
    /// Whether all units' requests are counted.
    pub is_whole: bool,
    /// Its charts.
    pub figures: Vec<Figure<'r>>,
    /// Its tables.
    pub tables: Vec<Grid<'r>>,
}

/// A chart and what is said of it.
pub struct Figure<'r> {
    /// What is up.
    pub title: &'static str,
    /// What is held.
    pub detail: String,
    /// The policies, in the order of their curves at the left edge, the highest first.
    pub legend: Vec<(&'r str, Style)>,
    /// The chart.
    pub chart: Chart,
}

/// What is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Hits,
    Lost,
    Validations,
}

impl Measure {
    fn title(self) -> &'static str {
        match self {
            Measure::Hits => "Hits, % of the legitimate requests",
            Measure::Lost => "Points lost to the bound, logarithmic",
            Measure::Validations => "Validations a second at Keystone (lower is better)",
        }
    }
}

/// The sections of a page, in the order in which they first occur in the report.
pub fn sections(report: &Report) -> Vec<Section<'_>> {
    let names = policies(&report.rows);
    let looks: Vec<_> = names.iter().copied().zip(styles(&names)).collect();
    let mut sections = Vec::new();
    for axis in [Axis::Memory, Axis::Ttl, Axis::Units] {
        for grid in grids(report, axis) {
            if is_held(report, &grid) {
                let section = section_of(&mut sections, &grid);
                section.figures.extend(figures(&grid, &looks));
            }
        }
    }
    for grid in grids(report, Axis::of_tables(report)) {
        section_of(&mut sections, &grid).tables.push(grid);
    }
    sections.retain(|section| !section.figures.is_empty() || !section.tables.is_empty());
    sections
}

fn section_of<'a, 'r>(sections: &'a mut Vec<Section<'r>>, grid: &Grid<'r>) -> &'a mut Section<'r> {
    let setting = grid.setting.section();
    let known = sections
        .iter()
        .position(|section| section.setting == setting);
    let at = known.unwrap_or(sections.len());
    if known.is_none() {
        sections.push(Section {
            setting,
            is_whole: grid.is_whole,
            figures: Vec::new(),
            tables: Vec::new(),
        });
    }
    &mut sections[at]
}

/// Whether what is not across is at the values that charts hold it at.
fn is_held(report: &Report, grid: &Grid<'_>) -> bool {
    let ttl = grid.setting.ttl.map(u64::from);
    let memory = grid.setting.memory;
    ttl.is_none_or(|ttl| ttl == held_ttl(report))
        && memory.is_none_or(|memory| memory == held_memory(report))
}

fn held_ttl(report: &Report) -> u64 {
    let values = Axis::Ttl.values(&report.rows);
    if values.contains(&TTL_SECONDS) {
        return TTL_SECONDS;
    }
    values.first().copied().unwrap_or(TTL_SECONDS)
}

fn held_memory(report: &Report) -> u64 {
    let values = Axis::Memory.values(&report.rows);
    if values.contains(&MEMORY_BYTES) {
        return MEMORY_BYTES;
    }
    let middle = values.get(values.len() / 2);
    middle.copied().unwrap_or(MEMORY_BYTES)
}

type Looks<'r> = [(&'r str, Style)];

fn figures<'r>(grid: &Grid<'r>, looks: &Looks<'r>) -> Vec<Figure<'r>> {
    let measures: &[_] = match grid.axis {
        _ if grid.columns.len() < 2 => &[],
        Axis::Memory => &[Measure::Hits, Measure::Lost, Measure::Validations],
        Axis::Ttl | Axis::Units => &[Measure::Validations],
    };
    let figures = measures.iter();
    figures
        .filter_map(|measure| figure(grid, *measure, looks))
        .collect()
}

/// `None` if no policy has a point in it.
fn figure<'r>(grid: &Grid<'r>, measure: Measure, looks: &Looks<'r>) -> Option<Figure<'r>> {
    let mut curves = curves(grid, measure, looks);
    let left = |curve: &Curve| curve.points[0].1;
    curves.sort_by(|(_, a), (_, b)| left(b).total_cmp(&left(a)));
    let legend = curves.iter().map(|(policy, curve)| (*policy, curve.style));
    let legend = legend.collect();
    curves.sort_by_key(|(policy, curve)| {
        let thinnest_last = u32::MAX - curve.style.width_quarters;
        (!is_bound(policy), thinnest_last)
    });
    let curves: Vec<_> = curves.into_iter().map(|(_, curve)| curve).collect();
    (!curves.is_empty()).then(|| Figure {
        title: measure.title(),
        detail: words::setting(grid),
        legend,
        chart: Chart {
            x: x_scale(grid),
            y: y_scale(measure, &curves),
            x_title: x_title(grid.axis),
            curves,
        },
    })
}

/// The policies' curves, each with at least one point.
fn curves<'r>(grid: &Grid<'r>, measure: Measure, looks: &Looks<'r>) -> Vec<(&'r str, Curve)> {
    let curves = looks.iter().map(|(policy, style)| {
        let points = points(grid, measure, policy);
        let style = *style;
        (*policy, Curve { style, points })
    });
    curves
        .filter(|(_, curve)| !curve.points.is_empty())
        .collect()
}

/// A policy's points; none where its line is missing, or is what the measure is relative to.
fn points(grid: &Grid<'_>, measure: Measure, policy: &str) -> Vec<(f64, f64)> {
    let line_of = |is: &dyn Fn(&Line<'_>) -> bool| grid.lines.iter().find(|line| is(line));
    let Some(line) = line_of(&|line| line.policy == policy) else {
        return Vec::new();
    };
    let bound = line_of(&|line| base(line.policy) == "infinite");
    let is_itself = bound.is_some_and(|bound| bound.policy == policy);
    let at = |column: usize| {
        let cell = line.cells[column]?;
        let lost = |bound: Cell| (bound.hit_percent - cell.hit_percent).max(LOST_MIN).log10();
        let y = match measure {
            Measure::Hits => cell.hit_percent,
            Measure::Validations => cell.validations_per_second,
            Measure::Lost if is_itself => return None,
            Measure::Lost => lost(bound?.cells[column]?),
        };
        Some((position(grid.axis, grid.columns[column]), y))
    };
    let points = (0..grid.columns.len()).filter_map(at);
    points.filter(|(_, y)| y.is_finite()).collect()
}

/// Where a value stands on its axis: memory and TTLs by their logarithm, as they are chosen.
fn position(axis: Axis, value: u64) -> f64 {
    match axis {
        Axis::Memory | Axis::Ttl => (value.max(1) as f64).log2(),
        Axis::Units => value as f64,
    }
}

fn x_title(axis: Axis) -> &'static str {
    match axis {
        Axis::Memory => "memory of each unit's cache (logarithmic)",
        Axis::Ttl => "token_cache_time (logarithmic)",
        Axis::Units => "units that share the cloud's requests, each with its own cache",
    }
}

/// Ticks at all values; a label is left out that would run into the one before it.
fn x_scale(grid: &Grid<'_>) -> Scale {
    let at = |value: &u64| position(grid.axis, *value);
    let first = grid.columns.first().map_or(0.0, at);
    let last = grid.columns.last().map_or(1.0, at);
    let width = (last - first).max(0.1);
    let mut labelled = f64::NEG_INFINITY;
    let ticks = grid.columns.iter().map(|value| {
        let is_free = at(value) - labelled >= width / 9.0;
        if is_free {
            labelled = at(value);
        }
        let label = is_free.then(|| words::column(grid.axis, *value));
        (at(value), label.unwrap_or_default())
    });
    Scale {
        ticks: ticks.collect(),
        from: first - width / 30.0,
        to: last + width / 30.0,
    }
}

fn y_scale(measure: Measure, curves: &[Curve]) -> Scale {
    let ys = || {
        curves
            .iter()
            .flat_map(|curve| &curve.points)
            .map(|(_, y)| *y)
    };
    let lowest = ys().fold(f64::INFINITY, f64::min);
    let highest = ys().fold(f64::NEG_INFINITY, f64::max);
    match measure {
        Measure::Hits => percent(lowest, highest),
        Measure::Validations => linear(0.0, highest.max(0.1)),
        Measure::Lost => logarithmic(highest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::simulate::report::made_up::{self, POLICIES};

    fn titles(report: &Report) -> Vec<(&str, String)> {
        let sections = sections(report);
        let figures = sections.iter().flat_map(|section| &section.figures);
        let titles = figures.map(|figure| (figure.title, figure.detail.clone()));
        titles.collect()
    }

    #[test]
    fn charts_are_of_what_varies() {
        let mut report = made_up::report();
        report.rows.retain(|row| row.scenario == "large");
        let held = |what: &str| format!("the first of 3 units (roundrobin), plain values, {what}");
        let over_memory = [Measure::Hits, Measure::Lost, Measure::Validations]
            .map(|measure| (measure.title(), held("TTL 300 s")));
        let over_ttl = (Measure::Validations.title(), held("64 MB a unit"));
        assert_eq!(titles(&report), [&over_memory[..], &[over_ttl]].concat());

        report.rows.retain(|row| row.memory_bytes == 16 << 20);
        let over_ttl = (Measure::Validations.title(), held("16 MB a unit"));
        assert_eq!(titles(&report), [over_ttl]);

        report.rows.retain(|row| row.ttl_seconds == 3600);
        assert_eq!(titles(&report), []);
        let sections = sections(&report);
        assert_eq!((sections.len(), sections[0].tables.len()), (1, 1));
    }

    #[test]
    fn unit_counts_have_a_section_of_their_own() {
        let mut report = made_up::report();
        report
            .rows
            .retain(|row| row.ttl_seconds == 300 && row.memory_bytes == 16 << 20);
        let more = report.rows.clone().into_iter().map(|mut row| {
            row.units = 9;
            row
        });
        report.rows.extend(more.collect::<Vec<_>>());
        let sections = sections(&report);
        let counts: Vec<_> = sections
            .iter()
            .map(|section| (section.figures.len(), section.tables.len()))
            .collect();
        assert_eq!(counts, [(1, 1), (1, 1)]);
        let chart = &sections[0].figures[0].chart;
        assert_eq!(
            chart.x.ticks,
            [(3.0, "3 units".to_owned()), (9.0, "9 units".to_owned())]
        );
    }

    #[test]
    fn every_policy_has_a_curve_but_the_bound_in_what_is_lost_to_it() {
        let report = made_up::report();
        let sections = sections(&report);
        for figure in sections.iter().flat_map(|section| &section.figures) {
            let is_lost = figure.title == Measure::Lost.title();
            let curves = POLICIES.len() - usize::from(is_lost);
            assert_eq!(figure.chart.curves.len(), curves);
            assert_eq!(figure.legend.len(), curves);
            for curve in &figure.chart.curves {
                assert_eq!(curve.points.len(), 2);
                let y = &figure.chart.y;
                let is_shown = |at: f64| y.from <= at && at <= y.to;
                assert!(curve.points.iter().all(|(_, at)| is_shown(*at)), "{y:?}");
            }
        }
    }

    #[test]
    fn nothing_is_lost_to_a_bound_that_is_not_there() {
        let mut report = made_up::report();
        report.rows.retain(|row| row.policy != "infinite");
        let lost = Measure::Lost.title();
        assert!(titles(&report).iter().all(|(title, _)| *title != lost));
    }

    fn labels(scale: &Scale) -> Vec<&str> {
        scale
            .ticks
            .iter()
            .map(|(_, label)| label.as_str())
            .collect()
    }

    #[test]
    fn labels_do_not_run_into_one_another() {
        let mut report = made_up::report();
        report.rows.retain(|row| row.ttl_seconds == 300);
        for (row, memory) in report
            .rows
            .iter_mut()
            .zip([8, 64, 65, 256].into_iter().cycle())
        {
            row.memory_bytes = memory << 20;
        }
        let grids = grids(&report, Axis::Memory);
        assert_eq!(labels(&x_scale(&grids[0])), ["8 MB", "64 MB", "", "256 MB"]);
    }
}
