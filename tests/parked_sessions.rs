//! Sessions that are parked and resumed, beyond the transcripts: any commands in any pieces, large values,
//! and successors that hold conversations differently.

#[path = "common/conversation.rs"]
mod conversation;

use std::io::Write;

use conversation::Conversation;
use proptest::collection::vec;
use proptest::prelude::*;
use tokencached::clock::{Clock, Now};
use tokencached::engine::{self, Engine, Found};
use tokencached::protocol::codec::Protocol;
use tokencached::server::auth::Users;
use tokencached::server::output::Output;
use tokencached::server::session::{Parked, Rules, Session, Step, Turn};
use tokencached::stats::Counters;
use tokencached::stats::memcached::Process;
use tokencached::store::{Options, Store};

/// Above half a segment of the store here, so that it is written as it arrives.
const LARGE_BYTES: usize = 50_000;

/// A small store, whose segments are of 64 KiB, and no packing.
fn engine() -> Engine {
    let store = Store::new(&Options {
        memory_limit_bytes: 8 << 20,
        ..Options::default()
    });
    let options = engine::Options {
        packing: false,
        ..engine::Options::default()
    };
    let process = Process {
        started: now(),
        connections_max: 1,
        threads: 1,
    };
    Engine::new(store.unwrap(), options, process)
}

fn now() -> Now {
    Clock::manual().now()
}

fn command() -> impl Strategy<Value = Vec<u8>> {
    let key = "[ab]";
    let text = |regex: &str| proptest::string::string_regex(regex).unwrap();
    let lines = prop_oneof![
        text("(get|gets|gat 60|gats 0)( {1,2}[ab]){1,6} ?\r?\n"),
        text("(delete|touch|incr) [ab] 1( noreply)?\r\n"),
        text("(mg|md|me|mn) [ab]( [vcskt]){0,3}\r\n"),
        text("(get|set k|version|what|set a 0 0 x)\r\n"),
    ];
    let lines = lines.prop_map(String::into_bytes);
    let length = prop_oneof![0..40usize, LARGE_BYTES..LARGE_BYTES + 3];
    let stores = (
        prop_oneof![
            Just("set"),
            Just("add"),
            Just("replace"),
            Just("append"),
            Just("cas"),
            Just("ms")
        ],
        key,
        length,
        prop_oneof![9 => Just("\r\n"), 1 => Just("\rx")],
        any::<bool>(),
    );
    let stores = stores.prop_map(|(mode, key, length, end, silent)| {
        let line = match (mode, silent) {
            ("ms", false) => format!("ms {key} {length} c k F5\r\n"),
            ("ms", true) => format!("ms {key} {length} q ME\r\n"),
            ("cas", _) => format!("cas {key} 0 0 {length} 3\r\n"),
            (_, true) => format!("{mode} {key} 0 0 {length} noreply\r\n"),
            (_, false) => format!("{mode} {key} 5 0 {length}\r\n"),
        };
        let value = (0..length).map(|number| b'a' + (number % 23) as u8);
        let value: Vec<u8> = value.collect();
        [line.as_bytes(), &value, end.as_bytes()].concat()
    });
    prop_oneof![2 => lines, 1 => stores]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_conversation_parked_anywhere_says_the_same(
        commands in vec(command(), 1..30),
        pieces in vec((1..3_000usize, any::<bool>()), 1..40),
    ) {
        let script = commands.concat();
        let (whole, parked) = (engine(), engine());
        let counters = (whole.stats().register_worker(), parked.stats().register_worker());
        let mut one = Conversation::new(&whole, &counters.0);
        let mut other = Conversation::new(&parked, &counters.1);
        one.feed(&script, now());
        let mut rest = &script[..];
        for (length, parks) in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*length).min(rest.len()));
            other.feed(piece, now());
            if *parks {
                other.change_hands(now());
            }
            rest = behind;
        }
        let shown = |said: &[u8]| said.escape_ascii().to_string();
        prop_assert_eq!(shown(&one.replies), shown(&other.replies));
        prop_assert_eq!(one.closed, other.closed);
        prop_assert_eq!(whole.stats().total(), parked.stats().total());
    }
}

/// A session by hand, so that it can be parked under some rules and resumed under others.
struct Peer<'e> {
    engine: &'e Engine,
    counters: &'e Counters,
    session: Session<'e>,
    input: Vec<u8>,
    output: Output<Found<'e>>,
}

impl<'e> Peer<'e> {
    fn new(engine: &'e Engine, rules: Rules<'e>) -> Peer<'e> {
        Peer {
            engine,
            // For as long as the test's program, like those of a worker.
            counters: Box::leak(Box::default()),
            session: Session::new(engine, rules),
            input: Vec::new(),
            output: Output::with_buffer(Vec::new()),
        }
    }

    /// Says this, and gives the answer and whether the session closes after it.
    fn ask(&mut self, said: &[u8]) -> (String, bool) {
        self.input.extend_from_slice(said);
        let closes = loop {
            let mut turn = Turn {
                output: &mut self.output,
                counters: self.counters,
                now: now(),
                work_left: &mut Turn::work_for(20),
            };
            let (done, step) = self.session.advance(&self.input, &mut turn);
            self.input.drain(..done);
            match step {
                Step::Read { .. } => break false,
                Step::Close => break true,
                Step::Send | Step::Yield | Step::Pause(_) => {}
            }
        };
        let answer = self.output.copy_unsent().into_buffer();
        self.output = Output::with_buffer(Vec::new());
        (String::from_utf8(answer).unwrap(), closes)
    }

    fn park(mut self) -> (Parked, Vec<u8>) {
        let parked = self.session.park(&mut self.input);
        (parked, self.input)
    }

    fn resume(
        engine: &'e Engine,
        rules: Rules<'e>,
        (parked, mut input): (Parked, Vec<u8>),
    ) -> Option<Peer<'e>> {
        let session = Session::resume(engine, rules, parked, &mut input)?;
        Some(Peer {
            session,
            input,
            ..Peer::new(engine, rules)
        })
    }

    fn change_hands(self, rules: Rules<'e>) -> Peer<'e> {
        let engine = self.engine;
        Peer::resume(engine, rules, self.park()).expect("it fits together")
    }
}

fn users(lines: &str) -> Users {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.as_bytes()).unwrap();
    Users::load(file.path()).unwrap()
}

fn said(answer: &str) -> (String, bool) {
    (answer.to_owned(), false)
}

#[test]
fn a_value_that_goes_by_has_had_its_outcome() {
    let engine = engine();
    let rules = Rules::default();
    let mut other = Peer::new(&engine, rules);
    let mut peer = Peer::new(&engine, rules);
    assert_eq!(other.ask(b"set k 0 0 1\r\nA\r\n"), said("STORED\r\n"));
    assert_eq!(peer.ask(b"add k 0 0 50000\r\nxxx"), said(""));
    let mut peer = peer.change_hands(rules);
    // What is stored now would not be what was sent.
    assert_eq!(other.ask(b"delete k\r\n"), said("DELETED\r\n"));
    assert_eq!(peer.ask(&[b'x'; 49_997]), said(""));
    let mut peer = peer.change_hands(rules);
    assert_eq!(peer.ask(b"\r"), said(""));
    let mut peer = peer.change_hands(rules);
    assert_eq!(peer.ask(b"\nget k\r\n"), said("NOT_STORED\r\nEND\r\n"));
}

#[test]
fn a_value_that_goes_by_goes_by_without_a_header_that_fits() {
    let engine = engine();
    let rules = Rules::default();
    let mut peer = Peer::new(&engine, rules);
    let parked = || {
        let mut peer = Peer::new(&engine, rules);
        assert_eq!(peer.ask(b"add k 0 0 50000\r\nxxx"), said(""));
        peer.park()
    };
    peer.ask(b"set k 0 0 1\r\nA\r\n");
    assert!(Peer::resume(&engine, rules, parked()).is_some());
    for input in [
        &b""[..],
        b"add k 0 0 500",
        b"add k 0 0 100\r\n",
        b"get k\r\n",
        b"add k 0 0 0\r\n\r\n",
    ] {
        let (session, _) = parked();
        let resumed = Peer::resume(&engine, rules, (session, input.to_vec()));
        assert!(resumed.is_none(), "{}", input.escape_ascii());
    }
}

#[test]
fn the_room_of_a_value_that_is_parked_is_free_for_others() {
    let engine = engine();
    let rules = Rules::default();
    // A quarter of the memory would be full of them.
    for _ in 0..200 {
        let mut peer = Peer::new(&engine, rules);
        assert_eq!(peer.ask(b"set k 0 0 50000\r\nxxx"), said(""));
        let (_, input) = peer.park();
        assert_eq!(input, b"set k 0 0 50000\r\nxxx");
    }
}

#[test]
fn who_has_said_who_it_is_need_not_say_so_again_and_nobody_else_has_said_it() {
    let engine = engine();
    let users = users("alice:secret\n");
    let closed = Rules {
        users: Some(&users),
        ..Rules::default()
    };
    let open = Rules::default();
    let login = b"set k 0 0 12\r\nalice secret\r\n";
    let mut peer = Peer::new(&engine, closed);
    assert_eq!(peer.ask(login), said("STORED\r\n"));
    let mut peer = peer.change_hands(closed);
    assert_eq!(peer.ask(b"get k\r\n"), said("END\r\n"));
    // It did not have to, and has to now.
    let mut peer = Peer::new(&engine, open);
    assert_eq!(peer.ask(b"get k\r\n"), said("END\r\n"));
    let mut peer = peer.change_hands(closed);
    assert!(peer.ask(b"get k\r\n").0.starts_with("CLIENT_ERROR"));
    assert_eq!(peer.ask(login), said("STORED\r\n"));
    let mut peer = peer.change_hands(open);
    assert_eq!(peer.ask(b"get k\r\n"), said("END\r\n"));
}

#[test]
fn a_conversation_stays_in_the_protocol_in_which_it_was_begun() {
    let engine = engine();
    let only = |protocol| Rules {
        protocol,
        ..Rules::default()
    };
    let mut peer = Peer::new(&engine, only(Protocol::Auto));
    assert_eq!(peer.ask(b"get k\r\n"), said("END\r\n"));
    let mut peer = peer.change_hands(only(Protocol::Binary));
    assert_eq!(peer.ask(b"get k\r\n"), said("END\r\n"));
    // One that was not begun goes by the rules.
    let peer = Peer::new(&engine, only(Protocol::Auto));
    let mut peer = peer.change_hands(only(Protocol::Binary));
    assert!(peer.ask(b"get k\r\n").1);
}

#[test]
fn a_multiget_goes_on_only_with_its_rest() {
    let engine = engine();
    let rules = Rules::default();
    let parked = || {
        let mut peer = Peer::new(&engine, rules);
        let line = [b"gets".as_slice(), &b" k".repeat(40), b"\r\n"].concat();
        let mut turn = Turn {
            output: &mut peer.output,
            counters: peer.counters,
            now: now(),
            work_left: &mut 20,
        };
        let (done, step) = peer.session.advance(&line, &mut turn);
        assert!(step == Step::Yield && done < line.len());
        peer.input = line[done..].to_vec();
        peer.park()
    };
    let mut peer = Peer::resume(&engine, rules, parked()).unwrap();
    assert_eq!(peer.ask(b""), said("END\r\n"));
    let long = [b"k ".as_slice(), &[b'k'; 251], b"\r\n"].concat();
    for input in [&b""[..], b"k k", b" k\r\n", b"\r\n", b"k\x01\r\n", &long] {
        let (session, _) = parked();
        let resumed = Peer::resume(&engine, rules, (session, input.to_vec()));
        assert!(resumed.is_none(), "{}", input.escape_ascii());
    }
}
