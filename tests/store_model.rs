//! The store against a plain map, in virtual time.
//!
//! Random operations run on both, as `common/store_run.rs` describes; then what single rules promise.

#[path = "common/store_run.rs"]
mod store_run;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU16};

use proptest::prelude::*;
use store_run::{Kind, Run, START, Step, Ttl, options};
use tokencached::store::{
    Cause, Condition, DictionaryNumber, Eviction, Fetch, Invalidation, Marks, NEVER, Options,
    Outcome, Packing, Put, Refusal, Store,
};

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
        20 => (any::<u8>(), value_bytes(), any::<u8>(), ttl(), condition, any::<u8>()).prop_map(
            |(key, value_bytes, seed, ttl, condition, packed)| {
                Step::Put { key, value_bytes, seed, ttl, condition, packed }
            }
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
        2 => (0u16..50_000).prop_map(Step::AddDictionary),
        1 => any::<u8>().prop_map(Step::CloseDictionary),
        1 => any::<u8>().prop_map(Step::EvictDictionary),
        1 => Just(Step::FreeDictionaries),
        1 => Just(Step::TakeOver),
    ]
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
        packing: Packing::NONE,
        class: 0,
        client_flags: 0,
        expiry: Some(expiry),
        condition: Condition::Always,
        cas_unique: None,
        marks: Marks::default(),
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
    assert_eq!(store.counts().returned, 1);
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

fn store_with(eviction: Eviction) -> Store {
    let options = Options {
        eviction,
        ..options(true)
    };
    Store::new(&options).unwrap()
}

/// Looks up and, as a client does, puts after a miss; says whether it was a hit.
fn use_token(store: &Store, key: &str, second: u32) -> bool {
    let hit = store.get(key.as_bytes(), START + second).is_ok();
    if !hit {
        let expiry = START + second + 1_000;
        put(store, key, &[7; 8_000], expiry, START + second).unwrap();
    }
    hit
}

/// So many new tokens a second, each used once more `later` seconds after. Gives the hits among
/// the second uses, in percent.
fn turn_over(store: &Store, seconds: std::ops::Range<u32>, tokens: u32, later: u32) -> u32 {
    let mut hits = 0;
    let second_uses = seconds.len() as u32 * tokens;
    for second in seconds {
        for number in 0..tokens {
            use_token(store, &format!("{second}/{number}"), second);
            let earlier = second.checked_sub(later);
            hits +=
                u32::from(earlier.is_some_and(|earlier| {
                    use_token(store, &format!("{earlier}/{number}"), second)
                }));
        }
    }
    hits * 100 / second_uses
}

#[test]
fn a_key_that_comes_back_later_than_items_stay_in_main_starts_anew() {
    // So that each token goes to main, which then turns over in some 40 s.
    let eviction = Eviction {
        probation_percent_max: 20,
        idle_percent: 100,
        ..Eviction::default()
    };
    let store = store_with(eviction);
    turn_over(&store, 0..150, 20, 7);
    use_token(&store, "late", 150);
    turn_over(&store, 150..220, 20, 7);
    use_token(&store, "soon", 220);
    turn_over(&store, 220..240, 20, 7);
    let returned = |key: &str| {
        let before = store.counts().returned;
        assert!(!use_token(&store, key, 240), "{key} was pushed out");
        store.counts().returned - before
    };
    assert_eq!(returned("late"), 0, "it was away for 90 s");
    assert_eq!(returned("soon"), 1, "it was away for 20 s");
}

#[test]
fn what_was_used_at_first_and_then_no_more_leaves_with_probation() {
    // Small items, and large ones with a segment of their own; the store holds 125 seconds of either.
    for (bytes, items_per_second) in [(8_000, 8), (40_000, 1)] {
        let store = Store::new(&options(true)).unwrap();
        let value = vec![7; bytes];
        let add = |key: &str, second: u32| {
            put(&store, key, &value, START + 1_000, START + second).unwrap();
        };
        add("early", 0);
        add("late", 0);
        for second in 0..160 {
            for number in 0..items_per_second {
                add(&format!("{second}/{number}"), second);
            }
            match second {
                6 => assert!(store.get(b"early", START + second).is_ok()),
                100 => assert!(store.get(b"late", START + second).is_ok()),
                _ => {}
            }
        }
        assert!(store.peek(b"early", START + 160).is_err(), "{bytes} bytes");
        assert!(store.peek(b"late", START + 160).is_ok(), "{bytes} bytes");
    }
}

#[test]
fn probation_takes_the_room_that_keys_come_back_for() {
    let hits = |eviction: Eviction| {
        let store = store_with(eviction);
        turn_over(&store, 0..400, 50, 10);
        turn_over(&store, 400..500, 50, 10)
    };
    // 10 s are 500 tokens, half of what the store holds.
    let never_grows = Eviction {
        probation_gain: 0,
        ..Eviction::default()
    };
    assert!(hits(never_grows) < 10);
    assert!(hits(Eviction::default()) > 90);
}

#[test]
fn main_takes_its_room_back_when_its_keys_come_back() {
    let store = Store::new(&options(true)).unwrap();
    turn_over(&store, 0..100, 50, 10);
    // Now 800 tokens are used every 20 s, in a flood of 50 a second that are used once.
    let mut hits = 0;
    for second in 100..600 {
        for number in 0..50 {
            use_token(&store, &format!("flood/{second}/{number}"), second);
        }
        for number in 0..40 {
            let hit = use_token(&store, &format!("steady/{}/{number}", second % 20), second);
            hits += u32::from(hit && second >= 500);
        }
    }
    assert!(hits > 3_200, "{hits} of 4,000");
}

#[test]
fn what_never_expires_leaves_once_nobody_has_read_it_for_a_while() {
    let store = Store::new(&options(true)).unwrap();
    let bytes = [7; 8_000];
    for key in ["read", "forgotten"] {
        put(&store, key, &bytes, NEVER, START).unwrap();
        assert!(store.get(key.as_bytes(), START + 6).is_ok());
    }
    assert!(store.get(b"read", START + 320).is_ok());
    for number in 0..20 {
        // So that the others' segment is full, and its turn comes.
        put(
            &store,
            &format!("filler/{number}"),
            &bytes,
            NEVER,
            START + 320,
        )
        .unwrap();
    }
    for number in 0..1_500 {
        put(
            &store,
            &format!("flood/{number}"),
            &bytes,
            START + 1_000,
            START + 320,
        )
        .unwrap();
    }
    assert!(store.get(b"read", START + 320).is_ok());
    assert!(store.get(b"forgotten", START + 320).is_err());
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
fn nothing_leaves_when_a_full_heap_is_taken_over() {
    for value_bytes in [5_000, 20_000, 60_000, 400_000, 1_000_000] {
        let mut run = Run::new(options(true));
        for number in 0..=u8::MAX {
            run.step(&Step::Put {
                key: number,
                value_bytes,
                seed: number,
                ttl: Ttl::Never,
                condition: Kind::Always,
                packed: 0,
            });
            if number % 16 == 15 {
                run.step(&Step::TakeOver);
            }
        }
    }
}

#[test]
fn a_damaged_item_is_dropped_when_the_heap_is_taken_over() {
    use std::os::unix::fs::FileExt;
    let store = Store::new(&options(true)).unwrap();
    put(&store, "damaged", b"needle in the heap", NEVER, START).unwrap();
    put(&store, "sound", b"another value", NEVER, START).unwrap();
    let file = std::fs::File::from(store.file().try_clone_to_owned().unwrap());
    let mut heap = vec![0; 2 << 20];
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
fn a_stale_item_is_still_stale_when_the_heap_is_taken_over() {
    let store = Store::new(&options(true)).unwrap();
    put(&store, "stale", b"value", NEVER, START).unwrap();
    let invalidation = Invalidation {
        expiry: Some(START + 50),
        cas_unique: Some(u64::MAX),
        ..Invalidation::default()
    };
    store.invalidate(b"stale", &invalidation, START).unwrap();
    let file = store.file().try_clone_to_owned().unwrap();
    let (taken, recovered) = Store::open(file, &options(true), START).unwrap();
    assert_eq!((recovered.items, recovered.damaged), (1, 0));
    let fetch = |now| taken.fetch(b"stale", &Fetch::default(), now);
    let (item, seen) = fetch(START + 1).unwrap();
    assert_eq!(item.cas_unique(), u64::MAX);
    assert!(seen.won && seen.marks.stale && !seen.marks.token_sent && !seen.marks.fetched);
    let (_, seen) = fetch(START + 2).unwrap();
    assert!(!seen.won && seen.marks.stale && seen.marks.token_sent && seen.marks.fetched);
    assert_eq!((seen.expiry, seen.accessed_at), (START + 50, START + 1));
    assert!(fetch(START + 50).is_err());
}

#[test]
fn a_heap_that_ends_whoever_reads_it_is_not_read_a_third_time() {
    let store = Store::new(&options(true)).unwrap();
    put(&store, "key", b"value", NEVER, START).unwrap();
    let open = || {
        let file = store.file().try_clone_to_owned().unwrap();
        Store::open(file, &options(true), START)
    };
    assert!(open().is_ok() && open().is_ok());
    let error = open().unwrap_err().to_string();
    assert!(error.contains("2 processes in a row"), "{error}");
    // Whoever made it has lived long enough.
    store.prove();
    let (taken, recovered) = open().unwrap();
    assert_eq!(recovered.items, 1);
    taken.prove();
    assert!(open().is_ok() && open().is_ok() && open().is_err());
}

#[test]
fn a_heap_is_taken_over_with_other_limits_as_far_as_it_was_made_for_them() {
    let first = options(true);
    let store = Store::new(&first).unwrap();
    put(&store, "small", b"value", NEVER, START).unwrap();
    put(&store, "large", &[b'v'; 5_000], NEVER, START).unwrap();
    let open = |options: &Options| {
        let file = store.file().try_clone_to_owned().unwrap();
        let (taken, recovered) = Store::open(file, options, START).unwrap();
        taken.prove();
        (taken, recovered)
    };
    let ceiling = first.memory_ceiling_bytes.max(first.memory_limit_bytes);
    let (taken, recovered) = open(&Options {
        memory_limit_bytes: 4 * ceiling,
        memory_ceiling_bytes: 8 * ceiling,
        item_bytes_max: u32::MAX,
        ..first.clone()
    });
    assert_eq!(recovered.items, 2);
    let limit = taken.usage().limit_bytes;
    assert!((ceiling..2 * ceiling).contains(&limit), "{limit}");
    assert_eq!(u64::from(taken.item_bytes_max()), limit / 2);
    let (taken, recovered) = open(&Options {
        item_bytes_max: 1_024,
        ..first
    });
    assert_eq!((recovered.items, recovered.too_large), (1, 1));
    assert!(taken.get(b"large", START).is_err() && taken.get(b"small", START).is_ok());
    taken.audit().unwrap();
}

#[test]
fn a_store_goes_on_with_the_counts_of_the_one_before() {
    let store = Store::new(&options(true)).unwrap();
    put(&store, "key", b"value", NEVER, START).unwrap();
    assert!(store.delete(b"key", START));
    let next = Store::new(&options(true)).unwrap();
    put(&next, "key", b"value", NEVER, START).unwrap();
    next.add_counts(&store.counts());
    assert_eq!(next.counts().stored, 2);
    assert_eq!(next.counts().removed(Cause::Deleted), 1);
}

#[test]
fn of_threads_that_find_an_item_to_be_made_anew_one_is_told() {
    let store = Store::new(&options(true)).unwrap();
    put(&store, "key", b"value", START + 10, START).unwrap();
    let fetch = Fetch {
        recache_before: Some(START + 20),
        ..Fetch::default()
    };
    for _ in 0..200 {
        store
            .invalidate(b"key", &Invalidation::default(), START)
            .unwrap();
        let won = std::thread::scope(|scope| {
            let look = || store.fetch(b"key", &fetch, START).unwrap().1;
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(look)).collect();
            let seen = threads.into_iter().map(|thread| thread.join().unwrap());
            // Whoever is not told sees that another was.
            seen.inspect(|seen| assert!(seen.won != seen.marks.token_sent))
                .filter(|seen| seen.won)
                .count()
        });
        assert_eq!(won, 1);
    }
}

/// A packed value of 300 bytes, if its dictionary can still be held.
fn put_packed(store: &Store, key: &str, number: DictionaryNumber) {
    let Some(_held) = store.hold_dictionary(number) else {
        return;
    };
    let put = Put {
        key: key.as_bytes(),
        value: &[&[number.get() as u8; 300]],
        packing: Packing::new(2, Some(number)),
        class: 0,
        client_flags: 0,
        expiry: Some(START + 50),
        condition: Condition::Always,
        cas_unique: None,
        marks: Marks::default(),
    };
    store.put(&put, START).unwrap();
}

#[test]
fn the_account_of_dictionaries_is_right_after_threads_have_used_them_while_they_came_and_went() {
    let store = Store::new(&options(true)).unwrap();
    let newest = AtomicU16::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (store, newest, done) = (&store, &newest, &done);
            scope.spawn(move || {
                let mut state = thread + 1;
                while !done.load(Relaxed) {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let key = format!("tokens/{}", (state >> 33) % 20_000);
                    let number = DictionaryNumber::new(newest.load(Relaxed));
                    match (state >> 60, number) {
                        (0..12, Some(number)) => put_packed(store, &key, number),
                        (12, _) => drop(store.delete(key.as_bytes(), START)),
                        _ => {
                            if let Ok(found) = store.get(key.as_bytes(), START) {
                                let number = found.packing().dictionary().unwrap();
                                assert!(
                                    found
                                        .piece(0)
                                        .iter()
                                        .all(|&byte| byte == number.get() as u8)
                                );
                            }
                        }
                    }
                }
            });
        }
        let mut alive = Vec::new();
        for round in 0..400u32 {
            if let Some(number) = store.add_dictionary(&[round as u8; 5_000], 10_000, START) {
                newest.store(number.get(), Relaxed);
                alive.push(number);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            if alive.len() > 4 {
                let oldest = alive.remove(0);
                store.close_dictionary(oldest);
                if round % 3 > 0 {
                    store.evict_dictionary(oldest, START);
                }
            }
            store.free_dictionaries();
            store.housekeep(START);
        }
        done.store(true, Relaxed);
        assert!(!alive.is_empty());
    });
    assert_eq!(store.audit().unwrap().damaged, 0);
    for (number, _) in store.dictionaries() {
        store.close_dictionary(number);
        store.evict_dictionary(number, START);
        assert_eq!(store.dictionary_items(number), 0);
    }
    store.free_dictionaries();
    assert_eq!((store.dictionaries().len(), store.usage().items), (0, 0));
    assert_eq!(store.usage().dictionary_bytes, 0);
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

#[test]
fn the_account_is_right_after_threads_have_overwritten_what_is_evacuated() {
    let store = Store::new(&options(true)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let store = &store;
            scope.spawn(move || {
                let mut state = thread + 1;
                for round in 0..30_000u32 {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let name = format!("tokens/{}", (state >> 33) % 500);
                    let bytes = vec![7; 10_000 + (state >> 20) as usize % 12_000];
                    let now = START + round / 3_000;
                    put(
                        store,
                        &name,
                        &bytes,
                        now + 1 + (state >> 50) as u32 % 9,
                        now,
                    )
                    .unwrap();
                    if round.is_multiple_of(1_000) {
                        store.housekeep(now);
                    }
                }
            });
        }
    });
    assert_eq!(store.audit().unwrap().damaged, 0);
    store.flush(None, START + 100);
    store.housekeep(START + 100);
    assert_eq!(store.audit().unwrap().items, store.usage().items);
}
