//! Compares the model of memcached that simulations use with memcached (`MEMCACHED`, or `memcached`
//! in `PATH`; left out where none is installed).
//!
//! The same made-up trace goes to the server, so much faster than its own time that it takes some
//! seconds, and to the model, with the same times and the same TTL in whole seconds. The trace's
//! tokens do not fit, so that what is hit depends on what is evicted. The hit ratios have to be the
//! same within a point; a run in which this machine was too slow to keep the trace's times says
//! nothing and is repeated.

#[path = "common/oracle.rs"]
mod oracle;

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::ClockId;
use tokencached::tool::Target;
use tokencached::tool::random::Random;
use tokencached::tool::replay::{self, Outcome};
use tokencached::tool::simulate::policy::memcached::Memcached;
use tokencached::tool::simulate::policy::{Entry, Policy, Seconds};
use tokencached::tool::trace::{About, Kind, Request, Token, TokenId, Trace};

/// How much faster than its own time the trace is replayed.
const SPEED: u32 = 60;

/// How long that takes.
const REPLAY_SECONDS: u32 = 12;

/// How late a request may be for the run to count.
const LATENESS_MAX: Duration = Duration::from_millis(250);

const ATTEMPTS: usize = 3;

/// How far the hit ratios may be from each other.
const POINTS_MAX: f64 = 1.0;

/// How long the server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn the_model_hits_what_memcached_hits() {
    let Some(program) = oracle::find_memcached() else {
        println!("no memcached is installed: the comparison was left out");
        return;
    };
    let trace = trace(&Shape::default());
    for memory_mib in [4, 8] {
        let (real, model) = compare(&program, &trace, memory_mib, 300);
        println!("-m {memory_mib}: memcached {real:.2} %, model {model:.2} %");
        assert!(
            (40.0..85.0).contains(&real),
            "the trace is no test of anything"
        );
        assert!(
            (real - model).abs() <= POINTS_MAX,
            "{real} % are not {model} %"
        );
    }
}

/// The hit ratios of server and model, in percent.
fn compare(program: &Path, trace: &Trace, memory_mib: u32, ttl_seconds: Seconds) -> (f64, f64) {
    let percent = |hits: u64| 100.0 * hits as f64 / trace.requests.len() as f64;
    let real = replayed(program, trace, memory_mib, ttl_seconds);
    let model = simulated(trace, memory_mib, ttl_seconds);
    (percent(real.tally.hits), percent(model))
}

fn replayed(program: &Path, trace: &Trace, memory_mib: u32, ttl_seconds: Seconds) -> Outcome {
    for _ in 0..ATTEMPTS {
        let server = Server::start(program, memory_mib);
        let options = replay::Options {
            target: Target::Unix(server.socket.clone()),
            speed: SPEED,
            ttl_seconds,
            value_bytes: None,
            validation_millis: 0,
            warm_up_millis: 0,
            seed: 1,
        };
        let outcome = replay::run(trace, &options).unwrap();
        if outcome.lateness <= LATENESS_MAX {
            return outcome;
        }
        println!("a request was {:?} late: once more", outcome.lateness);
    }
    panic!("this machine was too slow for the trace {ATTEMPTS} times");
}

/// Hits of the model, which has the same seconds as the server.
fn simulated(trace: &Trace, memory_mib: u32, ttl_seconds: Seconds) -> u64 {
    let mut cache = Memcached::new(u64::from(memory_mib) << 20, trace.tokens.len());
    let (mut now, mut hits) = (1, 0);
    for request in &trace.requests {
        while now < 2 + request.millis / SPEED / 1000 {
            now += 1;
            cache.second(now);
        }
        if cache.get(request.token, now) {
            hits += 1;
            continue;
        }
        let entry = Entry {
            value_bytes: trace.tokens[request.token as usize].value_bytes,
            expiry: now + ttl_seconds / SPEED,
        };
        cache.put(request.token, entry, now);
    }
    hits
}

/// What a trace is made of; tokens and requests are per second of the replay.
struct Shape {
    /// Lengths of values, equally often.
    value_bytes: &'static [u32],
    /// Tokens that are used from beginning to end.
    hot_tokens: u64,
    /// Requests with one of those.
    hot_requests: u32,
    /// Tokens that are used many times within a few seconds.
    sessions: u32,
    /// Tokens that are used once to three times.
    passing: u32,
    seconds: u32,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            value_bytes: &[13_100],
            hot_tokens: 300,
            hot_requests: 300,
            sessions: 40,
            passing: 100,
            seconds: REPLAY_SECONDS,
        }
    }
}

fn trace(shape: &Shape) -> Trace {
    let mut random = Random::new(1);
    let millis = shape.seconds * 1000 * SPEED;
    let mut tokens = shape.hot_tokens as TokenId;
    let mut requests = Vec::new();
    for _ in 0..shape.hot_requests * shape.seconds {
        let (one, two) = (
            random.below(shape.hot_tokens),
            random.below(shape.hot_tokens),
        );
        // The lower a token's number, the more often it is used.
        requests.push((random.below(millis.into()), one.min(two) as TokenId));
    }
    let mut burst = |count: u32, uses: u64, gap_millis: u64| {
        for _ in 0..count * shape.seconds {
            let mut at = random.below(millis.into());
            for _ in 0..1 + random.below(uses) {
                requests.push((at, tokens));
                at += random.below(gap_millis * u64::from(SPEED));
            }
            tokens += 1;
        }
    };
    burst(shape.sessions, 20, 600);
    burst(shape.passing, 3, 3000);
    requests.retain(|(at, _)| *at < millis.into());
    requests.sort_unstable();
    Trace {
        about: About {
            name: "made up".to_owned(),
            seed: 1,
            parameters: Vec::new(),
            millis,
            recorded: None,
        },
        tokens: (0..tokens).map(|token| token_of(shape, token)).collect(),
        requests: requests.into_iter().map(request_of).collect(),
        services: vec!["api".to_owned()],
        changes: Vec::new(),
    }
}

fn token_of(shape: &Shape, token: TokenId) -> Token {
    let value_bytes = shape.value_bytes[token as usize % shape.value_bytes.len()];
    Token {
        kind: Kind::Legitimate,
        source: 0,
        value_bytes,
        packed_bytes: value_bytes,
        ttl_seconds: 0,
    }
}

fn request_of((at, token): (u64, TokenId)) -> Request {
    Request {
        millis: at as u32,
        token,
        service: 0,
    }
}

/// A running memcached, killed when it is dropped.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn start(program: &Path, memory_mib: u32) -> Server {
        let name = format!("tokencached-model-{}.sock", std::process::id());
        let socket = env::temp_dir().join(name);
        let _ = fs::remove_file(&socket);
        await_middle_of_second();
        let mut command = Command::new(program);
        command.arg("-s").arg(&socket);
        command.args(["-m", &memory_mib.to_string()]);
        if runs_as_root() {
            command.args(["-u", "root"]);
        }
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let server = Server { child, socket };
        let deadline = Instant::now() + START_TIMEOUT;
        while UnixStream::connect(&server.socket).is_err() {
            assert!(
                Instant::now() < deadline,
                "{} does not start",
                program.display()
            );
            thread::sleep(Duration::from_millis(10));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // All fail only for a server that has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

/// memcached looks at the clock a little more than a second after it did, from its start on. Where
/// that comes across the clock's next second, it skips one, and what it keeps is a second older than
/// in the model; so it is not started shortly before.
fn await_middle_of_second() {
    let middle = 100_000_000..600_000_000;
    let nanoseconds = || ClockId::CLOCK_MONOTONIC.now().unwrap().tv_nsec();
    while !middle.contains(&nanoseconds()) {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Servers refuse to run as root unless told to; in containers the tests often do.
fn runs_as_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
