//! `load`: a closed loop of gets and sets over some connections, and what each request cost the
//! server.
//!
//! Closed: each connection sends a batch, waits for all its replies, checks them, and sends the
//! next. Everything runs on the calling thread, so `taskset` can keep the tool away from the
//! server's core.
//!
//! In the flow: the binary fills [`Options`] and calls [`run`], which calls
//! [`exchange`](super::exchange) for each batch and [`process`](super::process) before and after.
//! [`hold`](super::hold) and [`idle`](super::idle) take the same options.
//!
//! Invariants: *never stuck*, no reply for ten seconds ends the run with an error; *nothing
//! measured but the loop*, the fill and the opening of connections come before the first sample.

pub use super::load_report::{Report, ServerUsage};
pub use super::options::{Options, Values, parse_value_bytes, parse_values};

use super::exchange::{Counts, Exchange, Shared};
use super::process::Sample;
use super::random::{Random, mix};
use super::wire::Connection;
use super::{Error, Target};
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, LocalSet};

/// How long the server may give no reply at all before the run is given up.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// How long to wait before a server that could not be connected to is tried once more.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// Sets on their way at once while filling.
const FILL_PIPELINE: u64 = 16;

/// Drives a server as the options say; blocks until it is done. With neither requests nor duration,
/// for 5 seconds.
///
/// # Errors
/// When the options make no sense, a connection cannot be opened or breaks, or the server falls
/// silent or talks nonsense. Error replies and wrong values are no errors here: they are counted,
/// see [`Report::is_clean`].
pub fn run(options: &Options) -> Result<Report, Error> {
    options.check()?;
    let shared = Rc::new(options.shared());
    let work = measure(options, Rc::clone(&shared));
    block_on(&options.target, &shared, work)
}

/// What the connections of a run share besides keys and values.
struct Plan {
    options: Options,
    remaining: Cell<u64>,
    deadline: Option<Instant>,
    latency_ns: RefCell<Histogram<u64>>,
}

impl Plan {
    fn new(options: &Options, begun: Instant) -> Result<Self, Error> {
        let five = Duration::from_secs(5);
        let duration = options
            .duration
            .or(options.requests.is_none().then_some(five));
        let second_ns = 1_000_000_000;
        let latency_ns = Histogram::new_with_bounds(1, 100 * second_ns, 3)
            .map_err(|why| Error::Options(why.to_string()))?;
        Ok(Plan {
            options: options.clone(),
            remaining: Cell::new(options.requests.unwrap_or(u64::MAX)),
            deadline: duration.map(|duration| begun + duration),
            latency_ns: RefCell::new(latency_ns),
        })
    }

    /// How many requests the next batch has; 0 when all are taken.
    fn take(&self) -> u64 {
        let remaining = self.remaining.get();
        let batch = remaining.min(self.options.pipeline as u64);
        self.remaining.set(remaining - batch);
        batch
    }
}

async fn measure(options: &Options, shared: Rc<Shared>) -> Result<Report, Error> {
    if options.fill {
        fill(options, &shared).await?;
    }
    // The one at the end is another process, where connections are opened anew.
    let server = match options.reconnect {
        true => None,
        false => options.server().await,
    };
    let exchanges = open(options).await?;
    let sample = || server.map(Sample::of).transpose();
    let before = sample()?;
    let begun = Instant::now();
    let plan = Rc::new(Plan::new(options, begun)?);
    let counts = drive_all(exchanges, &shared, &plan).await?;
    let elapsed = begun.elapsed();
    let after = sample()?;
    let samples = server.zip(before).zip(after);
    let latency_ns = plan.latency_ns.borrow().clone();
    Ok(Report {
        counts,
        elapsed,
        latency_ns,
        server: samples.map(|((pid, before), after)| ServerUsage {
            pid,
            usage: after.since(&before),
            rss_bytes: after.rss_bytes,
        }),
    })
}

async fn open(options: &Options) -> Result<Vec<Exchange>, Error> {
    let mut exchanges = Vec::with_capacity(options.connections);
    for _ in 0..options.connections {
        let connection = Connection::open(&options.target).await?;
        exchanges.push(Exchange::new(connection));
    }
    Ok(exchanges)
}

async fn drive_all(
    exchanges: Vec<Exchange>,
    shared: &Rc<Shared>,
    plan: &Rc<Plan>,
) -> Result<Counts, Error> {
    let tasks = async {
        let mut tasks = JoinSet::new();
        for (number, exchange) in exchanges.into_iter().enumerate() {
            let random = Random::new(mix(plan.options.seed ^ mix(!(number as u64))));
            let (shared, plan) = (Rc::clone(shared), Rc::clone(plan));
            tasks.spawn_local(drive(exchange, shared, plan, random));
        }
        let mut counts = Counts::default();
        while let Some(ended) = tasks.join_next().await {
            counts += ended
                .map_err(|why| Error::System("drive a connection", io::Error::other(why)))??;
        }
        Ok(counts)
    };
    LocalSet::new().run_until(tasks).await
}

/// The loop of one connection.
async fn drive(
    mut exchange: Exchange,
    shared: Rc<Shared>,
    plan: Rc<Plan>,
    mut random: Random,
) -> Result<Counts, Error> {
    loop {
        let batch = plan.take();
        if batch == 0 {
            break;
        }
        for _ in 0..batch {
            push_random(&mut exchange, &shared, &plan.options, &mut random);
        }
        let sent = Instant::now();
        while let Err(error) = exchange.run(&shared).await {
            if !plan.options.reconnect || !matches!(error, Error::Lost(..)) {
                return Err(error);
            }
            exchange.go_on_over(open_again(&plan.options.target).await);
        }
        let answered = Instant::now();
        let took = answered.duration_since(sent).as_nanos() as u64;
        plan.latency_ns.borrow_mut().saturating_record(took);
        if plan.deadline.is_some_and(|deadline| answered >= deadline) {
            break;
        }
    }
    Ok(exchange.into_parts().1)
}

/// A connection to a server that may not be there for a while.
async fn open_again(target: &Target) -> Connection {
    loop {
        match Connection::open(target).await {
            Ok(connection) => return connection,
            Err(_) => tokio::time::sleep(RETRY_AFTER).await,
        }
    }
}

/// Adds a get or a set to the batch. Where every key tried has a set under way already, it is a
/// get.
fn push_random(exchange: &mut Exchange, shared: &Shared, options: &Options, random: &mut Random) {
    let set = random.below(100) >= u64::from(options.get_percent);
    if set && (0..8).any(|_| exchange.push_set(shared, random.below(options.keys))) {
        return;
    }
    let keys = (0..options.multiget).map(|_| random.below(options.keys));
    exchange.push_get(shared, keys);
}

/// Sets every key once, in order, over one connection; gives back the connection and what it
/// counted.
pub(super) async fn fill(options: &Options, shared: &Shared) -> Result<Exchange, Error> {
    let mut exchange = Exchange::new(Connection::open(&options.target).await?);
    let mut key = 0;
    while key < options.keys {
        let end = options.keys.min(key + FILL_PIPELINE);
        for key in key..end {
            exchange.push_set(shared, key);
        }
        exchange.run(shared).await?;
        key = end;
    }
    Ok(exchange)
}

/// Runs the work on this thread, and gives it up when no replies come any more.
pub(super) fn block_on<T>(
    target: &Target,
    shared: &Shared,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Error::System("start a runtime", why))?;
    runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            () = stalled(shared) => {
                let why = format!("no reply for {} s", STALLED_AFTER.as_secs());
                Err(Error::Lost(target.clone(), io::Error::new(io::ErrorKind::TimedOut, why)))
            }
        }
    })
}

async fn stalled(shared: &Shared) {
    loop {
        let answered = shared.answered.get();
        tokio::time::sleep(STALLED_AFTER).await;
        if shared.answered.get() == answered {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn options() -> Options {
        Options::new("127.0.0.1:1".parse().unwrap())
    }

    #[test]
    fn a_plan_hands_out_exactly_the_requests_wanted() {
        let (requests, pipeline) = (Some(10), 4);
        let options = Options {
            requests,
            pipeline,
            ..options()
        };
        let plan = Plan::new(&options, Instant::now()).unwrap();
        assert_eq!(
            [plan.take(), plan.take(), plan.take(), plan.take()],
            [4, 4, 2, 0]
        );
        assert_eq!(plan.deadline, None);
    }

    /// Answers a get by cutting the connection in the middle of a line, stays away for a while, and then misses.
    fn unsteady() -> (SocketAddr, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let ask = |listener: &TcpListener| {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 100]).unwrap() > 0);
                stream
            };
            let mut stream = ask(&listener);
            // Before the client knows, or it would still be let in.
            drop(listener);
            stream.write_all(b"EN").unwrap();
            drop(stream);
            std::thread::sleep(Duration::from_millis(20));
            let listener = TcpListener::bind(address).unwrap();
            ask(&listener).write_all(b"END\r\n").unwrap();
        });
        (address, server)
    }

    fn connect(address: SocketAddr) -> TcpStream {
        loop {
            if let Ok(stream) = TcpStream::connect(address) {
                return stream;
            }
        }
    }

    #[test]
    fn what_was_asked_when_a_connection_broke_is_asked_again() {
        for reconnect in [true, false] {
            let (address, server) = unsteady();
            let ran = run(&Options {
                connections: 1,
                requests: Some(1),
                reconnect,
                ..Options::new(Target::Tcp(address))
            });
            if reconnect {
                let Report { counts, server, .. } = ran.unwrap();
                assert_eq!((counts.requests, counts.misses), (1, 1));
                assert_eq!((counts.connections_lost, server.is_none()), (1, true));
            } else {
                assert!(matches!(ran, Err(Error::Lost(..))));
                // The server waits for somebody else.
                let mut other = connect(address);
                other.write_all(b"get k\r\n").unwrap();
            }
            server.join().unwrap();
        }
    }

    #[test]
    fn sets_are_not_asked_again() {
        let mixed = Options {
            reconnect: true,
            get_percent: 90,
            ..options()
        };
        assert!(matches!(run(&mixed), Err(Error::Options(_))));
    }

    #[test]
    fn nobody_listening_is_said_so() {
        let message = run(&options()).unwrap_err().to_string();
        assert!(
            message.contains("cannot connect to 127.0.0.1:1"),
            "{message}"
        );
    }
}
