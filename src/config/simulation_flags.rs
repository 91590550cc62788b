//! The command lines of `tokencached-tool generate`, `simulate` and `replay`.
//!
//! Lists are separated by commas; the caches that are replayed are their combinations. What the
//! numbers mean, and which make no sense, is for `tool/` to say.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use clap::Args;

use super::tool_flags::Server;
use super::units;
use crate::tool::Error;
use crate::tool::files;
use crate::tool::generate::Scenario;
use crate::tool::replay;
use crate::tool::simulate::balance::Balance;
use crate::tool::simulate::policy::spec::{DEFAULTS, Spec};
use crate::tool::simulate::replay::Values;
use crate::tool::simulate::{self, Units};
use crate::tool::trace::About;

/// `generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// Who asks; --list names the scenarios
    #[arg(long, value_name = "NAME", default_value = "large")]
    pub scenario: String,
    /// The same seed gives the same trace
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Set a parameter of the scenario; can be given again
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// The file to write; - is standard output
    #[arg(long, short, value_name = "FILE", required_unless_present = "list")]
    pub output: Option<PathBuf>,
    /// Print all scenarios, and all parameters with their values in this one
    #[arg(long)]
    pub list: bool,
    /// Show no progress; none is shown either where standard error is no terminal
    #[arg(long, short)]
    pub quiet: bool,
}

impl Generate {
    /// The scenario with its parameters.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn scenario(&self) -> Result<Scenario, Error> {
        with_parameters(&self.scenario, &self.set)
    }
}

/// `simulate`.
#[derive(Debug, Args)]
pub struct Simulate {
    /// Replay the trace in this file; can be given again
    #[arg(long, value_name = "FILE")]
    pub trace: Vec<PathBuf>,
    /// Generate and replay these scenarios (default: large, if there is no --trace)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// The seeds to generate each scenario from; tables show the mean
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        default_value = "1"
    )]
    pub seeds: Vec<u64>,
    /// Set a parameter of the scenarios; can be given again
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// What to compare; a wrong name lists all, +x frees expired entries first
    #[arg(long, value_name = "NAMES", default_value = DEFAULTS)]
    pub policies: String,
    /// Memory of each unit's cache, in MiB, or with k, m or g
    #[arg(
        long,
        short,
        value_name = "SIZES",
        value_delimiter = ',',
        default_value = "16,64"
    )]
    pub memory: Vec<String>,
    /// keystonemiddleware's token_cache_time, in seconds (default: what a recorded trace says, else 300)
    #[arg(long, value_name = "SECONDS", value_delimiter = ',')]
    pub ttl: Vec<u32>,
    /// Units that the API has, each with a cache of its own (default: 1 for a recorded trace, else 3)
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub units: Vec<u32>,
    /// How requests are shared out to the units: roundrobin, leastconn or source
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "roundrobin"
    )]
    pub balance: Vec<String>,
    /// Replay all units' caches, not only the first one's
    #[arg(long)]
    pub all_units: bool,
    /// Lengths of values: packed as tokencached keeps them, plain as they come, or bytes for all
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "packed"
    )]
    pub values: Vec<String>,
    /// How long Keystone takes for a validation; requests meanwhile miss as well (default: what a recorded
    /// trace says, else 100)
    #[arg(long, value_name = "MS")]
    pub validation_ms: Option<u32>,
    /// Seconds at the start of a trace that are replayed and not counted (default: what a recorded trace
    /// says, else 1800)
    #[arg(long, value_name = "S")]
    pub warm_up: Option<u32>,
    /// Caches replayed at once (default: one a core)
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZero<usize>>,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Write that to a file instead; - is standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Also write a page with curves
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Show no progress; none is shown either where standard error is no terminal
    #[arg(long, short)]
    pub quiet: bool,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The trace
    #[arg(long, value_name = "FILE")]
    pub trace: PathBuf,
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// How much faster than they came; the TTL is divided by it too, but not what the server itself
    /// counts in seconds: 1 gives it the trace's own time
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub speed: u32,
    /// keystonemiddleware's token_cache_time, in the trace's seconds (default: what a recorded trace says, else 300)
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u32>,
    /// Bytes of every value (default: as keystonemiddleware writes them)
    #[arg(long, value_name = "BYTES")]
    pub value_bytes: Option<u32>,
    /// How long Keystone takes for a validation, in the trace's time (default: what a recorded trace says, else
    /// 100)
    #[arg(long, value_name = "MS")]
    pub validation_ms: Option<u32>,
    /// Seconds at the start of the trace that are sent and not counted (default: what a recorded trace says,
    /// else 1800)
    #[arg(long, value_name = "S")]
    pub warm_up: Option<u32>,
    /// What the keys are made from (default: another one each time, so that nothing of an earlier
    /// replay is found)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl Replay {
    /// What `tool/` needs to know for this trace; looks the target's name up, which may block.
    ///
    /// # Errors
    /// [`Error::Target`] if the target is no address.
    pub fn options(&self, about: &About) -> Result<replay::Options, Error> {
        let usual = simulate::Usual::of(about);
        let warm_up_millis = self.warm_up.map(|seconds| seconds.saturating_mul(1000));
        Ok(replay::Options {
            target: self.server.target()?,
            speed: self.speed,
            ttl_seconds: self.ttl.unwrap_or(usual.ttl_seconds),
            value_bytes: self.value_bytes,
            validation_millis: self.validation_ms.unwrap_or(usual.validation_millis),
            warm_up_millis: warm_up_millis.unwrap_or(usual.warm_up_millis),
            seed: self.seed.unwrap_or_else(|| RandomState::new().hash_one(())),
        })
    }
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a terminal.
    Table,
    /// For a document.
    Markdown,
    /// One line a cache.
    Csv,
    /// All of it.
    Json,
}

impl Simulate {
    /// Which caches to replay.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn options(&self) -> Result<simulate::Options, Error> {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        let options = simulate::Options {
            policies: distinct(policies(&self.policies)?),
            memory_bytes: distinct(each(&self.memory, memory)?),
            ttl_seconds: distinct(self.ttl.clone()),
            units: distinct(self.units.clone()),
            balances: distinct(each(&self.balance, Balance::named)?),
            replayed: if self.all_units {
                Units::All
            } else {
                Units::First
            },
            values: distinct(each(&self.values, values)?),
            validation_millis: self.validation_ms,
            warm_up_seconds: self.warm_up,
            threads: self.threads.unwrap_or_else(cores),
        };
        options.check()?;
        Ok(options)
    }

    /// The scenarios to generate, each with a seed.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn scenarios(&self) -> Result<Vec<(Scenario, u64)>, Error> {
        let generates = !self.scenario.is_empty() || self.trace.is_empty();
        if !generates && (!self.set.is_empty() || self.seeds != [1]) {
            let what = "--set and --seeds are for scenarios, and a --trace is replayed as it is; give --scenario too, or leave them out";
            return Err(Error::Options(what.to_owned()));
        }
        let default = [String::from("large")];
        let names: &[String] = match (&self.scenario[..], self.trace.is_empty()) {
            ([], true) => &default,
            (names, _) => names,
        };
        let mut scenarios = Vec::new();
        for name in names {
            let scenario = with_parameters(name, &self.set)?;
            scenarios.extend(self.seeds.iter().map(|seed| (scenario.clone(), *seed)));
        }
        Ok(distinct(scenarios))
    }
}

impl Simulate {
    /// The files that are to be written.
    pub fn written(&self) -> impl Iterator<Item = &Path> {
        let given = [&self.output, &self.report];
        given.into_iter().flatten().map(PathBuf::as_path)
    }

    /// Refuses files that would take each other's place.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn check_files(&self) -> Result<(), Error> {
        if self
            .report
            .as_deref()
            .is_some_and(files::is_standard_output)
        {
            let what = "--report: give the page a file of its own; standard output has the table";
            return Err(Error::Options(what.to_owned()));
        }
        let mut known: Vec<PathBuf> = self.trace.iter().map(|path| place(path)).collect();
        for path in self.written() {
            let place = place(path);
            if known.contains(&place) && !place.starts_with("/dev") {
                return Err(Error::Options(format!(
                    "{}: would be written over; give --trace, --output and --report files of their own",
                    path.display()
                )));
            }
            known.push(place);
        }
        Ok(())
    }
}

/// Where a path leads, as far as it does.
fn place(path: &Path) -> PathBuf {
    let absolute = || std::path::absolute(path);
    path.canonicalize()
        .or_else(|_| absolute())
        .unwrap_or_else(|_| path.to_owned())
}

/// The same without what is in it twice.
pub(super) fn distinct<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
}

fn with_parameters(name: &str, assignments: &[String]) -> Result<Scenario, Error> {
    let mut scenario = Scenario::named(name)?;
    assignments
        .iter()
        .try_for_each(|assignment| scenario.set(assignment))?;
    scenario.check()?;
    Ok(scenario)
}

pub(super) fn each<T>(
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    texts.iter().map(|text| parse(text.trim())).collect()
}

/// Policies are separated by commas, and so are one's parameters: what has a `=` and no name
/// of a policy in front belongs to the one before.
fn policies(text: &str) -> Result<Vec<Spec>, Error> {
    let mut names: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim) {
        match names.last_mut() {
            Some(name) if part.contains('=') && !part.contains(':') => {
                name.push(',');
                name.push_str(part);
            }
            _ => names.push(part.to_owned()),
        }
    }
    each(&names, Spec::parse)
}

pub(super) fn memory(text: &str) -> Result<u64, Error> {
    units::size(text, units::MIB)
        .ok()
        .filter(|bytes| (1..=1 << 40).contains(bytes))
        .ok_or_else(|| {
            Error::Options(format!(
                "--memory {text:?}: give MiB, such as 64, or 64k, 2g"
            ))
        })
}

pub(super) fn values(text: &str) -> Result<Values, Error> {
    match text {
        "plain" => Ok(Values::Plain),
        "packed" => Ok(Values::Packed),
        _ => bytes(text).map(Values::Bytes).ok_or_else(|| {
            Error::Options(format!(
                "--values {text:?}: give packed, plain or a number of bytes"
            ))
        }),
    }
}

fn bytes(text: &str) -> Option<u32> {
    text.parse().ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policys_parameters_stay_with_it() {
        let names = |text| -> Vec<String> {
            policies(text)
                .unwrap()
                .into_iter()
                .map(|spec| spec.name)
                .collect()
        };
        let given = "lru,tokencached:probation-min=30,ghost=100,tokencached:work=2,infinite";
        assert_eq!(
            names(given),
            [
                "lru",
                "tokencached:probation-min=30,ghost=100",
                "tokencached:work=2",
                "infinite"
            ]
        );
    }

    #[test]
    fn sizes_and_lengths_that_make_no_sense_are_told() {
        assert_eq!(memory("64").unwrap(), 64 << 20);
        assert_eq!(memory("64k").unwrap(), 64 << 10);
        for text in ["", "x", "-1", "0", "9999999999999"] {
            assert!(memory(text).is_err(), "{text}");
        }
        assert!(values("10240").is_ok() && values("tiny").is_err());
    }
}
