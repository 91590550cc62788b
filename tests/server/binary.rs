//! The binary protocol from outside: what no client should send, and large values.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use crate::binary_client::{Answer, Request};
use crate::daemon::{Client, Daemon, KIB, MIB, pattern, wait_until};

const INVALID_ARGUMENTS: u16 = 0x04;
const UNKNOWN_COMMAND: u16 = 0x81;

fn ask(client: &mut Client<TcpStream>, request: Request) -> Answer {
    client.send(request.bytes());
    Answer::read(&mut client.stream)
}

fn set(key: &str, value: &[u8]) -> Request {
    Request::new(1).extras([0; 8]).key(key).value(value)
}

#[test]
fn large_values_come_back_as_they_were_in_either_protocol() {
    let daemon = Daemon::start("-I 8m");
    let (mut binary, mut text) = (daemon.client(), daemon.client());
    for (number, length) in [0, 1, 100 * KIB, MIB, 7 * MIB].into_iter().enumerate() {
        let value = pattern(number as u64, length);
        let stored = ask(&mut binary, set("k", &value));
        assert_eq!((stored.status, stored.value), (0, Vec::new()));
        assert_ne!(stored.unique, 0);
        assert!(text.get("k").unwrap() == value, "{length} bytes");
        let got = ask(&mut binary, Request::new(0).key("k"));
        assert!(
            got.value == value && got.unique == stored.unique,
            "{length} bytes"
        );
    }
}

#[test]
fn a_body_that_is_announced_takes_no_memory_before_it_comes() {
    let daemon = Daemon::start("-m 64");
    let before = daemon.memory("VmRSS");
    let mut two_gib = daemon.client();
    let answer = ask(&mut two_gib, set("k", b"").announcing(1 << 31));
    assert_eq!(
        (answer.status, answer.text()),
        (INVALID_ARGUMENTS, "Invalid arguments")
    );
    assert_eq!(two_gib.rest(), b"", "it is closed");
    // One that would be taken, were it not too large: it is passed over.
    let mut one_gib: Vec<_> = (0..100).map(|_| daemon.client()).collect();
    for client in &mut one_gib {
        let answer = ask(client, set("k", b"").announcing(1 << 30));
        assert_eq!((answer.status, answer.text()), (0x03, "Too large."));
        client.send([0; 1000]);
    }
    // And 200 that are taken: half a value each, of which there are no 200 MiB.
    let mut halves: Vec<_> = (0..200).map(|_| daemon.client()).collect();
    for (number, client) in halves.iter_mut().enumerate() {
        client.send(
            set(&format!("half{number}"), b"begun")
                .announcing(MIB as u32 - 200)
                .bytes(),
        );
    }
    let mut text = daemon.client();
    wait_until("all have been read", || {
        text.stat("bytes_read") > 200 * 30 + 100 * 1000
    });
    assert!(
        daemon.memory("VmRSS") - before < 100 * MIB,
        "{}",
        daemon.memory("VmRSS")
    );
    assert_eq!(text.get("half1"), None);
}

#[test]
fn lengths_that_contradict_each_other_close_their_connection_alone() {
    let daemon = Daemon::start("");
    let mut other = daemon.client();
    other.must_set("k", b"value");
    for request in [
        // Shorter than the key.
        Request::new(0).key("key").announcing(2),
        Request::new(1).extras([0; 8]).key("key").announcing(10),
        Request::new(1).extras([0; 255]).key("key").announcing(8),
    ] {
        let mut client = daemon.client();
        assert_eq!(ask(&mut client, request).status, UNKNOWN_COMMAND);
        assert_eq!(client.rest(), b"");
    }
    for request in [
        Request::new(0).key("k").value("what is this"),
        Request::new(0).extras([0; 4]).key("k"),
        Request::new(1).key("k").value("v"),
        Request::new(5).extras([0; 8]).key("k"),
        Request::new(0).key([b'k'; 251]),
        Request::new(0),
    ] {
        let mut client = daemon.client();
        assert_eq!(ask(&mut client, request).status, INVALID_ARGUMENTS);
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(other.get("k").unwrap(), b"value");
}

#[test]
fn what_is_never_completed_harms_nobody() {
    let daemon = Daemon::start("");
    let whole = set("k", b"value").bytes();
    let mut halves = Vec::new();
    for length in 1..whole.len() {
        let mut client = daemon.client();
        client.send(&whole[..length]);
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), b"", "{length} bytes");
        let mut client = daemon.client();
        client.send(&whole[..length]);
        halves.push(client);
    }
    let mut text = daemon.client();
    assert_eq!(text.get("k"), None);
    drop(halves);
    wait_until("all are gone", || text.stat("curr_connections") == 1);
    assert_eq!(text.stat("buffer_bytes"), 0);
}

#[test]
fn an_unknown_opcode_is_passed_over_with_all_that_belongs_to_it() {
    let daemon = Daemon::start("");
    let mut client = daemon.client();
    let unknown = Request::new(0x55)
        .extras([1; 16])
        .key("key")
        .value([0x80; 300]);
    let requests = [unknown.bytes(), Request::new(0x0a).bytes()].concat();
    client.stream.write_all(&requests).unwrap();
    let answer = Answer::read(&mut client.stream);
    assert_eq!(
        (answer.status, answer.text()),
        (UNKNOWN_COMMAND, "Unknown command")
    );
    assert_eq!(Answer::read(&mut client.stream).opcode, 0x0a);
}

#[test]
fn keystonemiddleware_is_told_that_a_value_was_stored_which_is_too_large() {
    let daemon = Daemon::start("-I 1k");
    let (mut binary, mut text) = (daemon.client(), daemon.client());
    for key in ["tokens/a", "other/a"] {
        text.must_set(key, b"old");
    }
    let refused = ask(&mut binary, set("other/a", &[b'v'; 2000]));
    assert_eq!((refused.status, refused.text()), (0x03, "Too large."));
    let told = ask(&mut binary, set("tokens/a", &[b'v'; 2000]));
    assert_eq!((told.status, told.text()), (0, ""));
    assert_eq!((text.get("tokens/a"), text.get("other/a")), (None, None));
    assert_eq!(text.stat("failures_untold"), 1);
    assert_eq!(text.stat("store_too_large"), 2);
}
