//! A connection between two turns, parked for another process to go on with.
//!
//! When its server hands over, `serve_or_park` ends with a [`ParkedConnection`]: the conversation, what
//! has been read and not executed, what has been answered and not sent. What the client has sent
//! and nobody has read stays in the socket, which goes to the successor by itself. There
//! `serve_or_park` begins with it.
//!
//! Invariants:
//! - no byte is lost and none comes twice;
//! - what is gone on with counts as what is kept does, so connections that were parked take no more memory
//!   than others may: one that finds no room is closed, and counted. A large value is gone
//!   on with in the first turn, which writes it where it belongs, and is not counted before.

use std::fmt;
use std::io;

use super::Connection;
use crate::engine::Found;
use crate::protocol::codec::Protocol;
use crate::server::auth;
use crate::server::output::Output;
use crate::server::session::{self, Rules, Session};

/// What it takes to go on with a connection, beside its socket. Its `Debug` shows lengths alone.
pub struct ParkedConnection {
    /// The conversation.
    pub session: session::Parked,
    /// What the conversation goes on with, before anything that the socket holds.
    pub input: Vec<u8>,
    /// What is to be sent before anything else.
    pub unsent: Vec<u8>,
    /// The connection is over once it is sent.
    pub closing: bool,
    /// It waits before it is sent, since somebody showed a wrong password.
    pub paused: bool,
}

impl ParkedConnection {
    /// Whether nothing is lost if its socket alone is gone on with, as a new connection would be.
    pub fn is_at_rest(&self) -> bool {
        let nothing_waits = self.input.is_empty() && self.unsent.is_empty();
        nothing_waits && !self.closing && !self.paused && self.session.is_as_new()
    }
}

impl fmt::Debug for ParkedConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ParkedConnection")
            .field("session", &self.session)
            .field("input_bytes", &self.input.len())
            .field("unsent_bytes", &self.unsent.len())
            .field("closing", &self.closing)
            .field("paused", &self.paused)
            .finish()
    }
}

impl<'c, S> Connection<'c, S> {
    /// Ends it. Copies values of the store that have not been sent.
    pub(super) fn park(&mut self) -> ParkedConnection {
        let unused = Session::new(&self.worker.engine, Rules::default());
        let session = std::mem::replace(&mut self.session, unused);
        let mut input = std::mem::take(&mut self.input);
        let session = session.park(&mut input);
        // Never both: a turn begins once all is sent that an earlier one has left.
        let output = self.unsent.take().or_else(|| self.carried.take());
        let copy = |output: Box<Output<Found<'_>>>| output.copy_unsent().into_buffer();
        ParkedConnection {
            session,
            input,
            unsent: output.map(copy).unwrap_or_default(),
            closing: self.closing,
            paused: self.pause.is_some(),
        }
    }

    /// Makes it, which has not begun, the one that was parked.
    ///
    /// # Errors
    /// `OutOfMemory` where the budget has no room for it, `InvalidData` where it does not fit together.
    pub(super) fn resume(
        &mut self,
        parked: ParkedConnection,
        protocol: Protocol,
    ) -> io::Result<()> {
        let ParkedConnection {
            session,
            mut input,
            unsent,
            closing,
            paused,
        } = parked;
        let rules = self.worker.rules(protocol);
        self.session = Session::resume(&self.worker.engine, rules, session, &mut input)
            .ok_or(io::ErrorKind::InvalidData)?;
        // What the first turn takes in at once is not kept.
        let is_kept = !unsent.is_empty() || paused;
        if !self.replies.resize(unsent.len()) || !self.requests.resize(input.capacity()) && is_kept
        {
            return Err(self.out_of_memory());
        }
        if !unsent.is_empty() {
            self.unsent = Some(Box::new(Output::with_unsent(unsent)));
        }
        self.input_ready = !input.is_empty();
        self.input = input;
        self.closing = closing;
        self.pause = paused.then(|| Box::pin(tokio::time::sleep(auth::LAST_DELAY)));
        self.note_busy();
        Ok(())
    }
}
