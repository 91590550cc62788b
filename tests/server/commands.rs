//! Commands that change the server or look into it.

use std::collections::HashMap;

use crate::daemon::{Daemon, Folder, KIB, MIB, pattern};

#[test]
fn cache_memlimit_shrinks_what_is_resident_and_keeps_what_fits() {
    let daemon = Daemon::start("-m 128 -t 2");
    let mut client = daemon.client();
    let key = |number: u64| format!("key{number}");
    for number in 0..25_000 {
        client.must_set(&key(number), &pattern(number, 4 * KIB));
    }
    let before = daemon.memory("VmRSS");
    assert!(before > 90 * MIB, "{before}");
    assert_eq!(client.ask("cache_memlimit 32"), "OK");
    let after = daemon.memory("VmRSS");
    assert!(after < (32 + 24) * MIB, "{before} before, {after} after");
    assert_eq!(client.stat("limit_maxbytes") as usize, 32 * MIB);
    assert!(client.stat("evictions") > 0);
    let mut kept = 0;
    for number in 0..25_000 {
        if let Some(value) = client.get(&key(number)) {
            assert_eq!(value, pattern(number, 4 * KIB));
            kept += 1;
        }
    }
    assert!(kept > 6_000, "{kept} of 7,500 are kept");
    assert_eq!(client.stat("curr_items"), kept);

    assert_eq!(client.ask("cache_memlimit 128"), "OK");
    for number in 0..25_000 {
        client.must_set(&key(number), &pattern(number, 4 * KIB));
    }
    assert!(client.stat("curr_items") > 20_000);
}

#[test]
fn cache_memlimit_out_of_bounds_changes_nothing() {
    let daemon = Daemon::start("-m 64 --memory-ceiling 100");
    let mut client = daemon.client();
    client.must_set("k", b"value");
    let out_of_bounds = "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust";
    for (argument, answer) in [
        ("101", out_of_bounds),
        (
            "1",
            "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m",
        ),
        (
            "7",
            "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m",
        ),
        ("x", "ERROR"),
        (
            "4294967295",
            "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes",
        ),
        ("8", "OK"),
        ("100", "OK"),
    ] {
        assert_eq!(
            client.ask(&format!("cache_memlimit {argument}")),
            answer,
            "{argument}"
        );
    }
    assert_eq!(client.stat("limit_maxbytes") as usize, 100 * MIB);
    assert_eq!(client.get("k").as_deref(), Some(&b"value"[..]));
}

#[test]
fn without_evictions_what_does_not_fit_is_refused_and_the_rest_stays() {
    let daemon = Daemon::start("-M -m 8 -I 1m -t 1");
    let mut client = daemon.client();
    let mut stored = 0;
    loop {
        match client
            .set(&format!("key{stored}"), &pattern(stored, 10 * KIB))
            .as_str()
        {
            "STORED" => stored += 1,
            answer => {
                assert_eq!(answer, "SERVER_ERROR out of memory storing object");
                break;
            }
        }
        assert!(stored < 10_000, "it is never full");
    }
    assert!(stored > 600, "{stored} of about 750");
    let large = client.set("large", &pattern(1, 900 * KIB));
    assert_eq!(large, "SERVER_ERROR out of memory storing object");
    assert_eq!(client.stat("evictions"), 0);
    assert_eq!(client.stat("curr_items"), stored);
    assert!(client.stat("store_no_memory") >= 2);
    for number in 0..stored {
        assert_eq!(
            client.get(&format!("key{number}")),
            Some(pattern(number, 10 * KIB))
        );
    }
    // Room that is made by clients can be used again.
    for number in 0..stored {
        assert_eq!(client.ask(&format!("delete key{number}")), "DELETED");
    }
    client.must_set("large", &pattern(1, 900 * KIB));
    for number in 0..stored / 2 {
        client.must_set(&format!("again{number}"), &pattern(number, 10 * KIB));
    }
}

#[test]
fn verbosity_changes_the_log_while_it_runs() {
    let daemon = Daemon::start("");
    let mut client = daemon.client();
    assert_eq!(client.ask("verbosity 2"), "OK");
    let settings: HashMap<_, _> = client.stats("settings").into_iter().collect();
    assert_eq!(settings["verbosity"], "2");
    assert_eq!(
        client.ask("verbosity x"),
        "CLIENT_ERROR bad command line format"
    );
    client.send("verbosity 0 noreply\r\n");
    assert_eq!(client.get("nothing"), None);
}

#[test]
fn shutdown_ends_the_server_only_where_that_is_allowed() {
    let folder = Folder::new();
    for command in ["shutdown", "shutdown graceful"] {
        let mut daemon = Daemon::start(&format!("-A -s {}", folder.text("socket")));
        let mut client = daemon.client();
        assert_eq!(
            client.ask("shutdown now"),
            "CLIENT_ERROR invalid shutdown mode"
        );
        client.send(format!("{command}\r\n"));
        assert_eq!(client.rest(), b"");
        assert_eq!(daemon.wait().code(), Some(0));
        assert_eq!(folder.names(), [""; 0]);
    }
    let mut daemon = Daemon::start("");
    let mut client = daemon.client();
    assert_eq!(client.ask("shutdown"), "SERVER_ERROR: shutdown not enabled");
    client.must_set("k", b"value");
    daemon.stop();
}

/// What prometheus/memcached_exporter cannot do without, or turns into numbers where it is there.
const NUMBERS: &[&str] = &[
    "accepting_conns",
    "bytes",
    "bytes_read",
    "bytes_written",
    "cas_badval",
    "cas_hits",
    "cas_misses",
    "cmd_flush",
    "cmd_get",
    "cmd_set",
    "cmd_touch",
    "conn_yields",
    "curr_connections",
    "curr_items",
    "decr_hits",
    "decr_misses",
    "delete_hits",
    "delete_misses",
    "evictions",
    "get_hits",
    "get_misses",
    "incr_hits",
    "incr_misses",
    "limit_maxbytes",
    "listen_disabled_num",
    "max_connections",
    "reclaimed",
    "rejected_connections",
    "store_no_memory",
    "store_too_large",
    "threads",
    "time",
    "total_connections",
    "total_items",
    "total_malloced",
    "touch_hits",
    "touch_misses",
    "uptime",
];

#[test]
fn the_exporter_of_prometheus_sees_a_healthy_memcached() {
    let daemon = Daemon::start("");
    let mut client = daemon.client();
    for number in 0..10 {
        client.must_set(&format!("k{number}"), &pattern(number, 10 * KIB));
    }
    client.get("k1");
    client.get("nothing");
    let stats: HashMap<_, _> = client.stats("").into_iter().collect();
    for name in NUMBERS {
        let value = stats.get(*name).unwrap_or_else(|| panic!("no {name}"));
        assert!(value.parse::<u64>().is_ok(), "{name} {value}");
    }
    assert_eq!((&*stats["cmd_set"], &*stats["cmd_get"]), ("10", "2"));
    assert_eq!(
        (&*stats["curr_items"], &*stats["total_items"]),
        ("10", "10")
    );
    assert_eq!((&*stats["get_hits"], &*stats["get_misses"]), ("1", "1"));
    assert_eq!(stats["version"], "1.6.45");
    for name in ["rusage_user", "rusage_system"] {
        let (seconds, micros) = stats[name].split_once('.').unwrap();
        assert!(
            seconds.parse::<u64>().is_ok() && micros.len() == 6,
            "{name}"
        );
    }
    let settings = client.stats("settings");
    // Every line has three words: `STAT`, the name, one value.
    assert!(
        settings
            .iter()
            .all(|(_, value)| !value.is_empty() && !value.contains(' '))
    );
    let settings: HashMap<_, _> = settings.into_iter().collect();
    assert_eq!(settings["lru_crawler"], "no");
    assert_eq!(settings["maxconns"], "4096");
    assert_eq!(settings["maxbytes"], (64 * MIB).to_string());
    for (name, value) in client.stats("slabs") {
        assert!(!name.contains(':'), "a slab class: {name} {value}");
    }
    for (name, value) in client.stats("items") {
        assert!(!name.starts_with("items:"), "a slab class: {name} {value}");
    }
}
