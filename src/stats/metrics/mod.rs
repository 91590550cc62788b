//! Every metric, declared once.
//!
//! A declaration says name, kind, labels, what the metric is, what an operator does with it, where its values come
//! from, and which line of `stats` shows the same. Three views are made from it: `prometheus` for a scrape,
//! `memcached` for `stats`, `reference` for docs/metrics.md. A metric is added by one entry in the file of its
//! subject; a line of `stats` by naming it there, and its place in `memcached`.
//!
//! Invariants:
//! - a name is declared once, and so is a line of `stats`;
//! - the values of a label are few, whatever clients do, and none is a key or a part of a value.
//!
//! Names that begin with `memcached_` are those of prometheus/memcached_exporter (`pkg/exporter/exporter.go`), with
//! the exporter's meaning, so that what was built on them goes on working. Slab classes are none here, and no metric
//! pretends that there are. One that begins with `process_` is what Prometheus' client libraries call it.

mod commands;
mod connections;
mod items;
mod packing;
mod process;
mod services;

use super::moment::Moment;
use crate::histogram::{Distribution, Histogram};

/// What Prometheus may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
    /// It counts values by upper bounds.
    Histogram,
}

impl Kind {
    /// Its one word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Takes a number out of a moment.
pub type Read = fn(&Moment<'_>) -> u64;

/// Is called with the values of a metric's labels, and the value that they have.
pub type Visit<'v> = dyn FnMut(&[&str], Value) + 'v;

/// A declaration.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in Prometheus.
    pub name: &'static str,
    /// What it counts like.
    pub kind: Kind,
    /// What it is, in a line.
    pub help: &'static str,
    /// What an operator does with it, in a line.
    pub advice: &'static str,
    /// How many of what is counted make one of what is shown: 1,000,000,000 where nanoseconds are shown in
    /// seconds. A histogram knows that by itself.
    pub per_unit: u64,
    samples: Samples,
}

/// Where values come from.
#[derive(Clone, Copy, Debug)]
enum Samples {
    /// One value without labels, and the line of `stats` that shows it.
    One(Option<&'static str>, Read),
    /// Values of these labels that are known beforehand.
    Each(&'static [&'static str], &'static [Sample]),
    /// Values of these labels as there are, which the function goes through.
    Family(&'static [&'static str], fn(&Moment<'_>, &mut Visit<'_>)),
}

/// A value whose labels are known beforehand.
#[derive(Clone, Copy, Debug)]
struct Sample {
    labels: &'static [&'static str],
    line: Option<&'static str>,
    read: Read,
}

/// What a metric shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter or a gauge, in what is counted.
    Number(u64),
    /// Of a histogram.
    Spread(Spread),
}

/// What a histogram shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// The upper bounds, in what is counted.
    pub bounds: &'static [u64],
    /// How many of those make one of what is shown.
    pub per_unit: u64,
    /// What was counted.
    pub counted: Distribution,
}

impl<const BOUNDS: usize> From<&Histogram<BOUNDS>> for Value {
    fn from(histogram: &Histogram<BOUNDS>) -> Value {
        Value::Spread(Spread {
            bounds: histogram.bounds(),
            per_unit: histogram.per_unit(),
            counted: histogram.read(),
        })
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl Metric {
    /// The names of its labels.
    pub fn labels(&self) -> &'static [&'static str] {
        match self.samples {
            Samples::One(..) => &[],
            Samples::Each(labels, _) | Samples::Family(labels, _) => labels,
        }
    }

    /// Goes through its values.
    pub fn each(&self, moment: &Moment<'_>, visit: &mut Visit<'_>) {
        match self.samples {
            Samples::One(_, read) => visit(&[], read(moment).into()),
            Samples::Each(_, samples) => samples
                .iter()
                .for_each(|sample| visit(sample.labels, (sample.read)(moment).into())),
            Samples::Family(_, values) => values(moment, visit),
        }
    }

    /// The lines of `stats` that show it: name, value, and how many of that make a unit.
    pub fn lines(&self) -> Vec<(&'static str, Read, u64)> {
        let line = |name: Option<&'static str>, read| Some((name?, read, self.per_unit));
        match self.samples {
            Samples::One(name, read) => line(name, read).into_iter().collect(),
            Samples::Each(_, samples) => samples
                .iter()
                .filter_map(|sample| line(sample.line, sample.read))
                .collect(),
            Samples::Family(..) => Vec::new(),
        }
    }
}

/// The metrics of one subject.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// What they are about.
    pub title: &'static str,
    /// Its declarations.
    pub metrics: &'static [Metric],
}

/// All of them, in the order of docs/metrics.md.
#[rustfmt::skip]
pub const SUBJECTS: &[Subject] = &[
    Subject { title: "Process", metrics: process::METRICS },
    Subject { title: "Commands", metrics: commands::METRICS },
    Subject { title: "Services", metrics: services::METRICS },
    Subject { title: "Connections", metrics: connections::METRICS },
    Subject { title: "Items and memory", metrics: items::METRICS },
    Subject { title: "Packing", metrics: packing::METRICS },
];

/// All metrics.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    SUBJECTS.iter().flat_map(|subject| subject.metrics)
}

// How a declaration is written.

const fn counter(
    name: &'static str,
    help: &'static str,
    advice: &'static str,
    samples: Samples,
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        help,
        advice,
        per_unit: 1,
        samples,
    }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    advice: &'static str,
    samples: Samples,
) -> Metric {
    Metric {
        kind: Kind::Gauge,
        ..counter(name, help, advice, samples)
    }
}

/// Its values come as [`Value::Spread`].
const fn histogram(
    name: &'static str,
    help: &'static str,
    advice: &'static str,
    samples: Samples,
) -> Metric {
    Metric {
        kind: Kind::Histogram,
        ..counter(name, help, advice, samples)
    }
}

/// Time: a counter of parts of a second, `per_second` of them.
const fn seconds(
    name: &'static str,
    help: &'static str,
    advice: &'static str,
    (per_second, samples): (u64, Samples),
) -> Metric {
    Metric {
        per_unit: per_second,
        ..counter(name, help, advice, samples)
    }
}

/// A value without labels that `stats` shows under this name.
const fn one(line: &'static str, read: Read) -> Samples {
    Samples::One(Some(line), read)
}

/// A value without labels that `stats` does not show.
const fn unlisted(read: Read) -> Samples {
    Samples::One(None, read)
}

/// A value with these labels that `stats` shows under this name.
const fn sample(labels: &'static [&'static str], line: &'static str, read: Read) -> Sample {
    Sample {
        labels,
        line: Some(line),
        read,
    }
}

/// A value with these labels that `stats` does not show.
const fn unlisted_sample(labels: &'static [&'static str], read: Read) -> Sample {
    Sample {
        labels,
        line: None,
        read,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn is_name(name: &str) -> bool {
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    }

    #[test]
    fn names_are_declared_once_and_say_kind_and_whose_they_are() {
        let mut names = BTreeSet::new();
        for metric in all() {
            let name = metric.name;
            assert!(names.insert(name), "{name} is declared twice");
            let own = name.strip_prefix("tokencached_");
            let others = ["memcached_", "process_"];
            let is_others = others.iter().any(|prefix| name.starts_with(prefix));
            assert!(own.is_some() || is_others, "{name}");
            assert!(is_name(name), "{name}");
            if own.is_some() {
                let is_total = name.ends_with("_total");
                assert_eq!(is_total, metric.kind == Kind::Counter, "{name}");
            }
        }
    }

    #[test]
    fn every_metric_says_what_it_is_and_what_to_do_with_it() {
        for metric in all() {
            for said in [metric.help, metric.advice] {
                let name = metric.name;
                assert!(said.ends_with('.') && said.len() > 10, "{name}: {said}");
                assert!(!said.contains(['\n', '|']), "{name}: {said}");
            }
        }
    }

    #[test]
    fn samples_have_the_labels_of_their_metric_each_set_once() {
        for metric in all() {
            let name = metric.name;
            assert!(metric.labels().iter().all(|label| is_name(label)), "{name}");
            if let Samples::Each(labels, samples) = metric.samples {
                let mut seen = BTreeSet::new();
                for sample in samples {
                    assert_eq!(sample.labels.len(), labels.len(), "{name}");
                    assert!(seen.insert(sample.labels), "{name}: {:?}", sample.labels);
                }
            }
        }
    }
}
