//! Values of every size come back as they were stored, however their bytes arrived.

use std::thread;
use std::time::Duration;

use crate::daemon::{Daemon, KIB, MIB, pattern, set_request};

/// Item header and index entry take at most this of `-I`, beside the key.
const OVERHEAD_BYTES: usize = 64;

fn sizes() -> Vec<usize> {
    let mut sizes = vec![0, 1, 2, 8 * KIB, 13_337, MIB - OVERHEAD_BYTES - 20];
    for boundary in [4, 32, 64, 128, 192, 256, 512] {
        for more in [0, 1, 2, 3, 20, 100] {
            sizes.extend([boundary * KIB - more, boundary * KIB + more]);
        }
    }
    sizes
}

/// Where a request is cut: at both ends of its parts, and here and there.
fn pieces(request: &[u8], seed: usize) -> Vec<&[u8]> {
    let line = request.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let end = request.len();
    let mut cuts = vec![0, line, end - 2, end - 1, end];
    cuts.push(line + (end - line) / 3);
    cuts.push(end.min(line + 64 * KIB + seed % 5));
    cuts.push(end.min(64 * KIB - 1 + seed % 3));
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|cut| &request[cut[0]..cut[1]])
        .collect()
}

#[test]
fn values_around_every_boundary_come_back_as_stored() {
    let daemon = Daemon::start("-m 64 -t 1");
    let (mut client, mut other) = (daemon.client(), daemon.client());
    for (number, size) in sizes().into_iter().enumerate() {
        let value = pattern(number as u64, size);
        client.must_set("whole", &value);
        let request = set_request("pieces", &value);
        for piece in pieces(&request, number) {
            client.send(piece);
            // The server has read it once it answers a request that was sent after it.
            other.ask("version");
        }
        assert_eq!(client.line(), "STORED", "{size} bytes in pieces");
        for key in ["whole", "pieces"] {
            assert_eq!(client.get(key).as_ref(), Some(&value), "{size} bytes");
        }
    }
}

#[test]
fn a_value_is_replaced_by_a_longer_and_a_shorter_one() {
    let daemon = Daemon::start("-m 64 -t 1");
    let mut client = daemon.client();
    for (number, size) in sizes().into_iter().rev().chain(sizes()).enumerate() {
        let value = pattern(number as u64, size);
        client.must_set("k", &value);
        assert_eq!(client.get("k"), Some(value));
    }
    assert_eq!(client.stat("curr_items"), 1);
}

#[test]
fn a_number_with_more_behind_it_keeps_its_length_whatever_that_is() {
    let daemon = Daemon::start("-m 64 -t 1");
    let mut client = daemon.client();
    for size in [10, 64 * KIB - 1, 64 * KIB, 100 * KIB] {
        let mut value = pattern(1, size);
        value[..3].copy_from_slice(b"99 ");
        client.must_set("k", &value);
        assert_eq!(client.ask("incr k 1"), "100", "{size} bytes");
        let counted = client.get("k").unwrap();
        assert_eq!((counted.len(), &counted[..4]), (size, &b"100 "[..]));
    }
}

#[test]
fn a_large_value_with_a_wrong_end_is_refused_and_the_stream_stays_in_step() {
    let daemon = Daemon::start("-m 64 -t 1");
    let mut client = daemon.client();
    for size in [10, 100 * KIB, 200 * KIB, 900 * KIB] {
        client.must_set("k", b"before");
        let mut request = set_request("k", &pattern(1, size));
        let end = request.len() - 2;
        request[end..].copy_from_slice(b"xy");
        client.send(&request);
        assert_eq!(client.line(), "CLIENT_ERROR bad data chunk", "{size}");
        assert_eq!(client.ask("get nothing"), "END", "{size}");
    }
}

#[test]
fn a_large_value_is_added_replaced_and_compared_as_a_small_one_is() {
    let daemon = Daemon::start("-m 64 -t 1");
    let mut client = daemon.client();
    for size in [10, 100 * KIB, 900 * KIB] {
        let value = pattern(2, size);
        let mut store = |command: &str, end: &str| {
            client.send(format!("{command} k 0 0 {size}{end}\r\n"));
            client.send(&value);
            client.send("\r\n");
            client.line()
        };
        assert_eq!(store("replace", ""), "NOT_STORED", "{size}");
        assert_eq!(store("cas", " 1"), "NOT_FOUND", "{size}");
        assert_eq!(store("add", ""), "STORED", "{size}");
        assert_eq!(store("add", ""), "NOT_STORED", "{size}");
        assert_eq!(store("replace", ""), "STORED", "{size}");
        assert_eq!(store("cas", " 999999"), "EXISTS", "{size}");
        assert_eq!(client.get("k"), Some(value));
        let header = client.ask("gets k");
        let unique = header.rsplit(' ').next().unwrap().to_owned();
        client.exactly(size + 2);
        assert_eq!(client.line(), "END");
        let shorter = pattern(3, size / 2);
        client.send(format!("cas k 0 0 {} {unique}\r\n", shorter.len()));
        client.send(&shorter);
        assert_eq!(client.ask(""), "STORED");
        assert_eq!(client.ask("delete k"), "DELETED");
    }
}

#[test]
fn append_and_prepend_work_on_large_values() {
    let daemon = Daemon::start("-m 64 -t 1");
    let mut client = daemon.client();
    let (front, middle, back) = (pattern(1, 200 * KIB), pattern(2, 300 * KIB), pattern(3, 77));
    client.must_set("k", &middle);
    for (command, part) in [("append", &back), ("prepend", &front)] {
        client.send(format!("{command} k 9 0 {}\r\n", part.len()));
        client.send(part);
        assert_eq!(client.ask(""), "STORED");
    }
    assert_eq!(client.get("k"), Some([front, middle, back].concat()));
}

#[test]
fn the_largest_items_can_be_stored_and_read_slowly() {
    let daemon = Daemon::start("-m 256 -I 64m -t 1");
    let mut client = daemon.client();
    let value = pattern(4, 40 * MIB);
    client.must_set("whole", &value);
    assert!(client.get("whole").as_ref() == Some(&value));
    client.send(format!("set pieces 0 0 {}\r\n", value.len()));
    for piece in value.chunks(3 * MIB + 1) {
        client.send(piece);
    }
    assert_eq!(client.ask(""), "STORED");

    let mut slow = daemon.client();
    slow.send("get pieces\r\n");
    assert_eq!(slow.line(), format!("VALUE pieces 0 {}", value.len()));
    for piece in value.chunks(MIB) {
        thread::sleep(Duration::from_millis(10));
        client.must_set("small", b"meanwhile");
        assert!(slow.exactly(piece.len()) == piece);
    }
    assert_eq!(slow.exactly(2), b"\r\n");
    assert_eq!(slow.line(), "END");
}

#[test]
fn several_read_large_values_slowly_at_a_time() {
    // Unread values may keep a quarter of the memory.
    let daemon = Daemon::start("-m 512 -I 64m -t 2");
    let mut client = daemon.client();
    let value = pattern(5, 40 * MIB);
    client.must_set("k", &value);
    let mut readers: Vec<_> = (0..3).map(|_| daemon.client()).collect();
    for reader in &mut readers {
        reader.send("get k\r\n");
        assert_eq!(reader.line(), format!("VALUE k 0 {}", value.len()));
    }
    for piece in value.chunks(MIB) {
        for reader in &mut readers {
            assert!(reader.exactly(piece.len()) == piece);
        }
    }
    for reader in &mut readers {
        assert_eq!(reader.exactly(2), b"\r\n");
        assert_eq!(reader.line(), "END");
    }
}

#[test]
fn a_value_being_read_slowly_outlives_its_deletion() {
    let daemon = Daemon::start("-m 64 -t 1");
    let mut client = daemon.client();
    let value = pattern(6, MIB - 1_000);
    client.must_set("k", &value);
    let mut slow = daemon.client();
    let requests = 20;
    slow.send("get k\r\n".repeat(requests));
    assert_eq!(slow.line(), format!("VALUE k 0 {}", value.len()));
    client.must_set("k", b"another");
    assert_eq!(client.ask("delete k"), "DELETED");
    // Everything else is written over.
    for number in 0..120 {
        client.must_set(&format!("other{number}"), &pattern(number, 900 * KIB));
    }
    assert!(slow.exactly(value.len()) == value);
    assert_eq!(slow.exactly(2), b"\r\n");
    assert_eq!(slow.line(), "END");
    let mut hits = 1;
    while let Some(read) = slow.value("k") {
        assert!(read == value || read == b"another", "neither value");
        assert_eq!(slow.line(), "END");
        hits += 1;
        if hits == requests {
            return;
        }
    }
    for _ in hits + 1..requests {
        assert_eq!(slow.line(), "END");
    }
}
