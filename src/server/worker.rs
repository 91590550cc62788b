//! Worker threads: each a current-thread runtime that serves its connections alone.
//!
//! The acceptor hands a new connection to the next worker in turn; from then on nothing of it crosses
//! to another thread. An idle worker sleeps in its epoll without any timer.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use super::auth::Users;
use super::budget::Budget;
use super::complaint::Complaints;
use super::session::Rules;
use crate::engine::Engine;
use crate::protocol::codec::Protocol;
use crate::stats::WorkerCounters;

/// How long a stopping server waits for requests that were begun.
pub const STOP_WITHIN: Duration = Duration::from_secs(9);

/// The same where connections are handed on, and wait meanwhile: for those of TLS, which cannot be.
pub const HAND_ON_WITHIN: Duration = Duration::from_millis(50);

/// How often a stopping worker looks whether its connections are done.
const STOP_CHECK: Duration = Duration::from_millis(5);

/// What all connections of one worker share.
#[derive(Debug)]
pub struct Worker {
    /// Where commands go.
    pub engine: Arc<Engine>,
    /// What this worker counts.
    pub counters: Arc<WorkerCounters>,
    /// What requests that are half received may take, of all workers together.
    pub requests: Arc<Budget>,
    /// What replies that their peers have not taken may take, of all workers together. A budget of
    /// their own, so that peers which do not read cannot take the room of others' requests.
    pub replies: Arc<Budget>,
    /// What unsent values may keep in the store, of all workers together.
    pub held: Arc<Budget>,
    /// Commands of one connection in a row (`-R`).
    pub requests_per_event: u32,
    /// Seconds after which a silent connection is closed.
    pub idle_timeout_seconds: Option<u32>,
    /// Who may speak; `None` for everybody.
    pub users: Option<Arc<Users>>,
    /// SASL is spoken (`-S`).
    pub sasl: bool,
    /// Failures are told to keystonemiddleware too (`binary_strict`).
    pub binary_strict: bool,
    /// Connections in the middle of something.
    pub busy: AtomicUsize,
    /// What clients' failures have been warned of, of all workers together.
    pub complaints: Arc<Complaints>,
}

impl Worker {
    /// How a conversation is held that may speak `protocol`.
    pub fn rules(&self, protocol: Protocol) -> Rules<'_> {
        Rules {
            protocol,
            binary_strict: self.binary_strict,
            users: self.users.as_deref(),
            sasl: self.sasl,
        }
    }
}

/// A running worker, as the listener sees it.
#[derive(Debug)]
pub struct WorkerThread {
    /// Its shared part.
    pub worker: Arc<Worker>,
    /// Where its tasks are spawned.
    pub runtime: Handle,
    thread: JoinHandle<()>,
}

impl WorkerThread {
    /// Starts the thread; it ends once `stopping` says so and what was begun is finished, or has had its time.
    ///
    /// # Errors
    /// Those of making a runtime or a thread.
    pub fn start(
        number: usize,
        worker: Worker,
        stopping: watch::Receiver<Option<Duration>>,
    ) -> std::io::Result<WorkerThread> {
        let worker = Arc::new(worker);
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let handle = runtime.handle().clone();
        let own = Arc::clone(&worker);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || runtime.block_on(until_done(&own, stopping)))?;
        Ok(WorkerThread {
            worker,
            runtime: handle,
            thread,
        })
    }

    /// Waits until the thread has ended.
    pub fn join(self) {
        // A panic in it has been reported already.
        let _ = self.thread.join();
    }
}

/// Waits until the server stops, and then until what was begun is finished, for as long as that may take.
async fn until_done(worker: &Worker, mut stopping: watch::Receiver<Option<Duration>>) {
    // An error means that the server is gone, which is as good as being told to stop.
    let said = stopping.wait_for(Option::is_some).await;
    let within = said.ok().and_then(|within| *within).unwrap_or(STOP_WITHIN);
    let finished = async {
        loop {
            // Before the first look too: what clients sent before the signal is read meanwhile.
            tokio::time::sleep(STOP_CHECK).await;
            if worker.busy.load(Relaxed) == 0 {
                return;
            }
        }
    };
    // Whoever has not finished by then is cut off with the idle ones, when the runtime is dropped.
    let _ = tokio::time::timeout(within, finished).await;
}

#[cfg(test)]
impl Worker {
    /// One with an engine of its own, for tests without a daemon.
    pub fn alone(users: Option<Users>) -> Worker {
        let process = crate::stats::memcached::Process {
            started: crate::clock::Clock::System.now(),
            connections_max: 1,
            threads: 1,
        };
        let store = crate::store::Store::new(&crate::store::Options::default()).unwrap();
        let engine = Engine::new(store, crate::engine::Options::default(), process);
        Worker {
            counters: engine.stats().register_worker(),
            engine: Arc::new(engine),
            requests: Budget::plain(1 << 20),
            replies: Budget::plain(1 << 20),
            held: Budget::plain(1 << 20),
            requests_per_event: 20,
            idle_timeout_seconds: None,
            sasl: users.is_some(),
            users: users.map(Arc::new),
            binary_strict: false,
            busy: AtomicUsize::new(0),
            complaints: Arc::default(),
        }
    }
}
