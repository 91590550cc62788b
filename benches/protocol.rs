//! What decoding and encoding cost, without socket and store.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokencached::protocol::classic::Classic;
use tokencached::protocol::command::{Decoded, Envelope, Key};
use tokencached::protocol::meta::KeyRoom;
use tokencached::protocol::reply::{Hit, Reply};

/// A key as keystonemiddleware makes them: `tokens/` and the hex digits of a SHA-256.
const KEY: &str = "tokens/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const VALUE_BYTES: usize = 8 << 10;

/// Decodes everything in `buffer`; gives the number of commands.
fn decode_all(mut buffer: &[u8]) -> usize {
    let mut codec = Classic::default();
    let mut commands = 0;
    while let Decoded::Request(request) = codec.decode(buffer, &KeyRoom::default()) {
        black_box(&request.command);
        commands += 1;
        buffer = &buffer[request.consumed..];
        if buffer.is_empty() {
            break;
        }
    }
    commands
}

fn decode(criterion: &mut Criterion) {
    let value = "v".repeat(VALUE_BYTES);
    let keys: Vec<String> = (10..110).map(|number| format!("{KEY}{number}")).collect();
    let get = format!("get {KEY}\r\n");
    let set = format!("set {KEY} 0 300 {VALUE_BYTES} \r\n{value}\r\n");
    let multiget = format!("get {}\r\n", keys.join(" "));
    let mut group = criterion.benchmark_group("decode");
    for (name, input, commands) in [
        ("get", get, 1),
        ("set 8 KB", set, 1),
        ("get of 100 keys", multiget, 100),
    ] {
        assert_eq!(decode_all(input.as_bytes()), commands);
        group.throughput(Throughput::Elements(commands as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| decode_all(black_box(input.as_bytes())));
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let value = vec![b'v'; VALUE_BYTES];
    let envelope = Envelope {
        ends_run: true,
        ..Envelope::default()
    };
    let mut sink: Vec<u8> = Vec::with_capacity(2 * VALUE_BYTES);
    let mut group = criterion.benchmark_group("encode");
    group.bench_function("hit of 8 KB", |bencher| {
        bencher.iter(|| {
            sink.clear();
            let hit = Hit {
                key: Key(KEY.as_bytes()),
                client_flags: 0,
                cas_unique: 0,
                value: black_box(value.as_slice()),
            };
            Classic::encode(&envelope, Reply::Hit(hit), &mut sink).expect("bytes can be read");
            black_box(sink.len())
        });
    });
    group.bench_function("miss", |bencher| {
        bencher.iter(|| {
            sink.clear();
            Classic::encode(&envelope, black_box(Reply::<&[u8]>::Miss), &mut sink)
                .expect("a miss has no value");
            black_box(sink.len())
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
