//! A running server's accesses, recorded and replayed: what `watch`, `record` and `simulate` make of them.

#[path = "common/daemon.rs"]
#[allow(dead_code)]
mod daemon;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokencached::stats::status::Status;
use tokencached::tool::trace::{About, Kind, Op, Recorded, Request, Token, Trace, file};
use tokencached::tool::{Target, status};

use daemon::{Client, Daemon, Folder, wait_until};

const TOOL: &str = env!("CARGO_BIN_EXE_tokencached-tool");

/// Points of the hit ratio by which a replay may differ from what the server counted.
const OFF_MAX: f64 = 0.5;

fn tool(words: &[&str]) -> Output {
    Command::new(TOOL).args(words).output().unwrap()
}

/// A child that is killed if it is still there in the end.
struct Running(Child);

impl Running {
    fn tool(words: &[&str]) -> Running {
        let mut command = Command::new(TOOL);
        command
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    /// Status and standard error, once it has ended.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        let mut errors = BufReader::new(self.0.stderr.take().unwrap());
        while errors.read_line(&mut said).unwrap() > 0 {}
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn daemon(folder: &Folder) -> (Daemon, String) {
    let socket = folder.text("admin.sock");
    let daemon = Daemon::with(&format!(
        "-m 8 -l 127.0.0.1:0 --http off --admin-socket {socket}"
    ));
    (daemon, socket)
}

/// Asks for numbered keys as keystonemiddleware does, most for few of them.
struct Visitor {
    client: Client<TcpStream>,
    state: u64,
    value: Vec<u8>,
}

impl Visitor {
    fn visit(&mut self, times: u32) {
        for _ in 0..times {
            self.state = self
                .state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let even = (self.state >> 40) as f64 / (1u64 << 24) as f64;
            let key = format!("tokens/{:064x}", (1_600.0 * even * even * even) as u64);
            if self.client.get(&key).is_none() {
                let line = format!("set {key} 0 300 {}\r\n", self.value.len());
                self.client
                    .send([line.as_bytes(), &self.value, b"\r\n"].concat());
                assert_eq!(self.client.line(), "STORED");
            }
        }
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn visitor(daemon: &Daemon) -> Visitor {
    Visitor {
        client: daemon.client(),
        state: 1,
        // It does not pack, so that 1,600 of it are more than there is room for.
        value: noise(9_000),
    }
}

fn status_at(socket: &str) -> Status {
    status::fetch(&Target::Unix(socket.into())).unwrap()
}

/// Starts the tool and waits until the server has one watcher.
fn watcher(socket: &str, words: &[&str]) -> Running {
    let running = Running::tool(words);
    wait_until("somebody watches", || {
        status_at(socket).server.watchers == 1
    });
    running
}

#[test]
fn a_recording_is_replayed_to_the_hit_ratio_that_the_server_counted() {
    let folder = Folder::new();
    let (daemon, socket) = daemon(&folder);
    let mut visitor = visitor(&daemon);
    // What is cached has to be of different ages, which are whole seconds, to be put in its order again.
    for _ in 0..8 {
        visitor.visit(600);
        thread::sleep(std::time::Duration::from_millis(1_050));
    }
    let file = folder.text("trace");
    let recording = watcher(&socket, &["record", "--admin", &socket, "-o", &file]);
    let before = status_at(&socket).total;
    for _ in 0..20 {
        // The server's queue for a watcher is emptied twenty times a second.
        visitor.visit(1_000);
        thread::sleep(std::time::Duration::from_millis(60));
    }
    let after = status_at(&socket).total;
    recording.signal(Signal::SIGINT);
    let (code, said) = recording.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("20,000 look-ups of ") && !said.contains("lost"),
        "{said}"
    );
    let trace = file::read(file.as_ref()).unwrap();
    let recorded = trace.about.recorded.unwrap();
    let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
    assert_eq!((recorded.hits, recorded.look_ups), (hits, hits + misses));
    assert_eq!(
        (recorded.ttl_seconds, recorded.memory_bytes),
        (300, 8 << 20)
    );
    assert!(
        after.evicted > before.evicted,
        "there is something to simulate"
    );
    let sets = trace.changes.iter().filter(|change| change.op == Op::Set);
    assert_eq!(sets.count() as u64, misses);
    let simulated = simulated(&file);
    let counted = hits as f64 * 100.0 / (hits + misses) as f64;
    let off = (simulated - counted).abs();
    assert!(off <= OFF_MAX, "{simulated} simulated, {counted} counted");
}

/// The hit percentage of a trace replayed in 8 MB.
fn simulated(file: &str) -> f64 {
    let words = "simulate --memory 8 --policies tokencached --format json --trace";
    let mut words: Vec<&str> = words.split(' ').collect();
    words.push(file);
    let output = tool(&words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["rows"][0]["hit_percent"].as_f64().unwrap()
}

#[test]
fn each_value_is_replayed_with_the_time_that_it_had() {
    let folder = Folder::new();
    let token = |ttl_seconds| Token {
        kind: Kind::Legitimate,
        source: 0,
        value_bytes: 100,
        packed_bytes: 100,
        ttl_seconds,
    };
    let asked = |second: u32| {
        [0, 1].map(|token| Request {
            millis: second * 1_000,
            token,
            service: 0,
        })
    };
    let trace = Trace {
        about: About {
            name: "recorded".to_owned(),
            seed: 0,
            parameters: Vec::new(),
            millis: 60_000,
            recorded: Some(Recorded {
                warm_up_millis: 0,
                ttl_seconds: 300,
                validation_millis: 0,
                memory_bytes: 8 << 20,
                look_ups: 120,
                hits: 89,
                left_out: 0,
                lost: 0,
            }),
        },
        tokens: vec![token(2), token(300)],
        requests: (0..60).flat_map(asked).collect(),
        services: vec!["nova".to_owned()],
        changes: Vec::new(),
    };
    let path = folder.text("trace");
    file::write(path.as_ref(), &trace).unwrap();
    // One of two look-ups of the first misses, and one of all of the second.
    let hits = 100.0 * 89.0 / 120.0;
    assert!(
        (simulated(&path) - hits).abs() < 0.01,
        "{}",
        simulated(&path)
    );
}

#[test]
fn nothing_in_a_recording_leads_back_to_a_key() {
    let folder = Folder::new();
    let (daemon, socket) = daemon(&folder);
    let mut client = daemon.client();
    let record = |name: &str, client: &mut Client<TcpStream>| {
        let file = folder.text(name);
        let recording = watcher(&socket, &["record", "--admin", &socket, "-o", &file]);
        client.must_set("tokens/secretkey", b"secretvalue");
        assert!(client.get("tokens/secretkey").is_some());
        recording.signal(Signal::SIGTERM);
        let (code, said) = recording.ended();
        assert_eq!(code, Some(0), "{said}");
        std::fs::read(file).unwrap()
    };
    let file = record("one", &mut client);
    let text = String::from_utf8_lossy(&file);
    assert!(
        text.starts_with("tctrace") && !text.contains("secret"),
        "{text}"
    );
}

#[test]
fn a_watch_ends_when_it_is_enough_and_shows_what_is_asked_for() {
    let folder = Folder::new();
    let (daemon, socket) = daemon(&folder);
    let mut client = daemon.client();
    let words = ["watch", "--admin", &socket, "--misses", "-n", "2"];
    let mut watching = watcher(&socket, &words);
    client.must_set("there", b"value");
    for key in ["there", "missing", "there", "missing"] {
        client.get(key);
    }
    let output = BufReader::new(watching.0.stdout.take().unwrap());
    let lines: Vec<String> = output.lines().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines.iter().all(|line| line.ends_with("miss: never_seen")),
        "{lines:?}"
    );
    assert_eq!(watching.ended(), (Some(0), String::new()));
    wait_until("nobody watches", || status_at(&socket).server.watchers == 0);
}

#[test]
fn a_recording_that_the_server_ends_is_written_and_says_so() {
    let folder = Folder::new();
    let (mut daemon, socket) = daemon(&folder);
    let file = folder.text("trace");
    let recording = watcher(&socket, &["record", "--admin", &socket, "-o", &file]);
    let mut client = daemon.client();
    client.must_set("k", b"value");
    assert!(client.get("k").is_some());
    drop(client);
    // What is told is sent twenty times a second.
    thread::sleep(std::time::Duration::from_millis(500));
    daemon.stop();
    let (code, said) = recording.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("the connection to the server was lost"),
        "{said}"
    );
    let trace = file::read(file.as_ref()).unwrap();
    assert_eq!((trace.requests.len(), trace.changes.len()), (1, 1));
}

#[test]
fn a_recording_ends_at_its_size() {
    let folder = Folder::new();
    let (daemon, socket) = daemon(&folder);
    let file = folder.text("trace");
    let words = ["record", "--admin", &socket, "-o", &file, "--size", "64k"];
    let recording = watcher(&socket, &words);
    let mut visitor = visitor(&daemon);
    wait_until("it has ended", || {
        visitor.visit(1_000);
        status_at(&socket).server.watchers == 0
    });
    let (code, said) = recording.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("reached its size"), "{said}");
    assert!(std::fs::metadata(file).unwrap().len() <= 64 << 10);
}

#[test]
fn a_watch_ends_in_time_however_slowly_it_is_read() {
    let folder = Folder::new();
    let (daemon, socket) = daemon(&folder);
    let mut visitor = visitor(&daemon);
    let mut watching = watcher(&socket, &["watch", "--admin", &socket, "--seconds", "1"]);
    let mut output = BufReader::new(watching.0.stdout.take().unwrap());
    let mut line = String::new();
    let mut lines = 0;
    visitor.visit(200);
    // More is told than is read, until it has ended.
    while output.read_line(&mut line).unwrap() > 0 {
        lines += 1;
        line.clear();
        if status_at(&socket).server.watchers > 0 {
            visitor.visit(50);
        }
    }
    assert!(lines > 100, "{lines}");
    assert_eq!(watching.ended(), (Some(0), String::new()));
}

#[test]
fn what_cannot_be_watched_is_told_in_one_line() {
    let folder = Folder::new();
    let (mut daemon, socket) = daemon(&folder);
    let refused = |words: &[&str]| {
        let output = tool(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), said.lines().count()),
            (Some(1), 1),
            "{said}"
        );
        said
    };
    let missing = folder.text("missing.sock");
    for command in [
        &["watch", "--admin", &missing][..],
        &["record", "--admin", &missing, "-o", "/dev/null"],
    ] {
        assert!(refused(command).contains(&missing));
    }
    let nowhere = folder.text("missing/trace");
    let said = refused(&["record", "--admin", &socket, "-o", &nowhere]);
    assert!(
        said.contains(&nowhere) && said.contains("cannot be written"),
        "{said}"
    );
    let said = refused(&[
        "record",
        "--admin",
        &socket,
        "-o",
        &folder.text("t"),
        "--seconds",
        "0.3",
    ]);
    assert!(said.contains("nothing is recorded"), "{said}");
    let four: Vec<Running> = (0..4)
        .map(|_| Running::tool(&["watch", "--admin", &socket]))
        .collect();
    wait_until("four watch", || status_at(&socket).server.watchers == 4);
    assert!(refused(&["watch", "--admin", &socket]).contains("watchers"));
    daemon.stop();
    for watching in four {
        let (code, said) = watching.ended();
        assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    }
    assert!(!folder.path("t").exists());
}

#[test]
fn a_server_of_another_release_is_told_in_one_line() {
    let folder = Folder::new();
    let socket = folder.text("other.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let answer = |line: &'static str| {
        let listener = listener.try_clone().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            let mut request = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut request);
            let _ = stream.write_all(format!("{head}{line}\n").as_bytes());
        })
    };
    for (line, told) in [
        (
            r#"{"type":"begun","format":2,"version":"9.9","started":1}"#,
            "format 2",
        ),
        ("hello", "no line of events"),
    ] {
        let server = answer(line);
        let output = tool(&["watch", "--admin", &socket]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), said.lines().count()),
            (Some(1), 1),
            "{said}"
        );
        assert!(said.contains(told), "{said}");
        server.join().unwrap();
    }
}

#[test]
fn a_disk_that_is_full_leaves_no_half_of_a_file() {
    let folder = Folder::new();
    let (daemon, socket) = daemon(&folder);
    let recording = watcher(&socket, &["record", "--admin", &socket, "-o", "/dev/full"]);
    let mut client = daemon.client();
    client.must_set("k", b"value");
    assert!(client.get("k").is_some());
    recording.signal(Signal::SIGINT);
    let (code, said) = recording.ended();
    assert_eq!(code, Some(1), "{said}");
    // After the line that a signal brings.
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(
        said.contains("/dev/full") && said.contains("make room"),
        "{said}"
    );
    assert!(client.get("k").is_some(), "the cache is as it was");
}
