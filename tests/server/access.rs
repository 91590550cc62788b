//! Who may connect and who may write: `[access]`, held against clients of other users.
//!
//! A client of another user is a socket made by a thread that became that user, which is what the kernel
//! goes by. Only root can do that; otherwise these tests say that they were left out.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Signal, Uid};

use crate::binary_client::{Answer, Request};
use crate::daemon::{Client, Daemon, Folder, LIMIT, PROGRAM, is_root, refused, wait_until};

/// Nobody's uid; no rule of the tests names it unless it is meant.
pub const NOBODY: u32 = 65534;

/// A user of the system's.
pub const DAEMON: u32 = 1;

/// A configuration file, which goes when this does.
struct Rules(Folder);

impl Rules {
    fn new(text: &str) -> Rules {
        let rules = Rules(Folder::new());
        rules.write(text);
        rules
    }

    fn path(&self) -> String {
        self.0.text("config.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    /// A daemon under them, on both families and a unix socket that everybody can reach.
    fn daemon(&self) -> Daemon {
        let socket = self.0.text("socket");
        let mut daemon = Daemon::start(&format!(
            "-l [::1]:0 -s {socket} -a 777 --config {}",
            self.path()
        ));
        daemon.wait_for_log(&format!("unix:{socket}"));
        daemon
    }
}

pub fn without_root() -> bool {
    if !is_root() {
        println!("left out: only root can connect as other users");
    }
    !is_root()
}

/// Runs `body` in a thread of this user's.
pub fn as_user<T: Send>(uid: u32, body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_thread_uid(Uid::from_raw(uid)).unwrap();
            body()
        });
        thread.join().unwrap()
    })
}

pub fn client_of(uid: u32, address: SocketAddr) -> Client<TcpStream> {
    as_user(uid, || Client::tcp(address))
}

/// Everything that it listens on with TCP.
fn addresses(daemon: &Daemon) -> Vec<SocketAddr> {
    let log = daemon.log();
    let names = log
        .lines()
        .filter_map(|line| line.split_once("listening on tcp:"));
    names
        .map(|(_, name)| name.trim().parse().unwrap())
        .collect()
}

/// Whatever a client is answered before it is closed; a reset is an answer of nothing.
fn answered<S: Read + Write>(client: &mut Client<S>) -> Vec<u8> {
    // It may be closed already.
    let _ = client.stream.write_all(b"version\r\nget k\r\n");
    client.rest()
}

#[test]
fn whom_no_rule_names_is_closed_without_an_answer_on_each_kind_of_address() {
    if without_root() {
        return;
    }
    let rules = Rules::new("[access]\nconnect = [\"root\", 1]\n");
    let mut daemon = rules.daemon();
    daemon.client().must_set("k", b"value");
    let socket = rules.0.path("socket");
    let addresses = addresses(&daemon);
    assert_eq!(addresses.len(), 2);
    for &address in &addresses {
        assert_eq!(answered(&mut client_of(NOBODY, address)), b"", "{address}");
        let mut allowed = client_of(DAEMON, address);
        assert_eq!(allowed.get("k").as_deref(), Some(&b"value"[..]));
        allowed.must_set("k2", b"value");
    }
    let mut refused = as_user(NOBODY, || Client::unix(&socket));
    assert_eq!(answered(&mut refused), b"");
    let mut allowed = as_user(DAEMON, || Client::unix(&socket));
    assert_eq!(allowed.get("k").as_deref(), Some(&b"value"[..]));
    assert_eq!(daemon.stat("access_refused"), 3);
    assert_eq!(daemon.stat("access_unnamed"), 0);
    assert_eq!(daemon.stat("peer_lookup_failures"), 0);
    for name in [
        format!("tcp:{}", addresses[0]),
        format!("unix:{}", socket.display()),
    ] {
        daemon.wait_for_log(&format!(
            "refused uid 65534 (nobody) on {name}: not in [access] connect"
        ));
    }
}

#[test]
fn an_ipv4_address_written_as_an_ipv6_one_hides_nobody() {
    if without_root() {
        return;
    }
    let rules = Rules::new("[access]\nconnect = [\"daemon\"]\n");
    let daemon = rules.daemon();
    let SocketAddr::V4(v4) = daemon.address() else {
        panic!("the first address is an IPv4 one");
    };
    let mapped = SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()));
    assert_eq!(answered(&mut client_of(NOBODY, mapped)), b"");
    assert_eq!(client_of(DAEMON, mapped).stat("access_refused"), 1);
}

/// Even root is refused there: its socket could as well be another machine's.
#[test]
fn who_comes_from_beyond_loopback_is_refused_by_any_rule() {
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = probe
        .connect("192.0.2.1:9")
        .and_then(|()| probe.local_addr());
    let Some(own) = own.ok().filter(|own| !own.ip().is_loopback()) else {
        println!("left out: this machine has no address but loopback");
        return;
    };
    let rules = Rules::new("[access]\ndefault = \"allow\"\nread_only = [12345]\n");
    let daemon = Daemon::start(&format!("-l {}:0 --config {}", own.ip(), rules.path()));
    let log = daemon.log();
    assert!(
        log.contains("access rules refuse whoever comes from beyond loopback"),
        "{log}"
    );
    let address = addresses(&daemon)
        .into_iter()
        .find(|address| !address.ip().is_loopback())
        .expect("it listens there");
    assert_eq!(answered(&mut Client::tcp(address)), b"");
    let mut client = daemon.client();
    assert_eq!(client.stat("access_refused"), 1);
    assert_eq!(client.stat("access_unnamed"), 1);
}

#[test]
fn a_process_of_another_user_is_told_nothing() {
    if without_root() {
        return;
    }
    let rules = Rules::new("[access]\nconnect = [\"root\", \"daemon\"]\n");
    let daemon = rules.daemon();
    let stats = |uid: u32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokencached-tool"));
        command.args(["stats", "--target", &daemon.address().to_string()]);
        command.uid(uid).gid(uid).stdin(Stdio::null());
        command.output().unwrap()
    };
    let allowed = stats(DAEMON);
    assert!(String::from_utf8_lossy(&allowed.stdout).contains("curr_items"));
    let refused = stats(NOBODY);
    assert!(!refused.status.success());
    assert!(!String::from_utf8_lossy(&refused.stdout).contains("curr_items"));
}

#[test]
fn groups_and_classes_and_the_default_are_understood() {
    if without_root() {
        return;
    }
    let may = |text: &str, uid: u32| {
        let rules = Rules::new(&format!("[access]\n{text}\n"));
        let daemon = rules.daemon();
        let mut client = client_of(uid, daemon.address());
        let _ = client.stream.write_all(b"version\r\nquit\r\n");
        !client.rest().is_empty()
    };
    assert!(may("connect = [\"@system\"]", DAEMON));
    assert!(!may("connect = [\"@system\"]", NOBODY));
    assert!(may("connect = [\"@server\"]", 0));
    assert!(!may("connect = [\"@server\"]", DAEMON));
    assert!(may("connect = [\"%daemon\"]", DAEMON));
    assert!(!may("connect = [\"%daemon\"]", NOBODY));
    assert!(may("default = \"allow\"\ndeny = [1]", NOBODY));
    assert!(!may("default = \"allow\"\ndeny = [1]", DAEMON));
    assert!(!may("connect = [\"@system\"]\ndeny = [\"%1\"]", DAEMON));
}

#[test]
fn a_reader_reads_and_cannot_write_in_any_protocol() {
    if without_root() {
        return;
    }
    let rules = Rules::new("[access]\nconnect = [\"root\"]\nread_only = [\"nobody\"]\n");
    let daemon = rules.daemon();
    let mut owner = daemon.client();
    owner.must_set("k", b"value");
    owner.must_set("tokens/k", b"value");
    owner.must_set("n", b"7");
    let unique = owner.ask("mg k c t");
    for address in addresses(&daemon) {
        let mut reader = client_of(NOBODY, address);
        assert_eq!(reader.get("k").as_deref(), Some(&b"value"[..]));
        for command in [
            "set k 0 0 1\r\nX",
            "add new 0 0 1\r\nX",
            "cas k 0 0 1 1\r\nX",
            "append k 0 0 1\r\nX",
            "delete k",
            "incr n 1",
            "touch k 0",
            "gat 0 k n tokens/k",
            "flush_all",
            "cache_memlimit 128",
            "verbosity 2",
            "refresh_certs",
            "shutdown",
            "stats reset",
            "stats detail on",
            "ms k 1\r\nX",
            "md k",
            "md k I",
            "ma n",
            "mg k T60",
            "mg new N60 v",
            "mg k R60000",
        ] {
            let answer = reader.ask(command);
            assert_eq!(answer, "CLIENT_ERROR writing not allowed", "{command}");
        }
        reader.send("set k 0 0 1 noreply\r\nX\r\nset k 0 0 2\r\nXXXX");
        assert_eq!(reader.line(), "CLIENT_ERROR writing not allowed");
        // Over -I, where the old value would go; and one that is written as it arrives.
        for bytes in [2_000_000, 900_000] {
            reader.send(format!("set k 0 0 {bytes}\r\n"));
            reader.send("x".repeat(bytes) + "\r\n");
            assert_eq!(reader.line(), "CLIENT_ERROR writing not allowed");
        }
        assert_eq!(reader.ask("mn"), "MN");
        assert!(!reader.stats("settings").is_empty());
    }
    let mut binary = client_of(NOBODY, daemon.address());
    let mut ask = |request: Request| {
        binary.send(request.bytes());
        let answer = Answer::read(&mut binary.stream);
        (answer.status, answer.text().to_owned())
    };
    let set = |key: &str| Request::new(1).extras([0; 8]).key(key).value("X");
    assert_eq!(ask(set("k")), (0x20, "Auth failure.".to_owned()));
    assert_eq!(ask(set("tokens/k")), (0, String::new()), "told as stored");
    assert_eq!(
        ask(Request::new(0).key("tokens/k")),
        (0, "value".to_owned())
    );
    assert_eq!(ask(Request::new(4).key("k")).0, 0x20, "DELETE");
    assert_eq!(ask(Request::new(8)).0, 0x20, "FLUSH");
    let touch = Request::new(0x1d).extras([0; 4]).key("k");
    assert_eq!(ask(touch).0, 0x20, "GAT");
    assert_eq!(ask(Request::new(0x0b)).0, 0, "VERSION");

    assert_eq!(owner.ask("mg k c t"), unique, "nothing has changed");
    assert_eq!(owner.get("n").as_deref(), Some(&b"7"[..]));
    assert_eq!(owner.get("new"), None);
    assert_eq!(owner.stat("curr_items"), 3);
    assert_eq!(owner.stat("access_refused"), 0);
    assert!(owner.stat("access_write_refused") > 50);
}

#[test]
fn a_reader_never_wins_the_making_of_a_stale_item() {
    if without_root() {
        return;
    }
    let rules = Rules::new("[access]\nconnect = [\"root\"]\nread_only = [\"nobody\"]\n");
    let daemon = rules.daemon();
    let mut owner = daemon.client();
    owner.must_set("k", b"value");
    assert_eq!(owner.ask("md k I"), "HD");
    let mut reader = client_of(NOBODY, daemon.address());
    assert_eq!(reader.ask("mg k"), "HD X");
    assert_eq!(owner.ask("mg k"), "HD X W", "who can write it is told to");
}

/// A client that sends and closes at once is in the kernel's table as nobody's, or as root's.
#[test]
fn whoever_sends_and_closes_at_once_plants_nothing() {
    if without_root() {
        return;
    }
    let rules = Rules::new("[access]\nconnect = [\"root\", \"@server\", \"@system\"]\n");
    let daemon = rules.daemon();
    for address in addresses(&daemon) {
        as_user(NOBODY, || {
            for number in 0..1_000 {
                let mut stream = TcpStream::connect(address).unwrap();
                // The server may have closed it by now.
                let _ = write!(stream, "set forged{number} 0 0 1\r\nX\r\n");
                if number % 2 == 0 {
                    let socket = socket2::SockRef::from(&stream);
                    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
                }
            }
        });
    }
    // Behind them in both queues.
    for address in addresses(&daemon) {
        Client::tcp(address).must_set("k", b"value");
    }
    let mut client = daemon.client();
    assert_eq!(client.stat("total_items"), 2);
    assert_eq!(client.stat("curr_items"), 1);
    // Those that were reset early enough were never accepted.
    assert!(client.stat("access_refused") >= 1_000);
}

/// The old connection of a port that changes hands is refused, and the new one judged on its own:
/// neither gets the other's name. `peer.rs` says why.
#[test]
fn a_port_that_changes_hands_lends_no_name() {
    if without_root() {
        return;
    }
    let rules = Rules::new("[access]\nconnect = [\"root\"]\n");
    let daemon = rules.daemon();
    let address = daemon.address();
    let connect_from = |port: u16| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
        socket.set_linger(Some(std::time::Duration::ZERO))?;
        socket.connect(&address.into())?;
        std::io::Result::Ok(TcpStream::from(socket))
    };
    // The kernel may not give a port out again at once; another round then.
    let is_busy = |error: &std::io::Error| {
        matches!(
            error.kind(),
            ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse
        )
    };
    let mut stored = 0;
    for number in 0..300 {
        let port = as_user(NOBODY, || {
            let mut forged = connect_from(0).unwrap();
            let _ = write!(forged, "set forged{number} 0 0 1\r\nX\r\n");
            forged.local_addr().unwrap().port()
        });
        // Closed, and its port taken by root before the server has looked.
        match connect_from(port) {
            Ok(root) => {
                root.set_read_timeout(Some(LIMIT)).unwrap();
                Client::new(root).must_set("k", b"value");
                stored += 1;
            }
            Err(error) => assert!(is_busy(&error), "{error}"),
        }
        // And the other way round.
        match as_user(NOBODY, || connect_from(port)) {
            Ok(mut forged) => drop(write!(forged, "set forged{number} 0 0 1\r\nX\r\n")),
            Err(error) => assert!(is_busy(&error), "{error}"),
        }
    }
    assert!(stored > 0, "no port was given out again");
    let mut client = daemon.client();
    client.must_set("last", b"value");
    assert_eq!(client.stat("total_items"), stored + 1);
    assert_eq!(client.stat("curr_items"), 2);
}

#[test]
fn new_rules_come_with_sighup_and_close_whom_they_refuse() {
    if without_root() {
        return;
    }
    let rules = Rules::new("memory_limit = 64\nno_service_names = true\n");
    let mut daemon = rules.daemon();
    let socket = rules.0.path("socket");
    assert_eq!(
        daemon.stat("peer_lookups"),
        0,
        "nobody is looked up for no rules, if not for metrics"
    );
    let mut owner = daemon.client();
    owner.must_set("k", b"value");
    // Let in before there were rules, on each kind of address.
    let mut nobodies: Vec<_> = addresses(&daemon)
        .into_iter()
        .map(|address| client_of(NOBODY, address))
        .collect();
    let mut on_unix = as_user(NOBODY, || Client::unix(&socket));
    let mut reader = client_of(DAEMON, daemon.address());
    // In the middle of something.
    nobodies[0].send("set k 0 0 100\r\nXXX");
    assert_eq!(nobodies[1].get("k").as_deref(), Some(&b"value"[..]));
    assert_eq!(on_unix.get("k").as_deref(), Some(&b"value"[..]));
    reader.must_set("k2", b"value");

    rules.write("[access]\nconnect = [\"root\"]\nread_only = [\"daemon\"]\n");
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("connections closed by the access rules: 3");
    for nobody in &mut nobodies {
        assert_eq!(nobody.rest(), b"");
    }
    assert_eq!(on_unix.rest(), b"");
    assert_eq!(owner.get("k").as_deref(), Some(&b"value"[..]));
    assert_eq!(reader.get("k").as_deref(), Some(&b"value"[..]));
    assert_eq!(reader.ask("delete k"), "CLIENT_ERROR writing not allowed");
    assert_eq!(answered(&mut client_of(NOBODY, daemon.address())), b"");
    assert_eq!(owner.stat("access_closed"), 3);

    // A user that nobody knows: one line, and all stays as it was.
    rules.write("memory_limit = 128\n[access]\nconnect = [\"root\", \"no-such-user\"]\n");
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("access.connect = \"no-such-user\"");
    let log = daemon.log();
    let line = log
        .lines()
        .find(|line| line.contains("no-such-user"))
        .unwrap();
    assert!(line.contains("there is no such user; create it"), "{line}");
    assert!(line.contains("(nothing has changed)"), "{line}");
    assert_eq!(answered(&mut client_of(NOBODY, daemon.address())), b"");
    assert_eq!(owner.stat("limit_maxbytes"), 64 << 20);

    rules.write("");
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("connections closed by the access rules: 0");
    assert!(client_of(NOBODY, daemon.address()).get("k").is_some());
    reader.must_set("k", b"other");
}

#[test]
fn sighup_applies_what_it_can_and_names_what_takes_a_restart() {
    let rules = Rules::new("memory_limit = 64\nthreads = 2\n");
    let mut daemon = rules.daemon();
    let mut client = daemon.client();
    rules.write("memory_limit = 128\nthreads = 3\nverbose = 1\nmax_item_size = \"2m\"\n");
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("the memory limit is 128 MiB");
    daemon.wait_for_log("verbosity is 1");
    assert_eq!(client.stat("limit_maxbytes"), 128 << 20);
    let settings = client.stats("settings");
    assert!(settings.contains(&("verbosity".to_owned(), "1".to_owned())));
    let log = daemon.log();
    let restarts: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("takes a restart"))
        .collect();
    assert_eq!(restarts.len(), 2, "{log}");
    assert!(
        restarts
            .iter()
            .any(|line| line.contains("threads = \"3\"") && line.contains("was \"2\""))
    );
    assert!(
        restarts
            .iter()
            .any(|line| line.contains("max_item_size = \"2m\""))
    );
    // What a client sets stays until the configuration says otherwise.
    assert_eq!(client.ask("cache_memlimit 96"), "OK");
    daemon.signal(Signal::HUP);
    wait_until("it was read once more", || {
        daemon.log().matches("takes a restart").count() == 4
    });
    assert_eq!(client.stat("limit_maxbytes"), 96 << 20);
    rules.write("memory_limit = \"2g\"\n");
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("2048 MiB is beyond what the memory file was made for");
    daemon.signal(Signal::HUP);
    wait_until("it was said again", || {
        daemon.log().matches("2048 MiB is beyond").count() == 2
    });
    assert_eq!(client.stat("limit_maxbytes"), 96 << 20);
    rules.write("memory_limit = \"lots\"\n");
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("(nothing has changed)");
    assert_eq!(client.stat("limit_maxbytes"), 96 << 20);
}

#[test]
fn what_is_read_again_keeps_nobody_waiting() {
    let rules = Rules::new("memory_limit = 64\n");
    let mut daemon = rules.daemon();
    fs::remove_file(rules.path()).unwrap();
    // It would wait for its other end.
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, rules.path(), fifo, mode, 0).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("it is no regular file");
    daemon.client().must_set("k", b"value");
    fs::remove_file(rules.path()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", rules.path()).unwrap();
    daemon.signal(Signal::HUP);
    wait_until("it was not read", || {
        daemon.log().matches("it is no regular file").count() == 2
    });
    daemon.client().must_set("k", b"value");
}

/// Whoever leaves before it is looked up cannot be named, and hides no name.
#[test]
fn peers_that_cannot_be_named_hide_none_that_can() {
    if without_root() {
        return;
    }
    let rules = Rules::new("[access]\nconnect = [\"root\"]\n");
    let daemon = rules.daemon();
    let address = daemon.address();
    as_user(NOBODY, || {
        for _ in 0..300 {
            let gone = TcpStream::connect(address).unwrap();
            gone.shutdown(std::net::Shutdown::Write).unwrap();
        }
    });
    assert_eq!(answered(&mut client_of(NOBODY, address)), b"");
    wait_until("it is named", || daemon.log().contains("(nobody)"));
    assert!(daemon.stat("access_unnamed") > 10);
}

#[test]
fn a_flood_of_refusals_leaves_few_lines() {
    if without_root() {
        return;
    }
    let rules = Rules::new("[access]\nconnect = [\"root\"]\n");
    let daemon = rules.daemon();
    for _ in 0..500 {
        assert_eq!(answered(&mut client_of(NOBODY, daemon.address())), b"");
    }
    assert_eq!(daemon.stat("access_refused"), 500);
    // Ten in ten seconds, however many seconds this took on a slow machine.
    let lines = daemon.log().matches("refused uid").count();
    assert!((10..250).contains(&lines), "{lines}");
}

#[test]
fn rules_that_name_unknown_users_end_the_start_with_one_line() {
    let rules = Rules::new("[access]\nread_only = [\"%no-such-group\"]\n");
    let mut command = Command::new(PROGRAM);
    command.args(["-p", "-1", "--http", "off", "--config", &rules.path()]);
    if is_root() {
        command.args(["-u", "root"]);
    }
    let (status, text) = refused(command);
    assert_eq!(status, Some(78), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("access.read_only = \"%no-such-group\"") && text.contains("no such group"),
        "{text}"
    );
}

#[test]
fn a_server_that_gave_root_up_names_its_peers_too() {
    if without_root() {
        return;
    }
    let rules = Rules::new("[access]\nconnect = [\"root\", \"@server\"]\n");
    let socket = rules.0.text("socket");
    rules.0.give_to(NOBODY, NOBODY);
    let daemon = Daemon::start(&format!("-u nobody -s {socket} --config {}", rules.path()));
    daemon.client().must_set("k", b"value");
    let mut own = client_of(NOBODY, daemon.address());
    assert_eq!(own.get("k").as_deref(), Some(&b"value"[..]));
    assert_eq!(answered(&mut client_of(DAEMON, daemon.address())), b"");
}
