//! Batches against a server that answers what a test wants.

use super::*;
use crate::tool::Target;
use crate::tool::pad::Pad;
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn shared_by(protocol: Protocol) -> Shared {
    Shared {
        workload: Workload::Random(Pad::new(1, 40..=40)),
        ledger: Ledger::new(10),
        protocol,
        exptime_seconds: 0,
        answered: AtomicU64::new(0),
    }
}

fn shared() -> Shared {
    shared_by(Protocol::Classic)
}

/// The `VALUE` of a key in its given version, as a right server would send it.
fn value(shared: &Shared, key: u64, version: u32) -> Vec<u8> {
    let shape = shared.workload.shape(key, version);
    let mut out = b"VALUE ".to_vec();
    shared.workload.push_key(key, &mut out);
    write!(out, " {} {}\r\n", shape.flags, shape.bytes).unwrap();
    shared.workload.push_value(key, version, &mut out);
    out.extend_from_slice(b"\r\n");
    out
}

/// Runs a batch against a server that reads a little and then sends `reply`, in pieces of
/// `piece` bytes.
fn answered(
    shared: &Shared,
    reply: Vec<u8>,
    piece: usize,
    push: impl FnOnce(&mut Exchange),
) -> Result<Counts, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            for part in reply.chunks(piece) {
                stream.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut exchange = Exchange::new(Connection::open(&target).await?);
        push(&mut exchange);
        let outcome = exchange.run(shared).await;
        server.await.unwrap();
        outcome.map(|()| exchange.counts)
    })
}

#[test]
fn hits_and_misses_of_a_multiget_are_told_apart() {
    let shared = shared();
    let reply = [
        value(&shared, 2, 1),
        value(&shared, 4, 1),
        b"END\r\n".into(),
    ]
    .concat();
    for piece in [1, 7, 1000] {
        let counts = answered(&shared, reply.clone(), piece, |exchange| {
            exchange.push_get(&shared, 1..6)
        });
        let counts = counts.unwrap();
        assert_eq!((counts.requests, counts.hits, counts.misses), (1, 2, 3));
        assert_eq!(counts.wrong_values, 0);
    }
}

#[test]
fn a_wrong_byte_is_counted() {
    let shared = shared();
    let mut reply = [value(&shared, 2, 1), b"END\r\n".into()].concat();
    let last = reply.len() - 10;
    reply[last] ^= 1;
    let counts = answered(&shared, reply, 1000, |exchange| {
        exchange.push_get(&shared, 2..3)
    });
    let counts = counts.unwrap();
    assert_eq!((counts.hits, counts.wrong_values), (0, 1));
}

#[test]
fn a_value_of_another_key_is_no_answer() {
    let shared = shared();
    let reply = [value(&shared, 3, 1), b"END\r\n".into()].concat();
    let outcome = answered(&shared, reply, 1000, |exchange| {
        exchange.push_get(&shared, 2..3)
    });
    assert!(matches!(outcome, Err(Error::Garbled(..))));
}

#[test]
fn an_older_value_than_acknowledged_is_wrong() {
    let shared = shared();
    let reply = [
        b"STORED\r\nSTORED\r\n".to_vec(),
        value(&shared, 2, 1),
        b"END\r\n".into(),
    ];
    let ledger = &shared.ledger;
    ledger.begin_set(2);
    ledger.end_set(2, true);
    ledger.begin_set(2);
    ledger.end_set(2, true);
    let counts = answered(&shared, reply.concat(), 1000, |exchange| {
        assert!(exchange.push_set(&shared, 3));
        assert!(exchange.push_set(&shared, 4));
        assert!(!exchange.push_set(&shared, 4));
        exchange.push_get(&shared, 2..3);
    });
    let counts = counts.unwrap();
    assert_eq!((counts.stored, counts.hits, counts.wrong_values), (2, 0, 1));
}

#[test]
fn error_lines_end_their_request_only() {
    let shared = shared();
    let reply = b"SERVER_ERROR out of memory\r\nEND\r\n".to_vec();
    let counts = answered(&shared, reply, 3, |exchange| {
        exchange.push_set(&shared, 1);
        exchange.push_get(&shared, 1..2);
    });
    let counts = counts.unwrap();
    assert_eq!((counts.requests, counts.errors, counts.misses), (2, 1, 1));
    assert_eq!(
        counts.first_error.as_deref(),
        Some("SERVER_ERROR out of memory")
    );
}

/// The pieces that a reply comes in.
const PIECES: [usize; 3] = [1, 7, 1000];

/// Asks for these keys at once and has that answered.
fn got(shared: &Shared, keys: &[u64], reply: Vec<u8>, piece: usize) -> Result<Counts, Error> {
    let keys = keys.to_vec();
    answered(shared, reply, piece, |exchange| {
        exchange.push_get(shared, keys.into_iter());
    })
}

/// The `VA` of a key in its first version.
fn va(shared: &Shared, key: u64) -> Vec<u8> {
    let shape = shared.workload.shape(key, 1);
    let mut out = format!("VA {} f{} k", shape.bytes, shape.flags).into_bytes();
    shared.workload.push_key(key, &mut out);
    out.extend_from_slice(b"\r\n");
    shared.workload.push_value(key, 1, &mut out);
    out.extend_from_slice(b"\r\n");
    out
}

/// `EN` with the key's name.
fn en(shared: &Shared, key: u64) -> Vec<u8> {
    let mut out = b"EN k".to_vec();
    shared.workload.push_key(key, &mut out);
    out.extend_from_slice(b"\r\n");
    out
}

const SET: u8 = 0x01;
const NOOP: u8 = 0x0a;
const GETK: u8 = 0x0c;
const GETKQ: u8 = 0x0d;

/// A reply of the binary protocol.
fn frame(opcode: u8, status: u16, opaque: u32, [extras, key, value]: [&[u8]; 3]) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    let mut out = vec![0x81, opcode];
    out.extend((key.len() as u16).to_be_bytes());
    out.extend([extras.len() as u8, 0]);
    out.extend(status.to_be_bytes());
    out.extend(body.to_be_bytes());
    out.extend(opaque.to_be_bytes());
    out.extend([0; 8]);
    [&out, extras, key, value].concat()
}

/// The hit of a key in its first version.
fn hit(shared: &Shared, opcode: u8, opaque: u32, key: u64) -> Vec<u8> {
    let (mut name, mut value) = (Vec::new(), Vec::new());
    shared.workload.push_key(key, &mut name);
    shared.workload.push_value(key, 1, &mut value);
    let flags = shared.workload.shape(key, 1).flags.to_be_bytes();
    frame(opcode, 0, opaque, [&flags, &name, &value])
}

/// A reply with nothing but words.
fn words(opcode: u8, status: u16, opaque: u32, words: &str) -> Vec<u8> {
    frame(opcode, status, opaque, [b"", b"", words.as_bytes()])
}

#[test]
fn hits_and_misses_of_quiet_mgs_are_told_apart() {
    let shared = shared_by(Protocol::Meta);
    let reply = [va(&shared, 2), va(&shared, 4), b"MN\r\n".into()].concat();
    for piece in PIECES {
        let counts = got(&shared, &[1, 2, 3, 4, 5], reply.clone(), piece).unwrap();
        assert_eq!((counts.requests, counts.hits, counts.misses), (1, 2, 3));
        assert!(counts.are_clean());
    }
}

#[test]
fn a_single_mg_is_a_hit_or_a_miss_with_or_without_its_key() {
    let shared = shared_by(Protocol::Meta);
    for piece in PIECES {
        let counts = got(&shared, &[2], va(&shared, 2), piece).unwrap();
        assert_eq!((counts.requests, counts.hits, counts.misses), (1, 1, 0));
        for reply in [b"EN\r\n".to_vec(), en(&shared, 2)] {
            let counts = got(&shared, &[2], reply, piece).unwrap();
            assert_eq!((counts.requests, counts.hits, counts.misses), (1, 0, 1));
            assert!(counts.are_clean());
        }
    }
}

#[test]
fn a_wrong_byte_behind_a_va_is_counted() {
    let shared = shared_by(Protocol::Meta);
    let mut reply = va(&shared, 2);
    let last = reply.len() - 10;
    reply[last] ^= 1;
    let counts = got(&shared, &[2], reply, 1000).unwrap();
    assert_eq!((counts.hits, counts.wrong_values), (0, 1));
}

#[test]
fn what_fits_no_mg_is_no_answer() {
    let shared = shared_by(Protocol::Meta);
    let out_of_order = [va(&shared, 3), va(&shared, 2), b"MN\r\n".into()].concat();
    for (keys, reply) in [
        (&[2][..], va(&shared, 3)),
        (&[2], en(&shared, 3)),
        (&[2], b"MN\r\n".to_vec()),
        (&[2, 3], b"EN\r\n".to_vec()),
        (&[2, 3], out_of_order),
    ] {
        let outcome = got(&shared, keys, reply, 1000);
        assert!(matches!(outcome, Err(Error::Garbled(..))), "{outcome:?}");
    }
}

#[test]
fn error_lines_end_their_meta_request_only() {
    let shared = shared_by(Protocol::Meta);
    let refused = b"SERVER_ERROR out of memory\r\n".to_vec();
    let reply = [
        &refused,
        &refused,
        &refused,
        &va(&shared, 4),
        &b"MN\r\n".to_vec()[..],
    ]
    .concat();
    for piece in PIECES {
        let counts = answered(&shared, reply.clone(), piece, |exchange| {
            exchange.push_set(&shared, 1);
            exchange.push_get(&shared, 1..2);
            exchange.push_get(&shared, 2..6);
        });
        let counts = counts.unwrap();
        assert_eq!((counts.requests, counts.errors), (3, 3));
        assert_eq!((counts.hits, counts.misses, counts.stored), (1, 2, 0));
        let first = counts.first_error.as_deref();
        assert_eq!(first, Some("SERVER_ERROR out of memory"));
    }
}

#[test]
fn a_server_without_meta_commands_is_found_out() {
    let shared = shared_by(Protocol::Meta);
    // One for each mg, and one for the mn.
    let outcome = got(&shared, &[1, 2, 3], b"ERROR\r\n".repeat(4), 1000);
    assert!(matches!(outcome, Err(Error::Garbled(..))), "{outcome:?}");
}

#[test]
fn hits_and_misses_of_quiet_gets_are_told_apart() {
    let shared = shared_by(Protocol::Binary);
    let hits = [hit(&shared, GETKQ, 1, 2), hit(&shared, GETKQ, 3, 4)].concat();
    let reply = [hits, words(NOOP, 0, 5, "")].concat();
    for piece in PIECES {
        let counts = got(&shared, &[1, 2, 3, 4, 5], reply.clone(), piece).unwrap();
        assert_eq!((counts.requests, counts.hits, counts.misses), (1, 2, 3));
        assert!(counts.are_clean());
    }
}

#[test]
fn a_single_getk_is_a_hit_or_a_miss() {
    let shared = shared_by(Protocol::Binary);
    for piece in PIECES {
        let counts = got(&shared, &[2], hit(&shared, GETK, 0, 2), piece).unwrap();
        assert_eq!((counts.requests, counts.hits, counts.misses), (1, 1, 0));
        let missed = words(GETK, 1, 0, "Not found");
        let counts = got(&shared, &[2], missed, piece).unwrap();
        assert_eq!((counts.requests, counts.hits, counts.misses), (1, 0, 1));
        assert!(counts.are_clean());
    }
}

#[test]
fn a_wrong_byte_of_a_frame_is_counted() {
    let shared = shared_by(Protocol::Binary);
    let right = hit(&shared, GETK, 0, 2);
    let (flags_at, last) = (24, right.len() - 1);
    for at in [flags_at, last] {
        let mut reply = right.clone();
        reply[at] ^= 1;
        let counts = got(&shared, &[2], reply, 1000).unwrap();
        assert_eq!((counts.hits, counts.wrong_values), (0, 1));
    }
}

#[test]
fn frames_of_another_key_opaque_or_opcode_are_no_answer() {
    let shared = shared_by(Protocol::Binary);
    let out_of_order = [hit(&shared, GETKQ, 1, 3), hit(&shared, GETKQ, 0, 2)].concat();
    for (keys, reply) in [
        (&[2][..], hit(&shared, GETK, 0, 3)),
        (&[2], hit(&shared, GETK, 1, 2)),
        (&[2], words(GETK, 1, 1, "Not found")),
        (&[2], words(GETK, 0x82, 1, "Out of memory")),
        (&[2], words(NOOP, 0, 1, "")),
        (&[2, 3], words(NOOP, 0, 1, "")),
        (&[2, 3], words(GETKQ, 0x82, 2, "Out of memory")),
        (&[2, 3], out_of_order),
        (&[2], b"SERVER_ERROR out of memory\r\n".to_vec()),
    ] {
        let outcome = got(&shared, keys, reply, 1000);
        assert!(matches!(outcome, Err(Error::Garbled(..))), "{outcome:?}");
    }
}

#[test]
fn the_answer_to_another_set_is_none() {
    for (opcode, opaque) in [(SET, 0), (GETK, 1)] {
        let shared = shared_by(Protocol::Binary);
        let reply = [words(SET, 0, 0, ""), words(opcode, 0, opaque, "")].concat();
        let outcome = answered(&shared, reply, 1000, |exchange| {
            exchange.push_set(&shared, 1);
            exchange.push_set(&shared, 2);
        });
        assert!(matches!(outcome, Err(Error::Garbled(..))), "{outcome:?}");
    }
}

#[test]
fn statuses_of_failure_end_their_request_only() {
    const FULL: u16 = 0x82;
    let shared = shared_by(Protocol::Binary);
    // Opaques are places: of a set among the requests, of a get among the keys asked for.
    let reply = [
        words(SET, FULL, 0, "Out of memory"),
        words(GETK, FULL, 0, "Out of memory"),
        words(GETKQ, FULL, 2, "Out of memory"),
        hit(&shared, GETKQ, 3, 4),
        words(NOOP, 0, 5, ""),
    ];
    for piece in PIECES {
        let counts = answered(&shared, reply.concat(), piece, |exchange| {
            exchange.push_set(&shared, 1);
            exchange.push_get(&shared, 1..2);
            exchange.push_get(&shared, 2..6);
        });
        let counts = counts.unwrap();
        assert_eq!((counts.requests, counts.errors), (3, 3));
        assert_eq!((counts.hits, counts.misses, counts.stored), (1, 2, 0));
        let first = counts.first_error.as_deref();
        assert_eq!(first, Some("status 130: Out of memory"));
    }
}
