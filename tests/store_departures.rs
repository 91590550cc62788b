//! How items leave the store, as it remembers and counts that: why a key is not there, how long a value was
//! held, how often it was read.

use tokencached::store::{
    Cause, Condition, Marks, Miss, NEVER, Options, Outcome, Packing, Put, Store,
};

const START: u32 = 1_000;
const VALUE: [u8; 10_000] = [b'v'; 10_000];

fn store() -> Store {
    let options = Options {
        memory_limit_bytes: 8 << 20,
        memory_ceiling_bytes: 8 << 20,
        hash_seed: Some(1),
        ..Options::default()
    };
    Store::new(&options).unwrap()
}

/// Stores a value; says how its key left before.
fn put(store: &Store, key: &str, value: &[u8], expiry: u32, now: u32) -> Option<Cause> {
    let put = Put {
        key: key.as_bytes(),
        value: &[value],
        packing: Packing::NONE,
        class: 0,
        client_flags: 0,
        expiry: Some(expiry),
        condition: Condition::Always,
        cas_unique: None,
        marks: Marks::default(),
    };
    match store.put(&put, now).unwrap() {
        Outcome::Stored { left, .. } => left,
        outcome => panic!("{outcome:?}"),
    }
}

fn miss(store: &Store, key: &str, now: u32) -> Miss {
    store.get(key.as_bytes(), now).map(drop).unwrap_err()
}

fn keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("key-{number}"))
}

#[test]
fn a_key_that_is_not_there_is_known_by_how_it_left() {
    let store = store();
    assert_eq!(miss(&store, "never", START).cause(), None);
    for key in ["expired", "deleted", "kept"] {
        assert_eq!(put(&store, key, b"v", START + 10, START), None);
    }
    assert!(store.delete(b"deleted", START));
    let deleted = Some(Cause::Deleted);
    assert_eq!(miss(&store, "deleted", START).cause(), deleted);
    assert_eq!(miss(&store, "expired", START + 10), Miss::Expired);
    store.flush(None, START);
    assert_eq!(miss(&store, "kept", START), Miss::Flushed);
    assert_eq!(miss(&store, "deleted", START).cause(), deleted);
    assert_eq!(miss(&store, "never", START).cause(), None);
}

#[test]
fn a_key_is_known_by_how_it_left_once_its_segment_is_free_too() {
    let store = store();
    for key in keys(300) {
        put(&store, &key, &VALUE, START + 10, START);
    }
    for key in keys(300).step_by(2) {
        assert!(store.get(key.as_bytes(), START).is_ok());
    }
    store.housekeep(START + 11);
    assert!(store.counts().removed(Cause::Expired) > 280);
    // Read or not; of a few the bucket may be full.
    let causes = keys(300).map(|key| miss(&store, &key, START + 11).cause());
    let expired = causes.filter(|&cause| cause == Some(Cause::Expired));
    let expired = expired.count();
    assert!(expired > 290, "{expired}");
    for key in keys(300) {
        put(&store, &key, &VALUE, NEVER, START + 20);
    }
    store.flush(None, START + 20);
    store.housekeep(START + 20);
    assert!(store.counts().removed(Cause::Flushed) > 280);
    let flushed =
        keys(300).filter(|key| miss(&store, key, START + 20).cause() == Some(Cause::Flushed));
    assert!(flushed.count() > 280);
}

#[test]
fn a_key_that_made_room_is_known_to_have_been_evicted() {
    let store = store();
    for key in keys(1_500) {
        put(&store, &key, &VALUE, START + 300, START);
    }
    let is_there = |key: &String| store.get(key.as_bytes(), START).is_ok();
    let gone: Vec<String> = keys(1_500).filter(|key| !is_there(key)).collect();
    assert_eq!(gone.len() as u64, store.counts().removed(Cause::Evicted));
    assert!(gone.len() > 500);
    let causes = gone.iter().map(|key| miss(&store, key, START).cause());
    let evicted = causes.filter(|&cause| cause == Some(Cause::Evicted));
    // Of a few the bucket may be full.
    assert!(evicted.count() * 100 > gone.len() * 97);
}

#[test]
fn a_key_that_made_room_and_would_have_expired_since_counts_as_expired() {
    let store = store();
    for key in keys(1_500) {
        put(&store, &key, &VALUE, START + 300, START);
    }
    let gone = |key: &String| store.get(key.as_bytes(), START).is_err();
    let gone: Vec<String> = keys(1_500).filter(gone).collect();
    let count = |cause, now| {
        let causes = gone.iter().map(|key| miss(&store, key, now).cause());
        causes.filter(|&found| found == Some(cause)).count()
    };
    let known = count(Cause::Evicted, START);
    assert!(known > 500, "{known}");
    // The time that was left is remembered within a tenth.
    assert_eq!(count(Cause::Evicted, START + 260), known);
    assert_eq!(count(Cause::Expired, START + 335), known);
    assert_eq!(count(Cause::Evicted, START + 335), 0);
    let returned = gone
        .iter()
        .map(|key| put(&store, key, b"v", START + 900, START + 335));
    assert!(
        !returned
            .into_iter()
            .any(|left| left == Some(Cause::Evicted))
    );
}

#[test]
fn who_stores_a_key_again_is_told_how_it_left() {
    let store = store();
    put(&store, "deleted", b"v", NEVER, START);
    put(&store, "expired", b"v", START + 5, START);
    put(&store, "flushed", b"v", NEVER, START);
    store.delete(b"deleted", START);
    assert_eq!(
        put(&store, "deleted", b"v", NEVER, START),
        Some(Cause::Deleted)
    );
    assert_eq!(
        put(&store, "deleted", b"v", NEVER, START),
        None,
        "it is there"
    );
    let expired = put(&store, "expired", b"v", NEVER, START + 5);
    assert_eq!(expired, Some(Cause::Expired));
    store.flush(None, START + 5);
    let flushed = put(&store, "flushed", b"v", NEVER, START + 5);
    assert_eq!(flushed, Some(Cause::Flushed));
    store.delete(b"flushed", START + 5);
    let large = [0; 60_000];
    let deleted = put(&store, "flushed", &large, NEVER, START + 5);
    assert_eq!(deleted, Some(Cause::Deleted), "a large value");
}

/// How many values left for a cause, how long they were held together, and how often they were read together.
fn departed(store: &Store, cause: Cause) -> (u64, u64, u64) {
    let held = store.departures().held_seconds(cause).read();
    let reads = store.departures().reads(cause).read();
    let items = held.counts.iter().sum();
    assert_eq!(reads.counts.iter().sum::<u64>(), items);
    (items, held.sum, reads.sum)
}

#[test]
fn what_leaves_is_counted_with_how_long_it_was_held_and_how_often_it_was_read() {
    let store = store();
    for key in ["deleted", "replaced", "expired", "flushed"] {
        put(&store, key, b"value", START + 100, START);
        for _ in 0..3 {
            assert!(store.get(key.as_bytes(), START + 1).is_ok());
        }
    }
    store.delete(b"deleted", START + 40);
    assert_eq!(departed(&store, Cause::Deleted), (1, 40, 3));
    // Over its old value, then beside it.
    put(&store, "replaced", b"short", START + 100, START + 20);
    put(
        &store,
        "replaced",
        b"longer than before",
        START + 100,
        START + 50,
    );
    assert_eq!(departed(&store, Cause::Replaced), (2, 20 + 30, 3));
    // Long after its time is over.
    put(&store, "expired", b"v", NEVER, START + 5_000);
    assert_eq!(departed(&store, Cause::Expired), (1, 100, 3));
    assert_eq!(departed(&store, Cause::Evicted), (0, 0, 0));
    store.flush(None, START + 60);
    put(&store, "flushed", b"v", NEVER, START + 60);
    assert_eq!(departed(&store, Cause::Flushed), (1, 60, 3));
}

#[test]
fn what_made_room_is_counted_with_the_share_of_its_time_that_it_had() {
    let store = store();
    for (number, key) in keys(3_000).enumerate() {
        let now = START + number as u32 / 10;
        put(&store, &key, &VALUE, now + 300, now);
    }
    let share = &store.departures().evicted_ttl_percent;
    let counted = share.read();
    let items: u64 = counted.counts.iter().sum();
    assert_eq!(items, store.counts().removed(Cause::Evicted));
    // Some 750 of these are held, so each was for some 75 seconds of its 300.
    let within = share.bounds().iter().zip(&counted.counts);
    let between = |from, to| {
        let within = within
            .clone()
            .filter(|&(&bound, _)| (from..=to).contains(&bound));
        within.map(|(_, count)| count).sum::<u64>()
    };
    assert_eq!((between(0, 10), between(20, 40)), (0, items));
    assert!((15..35).contains(&(counted.sum / items)));
    assert_eq!(departed(&store, Cause::Evicted).2, 0);
    // Without a time to live there is no share of it.
    let lasting = self::store();
    for key in keys(1_500) {
        put(&lasting, &key, &VALUE, NEVER, START);
    }
    assert!(lasting.counts().removed(Cause::Evicted) > 500);
    let share = lasting.departures().evicted_ttl_percent.read();
    assert_eq!(share.counts.iter().sum::<u64>(), 0);
}
