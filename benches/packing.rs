//! What it costs to pack and to unpack a token of 13 KB, and one that is signed or encrypted, beside
//! copying the value from memory that no cache holds.

#[path = "../tests/common/corpus.rs"]
mod corpus;
#[path = "../tests/common/keeper.rs"]
mod keeper;

use std::hint::black_box;

use corpus::{Cloud, Random, mac, recorded};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keeper::{Keeper, Stored};
use tokencached::packing::{Packing, Room, Value};

/// As many as one processor's cache holds of them packed, and does not unpacked.
const TOKENS: usize = 4_000;

/// A step that visits all values in an order that memory does not follow.
const STEP: usize = 1_871;

struct Values {
    keeper: Keeper,
    plain: Vec<Vec<u8>>,
    packed: Vec<Stored>,
}

fn values(value: impl Fn(usize) -> Vec<u8>) -> Values {
    let (keeper, mut room) = (Keeper::default(), Room::default());
    let plain: Vec<Vec<u8>> = (0..TOKENS).map(value).collect();
    let mut pack_all = || -> Vec<Stored> {
        let pack = |(number, bytes): (usize, &Vec<u8>)| pack(&keeper, number, bytes, &mut room);
        plain.iter().enumerate().map(pack).collect()
    };
    // Once for the dictionaries.
    pack_all();
    let packed = pack_all();
    Values {
        keeper,
        plain,
        packed,
    }
}

fn pack(keeper: &Keeper, number: usize, bytes: &[u8], room: &mut Room) -> Stored {
    let key = format!("tokens/{number}");
    let value = Value {
        key: key.as_bytes(),
        bytes,
        client_flags: 0,
    };
    keeper.pack(&value, room)
}

fn measure(criterion: &mut Criterion, name: &str, value: impl Fn(usize) -> Vec<u8>) {
    let values = values(value);
    let packing: &Packing = &values.keeper.packing;
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(values.plain[0].len() as u64));
    let mut number = 0;
    let mut next = move || {
        number = (number + STEP) % TOKENS;
        number
    };
    let keys: Vec<String> = (0..TOKENS).map(|at| format!("tokens/{at}")).collect();
    let mut room = Room::default();
    group.bench_function("pack", |bencher| {
        bencher.iter(|| {
            let number = next();
            let value = Value {
                key: keys[number].as_bytes(),
                bytes: black_box(&values.plain[number]),
                client_flags: 0,
            };
            packing.pack(&value, 1, &mut room).packed.is_some()
        });
    });
    let mut out = Vec::new();
    group.bench_function("unpack", |bencher| {
        bencher.iter(|| {
            let stored = &values.packed[next()];
            out.clear();
            packing
                .unpack(stored.how, black_box(&stored.bytes), &mut out)
                .expect("it is sound");
            out.len()
        });
    });
    group.bench_function("copy", |bencher| {
        bencher.iter(|| {
            out.clear();
            out.extend_from_slice(black_box(&values.plain[next()]));
            out.len()
        });
    });
    group.finish();
}

fn benchmarks(criterion: &mut Criterion) {
    let recorded = recorded();
    let cloud = Cloud::new(&recorded, 0);
    measure(criterion, "plain", |number| cloud.token(number));
    measure(criterion, "mac", |number| {
        mac(&cloud.token(number), &mut Random::new(number as u64))
    });
    measure(criterion, "encrypt", |number| {
        let mut random = Random::new(number as u64);
        corpus::base64(&random.bytes(13_152))
    });
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);
