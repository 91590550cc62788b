//! `tokencached-tool load`: what it counts of a right server, what it says of a wrong one, and what it leaves behind.

#[path = "common/daemon.rs"]
#[allow(dead_code)]
mod daemon;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
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
    fn assert_refused(&self, words: &str) {
        assert_eq!(self.status, Some(1), "{}", self.errors);
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

/// Stands for a server that answers one request in one way and hears on, until the client leaves.
struct Fake {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Fake {
    /// `answer` makes the reply from the first request.
    fn start(answer: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let mut received = [0; 4096];
            let length = stream.read(&mut received).unwrap();
            stream.write_all(&answer(&received[..length])).unwrap();
            match stream.read(&mut received) {
                Ok(more) => assert_eq!(more, 0, "one request was to be sent"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        });
        Fake { address, thread }
    }

    /// Has the tool ask it once.
    fn asked_once(self, protocol: &str) -> Ran {
        let once = "--connections 1 --requests 1 --quiet";
        let target = self.address.to_string();
        let ran = load(&target, &format!("--protocol {protocol} {once}"));
        self.thread.join().unwrap();
        ran
    }
}

/// What a server has for a key that nobody set.
const FOREIGN: &[u8] = b"not what the tool would have set";

/// A hit with that value, in answer to a get of one key.
fn foreign_hit(protocol: &str, request: &[u8]) -> Vec<u8> {
    if protocol == "binary" {
        let (header, key) = request.split_at(24);
        let body = (4 + key.len() + FOREIGN.len()) as u32;
        let mut reply = vec![0x81, header[1], 0, key.len() as u8, 4, 0, 0, 0];
        reply.extend(body.to_be_bytes());
        reply.extend(&header[12..]);
        reply.extend([0; 4]);
        return [&reply, key, FOREIGN].concat();
    }
    let line = std::str::from_utf8(request).unwrap();
    let (key, length) = (line.split_whitespace().nth(1).unwrap(), FOREIGN.len());
    let (before, after) = match protocol {
        "meta" => (format!("VA {length} f0 k{key}\r\n"), "\r\n"),
        _ => (format!("VALUE {key} 0 {length}\r\n"), "\r\nEND\r\n"),
    };
    [before.as_bytes(), FOREIGN, after.as_bytes()].concat()
}

#[test]
fn a_wrong_value_is_counted_and_a_failure() {
    for protocol in PROTOCOLS {
        let fake = Fake::start(move |request| foreign_hit(protocol, request));
        let ran = fake.asked_once(protocol);
        assert_eq!(ran.status, Some(1), "{protocol}: {}", ran.errors);
        assert_eq!(ran.count("requests"), 1, "{protocol}");
        assert_eq!(ran.count("wrong_values"), 1, "{protocol}");
        assert_eq!(ran.count("hits"), 0, "{protocol}");
    }
}

#[test]
fn what_is_no_answer_ends_the_run_with_one_line() {
    for protocol in PROTOCOLS {
        let fake = Fake::start(|_| b"220 mail.example ready for mail\r\n".to_vec());
        let ran = fake.asked_once(protocol);
        ran.assert_refused("which is no answer to the request");
    }
}

#[test]
fn an_error_reply_is_counted_and_told() {
    for protocol in ["classic", "meta"] {
        let fake = Fake::start(|_| b"SERVER_ERROR out of memory\r\n".to_vec());
        let ran = fake.asked_once(protocol);
        assert_eq!(ran.status, Some(1), "{protocol}: {}", ran.errors);
        assert_eq!(ran.count("errors"), 1, "{protocol}");
        assert_eq!(ran.figures["first_error"], "SERVER_ERROR out of memory");
    }
}

#[test]
fn a_server_that_leaves_ends_the_run_with_one_line() {
    for protocol in PROTOCOLS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let leaving = thread::spawn(move || drop::<(TcpStream, _)>(listener.accept().unwrap()));
        let words = format!("--protocol {protocol} --connections 1 --requests 1 --quiet");
        load(&target, &words).assert_refused(&target);
        leaving.join().unwrap();
    }
}

#[test]
fn wishes_that_contradict_each_other_are_refused_in_one_line() {
    // Nobody listens there, and nobody is asked.
    for (words, why) in [
        ("--active 17", "no more than that can be active"),
        ("--threads 0", "must be at least 1"),
        ("--threads 5 --active 4", "nothing to do"),
        ("--rate 0", "a rate must be"),
        ("--rate 100 --reconnect", "closed loop"),
        ("--zipf 0", "Zipf"),
        ("--reconnect --get-percent 50", "for gets alone"),
        ("--pipeline 200 --multiget 10", "at most 1000"),
        ("--values tokens --value-bytes 100", "catalogue bytes"),
        ("--value-bytes 5", "at least 16 bytes"),
    ] {
        load("127.0.0.1:1", words).assert_refused(why);
    }
}

#[test]
fn a_wrong_command_line_is_one_for_status_2() {
    for (words, why) in [
        ("--protocol telnet", "classic, meta or binary"),
        ("--hold --rate 5", "--rate"),
        ("--hold --idle 5", "--idle"),
        ("--rounds 3", "--rounds"),
        ("--compare a{port} b{port}", "--target"),
    ] {
        let ran = load("127.0.0.1:1", words);
        assert_eq!(ran.status, Some(2), "{words}");
        assert_eq!(ran.figures, Value::Null, "{words}");
        assert!(ran.errors.contains(why), "{words}: {}", ran.errors);
    }
}

/// The command line of a server of ours, to be compared, which listens on a unix socket of the test's as well.
fn contender(place: &str, socket: &str) -> String {
    let user = if is_root() { "-u root" } else { "" };
    match place {
        "{socket}" => format!("'{PROGRAM}' {user} --http off -l 127.0.0.1:0 -s {{socket}}"),
        _ => format!("'{PROGRAM}' {user} --http off -l 127.0.0.1:{{port}} -s {socket}"),
    }
}

fn compare(a: &str, b: &str, words: &str) -> Command {
    let mut command = Command::new(TOOL);
    command.args(["load", "--json", "--compare", a, b]);
    command.args(words.split_whitespace());
    command
}

fn is_running(pid: u64) -> bool {
    std::fs::exists(format!("/proc/{pid}")).unwrap()
}

#[test]
fn two_servers_are_compared_in_rounds_and_ended() {
    let folder = Folder::new();
    for protocol in PROTOCOLS {
        let a = contender("{port}", &folder.text("a"));
        let b = contender("{socket}", "");
        let words = format!("--protocol {protocol} --fill --keys 50 --requests 50 --rounds 2");
        let ran = Ran::of(compare(&a, &b, &words).output().unwrap());
        assert_eq!(ran.status, Some(0), "{protocol}: {}", ran.errors);
        assert_eq!(
            (&ran.figures["a"], &ran.figures["b"]),
            (&"A".into(), &"B".into())
        );
        let rounds = ran.figures["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        let bursts: Vec<&Value> = rounds
            .iter()
            .flat_map(|round| round.as_array().unwrap())
            .collect();
        assert_eq!(bursts.len(), 4);
        for burst in &bursts {
            assert_eq!(
                (&burst["requests"], &burst["hits"]),
                (&50.into(), &50.into())
            );
        }
        let pids: Vec<u64> = bursts
            .iter()
            .map(|burst| burst["server_pid"].as_u64().unwrap())
            .collect();
        assert_eq!((pids[0], pids[1]), (pids[2], pids[3]));
        assert_ne!(pids[0], pids[1]);
        assert!(!pids.into_iter().any(is_running), "{protocol}");
    }
}

#[test]
fn where_a_server_does_not_start_the_other_is_ended_too() {
    let folder = Folder::new();
    let socket = folder.text("a");
    let right = contender("{port}", &socket);
    let wrong = format!("'{PROGRAM}' -l 127.0.0.1:{{port}} --no-such-option");
    for (wrong, why) in [
        (&wrong[..], "ended while starting"),
        ("/nowhere/at/all {port}", "cannot be started"),
        ("memcached -p 11211", "does not say where"),
    ] {
        let ran = Ran::of(compare(&right, wrong, "--quiet").output().unwrap());
        ran.assert_refused(why);
        assert!(UnixStream::connect(&socket).is_err(), "{wrong}");
    }
}

/// The tool while it compares, asked to end its servers and itself if it is still there in the end.
struct Comparing(Child);

impl Comparing {
    fn signal(&self, signal: Signal) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(self.0.id() as i32), signal);
    }
}

impl Drop for Comparing {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.signal(Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}

#[test]
fn both_servers_are_ended_when_the_end_is_asked_for_amid_a_comparison() {
    let folder = Folder::new();
    let sockets = [folder.text("a"), folder.text("b")];
    let [a, b] = [0, 1].map(|side| contender("{port}", &sockets[side]));
    let words = "--seconds 0.05 --rounds 100000 --connections 2";
    let mut command = compare(&a, &b, words);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut tool = Comparing(command.spawn().unwrap());
    let gets = |side: usize| Client::unix(&sockets[side]).stat("cmd_get");
    for socket in &sockets {
        wait_until("it listens", || UnixStream::connect(socket).is_ok());
    }
    // The second is asked last before the rounds, the first again only in them.
    wait_until("the second is asked", || gets(1) > 0);
    let before = gets(0);
    wait_until("rounds", || gets(0) > before);
    let pids = [0, 1].map(|side| Client::unix(&sockets[side]).stat("pid"));
    assert!(pids.into_iter().all(is_running));
    tool.signal(Signal::SIGINT);
    let mut said = String::new();
    let mut errors = tool.0.stderr.take().unwrap();
    errors.read_to_string(&mut said).unwrap();
    let status = tool.0.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("ended before all rounds were done"), "{said}");
    assert!(!pids.into_iter().any(is_running), "{said}");
}
