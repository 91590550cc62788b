//! The background thread: what has to happen though no client asks for it.
//!
//! Once a second it frees what has expired or was flushed, and dictionaries that nothing needs. After ten
//! seconds it notes that the heap, which may be another process's, has not ended this one. One thread, one wake-up a second, off the
//! path of every request.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Engine;
use crate::clock::{Clock, Now};

const INTERVAL: Duration = Duration::from_secs(1);

/// After so many rounds the heap is taken for sound.
const PROVEN_AFTER: u32 = 10;

/// The running thread; ends when dropped.
pub struct Housekeeper {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// One round of housekeeping.
    pub fn housekeep(&self, now: Now) {
        self.store.housekeep(now.seconds);
        self.let_dictionaries_go(now);
        self.note_history(now);
    }

    fn note_history(&self, now: Now) {
        let cost_ms = self.options.validation_cost_ms;
        self.stats.note_history(&self.store, now.seconds, cost_ms);
    }
}

impl Housekeeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(engine: Arc<Engine>) -> std::io::Result<Housekeeper> {
        // What is served from now on is history.
        engine.note_history(Clock::System.now());
        let (stop, stopped) = sync_channel(0);
        let rounds = move || {
            let mut left = PROVEN_AFTER;
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                engine.housekeep(Clock::System.now());
                left = left.saturating_sub(1);
                if left == 0 {
                    engine.prove_heap();
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("housekeeping".to_owned())
            .spawn(rounds)?;
        Ok(Housekeeper {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported already.
            let _ = thread.join();
        }
    }
}
