//! What a watcher is told: of each command of each protocol, what it was and what came of it.
//!
//! In process, through `server::session`, with a clock that the tests turn.

#[path = "common/binary_client.rs"]
mod binary_client;
#[path = "common/conversation.rs"]
mod conversation;

use std::sync::Arc;

use binary_client::Request;
use conversation::Conversation;
use tokencached::clock::Clock;
use tokencached::engine::{Engine, Options};
use tokencached::stats::WorkerCounters;
use tokencached::stats::events::{Event, Outcome, Watcher};
use tokencached::stats::memcached::Process;
use tokencached::store::{self, Store};

const MIB: usize = 1 << 20;

struct House {
    engine: Engine,
    counters: Arc<WorkerCounters>,
    clock: Clock,
}

impl House {
    /// One with so much room, for items of up to 4 MiB.
    fn with_megabytes(megabytes: u64) -> House {
        let clock = Clock::manual();
        let process = Process {
            started: clock.now(),
            connections_max: 1,
            threads: 1,
        };
        let store = Store::new(&store::Options {
            memory_limit_bytes: megabytes << 20,
            item_bytes_max: 4 * MIB as u32,
            ..store::Options::default()
        });
        let engine = Engine::new(store.unwrap(), Options::default(), process);
        House {
            counters: engine.stats().register_worker(),
            engine,
            clock,
        }
    }

    fn new() -> House {
        House::with_megabytes(64)
    }

    fn watch(&self) -> Watcher {
        let events = &self.engine.stats().events;
        events.subscribe(self.clock.now()).unwrap()
    }

    fn client(&self) -> Conversation<'_> {
        Conversation::new(&self.engine, &self.counters)
    }

    /// Has a new client send these pieces, one after the other.
    fn send(&self, pieces: &[&[u8]]) {
        let mut client = self.client();
        pieces
            .iter()
            .for_each(|piece| client.feed(piece, self.clock.now()));
    }

    /// What is told of one request of `request`, in short.
    fn told(&self, request: &[u8]) -> String {
        let mut watcher = self.watch();
        self.send(&[request]);
        in_short(&mut watcher)
    }
}

/// All that a watcher was told, in one line.
fn in_short(watcher: &mut Watcher) -> String {
    let batch = watcher.take();
    assert_eq!(batch.lost, 0);
    let events: Vec<String> = batch.events.iter().map(shortened).collect();
    events.join(", ")
}

fn shortened(event: &Event) -> String {
    let what = serde_json::to_value(event.op).unwrap();
    let what = format!("{} {}", what.as_str().unwrap(), event.class.name());
    let left = |ttl: Option<u32>| ttl.map_or("ever".to_owned(), |ttl| ttl.to_string());
    match event.outcome {
        Outcome::Hit {
            age_seconds,
            ttl_seconds,
            value_bytes,
            stored_bytes,
        } => {
            let ttl = left(ttl_seconds);
            format!("{what} hit after {age_seconds} for {ttl}: {value_bytes} in {stored_bytes}")
        }
        Outcome::Miss { cause } => format!("{what} miss: {}", cause.name()),
        Outcome::Stored {
            ttl_seconds,
            value_bytes,
            stored_bytes,
        } => {
            let ttl = left(ttl_seconds);
            format!("{what} stored for {ttl}: {value_bytes} in {stored_bytes}")
        }
        Outcome::NotStored { value_bytes } => format!("{what} not stored: {value_bytes}"),
        Outcome::Deleted => format!("{what} deleted"),
        Outcome::NotFound => format!("{what} not found"),
    }
}

/// The key of a plain token.
fn token(number: usize) -> String {
    format!("tokens/{number:064x}")
}

fn set(key: &str, exptime: u32, value: &[u8]) -> Vec<u8> {
    let line = format!("set {key} 0 {exptime} {}\r\n", value.len());
    [line.as_bytes(), value, b"\r\n"].concat()
}

/// Holds what is told of each request against what is expected, of a key that was set to "5" seven seconds ago for a
/// hundred and of one that is not there.
fn assert_told<R: AsRef<[u8]>>(cases: &[(&str, &str, &str)], request: impl Fn(&str, &str) -> R) {
    let house = House::new();
    for (number, &(command, of_there, of_missing)) in cases.iter().enumerate() {
        let (there, missing) = (token(2 * number), token(2 * number + 1));
        house.send(&[&set(&there, 100, b"5")]);
        house.clock.advance(7);
        for (key, expected) in [(there, of_there), (missing, of_missing)] {
            let told = house.told(request(command, &key).as_ref());
            let (op, outcome) = expected.split_once(' ').unwrap();
            assert_eq!(told, format!("{op} token {outcome}"), "{command}");
        }
    }
}

#[test]
fn each_command_of_the_text_protocols_is_told_as_what_it_is() {
    let hit = "get hit after 7 for 93: 1 in 1";
    let missed = "get miss: never_seen";
    let cases = [
        ("get K", hit, missed),
        ("gets K", hit, missed),
        (
            "gat 50 K",
            "gat hit after 7 for 50: 1 in 1",
            "gat miss: never_seen",
        ),
        (
            "gats 0 K",
            "gat hit after 7 for ever: 1 in 1",
            "gat miss: never_seen",
        ),
        ("mg K v", hit, missed),
        (
            "mg K v T30",
            "gat hit after 7 for 30: 1 in 1",
            "gat miss: never_seen",
        ),
        ("mg K v N30", hit, missed),
        (
            "touch K 50",
            "touch hit after 7 for 50: 1 in 1",
            "touch miss: never_seen",
        ),
        (
            "set K 0 9 2\r\n77",
            "set stored for 9: 2 in 2",
            "set stored for 9: 2 in 2",
        ),
        (
            "set K 0 0 0 noreply\r\n",
            "set stored for ever: 0 in 0",
            "set stored for ever: 0 in 0",
        ),
        (
            "add K 0 9 2\r\n77",
            "add not stored: 2",
            "add stored for 9: 2 in 2",
        ),
        (
            "replace K 0 9 2\r\n77",
            "replace stored for 9: 2 in 2",
            "replace not stored: 2",
        ),
        (
            "append K 0 9 2\r\n77",
            "append stored for 93: 3 in 3",
            "append not stored: 2",
        ),
        (
            "prepend K 0 9 2\r\n77",
            "prepend stored for 93: 3 in 3",
            "prepend not stored: 2",
        ),
        (
            "cas K 0 9 2 99999\r\n77",
            "cas not stored: 2",
            "cas not stored: 2",
        ),
        (
            "ms K 2 T9\r\n77",
            "set stored for 9: 2 in 2",
            "set stored for 9: 2 in 2",
        ),
        (
            "ms K 2 MA\r\n77",
            "append stored for 93: 3 in 3",
            "append not stored: 2",
        ),
        (
            "ms K 2 MA N9\r\n77",
            "append stored for 93: 3 in 3",
            "append stored for 9: 2 in 2",
        ),
        (
            "ms K 2 C99999\r\n77",
            "cas not stored: 2",
            "cas not stored: 2",
        ),
        ("delete K", "delete deleted", "delete not found"),
        ("md K q", "delete deleted", "delete not found"),
        ("md K x", "delete deleted", "delete not found"),
        ("md K I T30", "invalidate deleted", "invalidate not found"),
        ("md K C99999", "delete not stored: 0", "delete not found"),
        (
            "incr K 1",
            "incr hit after 7 for 93: 1 in 1",
            "incr miss: never_seen",
        ),
        (
            "decr K 1",
            "decr hit after 7 for 93: 1 in 1",
            "decr miss: never_seen",
        ),
        (
            "ma K",
            "incr hit after 7 for 93: 1 in 1",
            "incr miss: never_seen",
        ),
        (
            "ma K MD N9 J33",
            "decr hit after 7 for 93: 1 in 1",
            "decr stored for 9: 2 in 2",
        ),
        (
            "ma K T30",
            "incr hit after 7 for 30: 1 in 1",
            "incr miss: never_seen",
        ),
        ("ma K C99999", "incr not stored: 0", "incr miss: never_seen"),
    ];
    assert_told(&cases, |command, key| {
        format!("{}\r\n", command.replace('K', key))
    });
}

#[test]
fn each_command_of_the_binary_protocol_is_told_as_what_it_is() {
    let hit = "get hit after 7 for 93: 1 in 1";
    let missed = "get miss: never_seen";
    let touched = "gat hit after 7 for 60: 1 in 1";
    let untouched = "gat miss: never_seen";
    let cases = [
        ("00", hit, missed),
        ("09", hit, missed),
        ("0c", hit, missed),
        ("1d 60", touched, untouched),
        ("1e 60", touched, untouched),
        ("23 60", touched, untouched),
        (
            "1c 60",
            "touch hit after 7 for 60: 1 in 1",
            "touch miss: never_seen",
        ),
        (
            "01 0,9 77",
            "set stored for 9: 2 in 2",
            "set stored for 9: 2 in 2",
        ),
        (
            "11 0,9 77",
            "set stored for 9: 2 in 2",
            "set stored for 9: 2 in 2",
        ),
        ("02 0,9 77", "add not stored: 2", "add stored for 9: 2 in 2"),
        (
            "03 0,9 77",
            "replace stored for 9: 2 in 2",
            "replace not stored: 2",
        ),
        (
            "0e - 77",
            "append stored for 93: 3 in 3",
            "append not stored: 2",
        ),
        (
            "0f - 77",
            "prepend stored for 93: 3 in 3",
            "prepend not stored: 2",
        ),
        ("04", "delete deleted", "delete not found"),
        ("14", "delete deleted", "delete not found"),
        // By one, from 33, for nine seconds.
        (
            "05 0,1,0,33,9",
            "incr hit after 7 for 93: 1 in 1",
            "incr stored for 9: 2 in 2",
        ),
        (
            "06 0,1,0,33,9",
            "decr hit after 7 for 93: 1 in 1",
            "decr stored for 9: 2 in 2",
        ),
        (
            "05 0,1,0,33,4294967295",
            "incr hit after 7 for 93: 1 in 1",
            "incr miss: never_seen",
        ),
    ];
    assert_told(&cases, |command, key| {
        let mut parts = command.split(' ');
        let opcode = u8::from_str_radix(parts.next().unwrap(), 16).unwrap();
        let extras = parts.next().filter(|&extras| extras != "-");
        let extras = extras.into_iter().flat_map(|extras| extras.split(','));
        let extras: Vec<u8> = extras
            .flat_map(|word| word.parse::<u32>().unwrap().to_be_bytes())
            .collect();
        let value = parts.next().unwrap_or_default();
        Request::new(opcode)
            .extras(extras)
            .key(key)
            .value(value)
            .bytes()
    });
}

#[test]
fn each_key_of_a_multiget_is_told() {
    let house = House::new();
    house.send(&[&set(&token(1), 0, b"5"), &set("k", 0, b"55")]);
    let told = house.told(format!("get k {} {}\r\n", token(1), token(2)).as_bytes());
    let expected = "get other hit after 0 for ever: 2 in 2, get token hit after 0 for ever: 1 in 1, \
                    get token miss: never_seen";
    assert_eq!(told, expected);
}

#[test]
fn what_is_about_no_item_is_not_told() {
    let house = House::new();
    house.send(&[&set("k", 0, b"5")]);
    for command in [
        "version",
        "me k",
        "verbosity 1",
        "stats",
        "mn",
        "nonsense",
        "flush_all",
    ] {
        assert_eq!(
            house.told(format!("{command}\r\n").as_bytes()),
            "",
            "{command}"
        );
    }
}

#[test]
fn a_miss_is_told_with_its_cause() {
    let house = House::with_megabytes(8);
    let miss = |number: usize| house.told(format!("get {}\r\n", token(number)).as_bytes());
    let cause = |of: &str| format!("get token miss: {of}");
    assert_eq!(miss(0), cause("never_seen"));

    house.send(&[&set(&token(1), 5, b"5")]);
    house.clock.advance(5);
    assert_eq!(miss(1), cause("expired"));

    house.send(&[
        &set(&token(2), 0, b"5"),
        format!("delete {}\r\n", token(2)).as_bytes(),
    ]);
    assert_eq!(miss(2), cause("deleted"));

    // Nothing of it can be packed, and twice as much as there is room for.
    let noise: Vec<u8> = (0..60_000u32)
        .flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[1..3].to_vec())
        .collect();
    (10..200).for_each(|number| house.send(&[&set(&token(number), 0, &noise)]));
    assert_eq!(miss(10), cause("evicted"));

    house.send(&[b"flush_all\r\n"]);
    assert_eq!(miss(199), cause("flushed"));
}

#[test]
fn a_packed_value_is_told_with_both_of_its_lengths() {
    let house = House::new();
    let value = b"dogpile entry ".repeat(900);
    let told = house.told(&set(&token(1), 0, &value));
    let (begin, stored_bytes) = told.rsplit_once(' ').unwrap();
    assert_eq!(
        begin,
        format!("set token stored for ever: {} in", value.len())
    );
    assert!(stored_bytes.parse::<usize>().unwrap() < 500, "{told}");
    let hit = house.told(format!("get {}\r\n", token(1)).as_bytes());
    let lengths = |told: &str| {
        told.rsplit_once(": ")
            .map(|(_, lengths)| lengths.to_owned())
    };
    assert_eq!(lengths(&hit), lengths(&told));
}

#[test]
fn a_value_that_is_written_as_it_arrives_is_told_once_it_is_there() {
    let house = House::new();
    let value = vec![b'v'; 3 * MIB];
    let request = set(&token(1), 50, &value);
    let (front, rest) = request.split_at(MIB);
    let mut watcher = house.watch();
    let mut client = house.client();
    client.feed(front, house.clock.now());
    assert_eq!(in_short(&mut watcher), "");
    client.feed(rest, house.clock.now());
    let bytes = value.len();
    assert_eq!(
        in_short(&mut watcher),
        format!("set token stored for 50: {bytes} in {bytes}")
    );
}

#[test]
fn what_is_refused_is_told_as_not_stored_with_the_length_that_was_announced() {
    let house = House::new();
    let bytes = 5 * MIB;
    for command in ["set", "append"] {
        let line = format!("{command} {} 0 0 {bytes}\r\n", token(1));
        let expected = format!("{command} token not stored: {bytes}");
        assert_eq!(house.told(line.as_bytes()), expected);
    }
}

#[test]
fn what_cannot_be_counted_up_is_told_as_not_stored() {
    let house = House::new();
    house.send(&[&set(&token(1), 0, b"five")]);
    let told = house.told(format!("incr {} 1\r\n", token(1)).as_bytes());
    assert_eq!(told, "incr token not stored: 0");
}

#[test]
fn an_event_says_whose_it_is_and_when_and_the_same_of_a_key_each_time() {
    let house = House::new();
    let mut watcher = house.watch();
    let service = house.engine.stats().services.of(Some(42_435));
    let counters = house.counters.of(service);
    let mut known = Conversation::new(&house.engine, counters);
    known.feed(b"get k\r\n", house.clock.now());
    house.clock.advance(3);
    house.send(&[b"get k\r\nget l\r\n"]);
    let events = watcher.take().events;
    let services: Vec<String> = events
        .iter()
        .map(|event| house.engine.stats().services.label(event.service))
        .collect();
    assert_eq!(services, ["42435", "unknown", "unknown"]);
    let times: Vec<u64> = events.iter().map(|event| event.at_ms).collect();
    assert_eq!(times, [0, 3_000, 3_000]);
    assert_eq!(events[0].key, events[1].key);
    assert_ne!(events[1].key, events[2].key);
}
