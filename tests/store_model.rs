//! The store against a plain map, in virtual time.
//!
//! Random operations run on both. After every step the store's account equals the sum over its
//! segments, the limit holds, and nothing that expired, was deleted or was flushed is returned.
//! Items may leave for room at any time, so an absent item is right whenever the store evicts; a
//! present one must be the model's, byte for byte. At any step the heap may be taken over by a new
//! store, which must give the same items.

use std::collections::HashMap;

use proptest::prelude::*;
use tokencached::store::{AT_ONCE, Cause, Condition, NEVER, Options, Outcome, Put, Refusal, Store};

#[derive(Clone, Debug)]
enum Step {
    Put {
        key: u8,
        value_bytes: usize,
        seed: u8,
        ttl: Ttl,
        condition: Kind,
    },
    Get(u8),
    Touch(u8, Ttl),
    Delete(u8),
    Flush(Option<u32>),
    Wait(u32),
    Housekeep,
    Limit(u64),
    Upload {
        key: u8,
        value_bytes: usize,
        seed: u8,
        finish: bool,
    },
    TakeOver,
}

#[derive(Clone, Copy, Debug)]
enum Ttl {
    Never,
    AtOnce,
    Seconds(u32),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Always,
    Absent,
    Present,
    RightUnique,
    WrongUnique,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    value: Vec<u8>,
    client_flags: u32,
    expiry: u32,
    unique: u64,
}

const START: u32 = 10_000;

fn value(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (at as u8).wrapping_mul(31) ^ seed)
        .collect()
}

fn key(number: u8) -> Vec<u8> {
    let mut key = format!("tokens/{number}").into_bytes();
    key.resize(key.len() + usize::from(number), b'k');
    key.truncate(250);
    key
}

struct Run {
    store: Store,
    options: Options,
    model: HashMap<u8, Entry>,
    now: u32,
    flush_at: Option<u32>,
}

impl Run {
    fn new(options: Options) -> Run {
        Run {
            store: Store::new(&options).unwrap(),
            options,
            model: HashMap::new(),
            now: START,
            flush_at: None,
        }
    }

    fn expiry(&self, ttl: Ttl) -> u32 {
        match ttl {
            Ttl::Never => NEVER,
            Ttl::AtOnce => AT_ONCE,
            Ttl::Seconds(seconds) => self.now + seconds,
        }
    }

    /// Forgets in the model what time and flushes have ended.
    fn settle(&mut self) {
        if self.flush_at.is_some_and(|second| second <= self.now) {
            self.model.clear();
            self.flush_at = None;
        }
        let now = self.now;
        self.model
            .retain(|_, entry| entry.expiry == NEVER || entry.expiry > now);
    }

    /// What the store holds of a key; checked against the model.
    fn look(&mut self, number: u8) -> Option<Entry> {
        let found = self.store.peek(&key(number), self.now).ok()?;
        let mut bytes = Vec::new();
        while bytes.len() < found.len() {
            bytes.extend_from_slice(found.piece(bytes.len()));
        }
        let expected = self
            .model
            .get(&number)
            .expect("the store holds only what the model holds");
        assert_eq!(bytes, expected.value);
        assert_eq!(found.client_flags(), expected.client_flags);
        assert_eq!(found.cas_unique(), expected.unique);
        Some(expected.clone())
    }

    fn put(&mut self, number: u8, bytes: Vec<u8>, ttl: Ttl, kind: Kind) {
        let present = self.look(number);
        if present.is_none() {
            self.model.remove(&number);
        }
        let condition = match (kind, &present) {
            (Kind::Always, _) => Condition::Always,
            (Kind::Absent, _) => Condition::Absent,
            (Kind::Present, _) => Condition::Present,
            (Kind::RightUnique, Some(entry)) => Condition::Unique(entry.unique),
            (Kind::RightUnique, None) | (Kind::WrongUnique, _) => Condition::Unique(u64::MAX),
        };
        let expected_met = match (kind, &present) {
            (Kind::Always, _) => true,
            (Kind::Absent, present) => present.is_none(),
            (Kind::Present | Kind::RightUnique, present) => present.is_some(),
            (Kind::WrongUnique, _) => false,
        };
        let expiry = self.expiry(ttl);
        let client_flags = u32::from(number) * 7;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let put = Put {
            key: &key(number),
            value: &[first, second],
            client_flags,
            expiry: Some(expiry),
            condition,
        };
        match self.store.put(&put, self.now) {
            Ok(Outcome::Stored(unique)) => {
                assert!(expected_met);
                let entry = Entry {
                    value: bytes,
                    client_flags,
                    expiry,
                    unique,
                };
                self.model.insert(number, entry);
            }
            Ok(_) => assert!(!expected_met),
            Err(Refusal::TooLarge) => {
                assert!(!self.store.item_fits(key(number).len(), bytes.len()))
            }
            Err(Refusal::OutOfMemory) => {
                assert!(!self.options.evict, "an evicting store finds room")
            }
        }
    }

    fn upload(&mut self, number: u8, bytes: Vec<u8>, finish: bool) {
        let name = key(number);
        if !self.store.is_large(name.len(), bytes.len()) {
            return;
        }
        let Ok(mut upload) = self.store.begin_upload(&name, bytes.len(), self.now) else {
            return;
        };
        for piece in bytes.chunks(40_000) {
            upload.write(piece);
        }
        if !finish {
            return;
        }
        let put = Put {
            key: &name,
            value: &[],
            client_flags: 9,
            expiry: Some(NEVER),
            condition: Condition::Always,
        };
        let Outcome::Stored(unique) = upload.finish(&put, self.now) else {
            panic!("an unconditional upload is stored");
        };
        let entry = Entry {
            value: bytes,
            client_flags: 9,
            expiry: NEVER,
            unique,
        };
        self.model.insert(number, entry);
    }

    fn take_over(&mut self) {
        let before: Vec<(u8, Entry)> = (0..=u8::MAX)
            .filter_map(|number| self.look(number).map(|entry| (number, entry)))
            .collect();
        let file = self.store.file().try_clone_to_owned().unwrap();
        let options = Options {
            memory_limit_bytes: self.store.usage().limit_bytes,
            ..self.options.clone()
        };
        let (store, recovered) = Store::open(file, &options, self.now).unwrap();
        assert_eq!(recovered.damaged, 0);
        self.store = store;
        let after: Vec<(u8, Entry)> = (0..=u8::MAX)
            .filter_map(|number| self.look(number).map(|entry| (number, entry)))
            .collect();
        assert_eq!(before, after);
        assert_eq!(recovered.items, before.len() as u64);
    }

    fn step(&mut self, step: &Step) {
        self.settle();
        match *step {
            Step::Put {
                key,
                value_bytes,
                seed,
                ttl,
                condition,
            } => {
                self.put(key, value(seed, value_bytes), ttl, condition);
            }
            Step::Get(number) => {
                let _ = self.store.get(&key(number), self.now);
                if self.look(number).is_none() && !self.options.evict {
                    assert!(!self.model.contains_key(&number), "nothing leaves under -M");
                }
            }
            Step::Touch(number, ttl) => {
                let expiry = self.expiry(ttl);
                if self
                    .store
                    .get_and_touch(&key(number), expiry, self.now)
                    .is_ok()
                {
                    self.model.get_mut(&number).unwrap().expiry = expiry;
                }
            }
            Step::Delete(number) => {
                let present = self.look(number).is_some();
                assert_eq!(self.store.delete(&key(number), self.now), present);
                self.model.remove(&number);
            }
            Step::Flush(None) => {
                self.store.flush(None);
                self.model.clear();
                self.flush_at = None;
            }
            Step::Flush(Some(seconds)) => {
                self.store.flush(Some(self.now + seconds));
                self.flush_at = Some(self.now + seconds);
            }
            Step::Wait(seconds) => self.now += seconds,
            Step::Housekeep => self.store.housekeep(self.now),
            Step::Limit(megabytes) => {
                assert!(self.store.set_memory_limit(megabytes << 20, self.now));
            }
            Step::Upload {
                key,
                value_bytes,
                seed,
                finish,
            } => {
                self.upload(key, value(seed, value_bytes), finish);
            }
            Step::TakeOver => self.take_over(),
        }
        self.settle();
        let audit = self.store.audit().unwrap();
        let usage = self.store.usage();
        assert_eq!(
            (audit.items, audit.item_bytes),
            (usage.items, usage.item_bytes)
        );
        assert_eq!(audit.damaged, 0);
    }

    fn look_at_all(&mut self) {
        self.settle();
        for number in 0..=u8::MAX {
            self.look(number);
        }
    }
}

fn ttl() -> impl Strategy<Value = Ttl> {
    prop_oneof![
        2 => Just(Ttl::Never),
        1 => Just(Ttl::AtOnce),
        6 => (1u32..40).prop_map(Ttl::Seconds),
    ]
}

fn value_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0usize..300,
        6 => 8_000usize..30_000,
        2 => 30_000usize..70_000,
        1 => 70_000usize..900_000,
        1 => 1_000_000usize..1_100_000,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let condition = prop_oneof![
        6 => Just(Kind::Always),
        1 => Just(Kind::Absent),
        1 => Just(Kind::Present),
        1 => Just(Kind::RightUnique),
        1 => Just(Kind::WrongUnique),
    ];
    prop_oneof![
        20 => (any::<u8>(), value_bytes(), any::<u8>(), ttl(), condition).prop_map(
            |(key, value_bytes, seed, ttl, condition)| Step::Put { key, value_bytes, seed, ttl, condition }
        ),
        6 => any::<u8>().prop_map(Step::Get),
        2 => (any::<u8>(), ttl()).prop_map(|(key, ttl)| Step::Touch(key, ttl)),
        2 => any::<u8>().prop_map(Step::Delete),
        1 => prop_oneof![3 => Just(None), 1 => (1u32..20).prop_map(Some)].prop_map(Step::Flush),
        3 => (1u32..8).prop_map(Step::Wait),
        1 => Just(Step::Housekeep),
        1 => (8u64..24).prop_map(Step::Limit),
        2 => (any::<u8>(), 70_000usize..1_000_000, any::<u8>(), any::<bool>()).prop_map(
            |(key, value_bytes, seed, finish)| Step::Upload { key, value_bytes, seed, finish }
        ),
        1 => Just(Step::TakeOver),
    ]
}

fn options(evict: bool) -> Options {
    Options {
        memory_limit_bytes: 8 << 20,
        memory_ceiling_bytes: 32 << 20,
        item_bytes_max: 1 << 20,
        evict,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_evicting_store_returns_only_what_a_map_would(
        steps in prop::collection::vec(step(), 1..400)
    ) {
        let mut run = Run::new(options(true));
        steps.iter().for_each(|step| run.step(step));
        run.look_at_all();
    }

    #[test]
    fn a_store_that_does_not_evict_returns_exactly_what_a_map_would(
        steps in prop::collection::vec(step(), 1..400)
    ) {
        let mut run = Run::new(options(false));
        steps.iter().for_each(|step| run.step(step));
        run.look_at_all();
    }
}

fn put(store: &Store, key: &str, value: &[u8], expiry: u32, now: u32) -> Result<Outcome, Refusal> {
    let put = Put {
        key: key.as_bytes(),
        value: &[value],
        client_flags: 0,
        expiry: Some(expiry),
        condition: Condition::Always,
    };
    store.put(&put, now)
}

#[test]
fn tokens_in_use_outlive_a_flood_of_tokens_used_once() {
    let store = Store::new(&options(true)).unwrap();
    let bytes = [7; 8_000];
    for number in 0..800 {
        put(
            &store,
            &format!("token/{number}"),
            &bytes,
            START + 300,
            START,
        )
        .unwrap();
    }
    let used = || (0..800).step_by(8).map(|number| format!("token/{number}"));
    for key in used() {
        assert!(store.get(key.as_bytes(), START + 6).is_ok());
    }
    for number in 0..5_000 {
        put(
            &store,
            &format!("flood/{number}"),
            &bytes,
            START + 306,
            START + 6,
        )
        .unwrap();
    }
    let kept = used().filter(|key| store.get(key.as_bytes(), START + 7).is_ok());
    assert_eq!(kept.count(), 100);
    assert!(store.counts().removed(Cause::Evicted) > 4_000);
}

#[test]
fn a_key_that_returns_from_the_ghost_goes_straight_to_main() {
    let store = Store::new(&options(true)).unwrap();
    let bytes = [7; 8_000];
    put(&store, "comes back", &bytes, START + 300, START).unwrap();
    for number in 0..1_200 {
        put(
            &store,
            &format!("flood/{number}"),
            &bytes,
            START + 300,
            START,
        )
        .unwrap();
    }
    assert!(store.get(b"comes back", START).is_err());
    put(&store, "comes back", &bytes, START + 300, START).unwrap();
    assert_eq!(
        store
            .counters()
            .returned
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
    for number in 0..5_000 {
        put(
            &store,
            &format!("second/{number}"),
            &bytes,
            START + 300,
            START,
        )
        .unwrap();
    }
    assert!(store.get(b"comes back", START).is_ok());
}

#[test]
fn what_has_expired_makes_room_before_what_has_not() {
    let store = Store::new(&options(true)).unwrap();
    let bytes = [7; 8_000];
    for number in 0..700 {
        put(
            &store,
            &format!("short/{number}"),
            &bytes,
            START + 10,
            START,
        )
        .unwrap();
    }
    for number in 0..700 {
        put(
            &store,
            &format!("long/{number}"),
            &bytes,
            START + 300,
            START + 20,
        )
        .unwrap();
    }
    assert_eq!(store.counts().removed(Cause::Evicted), 0);
    assert!(store.counts().removed(Cause::Expired) > 300);
}

#[test]
fn header_and_index_cost_at_most_56_bytes_an_item() {
    let store = Store::new(&Options::default()).unwrap();
    let items = 100_000;
    for number in 0..items {
        put(&store, &format!("{number:012}"), &[7; 100], NEVER, START).unwrap();
    }
    let usage = store.usage();
    assert_eq!(usage.items, items);
    let overhead = usage.item_bytes - items * 112 + usage.table_bytes;
    assert!(
        overhead <= 56 * items,
        "{} bytes an item",
        overhead as f64 / items as f64
    );
}

#[test]
fn a_herd_that_sets_one_token_again_and_again_takes_its_room_once() {
    let store = Store::new(&options(true)).unwrap();
    for _ in 0..10_000 {
        put(&store, "token", &[7; 13_000], START + 300, START).unwrap();
    }
    let usage = store.usage();
    assert_eq!(usage.items, 1);
    assert_eq!(usage.segment_bytes, 64 << 10);
}

#[test]
fn a_value_being_read_is_never_written_over() {
    let store = Store::new(&options(true)).unwrap();
    put(&store, "token", &[1; 8_000], NEVER, START).unwrap();
    let held = store.get(b"token", START).unwrap();
    put(&store, "token", &[2; 8_000], NEVER, START).unwrap();
    for number in 0..5_000 {
        put(
            &store,
            &format!("flood/{number}"),
            &[3; 8_000],
            NEVER,
            START,
        )
        .unwrap();
    }
    assert_eq!(held.piece(0), [1; 8_000]);
}

#[test]
fn a_damaged_item_is_dropped_when_the_heap_is_taken_over() {
    use std::os::unix::fs::FileExt;
    let store = Store::new(&options(true)).unwrap();
    put(&store, "damaged", b"needle in the heap", NEVER, START).unwrap();
    put(&store, "sound", b"another value", NEVER, START).unwrap();
    let file = std::fs::File::from(store.file().try_clone_to_owned().unwrap());
    let mut heap = vec![0; 1 << 20];
    file.read_exact_at(&mut heap, 0).unwrap();
    let at = heap
        .windows(6)
        .position(|bytes| bytes == b"needle")
        .unwrap();
    file.write_all_at(b"N", at as u64).unwrap();
    let (taken, recovered) = Store::open(file.into(), &options(true), START).unwrap();
    assert_eq!((recovered.items, recovered.damaged), (1, 1));
    assert!(taken.get(b"damaged", START).is_err() && taken.get(b"sound", START).is_ok());
}

#[test]
fn threads_that_read_write_and_evict_at_once_never_see_anothers_value() {
    let store = Store::new(&options(true)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let store = &store;
            scope.spawn(move || {
                let mut state = thread + 1;
                for round in 0..20_000u32 {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let number = (state >> 33) % 400;
                    let name = format!("tokens/{number}");
                    let fill = number as u8;
                    match state >> 60 {
                        0..6 => {
                            let bytes = vec![fill; 500 + (state >> 20) as usize % 40_000];
                            put(store, &name, &bytes, START + 50, START + round / 500).unwrap();
                        }
                        6 => drop(store.delete(name.as_bytes(), START)),
                        _ => {
                            if let Ok(found) = store.get(name.as_bytes(), START + round / 500) {
                                assert!(found.piece(0).iter().all(|&byte| byte == fill));
                            }
                        }
                    }
                }
            });
        }
    });
    assert_eq!(store.audit().unwrap().damaged, 0);
}
