//! What a watcher is sent: lines about what is done to keys, for as long as it reads them.
//!
//! The body of an answer, which hyper asks for more whenever the peer has taken what there was. Twenty times a second it
//! takes what the engine has told (`stats::events`) and writes it down (`stats::watch_line`).
//!
//! Invariant: what waits for a slow watcher is bounded by the queue of its events; the rest is lost, and said to be.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::clock::Now;
use crate::engine::Engine;
use crate::stats::events::{Batch, Full, Watcher};
use crate::stats::services::{SERVICES, Service};
use crate::stats::watch_line::{Begun, Line};

/// How often it is looked what there is to tell.
const PERIOD: Duration = Duration::from_millis(50);

/// How long a watcher may take nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the watcher of this connection, if there is one, has come for more.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    fn made(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Returns when the watcher has taken nothing for too long.
    pub(super) async fn stalled(&self) {
        loop {
            let made = self.0.load(Relaxed);
            sleep(PATIENCE).await;
            if made > 0 && made == self.0.load(Relaxed) {
                return;
            }
        }
    }
}

/// The lines, without an end.
pub(super) struct Watch {
    engine: Arc<Engine>,
    watcher: Watcher,
    has_begun: bool,
    period: Interval,
    progress: Progress,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// As many watch as may.
    pub(super) fn begin(engine: Arc<Engine>, now: Now, progress: Progress) -> Result<Watch, Full> {
        let watcher = engine.stats().events.subscribe(now)?;
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        progress.made();
        Ok(Watch {
            engine,
            watcher,
            has_begun: false,
            period,
            progress,
        })
    }

    fn lines(&self, batch: &Batch) -> Vec<u8> {
        let mut labels: [Option<String>; SERVICES] = [const { None }; SERVICES];
        let mut lines = Vec::new();
        for event in &batch.events {
            let label = self.label(&mut labels, event.service);
            Line::Event(event.with_service(label)).append_to(&mut lines);
        }
        if batch.lost > 0 {
            Line::<&str>::Lost { count: batch.lost }.append_to(&mut lines);
        }
        lines
    }

    /// What a service is called; asked for once in each batch.
    fn label<'l>(&self, labels: &'l mut [Option<String>; SERVICES], service: Service) -> &'l str {
        let known = &mut labels[service.index()];
        known.get_or_insert_with(|| self.engine.stats().services.label(service))
    }
}

impl Body for Watch {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // It is asked only while there is room.
        self.progress.made();
        let lines = loop {
            if !self.has_begun {
                self.has_begun = true;
                let mut line = Vec::new();
                let begun = Begun::new(self.watcher.began());
                Line::<&str>::Begun(begun).append_to(&mut line);
                break line;
            }
            ready!(self.period.poll_tick(context));
            let batch = self.watcher.take();
            if batch != Batch::default() {
                break self.lines(&batch);
            }
        };
        Poll::Ready(Some(Ok(Frame::data(lines.into()))))
    }
}
