//! `/metrics` and `stats` say the same, and what prometheus/memcached_exporter makes of `stats` is what `/metrics`
//! has under the exporter's names.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::daemon::{Daemon, KIB, LIMIT, pattern, wait_until};

/// What memcached_exporter makes of the lines of `stats` (`pkg/exporter/exporter.go`, `parseStats`).
const EXPORTED: &[(&str, &str)] = &[
    ("memcached_uptime_seconds", "uptime"),
    ("memcached_time_seconds", "time"),
    ("memcached_process_user_cpu_seconds_total", "rusage_user"),
    (
        "memcached_process_system_cpu_seconds_total",
        "rusage_system",
    ),
    ("memcached_read_bytes_total", "bytes_read"),
    ("memcached_written_bytes_total", "bytes_written"),
    ("memcached_current_connections", "curr_connections"),
    ("memcached_connections_total", "total_connections"),
    (
        "memcached_connections_rejected_total",
        "rejected_connections",
    ),
    ("memcached_connections_yielded_total", "conn_yields"),
    (
        "memcached_connections_listener_disabled_total",
        "listen_disabled_num",
    ),
    ("memcached_accepting_connections", "accepting_conns"),
    ("memcached_current_bytes", "bytes"),
    ("memcached_limit_bytes", "limit_maxbytes"),
    ("memcached_current_items", "curr_items"),
    ("memcached_items_total", "total_items"),
    ("memcached_items_evicted_total", "evictions"),
    ("memcached_items_reclaimed_total", "reclaimed"),
    ("memcached_item_too_large_total", "store_too_large"),
    ("memcached_item_no_memory_total", "store_no_memory"),
    ("memcached_malloced_bytes", "total_malloced"),
    (
        r#"memcached_commands_total{command="get",status="hit"}"#,
        "get_hits",
    ),
    (
        r#"memcached_commands_total{command="get",status="miss"}"#,
        "get_misses",
    ),
    (
        r#"memcached_commands_total{command="delete",status="hit"}"#,
        "delete_hits",
    ),
    (
        r#"memcached_commands_total{command="delete",status="miss"}"#,
        "delete_misses",
    ),
    (
        r#"memcached_commands_total{command="incr",status="hit"}"#,
        "incr_hits",
    ),
    (
        r#"memcached_commands_total{command="incr",status="miss"}"#,
        "incr_misses",
    ),
    (
        r#"memcached_commands_total{command="decr",status="hit"}"#,
        "decr_hits",
    ),
    (
        r#"memcached_commands_total{command="decr",status="miss"}"#,
        "decr_misses",
    ),
    (
        r#"memcached_commands_total{command="cas",status="hit"}"#,
        "cas_hits",
    ),
    (
        r#"memcached_commands_total{command="cas",status="miss"}"#,
        "cas_misses",
    ),
    (
        r#"memcached_commands_total{command="cas",status="badval"}"#,
        "cas_badval",
    ),
    (
        r#"memcached_commands_total{command="touch",status="hit"}"#,
        "touch_hits",
    ),
    (
        r#"memcached_commands_total{command="touch",status="miss"}"#,
        "touch_misses",
    ),
    (
        r#"memcached_commands_total{command="flush",status="hit"}"#,
        "cmd_flush",
    ),
];

/// Of those, what goes on while somebody looks.
const MOVING: &[&str] = &[
    "uptime",
    "time",
    "rusage_user",
    "rusage_system",
    "bytes_read",
    "bytes_written",
];

/// What a scrape shows, by name and labels.
pub fn scrape(daemon: &Daemon) -> BTreeMap<String, f64> {
    let mut stream = TcpStream::connect(daemon.http()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn what_the_exporter_makes_of_stats_is_what_metrics_say() {
    let daemon = Daemon::with("-l 127.0.0.1:0 --http 127.0.0.1:0 -I 64k");
    let mut client = daemon.client();
    assert_eq!(client.ask("flush_all"), "OK");
    for number in 0..9 {
        client.must_set(&format!("k{number}"), &pattern(number, 10 * KIB));
    }
    client.must_set("n", b"10");
    for key in ["k1", "k2", "nothing"] {
        client.get(key);
    }
    for (line, answer) in [
        ("delete k1", "DELETED"),
        ("delete k1", "NOT_FOUND"),
        ("delete k1", "NOT_FOUND"),
        ("incr n 5", "15"),
        ("incr x 5", "NOT_FOUND"),
        ("decr n 5", "10"),
        ("decr n 5", "5"),
        ("decr x 5", "NOT_FOUND"),
        ("cas n 0 0 1 999999\r\n1", "EXISTS"),
        ("cas x 0 0 1 1\r\n1", "NOT_FOUND"),
        ("touch n 0", "TOUCHED"),
        ("touch x 0", "NOT_FOUND"),
        ("touch x 0", "NOT_FOUND"),
    ] {
        assert_eq!(client.ask(line), answer, "{line}");
    }
    let refused = client.set("large", &pattern(1, 100 * KIB));
    assert_eq!(refused, "SERVER_ERROR object too large for cache");

    let metrics = scrape(&daemon);
    let stats: BTreeMap<_, _> = client.stats("").into_iter().collect();
    let number = |name: &str| stats[name].parse::<f64>().unwrap();
    for (metric, line) in EXPORTED {
        let shown = metrics
            .get(*metric)
            .unwrap_or_else(|| panic!("no {metric}"));
        if !MOVING.contains(line) {
            assert_eq!(*shown, number(line), "{metric}");
        }
    }
    // The exporter takes these apart.
    let cas = ["cas_hits", "cas_misses", "cas_badval"].map(number);
    let sets = number("cmd_set") - cas.iter().sum::<f64>();
    let set = r#"memcached_commands_total{command="set",status="hit"}"#;
    assert_eq!((metrics[set], cas), (sets, [0.0, 1.0, 1.0]));
    assert_eq!(metrics["memcached_max_connections"], 4096.0);
    assert_eq!(metrics["memcached_up"], 1.0);
    assert_eq!(metrics[r#"memcached_version{version="1.6.45"}"#], 1.0);
    // Where a process has lived shorter than a tick, the kernel may put all of it down to one of them.
    let cpu =
        ["user", "system"].map(|of| metrics[&format!("memcached_process_{of}_cpu_seconds_total")]);
    assert!(cpu.iter().sum::<f64>() > 0.0);
}

#[test]
fn lengths_of_values_are_counted_as_they_came_and_as_they_are_stored() {
    let daemon = Daemon::with("-l 127.0.0.1:0 --http 127.0.0.1:0 -m 64 -I 8m");
    let mut client = daemon.client();
    client.must_set("small", &[b'x'; 100]);
    let shrinks = b"endpoint ".repeat(1_000);
    client.must_set("shrinks", &shrinks);
    client.must_set("large", &pattern(1, 4 << 20));
    client.send("add small 0 0 1\r\nx\r\n");
    assert_eq!(client.line(), "NOT_STORED");
    let metrics = scrape(&daemon);
    let came = 100.0 + 9_000.0 + f64::from(4 << 20);
    assert_eq!(metrics["tokencached_item_bytes_count"], 3.0);
    assert_eq!(metrics["tokencached_item_bytes_sum"], came);
    let stored = metrics["tokencached_packed_bytes_sum"];
    assert_eq!(metrics["tokencached_packed_bytes_count"], 3.0);
    let shrunk = metrics["tokencached_packed_into_bytes_total"];
    assert!(shrunk > 0.0, "one was packed");
    assert_eq!(stored, came - 9_000.0 + shrunk);
}

#[test]
fn one_turn_in_some_is_timed() {
    let daemon = Daemon::with("-l 127.0.0.1:0 --http 127.0.0.1:0 -t 1");
    let mut client = daemon.client();
    for _ in 0..640 {
        client.get("k");
    }
    let timed = scrape(&daemon)["tokencached_serve_seconds_count"];
    assert!((9.0..=11.0).contains(&timed), "{timed} of 640");
}

#[test]
fn a_client_that_does_not_take_its_replies_is_shown_as_slow() {
    let daemon = Daemon::with("-l 127.0.0.1:0 --http 127.0.0.1:0");
    let mut stuck = daemon.client();
    stuck.must_set("k", &pattern(1, 900 * KIB));
    assert_eq!(scrape(&daemon)["tokencached_slow_clients"], 0.0);
    stuck.send("get k\r\n".repeat(100));
    wait_until("a slow client", || {
        scrape(&daemon)["tokencached_slow_clients"] == 1.0
    });
    for _ in 0..100 {
        assert!(stuck.value("k").is_some());
        assert_eq!(stuck.line(), "END");
    }
    wait_until("no slow client", || {
        scrape(&daemon)["tokencached_slow_clients"] == 0.0
    });
}

#[test]
fn uses_of_memory_add_up_to_the_limit() {
    let daemon = Daemon::with("-l 127.0.0.1:0 --http 127.0.0.1:0 -m 8");
    let mut client = daemon.client();
    for number in 0..200 {
        client.must_set(&format!("k{number}"), &pattern(number, 10 * KIB));
    }
    let metrics = scrape(&daemon);
    let of_use = |name: &str| metrics[&format!("tokencached_heap_bytes{{use=\"{name}\"}}")];
    let uses = ["items", "unused", "tables", "dictionaries", "free"].map(of_use);
    assert_eq!(uses.iter().sum::<f64>(), metrics["memcached_limit_bytes"]);
    assert!(of_use("items") >= 200.0 * 10.0 * 1024.0, "{uses:?}");
    let of_chain = |name: &str| metrics[&format!("tokencached_segments{{chain=\"{name}\"}}")];
    let segments: f64 = ["probation", "main", "other"].map(of_chain).iter().sum();
    assert!(of_chain("probation") > 0.0);
    let segment_bytes = metrics["memcached_malloced_bytes"] / segments;
    assert_eq!(segment_bytes, 64.0 * 1024.0);
}
