//! Peers that mean ill or well and do not speak TLS to its end: they are closed and counted, what they can make
//! the server keep is bounded, and others are served meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;

use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::{Authority, Stream, connect, connection, is_served};
use crate::daemon::{Daemon, KIB, MIB, allow_many_connections, pattern, set_request, wait_until};

/// The first thing that a good client says.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let mut hello = Vec::new();
    let mut connection = connection(authority.client(None, &TLS13));
    connection.write_tls(&mut hello).unwrap();
    hello
}

fn say(daemon: &Daemon, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    // The server may close before all of it is written.
    let _ = stream.write_all(bytes);
    stream
}

fn good(authority: &Authority, daemon: &Daemon) -> Stream {
    connect(daemon.address(), authority.client(None, &TLS13))
}

#[test]
fn a_client_that_speaks_no_tls_is_closed_and_counted_and_reaches_nothing() {
    let authority = Authority::new();
    let daemon = authority.serve("");
    authority.plain().must_set("k", b"1");
    let garbage: [&[u8]; 5] = [
        b"flush_all\r\n",
        b"get k\r\n",
        b"\x80\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x16; 70_000],
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(daemon.address()).unwrap();
        // The server may close before all of it is written.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"OK"), "nothing was carried out");
    }
    // One who leaves in the middle of a handshake.
    TcpStream::connect(daemon.address())
        .unwrap()
        .write_all(b"\x16\x03\x01")
        .unwrap();
    let mut plain = authority.plain();
    wait_until("all are counted", || {
        plain.stat("ssl_handshake_errors") == 6
    });
    wait_until("all are closed", || plain.stat("curr_connections") == 1);
    assert_eq!(plain.get("k").unwrap(), b"1");
    assert!(is_served(connect(
        daemon.address(),
        authority.client(None, &TLS13)
    )));
}

#[test]
fn one_who_leaves_in_the_middle_of_the_handshake_is_counted_and_harms_nothing() {
    let authority = Authority::new();
    let daemon = authority.serve("-t 1");
    let hello = client_hello(&authority);
    for length in [1, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()] {
        drop(say(&daemon, &hello[..length]));
    }
    // One that is no ClientHello any more.
    let mut broken = hello.clone();
    broken[hello.len() / 2..].fill(0xff);
    let mut answer = Vec::new();
    let _ = say(&daemon, &broken).read_to_end(&mut answer);
    let mut plain = authority.plain();
    wait_until("all are counted", || {
        plain.stat("ssl_handshake_errors") == 7
    });
    wait_until("all are closed", || plain.stat("curr_connections") == 1);
    assert!(is_served(good(&authority, &daemon)));
}

#[test]
fn random_bytes_are_no_handshake() {
    let authority = Authority::new();
    let daemon = authority.serve("");
    const GUESSES: u64 = 200;
    for seed in 0..GUESSES {
        let mut bytes = pattern(seed, 1 + (seed as usize * 97) % 5_000);
        // Every other one is a record, as far as its head goes.
        if seed % 2 == 0 {
            let head = [0x16, 3, 1, 0x10, 0, 1, 0, 0x0f, 0xfc];
            let length = head.len().min(bytes.len());
            bytes[..length].copy_from_slice(&head[..length]);
        }
        drop(say(&daemon, &bytes));
    }
    let mut plain = authority.plain();
    wait_until("all are counted", || {
        plain.stat("ssl_handshake_errors") == GUESSES
    });
    assert!(is_served(good(&authority, &daemon)));
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

#[test]
fn what_is_no_tls_after_the_handshake_ends_the_connection_and_is_counted_apart() {
    let authority = Authority::new();
    let daemon = authority.serve("");
    for version in [&TLS12, &TLS13] {
        let mut stream = connect(daemon.address(), authority.client(None, version));
        stream.write_all(b"version\r\n").unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
        stream.sock.write_all(b"flush_all\r\n").unwrap();
        let mut answer = Vec::new();
        // An alert, or a connection that was reset.
        let _ = stream.sock.read_to_end(&mut answer);
        assert!(!answer.windows(2).any(|bytes| bytes == b"OK"));
    }
    let mut plain = authority.plain();
    wait_until("both are counted", || plain.stat("ssl_proto_errors") == 2);
    assert_eq!(plain.stat("ssl_handshake_errors"), 0);
    wait_until("both are closed", || plain.stat("curr_connections") == 1);
}

#[test]
fn handshakes_that_do_not_go_on_hold_nobody_up_and_count_as_connections() {
    const STUCK: u64 = 200;
    let authority = Authority::new();
    let daemon = authority.serve("-t 1 -c 203");
    let hello = client_hello(&authority);
    let half = &hello[..hello.len() / 2];
    let mut plain = authority.plain();
    let stuck: Vec<_> = (0..STUCK).map(|_| say(&daemon, half)).collect();
    wait_until("all wait", || plain.stat("curr_connections") == STUCK + 1);
    let mut first = good(&authority, &daemon);
    first.write_all(b"version\r\n").unwrap();
    first.read_exact(&mut [0; 16]).unwrap();
    let last = say(&daemon, half);
    wait_until("there is no room", || {
        plain.stat("curr_connections") == STUCK + 3
    });
    assert!(!is_served(good(&authority, &daemon)));
    assert_eq!(plain.stat("rejected_connections"), 1);
    drop((stuck, last));
    wait_until("they are gone", || {
        plain.stat("curr_connections") == 2 && plain.stat("ssl_handshake_errors") == STUCK + 1
    });
    assert!(is_served(good(&authority, &daemon)));
}

#[test]
fn what_peers_make_tls_keep_is_bounded() {
    const CLIENTS: usize = 300;
    // The store and the buffers at their limits, the program itself, and what each connection may take.
    const RESIDENT_MAX: usize = (64 + 16 + 24) * MIB + CLIENTS * 80 * KIB;
    allow_many_connections();
    let authority = Authority::new();
    let daemon = authority.serve("-m 64 -t 2");
    let mut plain = authority.plain();
    plain.must_set("k", &pattern(1, 500 * KIB));
    let business = |seed| {
        let mut client = crate::daemon::Client::new(good(&authority, &daemon));
        client.send(set_request("business", &pattern(seed, 13 * KIB)));
        assert_eq!(client.line(), "STORED");
        assert!(client.get("business").unwrap() == pattern(seed, 13 * KIB));
    };

    // A ClientHello of 60,000 bytes, of which as many records come as are whole within it.
    let mut huge = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60];
    huge.resize(5 + 16 * KIB, 0);
    for _ in 0..2 {
        huge.extend([0x16, 3, 1, 0x40, 0]);
        huge.resize(huge.len() + 16 * KIB, 0);
    }
    let greeting: Vec<_> = (0..CLIENTS).map(|_| say(&daemon, &huge)).collect();
    business(1);
    assert!(daemon.memory("VmRSS") < RESIDENT_MAX);
    drop(greeting);

    let deaf = |_| {
        let mut stream = good(&authority, &daemon);
        stream.write_all(&b"get k\r\n".repeat(20)).unwrap();
        stream.flush().unwrap();
        stream
    };
    let deaf: Vec<_> = (0..CLIENTS).map(deaf).collect();
    business(2);
    assert!(daemon.memory("VmRSS") < RESIDENT_MAX);
    drop(deaf);
    wait_until("all are gone", || plain.stat("curr_connections") == 1);
    business(3);
}
