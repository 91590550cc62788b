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
