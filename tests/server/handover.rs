//! What a process leaves to the next under a service manager that stores descriptors.
//!
//! The manager is `fd_store`'s, which does as systemd; `tests/systemd/test_restart.py` has the same with a real one.

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::daemon::{Client, Daemon, KIB, MIB, PROGRAM, mode, pattern, pid, refused, wait_until};
use crate::fd_store::{Manager, memory_file};

const ALL: [&str; 3] = ["config", "heap", "listen"];

/// Ends it as a crash does.
fn kill(daemon: &mut Daemon) {
    daemon.signal(Signal::KILL);
    daemon.wait();
}

fn end(daemon: &mut Daemon, signal: Signal) {
    daemon.signal(signal);
    assert_eq!(daemon.wait().success(), signal != Signal::KILL);
}

fn cas_unique(client: &mut Client<TcpStream>, key: &str) -> u64 {
    let line = client.ask(&format!("gets {key}"));
    let unique = line.rsplit(' ').next().unwrap().parse().unwrap();
    let bytes: usize = line.split(' ').nth(3).unwrap().parse().unwrap();
    client.exactly(bytes + "\r\nEND\r\n".len());
    unique
}

#[test]
fn items_and_addresses_outlive_an_end_and_a_crash() {
    for signal in [Signal::TERM, Signal::KILL] {
        let manager = Manager::new();
        let mut daemon = manager.start("-t 2");
        manager.wait_for(&ALL);
        let address = daemon.address();
        let mut client = daemon.client();
        client.must_set("small", b"value");
        client.must_set("large", &pattern(1, 900 * KIB));
        client.must_set("deleted", b"value");
        assert_eq!(client.ask("delete deleted"), "DELETED");
        let unique = cas_unique(&mut client, "small");
        end(&mut daemon, signal);

        // Nobody serves now, and nobody is refused.
        let mut waiting = Client::tcp(address);
        waiting.send("get small\r\n");
        let mut next = manager.start("-t 3");
        assert_eq!(next.address(), address);
        assert_eq!(waiting.value("small").as_deref(), Some(&b"value"[..]));
        let mut client = next.client();
        assert!(client.get("large") == Some(pattern(1, 900 * KIB)));
        assert_eq!(client.get("deleted"), None);
        assert_eq!(cas_unique(&mut client, "small"), unique);
        client.must_set("small", b"other");
        assert!(cas_unique(&mut client, "small") > unique);
        next.wait_for_log("took 2 items over in ");
        next.wait_for_log("; dropped: 0 damaged, 0 unfinished, 0 too large");
        manager.wait_for(&ALL);
    }
}

#[test]
fn a_flush_is_a_flush_for_the_successor_too() {
    let manager = Manager::new();
    let mut daemon = manager.start("");
    let mut client = daemon.client();
    client.must_set("before", b"value");
    assert_eq!(client.ask("flush_all"), "OK");
    client.must_set("after", b"value");
    kill(&mut daemon);
    let next = manager.start("");
    assert_eq!(next.client().get("before"), None);
    assert!(next.client().get("after").is_some());
}

#[test]
fn other_limits_keep_what_fits() {
    let manager = Manager::new();
    let mut daemon = manager.start("-m 64");
    let mut client = daemon.client();
    client.must_set("large", &pattern(1, 800 * KIB));
    for number in 0..300 {
        client.must_set(&format!("k{number}"), &pattern(number, 100 * KIB));
    }
    end(&mut daemon, Signal::TERM);

    let mut daemon = manager.start("-m 16 -I 512k");
    let kept = daemon.stat("curr_items");
    assert!((50..160).contains(&kept), "{kept}");
    assert!(daemon.stat("bytes") <= 16 * MIB as u64);
    assert_eq!(daemon.client().get("large"), None);
    daemon.wait_for_log(" 1 too large");
    end(&mut daemon, Signal::TERM);

    // Beyond the ceiling, of 1 GiB, that the file was made for.
    let mut daemon = manager.start("-m 2048 -I 1024m");
    assert_eq!(daemon.stat("curr_items"), kept);
    assert_eq!(daemon.stat("limit_maxbytes"), 1 << 30);
    daemon.wait_for_log(
        "memory_limit: 2048 MiB is beyond what the memory file was made for, it is 1024 MiB",
    );
    daemon.wait_for_log("max_item_size: 1048576 KiB is more than half of that, it is 524288 KiB");
}

#[test]
fn a_heap_that_ends_its_readers_is_not_read_a_third_time() {
    let manager = Manager::new();
    let mut daemon = manager.start("");
    daemon.client().must_set("k", b"value");
    for _ in 0..2 {
        kill(&mut daemon);
        daemon = manager.start("");
        assert!(daemon.client().get("k").is_some());
    }
    kill(&mut daemon);
    let mut daemon = manager.start("");
    assert_eq!(daemon.client().get("k"), None);
    daemon.wait_for_log("cannot be used: 2 processes in a row");
    daemon.wait_for_log("starts empty");
    manager.wait_for(&ALL);

    // The new one is taken over again, and an orderly end is no failure.
    daemon.client().must_set("k", b"value");
    for _ in 0..4 {
        end(&mut daemon, Signal::TERM);
        daemon = manager.start("");
        assert!(daemon.client().get("k").is_some());
    }
}

#[test]
fn a_heap_that_is_none_costs_the_items_and_one_line() {
    let garbage = pattern(1, 2 * MIB);
    let mut alien = garbage.clone();
    alien[..8].copy_from_slice(b"tokcache");
    let mut empty = alien.clone();
    empty[8..12].copy_from_slice(&5_u32.to_le_bytes());
    for bytes in [garbage, alien, empty, vec![0; 10], vec![]] {
        let manager = Manager::new();
        let heap = fs::File::from(memory_file(&bytes, false));
        rustix::fs::fcntl_add_seals(&heap, rustix::fs::SealFlags::SHRINK).unwrap();
        manager.put("heap", heap);
        let daemon = manager.start("");
        daemon.client().must_set("k", b"value");
        let log = daemon.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("heap of the process before"));
        assert_eq!(lines.count(), 1, "{log}");
        manager.wait_for(&ALL);
    }
}

#[test]
fn a_superblock_of_nonsense_is_one_line() {
    let nonsense: [(u64, &[u8]); 7] = [
        (8, &[0xff; 4]),
        (12, &[0xff; 4]),
        (16, &[0xff; 4]),
        // No segment was ever used, or more than there are.
        (20, &[0; 4]),
        (20, &[0xff; 4]),
        // All is flushed that will ever be written.
        (24, &[0xff; 8]),
        (40, &[0xff; 8]),
    ];
    for (at, bytes) in nonsense {
        let manager = Manager::new();
        let mut daemon = manager.start("");
        daemon.client().must_set("k", b"value");
        manager.wait_for(&ALL);
        kill(&mut daemon);
        let heap = {
            let stored = manager.stored.lock().unwrap();
            let (_, heap) = stored.iter().find(|(name, _)| name == "heap").unwrap();
            fs::File::from(heap.try_clone().unwrap())
        };
        heap.write_all_at(bytes, at).unwrap();
        let mut daemon = manager.start("");
        assert_eq!(daemon.client().get("k"), None);
        daemon.wait_for_log("heap of the process before cannot be used: ");
    }
}

#[test]
fn descriptors_that_are_not_what_their_names_say_are_closed_and_said() {
    let null = || OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let udp = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let manager = Manager::new();
    manager.put("heap", null());
    manager.put("heap", udp());
    manager.put("config", memory_file(b"{}", false));
    manager.put("state", null());
    manager.put("connections", UnixStream::pair().unwrap().0);
    manager.put("listen", udp());
    manager.put("listen", null());
    let daemon = manager.start("");
    daemon.client().must_set("k", b"value");
    let log = daemon.log();
    let closed = log.lines().filter(|line| line.contains("; it is closed"));
    assert_eq!(closed.count(), 7, "{log}");
    manager.wait_for(&ALL);
}

#[test]
fn more_descriptors_than_anybody_asked_for_are_let_go() {
    let manager = Manager::new();
    let mut kept = None;
    for _ in 0..50 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        kept = Some(listener.local_addr().unwrap());
        manager.put("listen", listener);
    }
    let daemon = Daemon::run(manager.command(&format!("-l {} --http off", kept.unwrap())));
    assert_eq!(daemon.address(), kept.unwrap());
    daemon.client().must_set("k", b"value");
    manager.wait_for(&ALL);
    let log = daemon.log();
    assert_eq!(log.matches("no longer served: ").count(), 49, "{log}");
}

#[test]
fn what_a_store_has_no_room_for_is_missing_and_nothing_else() {
    let manager = Manager::storing(1);
    let mut daemon = manager.start("");
    daemon.client().must_set("k", b"value");
    manager.wait_for(&["heap"]);
    kill(&mut daemon);
    assert!(manager.start("").client().get("k").is_some());

    // Connections and their state come on top of heap, address and configuration.
    for (most, is_enough) in [(3, false), (4, false), (5, true)] {
        let manager = Manager::storing(most);
        let mut daemon = manager.start("");
        daemon.client().must_set("k", b"value");
        if !is_enough {
            daemon.wait_for_log("raise FileDescriptorStoreMax=");
        }
        let is_said = daemon.log().contains("FileDescriptorStoreMax=");
        assert_eq!(is_said, !is_enough);
        manager.wait_for(&ALL);
    }

    // Without a store, everything ends with the process.
    let manager = Manager::storing(0);
    let socket = manager.folder().text("socket");
    let mut daemon = manager.start(&format!("-s {socket}"));
    daemon.client().must_set("k", b"value");
    daemon.stop();
    assert!(!fs::exists(&socket).unwrap());
    assert_eq!(manager.start("").client().get("k"), None);
}

#[test]
fn users_and_certificates_that_cannot_be_used_any_more_are_those_of_the_process_before() {
    let manager = Manager::new();
    let folder = manager.folder();
    let (users, chain, key) = (
        folder.text("users"),
        folder.text("chain"),
        folder.text("key"),
    );
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(&chain, own.cert.pem()).unwrap();
    fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    fs::write(&users, "api:secret\n").unwrap();
    fs::set_permissions(&users, Permissions::from_mode(0o600)).unwrap();
    let args =
        format!("-l notls:127.0.0.1:0 -Y {users} -Z -o ssl_chain_cert={chain},ssl_key={key}");
    let start = || {
        let daemon = Daemon::run(manager.command(&format!("--http off {args}")));
        let mut client = daemon.client();
        assert_eq!(client.ask("set auth 0 0 10\r\napi secret"), "STORED");
        (daemon, client)
    };
    let (mut daemon, mut client) = start();
    client.must_set("k", b"value");
    for broken in [&users, &chain] {
        fs::write(broken, "garbage\n").unwrap();
    }
    // However often.
    for signal in [Signal::TERM, Signal::KILL, Signal::TERM] {
        end(&mut daemon, signal);
        (daemon, client) = start();
        daemon.wait_for_log("goes on with the users and passwords of the process before");
        daemon.wait_for_log("goes on with the certificates of the process before");
        assert!(client.get("k").is_some());
        assert!(!daemon.log().contains("secret"));
    }
    // What is good again is in force.
    fs::write(&users, "api:other\n").unwrap();
    end(&mut daemon, Signal::TERM);
    let daemon = Daemon::run(manager.command(&format!("--http off {args}")));
    let mut client = daemon.client();
    assert_eq!(client.ask("set auth 0 0 9\r\napi other"), "STORED");
}

/// Whether a set of signals in /proc/PID/status has SIGTERM.
fn has_term(status: &str, set: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix(set));
    let signals = line.map(|hex| u64::from_str_radix(hex.trim(), 16).unwrap());
    signals.is_some_and(|signals| signals & 1 << (Signal::TERM.as_raw() - 1) != 0)
}

#[test]
fn an_end_that_is_asked_for_during_a_start_is_one_in_order() {
    let manager = Manager::new();
    let mut daemon = manager.start("");
    daemon.client().must_set("k", b"value");
    manager.wait_for(&ALL);
    end(&mut daemon, Signal::TERM);
    for millis in 0..20 {
        let mut command = manager.command("-l 127.0.0.1:0 --http off");
        let mut process = command.stderr(Stdio::null()).spawn().unwrap();
        // Before its first step nothing can be held back.
        wait_until("it holds signals back, or hears them", || {
            let folder = format!("/proc/{}", process.id());
            let exe = fs::read_link(format!("{folder}/exe"));
            let status = fs::read_to_string(format!("{folder}/status")).unwrap();
            exe.is_ok_and(|exe| exe == Path::new(PROGRAM))
                && ["SigBlk:", "SigCgt:"]
                    .iter()
                    .any(|set| has_term(&status, set))
        });
        thread::sleep(Duration::from_millis(millis));
        rustix::process::kill_process(pid(process.id()), Signal::TERM).unwrap();
        assert!(process.wait().unwrap().success());
    }
    assert!(manager.start("").client().get("k").is_some());
}

#[test]
fn addresses_that_are_no_longer_wanted_are_closed() {
    let manager = Manager::new();
    let socket = manager.folder().text("socket");
    let mut daemon = manager.start(&format!("-l 127.0.0.2:0 -s {socket}"));
    let address = daemon.address();
    let other = daemon.log();
    let (_, other) = other.split_once("tcp:127.0.0.2:").unwrap();
    let port = other.split_whitespace().next().unwrap();
    let other = format!("127.0.0.2:{port}");
    manager.wait_for(&["config", "heap", "listen", "listen", "listen"]);
    kill(&mut daemon);
    let mut daemon = manager.start("");
    assert_eq!(daemon.address(), address);
    manager.wait_for(&ALL);
    daemon.wait_for_log(&format!("no longer served: {other}"));
    assert!(TcpStream::connect(&other).is_err());
    assert!(!fs::exists(&socket).unwrap());
}

#[test]
fn a_unix_socket_stays_in_its_place_with_the_mode_asked_for_now() {
    for signal in [Signal::TERM, Signal::KILL] {
        let manager = Manager::new();
        let socket = manager.folder().text("socket");
        let start = |flags: &str| {
            let args = format!("-s {socket} --http off {flags}");
            Daemon::run(manager.command(&args))
        };
        let mut daemon = start("-a 0700");
        Client::unix(&socket).must_set("k", b"value");
        manager.wait_for(&ALL);
        end(&mut daemon, signal);
        let mut waiting = Client::unix(&socket);
        waiting.send("get k\r\n");
        let mut daemon = start("-a 0770");
        assert_eq!(waiting.value("k").as_deref(), Some(&b"value"[..]));
        assert_eq!(mode(&manager.folder().path("socket")), 0o770);

        // Without its file nobody could reach it.
        end(&mut daemon, signal);
        fs::remove_file(&socket).unwrap();
        let _daemon = start("");
        assert!(Client::unix(&socket).get("k").is_some());
    }
}

#[test]
fn a_configuration_that_cannot_be_used_gives_way_to_the_last_good_one() {
    let manager = Manager::new();
    let file = manager.folder().text("config.toml");
    fs::write(&file, "memory_limit = 32\n").unwrap();
    let args = format!("--config {file}");
    let mut daemon = manager.start(&args);
    daemon.client().must_set("k", b"value");
    let address = daemon.address();
    for (text, line) in [
        ("memory_limt = 48\n", "tokencached: memory_limt"),
        ("max_item_size = \"40m\"\n", "tokencached: max_item_size"),
        // Found only when it is acted on.
        (
            "auth_file = \"/nowhere/at.all\"\n",
            "tokencached: auth_file",
        ),
        (
            "unix_socket = \"/nowhere/at.all\"\n",
            "tokencached: unix_socket",
        ),
    ] {
        manager.wait_for(&ALL);
        end(&mut daemon, Signal::TERM);
        fs::write(&file, text).unwrap();
        daemon = manager.start(&args);
        assert_eq!(daemon.address(), address, "{text}");
        assert!(daemon.client().get("k").is_some(), "{text}");
        assert_eq!(daemon.stat("limit_maxbytes"), 32 << 20, "{text}");
        let log = daemon.log();
        assert!(log.contains(line), "{log}");
        assert_eq!(
            log.matches("goes on with the last good configuration")
                .count(),
            1,
            "{log}"
        );
        assert_eq!(log.matches("tokencached: ").count(), 1, "{log}");
    }
    // The file is read again as ever.
    fs::write(&file, "memory_limit = 48\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("the memory limit is 48 MiB");
    // What was put in force is what works.
    manager.wait_for(&ALL);
    end(&mut daemon, Signal::TERM);
    fs::remove_file(&file).unwrap();
    let daemon = manager.start(&args);
    assert_eq!(daemon.stat("limit_maxbytes"), 48 << 20);
}

#[test]
fn without_a_last_good_configuration_nothing_starts() {
    let args = "-l 127.0.0.1:0 --http off -m lots";
    let good = r#"{"version":1,"args":["-m"],"folder":"/","files":{}}"#;
    let newer = r#"{"version":2,"shape":"unknown"}"#;
    for (config, said) in [
        (None, None),
        (Some(""), Some("cannot be read")),
        (Some("{"), Some("cannot be read")),
        (Some("{\"version\":1}"), Some("cannot be read")),
        (Some(newer), Some("has the form 2, this release reads 1")),
        (Some(good), Some("write -m and the value after it")),
    ] {
        let manager = Manager::new();
        if let Some(config) = config {
            manager.put("config", memory_file(config.as_bytes(), true));
        }
        let (status, text) = refused(manager.command(args));
        assert_eq!(status, Some(78), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("tokencached: memory_limit = \"lots\""),
            "{text}"
        );
        assert_eq!(lines.len(), 1 + usize::from(said.is_some()), "{text}");
        assert!(said.is_none_or(|said| lines[1].contains(said)), "{text}");
    }
}

#[test]
fn a_port_that_could_not_be_bound_is_gone_on_with() {
    // It stays with the manager, as one below 1024 does when the right to bind it is gone.
    let manager = Manager::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    manager.put("listen", taken);
    assert!(TcpListener::bind(address).is_err());
    let daemon = Daemon::run(manager.command(&format!("-l {address} --http off")));
    daemon.client().must_set("k", b"value");
}

#[test]
fn a_socket_units_sockets_are_not_stored() {
    let manager = Manager::new();
    manager.put(
        "tokencached.socket",
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let mut daemon = Daemon::run(manager.command("--http off"));
    daemon.client().must_set("k", b"value");
    manager.wait_for(&["config", "heap", "tokencached.socket"]);
    let address = daemon.address();
    end(&mut daemon, Signal::TERM);
    let daemon = Daemon::run(manager.command("--http off"));
    assert_eq!(daemon.address(), address);
    assert!(daemon.client().get("k").is_some());
}
