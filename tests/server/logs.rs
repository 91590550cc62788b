//! The log: no key and no value ever, and no way to stop the server by not reading it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::daemon::{Client, Daemon, KIB, LIMIT, PROGRAM, is_root, wait_until};

const KEY: &str = "tokens/UNMISTAKABLEKEY";
const VALUE: &str = "UNMISTAKABLEVALUE";

#[test]
fn no_key_and_no_value_is_ever_logged() {
    let mut daemon = Daemon::start("-vvv -A -c 20 -m 8 -D :");
    let long = VALUE.repeat(10 * KIB);
    let over = format!("{KEY}{}", "K".repeat(250));
    let lines = [
        format!("set {KEY} 0 0 {}\r\n{VALUE}\r\n", VALUE.len()),
        format!("set {KEY} 0 0 3\r\n{VALUE}\r\n"),
        format!("set {KEY} x y z\r\n{VALUE}\r\n"),
        format!("set {over} 0 0 3\r\nabc\r\n"),
        format!("add {KEY} 0 0 {}\r\n{long}\r\n", long.len()),
        format!("replace {KEY} 0 0 3000000\r\n{}\r\n", "V".repeat(3_000_000)),
        format!("append {KEY} 0 0 {}\r\n{VALUE}\r\n", VALUE.len()),
        format!("get {KEY} {KEY} {over}\r\nget {KEY}\r\ngets {KEY}\r\ngat 5 {KEY}\r\n"),
        format!("incr {KEY} 1\r\ndecr {KEY} {VALUE}\r\ntouch {KEY} {VALUE}\r\n"),
        format!("delete {KEY} {VALUE}\r\nstats {KEY}\r\nstats detail {KEY}\r\nstats detail on\r\n"),
        format!("{KEY} {VALUE}\r\nverbosity {KEY}\r\nwatch {KEY}\r\nshutdown {KEY}\r\n"),
        format!("cache_memlimit {KEY}\r\nslabs {KEY}\r\nlru_crawler {KEY}\r\nflush_all {KEY}\r\n"),
        format!("GET /{KEY} HTTP/1.1\r\n"),
        format!("{KEY}\u{0}\u{7}\u{1b}{VALUE}\n"),
        VALUE.repeat(KIB),
    ];
    for line in &lines {
        let mut client = daemon.client();
        client.send(line);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        client.rest();
    }
    let mut watcher = daemon.client();
    let mut client = daemon.client();
    client.send(format!("set {KEY} 0 0 900000\r\n{VALUE}"));
    let many: Vec<_> = (0..30).map(|_| daemon.client()).collect();
    wait_until("some are turned away", || {
        watcher.stat("rejected_connections") > 0
    });
    drop((client, many));
    wait_until("all are gone", || watcher.stat("curr_connections") == 1);
    daemon.stop();
    let log = daemon.log();
    assert!(log.contains("listening on"), "{log}");
    for secret in ["UNMISTAKABLE", "KKKKK", "VVVVV", "panicked"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let mut command = Command::new(PROGRAM);
    command.args(["-l", "127.0.0.1:0", "--http", "off", "-t", "1", "-vvv"]);
    if is_root() {
        command.args(["-u", "root"]);
    }
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let (_, address) = line
            .ok()?
            .split_once("listening on tcp:")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))?;
        address.trim().parse().ok()
    });
    let address = address.expect("it listens");
    drop(lines);
    let mut client = Client::tcp(address);
    client.must_set("k", b"value");
    // Accepting pauses, which it would say.
    let pid = crate::daemon::pid(child.id());
    let limit = |files| {
        let limit = rustix::process::Rlimit {
            current: Some(files),
            maximum: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
        };
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Nofile, limit).unwrap();
    };
    limit(8);
    let mut others: Vec<_> = (0..10).map(|_| Client::tcp(address)).collect();
    wait_until("a pause", || client.stat("listen_disabled_num") > 0);
    limit(1000);
    for other in &mut others {
        assert_eq!(other.get("k").as_deref(), Some(&b"value"[..]));
    }
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let deadline = std::time::Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let _ = child.kill();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
