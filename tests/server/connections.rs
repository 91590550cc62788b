//! Connections stay open, are counted, and take turns: one slow or greedy client slows no other.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crate::daemon::{Client, Daemon, KIB, MIB, allow_many_connections, pattern, wait_until};

#[test]
fn idle_timeout_closes_who_is_silent_and_nobody_else() {
    let mut daemon = Daemon::start("-o idle_timeout=1");
    daemon.wait_for_log("memcache_pool_dead_retry");
    let mut talking = daemon.client();
    let mut silent = daemon.client();
    assert_eq!(silent.get("k"), None);
    let mut unfinished = daemon.client();
    unfinished.send("set k 0 0 10\r\n12345");
    wait_until("the silent one is closed", || {
        talking.stat("idle_kicks") == 1
    });
    assert_eq!(silent.rest(), b"");
    unfinished.send("67890\r\n");
    assert_eq!(
        unfinished.line(),
        "STORED",
        "it was in the middle of a value"
    );
    assert_eq!(talking.get("k").unwrap(), b"1234567890");
}

#[test]
fn an_idle_connection_is_never_closed() {
    let daemon = Daemon::start("-t 2");
    let mut idle: Vec<_> = (0..20).map(|_| daemon.client()).collect();
    let (half, rest) = "set idle 0 0 5\r\nhe|llo\r\n".split_once('|').unwrap();
    idle.iter_mut().take(3).for_each(|client| client.send(half));
    for round in 0..30 {
        let mut other = daemon.client();
        other.must_set("busy", &pattern(round, 10 * KIB));
        assert_eq!(other.get("busy"), Some(pattern(round, 10 * KIB)));
        drop(other);
        thread::sleep(Duration::from_millis(100));
    }
    for (number, client) in idle.iter_mut().enumerate() {
        if number < 3 {
            client.send(rest);
            assert_eq!(client.line(), "STORED");
        }
        assert_eq!(client.get("idle").as_deref(), Some(&b"hello"[..]));
    }
}

#[test]
fn over_the_limit_of_connections_a_new_one_is_closed_and_the_others_go_on() {
    // keystonemiddleware's binary client takes a close for a miss, and a line of text for a broken frame.
    new_ones_are_closed("-c 4", b"");
    let told = b"ERROR Too many open connections\r\n";
    new_ones_are_closed("-c 4 -B ascii", told);
}

fn new_ones_are_closed(arguments: &str, told: &[u8]) {
    let daemon = Daemon::start(arguments);
    let mut clients: Vec<_> = (0..4).map(|_| daemon.client()).collect();
    clients
        .iter_mut()
        .for_each(|client| assert_eq!(client.get("k"), None));
    for _ in 0..3 {
        assert_eq!(daemon.client().rest(), told);
    }
    for client in &mut clients {
        client.must_set("k", b"value");
        assert_eq!(client.stat("rejected_connections"), 3);
        assert_eq!(client.stat("curr_connections"), 4);
        assert_eq!(client.stat("max_connections"), 4);
    }
    drop(clients.pop());
    wait_until("one less", || clients[0].stat("curr_connections") == 3);
    assert_eq!(daemon.client().get("k").as_deref(), Some(&b"value"[..]));
}

#[test]
fn running_out_of_descriptors_neither_ends_nor_spins_the_server() {
    let daemon = Daemon::start("-t 1 -c 1000");
    let mut first = daemon.client();
    first.must_set("k", b"value");
    daemon.limit_open_files(40);
    // The kernel takes them all; the server can accept a part of them.
    let mut others: Vec<_> = (0..100).map(|_| daemon.client()).collect();
    wait_until("a pause", || first.stat("listen_disabled_num") > 0);
    let before = daemon.cpu_time();
    thread::sleep(Duration::from_secs(2));
    let used = daemon.cpu_time() - before;
    assert!(used < Duration::from_millis(500), "{used:?} of two seconds");
    assert_eq!(first.get("k").as_deref(), Some(&b"value"[..]));

    drop(others.drain(..90));
    for client in &mut others {
        assert_eq!(client.get("k").as_deref(), Some(&b"value"[..]));
    }
    assert_eq!(daemon.client().get("k").as_deref(), Some(&b"value"[..]));
    assert!(first.stat("time_in_listen_disabled_us") > 0);
}

#[test]
fn a_connection_that_pipelines_without_end_keeps_no_other_from_being_served() {
    let daemon = Daemon::start("-t 1 -R 20");
    let mut client = daemon.client();
    client.must_set("k", &pattern(1, KIB));
    let flood = TcpStream::connect(daemon.address()).unwrap();
    let (mut sending, mut receiving) = (flood.try_clone().unwrap(), flood.try_clone().unwrap());
    let sender = thread::spawn(move || {
        let batch = b"get k\r\n".repeat(10_000);
        while sending.write_all(&batch).is_ok() {}
    });
    let receiver = thread::spawn(move || {
        let mut buffer = vec![0; 256 * KIB];
        while receiving.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    for _ in 0..1_000 {
        assert_eq!(client.get("k"), Some(pattern(1, KIB)));
    }
    let yields = client.stat("conn_yields");
    assert!(yields > 0, "{yields} yields");
    flood.shutdown(Shutdown::Both).unwrap();
    sender.join().unwrap();
    receiver.join().unwrap();
    assert_eq!(client.get("k"), Some(pattern(1, KIB)));
}

#[test]
fn one_connection_alone_is_served_in_step_across_its_turns() {
    let daemon = Daemon::start("-t 1 -R 1");
    let mut client = daemon.client();
    let keys: Vec<String> = (0..100).map(|number| format!("key{number}")).collect();
    let mut batch = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        batch.extend(crate::daemon::set_request(
            key,
            &pattern(number as u64, 9 * KIB),
        ));
        batch.extend(format!("get {key}\r\n").as_bytes());
    }
    client.send(format!("get {}\r\n", keys.join(" ")));
    client.send(&batch);
    client.send(format!("get {}\r\n", keys.join(" ")));
    assert_eq!(client.line(), "END");
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(client.line(), "STORED");
        assert_eq!(client.value(key), Some(pattern(number as u64, 9 * KIB)));
        assert_eq!(client.line(), "END");
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(client.value(key), Some(pattern(number as u64, 9 * KIB)));
    }
    assert_eq!(client.line(), "END");
}

#[test]
fn a_client_that_sends_one_byte_at_a_time_is_answered_right() {
    let daemon = Daemon::start("-t 1");
    let mut client = daemon.client();
    let script = "set k 5 0 7 \r\nva\r\nlue\r\ngets k  nokey k\r\nset k 0 0 3\r\nabcdef\r\n\
                  incr k 1\r\nset n 0 0 2\r\n41\r\nincr n 1\r\nnonsense\r\nset big 0 0 2000000\r\n";
    for byte in script.bytes() {
        client.send([byte]);
    }
    let cas = client.line();
    assert_eq!(cas, "STORED");
    let header = client.line();
    assert!(header.starts_with("VALUE k 5 7 "), "{header}");
    assert_eq!(client.exactly(9), b"va\r\nlue\r\n");
    assert_eq!(client.line(), header);
    assert_eq!(client.exactly(9), b"va\r\nlue\r\n");
    assert_eq!(client.line(), "END");
    assert_eq!(client.line(), "CLIENT_ERROR bad data chunk");
    // The rest of the block is taken for a command.
    assert_eq!(client.line(), "CLIENT_ERROR bad command line format");
    assert_eq!(
        client.line(),
        "CLIENT_ERROR cannot increment or decrement non-numeric value"
    );
    assert_eq!(client.line(), "STORED");
    assert_eq!(client.line(), "42");
    assert_eq!(client.line(), "ERROR");
    assert_eq!(client.line(), "SERVER_ERROR object too large for cache");
    client.send(vec![b'x'; 2_000_000]);
    client.send("\r\n");
    assert_eq!(client.get("n").as_deref(), Some(&b"42"[..]));
}

#[test]
fn who_says_no_more_is_still_told_all_the_answers() {
    let daemon = Daemon::start("-t 1 -R 20");
    let value = pattern(3, 20 * KIB);
    daemon.client().must_set("k", &value);
    let mut client = daemon.client();
    let requests = b"get k\r\n".repeat(2_000);
    client.send(&requests);
    client.stream.shutdown(Shutdown::Write).unwrap();
    for _ in 0..2_000 {
        assert_eq!(client.value("k").as_ref(), Some(&value));
        assert_eq!(client.line(), "END");
    }
    assert_eq!(client.rest(), b"");
}

#[test]
fn clients_that_vanish_half_way_leave_nothing_behind() {
    allow_many_connections();
    let daemon = Daemon::start("-t 2 -m 64");
    let mut client = daemon.client();
    client.must_set("k", &pattern(1, 900 * KIB));
    let large = vec![b'x'; 300 * KIB];
    for round in 0..200 {
        let mut other = daemon.client();
        match round % 4 {
            0 => other.send("get k\r\nget k\r\nget k\r\n"),
            1 => other.send("set half 0 0 100000\r\nabc"),
            2 => {
                other.send("set half 0 0 900000\r\n");
                other.send(&large);
            }
            _ => other.send(format!("get {}", "x".repeat(40_000))),
        }
        socket2::SockRef::from(&other.stream)
            .set_linger((round % 2 == 0).then_some(Duration::ZERO))
            .unwrap();
    }
    wait_until("all are gone", || client.stat("curr_connections") == 1);
    assert_eq!(client.stat("buffer_bytes"), 0);
    assert_eq!(client.get("half"), None);
    assert_eq!(client.get("k"), Some(pattern(1, 900 * KIB)));
    // What the unfinished uploads had reserved can be used again.
    for number in 0..100 {
        client.must_set(&format!("again{number}"), &pattern(number, 900 * KIB));
    }
}

#[test]
fn a_connection_over_each_kind_of_socket_counts_once() {
    let folder = crate::daemon::Folder::new();
    let path = folder.text("socket");
    let daemon = Daemon::start(&format!("-c 3 -l [::1]:0 -s {path}"));
    let mut tcp = daemon.client();
    assert_eq!(tcp.get("k"), None);
    let mut unix = Client::unix(&path);
    assert_eq!(unix.stat("curr_connections"), 2);
    let mut third = Client::unix(&path);
    assert_eq!(third.stat("curr_connections"), 3);
    assert_eq!(Client::unix(&path).rest(), b"");
    let conns = tcp.stats("conns");
    let listening = format!("unix:{path}");
    let by_unix = conns.iter().filter(|(_, value)| *value == listening);
    assert!(by_unix.count() >= 2, "{conns:?}");
}

/// Waits until `stats conns` shows the states in the order of arrival, listening sockets first.
fn wait_for_states(asking: &mut Client<TcpStream>, expected: &[&str]) {
    let is_expected = || {
        let lines = asking.stats("conns");
        let of = |name: &str| -> Vec<String> {
            let named = lines.iter().filter(|(key, _)| key.ends_with(name));
            named.map(|(_, value)| value.clone()).collect()
        };
        let states = of(":state");
        assert_eq!(of(":addr").len(), states.len());
        assert_eq!(of(":secs_since_last_cmd").len(), states.len());
        // A listening socket came in nowhere.
        assert_eq!(of(":listen_addr").len(), states.len() - 1);
        states == expected
    };
    wait_until(&format!("{expected:?}"), is_expected);
}

#[test]
fn stats_conns_tells_what_each_connection_waits_for_in_memcacheds_words() {
    let daemon = Daemon::start("-I 2m");
    let mut asking = daemon.client();
    asking.must_set("large", &pattern(1, MIB));
    wait_for_states(&mut asking, &["conn_listening", "conn_parse_cmd"]);
    let idle = daemon.client();
    let mut in_value = daemon.client();
    in_value.send("set k 0 0 10\r\n12345");
    wait_until("the value has begun", || asking.stat("buffer_bytes") > 0);
    let mut skipping = daemon.client();
    skipping.send("set k 0 0 3000000\r\n12345");
    assert_eq!(skipping.line(), "SERVER_ERROR object too large for cache");
    let mut deaf = daemon.client();
    deaf.send("get large\r\n".repeat(64));
    let states = [
        "conn_listening",
        "conn_parse_cmd",
        "conn_read",
        "conn_nread",
        "conn_swallow",
        "conn_mwrite",
    ];
    wait_for_states(&mut asking, &states);
    drop((idle, in_value, skipping, deaf));
    wait_until("all are gone", || asking.stat("curr_connections") == 1);
    wait_for_states(&mut asking, &["conn_listening", "conn_parse_cmd"]);
}
