//! The admin socket: for root and the server's user, the status, and what is done to keys while somebody watches.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tokencached::stats::events::{Event, Op, Outcome, WATCHERS_MAX};
use tokencached::stats::status::Status;
use tokencached::stats::watch_line::Line;

use crate::access::as_user;
use crate::daemon::{Daemon, Folder, LIMIT, PROGRAM, is_root, mode, refused, wait_until};

fn daemon(folder: &Folder) -> (Daemon, PathBuf) {
    let path = folder.path("admin.sock");
    let daemon = Daemon::with(&format!(
        "-l 127.0.0.1:0 --http off --admin-socket {}",
        path.display()
    ));
    (daemon, path)
}

fn request(path: &Path, target: &str) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Status line and body of an answer that ends.
fn ask(path: &Path, target: &str) -> (String, String) {
    let mut text = String::new();
    request(path, target).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// What a watcher reads: the lines out of the chunks that they come in.
struct Watching(BufReader<UnixStream>);

impl Watching {
    fn begin(path: &Path) -> Watching {
        let mut watching = Watching(BufReader::new(request(path, "/watch")));
        let head: Vec<String> = std::iter::from_fn(|| Some(watching.text()))
            .take_while(|line| !line.is_empty())
            .collect();
        assert_eq!(head[0], "HTTP/1.1 200 OK");
        assert!(matches!(watching.line(), Line::Begun(_)));
        watching
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        self.0.read_line(&mut text).unwrap();
        text.trim_end().to_owned()
    }

    fn line(&mut self) -> Line {
        loop {
            let text = self.text();
            // Others are the lengths of chunks.
            if text.starts_with('{') {
                return Line::read(&text).unwrap();
            }
        }
    }

    fn event(&mut self) -> Event<String> {
        match self.line() {
            Line::Event(event) => event,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_socket_shows_what_the_http_port_shows() {
    let folder = Folder::new();
    let (daemon, path) = daemon(&folder);
    let mut client = daemon.client();
    client.must_set("k", b"value");
    assert!(client.get("k").is_some() && client.get("other").is_none());
    assert_eq!(mode(&path), 0o600);
    let (status, body) = ask(&path, "/api/status");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let shown: Status = serde_json::from_str(&body).unwrap();
    assert_eq!((shown.total.hits, shown.total.misses), (1, 1));
    assert_eq!((shown.server.pid, shown.memory.items), (daemon.pid(), 1));
    assert!(ask(&path, "/metrics").1.contains("memcached_up 1"));
    assert_eq!(ask(&path, "/healthz").1, "ok\n");
    assert_eq!(ask(&path, "/record").0, "HTTP/1.1 404 Not Found");
}

#[test]
fn a_watcher_is_told_what_is_done_to_keys_and_no_key() {
    let folder = Folder::new();
    let (daemon, path) = daemon(&folder);
    let mut client = daemon.client();
    client.must_set("secretkey", b"before anybody watched");
    let mut watching = Watching::begin(&path);
    client.must_set("secretkey", b"secretvalue");
    assert!(client.get("secretkey").is_some() && client.get("secretmissing").is_none());
    client.ask("delete secretkey");
    let told: Vec<Event<String>> = (0..4).map(|_| watching.event()).collect();
    let ops = told.iter().map(|event| event.op);
    assert!(ops.eq([Op::Set, Op::Get, Op::Get, Op::Delete]), "{told:?}");
    let [set, hit, miss, deleted] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(set.key == hit.key && hit.key == deleted.key && miss.key != hit.key);
    assert!(matches!(
        hit.outcome,
        Outcome::Hit {
            value_bytes: 11,
            ..
        }
    ));
    assert!(matches!(miss.outcome, Outcome::Miss { .. }));
    let written = serde_json::to_string(&told).unwrap();
    assert!(!written.contains("secret"), "{written}");
}

#[test]
fn watchers_are_few_and_one_that_goes_makes_room() {
    let folder = Folder::new();
    let (_daemon, path) = daemon(&folder);
    let mut watching: Vec<Watching> = (0..WATCHERS_MAX).map(|_| Watching::begin(&path)).collect();
    let (status, body) = ask(&path, "/watch");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body.lines().count(), 1, "{body}");
    watching.pop();
    wait_until("the place of one that went is free", || {
        let mut answer = [0; 12];
        let mut stream = request(&path, "/watch");
        stream.read_exact(&mut answer).unwrap();
        answer == *b"HTTP/1.1 200"
    });
}

#[test]
fn a_watcher_that_does_not_read_holds_up_nobody_and_loses_events() {
    let folder = Folder::new();
    let (daemon, path) = daemon(&folder);
    let mut watching = Watching::begin(&path);
    let mut client = daemon.client();
    let resident = daemon.memory("VmRSS");
    let gets = "get nothing\r\n".repeat(1_000);
    let rounds = 200;
    for _ in 0..rounds {
        client.send(&gets);
        (0..1_000).for_each(|_| assert_eq!(client.line(), "END"));
    }
    let grown = daemon.memory("VmRSS").saturating_sub(resident);
    assert!(grown < 8 << 20, "{grown} bytes");
    // It goes on, and hears how much it has missed.
    let (mut told, mut lost) = (0, 0);
    while told + lost < rounds * 1_000 {
        match watching.line() {
            Line::Event(_) => told += 1,
            Line::Lost { count } => lost += count,
            Line::Begun(begun) => panic!("{begun:?}"),
        }
    }
    assert_eq!(told + lost, rounds * 1_000);
    assert!(lost > 0, "all of {told} found room");
}

#[test]
fn who_watches_keeps_its_connection_however_many_come() {
    let folder = Folder::new();
    let (daemon, path) = daemon(&folder);
    let mut watching = Watching::begin(&path);
    let _idle: Vec<UnixStream> = (0..40)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    // Behind fifteen that say nothing, others are closed.
    let mut turned_away = UnixStream::connect(&path).unwrap();
    turned_away.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(turned_away.read(&mut [0]).unwrap(), 0);
    daemon.client().must_set("k", b"value");
    assert_eq!(watching.event().op, Op::Set);
}

#[test]
fn nobody_else_is_served() {
    if !is_root() {
        eprintln!("not tried: only root can become others");
        return;
    }
    let folder = Folder::new();
    folder.give_to(65_534, 65_534);
    let path = folder.path("admin.sock");
    let shown = path.display();
    let mut command = Command::new(PROGRAM);
    let line = format!("-l 127.0.0.1:0 --http off -u nobody --admin-socket {shown}");
    command.args(line.split(' '));
    let _daemon = Daemon::run(command);
    // Whether one of this user's is answered.
    let is_served = |uid: u32| {
        as_user(uid, || {
            let mut stream = UnixStream::connect(&path).ok()?;
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            // A connection that is closed at once may fail either.
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).ok()?;
            (answer == *b"HTTP/1.0 200").then_some(())
        })
        .is_some()
    };
    assert!(is_served(0) && is_served(65_534) && !is_served(65_533));
    // The mode is not all that keeps others out.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(is_served(65_534) && !is_served(65_533));
}

#[test]
fn the_socket_is_there_after_a_restart_in_place_and_gone_with_the_server() {
    let folder = Folder::new();
    let (mut daemon, path) = daemon(&folder);
    let watching = Watching::begin(&path);
    daemon.client().must_set("k", b"value");
    daemon.signal(Signal::USR2);
    wait_until("the new process shows the item", || {
        let Ok(mut stream) = UnixStream::connect(&path) else {
            return false;
        };
        let _ = stream.write_all(b"GET /api/status HTTP/1.0\r\n\r\n");
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text.contains(r#""sets":1,"#) && text.contains(r#""items":1,"#)
    });
    drop(watching);
    daemon.stop();
    assert!(!path.exists());
}

#[test]
fn a_path_that_cannot_be_had_is_told_in_one_line() {
    let folder = Folder::new();
    let path = folder.path("file");
    std::fs::write(&path, "not a socket").unwrap();
    let start = |path: &Path| {
        let mut command = Command::new(PROGRAM);
        let line = "-l 127.0.0.1:0 --http off --admin-socket";
        command.args(line.split(' ')).arg(path);
        refused(command)
    };
    let (status, said) = start(&path);
    assert_eq!(status, Some(78), "{said}");
    let line = said.lines().last().unwrap();
    assert!(
        line.contains("admin_socket = ") && line.contains("choose another path"),
        "{line}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"not a socket");
    assert!(
        start(&folder.path("missing/admin.sock"))
            .1
            .contains("admin_socket = ")
    );
}

#[test]
fn where_a_service_manager_gives_a_folder_the_socket_is_in_it() {
    let folder = Folder::new();
    let run = |directory: PathBuf| {
        let mut command = Command::new(PROGRAM);
        command.args(["-l", "127.0.0.1:0", "--http", "off"]);
        command.env("RUNTIME_DIRECTORY", directory);
        Daemon::run(command)
    };
    let daemon = run(folder.path(""));
    let file = std::fs::metadata(folder.path("admin.sock")).unwrap();
    assert!(file.file_type().is_socket());
    drop(daemon);
    // Nobody asked for it, so that it is no reason not to serve.
    let daemon = run(folder.path("missing"));
    daemon.client().must_set("k", b"value");
    assert!(daemon.log().contains("no admin socket: "));
}
