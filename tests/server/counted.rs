//! What each command counts as, by class of item: in the metrics, for every command of every protocol.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::binary_client::{Answer, Request};
use crate::daemon::{Client, Daemon, MIB, pattern};
use crate::metrics;

const COUNTED: [&str; 5] = ["requests", "hits", "misses", "set_bytes", "hit_bytes"];

const FOUND: &str = "requests token get 1, hits token 1, hit_bytes token 1";
const MISSED: &str = "requests token get 1, misses token never_seen 1";
const STORED: &str = "requests token set 1, set_bytes token 1";

/// A daemon that asks for nobody's name, and a client.
struct Server {
    daemon: Daemon,
    client: Client<TcpStream>,
    keys: u64,
}

impl Server {
    fn new() -> Server {
        let options = "--http 127.0.0.1:0 --no-service-names -l 127.0.0.1:0 -m 64 -I 8m";
        let daemon = Daemon::with(options);
        let client = daemon.client();
        Server {
            daemon,
            client,
            keys: 0,
        }
    }

    /// The key of a plain token that nobody has used.
    fn key(&mut self) -> String {
        self.keys += 1;
        format!("tokens/{:064x}", self.keys)
    }

    /// The counts by class that are not 0, by metric and labels.
    fn counts(&self) -> BTreeMap<String, f64> {
        // Until the text of the last scrape is too old to be shown again.
        thread::sleep(Duration::from_millis(150));
        let all = metrics::scrape(&self.daemon).into_iter();
        let counts = all.filter_map(|(name, count)| {
            let (name, labels) = name.split_once('{')?;
            let name = name.strip_prefix("tokencached_")?.strip_suffix("_total")?;
            let labels: Vec<&str> = labels.split('"').skip(3).step_by(2).collect();
            let is_counted = COUNTED.contains(&name) && count != 0.0;
            is_counted.then(|| (format!("{name} {}", labels.join(" ")), count))
        });
        counts.collect()
    }

    /// What is counted in addition while `work` is done.
    fn counted(&mut self, work: impl FnOnce(&mut Client<TcpStream>)) -> Vec<String> {
        let before = self.counts();
        work(&mut self.client);
        let after = self.counts().into_iter();
        let more = after.filter_map(|(name, count)| {
            let more = count - before.get(&name).unwrap_or(&0.0);
            (more != 0.0).then(|| format!("{name} {more}"))
        });
        more.collect()
    }
}

/// Holds what was counted against `expected`, in any order.
fn assert_counted(counted: &[String], expected: &str, what: &str) {
    let mut expected: Vec<&str> = expected.split(", ").collect();
    expected.sort_unstable();
    assert_eq!(counted, expected, "{what}");
}

#[test]
fn each_command_of_the_text_protocols_counts_as_what_it_is() {
    let mut server = Server::new();
    // Of a key that holds "5" and of one that is not there; K stands for it.
    for (command, lines, of_there, of_missing) in [
        ("get K", [3, 1], FOUND, MISSED),
        ("gets K", [3, 1], FOUND, MISSED),
        ("gat 100 K", [3, 1], FOUND, MISSED),
        ("gats 100 K", [3, 1], FOUND, MISSED),
        ("mg K v", [2, 1], FOUND, MISSED),
        ("mg K v T30", [2, 1], FOUND, MISSED),
        ("mg K v N30", [2, 2], FOUND, MISSED),
        ("set K 0 0 1\r\n7", [1, 1], STORED, STORED),
        ("add K 0 0 1\r\n7", [1, 1], STORED, STORED),
        ("replace K 0 0 1\r\n7", [1, 1], STORED, STORED),
        ("append K 0 0 1\r\n7", [1, 1], STORED, STORED),
        ("prepend K 0 0 1\r\n7", [1, 1], STORED, STORED),
        ("cas K 0 0 1 1\r\n7", [1, 1], STORED, STORED),
        ("ms K 1\r\n7", [1, 1], STORED, STORED),
        ("ms K 1 MA\r\n7", [1, 1], STORED, STORED),
        (
            "touch K 100",
            [1, 1],
            "requests token touch 1",
            "requests token touch 1",
        ),
        (
            "delete K",
            [1, 1],
            "requests token delete 1",
            "requests token delete 1",
        ),
        (
            "md K",
            [1, 1],
            "requests token delete 1",
            "requests token delete 1",
        ),
        (
            "incr K 1",
            [1, 1],
            "requests token arithmetic 1",
            "requests token arithmetic 1",
        ),
        (
            "decr K 1",
            [1, 1],
            "requests token arithmetic 1",
            "requests token arithmetic 1",
        ),
        (
            "ma K",
            [1, 1],
            "requests token arithmetic 1",
            "requests token arithmetic 1",
        ),
        (
            "me K",
            [1, 1],
            "requests other other 1",
            "requests other other 1",
        ),
        (
            "version",
            [1, 1],
            "requests other other 1",
            "requests other other 1",
        ),
    ] {
        for (is_there, lines, expected) in
            [(true, lines[0], of_there), (false, lines[1], of_missing)]
        {
            let key = server.key();
            if is_there {
                server.client.must_set(&key, b"5");
            }
            let request = format!("{}\r\n", command.replace('K', &key));
            let counted = server.counted(|client| {
                client.send(&request);
                (0..lines).for_each(|_| drop(client.line()));
            });
            assert_counted(&counted, expected, &format!("{command}, there: {is_there}"));
        }
    }
}

#[test]
fn each_command_of_the_binary_protocol_counts_as_what_it_is() {
    let mut server = Server::new();
    let number = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60];
    let (get, touch, arithmetic) = (
        "requests token get 1",
        "requests token touch 1",
        "requests token arithmetic 1",
    );
    assert!(FOUND.starts_with(get));
    for (opcode, extras, value, of_there, of_missing) in [
        (0x00, &[][..], "", FOUND, MISSED),
        (0x0c, &[], "", FOUND, MISSED),
        (0x1c, &[0, 0, 0, 60], "", touch, touch),
        (0x1d, &[0, 0, 0, 60], "", FOUND, MISSED),
        (0x23, &[0, 0, 0, 60], "", FOUND, MISSED),
        (0x01, &[0; 8], "7", STORED, STORED),
        (0x02, &[0; 8], "7", STORED, STORED),
        (0x03, &[0; 8], "7", STORED, STORED),
        (0x0e, &[], "7", STORED, STORED),
        (0x0f, &[], "7", STORED, STORED),
        (
            0x04,
            &[],
            "",
            "requests token delete 1",
            "requests token delete 1",
        ),
        (0x05, &number[..], "", arithmetic, arithmetic),
        (0x06, &number[..], "", arithmetic, arithmetic),
    ] {
        for (is_there, expected) in [(true, of_there), (false, of_missing)] {
            let key = server.key();
            if is_there {
                server.client.must_set(&key, b"5");
            }
            let request = Request::new(opcode).extras(extras).key(&key).value(value);
            let mut binary = server.daemon.client();
            let counted = server.counted(|_| {
                binary.send(request.bytes());
                Answer::read(&mut binary.stream);
            });
            assert_counted(
                &counted,
                expected,
                &format!("{opcode:#x}, there: {is_there}"),
            );
        }
    }
}

#[test]
fn a_value_too_large_for_a_segment_is_counted_by_its_class() {
    let mut server = Server::new();
    let key = server.key();
    let value = pattern(1, 4 * MIB);
    let counted = server.counted(|client| client.must_set(&key, &value));
    let bytes = value.len();
    let expected = format!("requests token set 1, set_bytes token {bytes}");
    assert_counted(&counted, &expected, "set");
    let counted = server.counted(|client| assert!(client.get(&key).as_ref() == Some(&value)));
    let expected = format!("requests token get 1, hits token 1, hit_bytes token {bytes}");
    assert_counted(&counted, &expected, "get");
}

#[test]
fn a_token_stays_one_whatever_is_done_to_its_value() {
    let mut server = Server::new();
    for (command, bytes) in [
        ("append K 0 0 1\r\n7", 2),
        ("prepend K 0 0 1\r\n7", 2),
        ("incr K 1", 1),
        ("ma K", 1),
        ("touch K 100", 1),
        ("ms K 1 MA\r\n7", 2),
    ] {
        let key = server.key();
        server.client.must_set(&key, b"5");
        server.client.ask(&command.replace('K', &key));
        let counted = server.counted(|client| assert!(client.get(&key).is_some()));
        let expected = format!("requests token get 1, hits token 1, hit_bytes token {bytes}");
        assert_counted(&counted, &expected, command);
    }
}

#[test]
fn what_is_counted_by_class_adds_up_to_what_stats_shows() {
    let mut server = Server::new();
    let keys = [
        server.key(),
        "k".to_owned(),
        "179c37d1cedb6c37c62743c5cc480e223fafd611".to_owned(),
    ];
    for key in &keys {
        server.client.must_set(key, b"5");
        assert!(server.client.get(key).is_some());
        server.client.ask(&format!("get {key}x {key}y {key}z"));
        server.client.ask(&format!("delete {key}"));
        assert!(server.client.get(key).is_none());
    }
    let counts = server.counts();
    let sum = |of: &str| -> f64 {
        let counted = counts.iter().filter(|(name, _)| name.starts_with(of));
        counted.map(|(_, count)| count).sum()
    };
    for (of, line) in [("misses ", "get_misses"), ("hits ", "get_hits")] {
        assert_eq!(sum(of), server.daemon.stat(line) as f64, "{line}");
    }
    assert_eq!(sum("misses "), 12.0);
}
