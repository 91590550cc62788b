//! The threads that drive a server, each with its share of the connections, burst after burst.
//!
//! [`load`](super) has them run one [`Plan`], [`compare`](super::compare) has two drivers run many in turns. Between two
//! bursts the connections stay open and nothing is asked.
//!
//! Invariants: *never stuck*, no reply for ten seconds ends a burst with an error; *nothing measured but the loop*,
//! connections are opened before the first burst.

use super::arrivals::{Clock, Queue};
use super::options::Options;
use super::plan::{Plan, latencies};
use super::report::{Report, ServerUsage};
use crate::tool::exchange::{Counts, Exchange, Shared};
use crate::tool::process::Sample;
use crate::tool::random::{Random, mix};
use crate::tool::wire::Connection;
use crate::tool::{Error, Target};
use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, LocalSet};

/// How long the server may give no reply at all before a burst is given up.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// How long to wait before a server that could not be connected to is tried once more.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// How often somebody is told how far a burst is.
const TOLD_EVERY: Duration = Duration::from_millis(100);

/// What came of one thread's part of a burst.
#[derive(Debug)]
struct Outcome {
    counts: Counts,
    latency_ns: Histogram<u64>,
    not_sent: u64,
}

impl Outcome {
    fn new() -> Outcome {
        Outcome {
            counts: Counts::default(),
            latency_ns: latencies(),
            not_sent: 0,
        }
    }

    fn add(&mut self, other: Outcome) {
        self.counts += other.counts;
        self.not_sent += other.not_sent;
        // All have the same bounds.
        let _ = self.latency_ns.add(other.latency_ns);
    }
}

/// One thread's part of a burst.
struct Order {
    plan: Arc<Plan>,
    /// One for each connection that asks, in an open loop.
    queues: Vec<Queue>,
    done: Sender<Result<Outcome, Error>>,
}

/// The threads, which end when it is dropped.
pub struct Driver {
    options: Options,
    shared: Arc<Shared>,
    server: Option<u32>,
    threads: Vec<Sender<Order>>,
}

impl Driver {
    /// Starts the threads and opens the connections. The server's process is looked at if it is known.
    ///
    /// # Errors
    /// Where a thread or a connection cannot be had.
    pub fn start(
        options: &Options,
        shared: &Arc<Shared>,
        server: Option<u32>,
    ) -> Result<Driver, Error> {
        let (ready, opened) = channel();
        let threads = (0..options.threads).map(|number| {
            let (orders, received) = channel();
            let (options, shared, ready) = (options.clone(), Arc::clone(shared), ready.clone());
            let work = move || work(&options, number, &shared, &received, &ready);
            let thread = std::thread::Builder::new().name(format!("load-{number}"));
            let started = thread.spawn(work);
            started.map_err(|why| Error::System("start a thread", why))?;
            Ok(orders)
        });
        let threads = threads.collect::<Result<Vec<_>, Error>>()?;
        drop(ready);
        for _ in &threads {
            opened.recv().unwrap_or_else(|_| Err(gone()))?;
        }
        Ok(Driver {
            options: options.clone(),
            shared: Arc::clone(shared),
            server,
            threads,
        })
    }

    /// Runs one burst, and tells every tenth of a second how many requests were answered so far, and since when.
    ///
    /// # Errors
    /// If a connection breaks, or the server falls silent or talks nonsense. Error replies and wrong values are no
    /// errors here: they are counted.
    pub fn burst(
        &self,
        duration: Option<Duration>,
        mut tell: impl FnMut(u64, Duration),
    ) -> Result<Report, Error> {
        let sample = || self.server.map(Sample::of).transpose();
        let before = sample()?;
        let answered_before = self.shared.answered.load(Relaxed);
        let plan = Arc::new(Plan::new(&self.options, duration)?);
        let (done, outcomes) = channel();
        let clock = self.order(&plan, done)?;
        let mut sum = Outcome::new();
        let mut outcome = Ok(());
        let mut running = self.threads.len();
        while running > 0 {
            match outcomes.recv_timeout(TOLD_EVERY) {
                Ok(Ok(part)) => sum.add(part),
                Ok(Err(error)) => outcome = outcome.and(Err(error)),
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) => {
                    let answered = self.shared.answered.load(Relaxed) - answered_before;
                    tell(answered, plan.begun.elapsed());
                    continue;
                }
            }
            running -= 1;
        }
        let elapsed = plan.begun.elapsed();
        if let Some(clock) = clock {
            clock.join();
        }
        outcome?;
        let samples = self.server.zip(before).zip(sample()?);
        Ok(Report {
            protocol: self.shared.protocol,
            rate: self.options.rate,
            not_sent: sum.not_sent,
            counts: sum.counts,
            elapsed,
            latency_ns: sum.latency_ns,
            server: samples.map(|((pid, before), after)| ServerUsage {
                pid,
                usage: after.since(&before),
                rss_bytes: after.rss_bytes,
            }),
        })
    }

    /// Has every thread begin.
    fn order(
        &self,
        plan: &Arc<Plan>,
        done: Sender<Result<Outcome, Error>>,
    ) -> Result<Option<Clock>, Error> {
        let (clock, queues) = match plan.rate {
            None => (None, Vec::new()),
            Some(rate) => {
                let active = self.options.active_connections();
                let (clock, queues) = Clock::start(Arc::clone(plan), rate, active)?;
                (Some(clock), queues)
            }
        };
        // Connection after connection to one thread after another, as they were opened.
        let mut shares: Vec<Vec<Queue>> = self.threads.iter().map(|_| Vec::new()).collect();
        for (number, queue) in queues.into_iter().enumerate() {
            shares[number % self.threads.len()].push(queue);
        }
        for (orders, queues) in self.threads.iter().zip(shares) {
            let order = Order {
                plan: Arc::clone(plan),
                queues,
                done: done.clone(),
            };
            orders.send(order).map_err(|_| gone())?;
        }
        Ok(clock)
    }
}

/// A thread has panicked, and said so.
fn gone() -> Error {
    Error::System("drive the server", io::Error::other("a thread has ended"))
}

/// One connection that asks, and what it asks next.
struct Client {
    exchange: Exchange,
    random: Random,
}

/// One thread's life: its connections, and burst after burst over them.
fn work(
    options: &Options,
    number: usize,
    shared: &Arc<Shared>,
    orders: &Receiver<Order>,
    ready: &Sender<Result<(), Error>>,
) {
    let started = runtime().and_then(|runtime| {
        let opened = runtime.block_on(open(options, number))?;
        Ok((runtime, opened))
    });
    let (runtime, (mut clients, _silent)) = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    while let Ok(Order { plan, queues, done }) = orders.recv() {
        let part = drive_all(&mut clients, shared, &options.target, plan, queues);
        let outcome = runtime.block_on(unless_stalled(&options.target, shared, part));
        // Who ordered it may be gone.
        let _ = done.send(outcome);
    }
}

/// Opens this thread's share of the connections: those that ask, and those that are silent.
async fn open(options: &Options, number: usize) -> Result<(Vec<Client>, Vec<Connection>), Error> {
    let (mut clients, mut silent) = (Vec::new(), Vec::new());
    for place in (number..options.connections).step_by(options.threads) {
        let connection = Connection::open(&options.target).await?;
        if place < options.active_connections() {
            clients.push(Client {
                exchange: Exchange::new(connection),
                random: Random::new(mix(options.seed ^ mix(!(place as u64)))),
            });
        } else {
            silent.push(connection);
        }
    }
    Ok((clients, silent))
}

/// Lets all connections of a thread ask at once, and adds up what came of it.
async fn drive_all(
    clients: &mut Vec<Client>,
    shared: &Arc<Shared>,
    target: &Target,
    plan: Arc<Plan>,
    queues: Vec<Queue>,
) -> Result<Outcome, Error> {
    let sum = Rc::new(RefCell::new(Outcome::new()));
    let mut queues = queues.into_iter();
    let mut tasks = JoinSet::new();
    let local = LocalSet::new();
    for client in clients.drain(..) {
        let (shared, plan, sum) = (Arc::clone(shared), Arc::clone(&plan), Rc::clone(&sum));
        let (queue, target) = (queues.next(), target.clone());
        let task = async move {
            let mut client = client;
            match queue {
                None if plan.rate.is_some() => {}
                None => client.ask_on(&shared, &target, &plan, &sum).await?,
                Some(queue) => client.ask_when_due(&shared, &plan, &sum, queue).await?,
            }
            Ok::<_, Error>(client)
        };
        tasks.spawn_local_on(task, &local);
    }
    local
        .run_until(async {
            while let Some(ended) = tasks.join_next().await {
                let ended =
                    ended.map_err(|why| Error::System("drive a connection", io::Error::other(why)));
                let mut client = ended??;
                sum.borrow_mut().counts += std::mem::take(&mut client.exchange.counts);
                clients.push(client);
            }
            Ok::<_, Error>(())
        })
        .await?;
    Ok(sum.replace(Outcome::new()))
}

impl Client {
    /// A closed loop: sends a batch, waits for all its replies, sends the next.
    async fn ask_on(
        &mut self,
        shared: &Shared,
        target: &Target,
        plan: &Plan,
        sum: &RefCell<Outcome>,
    ) -> Result<(), Error> {
        let mut now = Instant::now();
        loop {
            let batch = plan.take(now);
            if batch == 0 {
                return Ok(());
            }
            plan.push(batch, &mut self.exchange, shared, &mut self.random);
            let sent = Instant::now();
            while let Err(error) = self.exchange.run(shared).await {
                if !plan.reconnect || !matches!(error, Error::Lost(..)) {
                    return Err(error);
                }
                self.exchange.go_on_over(open_again(target).await);
            }
            now = Instant::now();
            note(sum, now.duration_since(sent));
        }
    }

    /// Sends a batch for each arrival, and counts its time from when it was due.
    async fn ask_when_due(
        &mut self,
        shared: &Shared,
        plan: &Plan,
        sum: &RefCell<Outcome>,
        mut queue: Queue,
    ) -> Result<(), Error> {
        while let Some(due) = queue.recv().await {
            if plan.is_over(Instant::now()) {
                // It would have taken longer still.
                note(sum, due.elapsed());
                sum.borrow_mut().not_sent += 1;
                continue;
            }
            let batch = plan.take(due);
            if batch == 0 {
                break;
            }
            plan.push(batch, &mut self.exchange, shared, &mut self.random);
            self.exchange.run(shared).await?;
            note(sum, due.elapsed());
        }
        Ok(())
    }
}

fn note(sum: &RefCell<Outcome>, took: Duration) {
    let nanos = took.as_nanos() as u64;
    sum.borrow_mut().latency_ns.saturating_record(nanos);
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

/// A runtime for this thread alone.
pub fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let built = builder.enable_all().build();
    built.map_err(|why| Error::System("start a runtime", why))
}

/// Gives work up when no replies come any more.
pub async fn unless_stalled<T>(
    target: &Target,
    shared: &Shared,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        outcome = work => outcome,
        () = stalled(shared) => {
            let why = format!("no reply for {} s", STALLED_AFTER.as_secs());
            Err(Error::Lost(target.clone(), io::Error::new(io::ErrorKind::TimedOut, why)))
        }
    }
}

async fn stalled(shared: &Shared) {
    loop {
        let answered = shared.answered.load(Relaxed);
        tokio::time::sleep(STALLED_AFTER).await;
        if shared.answered.load(Relaxed) == answered {
            return;
        }
    }
}
