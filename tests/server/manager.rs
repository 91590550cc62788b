//! What a service manager is told, and the sockets that it hands over.
//!
//! The manager is this test: its socket gets what sd_notify sends, and a short Python program binds sockets and
//! becomes the daemon, as systemd does. `tests/systemd/` has the same with a real one.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::Signal;

use crate::daemon::{Client, Daemon, Folder, LIMIT, PROGRAM, is_root, refused};

/// Binds what `sys.argv[1]` names, separated by commas, as descriptors from 3 on, and becomes the rest of its
/// arguments.
const LAUNCHER: &str = "
import os, socket, sys
names = sys.argv[1].split(',')
kept = []
for name in names:
    kind, _, where = name.partition(':')
    if kind == 'unix':
        made = socket.socket(socket.AF_UNIX)
        made.bind(where)
        made.listen()
    elif kind == 'tcp':
        host, port = where.rsplit(':', 1)
        made = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
        made.bind((host, int(port)))
        made.listen()
    elif kind == 'udp':
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(('127.0.0.1', 0))
    elif kind == 'deaf':
        made = socket.socket(socket.AF_INET)
        made.bind(('127.0.0.1', 0))
    elif kind == 'file':
        made = open(where)
    kept.append(os.dup(made.fileno()))
    os.set_inheritable(kept[-1], True)
high = [os.dup2(number, 100 + index) for index, number in enumerate(kept)]
os.closerange(3, 100)
for index, number in enumerate(high):
    os.dup2(number, 3 + index)
os.closerange(100, 110)
os.environ['LISTEN_PID'] = str(os.getpid())
os.environ['LISTEN_FDS'] = os.environ.get('CLAIMED', str(len(names)))
os.execv(sys.argv[2], sys.argv[2:])
";

fn activated(sockets: &str, args: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", LAUNCHER, sockets, PROGRAM, "--http", "off"]);
    command.args(args.split_whitespace());
    if is_root() {
        command.args(["-u", "root"]);
    }
    command
}

/// A service manager's end of the conversation.
struct Manager {
    socket: UnixDatagram,
    folder: Folder,
}

impl Manager {
    fn new() -> Manager {
        let folder = Folder::new();
        let socket = UnixDatagram::bind(folder.path("notify")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Manager { socket, folder }
    }

    fn start(&self, args: &str, variables: &[(&str, &str)]) -> Daemon {
        let mut command = Command::new(PROGRAM);
        command.args(["-l", "127.0.0.1:0", "--http", "off"]);
        command.args(args.split_whitespace());
        if is_root() {
            command.args(["-u", "root"]);
        }
        command.env("NOTIFY_SOCKET", self.folder.path("notify"));
        // It keeps no descriptors.
        command.env("FDSTORE", "0");
        command.envs(variables.iter().copied());
        Daemon::run(command)
    }

    /// The next message, a word for each of its lines.
    fn told(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a message");
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_manager_is_told_of_readiness_reloads_and_the_end() {
    let manager = Manager::new();
    let mut daemon = manager.start("", &[]);
    assert_eq!(manager.told(), ["READY=1"]);
    assert_eq!(daemon.client().ask("version"), "VERSION 1.6.45");
    daemon.signal(Signal::HUP);
    let told = manager.told();
    assert_eq!(told[0], "RELOADING=1");
    assert!(told[1].starts_with("MONOTONIC_USEC="), "{told:?}");
    assert_eq!(manager.told(), ["READY=1"]);
    daemon.signal(Signal::TERM);
    assert_eq!(manager.told(), ["STOPPING=1"]);
    assert!(daemon.wait().success());
}

#[test]
fn the_watchdog_is_fed_for_as_long_as_the_process_runs() {
    let manager = Manager::new();
    let daemon = manager.start("-t 2", &[("WATCHDOG_USEC", "20000")]);
    assert_eq!(manager.told(), ["READY=1"]);
    for _ in 0..5 {
        assert_eq!(manager.told(), ["WATCHDOG=1"]);
    }
    daemon.signal(Signal::STOP);
    manager.socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 64];
    // What was sent before it stopped.
    while manager.socket.recv(&mut bytes).is_ok() {}
    daemon.signal(Signal::CONT);
    manager.socket.set_nonblocking(false).unwrap();
    assert_eq!(manager.told(), ["WATCHDOG=1"]);
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let manager = Manager::new();
    let watchdog = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let daemon = manager.start("", &watchdog);
    assert_eq!(manager.told(), ["READY=1"]);
    assert_eq!(daemon.client().ask("version"), "VERSION 1.6.45");
    daemon.signal(Signal::TERM);
    assert_eq!(manager.told(), ["STOPPING=1"]);
}

#[test]
fn a_manager_that_cannot_be_reached_is_no_reason_not_to_serve() {
    let mut command = Command::new(PROGRAM);
    command.args(["-l", "127.0.0.1:0", "--http", "off"]);
    if is_root() {
        command.args(["-u", "root"]);
    }
    command.env("NOTIFY_SOCKET", "/nowhere/at.all");
    let mut daemon = Daemon::run(command);
    daemon.wait_for_log("the service manager cannot be told");
    daemon.wait_for_log("not all can be kept for the process that comes next");
    assert_eq!(daemon.client().ask("version"), "VERSION 1.6.45");
}

#[test]
fn sockets_that_are_handed_over_are_served_in_the_place_of_the_default_ones() {
    let folder = Folder::new();
    let path = folder.text("socket");
    let mut daemon = Daemon::run(activated(&format!("tcp:127.0.0.1:0,unix:{path}"), ""));
    assert_ne!(daemon.address().port(), 11211);
    daemon.client().must_set("k", b"value");
    daemon.wait_for_log(&format!("listening on unix:{path}"));
    assert_eq!(Client::unix(&path).ask("get k"), "VALUE k 0 5");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    assert_eq!(folder.names(), ["socket"], "the manager's to remove");
}

#[test]
fn addresses_that_are_named_as_well_have_to_be_the_same() {
    let folder = Folder::new();
    let path = folder.text("socket");
    let unix = format!("unix:{path}");
    let daemon = Daemon::run(activated(&unix, &format!("-s {path}")));
    assert_eq!(Client::unix(&path).ask("version"), "VERSION 1.6.45");
    drop(daemon);
    fs::remove_file(&path).unwrap();
    for (sockets, args, parts) in [
        (
            "tcp:127.0.0.1:0",
            "-l 127.0.0.1 -p 1",
            &[
                "listen = \"127.0.0.1:1\" (command line -l)",
                " over; name the same addresses",
            ][..],
        ),
        (
            "tcp:127.0.0.1:0",
            "-p 1",
            &["listen = \"127.0.0.1:1,[::1]:1\"", "hands 127.0.0.1:"],
        ),
        (
            "tcp:127.0.0.1:0",
            "-s /nowhere/socket",
            &["listen = \"off\" (command line -s)", "hands"],
        ),
        (
            &unix,
            "-s /nowhere/socket",
            &["unix_socket = \"/nowhere/socket\"", "hands", &path],
        ),
    ] {
        let (status, line) = refused(activated(sockets, args));
        assert_eq!(status, Some(78), "{args}: {line}");
        assert_eq!(line.lines().count(), 1, "{args}: {line}");
        for part in parts {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
        let _ = fs::remove_file(&path);
    }
}

#[test]
fn an_address_that_is_named_and_not_handed_over_is_said() {
    let folder = Folder::new();
    let path = folder.text("socket");
    let args = format!("-s {path} -l 127.0.0.1 -p 1");
    let (status, line) = refused(activated(&format!("unix:{path}"), &args));
    assert_eq!(status, Some(78), "{line}");
    assert!(line.contains("does not hand 127.0.0.1:1 over"), "{line}");
}

#[test]
fn descriptors_that_are_no_listening_stream_sockets_are_refused() {
    for sockets in ["udp:", "deaf:", "file:/dev/null", "tcp:127.0.0.1:0,udp:"] {
        let (status, line) = refused(activated(sockets, ""));
        assert_eq!(status, Some(78), "{sockets}: {line}");
        assert_eq!(line.lines().count(), 1, "{sockets}: {line}");
        assert!(line.contains("is no stream socket that listens"), "{line}");
        assert!(line.contains("ListenStream="), "{line}");
    }
    for claimed in ["2", "many", "4294967295"] {
        let mut command = activated("tcp:127.0.0.1:0", "");
        command.env("CLAIMED", claimed);
        let (status, line) = refused(command);
        assert_eq!(status, Some(78), "{claimed}: {line}");
        assert_eq!(line.lines().count(), 1, "{claimed}: {line}");
        assert!(line.contains("cannot be used"), "{line}");
    }
}

#[test]
fn sockets_of_another_process_are_left_alone() {
    let mut command = Command::new(PROGRAM);
    command.args(["-l", "127.0.0.1:0", "--http", "off"]);
    if is_root() {
        command.args(["-u", "root"]);
    }
    command.envs([("LISTEN_PID", "1"), ("LISTEN_FDS", "1")]);
    assert_eq!(
        Daemon::run(command).client().ask("version"),
        "VERSION 1.6.45"
    );
}
