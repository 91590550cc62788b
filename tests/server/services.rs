//! Which service asks, what for, and why it was not there: in the metrics, over real connections.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use nix::unistd::{Uid, User, geteuid};

use crate::access::{DAEMON, NOBODY, client_of, without_root};
use crate::corpus::{Strategy, recorded};
use crate::daemon::{Client, Daemon, Folder, KIB, pattern, wait_until};
use crate::metrics;
use crate::replace::replace;

const WITH_HTTP: &str = "-l 127.0.0.1:0 --http 127.0.0.1:0";

/// The key of a plain token.
fn token(number: u64) -> String {
    format!("tokens/{number:064x}")
}

fn name_of(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).unwrap().unwrap().name
}

fn own_name() -> String {
    name_of(geteuid().as_raw())
}

/// What a scrape shows once the text of the last one is too old to be shown again.
fn scrape(daemon: &Daemon) -> BTreeMap<String, f64> {
    thread::sleep(Duration::from_millis(150));
    metrics::scrape(daemon)
}

/// A metric of a service with these other labels.
fn of(metrics: &BTreeMap<String, f64>, name: &str, service: &str, labels: &str) -> f64 {
    let name = format!("tokencached_{name}{{service=\"{service}\"{labels}}}");
    *metrics
        .get(&name)
        .unwrap_or_else(|| panic!("no {name} in {metrics:?}"))
}

/// Waits until the user's name is known: it is looked up while its connection is served already.
fn wait_for_name(daemon: &Daemon, service: &str) {
    let name = format!("tokencached_connections_accepted_total{{service=\"{service}\"}}");
    wait_until("the name of a user", || scrape(daemon).contains_key(&name));
}

fn misses(daemon: &Daemon, cause: &str) -> f64 {
    let labels = format!(",class=\"token\",cause=\"{cause}\"");
    of(&scrape(daemon), "misses_total", &own_name(), &labels)
}

#[test]
fn each_cause_of_a_miss_is_counted_as_itself() {
    let daemon = Daemon::with(&format!("{WITH_HTTP} -m 8 --no-packing"));
    let mut client = daemon.client();
    wait_for_name(&daemon, &own_name());
    assert!(client.get(&token(1)).is_none());
    assert_eq!(misses(&daemon, "never_seen"), 1.0);
    client.must_set(&token(2), b"v");
    assert_eq!(client.ask(&format!("delete {}", token(2))), "DELETED");
    assert!(client.get(&token(2)).is_none() && client.get(&token(2)).is_none());
    assert_eq!(misses(&daemon, "deleted"), 2.0);
    assert_eq!(
        client.ask(&format!("set {} 0 -1 1\r\nv", token(3))),
        "STORED"
    );
    assert!((0..3).all(|_| client.get(&token(3)).is_none()));
    assert_eq!(misses(&daemon, "expired"), 3.0);
    client.must_set(&token(4), b"v");
    assert_eq!(client.ask("flush_all"), "OK");
    assert!((0..4).all(|_| client.get(&token(4)).is_none()));
    assert_eq!(misses(&daemon, "flushed"), 4.0);
    for number in 100..1_600 {
        client.must_set(&token(number), &pattern(number, 10 * KIB));
    }
    assert!((0..5).all(|_| client.get(&token(100)).is_none()));
    assert_eq!(misses(&daemon, "evicted"), 5.0);
    assert_eq!(misses(&daemon, "never_seen"), 1.0, "none is counted twice");
    assert_eq!(misses(&daemon, "deleted"), 2.0);

    let metrics = scrape(&daemon);
    let own = own_name();
    let requests = |command: &str| {
        let labels = format!(",class=\"token\",command=\"{command}\"");
        of(&metrics, "requests_total", &own, &labels)
    };
    assert_eq!(["get", "set", "delete"].map(requests), [15.0, 1_503.0, 1.0]);
    assert!(
        metrics["tokencached_evicted_ttl_ratio_count"] == 0.0,
        "they never expire"
    );
    assert!(metrics[r#"tokencached_item_held_seconds_count{cause="evicted"}"#] > 500.0);
    assert_eq!(
        metrics[r#"tokencached_item_hits_sum{cause="evicted"}"#],
        0.0
    );
}

#[test]
fn a_token_that_left_early_is_counted_when_it_is_stored_again() {
    let daemon = Daemon::with(WITH_HTTP);
    let mut client = daemon.client();
    wait_for_name(&daemon, &own_name());
    let revalidations = || {
        let metrics = scrape(&daemon);
        ["evicted", "flushed", "deleted"].map(|cause| {
            let cause = format!(",cause=\"{cause}\"");
            of(&metrics, "revalidations_total", &own_name(), &cause)
        })
    };
    client.must_set(&token(1), b"v");
    client.must_set(&token(1), b"v");
    assert_eq!(revalidations(), [0.0; 3]);
    client.ask(&format!("delete {}", token(1)));
    client.must_set(&token(1), b"v");
    assert_eq!(revalidations(), [0.0, 0.0, 1.0]);
    client.ask("flush_all");
    client.must_set(&token(1), b"v");
    assert_eq!(revalidations(), [0.0, 1.0, 1.0]);
    client.ask(&format!("set {} 0 -1 1\r\nv", token(1)));
    client.must_set(&token(1), b"v");
    assert_eq!(revalidations(), [0.0, 1.0, 1.0], "its time was over");
}

#[test]
fn what_clients_keep_is_told_apart() {
    let daemon = Daemon::with(WITH_HTTP);
    let mut client = daemon.client();
    wait_for_name(&daemon, &own_name());
    let recorded = recorded();
    for (strategy, count) in [
        (Strategy::Plain, 3),
        (Strategy::Mac, 4),
        (Strategy::Encrypt, 5),
    ] {
        let values = recorded.iter().filter(|one| one.strategy == strategy);
        for one in values.take(count) {
            let key = std::str::from_utf8(&one.key).unwrap();
            assert!(client.get(key).is_none());
            client.must_set(key, &one.value);
            assert_eq!(client.get(key).as_ref(), Some(&one.value));
        }
    }
    client.must_set("179c37d1cedb6c37c62743c5cc480e223fafd611", b"x");
    client.get("179c37d1cedb6c37c62743c5cc480e223fafd611");
    client.must_set("k", b"v");
    let metrics = scrape(&daemon);
    let of_class =
        |name: &str, class: &str| of(&metrics, name, &own_name(), &format!(",class=\"{class}\""));
    for (class, hits) in [
        ("token", 3.0),
        ("token_mac", 4.0),
        ("token_encrypt", 5.0),
        ("dogpile", 1.0),
        ("other", 0.0),
    ] {
        assert_eq!(of_class("hits_total", class), hits, "{class}");
    }
    // As they came, though they are packed.
    let came = of_class("set_bytes_total", "token_mac");
    assert!(came > 4.0 * 800.0);
    assert_eq!(of_class("hit_bytes_total", "token_mac"), came);
    let avoided = of(&metrics, "validations_avoided_total", &own_name(), "");
    let saved = of(
        &metrics,
        "keystone_cpu_seconds_saved_total",
        &own_name(),
        "",
    );
    assert_eq!(avoided, 12.0);
    assert!((saved - 1.2).abs() < 1e-9, "{saved}");
}

#[test]
fn two_users_are_two_services_on_either_kind_of_socket() {
    if without_root() {
        return;
    }
    let folder = Folder::new();
    let socket = folder.text("socket");
    let options = "--validation-cost-ms 250 -a 777";
    let mut daemon = Daemon::with(&format!("{WITH_HTTP} -s {socket} {options}"));
    daemon.wait_for_log(&format!("unix:{socket}"));
    let mut nobody = client_of(NOBODY, daemon.address());
    let mut other = crate::access::as_user(DAEMON, || Client::unix(&socket));
    nobody.must_set(&token(1), b"v");
    for client in [
        &mut nobody.get(&token(1)),
        &mut other.get(&token(1)),
        &mut other.get(&token(1)),
    ] {
        assert!(client.take().is_some());
    }
    let names = [NOBODY, DAEMON].map(name_of);
    names.iter().for_each(|name| wait_for_name(&daemon, name));
    let metrics = scrape(&daemon);
    let each = |name: &str, labels: &str| {
        names
            .clone()
            .map(|service| of(&metrics, name, &service, labels))
    };
    assert_eq!(each("validations_avoided_total", ""), [1.0, 2.0]);
    assert_eq!(each("keystone_cpu_seconds_saved_total", ""), [0.25, 0.5]);
    assert_eq!(each("connections", ",state=\"conn_read\""), [1.0, 1.0]);
    assert_eq!(each("connections_accepted_total", ""), [1.0, 1.0]);
}

#[test]
fn who_is_not_asked_for_is_unknown() {
    let daemon = Daemon::with(&format!("{WITH_HTTP} --no-service-names"));
    let mut client = daemon.client();
    client.must_set(&token(1), b"v");
    client.get(&token(1));
    let metrics = scrape(&daemon);
    assert_eq!(
        of(&metrics, "validations_avoided_total", "unknown", ""),
        1.0
    );
    assert_eq!(daemon.stat("peer_lookups"), 0);
}

#[test]
fn what_was_counted_of_a_service_goes_on_over_a_restart() {
    let mut daemon = Daemon::with(WITH_HTTP);
    let mut client = daemon.client();
    wait_for_name(&daemon, &own_name());
    client.must_set(&token(1), b"v");
    client.get(&token(1));
    client.ask(&format!("delete {}", token(1)));
    replace(&mut daemon);
    client.must_set(&token(2), b"v");
    client.get(&token(2));
    let metrics = scrape(&daemon);
    assert_eq!(
        of(&metrics, "validations_avoided_total", &own_name(), ""),
        2.0
    );
    assert_eq!(
        of(&metrics, "connections_accepted_total", &own_name(), ""),
        1.0
    );
    let left = metrics[r#"tokencached_item_hits_sum{cause="deleted"}"#];
    assert_eq!(left, 1.0);
}
