//! Connections of the HTTP port and of the admin socket: as many as are allowed.
//!
//! On the port, which is anybody's, the oldest makes room, so that nobody can hold it for others. On the socket, whose
//! peers are trusted and may stay for hours, the newest has to wait.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::task::AbortHandle;

const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// What the head of a request may take, and what waits of an answer beside its body.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long accepting pauses when it fails.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// The connections that are open, the oldest first.
#[derive(Default)]
pub(super) struct Connections {
    open: VecDeque<AbortHandle>,
}

impl Connections {
    /// Whether there are fewer than so many.
    pub(super) fn has_room(&mut self, connections_max: usize) -> bool {
        self.open.retain(|connection| !connection.is_finished());
        self.open.len() < connections_max
    }

    /// Ends the oldest.
    pub(super) fn end_oldest(&mut self) {
        if let Some(oldest) = self.open.pop_front() {
            oldest.abort();
        }
    }

    /// Serves one more.
    pub(super) fn begin(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.open.push_back(tokio::spawn(connection).abort_handle());
    }
}

/// HTTP/1 with the deadline and the length of a request's head.
pub(super) fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX);
    http
}
