//! Hit rates in virtual time: traces replayed through caches, each with memory, TTL, units and policy of
//! its own.
//!
//! [`Simulation`] takes one trace after another (they are large), shares its requests out to the units
//! ([`balance`]), replays every unit's through every cache that was asked for ([`mod@replay`],
//! [`policy`]) on several cores, and gives a [`report`]. The store in it is the daemon's own.
//!
//! Invariant: the same options give the same report, but for the speed that it tells of.

pub mod balance;
pub mod policy;
pub mod replay;
pub mod report;

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

use super::Error;
use super::generate::scenario;
use super::progress::Progress;
use super::trace::{About, Kind, Recorded, Request, TokenId, Trace};
use balance::Balance;
use policy::Seconds;
use policy::belady::Future;
use policy::spec::{Frame, Spec};
use replay::{Conditions, FIRST_SECOND, Values, replay};
use report::{Report, Row, Tally};

/// What `token_cache_time` is by default.
const TTL_SECONDS: Seconds = 300;

/// How long a validation takes in a made-up cloud.
const VALIDATION_MILLIS: u32 = 100;

/// Units of a made-up cloud.
const UNITS: u32 = 3;

/// How much of a made-up trace fills the caches, in milliseconds.
const WARM_UP_MILLIS: u32 = 1_800_000;

/// Which units' caches are replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// The first one's, as a sample.
    First,
    /// All.
    All,
}

/// Which caches to replay, as lists to be combined.
#[derive(Debug, Clone)]
pub struct Options {
    /// The policies.
    pub policies: Vec<Spec>,
    /// Bytes of each unit's cache.
    pub memory_bytes: Vec<u64>,
    /// Values of `token_cache_time`; none for the trace's own.
    pub ttl_seconds: Vec<Seconds>,
    /// How many units the API has; none for as many as the trace is of.
    pub units: Vec<u32>,
    /// How requests are shared out to them.
    pub balances: Vec<Balance>,
    /// Which of the units to replay.
    pub replayed: Units,
    /// The lengths of values.
    pub values: Vec<Values>,
    /// How long Keystone takes for a validation; `None` for as long as the trace says.
    pub validation_millis: Option<u32>,
    /// Requests of this time at the start are replayed and not counted; `None` for as long as the trace needs.
    pub warm_up_seconds: Option<u32>,
    /// Caches replayed at once; each takes the memory of one.
    pub threads: NonZero<usize>,
}

impl Options {
    /// Refuses options that cannot be carried out.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Options(what));
        if let Some(units) = self
            .units
            .iter()
            .find(|units| !(1..=balance::UNITS_MAX).contains(*units))
        {
            return wrong(format!("{units} units: from 1 to {}", balance::UNITS_MAX));
        }
        const TTL_SECONDS_MAX: Seconds = 30 * 86_400;
        if let Some(ttl) = self
            .ttl_seconds
            .iter()
            .find(|ttl| !(1..=TTL_SECONDS_MAX).contains(*ttl))
        {
            return wrong(format!("a TTL of {ttl} s: from 1 to {TTL_SECONDS_MAX}"));
        }
        for spec in &self.policies {
            let least = spec.memory_bytes_min();
            if let Some(memory) = self.memory_bytes.iter().find(|memory| **memory < least) {
                return wrong(format!(
                    "{memory} bytes of memory: {spec} needs at least {} MiB",
                    least.div_ceil(1 << 20)
                ));
            }
        }
        Ok(())
    }
}

/// How a trace is replayed where nothing else is asked for: as it was recorded, or as clouds usually are.
#[derive(Debug, Clone, Copy)]
pub struct Usual {
    /// `token_cache_time`.
    pub ttl_seconds: Seconds,
    /// How many units the API has; what was recorded is one unit's.
    pub units: u32,
    /// How long Keystone takes for a validation.
    pub validation_millis: u32,
    /// Requests before this are replayed and not counted.
    pub warm_up_millis: u32,
}

impl Usual {
    /// That of such a trace.
    pub fn of(about: &About) -> Usual {
        match &about.recorded {
            Some(recorded) => Usual {
                ttl_seconds: recorded.ttl_seconds,
                units: 1,
                validation_millis: recorded.validation_millis,
                warm_up_millis: recorded.warm_up_millis,
            },
            None => Usual {
                ttl_seconds: TTL_SECONDS,
                units: UNITS,
                validation_millis: VALIDATION_MILLIS,
                warm_up_millis: WARM_UP_MILLIS,
            },
        }
    }
}

/// Options with what they leave to the trace.
#[derive(Debug)]
pub struct Fitted<'a> {
    /// The options.
    pub asked: &'a Options,
    /// Values of `token_cache_time`.
    pub ttl_seconds: Vec<Seconds>,
    /// How many units the API has.
    pub units: Vec<u32>,
    /// How long Keystone takes for a validation.
    pub validation_millis: u32,
    /// Requests before this are replayed and not counted.
    pub warm_up_millis: u32,
}

impl<'a> Fitted<'a> {
    /// What these options come to for such a trace.
    pub fn new(asked: &'a Options, about: &About) -> Fitted<'a> {
        let usual = Usual::of(about);
        let either = |given: &[u32], default| match given {
            [] => vec![default],
            given => given.to_vec(),
        };
        let warm_up = asked.warm_up_seconds.map(|it| it.saturating_mul(1000));
        Fitted {
            asked,
            ttl_seconds: either(&asked.ttl_seconds, usual.ttl_seconds),
            units: either(&asked.units, usual.units),
            validation_millis: asked.validation_millis.unwrap_or(usual.validation_millis),
            warm_up_millis: warm_up.unwrap_or(usual.warm_up_millis),
        }
    }

    /// Caches that the trace is replayed through, units counted each.
    fn replays(&self) -> u64 {
        let asked = self.asked;
        let units = |units: &u32| match asked.replayed {
            Units::First => 1,
            Units::All => u64::from(*units),
        };
        let bounded = asked
            .policies
            .iter()
            .filter(|spec| !spec.is_unbounded())
            .count();
        let unbounded = asked.policies.len() - bounded;
        let caches = bounded * asked.memory_bytes.len() * asked.values.len() + unbounded;
        let units: u64 = self.units.iter().map(units).sum();
        units * (asked.balances.len() * self.ttl_seconds.len() * caches) as u64
    }
}

/// A simulation under way: traces are replayed one after another.
#[derive(Debug)]
pub struct Simulation<'a> {
    options: &'a Options,
    traces: Vec<String>,
    /// What was replayed; it counts once, however often it is given.
    replayed: Vec<About>,
    /// Names and parameters of those.
    known: Vec<(String, Vec<String>)>,
    rows: Vec<Row>,
}

impl<'a> Simulation<'a> {
    /// One with these caches.
    pub fn new(options: &'a Options) -> Simulation<'a> {
        Simulation {
            options,
            traces: Vec::new(),
            replayed: Vec::new(),
            known: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Replays one trace through all caches. Takes as long as that takes, on all of its threads.
    ///
    /// # Errors
    /// [`Error::Options`] for options that cannot be carried out, a trace without a request that is
    /// counted, or values that are too long for a cache; [`Error::System`] if there is no memory.
    pub fn replay(&mut self, trace: &Trace, progress: &Progress) -> Result<(), Error> {
        self.options.check()?;
        let conditions = Fitted::new(self.options, &trace.about);
        check_trace(trace, &conditions)?;
        if self.replayed.contains(&trace.about) {
            return Ok(());
        }
        self.replayed.push(trace.about.clone());
        let about = &trace.about;
        let label = self.label(about);
        let requests = trace.requests.len() as u64;
        let work = conditions.replays() * requests;
        progress.begin(&format!("replaying {} {}", about.name, about.seed), work);
        for (place, &balance) in self.options.balances.iter().enumerate() {
            // One unit gets all requests, however they are shared out.
            let units = conditions
                .units
                .iter()
                .filter(|units| place == 0 || **units > 1);
            for &units in units {
                let of_unit = balance.share_out(trace, units);
                let group = Group {
                    trace,
                    label: &label,
                    options: &conditions,
                    of_unit: &of_unit,
                    units,
                    balance,
                };
                self.rows.extend(group.run(progress)?);
            }
        }
        self.tell_of(trace);
        Ok(())
    }

    /// What rows call a trace: its name, and its parameters too if a trace with others has that name.
    fn label(&self, about: &About) -> String {
        let mut namesakes = self.known.iter().filter(|(name, _)| *name == about.name);
        match namesakes.next() {
            Some((_, parameters)) if *parameters != about.parameters => {
                let parameters = match &about.parameters[..] {
                    [] => "defaults".to_owned(),
                    changed => changed.join(" "),
                };
                format!("{} {parameters}", about.name)
            }
            _ => about.name.clone(),
        }
    }

    /// Notes what is replayed, once for all seeds of a scenario.
    fn tell_of(&mut self, trace: &Trace) {
        let about = &trace.about;
        let known = (about.name.clone(), about.parameters.clone());
        if self.known.contains(&known) {
            return;
        }
        let label = self.label(about);
        self.known.push(known);
        let seconds = (f64::from(about.millis) / 1000.0).max(0.001);
        let told = format!(
            "{}{}, {:.1} hours, {:.0} requests a second with {:.1} new tokens a second{}",
            label,
            what_is(&about.name),
            seconds / 3600.0,
            trace.requests.len() as f64 / seconds,
            trace.tokens.len() as f64 / seconds,
            match &about.parameters[..] {
                [] => String::new(),
                changed => format!("; {}", changed.join(", ")),
            }
        );
        let told = match &about.recorded {
            Some(recorded) => format!("{told}; {}", what_was_counted(recorded)),
            None => told,
        };
        self.traces.push(told);
    }

    /// What was found, with the command that found it.
    pub fn report(self, command: String) -> Report {
        Report {
            command,
            traces: self.traces,
            rows: self.rows,
        }
    }
}

/// What this thread has had of the processor so far.
fn cpu_time() -> Duration {
    // Fails on no Linux.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// What is said of a scenario, in parentheses.
fn what_is(name: &str) -> String {
    let known = scenario::NAMES.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, about)| format!(" ({about})"))
        .unwrap_or_default()
}

/// What the server that a trace was recorded from has counted itself, and what the trace does not have of it.
fn what_was_counted(recorded: &Recorded) -> String {
    let hits = recorded.hits as f64 * 100.0 / recorded.look_ups.max(1) as f64;
    let mut told = format!(
        "the server itself counted {hits:.2} % with {} MB",
        recorded.memory_bytes >> 20
    );
    for (count, what) in [
        (
            recorded.left_out,
            "look-ups of what was never stored are left out",
        ),
        (recorded.lost, "events were lost"),
    ] {
        if count > 0 {
            told += &format!(", {count} {what}");
        }
    }
    told
}

fn check_trace(trace: &Trace, options: &Fitted<'_>) -> Result<(), Error> {
    let name = &trace.about.name;
    let counted_from = options.warm_up_millis;
    let Some(last) = trace.requests.last() else {
        let what = format!("trace {name:?}: there is no request in it");
        return Err(Error::Options(what));
    };
    if last.millis < counted_from {
        return Err(Error::Options(format!(
            "trace {name:?}: no request comes after the warm-up of {} s; give a shorter --warm-up",
            options.warm_up_millis / 1000
        )));
    }
    let is_legitimate = |token: TokenId| trace.tokens[token as usize].kind == Kind::Legitimate;
    let counted =
        |request: &Request| request.millis >= counted_from && is_legitimate(request.token);
    if !trace.requests.iter().any(counted) {
        return Err(Error::Options(format!(
            "trace {name:?}: nobody but attackers and other users of the cache asks after the warm-up; there is no hit ratio of such"
        )));
    }
    for values in &options.asked.values {
        let longest = trace
            .tokens
            .iter()
            .map(|token| values.bytes(token))
            .max()
            .unwrap_or(0);
        if longest > policy::tokencached::VALUE_BYTES_MAX {
            return Err(Error::Options(format!(
                "trace {name:?}: a value of {longest} bytes; at most {}",
                policy::tokencached::VALUE_BYTES_MAX
            )));
        }
    }
    Ok(())
}

/// A cache to be replayed for each unit.
#[derive(Debug, Clone, Copy)]
struct Cache<'a> {
    spec: &'a Spec,
    values: Values,
    ttl_seconds: Seconds,
    memory_bytes: u64,
}

/// The caches that see the same units.
struct Group<'a> {
    trace: &'a Trace,
    label: &'a str,
    options: &'a Fitted<'a>,
    of_unit: &'a [u8],
    units: u32,
    balance: Balance,
}

/// What was found out about one cache.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    tally: Tally,
    requests: u64,
    seconds: f64,
}

impl Group<'_> {
    fn run(&self, progress: &Progress) -> Result<Vec<Row>, Error> {
        let wanted = self.caches();
        let (distinct, place) = self.distinct(&wanted);
        let replayed = self.units_replayed();
        let jobs: Vec<(Cache<'_>, u8)> = distinct
            .iter()
            .flat_map(|cache| (0..replayed).map(|unit| (*cache, unit as u8)))
            .collect();
        let found = in_parallel(self.options.asked.threads, &jobs, |(cache, unit)| {
            self.replay(cache, *unit, progress)
        })?;
        let sums: Vec<Found> = found.chunks(replayed as usize).map(sum).collect();
        Ok(wanted
            .iter()
            .zip(place)
            .map(|(cache, at)| self.row(cache, &sums[at]))
            .collect())
    }

    fn units_replayed(&self) -> u32 {
        match self.options.asked.replayed {
            Units::First => 1,
            Units::All => self.units,
        }
    }

    fn caches(&self) -> Vec<Cache<'_>> {
        let Options {
            policies,
            memory_bytes,
            values,
            ..
        } = self.options.asked;
        let mut caches = Vec::new();
        for &values in values {
            for &ttl_seconds in &self.options.ttl_seconds {
                for &memory_bytes in memory_bytes {
                    let of = |spec| Cache {
                        spec,
                        values,
                        ttl_seconds,
                        memory_bytes,
                    };
                    caches.extend(policies.iter().map(of));
                }
            }
        }
        caches
    }

    /// The caches that differ in what comes out, and the place of each wanted one among them.
    fn distinct<'c>(&self, wanted: &[Cache<'c>]) -> (Vec<Cache<'c>>, Vec<usize>) {
        let mut distinct: Vec<Cache<'c>> = Vec::new();
        let place = |cache: &Cache<'c>| {
            let same = |other: &Cache<'c>| {
                cache.spec.is_unbounded()
                    && cache.spec == other.spec
                    && cache.ttl_seconds == other.ttl_seconds
            };
            distinct.iter().position(same).unwrap_or_else(|| {
                distinct.push(*cache);
                distinct.len() - 1
            })
        };
        let places = wanted.iter().map(place).collect();
        (distinct, places)
    }

    fn recorded_ttl(&self) -> Option<Seconds> {
        let recorded = self.trace.about.recorded.as_ref()?;
        Some(recorded.ttl_seconds)
    }

    fn replay(&self, cache: &Cache<'_>, unit: u8, progress: &Progress) -> Result<Found, Error> {
        let conditions = Conditions {
            values: cache.values,
            ttl_seconds: cache.ttl_seconds,
            is_recorded_ttl: self.recorded_ttl() == Some(cache.ttl_seconds),
            validation_millis: self.options.validation_millis,
            warm_up_millis: self.options.warm_up_millis,
        };
        let frame = Frame {
            memory_bytes: cache.memory_bytes,
            tokens: self.trace.tokens.len(),
            value_bytes: self.mean_value_bytes(cache.values),
            seed: self.trace.about.seed,
        };
        let mut policy = cache.spec.build(&frame, || self.future(unit))?;
        let began = cpu_time();
        let of_unit = (self.of_unit, unit);
        let tally = replay(self.trace, of_unit, &conditions, policy.as_mut(), |work| {
            progress.advance(work);
        });
        let requests = self.of_unit.iter().filter(|of| **of == unit).count() as u64;
        Ok(Found {
            tally,
            requests,
            seconds: (cpu_time() - began).as_secs_f64(),
        })
    }

    fn mean_value_bytes(&self, values: Values) -> u32 {
        let tokens = &self.trace.tokens;
        let sum: u64 = tokens
            .iter()
            .map(|token| u64::from(values.bytes(token)))
            .sum();
        (sum / (tokens.len() as u64).max(1)) as u32
    }

    fn future(&self, unit: u8) -> Future {
        let of_unit = self
            .trace
            .requests
            .iter()
            .zip(self.of_unit)
            .filter(|(_, of)| **of == unit);
        let timed =
            of_unit.map(|(request, _)| (request.token, FIRST_SECOND + request.millis / 1000));
        Future::of(timed, self.trace.tokens.len())
    }

    fn row(&self, cache: &Cache<'_>, found: &Found) -> Row {
        let about = &self.trace.about;
        let counted = about.millis.saturating_sub(self.options.warm_up_millis);
        Row {
            scenario: self.label.to_owned(),
            seed: about.seed,
            units: self.units,
            balance: self.balance.name().to_owned(),
            units_replayed: self.units_replayed(),
            values: cache.values.to_string(),
            ttl_seconds: cache.ttl_seconds,
            memory_bytes: cache.memory_bytes,
            policy: cache.spec.name.clone(),
            tally: found.tally,
            counted_seconds: f64::from(counted) / 1000.0,
            replayed_per_second: found.requests as f64 / found.seconds,
        }
    }
}

fn sum(of_units: &[Found]) -> Found {
    of_units.iter().fold(Found::default(), |mut sum, found| {
        sum.tally.add(&found.tally);
        sum.requests += found.requests;
        sum.seconds += found.seconds;
        sum
    })
}

/// Does all jobs on so many threads, each when one is free; the results in the jobs' order. The
/// first error ends it.
fn in_parallel<J: Sync, R: Send>(
    threads: NonZero<usize>,
    jobs: &[J],
    work: impl Fn(&J) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.get().min(jobs.len()) {
            scope.spawn(|| {
                loop {
                    // Relaxed: it only decides who does which job.
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { return };
                    let result = work(job);
                    if result.is_err() {
                        next.store(jobs.len(), Ordering::Relaxed);
                    }
                    done.lock().push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner();
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}
