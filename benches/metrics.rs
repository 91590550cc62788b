//! What a scrape and a `stats` cost the server: a full store, as many connections as may be open, as many services as
//! are told apart, with items of every class.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use tokencached::clock::Clock;
use tokencached::engine::{Engine, Options};
use tokencached::protocol::command::{Command, Stats};
use tokencached::stats::connections::{Address, Connection, State};
use tokencached::stats::memcached::Process;
use tokencached::stats::services::SERVICES_MAX;
use tokencached::store::{self, Condition, Marks, Packing, Put, Store};
use tokencached::token::class::Class;

const CONNECTIONS: usize = 4096;
const MEMORY_BYTES: u64 = 1 << 30;
const VALUE: [u8; 450] = [7; 450];

/// A store that has begun to evict.
fn full(now_seconds: u32) -> Store {
    let store = Store::new(&store::Options {
        memory_limit_bytes: MEMORY_BYTES,
        ..store::Options::default()
    });
    let store = store.expect("memory is there");
    let mut number = 0_u64;
    while store.counts().removed(store::Cause::Evicted) == 0 {
        let put = Put {
            key: &number.to_le_bytes(),
            value: &[&VALUE],
            packing: Packing::NONE,
            class: 0,
            client_flags: 0,
            expiry: Some(now_seconds + 300),
            condition: Condition::Always,
            cas_unique: None,
            marks: Marks::default(),
        };
        store.put(&put, now_seconds).expect("others make room");
        number += 1;
    }
    store
}

fn views(criterion: &mut Criterion) {
    let now = Clock::System.now();
    let process = Process {
        started: now,
        connections_max: CONNECTIONS,
        threads: 2,
    };
    let engine = Engine::new(full(now.seconds), Options::default(), process);
    let counters = engine.stats().register_worker();
    let services = &engine.stats().services;
    for uid in 0..SERVICES_MAX as u32 {
        let counters = counters.of(services.of(Some(uid)));
        for class in Class::ALL {
            counters.by_class.set(class, VALUE.len());
        }
    }
    for number in 0..CONNECTIONS {
        let peer = Address::Tcp(([127, 0, 0, 1], 40_000).into());
        let local = Some("tcp:127.0.0.1:11211".into());
        let mut connection = Connection::new(peer, local, State::Read, now.seconds);
        connection.service = services.of(Some((number % SERVICES_MAX) as u32));
        engine.stats().connections.enter(Arc::new(connection));
    }
    let mut group = criterion.benchmark_group("views of a full cache");
    group.bench_function("scrape", |bencher| {
        bencher.iter(|| black_box(engine.metrics(now)));
    });
    let stats = Command::Stats(Stats::General);
    group.bench_function("stats", |bencher| {
        bencher.iter(|| {
            black_box(engine.execute(&stats, &counters, now));
        });
    });
    group.finish();
}

criterion_group!(benches, views);
criterion_main!(benches);
