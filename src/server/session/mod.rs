//! One client's conversation without its socket: bytes in, replies out.
//!
//! `connection` gives it what it has read and sends what it says; tests and fuzzers do the same
//! without a socket. Between two calls a session remembers only what is in the middle of something:
//! a multiget's rest, bytes to skip, a large value that is still arriving (`incoming`). There it can be
//! parked, and resumed in another process (`parked`).
//!
//! Invariants:
//! - the same bytes in other pieces give the same replies in the same order;
//! - nothing is decoded while [`UNSENT_BYTES_MAX`](super::output::UNSENT_BYTES_MAX) bytes of replies
//!   wait, so a peer that does not read stops being served.

mod gate;
mod incoming;
mod lookup;
mod parked;
mod reader;
mod turn;

use std::time::Duration;

use crate::engine::{Engine, Found};
use crate::protocol::codec::{self, Codec, Protocol};
use crate::protocol::command::{
    Bad, Command, Decoded, Envelope, Failure, Form, Recovery, Request, Upload,
};
use crate::protocol::error::Error;
use crate::protocol::meta::KeyRoom;
use crate::protocol::reply::{Reply, Stored, Unreadable};
use crate::server::auth::Users;
use crate::store;
use gate::{admitted, after_refusal, unadmitted};
use incoming::Incoming;
pub use parked::Parked;
pub use turn::Turn;
use turn::{COMMAND_WORK, KEY_WORK};

/// What the connection has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send everything, then read. The buffer has to hold at least this many bytes to go on; 0 where
    /// that is not known.
    Read {
        /// Bytes, those at hand included.
        wanted: usize,
    },
    /// Send everything, then call again with the same input.
    Send,
    /// Let others have their turn, then call again with the same input.
    Yield,
    /// Wait this long, send everything, then call again with the same input.
    Pause(Pause),
    /// Send everything and close.
    Close,
}

/// Why and how long an answer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// How long.
    pub pause: Duration,
    /// The client showed a wrong user or password.
    pub wrong: bool,
}

/// How a listener's conversations are held.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'e> {
    /// What may be spoken.
    pub protocol: Protocol,
    /// Every key's failures are told by their status in the binary protocol, keystonemiddleware's too.
    pub binary_strict: bool,
    /// Who may speak; `None` for everybody.
    pub users: Option<&'e Users>,
    /// The binary protocol may be spoken by them, after SASL.
    pub sasl: bool,
}

/// A conversation in one of the protocols.
pub struct Session<'e> {
    engine: &'e Engine,
    rules: Rules<'e>,
    codec: Codec,
    /// The client has said who it is, or need not.
    admitted: bool,
    /// The client may only read.
    read_only: bool,
    /// SASL has begun, and waits for the client's next message.
    sasl_begun: bool,
    /// Wrong passwords so far.
    refusals: u32,
    /// Bytes still to come that nobody wants.
    skip: u64,
    incoming: Option<Box<Incoming<'e>>>,
}

impl<'e> Session<'e> {
    /// A conversation that has not begun.
    pub fn new(engine: &'e Engine, rules: Rules<'e>) -> Session<'e> {
        Session {
            engine,
            rules,
            codec: Codec::new(rules.protocol),
            admitted: rules.users.is_none(),
            read_only: false,
            sasl_begun: false,
            refusals: 0,
            skip: 0,
            incoming: None,
        }
    }

    /// Says whether the client may only read, from its next command on.
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// Whether it is between two requests, with nothing begun.
    pub fn is_idle(&self) -> bool {
        self.skip == 0 && self.incoming.is_none() && !self.codec.in_run()
    }

    /// Whether it passes over bytes that nobody wants.
    pub fn is_skipping(&self) -> bool {
        self.skip > 0
    }

    /// Whether it writes a large value as it arrives.
    pub fn is_taking_in(&self) -> bool {
        self.incoming.is_some()
    }

    /// Executes what is complete in `input`. Gives how many bytes of it are done with, and what to
    /// do next.
    pub fn advance(&mut self, input: &[u8], turn: &mut Turn<'_, 'e>) -> (usize, Step) {
        let mut consumed = 0;
        loop {
            consumed += self.skip_in(&input[consumed..]);
            let rest = &input[consumed..];
            if self.incoming.is_some() {
                consumed += self.take_in(rest, turn);
                if self.incoming.is_some() {
                    return (consumed, Step::Read { wanted: 0 });
                }
                continue;
            }
            if rest.is_empty() {
                return (consumed, Step::Read { wanted: 0 });
            }
            if turn.output.is_full() {
                return (consumed, Step::Send);
            }
            if *turn.work_left == 0 {
                return (consumed, Step::Yield);
            }
            let looked_up = self.look_up(rest, turn);
            if looked_up > 0 {
                consumed += looked_up;
                continue;
            }
            match self.decode(rest, turn) {
                Next::Consumed(bytes) => consumed += bytes,
                Next::Pause(bytes, pause) => return (consumed + bytes, Step::Pause(pause)),
                Next::Stop(step) => return (consumed, step),
            }
        }
    }

    /// Refuses the request at the front of `input`, for which no buffer can be had.
    pub fn refuse_for_memory(&mut self, input: &[u8], turn: &mut Turn<'_, 'e>) -> (usize, Step) {
        let room = KeyRoom::default();
        match self.codec.decode(input, &room, self.rules.binary_strict) {
            Decoded::NeedBody(upload) if self.admitted && self.read_only => {
                (self.refuse_upload(&upload, turn), Step::Send)
            }
            Decoded::NeedBody(upload) if self.admitted => {
                let value_bytes = upload.value_bytes as usize;
                let error = self.engine.refuse_for_memory(
                    &upload.store,
                    value_bytes,
                    turn.counters,
                    turn.now,
                );
                (self.refuse(&upload, error, turn), Step::Send)
            }
            _ => {
                if let Codec::Text(_) = self.codec {
                    codec::encode_error(&Form::Classic, Error::RequestTooLarge, turn.output);
                }
                (input.len(), Step::Close)
            }
        }
    }

    fn decode(&mut self, input: &[u8], turn: &mut Turn<'_, 'e>) -> Next {
        if !self.admitted {
            self.codec.decide(input);
            if let Codec::Text(_) = self.codec {
                return self.authenticate(input, turn);
            }
        }
        let room = KeyRoom::default();
        // Looked at where it lies: a request is larger than what is read of most.
        match &self.codec.decode(input, &room, self.rules.binary_strict) {
            Decoded::Request(request) => self.execute(request, turn),
            Decoded::NeedMore => Next::Stop(Step::Read { wanted: 0 }),
            Decoded::NeedBody(upload) => self.begin(input, upload, turn),
            Decoded::BadBody(upload) => self.reject(upload, turn),
            Decoded::Bad(bad) => self.recover(*bad, turn),
        }
    }

    fn execute(&mut self, request: &Request<'_>, turn: &mut Turn<'_, 'e>) -> Next {
        turn.spend(if self.codec.in_run() {
            KEY_WORK
        } else {
            COMMAND_WORK
        });
        if (!self.admitted || self.rules.sasl)
            && let Some(next) = self.turn_away(request, turn)
        {
            return next;
        }
        if self.read_only {
            return self.read(request, turn);
        }
        self.carry_out(&request.command, request, turn)
    }

    #[inline]
    fn carry_out(
        &mut self,
        command: &Command<'_>,
        request: &Request<'_>,
        turn: &mut Turn<'_, 'e>,
    ) -> Next {
        let reply = self.engine.execute(command, turn.counters, turn.now);
        let closes = matches!(reply, Reply::Close);
        self.answer(&request.envelope, reply, turn);
        if closes {
            return Next::Stop(Step::Close);
        }
        Next::Consumed(request.consumed)
    }

    fn recover(&mut self, bad: Bad, turn: &mut Turn<'_, 'e>) -> Next {
        turn.spend(COMMAND_WORK);
        let bad = match self.admitted {
            true => admitted(bad, self.rules.sasl),
            false => unadmitted(bad),
        };
        if let Some(error) = bad.reply {
            codec::encode_error(&bad.form, error, turn.output);
        }
        match bad.recovery {
            Recovery::Skip(bytes) => {
                self.skip = bytes;
                Next::Consumed(0)
            }
            Recovery::Close => Next::Stop(Step::Close),
        }
    }

    fn skip_in(&mut self, input: &[u8]) -> usize {
        let skipped = self.skip.min(input.len() as u64);
        self.skip -= skipped;
        skipped as usize
    }

    #[inline]
    fn answer(
        &self,
        envelope: &Envelope<'_>,
        reply: Reply<'_, Found<'e>>,
        turn: &mut Turn<'_, 'e>,
    ) {
        if let Reply::Error(error) = reply {
            return self.answer_failure(envelope, error, turn);
        }
        if let Err(Unreadable) = codec::encode(envelope, reply, turn.output) {
            self.engine.note_unreadable(turn.counters);
        }
    }

    /// Answers a command that could not be carried out, not always with the error.
    #[cold]
    fn answer_failure(&self, envelope: &Envelope<'_>, error: Error, turn: &mut Turn<'_, 'e>) {
        let failure = failure_of(&envelope.form);
        let reply = match failure {
            Failure::Told => Reply::Error(error),
            Failure::AsStored => Reply::Stored(NOTHING_STORED),
            Failure::AsMiss => Reply::Miss,
        };
        if failure != Failure::Told {
            turn.counters.failures_untold.add(1);
        }
        // No value is in it that could not be read.
        let _ = codec::encode(envelope, reply, turn.output);
    }
}

/// What is told of a value that was not stored, to somebody who is told that one was.
const NOTHING_STORED: Stored = Stored {
    cas_unique: 0,
    value_bytes: None,
};

fn failure_of(form: &Form<'_>) -> Failure {
    match form {
        Form::Binary(frame) => frame.failure,
        Form::Classic | Form::Meta(_) => Failure::Told,
    }
}

enum Next {
    Consumed(usize),
    /// This much is done with; the answer waits.
    Pause(usize, Pause),
    Stop(Step),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::protocol::reply::ReplySink;
    use crate::server::output::{Output, UNSENT_BYTES_MAX};
    use crate::stats::Counters;
    use crate::stats::memcached::Process;

    fn engine() -> Engine {
        let now = Clock::manual().now();
        let process = Process {
            started: now,
            connections_max: 1,
            threads: 1,
        };
        let store = store::Store::new(&store::Options::default()).unwrap();
        Engine::new(store, crate::engine::Options::default(), process)
    }

    /// A connection that keeps nothing: every call shows what the session asks of its caller.
    struct Peer<'e> {
        session: Session<'e>,
        output: Output<Found<'e>>,
        counters: &'e Counters,
    }

    impl<'e> Peer<'e> {
        fn new(engine: &'e Engine) -> Peer<'e> {
            Peer {
                session: Session::new(engine, Rules::default()),
                output: Output::with_buffer(Vec::new()),
                // For as long as the test's program, like those of a worker.
                counters: Box::leak(Box::default()),
            }
        }

        fn call(
            &mut self,
            call: impl FnOnce(&mut Session<'e>, &mut Turn<'_, 'e>) -> (usize, Step),
        ) -> (usize, Step) {
            let mut turn = Turn {
                output: &mut self.output,
                counters: self.counters,
                now: Clock::manual().now(),
                work_left: &mut Turn::work_for(20),
            };
            call(&mut self.session, &mut turn)
        }

        fn advance(&mut self, input: &[u8]) -> (usize, Step) {
            self.call(|session, turn| session.advance(input, turn))
        }

        fn refuse(&mut self, input: &[u8]) -> (usize, Step) {
            self.call(|session, turn| session.refuse_for_memory(input, turn))
        }

        /// Input that is executed at once and in full, and what it is answered with.
        fn ask(&mut self, input: &[u8]) -> String {
            assert_eq!(self.advance(input), (input.len(), READ));
            self.answer()
        }

        fn answer(&mut self) -> String {
            let sent = self.output.copy_unsent().into_buffer();
            self.output = Output::with_buffer(Vec::new());
            String::from_utf8(sent).unwrap()
        }
    }

    /// Everything is done with, and nothing is known of what comes.
    const READ: Step = Step::Read { wanted: 0 };

    #[test]
    fn the_data_of_a_value_too_large_are_skipped_as_they_come() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        assert_eq!(peer.ask(b"set k 0 0 1\r\nA\r\n"), "STORED\r\n");
        let refusal = "SERVER_ERROR object too large for cache\r\n";
        assert_eq!(peer.ask(b"set k 0 0 2000000\r\n"), refusal);
        assert!(!peer.session.is_idle());
        // Two million, and two for the line end; they look like commands.
        for _ in 0..200 {
            assert_eq!(peer.ask(&b"version\r\nx".repeat(1_000)), "");
        }
        assert!(!peer.session.is_idle());
        assert_eq!(peer.ask(b"\r\nget k\r\n"), "END\r\n");
        assert!(peer.session.is_idle());
    }

    #[test]
    fn a_large_value_is_taken_in_as_it_comes_and_needs_no_buffer() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        assert_eq!(peer.ask(b"set k 7 0 500000\r\n"), "");
        for _ in 0..50 {
            assert!(!peer.session.is_idle());
            assert_eq!(peer.ask(&b"0123456789".repeat(1_000)), "");
        }
        assert_eq!(peer.advance(b"\r"), (0, READ), "half of the line end");
        assert_eq!(peer.ask(b"\r\n"), "STORED\r\n");
        assert!(peer.session.is_idle());
        assert_eq!(peer.advance(b"get k\r\n"), (7, READ));
        let value = "0123456789".repeat(50_000);
        assert_eq!(
            peer.answer(),
            format!("VALUE k 7 500000\r\n{value}\r\nEND\r\n")
        );
    }

    #[test]
    fn a_large_value_by_meta_is_answered_as_its_line_asks() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        assert_eq!(peer.ask(b"ms a2V5 500000 b F7 k O1 E9 c s\r\n"), "");
        assert_eq!(peer.ask(&[b'x'; 500_000]), "");
        assert_eq!(peer.ask(b"\r\n"), "HD ka2V5 b O1 c9 s500000\r\n");
        assert_eq!(peer.ask(b"mg key k s f\r\n"), "HD ka2V5 b s500000 f7\r\n");
        assert_eq!(peer.ask(b"ms key 500000 q C8\r\n"), "");
        assert_eq!(peer.ask(&[b'x'; 500_000]), "");
        assert_eq!(peer.ask(b"\r\n"), "EX\r\n");
        assert_eq!(peer.ask(b"ms key 500000 q k\r\n"), "");
        assert_eq!(peer.ask(&[b'x'; 500_000]), "");
        assert_eq!(peer.ask(b"xx"), "CLIENT_ERROR bad data chunk\r\n");
    }

    #[test]
    fn a_large_value_without_its_line_end_is_refused_and_the_stream_stays_in_step() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        assert_eq!(peer.ask(b"set k 0 0 1\r\nA\r\n"), "STORED\r\n");
        for (header, answer) in [
            (
                &b"set k 0 0 500000\r\n"[..],
                "CLIENT_ERROR bad data chunk\r\n",
            ),
            (b"set k 0 0 500000 noreply\r\n", ""),
        ] {
            assert_eq!(peer.ask(header), "");
            assert_eq!(peer.ask(&[b'x'; 500_000]), "");
            assert_eq!(peer.ask(b"\nx"), answer);
            assert!(peer.session.is_idle());
            assert_eq!(peer.ask(b"get k\r\n"), "VALUE k 0 1\r\nA\r\nEND\r\n");
        }
    }

    #[test]
    fn a_large_value_broken_off_leaves_the_old_one() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        assert_eq!(peer.ask(b"set k 0 0 1\r\nA\r\n"), "STORED\r\n");
        assert_eq!(peer.ask(b"set k 0 0 500000\r\nxxx"), "");
        drop(peer);
        let mut peer = Peer::new(&engine);
        assert_eq!(peer.ask(b"get k\r\n"), "VALUE k 0 1\r\nA\r\nEND\r\n");
    }

    #[test]
    fn what_no_buffer_can_be_had_for_is_refused_and_skipped() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        let data = [b'x'; 10_000];
        for (mode, kept) in [("set", "END\r\n"), ("add", "VALUE k 0 1\r\nA\r\nEND\r\n")] {
            assert_eq!(peer.ask(b"set k 0 0 1\r\nA\r\n"), "STORED\r\n");
            let header = format!("{mode} k 0 0 10000\r\n").into_bytes();
            let wanted = header.len() + 10_002;
            assert_eq!(peer.advance(&header), (0, Step::Read { wanted }));
            assert_eq!(peer.refuse(&header), (header.len(), Step::Send));
            let refusal = "SERVER_ERROR out of memory storing object\r\n";
            assert_eq!(peer.answer(), refusal);
            assert_eq!(peer.ask(&data), "");
            assert_eq!(peer.ask(b"\r\nget k\r\n"), kept);
        }
    }

    #[test]
    fn a_line_that_no_buffer_can_be_had_for_ends_the_conversation() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        let line = b"get k k k k";
        assert_eq!(peer.advance(line), (0, READ));
        assert_eq!(peer.refuse(line), (line.len(), Step::Close));
        let refusal = "SERVER_ERROR out of memory reading request\r\n";
        assert_eq!(peer.answer(), refusal);
    }

    #[test]
    fn a_reader_leaves_no_trace_however_its_values_come() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        let refusal = "CLIENT_ERROR writing not allowed\r\n";
        assert_eq!(peer.ask(b"set k 0 0 1\r\nA\r\n"), "STORED\r\n");
        peer.session.set_read_only(true);
        for bytes in [10_000, 500_000, 2_000_000] {
            let header = format!("set k 0 0 {bytes}\r\n");
            assert_eq!(peer.ask(header.as_bytes()), refusal);
            assert_eq!(peer.ask(&vec![b'x'; bytes]), "");
            assert_eq!(peer.ask(b"\r\nget k\r\n"), "VALUE k 0 1\r\nA\r\nEND\r\n");
        }
        // For which no buffer can be had, where others lose the old value.
        let header = b"set k 0 0 10000\r\n";
        assert_eq!(peer.refuse(header), (header.len(), Step::Send));
        assert_eq!(peer.answer(), refusal);
        assert_eq!(peer.ask(&[b'x'; 10_000]), "");
        assert_eq!(peer.ask(b"\r\nget k\r\n"), "VALUE k 0 1\r\nA\r\nEND\r\n");
        // One answer to one line, however many keys it has.
        assert_eq!(
            peer.ask(b"gat 60 k k k\r\nget k\r\n"),
            format!("{refusal}VALUE k 0 1\r\nA\r\nEND\r\n")
        );
        assert_eq!(peer.ask(b"delete k noreply\r\n"), "");
    }

    #[test]
    fn a_large_value_of_who_becomes_a_reader_meanwhile_is_not_stored() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        assert_eq!(peer.ask(b"set k 0 0 1\r\nA\r\n"), "STORED\r\n");
        assert_eq!(peer.ask(b"set k 0 0 500000\r\nxxx"), "");
        peer.session.set_read_only(true);
        assert_eq!(peer.ask(&[b'x'; 499_997]), "");
        assert_eq!(peer.ask(b"\r\n"), "CLIENT_ERROR writing not allowed\r\n");
        assert_eq!(peer.ask(b"get k\r\n"), "VALUE k 0 1\r\nA\r\nEND\r\n");
        peer.session.set_read_only(false);
        assert_eq!(peer.ask(b"delete k\r\n"), "DELETED\r\n");
    }

    #[test]
    fn nothing_is_decoded_while_much_is_unsent() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        peer.output.bytes(&[b'x'; UNSENT_BYTES_MAX]);
        assert_eq!(peer.advance(b"version\r\n"), (0, Step::Send));
        peer.answer();
        assert_eq!(peer.ask(b"version\r\n"), "VERSION 1.6.45\r\n");
    }

    #[test]
    fn others_have_their_turn_after_some_commands() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        let input = b"gets k\r\n".repeat(50);
        let (done, step) = peer.advance(&input);
        assert_eq!((done, step), (20 * 8, Step::Yield));
        assert_eq!(peer.answer(), "END\r\n".repeat(20));
    }

    #[test]
    fn ordinary_look_ups_count_a_sixteenth() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        // One that counts whole: until then it is not known what is spoken.
        assert_eq!(peer.ask(b"gets k\r\n"), "END\r\n");
        let input = b"get k\r\n".repeat(500);
        let (done, step) = peer.advance(&input);
        assert_eq!((done, step), (320 * 7, Step::Yield));
        assert_eq!(peer.answer(), "END\r\n".repeat(320));
    }

    #[test]
    fn a_look_up_counts_more_the_longer_its_value_is() {
        let engine = engine();
        let mut peer = Peer::new(&engine);
        // Bytes that nothing can pack.
        let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let bytes = std::iter::successors(Some(1), next).map(|state| (state >> 24) as u8);
        let value: Vec<u8> = bytes.take(8192).collect();
        let set = [b"set k 0 0 8192\r\n".as_slice(), &value, b"\r\n"].concat();
        assert_eq!(peer.ask(&set), "STORED\r\n");
        peer.output.full_at(usize::MAX);
        let (done, step) = peer.advance(&b"get k\r\n".repeat(100));
        // Nine for each, of 320.
        assert_eq!((done, step), (36 * 7, Step::Yield));
    }
}
