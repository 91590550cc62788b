//! A conversation with the server's session, without a socket: bytes in, replies out.
//!
//! Does what `server::connection` does between a `recv` and a `send`. Part of the tests and of the
//! fuzzers; nothing here reads a clock.

#![allow(dead_code)] // Every program that includes this file uses its own part of it.

use std::task::{Context, Poll, Waker};

use tokencached::clock::Now;
use tokencached::engine::{Engine, Found};
use tokencached::server::connection::ParkedConnection;
use tokencached::server::handover::state::{self, Client, Writer};
use tokencached::server::output::Output;
use tokencached::server::session::{Rules, Session, Step, Turn};
use tokencached::stats::{Counters, Totals};

/// `-R`, small, so that long inputs meet it.
const COMMANDS_IN_A_ROW: u32 = 20;

/// One client's connection to an engine.
pub struct Conversation<'e> {
    engine: &'e Engine,
    rules: Rules<'e>,
    session: Session<'e>,
    counters: &'e Counters,
    output: Output<Found<'e>>,
    /// What was fed and not executed.
    input: Vec<u8>,
    /// What has been answered; for the caller to take from.
    pub replies: Vec<u8>,
    /// The server has ended it.
    pub closed: bool,
}

impl<'e> Conversation<'e> {
    /// A new connection on which everything may be spoken.
    pub fn new(engine: &'e Engine, counters: &'e Counters) -> Conversation<'e> {
        Conversation::under(Rules::default(), engine, counters)
    }

    /// A new connection under these rules.
    pub fn under(rules: Rules<'e>, engine: &'e Engine, counters: &'e Counters) -> Conversation<'e> {
        Conversation {
            engine,
            rules,
            session: Session::new(engine, rules),
            counters,
            output: Output::with_buffer(Vec::new()),
            input: Vec::new(),
            replies: Vec::new(),
            closed: false,
        }
    }

    /// One that goes on where another was parked, if its parts fit together.
    pub fn resume(
        rules: Rules<'e>,
        engine: &'e Engine,
        counters: &'e Counters,
        mut parked: ParkedConnection,
        now: Now,
    ) -> Option<Conversation<'e>> {
        let session = Session::resume(engine, rules, parked.session, &mut parked.input)?;
        let mut conversation = Conversation {
            session,
            input: parked.input,
            ..Conversation::under(rules, engine, counters)
        };
        conversation.go_on(now);
        Some(conversation)
    }

    /// Has the server read these bytes at once, and execute what is complete.
    pub fn feed(&mut self, bytes: &[u8], now: Now) {
        if self.closed || bytes.is_empty() {
            return;
        }
        self.input.extend_from_slice(bytes);
        self.go_on(now);
    }

    /// Parks it, writes it down, and goes on with what is read of that, as another process does.
    pub fn change_hands(&mut self, now: Now) {
        if self.closed {
            return;
        }
        let next = Session::new(self.engine, self.rules);
        let session = std::mem::replace(&mut self.session, next);
        let mut input = std::mem::take(&mut self.input);
        let parked = ParkedConnection {
            session: session.park(&mut input),
            input,
            unsent: Vec::new(),
            closing: false,
            paused: false,
        };
        let counters = self.counters;
        let resumed =
            Conversation::resume(self.rules, self.engine, counters, handed_on(&parked), now);
        let mut next = resumed.expect("what was parked fits together");
        self.replies.append(&mut next.replies);
        next.replies = std::mem::take(&mut self.replies);
        *self = next;
    }

    fn go_on(&mut self, now: Now) {
        let mut consumed = 0;
        let mut work_left = Turn::work_for(COMMANDS_IN_A_ROW);
        loop {
            let mut turn = Turn {
                output: &mut self.output,
                counters: self.counters,
                now,
                work_left: &mut work_left,
            };
            let (done, step) = self.session.advance(&self.input[consumed..], &mut turn);
            consumed += done;
            self.send();
            match step {
                // Nobody has to wait here.
                Step::Send | Step::Pause(_) => {}
                Step::Yield => work_left = Turn::work_for(COMMANDS_IN_A_ROW),
                Step::Read { .. } => break,
                Step::Close => {
                    self.closed = true;
                    break;
                }
            }
        }
        self.input.drain(..consumed);
    }

    /// Whether nothing is begun.
    pub fn is_idle(&self) -> bool {
        self.input.is_empty() && self.session.is_idle()
    }

    fn send(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let sent = self
            .output
            .poll_send(&mut self.replies, &mut context, |_| ());
        assert!(
            matches!(sent, Poll::Ready(Ok(()))),
            "a vector takes everything"
        );
    }
}

fn handed_on(parked: &ParkedConnection) -> ParkedConnection {
    let client = Client {
        listener: String::new(),
        peer: None,
        uid: None,
        read_only: false,
        last_command: 0,
    };
    let mut writer = Writer::new().expect("there is memory for a file");
    writer.add(client, parked).expect("it is written");
    let file = writer.finish(Totals::default()).expect("it is written");
    let state = state::read(file).expect("what was written can be read");
    state.connection(0).expect("it is there")
}
