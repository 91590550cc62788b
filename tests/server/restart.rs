//! Connections over a restart: whoever is connected notices nothing, wherever in a request it is.
//!
//! `handover` has what else a process leaves to the next; the manager is `fd_store`'s.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::binary_client::{Answer, Request};
use crate::daemon::{Client, Daemon, KIB, pattern, wait_until};
use crate::fd_store::{Manager, memory_file};
use crate::load::{Knowing, Uniques, Wire};

/// A daemon that can be restarted, by its manager or by itself.
struct Restarted {
    manager: Option<Manager>,
    args: String,
    daemon: Daemon,
    times: usize,
}

impl Restarted {
    fn by_a_manager(args: &str) -> Restarted {
        let manager = Manager::new();
        let daemon = manager.start(args);
        Restarted {
            manager: Some(manager),
            args: args.to_owned(),
            daemon,
            times: 0,
        }
    }

    fn by_itself(args: &str) -> Restarted {
        Restarted {
            manager: None,
            args: args.to_owned(),
            daemon: Daemon::start(args),
            times: 0,
        }
    }

    fn both(args: &str) -> [Restarted; 2] {
        [Restarted::by_a_manager(args), Restarted::by_itself(args)]
    }

    fn restart(&mut self) {
        self.times += 1;
        match &self.manager {
            Some(manager) => {
                self.daemon.stop();
                self.daemon = manager.start(&self.args);
            }
            None => {
                self.daemon.signal(Signal::USR2);
                let daemon = &self.daemon;
                wait_until("it serves again", || {
                    daemon.log().matches("listening on ").count() > self.times
                });
            }
        }
    }
}

/// The answer to a `get` that was sent.
fn found<S: Read + Write>(client: &mut Client<S>, key: &str) -> Option<Vec<u8>> {
    let value = client.value(key)?;
    assert_eq!(client.line(), "END");
    Some(value)
}

#[test]
fn every_connection_goes_on_at_the_byte_where_it_stands() {
    for mut server in Restarted::both("-m 64") {
        let address = server.daemon.address();
        let large = pattern(3, 600 * KIB);
        let mut owner = Client::tcp(address);
        owner.must_set("k", b"value");
        owner.must_set("large", &large);
        let mut idle = Client::tcp(address);
        let mut in_a_line = Client::tcp(address);
        in_a_line.send("get k\r\nge");
        assert_eq!(found(&mut in_a_line, "k").as_deref(), Some(&b"value"[..]));
        let mut in_a_value = Client::tcp(address);
        in_a_value.send("set half 0 0 10\r\n12345");
        let mut in_a_large_value = Client::tcp(address);
        in_a_large_value.send(format!("set half-large 0 0 {}\r\n", large.len()));
        in_a_large_value.send(&large[..300 * KIB]);
        let mut in_a_refused_value = Client::tcp(address);
        in_a_refused_value.send("set too-large 0 0 3000000\r\n");
        in_a_refused_value.send(vec![b'x'; 1_000_000]);
        // More than any socket takes, of which nothing is read before the restart.
        let mut in_an_answer = Client::tcp(address);
        in_an_answer.send(
            "get large large large large large large large large large large large k\r\nget k\r\n",
        );
        wait_until("it is answered", || owner.stat("get_hits") >= 4);
        let mut binary = Client::tcp(address);
        let set = Request::new(1).extras([0; 8]).key("binary").value("frame");
        let bytes = set.bytes();
        binary.send(&bytes[..30]);

        for _ in 0..3 {
            server.restart();
        }
        assert_eq!(server.daemon.address(), address);
        assert_eq!(idle.get("k").as_deref(), Some(&b"value"[..]));
        in_a_line.send("t k\r\n");
        assert_eq!(found(&mut in_a_line, "k").as_deref(), Some(&b"value"[..]));
        in_a_value.send("67890\r\nget half\r\n");
        assert_eq!(in_a_value.line(), "STORED");
        assert_eq!(
            found(&mut in_a_value, "half").as_deref(),
            Some(&b"1234567890"[..])
        );
        in_a_large_value.send(&large[300 * KIB..]);
        in_a_large_value.send("\r\n");
        assert_eq!(in_a_large_value.line(), "STORED");
        assert!(owner.get("half-large").as_ref() == Some(&large));
        in_a_refused_value.send(vec![b'x'; 2_000_000]);
        in_a_refused_value.send("\r\nversion\r\n");
        assert_eq!(
            in_a_refused_value.line(),
            "SERVER_ERROR object too large for cache"
        );
        assert!(in_a_refused_value.line().starts_with("VERSION "));
        for _ in 0..11 {
            assert_eq!(
                in_an_answer.line(),
                format!("VALUE large 0 {}", large.len())
            );
            assert!(in_an_answer.exactly(large.len() + 2)[..large.len()] == large);
        }
        assert_eq!(in_an_answer.line(), "VALUE k 0 5");
        in_an_answer.exactly(b"value\r\nEND\r\n".len());
        assert_eq!(
            found(&mut in_an_answer, "k").as_deref(),
            Some(&b"value"[..])
        );
        binary.send(&bytes[30..]);
        assert_eq!(Answer::read(&mut binary.stream).status, 0);
        assert_eq!(owner.get("binary").as_deref(), Some(&b"frame"[..]));
        assert_eq!(owner.stat("curr_connections"), 8);
    }
}

#[test]
fn what_was_counted_is_counted_on() {
    for mut server in Restarted::both("") {
        let mut client = server.daemon.client();
        client.must_set("k", b"value");
        assert!(client.get("k").is_some() && client.get("absent").is_none());
        for _ in 0..2 {
            server.restart();
            assert!(client.get("k").is_some());
        }
        for (name, count) in [
            ("cmd_set", 1),
            ("get_hits", 3),
            ("get_misses", 1),
            ("total_items", 1),
            ("total_connections", 1),
        ] {
            assert_eq!(client.stat(name), count, "{name}");
        }
        assert_eq!(client.ask("stats reset"), "RESET");
        server.restart();
        assert!(client.get("k").is_some());
        assert_eq!(client.stat("get_hits"), 1);
    }
}

#[test]
fn a_unix_socket_and_who_is_at_its_other_end_go_along() {
    let manager = Manager::new();
    let socket = manager.folder().text("socket");
    let rules = manager.folder().text("rules");
    fs::write(&rules, "access.connect = [\"@server\", 0]\n").unwrap();
    let args = format!("-s {socket} -a 0777 --config {rules}");
    let mut daemon = manager.start(&args);
    daemon.wait_for_log(&format!("unix:{socket}"));
    let mut client: Client<UnixStream> = Client::unix(&socket);
    client.must_set("k", b"value");
    client.send("get ");
    daemon.stop();
    let mut daemon = manager.start(&args);
    daemon.wait_for_log(&format!("unix:{socket}"));
    client.send("k\r\n");
    assert_eq!(found(&mut client, "k").as_deref(), Some(&b"value"[..]));
    Client::unix(&socket).must_set("k", b"other");

    // The next process has rules that refuse it, though nobody could look it up by now.
    fs::write(&rules, "access.connect = [12345]\n").unwrap();
    daemon.stop();
    let mut daemon = manager.start(&args);
    daemon.wait_for_log("connections of the process before: 0 go on");
    assert_eq!(client.rest(), b"");
}

#[test]
fn who_has_said_who_it_is_need_not_say_it_again() {
    let folder = crate::daemon::Folder::new();
    let users = folder.text("users");
    fs::write(&users, "alice:secret\n").unwrap();
    fs::set_permissions(&users, Permissions::from_mode(0o600)).unwrap();
    for mut server in Restarted::both(&format!("-S -Y {users}")) {
        let address = server.daemon.address();
        let mut known = Client::tcp(address);
        assert_eq!(known.ask("set auth 0 0 12\r\nalice secret"), "STORED");
        let mut unknown = Client::tcp(address);
        let mut binary = Client::tcp(address);
        let plain = Request::new(0x21).key("PLAIN").value("\0alice\0secret");
        binary.send(plain.bytes());
        assert_eq!(Answer::read(&mut binary.stream).status, 0);
        server.restart();
        known.must_set("k", b"value");
        assert_eq!(unknown.ask("get k"), "CLIENT_ERROR unauthenticated");
        binary.send(Request::new(0).key("k").bytes());
        let answer = Answer::read(&mut binary.stream);
        assert_eq!((answer.status, answer.text()), (0, "value"));
    }
}

/// Puts something in the place of what is stored in this role.
fn replace(manager: &Manager, role: &str, with: impl Into<OwnedFd>) {
    let mut stored = manager.stored.lock().unwrap();
    let entry = stored.iter_mut().find(|(name, _)| name == role);
    entry.unwrap_or_else(|| panic!("no {role} is stored")).1 = with.into();
}

#[test]
fn without_a_state_that_can_be_read_those_at_rest_go_on() {
    let garbage = [
        &b"not a state of any release, and long enough to be looked at"[..],
        b"",
        b"tokstate\x09\0\0\0rest of one of a later release............",
    ];
    for bytes in garbage {
        let manager = Manager::new();
        let mut daemon = manager.start("-t 1");
        let mut at_rest = daemon.client();
        at_rest.must_set("k", b"value");
        let mut begun = daemon.client();
        // Served by now, and not still to be accepted.
        assert!(begun.get("k").is_some());
        begun.send("get");
        // Read with the next turn of its worker, and that of `-t 1` is over when this is answered.
        assert!(at_rest.get("k").is_some());
        daemon.stop();
        replace(&manager, "state", memory_file(bytes, true));
        let mut daemon = manager.start("");
        daemon.wait_for_log("connections of the process before: 1 go on, 1 are closed");
        let log = daemon.log();
        assert!(log.contains("the state that was handed over "), "{log}");
        assert_eq!(begun.rest(), b"");
        assert_eq!(at_rest.get("k").as_deref(), Some(&b"value"[..]));
    }
}

#[test]
fn a_queue_that_is_none_closes_connections_and_is_no_reason_not_to_serve() {
    let manager = Manager::new();
    let mut daemon = manager.start("");
    let mut client = daemon.client();
    client.must_set("k", b"value");
    daemon.stop();
    let (one, _other) = UnixStream::pair().unwrap();
    replace(&manager, "connections", one);
    let daemon = manager.start("");
    assert_eq!(client.rest(), b"");
    assert!(daemon.client().get("k").is_some());
}

#[test]
fn more_connections_than_the_next_may_have_are_closed() {
    let manager = Manager::new();
    let mut daemon = manager.start("-c 100");
    let mut clients: Vec<_> = (0..50).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.must_set("k", b"value");
    }
    daemon.stop();
    let mut daemon = manager.start("-c 20");
    daemon.wait_for_log("connections of the process before: 20 go on, 30 are closed");
    let served = clients.iter_mut().filter_map(|client| {
        // One that is closed may be reset.
        client.stream.write_all(b"get k\r\nquit\r\n").ok()?;
        let mut answer = Vec::new();
        client.stream.read_to_end(&mut answer).ok()?;
        (!answer.is_empty()).then_some(())
    });
    assert_eq!(served.count(), 20);
}

#[test]
fn two_hundred_clients_notice_nothing_of_twenty_restarts() {
    const CLIENTS: usize = 200;
    for mut server in Restarted::both("-m 256 -t 2") {
        let address = server.daemon.address();
        let (over, talks) = (AtomicBool::new(false), AtomicUsize::new(0));
        let uniques = Uniques::default();
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (over, talks, uniques) = (&over, &talks, &uniques);
                scope.spawn(move || {
                    let mut wire = Wire::to(address);
                    let mut knowing = Knowing::new(number, uniques);
                    while !over.load(Ordering::Relaxed) {
                        let talked = knowing.talk(&mut wire);
                        assert!(talked.is_ok(), "a connection was closed");
                        talks.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..20 {
                let before = talks.load(Ordering::Relaxed);
                wait_until("all talk", || {
                    talks.load(Ordering::Relaxed) > before + CLIENTS
                });
                server.restart();
            }
            over.store(true, Ordering::Relaxed);
        });
        let mut client = server.daemon.client();
        assert_eq!(client.stat("evictions"), 0);
        assert!(client.stat("values_packed") > 0 && client.stat("values_unpacked") > 0);
        wait_until("the others have left", || {
            client.stat("curr_connections") == 1
        });
    }
}
