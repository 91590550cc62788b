//! Replays a trace against a running server and counts the hits, which is how the models under
//! `simulate` are checked.
//!
//! The trace's time runs `speed` times as fast, and so does the TTL that entries are set with. In
//! slices of a few milliseconds, what is due is sent: a `get` for each request, and for each that
//! missed a `set` once the validation would have been answered. A batch of gets names no token
//! twice, so that one that was missed can be set before it is asked for again.
//!
//! Whoever compares with a model calls [`run`] and replays the same trace, with its times and its TTL
//! divided by the same speed, on the model. Calls [`wire`](super::wire) for the connection and
//! [`stats`] for the server's clock.
//!
//! Invariants: *in step*, no reply is outstanding when a batch is over; *every byte of a hit is
//! checked*, a wrong one ends the run; *never stuck*, a batch that takes longer than ten seconds ends
//! it too.

use super::exchange::classic::{Header, is_error};
use super::random::{Random, mix};
use super::report::Figures;
use super::simulate::policy::Seconds;
use super::simulate::report::Tally;
use super::trace::{Kind, Request, TokenId, Trace};
use super::wire::Connection;
use super::{Error, Target, keys, stats};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked what is due.
const SLICE: Duration = Duration::from_millis(2);

/// How long the server may take for a batch before the replay is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Requests of one batch. Few enough for all gets, or the replies to all sets, to fit into a socket's
/// buffer: no reply is read before the whole batch is sent.
const BATCH_REQUESTS: usize = 64;

/// memcached takes a longer exptime for a date.
const RELATIVE_SECONDS_MAX: Seconds = 30 * 86_400;

/// Bytes by which values of different tokens are shifted against each other.
const SHIFT_BYTES: usize = 4096;

/// What to replay how, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub target: Target,
    /// Seconds of the trace in a second of the replay.
    pub speed: u32,
    /// What entries are set with, in the trace's seconds; a multiple of `speed`. Lasting entries
    /// have none.
    pub ttl_seconds: Seconds,
    /// Length of every value; when `None`, of each what the trace says.
    pub value_bytes: Option<u32>,
    /// From a miss to its `set`, in the trace's time.
    pub validation_millis: u32,
    /// Requests before this time of the trace are replayed and not counted.
    pub warm_up_millis: u32,
    /// The same seed gives the same keys and values.
    pub seed: u64,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Requests and hits.
    pub tally: Tally,
    /// Sets that the server refused.
    pub refused: u64,
    /// How long after its time the latest request was answered. Much more than a few milliseconds
    /// means that server and trace did not have the same time.
    pub lateness: Duration,
}

/// A table of two columns.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { requests, hits, .. } = self.tally;
        let mut figures = Figures::default();
        figures
            .add("requests", requests)
            .add("hits", hits)
            .add("hits_percent", 100.0 * hits as f64 / requests as f64)
            .add("attack_requests", self.tally.attack_requests)
            .add("attack_hits", self.tally.attack_hits)
            .add("lasting_requests", self.tally.lasting_requests)
            .add("lasting_hits", self.tally.lasting_hits)
            .add("refused_sets", self.refused)
            .add("largest_lateness_seconds", self.lateness.as_secs_f64());
        figures.fmt(f)
    }
}

/// Replays the trace from the server's next second on; blocks until it is through.
///
/// # Errors
/// When the options make no sense, the connection cannot be opened or breaks, the server falls
/// silent, refuses a get, or gives a value that is not the token's. A refused set is counted.
pub fn run(trace: &Trace, options: &Options) -> Result<Outcome, Error> {
    check(trace, options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Error::System("start a runtime", why))?;
    await_second(&options.target)?;
    runtime.block_on(async {
        let connection = Connection::open(&options.target).await?;
        let mut replay = Replay::new(trace, options, connection);
        replay.run().await?;
        Ok(Outcome {
            tally: replay.tally,
            refused: replay.refused,
            lateness: replay.lateness,
        })
    })
}

fn check(trace: &Trace, options: &Options) -> Result<(), Error> {
    let (ttl, speed) = (options.ttl_seconds, options.speed);
    let largest = trace.tokens.iter().map(|token| token.value_bytes).max();
    let wrong = if speed == 0 {
        "the speed must be at least 1".to_owned()
    } else if ttl == 0 || !ttl.is_multiple_of(speed) {
        format!(
            "a TTL of {ttl} s at speed {speed} is no whole number of seconds: choose a multiple"
        )
    } else if ttl / speed > RELATIVE_SECONDS_MAX {
        format!(
            "a TTL of {ttl} s at speed {speed} is over 30 days, which memcached takes for a date"
        )
    } else if !trace
        .requests
        .iter()
        .any(|request| request.millis >= options.warm_up_millis)
    {
        "no request of the trace comes after the warm-up; give a shorter --warm-up".to_owned()
    } else if options.value_bytes.or(largest) > Some(1 << 20) {
        "a value has more than 1 MiB, which no server takes: choose shorter ones".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Options(wrong))
}

/// Waits until the server's clock, which expiries go by, comes to its next second.
fn await_second(target: &Target) -> Result<(), Error> {
    let second = || -> Result<Option<String>, Error> {
        let pairs = stats::fetch(target, None)?;
        let time = pairs.into_iter().find(|(name, _)| name == "time");
        Ok(time.map(|(_, value)| value))
    };
    let begun = Instant::now();
    let first = second()?;
    while second()? == first && begun.elapsed() < Duration::from_secs(2) {
        thread::sleep(SLICE);
    }
    Ok(())
}

/// A replay under way.
struct Replay<'a> {
    trace: &'a Trace,
    options: &'a Options,
    connection: Connection,
    begun: Instant,
    /// Where in the trace it is.
    at: usize,
    /// What was missed and is not set yet, with the time when it will be, in the trace's milliseconds.
    missed: VecDeque<(u64, TokenId)>,
    /// Of each token, the last batch that named it.
    batches: Vec<u32>,
    batch: u32,
    /// All values are pieces of this.
    pad: Vec<u8>,
    outbox: Vec<u8>,
    tally: Tally,
    refused: u64,
    lateness: Duration,
}

impl<'a> Replay<'a> {
    fn new(trace: &'a Trace, options: &'a Options, connection: Connection) -> Self {
        let longest = trace.tokens.iter().map(|token| token.value_bytes).max();
        let longest = options.value_bytes.or(longest).unwrap_or(0);
        let mut pad = vec![0; longest as usize + SHIFT_BYTES];
        Random::new(options.seed).fill(&mut pad);
        Replay {
            trace,
            options,
            connection,
            begun: Instant::now(),
            at: 0,
            missed: VecDeque::new(),
            batches: vec![0; trace.tokens.len()],
            batch: 0,
            pad,
            outbox: Vec::new(),
            tally: Tally::default(),
            refused: 0,
            lateness: Duration::ZERO,
        }
    }

    async fn run(&mut self) -> Result<(), Error> {
        while self.at < self.trace.requests.len() {
            let now = self.begun.elapsed();
            let now_millis = now.as_millis() as u64 * u64::from(self.options.speed);
            let sets = self.due_sets(now_millis);
            let gets = self.due_gets(now_millis);
            if sets.is_empty() && gets.is_empty() {
                tokio::time::sleep(SLICE).await;
                continue;
            }
            let work = async {
                self.set(&sets).await?;
                self.get(gets).await
            };
            match tokio::time::timeout(SILENCE_MAX, work).await {
                Ok(outcome) => outcome?,
                Err(_) => return Err(self.silent()),
            }
        }
        Ok(())
    }

    /// Takes the next misses whose validation has been answered.
    fn due_sets(&mut self, now_millis: u64) -> Vec<TokenId> {
        let due = |(millis, _): &&(u64, TokenId)| *millis <= now_millis;
        let count = self
            .missed
            .iter()
            .take(BATCH_REQUESTS)
            .take_while(due)
            .count();
        self.missed.drain(..count).map(|(_, token)| token).collect()
    }

    /// Takes the next requests whose time has come, up to one whose token is among them already.
    fn due_gets(&mut self, now_millis: u64) -> &'a [Request] {
        self.batch += 1;
        let (batch, batches) = (self.batch, &mut self.batches);
        let ahead = &self.trace.requests[self.at..];
        let taken = ahead.iter().take(BATCH_REQUESTS).take_while(|request| {
            let last = &mut batches[request.token as usize];
            let taken = u64::from(request.millis) <= now_millis && *last != batch;
            *last = batch;
            taken
        });
        let count = taken.count();
        self.at += count;
        &ahead[..count]
    }

    async fn get(&mut self, requests: &[Request]) -> Result<(), Error> {
        self.outbox.clear();
        for request in requests {
            self.outbox.extend_from_slice(b"get ");
            self.push_key(request.token);
            self.outbox.extend_from_slice(b"\r\n");
        }
        self.connection.send(&self.outbox).await?;
        for request in requests {
            let hit = self.read_get(request.token).await?;
            if !hit {
                let answered = request
                    .millis
                    .saturating_add(self.options.validation_millis);
                self.missed.push_back((u64::from(answered), request.token));
            }
            self.count(request, hit);
        }
        Ok(())
    }

    async fn read_get(&mut self, token: TokenId) -> Result<bool, Error> {
        let line_bytes = self.connection.line().await?;
        let line = self.connection.peek(line_bytes);
        if line == b"END\r\n" {
            self.connection.consume(line_bytes);
            return Ok(false);
        }
        if is_error(line) {
            let refusal = super::shown(line);
            return Err(Error::Refused(self.options.target.clone(), refusal));
        }
        let value_bytes = self.value(token).len();
        let header = Header::parse(line, keys::PLAIN_BYTES);
        if header.is_none_or(|header| header.bytes != value_bytes) {
            return Err(self.connection.garbled(line_bytes));
        }
        let whole = line_bytes + value_bytes + b"\r\nEND\r\n".len();
        self.connection.need(whole).await?;
        let body = &self.connection.peek(whole)[line_bytes..];
        if body.strip_suffix(b"\r\nEND\r\n") != Some(self.value(token)) {
            return Err(self.connection.garbled(line_bytes));
        }
        self.connection.consume(whole);
        Ok(true)
    }

    async fn set(&mut self, tokens: &[TokenId]) -> Result<(), Error> {
        let mut outbox = std::mem::take(&mut self.outbox);
        outbox.clear();
        for token in tokens {
            let value = self.value(*token);
            let (exptime, bytes) = (self.exptime(*token), value.len());
            outbox.extend_from_slice(b"set ");
            keys::push_plain(self.options.seed, u64::from(*token), &mut outbox);
            write!(outbox, " 0 {exptime} {bytes}\r\n").expect("a Vec takes all writes");
            outbox.extend_from_slice(value);
            outbox.extend_from_slice(b"\r\n");
        }
        self.outbox = outbox;
        self.connection.send(&self.outbox).await?;
        for _ in tokens {
            let bytes = self.connection.line().await?;
            let line = self.connection.peek(bytes);
            match line == b"STORED\r\n" {
                true => {}
                false if is_error(line) => self.refused += 1,
                false => return Err(self.connection.garbled(bytes)),
            }
            self.connection.consume(bytes);
        }
        Ok(())
    }

    fn count(&mut self, request: &Request, hit: bool) {
        let due = Duration::from_millis(u64::from(request.millis)) / self.options.speed;
        self.lateness = self.lateness.max(self.begun.elapsed().saturating_sub(due));
        if request.millis < self.options.warm_up_millis {
            return;
        }
        let tally = &mut self.tally;
        let (requests, hits) = match self.trace.tokens[request.token as usize].kind {
            Kind::Legitimate => (&mut tally.requests, &mut tally.hits),
            Kind::Attack => (&mut tally.attack_requests, &mut tally.attack_hits),
            Kind::Lasting => (&mut tally.lasting_requests, &mut tally.lasting_hits),
        };
        *requests += 1;
        *hits += u64::from(hit);
    }

    fn push_key(&mut self, token: TokenId) {
        keys::push_plain(self.options.seed, u64::from(token), &mut self.outbox);
    }

    fn value(&self, token: TokenId) -> &[u8] {
        let own = self.trace.tokens[token as usize].value_bytes;
        let bytes = self.options.value_bytes.unwrap_or(own) as usize;
        let from = mix(u64::from(token)) as usize % SHIFT_BYTES;
        &self.pad[from..][..bytes]
    }

    fn exptime(&self, token: TokenId) -> Seconds {
        match self.trace.tokens[token as usize].kind {
            Kind::Lasting => 0,
            Kind::Legitimate | Kind::Attack => self.options.ttl_seconds / self.options.speed,
        }
    }

    fn silent(&self) -> Error {
        let why = format!("no reply for {} s", SILENCE_MAX.as_secs());
        let why = io::Error::new(io::ErrorKind::TimedOut, why);
        Error::Lost(self.options.target.clone(), why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::trace::About;

    fn options(speed: u32, ttl_seconds: Seconds) -> Options {
        Options {
            target: "127.0.0.1:1".parse().unwrap(),
            speed,
            ttl_seconds,
            value_bytes: Some(100),
            validation_millis: 0,
            warm_up_millis: 0,
            seed: 1,
        }
    }

    fn one_request() -> Trace {
        Trace {
            about: About {
                name: String::new(),
                seed: 1,
                parameters: Vec::new(),
                millis: 0,
                recorded: None,
            },
            tokens: Vec::new(),
            requests: vec![Request {
                millis: 0,
                token: 0,
                service: 0,
            }],
            services: Vec::new(),
            changes: Vec::new(),
        }
    }

    #[test]
    fn a_ttl_that_is_no_whole_number_of_the_servers_seconds_is_refused() {
        let message = run(&one_request(), &options(20, 310))
            .unwrap_err()
            .to_string();
        assert!(message.contains("310 s at speed 20"), "{message}");
        let message = run(&one_request(), &options(0, 300))
            .unwrap_err()
            .to_string();
        assert!(message.contains("speed"), "{message}");
    }

    #[test]
    fn nobody_listening_is_said_so() {
        let message = run(&one_request(), &options(20, 300))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("cannot connect to 127.0.0.1:1"),
            "{message}"
        );
    }
}
