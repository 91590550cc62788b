//! The signals that the server hears.
//!
//! `mod.rs` waits for them in the main thread: those that end the server, SIGHUP ([`reload`](super::reload)) and
//! SIGUSR2 ([`exec`]).

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::handover::exec;

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
    /// Hears them from now on, those too that have waited since the program was executed. Within a runtime,
    /// and before there are other threads.
    ///
    /// # Errors
    /// Those of sigaction and pthread_sigmask.
    pub fn new() -> io::Result<Signals> {
        let signals = Signals {
            stop: StopSignals::new()?,
            hangup: signal(SignalKind::hangup())?,
            replace: signal(SignalKind::user_defined2())?,
        };
        exec::release_signals()?;
        Ok(signals)
    }
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
}
