//! The signals that the server hears.
//!
//! `mod.rs` waits for them in the main thread: those that end the server, SIGHUP ([`reload`](super::reload)) and
//! SIGUSR2 ([`exec`](super::handover::exec)). Until it does, from the first step of `main` on, they wait, and so
//! they do again from a restart in place on until the successor hears them.
//!
//! Invariants:
//! - none is lost, and none ends a process that is starting: what it takes over would count it as one that
//!   the heap has ended;
//! - a signal is delivered to a thread that hears it: others than the main one keep theirs waiting.

use std::io;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long it takes at most until one that was delivered is known.
const KNOWN_WITHIN: Duration = Duration::from_millis(2);

/// All of them.
pub struct Signals {
    /// Those that end the server.
    pub stop: StopSignals,
    /// Files are to be read again.
    pub hangup: Signal,
    /// The program is to be executed anew.
    pub replace: Signal,
}

impl Signals {
    /// Hears them from now on, those too that have waited. Within a runtime, and before there are other
    /// threads.
    ///
    /// # Errors
    /// Those of sigaction and pthread_sigmask.
    pub fn new() -> io::Result<Signals> {
        let signals = Signals {
            stop: StopSignals::new()?,
            hangup: signal(SignalKind::hangup())?,
            replace: signal(SignalKind::user_defined2())?,
        };
        heard().thread_unblock()?;
        Ok(signals)
    }
}

/// Has signals wait for this thread and those that it starts, across an exec too.
///
/// # Errors
/// Those of pthread_sigmask.
pub fn hold() -> io::Result<()> {
    Ok(heard().thread_block()?)
}

fn heard() -> SigSet {
    [
        Number::SIGTERM,
        Number::SIGINT,
        Number::SIGHUP,
        Number::SIGUSR1,
        Number::SIGUSR2,
    ]
    .into_iter()
    .collect()
}

/// The signals that end the server.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// memcached's signal for a graceful end.
    user: Signal,
}

impl StopSignals {
    fn new() -> io::Result<StopSignals> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Returns when the server is to end.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.user.recv() => {}
        }
    }

    /// Whether one has come that nobody has waited for.
    pub async fn has_come(&mut self) -> bool {
        // Delivered is not known: that takes a turn of the runtime.
        tokio::time::timeout(KNOWN_WITHIN, self.wait())
            .await
            .is_ok()
    }
}
