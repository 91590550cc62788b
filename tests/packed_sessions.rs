//! Packed values as clients see them: through sessions, in virtual time, over stores that are full,
//! damaged, or taken over from another process.

#[path = "common/conversation.rs"]
mod conversation;
#[path = "common/corpus.rs"]
mod corpus;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock};

use conversation::Conversation;
use corpus::{Cloud, Random, Recorded, mac, recorded};
use proptest::prelude::*;
use tokencached::clock::Clock;
use tokencached::engine::{Engine, Options};
use tokencached::stats::WorkerCounters;
use tokencached::stats::memcached::Process;
use tokencached::store::{self, Store};

static RECORDED: LazyLock<Vec<Recorded>> = LazyLock::new(recorded);
static CLOUD: LazyLock<Cloud> = LazyLock::new(|| Cloud::new(&RECORDED, 0));

/// An engine with its clock, its counters and the file of its heap.
struct Server {
    engine: Engine,
    counters: Arc<WorkerCounters>,
    clock: Clock,
    heap: File,
    store_options: store::Options,
}

impl Server {
    fn new(megabytes: u64, evict: bool) -> Server {
        let store_options = store::Options {
            memory_limit_bytes: megabytes << 20,
            memory_ceiling_bytes: 64 << 20,
            evict,
            ..store::Options::default()
        };
        let store = Store::new(&store_options).unwrap();
        Server::over(store, Clock::manual(), store_options, Options::default())
    }

    fn over(store: Store, clock: Clock, store_options: store::Options, options: Options) -> Server {
        let heap = store.file().try_clone_to_owned().unwrap().into();
        let process = Process {
            started: clock.now(),
            connections_max: 1,
            threads: 1,
        };
        let engine = Engine::new(store, options, process);
        Server {
            counters: engine.stats().register_worker(),
            engine,
            clock,
            heap,
            store_options,
        }
    }

    /// Another process takes the heap over; gives also how many items were dropped as damaged.
    fn taken_over(self, options: Options) -> (Server, u64) {
        let heap = self.heap.try_clone().unwrap().into();
        let now = self.clock.now();
        let (store, recovered) = Store::open(heap, &self.store_options, now.seconds).unwrap();
        store.prove();
        let server = Server::over(store, self.clock, self.store_options, options);
        (server, recovered.damaged)
    }

    fn ask(&self, request: &[u8]) -> Vec<u8> {
        let mut conversation = Conversation::new(&self.engine, &self.counters);
        conversation.feed(request, self.clock.now());
        assert!(conversation.is_idle() && !conversation.closed);
        conversation.replies
    }

    fn store(&self, command: &str, key: &str, ttl: u32, value: &[u8]) -> String {
        let line = format!("{command} {key} 5 {ttl} {} \r\n", value.len());
        let reply = self.ask(&[line.as_bytes(), value, b"\r\n"].concat());
        String::from_utf8(reply).unwrap()
    }

    fn set(&self, key: &str, value: &[u8]) {
        assert_eq!(self.store("set", key, 300, value), "STORED\r\n");
    }

    /// A value as `get` gives it; its line has to be right.
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let reply = self.ask(format!("get {key}\r\n").as_bytes());
        if reply == b"END\r\n" {
            return None;
        }
        let end = reply.windows(2).position(|two| two == b"\r\n").unwrap();
        let value = reply[end + 2..].strip_suffix(b"\r\nEND\r\n").unwrap();
        let line = format!("VALUE {key} 5 {}", value.len());
        assert_eq!(String::from_utf8_lossy(&reply[..end]), line);
        Some(value.to_vec())
    }

    fn stat(&self, name: &str) -> u64 {
        let stats = String::from_utf8(self.ask(b"stats\r\n")).unwrap();
        let prefix = format!("STAT {name} ");
        let line = stats.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    /// Seconds pass, the background thread at work.
    fn wait(&self, seconds: u32) {
        for _ in 0..seconds {
            self.clock.advance(1);
            self.engine.housekeep(self.clock.now());
        }
    }

    /// Sets tokens of a cloud, so many that others leave, and counts those held.
    fn fill(&self, cloud: &Cloud, name: &str, count: usize) -> usize {
        for number in 0..count {
            self.set(&format!("{name}/{number}"), &cloud.token(number));
        }
        self.held(cloud, name, count)
    }

    fn held(&self, cloud: &Cloud, name: &str, count: usize) -> usize {
        let held = |&number: &usize| match self.get(&format!("{name}/{number}")) {
            Some(value) => {
                assert!(value == cloud.token(number), "{name}/{number}");
                true
            }
            None => false,
        };
        (0..count).filter(held).count()
    }
}

/// A token of the first cloud, packed with a dictionary, under the key `tokens/1`.
fn with_a_token() -> (Server, Vec<u8>) {
    let server = Server::new(8, true);
    for number in 0..4 {
        server.set(&format!("tokens/{number}"), &CLOUD.token(number));
    }
    server.set("tokens/1", &CLOUD.token(1));
    assert_eq!(server.stat("dictionaries"), 1);
    (server, CLOUD.token(1))
}

#[test]
fn every_way_to_read_a_token_gives_it_as_it_came() {
    let (server, token) = with_a_token();
    let hit = |line: &str| [line.as_bytes(), &token, b"\r\n"].concat();
    let bytes = token.len();
    let plain = hit(&format!("VALUE tokens/1 5 {bytes}\r\n"));
    let end = &b"END\r\n"[..];
    assert_eq!(server.ask(b"get tokens/1\r\n"), [&plain, end].concat());
    assert_eq!(server.ask(b"gat 60 tokens/1\r\n"), [&plain, end].concat());
    assert_eq!(
        server.ask(b"get tokens/1 nothing tokens/1\r\n"),
        [&plain, &plain, end].concat()
    );
    let with_cas = server.ask(b"gets tokens/1\r\n");
    assert!(with_cas.ends_with(&[&token, &b"\r\nEND\r\n"[..]].concat()));
    assert!(server.stat("values_unpacked") >= 5);
}

#[test]
fn what_changes_a_value_sees_it_as_it_came() {
    let (server, token) = with_a_token();
    assert_eq!(
        server.store("append", "tokens/1", 0, b"behind"),
        "STORED\r\n"
    );
    assert_eq!(
        server.store("prepend", "tokens/1", 0, b"before"),
        "STORED\r\n"
    );
    let longer = [b"before", &token[..], b"behind"].concat();
    assert!(server.get("tokens/1") == Some(longer));
    let not_numeric = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
    assert_eq!(server.ask(b"incr tokens/2 1\r\n"), not_numeric.as_bytes());
    // Its packed form would do for a number no more than it does itself.
    let number = [&b"7"[..], &[b' '; 600]].concat();
    server.set("number", &number);
    let packed = server.stat("values_packed");
    assert_eq!(server.ask(b"incr number 5\r\n"), b"12\r\n");
    let sum = [&b"12"[..], &[b' '; 599]].concat();
    assert_eq!(server.get("number"), Some(sum));
    assert_eq!(
        server.stat("values_packed"),
        packed + 1,
        "it is packed again"
    );
}

#[test]
fn a_cas_unique_belongs_to_the_value_and_not_to_its_packing() {
    let (server, token) = with_a_token();
    let reply = String::from_utf8(server.ask(b"gets tokens/1\r\n")).unwrap();
    let unique = reply.lines().next().unwrap().rsplit(' ').next().unwrap();
    let cas = |unique: &str| {
        let line = format!("cas tokens/1 5 0 {} {unique}\r\n", token.len());
        server.ask(&[line.as_bytes(), &token, b"\r\n"].concat())
    };
    assert_eq!(cas(unique), b"STORED\r\n");
    assert_eq!(cas(unique), b"EXISTS\r\n");
    assert!(server.get("tokens/1") == Some(token.clone()));
}

#[test]
fn the_largest_item_is_that_of_clients_whatever_it_is_packed_into() {
    let options = store::Options {
        item_bytes_max: 20_000,
        memory_limit_bytes: 8 << 20,
        ..store::Options::default()
    };
    let store = Store::new(&options).unwrap();
    let server = Server::over(store, Clock::manual(), options, Options::default());
    let too_large = "SERVER_ERROR object too large for cache\r\n";
    assert_eq!(server.store("set", "k", 0, &[b'a'; 20_000]), too_large);
    server.set("k", &[b'a'; 15_000]);
    assert_eq!(
        server.store("append", "k", 0, &[b'a'; 5_000]),
        "NOT_STORED\r\n"
    );
    assert_eq!(server.get("k"), Some(vec![b'a'; 15_000]));
}

#[test]
fn a_value_over_half_a_segment_is_packed_if_a_dictionary_could_hold_it() {
    // Segments of 64 KiB, so that one of 40 KB is one that would own its segments.
    let server = Server::new(8, true);
    let value = b"endpoint ".repeat(4_500);
    server.set("large", &value);
    assert_eq!(server.stat("values_packed"), 1);
    assert!(server.get("large") == Some(value));
    let mut random = Random::new(1);
    let random = random.bytes(100_000);
    server.set("random", &random);
    assert!(server.get("random") == Some(random));
    assert_eq!(server.stat("values_packed"), 1);
}

#[test]
fn a_value_damaged_in_memory_is_a_miss_and_counted_and_can_be_set_again() {
    let (server, token) = with_a_token();
    let mut heap = vec![0; 4 << 20];
    server.heap.read_exact_at(&mut heap, 0).unwrap();
    let (hits, misses) = (server.stat("get_hits"), server.stat("get_misses"));
    // Behind the key stands the head: length and checksum, four bytes each.
    let places: Vec<usize> = (0..heap.len() - 8)
        .filter(|&at| heap[at..].starts_with(b"tokens/1"))
        .map(|at| at + 8)
        .collect();
    assert!(!places.is_empty());
    for at in 0..8 {
        for place in &places {
            let wrong = [heap[place + at] ^ 0x10];
            server
                .heap
                .write_all_at(&wrong, (place + at) as u64)
                .unwrap();
        }
        assert!(server.get("tokens/1").is_none(), "byte {at}");
        let others = server.ask(b"get tokens/2 tokens/3\r\n");
        assert!(server.ask(b"get tokens/2 tokens/1 tokens/3\r\n") == others);
        for place in &places {
            let right = &heap[place + at..=place + at];
            server
                .heap
                .write_all_at(right, (place + at) as u64)
                .unwrap();
        }
    }
    assert_eq!(server.stat("get_unreadable"), 16);
    assert_eq!(server.stat("get_misses"), misses + 16);
    assert_eq!(server.stat("get_hits"), hits + 4 * 8);
    let wrong = [heap[places[0] + 9] ^ 1];
    server
        .heap
        .write_all_at(&wrong, (places[0] + 9) as u64)
        .unwrap();
    assert_eq!(
        server.store("append", "tokens/1", 0, b"x"),
        "NOT_STORED\r\n"
    );
    server.set("tokens/1", &token);
    assert!(server.get("tokens/1") == Some(token));
}

#[test]
fn a_process_that_takes_the_heap_over_reads_what_is_packed_and_packs_on() {
    let (server, token) = with_a_token();
    let dictionary_bytes = server.stat("dictionary_bytes");
    let (server, damaged) = server.taken_over(Options::default());
    assert_eq!(damaged, 0);
    assert!(server.get("tokens/1") == Some(token));
    assert_eq!(server.stat("dictionary_bytes"), dictionary_bytes);
    for number in 4..200 {
        server.set(&format!("tokens/{number}"), &CLOUD.token(number));
    }
    assert_eq!(server.held(&CLOUD, "tokens", 200), 200);
    assert!(server.stat("packed_into_bytes") < 600 * 196);
}

#[test]
fn with_packing_switched_off_what_is_packed_is_read_all_the_same() {
    let (server, token) = with_a_token();
    let off = Options {
        packing: false,
        ..Options::default()
    };
    let (server, _) = server.taken_over(off);
    assert!(server.get("tokens/1") == Some(token));
    server.set("tokens/2", &CLOUD.token(2));
    assert!(server.get("tokens/2") == Some(CLOUD.token(2)));
    assert_eq!(server.stat("values_packed"), 0);
}

#[test]
fn a_dictionary_damaged_in_memory_costs_the_items_that_need_it_and_gives_no_wrong_value() {
    let (server, _) = with_a_token();
    server.set("tokens/short", &[b's'; 100]);
    let mut front = vec![0; 1 << 20];
    server.heap.read_exact_at(&mut front, 0).unwrap();
    let at = front
        .windows(8)
        .position(|bytes| bytes == b"\"catalog")
        .unwrap();
    server.heap.write_all_at(b"X", at as u64 + 100).unwrap();
    // The running server has its own copy.
    assert!(server.get("tokens/3") == Some(CLOUD.token(3)));
    let (server, damaged) = server.taken_over(Options::default());
    assert_eq!(damaged, 2, "the last two were packed with it");
    assert!(server.get("tokens/3").is_none() && server.get("tokens/1").is_none());
    assert!(server.get("tokens/short").is_some());
    assert_eq!(server.stat("dictionaries"), 0);
    assert_eq!(server.fill(&CLOUD, "new", 50), 50);
}

#[test]
fn after_a_catalogue_has_changed_as_many_tokens_are_held_as_before() {
    let server = Server::new(8, true);
    let other = Cloud::new(&RECORDED, 1);
    let before = server.fill(&CLOUD, "old", 20_000);
    assert!((14_000..20_000).contains(&before), "{before} are held");
    // Twice over, so that the old ones have gone.
    server.fill(&other, "between", 20_000);
    let after = server.fill(&other, "new", 20_000);
    assert!(after * 20 >= before * 19, "{after} of {before} are held");
}

#[test]
fn a_dictionary_goes_once_no_token_needs_it() {
    let server = Server::new(8, true);
    server.fill(&CLOUD, "old", 1_000);
    let dictionaries = server.stat("dictionaries");
    assert!(dictionaries > 1, "the first was made in haste");
    // The tokens expire, and what is set then fills the segment that the last of them lie in.
    server.wait(301);
    assert_eq!(server.fill(&CLOUD, "new", 300), 300);
    server.wait(61);
    assert!(server.stat("dictionaries") < dictionaries);
    assert_eq!(server.held(&CLOUD, "new", 300), 300);
}

#[test]
fn while_a_catalogue_changes_nothing_is_lost_that_has_room() {
    let server = Server::new(8, true);
    assert_eq!(server.fill(&CLOUD, "old", 2_000), 2_000);
    let other = Cloud::new(&RECORDED, 1);
    assert_eq!(server.fill(&other, "new", 2_000), 2_000);
    assert_eq!(server.held(&CLOUD, "old", 2_000), 2_000);
    assert_eq!(server.stat("evictions"), 0);
    assert!((2..=5).contains(&server.stat("dictionaries")));
}

#[test]
fn a_ninth_catalogue_waits_for_a_dictionary_that_is_out_of_use() {
    let server = Server::new(16, true);
    let clouds: Vec<Cloud> = (0..11)
        .map(|number| Cloud::new(&RECORDED, number))
        .collect();
    for (number, cloud) in clouds.iter().enumerate() {
        assert_eq!(server.fill(cloud, &format!("cloud{number}"), 120), 120);
    }
    assert_eq!(server.stat("dictionaries"), 8);
    assert_eq!(server.stat("evictions"), 0, "none is lost for another");
    for (number, cloud) in clouds.iter().enumerate() {
        assert_eq!(server.held(cloud, &format!("cloud{number}"), 120), 120);
    }
    // From now on only the last cloud is used.
    server.wait(61);
    server.fill(&clouds[10], "later", 3_000);
    server.wait(2);
    server.fill(&clouds[10], "later", 3_000);
    let before = server.stat("packed_into_bytes");
    server.fill(&clouds[10], "later", 1_000);
    let packed = server.stat("packed_into_bytes") - before;
    assert!(
        packed < 1_000 * 600,
        "{packed} bytes: it has its own by now"
    );
    assert!(server.stat("dictionaries") <= 8);
    // What needed the one dictionary that made room, among it tokens of clouds without one of their own.
    assert!(server.stat("evictions") > 0);
    let whole =
        |&number: &usize| server.held(&clouds[number], &format!("cloud{number}"), 120) == 120;
    let whole = (0..11).filter(whole).count();
    assert!(whole >= 3, "of {whole} clouds nothing was lost");
}

#[test]
fn under_m_no_dictionary_makes_a_token_leave() {
    let server = Server::new(64, false);
    let clouds: Vec<Cloud> = (0..11)
        .map(|number| Cloud::new(&RECORDED, number))
        .collect();
    for (number, cloud) in clouds.iter().take(10).enumerate() {
        assert_eq!(server.fill(cloud, &format!("cloud{number}"), 120), 120);
    }
    server.wait(100);
    server.fill(&clouds[10], "later", 4_000);
    server.wait(2);
    for (number, cloud) in clouds.iter().take(10).enumerate() {
        assert_eq!(server.held(cloud, &format!("cloud{number}"), 120), 120);
    }
    assert_eq!(server.stat("evictions"), 0);
}

#[test]
fn a_dictionary_whose_tokens_are_read_makes_no_room() {
    let server = Server::new(64, true);
    let clouds: Vec<Cloud> = (0..11)
        .map(|number| Cloud::new(&RECORDED, number))
        .collect();
    for (number, cloud) in clouds.iter().take(10).enumerate() {
        server.fill(cloud, &format!("cloud{number}"), 120);
    }
    for _ in 0..3 {
        server.wait(30);
        for (number, cloud) in clouds.iter().take(10).enumerate() {
            server.held(cloud, &format!("cloud{number}"), 120);
        }
    }
    server.wait(1);
    server.fill(&clouds[10], "later", 4_000);
    server.wait(2);
    assert_eq!(server.stat("evictions"), 0);
}

#[test]
fn one_dictionary_at_a_time_makes_room() {
    let server = Server::new(64, true);
    let clouds: Vec<Cloud> = (0..11)
        .map(|number| Cloud::new(&RECORDED, number))
        .collect();
    for (number, cloud) in clouds.iter().take(8).enumerate() {
        server.fill(cloud, &format!("cloud{number}"), 200);
    }
    let before = server.stat("dictionaries");
    server.wait(61);
    // Many offers between two rounds of housekeeping.
    server.fill(&clouds[10], "later", 12_000);
    server.wait(2);
    assert!(server.stat("dictionaries") + 1 >= before);
}

#[test]
fn dictionaries_go_until_they_take_a_quarter_of_a_limit_that_was_lowered() {
    let server = Server::new(64, true);
    for number in 0..6 {
        let cloud = Cloud::new(&RECORDED, number);
        // Tokens of 100 KB, the catalogue seven times over.
        for token in 0..40 {
            let json = cloud.token(token);
            let catalogue = corpus::find(&json, b"\"catalog\": [").unwrap() + 12;
            let last = b"\"ceilometer\"}";
            let rest = corpus::find(&json, last).unwrap() + last.len();
            let services = [&json[catalogue..rest], b", "].concat().repeat(7);
            let json = [&json[..catalogue], &services, &json[catalogue..]].concat();
            server.set(&format!("cloud{number}/{token}"), &json);
        }
    }
    assert!(server.stat("dictionary_bytes") > 2 << 20);
    assert_eq!(server.ask(b"cache_memlimit 8\r\n"), b"OK\r\n");
    server.wait(8);
    let bytes = server.stat("dictionary_bytes");
    assert!(bytes <= 2 << 20, "{bytes} are left");
    assert!(server.stat("dictionaries") >= 1);
}

#[test]
fn a_store_that_does_not_evict_keeps_every_token_it_took() {
    let server = Server::new(8, false);
    let mut stored = 0;
    while server.store("set", &format!("t/{stored}"), 0, &CLOUD.token(stored)) == "STORED\r\n" {
        stored += 1;
    }
    assert!(stored > 10_000, "{stored}");
    assert_eq!(server.held(&CLOUD, "t", stored), stored);
}

#[test]
fn a_dictionary_outlives_a_flush_and_holds_no_bearer_token() {
    let (server, token) = with_a_token();
    assert_eq!(server.ask(b"flush_all\r\n"), b"OK\r\n");
    server.wait(5);
    assert_eq!(server.stat("dictionaries"), 1);
    let mut front = vec![0; 1 << 20];
    server.heap.read_exact_at(&mut front, 0).unwrap();
    for number in 0..4 {
        let token = CLOUD.token(number);
        let bearer = corpus::bearer(&token);
        assert!(corpus::find(&front, &bearer[8..]).is_none());
    }
    assert!(corpus::find(&front, &token[token.len() / 2..][..200]).is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Set { key: u8, value: Kind, ttl: u8 },
    Add { key: u8, value: Kind },
    Append { key: u8, bytes: u16 },
    Get(u8),
    Touch(u8),
    Delete(u8),
    Flush,
    Wait(u8),
    TakeOver,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Token { cloud: u8, number: u16 },
    Signed { cloud: u8, number: u16 },
    Text(u16),
    Random(u16),
}

impl Kind {
    fn value(self, clouds: &[Cloud]) -> Vec<u8> {
        match self {
            Kind::Token { cloud, number } => {
                clouds[usize::from(cloud) % clouds.len()].token(usize::from(number))
            }
            Kind::Signed { cloud, number } => {
                let json = clouds[usize::from(cloud) % clouds.len()].token(usize::from(number));
                mac(&json, &mut Random::new(number.into()))
            }
            Kind::Text(bytes) => b"dogpile "
                .iter()
                .copied()
                .cycle()
                .take(bytes.into())
                .collect(),
            Kind::Random(bytes) => Random::new(bytes.into()).bytes(bytes.into()),
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => (0u8..3, any::<u16>()).prop_map(|(cloud, number)| Kind::Token { cloud, number }),
        2 => (0u8..3, any::<u16>()).prop_map(|(cloud, number)| Kind::Signed { cloud, number }),
        1 => (0u16..60_000).prop_map(Kind::Text),
        1 => (0u16..60_000).prop_map(Kind::Random),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (any::<u8>(), kind(), 1u8..60).prop_map(|(key, value, ttl)| Step::Set { key, value, ttl }),
        2 => (any::<u8>(), kind()).prop_map(|(key, value)| Step::Add { key, value }),
        2 => (any::<u8>(), 0u16..2_000).prop_map(|(key, bytes)| Step::Append { key, bytes }),
        8 => any::<u8>().prop_map(Step::Get),
        1 => any::<u8>().prop_map(Step::Touch),
        1 => any::<u8>().prop_map(Step::Delete),
        1 => (0u8..40).prop_map(Step::Wait),
        1 => Just(Step::TakeOver),
        1 => Just(Step::Flush),
    ]
}

/// A server and a map of what its clients have stored: value and second of expiry.
struct Model {
    server: Option<Server>,
    clouds: Vec<Cloud>,
    map: HashMap<u8, (Vec<u8>, u32)>,
}

impl Model {
    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn now(&self) -> u32 {
        self.server().clock.now().seconds
    }

    /// What a key holds, which is what the map holds or nothing.
    fn look(&mut self, key: u8) -> Option<Vec<u8>> {
        let now = self.now();
        let found = self.server().get(&format!("k/{key}"));
        let expected = self.map.get(&key).filter(|entry| entry.1 > now);
        if let Some(found) = &found {
            assert!(Some(found) == expected.map(|entry| &entry.0), "key {key}");
        }
        found
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Set { key, value, ttl } => {
                let value = value.value(&self.clouds);
                let reply = self
                    .server()
                    .store("set", &format!("k/{key}"), ttl.into(), &value);
                assert_eq!(reply, "STORED\r\n");
                self.map.insert(key, (value, self.now() + u32::from(ttl)));
            }
            Step::Add { key, value } => {
                let value = value.value(&self.clouds);
                let present = self.look(key).is_some();
                let reply = self.server().store("add", &format!("k/{key}"), 60, &value);
                assert_eq!(
                    reply,
                    if present {
                        "NOT_STORED\r\n"
                    } else {
                        "STORED\r\n"
                    }
                );
                if !present {
                    self.map.insert(key, (value, self.now() + 60));
                }
            }
            Step::Append { key, bytes } => {
                let added = vec![b'+'; bytes.into()];
                let present = self.look(key).is_some();
                let reply = self
                    .server()
                    .store("append", &format!("k/{key}"), 0, &added);
                assert_eq!(
                    reply,
                    if present {
                        "STORED\r\n"
                    } else {
                        "NOT_STORED\r\n"
                    }
                );
                if present {
                    self.map.get_mut(&key).unwrap().0.extend(added);
                }
            }
            Step::Get(key) => drop(self.look(key)),
            Step::Touch(key) => {
                let reply = self
                    .server()
                    .ask(format!("touch k/{key} 50\r\n").as_bytes());
                if reply == b"TOUCHED\r\n" {
                    self.map.get_mut(&key).unwrap().1 = self.now() + 50;
                }
            }
            Step::Delete(key) => {
                self.server().ask(format!("delete k/{key}\r\n").as_bytes());
                self.map.remove(&key);
            }
            Step::Flush => {
                self.server().ask(b"flush_all\r\n");
                self.map.clear();
            }
            Step::Wait(seconds) => self.server().wait(seconds.into()),
            Step::TakeOver => {
                let before: Vec<_> = (0..=u8::MAX)
                    .filter(|&key| self.look(key).is_some())
                    .collect();
                let server = self.server.take().unwrap();
                let (server, damaged) = server.taken_over(Options::default());
                assert_eq!(damaged, 0);
                self.server = Some(server);
                let after: Vec<_> = (0..=u8::MAX)
                    .filter(|&key| self.look(key).is_some())
                    .collect();
                assert_eq!(before, after);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packed_or_not_a_server_returns_only_what_a_map_would(
        steps in prop::collection::vec(step(), 1..250)
    ) {
        let clouds = (0..3).map(|number| Cloud::new(&RECORDED, number)).collect();
        let mut model = Model { server: Some(Server::new(8, true)), clouds, map: HashMap::new() };
        steps.iter().for_each(|step| model.step(step));
        (0..=u8::MAX).for_each(|key| drop(model.look(key)));
        prop_assert_eq!(model.server().stat("get_unreadable"), 0);
    }
}
