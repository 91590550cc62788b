//! What the store costs, at its default 64 MiB, with values of 8 KB.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tokencached::store::{Cause, Condition, Marks, Options, Packing, Put, Store};

const VALUE: [u8; 8 << 10] = [b'v'; 8 << 10];
const NOW: u32 = 1_000;
/// Fewer than fit.
const ITEMS: u64 = 5_000;

/// A key as long as those of keystonemiddleware.
fn key(number: u64) -> [u8; 71] {
    let mut key = [b'0'; 71];
    key[..7].copy_from_slice(b"tokens/");
    let digits = number.to_be_bytes();
    for (at, digit) in digits.iter().enumerate() {
        key[8 + 2 * at] = b'a' + (digit >> 4);
        key[9 + 2 * at] = b'a' + (digit & 15);
    }
    key
}

fn put(store: &Store, number: u64) {
    put_value(store, number, &VALUE);
}

fn put_value(store: &Store, number: u64, value: &[u8]) {
    let put = Put {
        key: &key(number),
        value: &[black_box(value)],
        packing: Packing::NONE,
        class: 0,
        client_flags: 0,
        expiry: Some(NOW + 300),
        condition: Condition::Always,
        cas_unique: None,
        marks: Marks::default(),
    };
    store.put(&put, NOW).expect("an evicting store finds room");
}

fn filled() -> Store {
    let store = Store::new(&Options::default()).expect("there is memory for a store");
    (0..ITEMS).for_each(|number| put(&store, number));
    store
}

fn get(criterion: &mut Criterion) {
    let store = filled();
    let mut number = 0;
    let mut next = || {
        // A step that visits all items in an order that memory does not follow.
        number = (number + 1_871) % ITEMS;
        number
    };
    let mut group = criterion.benchmark_group("get");
    group.bench_function("hit", |bencher| {
        bencher.iter(|| {
            let item = store.get(&key(next()), NOW).expect("it is there");
            black_box(item.len())
        });
    });
    group.bench_function("miss", |bencher| {
        bencher.iter(|| store.get(&key(ITEMS + next()), NOW).is_err());
    });
    group.finish();
}

fn set(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put 8 KB");
    let store = filled();
    let mut number = 0;
    group.bench_function("in place", |bencher| {
        bencher.iter(|| {
            number = (number + 1_871) % ITEMS;
            put(&store, number);
        });
    });
    assert_eq!(store.usage().items, ITEMS);
    let mut number = ITEMS;
    while store.counts().removed(Cause::Evicted) == 0 {
        number += 1;
        put(&store, number);
    }
    group.bench_function("appended, others leaving", |bencher| {
        bencher.iter(|| {
            number += 1;
            put(&store, number);
        });
    });
    group.finish();
}

/// What a successor does before it serves, over values of three sizes: 450 bytes as tokens are packed.
fn take_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("take over 64 MiB");
    group.sample_size(20);
    for value_bytes in [450, 8 << 10, 600 << 10] {
        let store = Store::new(&Options::default()).expect("there is memory for a store");
        let value = vec![b'v'; value_bytes];
        let mut number = 0;
        while store.counts().removed(Cause::Evicted) == 0 {
            put_value(&store, number, &value);
            number += 1;
        }
        group.bench_function(format!("values of {value_bytes} bytes"), |bencher| {
            bencher.iter(|| {
                let file = store.file().try_clone_to_owned().expect("a descriptor");
                let (taken, recovered) =
                    Store::open(file, &Options::default(), NOW).expect("it is a heap");
                taken.prove();
                assert_eq!(recovered.damaged, 0);
                taken
            });
        });
    }
    group.finish();
}

criterion_group!(benches, get, set, take_over);
criterion_main!(benches);
