//! The status page's chart: the hit rate by minute as a line, the look-ups as an area behind it.
//!
//! The paths are drawn in a box of 1,000 by 100, which the page stretches; the words stand beside it, so that they are
//! not. `script.js` draws the same with functions of the same names.
//!
//! Invariants:
//! - at most [`POINTS_MAX`] points: longer times are drawn by several minutes;
//! - minutes without look-ups are gaps of the line;
//! - the minute that is not over is in the line alone: its look-ups are not all counted yet.

use serde::Serialize;

use super::format::{counted, rate, tenths, time_of_day};
use crate::stats::status::Minutes;

const POINTS_MAX: usize = 360;

/// Times shorter than these minutes are drawn as long as this, the rest empty.
const SPAN_MIN: usize = 60;

const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 100.0;

/// What a point takes of the width.
const DASH: f64 = 4.0;

/// What the area takes of the height at most, so that the line mostly stays above it.
const AREA_HEIGHT: f64 = 50.0;

/// Where the axis of the hit rate may begin, in percent.
const BOTTOMS: [u32; 3] = [90, 50, 0];

/// Minutes between two marks of the time axis: the first of which there are at most [`TICKS_MAX`].
const TICK_MINUTES: [i64; 5] = [10, 30, 60, 120, 240];
const TICKS_MAX: i64 = 6;

/// A mark nearer to an end of the axis, in percent of it, would be cut off.
const TICK_MARGIN: f64 = 5.0;

/// What is drawn.
#[derive(Debug, Serialize)]
pub struct Chart {
    /// Whether nothing was asked.
    is_empty: bool,
    /// The time that it covers.
    title: String,
    /// What the area is.
    area_title: String,
    /// Path of the hit rate.
    line: String,
    /// Path of the look-ups.
    area: String,
    /// What stands at the top, the middle and the bottom of the hit rate's axis.
    top: String,
    middle: String,
    bottom: String,
    /// The time axis.
    ticks: Vec<Tick>,
}

#[derive(Debug, Serialize)]
struct Tick {
    x: String,
    text: String,
}

/// One point: what was asked during a minute, or several.
#[derive(Debug)]
struct Bin {
    x: f64,
    hits: u64,
    gets: u64,
    /// Look-ups of minutes that are over, and how many of these there are.
    over_gets: u64,
    over: u64,
}

impl Bin {
    fn percent(&self) -> Option<f64> {
        (self.gets > 0).then(|| self.hits as f64 * 100.0 / self.gets as f64)
    }

    fn gets_per_minute(&self) -> Option<f64> {
        (self.over > 0).then(|| self.over_gets as f64 / self.over as f64)
    }
}

/// Draws what was asked up to a time.
pub fn chart(minutes: &Minutes, unix_seconds: i64) -> Chart {
    let span = minutes.hits.len().max(SPAN_MIN);
    let end = unix_seconds.div_euclid(60) + 1;
    let bins = bins(minutes, span, end);
    let bottom = bottom(&bins);
    let busiest = bins.iter().filter_map(Bin::gets_per_minute);
    let peak = busiest.fold(0.0, f64::max);
    Chart {
        is_empty: bins.iter().all(|bin| bin.gets == 0),
        title: title(span),
        area_title: area_title(peak),
        line: line(&bins, bottom),
        area: area(&bins, peak),
        top: "100 %".to_owned(),
        middle: format!("{} %", (100 + bottom) / 2),
        bottom: format!("{bottom} %"),
        ticks: ticks(span, end),
    }
}

/// Of so many minutes.
fn title(span: usize) -> String {
    match span {
        60 => "last hour".to_owned(),
        61..120 => format!("last {}", counted(span as u64, "minute")),
        _ => format!("last {}", counted(span as u64 / 60, "hour")),
    }
}

/// With the most look-ups a minute.
fn area_title(peak: f64) -> String {
    match peak as u64 {
        0 => "look-ups".to_owned(),
        peak => format!("look-ups, at most {} a second", rate(peak, 60)),
    }
}

/// Points of the time of `span` minutes up to the minute before `end`, counted since 1970. Their borders are the same
/// from one minute to the next.
fn bins(minutes: &Minutes, span: usize, end: i64) -> Vec<Bin> {
    let size = span.div_ceil(POINTS_MAX) as i64;
    let count = minutes.hits.len();
    let first = end - count as i64;
    let mut bins: Vec<Bin> = Vec::new();
    let mut newest = None;
    for (at, (hits, misses)) in minutes.hits.iter().zip(&minutes.misses).enumerate() {
        let minute = first + at as i64;
        let number = minute.div_euclid(size);
        if newest.replace(number) != Some(number) {
            let middle = (minute.max(number * size) + end.min((number + 1) * size)) as f64 / 2.0;
            bins.push(Bin {
                x: x(middle, span, end),
                hits: 0,
                gets: 0,
                over_gets: 0,
                over: 0,
            });
        }
        if let Some(bin) = bins.last_mut() {
            bin.hits += hits;
            bin.gets += hits + misses;
            if at + 1 < count {
                bin.over_gets += hits + misses;
                bin.over += 1;
            }
        }
    }
    bins
}

fn x(minute: f64, span: usize, end: i64) -> f64 {
    let start = (end - span as i64) as f64;
    tenths((minute - start) * WIDTH / span as f64)
}

/// The highest beginning of the axis that leaves no point out, in percent.
fn bottom(bins: &[Bin]) -> u32 {
    let least = bins.iter().filter_map(Bin::percent).fold(100.0, f64::min);
    let fits = |bottom: &u32| f64::from(*bottom) <= least;
    BOTTOMS.into_iter().find(fits).unwrap_or_default()
}

fn line(bins: &[Bin], bottom: u32) -> String {
    let bottom = f64::from(bottom);
    let mut path = String::new();
    let mut is_drawing = false;
    for bin in bins {
        if let Some(percent) = bin.percent() {
            let y = tenths(HEIGHT - (percent - bottom) * HEIGHT / (100.0 - bottom));
            // A line begins as long as can be seen, for points that stand alone.
            path += &match is_drawing {
                true => format!("L{} {y}", bin.x),
                false => format!("M{} {y}h{DASH}", tenths(bin.x - DASH / 2.0)),
            };
        }
        is_drawing = bin.gets > 0;
    }
    path
}

fn area(bins: &[Bin], peak: f64) -> String {
    let points = bins.iter().filter_map(|bin| {
        let part = bin.gets_per_minute()? / peak.max(1.0);
        Some((bin.x, tenths(HEIGHT - part * AREA_HEIGHT)))
    });
    let points: Vec<(f64, f64)> = points.collect();
    let ([(first, _), ..], [.., (last, _)]) = (&points[..], &points[..]) else {
        return String::new();
    };
    let along: String = points.iter().map(|(x, y)| format!("L{x} {y}")).collect();
    format!("M{first} {HEIGHT}{along}L{last} {HEIGHT}Z")
}

fn ticks(span: usize, end: i64) -> Vec<Tick> {
    let few = |step: &i64| span as i64 / step <= TICKS_MAX;
    let [.., longest] = TICK_MINUTES;
    let step = TICK_MINUTES.into_iter().find(few).unwrap_or(longest);
    let start = end - span as i64;
    let minutes = (start.div_euclid(step) + 1..).map(|number| number * step);
    let minutes = minutes.take_while(|minute| *minute < end);
    let ticks = minutes.map(|minute| (x(minute as f64, span, end) / 10.0, minute));
    ticks
        .filter(|(x, _)| (TICK_MARGIN..=100.0 - TICK_MARGIN).contains(x))
        .map(|(x, minute)| Tick {
            x: format!("{}%", tenths(x)),
            text: time_of_day(minute * 60)[..5].to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute of 2026, when an hour begins.
    const HOUR: i64 = 1_795_744_800;

    fn drawn(hits: &[u64], misses: &[u64]) -> Chart {
        let minutes = Minutes {
            hits: hits.to_vec(),
            misses: misses.to_vec(),
            evicted: vec![0; hits.len()],
        };
        chart(&minutes, HOUR + 59)
    }

    #[test]
    fn minutes_without_look_ups_are_gaps() {
        let chart = drawn(&[9, 10, 0, 10], &[1, 0, 0, 0]);
        assert_eq!(chart.line, "M939.7 100h4L958.3 0M989.7 0h4");
        assert_eq!([chart.top, chart.bottom], ["100 %", "90 %"]);
        assert_eq!(drawn(&[1], &[9]).bottom, "0 %");
    }

    #[test]
    fn the_minute_that_is_not_over_is_no_sign_of_fewer_look_ups() {
        let chart = drawn(&[60, 120, 1], &[0, 0, 0]);
        assert_eq!(chart.area, "M958.3 100L958.3 75L975 50L975 100Z");
        assert_eq!(chart.area_title, "look-ups, at most 2 a second");
        assert_eq!(drawn(&[60], &[0]).area, "");
    }

    #[test]
    fn a_whole_day_has_no_more_points_than_can_be_seen() {
        let chart = drawn(&[1; 1_440], &[0; 1_440]);
        let points = chart.line.matches(['M', 'L']).count();
        assert!((POINTS_MAX..=POINTS_MAX + 1).contains(&points), "{points}");
        assert!(chart.ticks.len() <= TICKS_MAX as usize);
        assert_eq!(chart.ticks[0].text.split_once(':').unwrap().1, "00");
        assert_eq!(chart.title, "last 24 hours");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let chart = drawn(&[], &[]);
        assert!(chart.is_empty);
        assert_eq!([chart.line, chart.area], ["", ""]);
    }
}
