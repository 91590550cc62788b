//! SIGTERM: nothing new is accepted, what was begun is finished, and nothing is left behind.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::Signal;

use crate::daemon::{
    Client, Daemon, Folder, KIB, PROGRAM, is_root, pattern, pid, set_request, wait_until,
};

fn refuses_connections(daemon: &Daemon) -> bool {
    let refused = TcpStream::connect(daemon.address());
    refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Waits until it has read so many bytes, beside those with which it is asked.
fn has_read(daemon: &Daemon, bytes: usize) {
    let mut asked = 0;
    wait_until("it has read", || {
        let read = daemon.stat("bytes_read") as usize;
        asked += "stats\r\n".len();
        read >= bytes + asked
    });
}

#[test]
fn requests_that_were_begun_are_finished() {
    let folder = Folder::new();
    let (socket, pid_file) = (folder.text("socket"), folder.text("pid"));
    let mut daemon = Daemon::start(&format!("-t 2 -s {socket} -P {pid_file}"));
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(pid, format!("{}\n", daemon.pid()));
    let value = pattern(1, 900 * KIB);
    daemon.client().must_set("k", &value);

    let mut idle = daemon.client();
    assert_eq!(idle.get("nothing"), None);
    let mut half_line = Client::unix(&socket);
    half_line.send("get k");
    let mut half_small = daemon.client();
    half_small.send("set small 0 0 10\r\n12345");
    let mut half_large = daemon.client();
    half_large.send("set large 0 0 900000\r\n");
    half_large.send(vec![b'x'; 400_000]);
    let mut half_skipped = daemon.client();
    half_skipped.send("set larger 0 0 3000000\r\n");
    half_skipped.send(vec![b'x'; 400_000]);
    assert_eq!(
        half_skipped.line(),
        "SERVER_ERROR object too large for cache"
    );
    let mut unread = daemon.client();
    unread.send("get k\r\n".repeat(20));
    let sent = set_request("k", &value).len()
        + "get nothing\r\nget kset small 0 0 10\r\n12345set large 0 0 900000\r\n".len()
        + "set larger 0 0 3000000\r\n".len()
        + 2 * 400_000
        + 20 * "get k\r\n".len();
    has_read(&daemon, sent);

    daemon.signal(Signal::TERM);
    wait_until("nothing is accepted", || refuses_connections(&daemon));
    assert!(UnixStream::connect(&socket).is_err());

    half_line.send("\r\n");
    assert!(half_line.value("k").as_ref() == Some(&value));
    assert_eq!(half_line.line(), "END");
    half_small.send("67890\r\n");
    assert_eq!(half_small.line(), "STORED");
    half_large.send(vec![b'x'; 500_000]);
    half_large.send("\r\n");
    assert_eq!(half_large.line(), "STORED");
    half_skipped.send(vec![b'x'; 2_600_000]);
    half_skipped.send("\r\nget nothing\r\n");
    for _ in 0..20 {
        assert!(unread.value("k").as_ref() == Some(&value));
        assert_eq!(unread.line(), "END");
    }
    assert_eq!(idle.rest(), b"");
    assert_eq!(daemon.wait().code(), Some(0));
    assert_eq!(folder.names(), [""; 0], "the socket and the pid file");
}

#[test]
fn a_request_that_was_sent_before_the_signal_is_answered() {
    for _ in 0..20 {
        let mut daemon = Daemon::start("-t 1");
        let mut client = daemon.client();
        client.must_set("k", b"value");
        // The signal and the request meet a server that has not looked at either.
        daemon.signal(Signal::STOP);
        client.send("get k\r\n".repeat(100));
        daemon.signal(Signal::TERM);
        daemon.signal(Signal::CONT);
        for _ in 0..100 {
            assert_eq!(client.value("k").as_deref(), Some(&b"value"[..]));
            assert_eq!(client.line(), "END");
        }
        assert_eq!(client.rest(), b"");
        assert_eq!(daemon.wait().code(), Some(0));
    }
}

#[test]
fn who_never_finishes_keeps_the_server_from_ending_only_for_a_while() {
    let mut daemon = Daemon::start("-t 2");
    let mut client = daemon.client();
    client.must_set("k", &pattern(1, 900 * KIB));
    client.send("set half 0 0 10\r\n12345");
    let mut unread = daemon.client();
    unread.send("get k\r\n".repeat(100));
    has_read(
        &daemon,
        900 * KIB + "set half 0 0 10\r\n12345".len() + 100 * "get k\r\n".len(),
    );
    // `stop` gives up waiting long before these two do.
    daemon.stop();
    assert_eq!(client.rest(), b"");
}

#[test]
fn every_signal_that_ends_it_is_orderly_and_sighup_changes_nothing() {
    for signal in [Signal::TERM, Signal::INT, Signal::USR1] {
        let folder = Folder::new();
        let mut daemon = Daemon::start(&format!("-s {}", folder.text("socket")));
        let mut client = daemon.client();
        daemon.signal(Signal::HUP);
        client.must_set("k", b"value");
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0), "{signal:?}");
        assert_eq!(folder.names(), [""; 0], "{signal:?}");
    }
}

#[test]
fn a_server_that_ends_leaves_its_successors_socket_and_pid_file_alone() {
    let folder = Folder::new();
    let args = format!("-s {} -P {}", folder.text("socket"), folder.text("pid"));
    let mut old = Daemon::start(&args);
    let mut client = old.client();
    client.send("set half 0 0 10\r\n12345");
    has_read(&old, "set half 0 0 10\r\n12345".len());
    old.signal(Signal::TERM);
    wait_until("nothing is accepted", || refuses_connections(&old));

    let mut new = Daemon::start(&args);
    client.send("67890\r\n");
    assert_eq!(client.line(), "STORED");
    assert_eq!(old.wait().code(), Some(0));
    assert_eq!(Client::unix(folder.path("socket")).get("half"), None);
    let pid = fs::read_to_string(folder.path("pid")).unwrap();
    assert_eq!(pid.trim(), new.pid().to_string());
    new.stop();
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn signals_are_heard_as_soon_as_the_pid_file_is_there() {
    for _ in 0..10 {
        let folder = Folder::new();
        let path = folder.path("pid");
        let mut command = Command::new(PROGRAM);
        command.args(["-l", "127.0.0.1:0", "--http", "off", "-P"]);
        command.arg(&path).stderr(Stdio::null());
        if is_root() {
            command.args(["-u", "root"]);
        }
        let mut child = command.spawn().unwrap();
        while fs::read_to_string(&path).unwrap_or_default().is_empty() {
            thread::yield_now();
        }
        for signal in [Signal::HUP, Signal::TERM] {
            rustix::process::kill_process(pid(child.id()), signal).unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(folder.names(), [""; 0], "the pid file is removed");
    }
}
