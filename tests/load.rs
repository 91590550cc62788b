//! `tokencached-tool load`: what it counts of a right server, what it says of a wrong one, and what it leaves behind.

#[path = "common/daemon.rs"]
#[allow(dead_code)]
mod daemon;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use daemon::{Client, Daemon, Folder, LIMIT, PROGRAM, is_root, wait_until};

const TOOL: &str = env!("CARGO_BIN_EXE_tokencached-tool");

const PROTOCOLS: [&str; 3] = ["classic", "meta", "binary"];

/// What a run of `load --json` said.
struct Ran {
    status: Option<i32>,
    figures: Value,
    errors: String,
}

impl Ran {
    fn of(output: Output) -> Ran {
        Ran {
            status: output.status.code(),
            figures: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn count(&self, name: &str) -> u64 {
        let count = self.figures[name].as_u64();
        count.unwrap_or_else(|| panic!("no {name}: {} {}", self.figures, self.errors))
    }

    /// Fails unless so many requests were answered, and all rightly.
    fn assert_right(&self, what: &str, requests: u64) {
        assert_eq!(self.status, Some(0), "{what}: {}", self.errors);
        assert_eq!(self.count("requests"), requests, "{what}");
        assert_eq!(self.count("errors"), 0, "{what}");
        assert_eq!(self.count("wrong_values"), 0, "{what}");
    }

    /// Fails unless nothing was printed but one line of what is wrong, with these words.
    fn assert_refused(&self, statuses: &[i32], words: &str) {
        assert!(
            self.status.is_some_and(|status| statuses.contains(&status)),
            "{:?}: {}",
            self.status,
            self.errors
        );
        assert_eq!(self.errors.lines().count(), 1, "{}", self.errors);
        assert!(self.errors.contains(words), "{}", self.errors);
        assert_eq!(self.figures, Value::Null);
    }
}

fn load(target: &str, words: &str) -> Ran {
    let mut command = Command::new(TOOL);
    command.args(["load", "--json", "--target", target]);
    Ran::of(command.args(words.split_whitespace()).output().unwrap())
}

fn daemon() -> (Daemon, String) {
    let daemon = Daemon::start("");
    let target = daemon.address().to_string();
    (daemon, target)
}

/// A server on all that a client may come over, and what each is called.
fn listening_everywhere(folder: &Folder) -> (Daemon, [String; 3]) {
    let socket = folder.text("socket");
    let listens = format!("-l 127.0.0.1:0 -l [::1]:0 -s {socket} --http off");
    let mut daemon = Daemon::with(&listens);
    daemon.wait_for_log("listening on unix:");
    let log = daemon.log();
    let (_, rest) = log.split_once("listening on tcp:[").unwrap();
    let (v6, _) = rest.split_once('\n').unwrap();
    let targets = [daemon.address().to_string(), format!("[{v6}"), socket];
    (daemon, targets)
}

#[test]
fn all_that_was_filled_is_found_by_each_protocol_over_each_kind_of_socket() {
    let folder = Folder::new();
    let (daemon, targets) = listening_everywhere(&folder);
    for protocol in PROTOCOLS {
        for target in &targets {
            for (shape, keys_of_a_get) in [("", 1), ("--multiget 7", 7), ("--pipeline 5", 1)] {
                let what = format!("--protocol {protocol} {shape}");
                let ran = load(
                    target,
                    &format!("{what} --requests 300 --keys 200 --fill --quiet"),
                );
                ran.assert_right(&what, 300);
                assert_eq!(ran.count("hits"), 300 * keys_of_a_get, "{what}");
                assert_eq!(ran.count("misses"), 0, "{what}");
                assert_eq!(ran.figures["protocol"], protocol);
                assert_eq!(ran.count("server_pid"), u64::from(daemon.pid()), "{target}");
            }
        }
    }
}

#[test]
fn gets_and_sets_of_many_sizes_are_right_by_each_protocol_over_each_kind_of_socket() {
    let folder = Folder::new();
    let (_daemon, targets) = listening_everywhere(&folder);
    for protocol in PROTOCOLS {
        for target in &targets {
            let what = format!("--protocol {protocol} --get-percent 50 --value-bytes 20-9000");
            let ran = load(
                target,
                &format!("{what} --requests 300 --keys 200 --fill --quiet"),
            );
            ran.assert_right(&what, 300);
            let (hits, stored) = (ran.count("hits"), ran.count("stored"));
            assert!(hits > 0 && stored > 0, "{what}: {hits} {stored}");
            assert_eq!(hits + stored, 300, "{what}");
            assert_eq!(ran.count("misses"), 0, "{what}");
        }
    }
}

#[test]
fn what_nobody_filled_is_missed() {
    let (_daemon, target) = daemon();
    for protocol in PROTOCOLS {
        for (shape, keys_of_a_get) in [("", 1), ("--multiget 7", 7)] {
            let what = format!("--protocol {protocol} {shape}");
            let ran = load(&target, &format!("{what} --requests 50 --quiet"));
            ran.assert_right(&what, 50);
            assert_eq!(ran.count("misses"), 50 * keys_of_a_get, "{what}");
            assert_eq!(ran.count("hits"), 0, "{what}");
        }
    }
}

#[test]
fn threads_silent_connections_and_favoured_keys_change_no_count() {
    let (_daemon, target) = daemon();
    for shape in [
        "--threads 2",
        "--connections 20 --active 3",
        "--connections 20 --active 3 --threads 3",
        "--zipf 0.99",
        "--threads 2 --zipf 1.2 --pipeline 7 --multiget 3",
    ] {
        for mixed in ["", "--get-percent 60"] {
            let what = format!("{shape} {mixed}");
            let ran = load(
                &target,
                &format!("{what} --requests 301 --keys 100 --fill --quiet"),
            );
            ran.assert_right(&what, 301);
            assert_eq!(ran.count("misses"), 0, "{what}");
        }
    }
}

#[test]
fn each_arrival_of_an_open_loop_is_sent_or_counted_as_not_sent() {
    let (_daemon, target) = daemon();
    for protocol in PROTOCOLS {
        let open = format!("--protocol {protocol} --rate 500 --fill --quiet");
        for shape in ["", "--threads 2", "--connections 5 --active 2"] {
            let ran = load(&target, &format!("{open} --seconds 0.5 {shape}"));
            assert_eq!(ran.status, Some(0), "{}", ran.errors);
            let (sent, not_sent) = (ran.count("requests"), ran.count("arrivals_not_sent"));
            assert_eq!(sent + not_sent, 250, "{protocol} {shape}");
        }
    }
}

#[test]
fn an_open_loop_ends_with_the_last_of_its_requests() {
    let (_daemon, target) = daemon();
    for shape in ["", "--pipeline 4", "--threads 2"] {
        let words = format!("--rate 500 --requests 102 --fill --quiet {shape}");
        let ran = load(&target, &words);
        ran.assert_right(shape, 102);
        assert_eq!(ran.count("hits"), 102, "{shape}");
        assert_eq!(ran.count("arrivals_not_sent"), 0, "{shape}");
    }
}

#[test]
fn tokens_in_all_their_forms_come_back_as_they_were() {
    let (_daemon, target) = daemon();
    for protocol in PROTOCOLS {
        for values in ["tokens", "mac", "encrypt"] {
            let what = format!("--protocol {protocol} --values {values} --get-percent 80");
            let ran = load(
                &target,
                &format!("{what} --requests 200 --keys 50 --fill --quiet"),
            );
            ran.assert_right(&what, 200);
            assert_eq!(ran.count("misses"), 0, "{what}");
            assert_eq!(ran.count("hits") + ran.count("stored"), 200, "{what}");
        }
    }
}
