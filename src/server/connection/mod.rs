//! One client connection: its socket, its session, and what is kept between two reads.
//!
//! A turn of a connection is one poll: read what has arrived into the thread's buffer, let the
//! [`Session`] execute it, send the replies. In the common case all of that happens at once, one
//! `recv` and one `send`, and the connection ends the turn owning no buffer. Only what is in the
//! middle of something (a request half received, replies that the peer has not taken) is copied into
//! buffers of the connection's own, within the [`Budget`](super::budget::Budget). Between two turns a
//! connection can be parked for another process to go on with (`parked`); what the socket holds stays there.
//!
//! Invariants:
//! - the server never closes an idle connection, unless `-o idle_timeout` says so: keystonemiddleware
//!   takes a closed connection for a dead server and does without its cache for 300 s
//!   (`memcache_pool_dead_retry`);
//! - after the work of `-R` commands in a row others have their turn;
//! - a value in the store is referred to no longer than one send, or, where the budget has no room
//!   for it, within the bound for held values;
//! - a connection is parked between two turns, never within one.

mod parked;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::budget::{SMALL_BYTES, Share};
use super::output::{Output, UNSENT_BYTES_MAX};
use super::session::{Pause, Session, Step, Turn};
use super::worker::Worker;
use crate::clock::{Clock, Now};
use crate::engine::Found;
use crate::protocol::codec::Protocol;
use crate::stats::connections::{self, Order, State};
use crate::stats::{Counters, Histograms};
pub use parked::ParkedConnection;

/// What one `recv` takes at most.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// The buffers that all connections of a worker use during their turns.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        input: vec![0; READ_BYTES],
        output: Vec::with_capacity(READ_BYTES),
        turns: 0,
    });
}

struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Turns of all of them, of which some are timed.
    turns: u32,
}

/// How a turn ended.
enum Ended {
    /// Others go first; there is more to do.
    Yielded,
    /// The conversation is over.
    Closed,
    /// It is to be parked.
    Parked,
}

/// Serves a connection until it ends, also where it is told to be parked.
///
/// # Errors
/// Those of the socket, and of TLS over it; they end the connection.
pub async fn serve<S>(
    stream: S,
    protocol: Protocol,
    worker: &Worker,
    info: &connections::Connection,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection::new(stream, protocol, worker, info);
    connection.serve().await.map(drop)
}

/// Sleeps for so many seconds, and for one more, since seconds have begun when they are counted.
fn sleep_seconds(seconds: u32) -> Pin<Box<Sleep>> {
    let seconds = u64::from(seconds) + 1;
    Box::pin(tokio::time::sleep(Duration::from_secs(seconds)))
}

/// A connection that is served. Its task has to be polled by one waker, from its beginning to its end.
pub struct Connection<'c, S> {
    stream: S,
    worker: &'c Worker,
    info: &'c connections::Connection,
    /// Its worker's, for its service.
    counters: &'c Counters,
    session: Session<'c>,
    /// Input that has been read and not executed.
    input: Vec<u8>,
    /// Bytes that it has to reach before it is looked at again.
    wanted: usize,
    /// Whether the session can go on with it without more.
    input_ready: bool,
    /// Replies that the socket has not taken.
    unsent: Option<Box<Output<Found<'c>>>>,
    /// Replies that the next turn adds to.
    carried: Option<Box<Output<Found<'c>>>>,
    /// Bytes that TLS has taken and the socket has not.
    unflushed: bool,
    /// The session is over once they are sent.
    closing: bool,
    /// Nothing is sent before this is over.
    pause: Option<Pin<Box<Sleep>>>,
    /// When to look whether it has been silent too long.
    idle: Option<Pin<Box<Sleep>>>,
    requests: Share,
    replies: Share,
    held: Share,
    busy: bool,
    /// It does as it is told when it is to be parked.
    parks: bool,
    /// Work before others have their turn; renewed whenever the connection has to wait.
    work_left: u32,
}

impl<'c, S> Connection<'c, S> {
    /// One that has not begun. It cannot be parked, as one over TLS cannot.
    pub fn new(
        stream: S,
        protocol: Protocol,
        worker: &'c Worker,
        info: &'c connections::Connection,
    ) -> Connection<'c, S> {
        Connection {
            stream,
            worker,
            info,
            counters: worker.counters.of(info.service),
            session: Session::new(&worker.engine, worker.rules(protocol)),
            input: Vec::new(),
            wanted: 0,
            input_ready: false,
            unsent: None,
            carried: None,
            unflushed: false,
            closing: false,
            pause: None,
            idle: worker.idle_timeout_seconds.map(sleep_seconds),
            requests: Share::new(&worker.requests),
            replies: Share::new(&worker.replies),
            held: Share::new(&worker.held),
            busy: false,
            parks: false,
            work_left: Turn::work_for(worker.requests_per_event),
        }
    }

    fn out_of_memory(&self) -> io::Error {
        self.counters.closed_for_memory.add(1);
        io::ErrorKind::OutOfMemory.into()
    }

    /// Tells the worker whether something is begun that a stopping server should finish.
    fn note_busy(&mut self) {
        let waiting = self.unsent.is_some() || self.carried.is_some() || self.unflushed;
        let begun = waiting || !self.input.is_empty() || !self.session.is_idle();
        // Who has shown a wrong password keeps no stopping server waiting.
        let busy = begun && self.pause.is_none();
        if busy != self.busy {
            self.busy = busy;
            let change = if busy { 1 } else { usize::MAX };
            self.worker.busy.fetch_add(change, Relaxed);
        }
        self.info.set_state(match () {
            () if waiting => State::Mwrite,
            () if self.session.is_skipping() => State::Swallow,
            () if self.wanted > 0 || self.session.is_taking_in() => State::Nread,
            () => State::Read,
        });
    }
}

impl<S> Drop for Connection<'_, S> {
    fn drop(&mut self) {
        if self.busy {
            self.worker.busy.fetch_sub(1, Relaxed);
        }
    }
}

impl<'c, S: AsyncRead + AsyncWrite + Unpin> Connection<'c, S> {
    /// Serves it until it ends, or is told by its entry in the register to be parked, where it can be;
    /// gives what it takes to go on then. Its stream is left as it is.
    ///
    /// # Errors
    /// Those of the socket, and of TLS over it; they end the connection.
    pub async fn serve(&mut self) -> io::Result<Option<ParkedConnection>> {
        std::future::poll_fn(|context| {
            self.info.is_woken_by(context.waker());
            Poll::Ready(())
        })
        .await;
        loop {
            match std::future::poll_fn(|context| self.poll(context)).await {
                Ok(Ended::Yielded) => {
                    self.counters.conn_yields.add(1);
                    tokio::task::yield_now().await;
                }
                Ok(Ended::Closed) => return Ok(None),
                Ok(Ended::Parked) => return Ok(Some(self.park())),
                Err(error) => return Err(error),
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Ended>> {
        if self.info.is_told()
            && let Some(ended) = self.obey()
        {
            return Poll::Ready(Ok(ended));
        }
        match self.poll_turns(context) {
            Poll::Pending if self.idle.is_some() => self.poll_idle(context).map(Ok),
            polled => polled,
        }
    }

    /// Does as it has been told between two turns.
    #[cold]
    fn obey(&self) -> Option<Ended> {
        match self.info.order() {
            Order::Close => Some(Ended::Closed),
            Order::Park if self.parks => Some(Ended::Parked),
            Order::Serve | Order::Park => None,
        }
    }

    /// Ready once it has been silent too long (memcached's `conn_close_idle`).
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        while let (Some(idle), Some(most)) = (&mut self.idle, self.worker.idle_timeout_seconds) {
            ready!(idle.as_mut().poll(context));
            let last_command = self.info.last_command.load(Relaxed);
            let silent = Clock::System.now().seconds.saturating_sub(last_command);
            if silent > most && !self.busy {
                self.counters.idle_kicks.add(1);
                return Poll::Ready(Ended::Closed);
            }
            self.idle = Some(sleep_seconds(most.saturating_sub(silent)));
        }
        Poll::Pending
    }

    fn poll_turns(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Ended>> {
        loop {
            ready!(self.poll_pause(context));
            ready!(self.poll_send_rest(context))?;
            if self.closing {
                return Poll::Ready(Ok(Ended::Closed));
            }
            let ended = BUFFERS.with_borrow_mut(|buffers| self.poll_turn(buffers, context));
            self.note_busy();
            if let Some(ended) = ready!(ended)? {
                return Poll::Ready(Ok(ended));
            }
        }
    }

    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(())
    }

    /// Sends what an earlier turn has left, to the last byte: TLS takes more than the socket does, and
    /// nobody would send the rest while the peer waits for it.
    fn poll_send_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(unsent) = &mut self.unsent {
            let count = |bytes| self.counters.bytes_written.add(bytes as u64);
            ready!(unsent.poll_send(&mut self.stream, context, count))?;
            self.unsent = None;
            self.held.resize(0);
            self.replies.resize(0);
            self.note_busy();
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(context)?;
        if flushed.is_pending() != self.unflushed {
            self.unflushed = flushed.is_pending();
            self.note_busy();
        }
        flushed.map(Ok)
    }

    /// Reads, unless there is input to go on with, and executes it.
    fn poll_turn(
        &mut self,
        buffers: &mut Buffers,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Ended>>> {
        let mut read = 0;
        if !self.input_ready {
            if buffers.input.is_empty() {
                // Lost to a panic in the turn before.
                buffers.input = vec![0; READ_BYTES];
            }
            let room = self.read_bytes_max();
            let polled = self.poll_read(&mut buffers.input[..room], context);
            if polled.is_pending() {
                self.work_left = Turn::work_for(self.worker.requests_per_event);
            }
            read = ready!(polled)?;
            if read == 0 {
                return Poll::Ready(Ok(Some(Ended::Closed)));
            }
        }
        if !self.input.is_empty() && self.input.len() + read < self.wanted {
            self.input.extend_from_slice(&buffers.input[..read]);
            return Poll::Ready(Ok(None));
        }
        let now = Clock::System.now();
        self.info.last_command.store(now.seconds, Relaxed);
        self.info.set_state(State::ParseCmd);
        let read_only = self.info.read_only.load(Relaxed);
        self.session.set_read_only(read_only);
        let mut output = match self.carried.take() {
            Some(carried) => *carried,
            None => Output::with_buffer(std::mem::take(&mut buffers.output)),
        };
        output.full_at(self.unsent_bytes_max());
        let ended = if self.input.is_empty() {
            let shared = std::mem::take(&mut buffers.input);
            let ended = self.execute(None, &shared[..read], &mut output, now, buffers, context);
            buffers.input = shared;
            ended
        } else {
            self.input.extend_from_slice(&buffers.input[..read]);
            let own = std::mem::take(&mut self.input);
            self.execute(Some(own), &[], &mut output, now, buffers, context)
        };
        buffers.turns = buffers.turns.wrapping_add(1);
        if buffers.turns.is_multiple_of(Histograms::SERVES_A_SAMPLE) {
            self.note_time(now);
        }
        ended
    }

    /// Counts the time since the requests of a turn were read.
    #[cold]
    fn note_time(&self, since: Now) {
        let nanos = Clock::System.now().nanos.saturating_sub(since.nanos);
        let histograms = &self.worker.engine.stats().histograms;
        histograms.serve_nanos.count(nanos);
    }

    /// How much a turn reads: what is left of it has to be kept, so little while there is no room
    /// for much.
    fn read_bytes_max(&self) -> usize {
        if self.worker.requests.has_room(READ_BYTES) {
            READ_BYTES
        } else {
            SMALL_BYTES / 2
        }
    }

    /// How many bytes of replies may wait to be sent, likewise.
    fn unsent_bytes_max(&self) -> usize {
        if self.worker.replies.has_room(UNSENT_BYTES_MAX) {
            UNSENT_BYTES_MAX
        } else {
            SMALL_BYTES / 2
        }
    }

    fn poll_read(&mut self, into: &mut [u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        let read = buffer.filled().len();
        self.counters.bytes_read.add(read as u64);
        Poll::Ready(Ok(read))
    }

    /// Executes the input, the connection's own or else the shared one, as far as it goes, sending in
    /// between where the output is full, and keeps what is left of both.
    fn execute(
        &mut self,
        own: Option<Vec<u8>>,
        shared: &[u8],
        output: &mut Output<Found<'c>>,
        now: Now,
        buffers: &mut Buffers,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Ended>>> {
        let input = own.as_deref().unwrap_or(shared);
        let mut work_left = self.work_left;
        let mut consumed = 0;
        let (step, sent) = loop {
            let mut turn = Turn {
                output,
                counters: self.counters,
                now,
                work_left: &mut work_left,
            };
            let (done, mut step) = self.session.advance(&input[consumed..], &mut turn);
            consumed += done;
            if let Step::Read { wanted } = step
                && !self.requests.resize(wanted.max(input.len() - consumed))
            {
                let (done, refused) = self.refuse_for_memory(&input[consumed..], &mut turn);
                consumed += done;
                step = refused;
            }
            if step == Step::Yield && self.has_room_for(output, input.len() - consumed) {
                break (step, false);
            }
            if let Step::Pause(Pause { pause, wrong }) = step {
                self.pause = Some(Box::pin(tokio::time::sleep(pause)));
                if wrong {
                    let complaints = &self.worker.complaints;
                    complaints.of_password(&self.info.peer, now.seconds);
                }
                break (step, false);
            }
            let count = |bytes| self.counters.bytes_written.add(bytes as u64);
            let sent = output
                .poll_send(&mut self.stream, context, count)?
                .is_ready();
            match step {
                Step::Send if sent => {}
                // What cannot be kept is done at once.
                Step::Yield if sent && !self.requests.resize(input.len() - consumed) => {
                    work_left = Turn::work_for(self.worker.requests_per_event);
                }
                _ => break (step, sent),
            }
        };
        self.closing = step == Step::Close;
        self.input_ready = matches!(step, Step::Send | Step::Yield | Step::Pause(_));
        self.keep_input(own, shared, consumed, step)?;
        if step == Step::Yield && !sent {
            self.carry(output, buffers)?;
        } else {
            self.keep_output(output, sent, buffers)?;
        }
        // Enough for one turn, in however many reads it came.
        let yields = work_left == 0 && !self.closing;
        self.work_left = if yields {
            Turn::work_for(self.worker.requests_per_event)
        } else {
            work_left
        };
        Poll::Ready(Ok(yields.then_some(Ended::Yielded)))
    }

    fn refuse_for_memory(&mut self, input: &[u8], turn: &mut Turn<'_, 'c>) -> (usize, Step) {
        let (done, step) = self.session.refuse_for_memory(input, turn);
        let closed = u64::from(step == Step::Close);
        self.counters.closed_for_memory.add(closed);
        (done, step)
    }

    /// Whether replies and input may wait for the next turn, so that a batch goes out in one send.
    fn has_room_for(&self, output: &Output<Found<'c>>, input_bytes: usize) -> bool {
        self.worker
            .replies
            .has_room(output.copied_bytes() + UNSENT_BYTES_MAX)
            && self.worker.requests.has_room(input_bytes + READ_BYTES)
    }

    /// Keeps input for the next turn, with room for what it is known to want. Bytes that are in a
    /// buffer of the connection's own stay there, so that one which grows slowly is not copied anew
    /// with each read.
    fn keep_input(
        &mut self,
        own: Option<Vec<u8>>,
        shared: &[u8],
        consumed: usize,
        step: Step,
    ) -> io::Result<()> {
        self.wanted = 0;
        if own.is_none() && consumed == shared.len() {
            return Ok(());
        }
        let mut kept = own.unwrap_or_default();
        kept.drain(..consumed.min(kept.len()));
        let rest = shared.get(consumed..).unwrap_or_default();
        let wanted = match step {
            Step::Read { wanted } => wanted,
            _ => 0,
        };
        self.wanted = wanted;
        let bytes = wanted.max(kept.len() + rest.len());
        if kept.capacity() > 2 * bytes {
            kept.shrink_to(bytes);
        }
        if kept.is_empty() && rest.is_empty() {
            self.requests.resize(0);
            return Ok(());
        }
        if !self.requests.resize(bytes.max(kept.capacity())) {
            return Err(self.out_of_memory());
        }
        kept.reserve_exact(bytes - kept.len());
        kept.extend_from_slice(rest);
        self.input = kept;
        Ok(())
    }

    /// Keeps replies for the next turn, which adds to them.
    fn carry(&mut self, output: &mut Output<Found<'c>>, buffers: &mut Buffers) -> io::Result<()> {
        buffers.output = output.shrink();
        if !self.replies.resize(output.buffer_bytes()) {
            return Err(self.out_of_memory());
        }
        self.carried = Some(Box::new(output.take()));
        Ok(())
    }

    /// Keeps replies for when the socket takes them, in a buffer of their own size; a large value
    /// stays in the store only if the budget has no room for it.
    fn keep_output(
        &mut self,
        output: &mut Output<Found<'c>>,
        sent: bool,
        buffers: &mut Buffers,
    ) -> io::Result<()> {
        if sent || output.unsent() == 0 {
            self.replies.resize(0);
            buffers.output = output.take_buffer();
            return Ok(());
        }
        if self.replies.resize(output.unsent()) {
            self.unsent = Some(Box::new(output.copy_unsent()));
            buffers.output = output.take_buffer();
        } else if output.held_bytes() > 0
            && self.replies.resize(output.copied_bytes())
            && self.held.resize(output.held_bytes())
        {
            buffers.output = output.shrink();
            self.unsent = Some(Box::new(output.take()));
        } else {
            return Err(self.out_of_memory());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::Users;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    #[test]
    fn the_answer_to_a_wrong_password_comes_late_and_those_to_right_ones_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "alice:secret\n").unwrap();
        let worker = Worker::alone(Some(Users::load(file.path()).unwrap()));
        let info = connections::Connection::new(
            connections::Address::Named("".into()),
            None,
            State::Read,
            0,
        );
        let (server, mut client) = duplex(1 << 10);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        // Time goes on as soon as everybody waits.
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        let answers = async {
            let mut answer = [0; 64];
            let mut reads = Vec::new();
            for (said, most_millis) in [("wrong!", 499), ("wrong!", 999), ("secret", 1)] {
                let request = format!("set k 0 0 12\r\nalice {said}\r\n");
                client.write_all(request.as_bytes()).await.unwrap();
                let most = Duration::from_millis(most_millis);
                let came = timeout(most, client.read(&mut answer)).await.is_ok();
                reads.push(came);
                if !came {
                    let length = client.read(&mut answer).await.unwrap();
                    assert!(answer[..length].starts_with(b"CLIENT_ERROR auth"));
                }
            }
            drop(client);
            reads
        };
        let serving = serve(server, Protocol::Auto, &worker, &info);
        let (reads, _) = runtime.block_on(async { tokio::join!(answers, serving) });
        assert_eq!(reads, [false, false, true]);
    }
}
