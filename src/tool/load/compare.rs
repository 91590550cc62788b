//! `load --compare`: two servers side by side, in short bursts that alternate, A B A B.
//!
//! A machine that slows down for a second slows down both bursts of a round, so what is compared is each round's ratio,
//! and of those the median. Both servers run all the time, and their connections stay open.
//!
//! Takes [`Options`], of which target and process do not count: [`contender`](super::contender) starts the servers.
//!
//! Invariant: a wrong value or an error reply makes the comparison a failure, as a run of one server.

use super::block_on;
use super::contender::{Contender, label};
use super::driver::Driver;
use super::fill;
use super::options::Options;
use super::report::Report;
use crate::tool::Error;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The command lines that start A and B, see [`Contender::start`].
    pub commands: [String; 2],
    /// Bursts of each.
    pub rounds: usize,
}

/// Length of a burst where nothing else is said.
const BURST: Duration = Duration::from_millis(700);

/// Longest time for which a server that was just filled is driven before the first round.
const WARM: Duration = Duration::from_millis(300);

/// What came of it.
#[derive(Debug)]
pub struct Compared {
    /// What A and B are called.
    pub labels: [String; 2],
    /// The two bursts of each round.
    pub rounds: Vec<[Report; 2]>,
}

/// What is compared of two bursts.
struct Metric {
    name: &'static str,
    of: fn(&Report) -> Option<f64>,
}

const METRICS: [Metric; 9] = [
    Metric {
        name: "requests_per_server_cpu_second",
        of: Report::requests_per_cpu_second,
    },
    Metric {
        name: "requests_per_second",
        of: |report| Some(report.requests_per_second()),
    },
    Metric {
        name: "hits",
        of: |report| Some(report.counts.hits as f64),
    },
    Metric {
        name: "arrivals_not_sent",
        of: |report| report.rate.map(|_| report.not_sent as f64),
    },
    Metric {
        name: "latency_p50_us",
        of: |report| Some(report.latency_us(0.5)),
    },
    Metric {
        name: "latency_p99_us",
        of: |report| Some(report.latency_us(0.99)),
    },
    Metric {
        name: "latency_p999_us",
        of: |report| Some(report.latency_us(0.999)),
    },
    Metric {
        name: "server_switches_per_request",
        of: Report::switches_per_request,
    },
    Metric {
        name: "server_rss_bytes",
        of: |report| Some(report.server?.rss_bytes as f64),
    },
];

/// A metric of both, over all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// What it is.
    pub name: &'static str,
    /// The medians of A and B.
    pub medians: [f64; 2],
    /// The median of the rounds' ratios, B to A; with the lowest and the highest one. `None` if A had nothing in some
    /// round.
    pub ratios: Option<[f64; 3]>,
}

/// Starts both servers and compares them; blocks until it is done or the end is asked for, and tells meanwhile how many
/// bursts are done.
///
/// # Errors
/// When the options make no sense or a server does not start, and those of [`run`](super::run).
pub fn run(
    options: &Options,
    comparison: &Comparison,
    asked_to_end: &AtomicBool,
    mut tell: impl FnMut(usize),
) -> Result<Compared, Error> {
    options.check()?;
    if comparison.rounds == 0 {
        return Err(Error::Options("at least 1 round".to_owned()));
    }
    let connections = 2 * options.connections as u64;
    crate::tool::open_files::allow(connections)?;
    let [a, b] = &comparison.commands;
    let contenders = [
        Contender::start(a, asked_to_end)?,
        Contender::start(b, asked_to_end)?,
    ];
    let drivers = [
        prepare(options, &contenders[0])?,
        prepare(options, &contenders[1])?,
    ];
    let duration = options
        .duration
        .or(options.requests.is_none().then_some(BURST));
    let mut rounds = Vec::new();
    for round in 0..comparison.rounds {
        let mut burst = |side: usize| {
            if asked_to_end.load(Relaxed) {
                return Err(Error::Options(
                    "ended before all rounds were done".to_owned(),
                ));
            }
            let report = drivers[side].burst(duration, |_, _| ())?;
            tell(2 * round + side + 1);
            Ok(report)
        };
        rounds.push([burst(0)?, burst(1)?]);
    }
    Ok(Compared {
        labels: labels(&comparison.commands),
        rounds,
    })
}

/// Fills a server if that is wanted, and opens the connections to it.
fn prepare(options: &Options, contender: &Contender) -> Result<Driver, Error> {
    let options = Options {
        target: contender.target.clone(),
        ..options.clone()
    };
    let shared = options.shared();
    if options.fill {
        let filled = fill(&options, &shared);
        block_on(&options.target, &shared, filled)?;
    }
    let driver = Driver::start(&options, &Arc::clone(&shared), Some(contender.pid))?;
    let warm = options.duration.unwrap_or(BURST).min(WARM);
    let warmed = driver.burst(Some(warm), |_, _| ())?;
    if !warmed.is_clean() {
        let said = warmed.counts.first_error;
        let said = said.unwrap_or_else(|| "it answered a wrong value".to_owned());
        return Err(Error::Refused(options.target, said));
    }
    Ok(driver)
}

fn labels(commands: &[String; 2]) -> [String; 2] {
    let labels = [label(&commands[0]), label(&commands[1])];
    match labels[0] == labels[1] {
        true => ["A".to_owned(), "B".to_owned()],
        false => labels,
    }
}

impl Compared {
    /// Whether every request of every burst was answered and every byte was right.
    pub fn is_clean(&self) -> bool {
        self.rounds.iter().flatten().all(Report::is_clean)
    }

    /// Each metric that is known of both.
    pub fn paired(&self) -> Vec<Paired> {
        METRICS
            .iter()
            .filter_map(|metric| self.pair(metric))
            .collect()
    }

    fn pair(&self, metric: &Metric) -> Option<Paired> {
        let of = |round: &[Report; 2]| Some([(metric.of)(&round[0])?, (metric.of)(&round[1])?]);
        let values = self.rounds.iter().map(of).collect::<Option<Vec<_>>>()?;
        let medians = [0, 1].map(|side| median(values.iter().map(|value| value[side]).collect()));
        let divisible = values.iter().all(|[a, _]| *a > 0.0);
        let ratios = divisible.then(|| {
            let ratios: Vec<f64> = values.iter().map(|[a, b]| b / a).collect();
            let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = ratios.iter().copied().fold(0.0, f64::max);
            [median(ratios), lowest, highest]
        });
        Some(Paired {
            name: metric.name,
            medians,
            ratios,
        })
    }

    /// One line of JSON: labels, the paired metrics, every burst.
    pub fn to_json(&self) -> String {
        let report =
            |report: &Report| serde_json::from_str(&report.to_json()).unwrap_or(Value::Null);
        let bursts: Vec<Value> = self
            .rounds
            .iter()
            .map(|[a, b]| json!([report(a), report(b)]))
            .collect();
        let paired = self.paired().into_iter().map(|paired| {
            let Paired { name, medians: [a, b], ratios } = paired;
            let [ratio, lowest, highest] = ratios.map_or([None; 3], |ratios| ratios.map(Some));
            json!({"name": name, "a": a, "b": b, "ratio": ratio, "lowest": lowest, "highest": highest})
        });
        let [a, b] = &self.labels;
        let paired: Vec<Value> = paired.collect();
        json!({"a": a, "b": b, "paired": paired, "rounds": bursts}).to_string()
    }

    fn first_error(&self) -> Option<&str> {
        let mut errors = self.rounds.iter().flatten();
        errors.find_map(|report| report.counts.first_error.as_deref())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// A number to three digits that matter, or all of a large one's.
fn shown(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = &self.labels;
        writeln!(f, "{:<32} {a:>14} {b:>14}  ratio, lowest to highest", "")?;
        for Paired {
            name,
            medians,
            ratios,
        } in self.paired()
        {
            let [a, b] = medians.map(shown);
            write!(f, "{:<32} {a:>14} {b:>14}", name.replace('_', " "))?;
            match ratios {
                Some([ratio, lowest, highest]) => {
                    writeln!(f, "  {ratio:.3}, {lowest:.3} to {highest:.3}")?;
                }
                None => writeln!(f)?,
            }
        }
        if !self.is_clean() {
            let wrong: u64 = self
                .rounds
                .iter()
                .flatten()
                .map(|report| report.counts.wrong_values)
                .sum();
            let errors: u64 = self
                .rounds
                .iter()
                .flatten()
                .map(|report| report.counts.errors)
                .sum();
            writeln!(
                f,
                "wrong values {wrong}, errors {errors} {}",
                self.first_error().unwrap_or_default()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::exchange::{Counts, Protocol};
    use crate::tool::load::plan::latencies;

    fn burst(requests: u64) -> Report {
        Report {
            protocol: Protocol::Classic,
            rate: None,
            not_sent: 0,
            counts: Counts {
                requests,
                ..Counts::default()
            },
            elapsed: Duration::from_secs(1),
            latency_ns: latencies(),
            server: None,
        }
    }

    fn compared() -> Compared {
        let rounds = [(100, 150), (200, 220), (100, 90)];
        Compared {
            labels: ["one".to_owned(), "two".to_owned()],
            rounds: rounds.map(|(a, b)| [burst(a), burst(b)]).into(),
        }
    }

    #[test]
    fn ratios_are_of_rounds_and_the_median_is_told() {
        let paired = compared().paired();
        let rates = paired
            .iter()
            .find(|paired| paired.name == "requests_per_second");
        let expected = Paired {
            name: "requests_per_second",
            medians: [100.0, 150.0],
            ratios: Some([1.1, 0.9, 1.5]),
        };
        assert_eq!(rates, Some(&expected));
        // Nobody knows the processes.
        assert!(
            paired
                .iter()
                .all(|paired| !paired.name.starts_with("server"))
        );
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn json_has_every_burst() {
        let json: Value = serde_json::from_str(&compared().to_json()).unwrap();
        assert_eq!(json["rounds"][1][1]["requests"], 220);
        assert_eq!((&json["a"], &json["b"]), (&json!("one"), &json!("two")));
        assert_eq!(json["paired"][0]["ratio"], 1.1);
    }

    #[test]
    fn a_wrong_value_in_any_burst_is_a_failure() {
        let mut compared = compared();
        assert!(compared.is_clean());
        compared.rounds[2][0].counts.wrong_values = 1;
        assert!(!compared.is_clean());
        assert!(compared.to_string().contains("wrong values 1"));
    }

    #[test]
    fn two_of_a_name_are_a_and_b() {
        let named = |a: &str, b: &str| labels(&[a.to_owned(), b.to_owned()]);
        assert_eq!(named("x -p {port}", "/bin/x {port}"), ["A", "B"]);
        assert_eq!(named("x", "y"), ["x", "y"]);
    }
}
