//! The model by itself: its rules, one at a time, and its books after any sequence of them.

use super::*;
use crate::tool::random::Random;

const MIB: u64 = 1 << 20;

/// Of the chunks that such a value takes, a page has 75.
const VALUE: u32 = 13_100;

fn entry(value_bytes: u32, expiry: Seconds) -> Entry {
    Entry {
        value_bytes,
        expiry,
    }
}

/// A cache of two pages into which so many tokens were put, in their order, in second 10.
fn filled(tokens: u32) -> Memcached {
    let mut cache = Memcached::new(2 * MIB, 1000);
    (0..tokens).for_each(|token| cache.put(token, entry(VALUE, NEVER), 10));
    cache
}

fn there(cache: &Memcached) -> usize {
    cache
        .items
        .iter()
        .filter(|item| item.list != NOWHERE)
        .count()
}

fn lru(cache: &Memcached, token: TokenId) -> Option<Lru> {
    let item = cache.items[token as usize];
    let there = item.list != NOWHERE;
    there.then(|| LRUS[usize::from(item.list) % LRUS.len()])
}

/// That the books agree with the items.
fn audit(cache: &Memcached) {
    let mut bytes = vec![0; cache.bytes.len()];
    let mut used = vec![0; cache.slabs.classes()];
    for item in cache.items.iter().filter(|item| item.list != NOWHERE) {
        bytes[usize::from(item.list)] += u64::from(item.bytes);
        used[item.class()] += 1;
    }
    assert_eq!(bytes, cache.bytes);
    for (class, used) in used.into_iter().enumerate() {
        let chunks = cache.slabs.pages(class) * cache.slabs.chunks_per_page(class);
        assert_eq!(used + cache.slabs.free_chunks(class), chunks);
    }
}

#[test]
fn what_was_put_first_and_never_asked_for_is_evicted_first() {
    let cache = filled(160);
    assert_eq!(there(&cache), 150);
    assert_eq!(
        (0..160).position(|token| lru(&cache, token).is_some()),
        Some(10)
    );
    audit(&cache);
}

#[test]
fn two_hits_save_an_item_and_one_does_not() {
    let mut cache = filled(150);
    assert_eq!(lru(&cache, 1), Some(Lru::Cold));
    assert!(cache.get(0, 11) && cache.get(1, 11) && cache.get(1, 11));
    assert_eq!(lru(&cache, 1), Some(Lru::Warm));
    (150..160).for_each(|token| cache.put(token, entry(VALUE, NEVER), 11));
    assert!(!cache.get(0, 11) && cache.get(1, 11));
}

#[test]
fn an_entry_is_a_hit_below_its_expiry() {
    let mut cache = Memcached::new(MIB, 1);
    cache.put(0, entry(VALUE, 20), 10);
    assert!(cache.get(0, 19) && !cache.get(0, 20));
    audit(&cache);
}

#[test]
fn the_crawler_frees_what_has_expired() {
    let mut cache = Memcached::new(2 * MIB, 100);
    cache.second(2);
    for token in 0..100 {
        cache.put(token, entry(VALUE, 20 + token % 2 * 1000), 2);
    }
    // At its first look all was empty, so the second one comes after a minute. What is at the back
    // of a queue is cleared without it.
    (3..69).for_each(|now| cache.second(now));
    assert!(there(&cache) > 90);
    cache.second(69);
    assert_eq!(there(&cache), 50);
    audit(&cache);
}

#[test]
fn what_is_too_large_is_not_kept_and_takes_the_older_one_along() {
    let mut cache = filled(1);
    cache.put(0, entry(MIB as u32, NEVER), 10);
    assert_eq!(there(&cache), 0);
    audit(&cache);
}

#[test]
fn a_class_that_has_all_in_warm_refuses() {
    let mut cache = filled(150);
    for token in 0..150 {
        cache.relink(token, Lru::Warm);
    }
    cache.put(150, entry(VALUE, NEVER), 10);
    assert!(!cache.get(150, 10));
    assert_eq!(there(&cache), 150);
}

#[test]
fn pages_follow_the_sizes_that_are_put() {
    let mut cache = Memcached::new(10 * MIB, 20_000);
    (0..2000).for_each(|token| cache.put(token, entry(VALUE, NEVER), 10));
    let [from, to] = [13_230, 10_370].map(|bytes| cache.slabs.class_of(bytes).unwrap());
    assert_eq!(cache.slabs.pages(from), 10);
    for now in 11..200 {
        cache.second(now);
        let tokens = 2000 + (now - 11) * 90..2000 + (now - 10) * 90;
        tokens.for_each(|token| cache.put(token, entry(10_240, NEVER), now));
        audit(&cache);
    }
    assert_eq!([from, to].map(|class| cache.slabs.pages(class)), [2, 9]);
}

#[test]
fn the_books_are_right_after_anything() {
    let mut random = Random::new(8);
    let mut cache = Memcached::new(3 * MIB, 1000);
    for now in 2..600 {
        cache.second(now);
        for _ in 0..random.below(60) {
            let token = random.below(1000).min(random.below(1000)) as TokenId;
            if !cache.get(token, now) {
                let value_bytes = [VALUE, 10_240, 600_000, 900][token as usize % 4];
                let expiry = [NEVER, now + 30, now + 100][token as usize % 3];
                cache.put(token, entry(value_bytes, expiry), now);
            }
        }
        audit(&cache);
    }
}
