//! What clients can make the server keep for them is bounded, and the others are served meanwhile.

use std::io::Write;
use std::net::TcpStream;

use crate::daemon::{
    Client, Daemon, KIB, MIB, allow_many_connections, pattern, set_request, wait_until,
};

const CLIENTS: usize = 1_000;
const OUT_OF_MEMORY: &str = "SERVER_ERROR out of memory storing object";

/// The daemon under test: `-m 64` and 16 MiB for buffers; the program itself takes less than this.
const RESIDENT_MAX: usize = (64 + 16 + 24) * MIB;

fn daemon() -> Daemon {
    allow_many_connections();
    Daemon::start("-m 64 -t 2")
}

/// A service that goes about its business: whatever others do, this has to work.
fn business(daemon: &Daemon, seed: u64) {
    let mut client = daemon.client();
    for number in 0..40 {
        let key = format!("business{number}");
        let value = pattern(seed + number, 13 * KIB);
        client.must_set(&key, &value);
        assert_eq!(client.get(&key).as_ref(), Some(&value));
    }
}

/// Opens many connections that each announce a value and send half of it.
fn announce(daemon: &Daemon, value_bytes: usize) -> Vec<Client<TcpStream>> {
    let half = vec![b'h'; value_bytes / 2];
    let open = |number| {
        let mut client = daemon.client();
        client.send(format!("set hog{number} 0 0 {value_bytes}\r\n"));
        client.send(&half);
        client
    };
    (0..CLIENTS).map(open).collect()
}

/// Fills what the budget has for large amounts: whatever is over 32 KiB finds no room any more.
fn fill(daemon: &Daemon) -> Vec<Client<TcpStream>> {
    let mut clients = announce(daemon, 100 * KIB);
    clients.truncate(200);
    for number in 0..40 {
        let mut client = daemon.client();
        client.send(format!("set small{number} 0 0 {}\r\nhalf", 30 * KIB));
        clients.push(client);
    }
    clients
}

fn finish(clients: &mut [Client<TcpStream>], value_bytes: usize) -> usize {
    let half = vec![b'h'; value_bytes - value_bytes / 2];
    let mut refused = 0;
    for client in clients {
        client.send(&half);
        client.send("\r\nget nothing\r\n");
        match client.line().as_str() {
            "STORED" => {}
            OUT_OF_MEMORY => refused += 1,
            other => panic!("{other}"),
        }
        assert_eq!(client.line(), "END", "out of step");
    }
    refused
}

fn thousands_announce(value_bytes: usize) {
    let daemon = daemon();
    let mut clients = announce(&daemon, value_bytes);
    business(&daemon, 1);
    let resident = daemon.memory("VmRSS");
    assert!(resident < RESIDENT_MAX, "{resident} bytes resident");
    let buffered = daemon.stat("buffer_bytes") as usize;
    assert!(buffered <= 16 * MIB, "{buffered} bytes of buffers");
    let refused = finish(&mut clients, value_bytes);
    assert!(refused > 0 && refused < CLIENTS, "{refused} refused");
    assert_eq!(daemon.stat("store_no_memory") as usize, refused);
    let resident = daemon.memory("VmRSS");
    assert!(resident < RESIDENT_MAX, "{resident} bytes resident");
    business(&daemon, 2);
    drop(clients);
    wait_until("no buffer is left", || daemon.stat("buffer_bytes") == 0);
}

#[test]
fn a_thousand_clients_announce_100_kb_and_send_half() {
    thousands_announce(100 * KIB);
}

#[test]
fn a_thousand_clients_announce_900_kb_and_send_half() {
    thousands_announce(900 * KIB);
}

#[test]
fn buffers_are_shown_while_they_are_held() {
    let daemon = daemon();
    let mut client = daemon.client();
    client.send("set k 0 0 100000\r\nbegun");
    wait_until("a buffer", || daemon.stat("buffer_bytes") >= 100_000);
    client.send(vec![b'x'; 100_000 - 5]);
    client.send("\r\n");
    assert_eq!(client.line(), "STORED");
    wait_until("no buffer", || daemon.stat("buffer_bytes") == 0);
}

#[test]
fn while_others_fill_the_budget_pipelined_requests_are_answered() {
    let daemon = daemon();
    let value = pattern(7, 8 * KIB);
    daemon.client().must_set("k", &value);
    let _hogs = fill(&daemon);
    for requests in [25, 100, 1_000] {
        // More than one turn's commands, and more than a buffer's bytes.
        let mut client = daemon.client();
        client.send(format!("get k{}\r\n", " ".repeat(50)).repeat(requests));
        for _ in 0..requests {
            assert_eq!(client.value("k").as_ref(), Some(&value));
            assert_eq!(client.line(), "END");
        }
    }
}

#[test]
fn while_others_fill_the_budget_a_multiget_is_answered() {
    let daemon = daemon();
    let mut client = daemon.client();
    let keys: Vec<String> = (0..100).map(|number| format!("key{number}")).collect();
    for (number, key) in keys.iter().enumerate() {
        client.must_set(key, &pattern(number as u64, 8 * KIB));
    }
    let _hogs = fill(&daemon);
    client.send(format!("get {}\r\n", keys.join(" ")));
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(client.value(key), Some(pattern(number as u64, 8 * KIB)));
    }
    assert_eq!(client.line(), "END");
}

#[test]
fn while_others_fill_the_budget_a_large_value_is_read() {
    let daemon = daemon();
    let mut client = daemon.client();
    let value = pattern(9, 900 * KIB);
    client.must_set("k", &value);
    let _hogs = fill(&daemon);
    for _ in 0..10 {
        assert_eq!(client.get("k").as_ref(), Some(&value));
    }
}

#[test]
fn a_client_that_never_reads_stops_being_served_and_gets_all_in_the_end() {
    let daemon = daemon();
    let mut setter = daemon.client();
    let values: Vec<Vec<u8>> = (0..10).map(|seed| pattern(seed, 100 * KIB)).collect();
    for (number, value) in values.iter().enumerate() {
        setter.must_set(&format!("k{number}"), value);
    }
    let mut client = daemon.client();
    let requests: String = (0..2_000)
        .map(|number| format!("get k{}\r\n", number % 10))
        .collect();
    client.send(&requests);
    business(&daemon, 1);
    let written = || daemon.stat("bytes_written") as usize;
    let mut seen = written();
    wait_until("it stops being served", || {
        // Each look is itself answered, with a few KB.
        let more = written() - seen;
        seen += more;
        more < 10 * KIB
    });
    assert!(seen < 100 * MIB, "{seen} bytes are on their way");
    let resident = daemon.memory("VmRSS");
    assert!(resident < RESIDENT_MAX, "{resident} bytes resident");
    for number in 0..2_000 {
        let number = number % 10;
        assert_eq!(
            client.value(&format!("k{number}")).as_ref(),
            Some(&values[number])
        );
        assert_eq!(client.line(), "END");
    }
    client.must_set("k", b"in step");
}

#[test]
fn many_clients_that_never_read_leave_the_others_served() {
    let daemon = daemon();
    let mut setter = daemon.client();
    let value = pattern(1, 500 * KIB);
    setter.must_set("k", &value);
    let requests = "get k\r\n".repeat(100);
    let mut clients: Vec<_> = (0..300).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.send(&requests);
    }
    business(&daemon, 1);
    let buffered = daemon.stat("buffer_bytes") as usize;
    assert!(buffered <= 16 * MIB, "{buffered} bytes of buffers");
    let resident = daemon.memory("VmRSS");
    assert!(resident < RESIDENT_MAX, "{resident} bytes resident");
    drop(clients);
    wait_until("no buffer is left", || daemon.stat("buffer_bytes") == 0);
    business(&daemon, 2);
}

#[test]
fn a_thousand_unfinished_multigets_leave_the_others_served() {
    let daemon = daemon();
    let mut line = b"get".to_vec();
    while line.len() < 900 * KIB {
        line.extend_from_slice(b" tokens/0123456789abcdef0123456789abcdef0123456789abcdef");
    }
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| daemon.client()).collect();
    for client in &mut clients {
        // Over the budget it is closed, perhaps before all is sent.
        let _ = client.stream.write_all(&line);
    }
    business(&daemon, 1);
    let resident = daemon.memory("VmRSS");
    assert!(resident < RESIDENT_MAX, "{resident} bytes resident");
    let buffered = daemon.stat("buffer_bytes") as usize;
    assert!(buffered <= 16 * MIB, "{buffered} bytes of buffers");
    assert!(daemon.stat("closed_for_memory") > 0);
}

#[test]
fn a_multiget_of_ten_thousand_keys_is_answered() {
    let daemon = daemon();
    let mut client = daemon.client();
    let mut batch = Vec::new();
    let keys: Vec<String> = (0..10_000)
        .map(|number| format!("tokens/{number:064x}"))
        .collect();
    for key in keys.iter().step_by(3) {
        batch.extend(set_request(key, key.as_bytes()));
    }
    client.send(&batch);
    for _ in keys.iter().step_by(3) {
        assert_eq!(client.line(), "STORED");
    }
    client.send(format!("get {}\r\n", keys.join(" ")));
    for key in keys.iter().step_by(3) {
        assert_eq!(client.value(key).as_deref(), Some(key.as_bytes()));
    }
    assert_eq!(client.line(), "END");
    assert_eq!(client.stat("get_misses"), 6_666);
}

#[test]
fn a_line_without_end_is_hung_up_on() {
    let daemon = daemon();
    let mut client = daemon.client();
    // Whatever is sent behind the close is lost, and may cut the sending short.
    let _ = client.stream.write_all(&vec![b'x'; 100 * KIB]);
    client.rest();
    let mut client = daemon.client();
    let _ = client.stream.write_all(b"get ");
    let _ = client.stream.write_all(&b"key ".repeat(MIB));
    client.rest();
    wait_until("no buffer is left", || daemon.stat("buffer_bytes") == 0);
    business(&daemon, 1);
}
