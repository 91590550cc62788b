//! Where it listens: TCP on both families, several addresses, a unix socket, or both.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::daemon::{Client, Daemon, Folder, PROGRAM, is_root, mode, refused};

/// Everything that its log says it listens on.
fn listening(daemon: &Daemon) -> Vec<String> {
    let log = daemon.log();
    let names = log
        .lines()
        .filter_map(|line| line.split_once("listening on "));
    names.map(|(_, name)| name.to_owned()).collect()
}

/// Starts one that has to fail; gives the one line that it says.
fn refusal(args: &str) -> String {
    let mut command = Command::new(PROGRAM);
    command.args(args.split_whitespace());
    if is_root() {
        command.args(["-u", "root"]);
    }
    let (status, text) = refused(command);
    // What somebody else has may be free at another start.
    let words = ["Address already in use", "address in use"];
    let is_taken = words.iter().any(|words| text.contains(words));
    let expected = if is_taken { 71 } else { 78 };
    assert_eq!(status, Some(expected), "{text}");
    // Notes of the log may stand before it.
    let said: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("tokencached: "))
        .collect();
    assert_eq!(said.len(), 1, "{text}");
    assert_eq!(text.lines().last(), said.first().copied(), "{text}");
    said[0].to_owned()
}

#[test]
fn several_addresses_of_both_families_serve_the_same_items() {
    let mut daemon = Daemon::start("-l 127.0.0.2:0 -l [::1]:0");
    daemon.wait_for_log("tcp:[::1]");
    let names = listening(&daemon);
    assert_eq!(names.len(), 3, "{names:?}");
    daemon.client().must_set("k", b"value");
    for name in names {
        let address = name.strip_prefix("tcp:").unwrap().parse().unwrap();
        let mut client = Client::tcp(address);
        assert_eq!(client.get("k").as_deref(), Some(&b"value"[..]));
    }
}

#[test]
fn a_unix_socket_has_the_mode_asked_for() {
    for (flag, bits) in [
        ("", 0o700),
        ("-a 0770", 0o770),
        ("-a 777", 0o777),
        ("-a 0", 0),
    ] {
        let folder = Folder::new();
        let path = folder.text("socket");
        let daemon = Daemon::with(&format!("-s {path} {flag} --http off"));
        assert_eq!(mode(&folder.path("socket")), bits, "{flag}");
        assert_eq!(listening(&daemon), [format!("unix:{path}")]);
        if is_root() || bits != 0 {
            Client::unix(&path).must_set("k", b"value");
        }
    }
}

#[test]
fn a_unix_socket_with_addresses_serves_both() {
    let folder = Folder::new();
    let daemon = Daemon::start(&format!("-s {}", folder.text("socket")));
    daemon.client().must_set("k", b"value");
    let mut client = Client::unix(folder.path("socket"));
    assert_eq!(client.get("k").as_deref(), Some(&b"value"[..]));
}

#[test]
fn a_dead_socket_file_is_replaced() {
    let folder = Folder::new();
    let path = folder.text("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    let _daemon = Daemon::with(&format!("-s {path} --http off"));
    Client::unix(&path).must_set("k", b"value");
}

#[test]
fn a_socket_on_which_another_server_listens_is_left_alone() {
    let folder = Folder::new();
    let path = folder.text("socket");
    let pid_file = folder.text("pid");
    let args = format!("-s {path} -P {pid_file} --http off");
    let daemon = Daemon::with(&args);
    let line = refusal(&args);
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(pid, format!("{}\n", daemon.pid()));
    assert!(
        line.contains(&format!("unix_socket = \"{path}\" (command line -s)")),
        "{line}"
    );
    assert!(
        line.contains("stop the server that listens there"),
        "{line}"
    );
    Client::unix(&path).must_set("k", b"value");
    drop(daemon);
}

#[test]
fn a_path_that_is_no_socket_is_left_alone() {
    let folder = Folder::new();
    let path = folder.text("file");
    fs::write(&path, "content").unwrap();
    std::os::unix::fs::symlink(folder.path("file"), folder.path("link")).unwrap();
    std::os::unix::fs::symlink(folder.path("nothing"), folder.path("dangling")).unwrap();
    for name in ["file", "link", "dangling"] {
        let line = refusal(&format!("-s {} --http off", folder.text(name)));
        assert!(line.contains("no socket"), "{line}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "content");
    assert_eq!(folder.names().len(), 3);
}

#[test]
fn an_address_that_is_taken_is_named_and_nothing_is_left() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_by = taken.local_addr().unwrap();
    let folder = Folder::new();
    let line = refusal(&format!(
        "-l 127.0.0.1:0,{taken_by} -s {} -P {} --http off",
        folder.text("socket"),
        folder.text("pid")
    ));
    assert!(
        line.contains("listen = ") && line.contains("(command line -l)"),
        "{line}"
    );
    assert!(
        line.contains(&format!("{taken_by} cannot be listened on")),
        "{line}"
    );
    assert!(line.contains("choose another with -p or -l"), "{line}");
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn a_port_from_a_file_is_blamed_on_the_file() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = Folder::new();
    let conf = folder.text("memcached.conf");
    fs::write(&conf, format!("-m 64\n-l 127.0.0.1\n-p {port}\n")).unwrap();
    let line = refusal(&format!("--memcached-conf {conf} --http off"));
    assert!(line.contains(&format!("{conf} line 2")), "{line}");
    assert!(line.contains(&format!("127.0.0.1:{port}")), "{line}");
}

#[test]
fn whatever_fails_late_leaves_no_file_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = taken.local_addr().unwrap();
    let folder = Folder::new();
    let (socket, pid) = (folder.text("socket"), folder.text("pid"));
    let line = refusal(&format!("-s {socket} -P {pid} --http {http}"));
    assert!(
        line.contains("http = ") && line.contains("(command line --http)"),
        "{line}"
    );
    assert_eq!(folder.names(), [""; 0]);

    fs::write(folder.path("file"), "").unwrap();
    let file = folder.text("file");
    refusal(&format!("-s {file} -P {pid} --http off"));
    assert_eq!(folder.names(), ["file"], "the pid file is removed again");

    let line = refusal(&format!(
        "-s {socket} -P {}/pid --http off",
        folder.text("none")
    ));
    assert!(
        line.contains("pidfile = ") && line.contains("(command line -P)"),
        "{line}"
    );
    assert_eq!(folder.names(), ["file"]);
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let folder = Folder::new();
    let path = folder.text(&"x".repeat(120));
    let line = refusal(&format!("-s {path} -P {} --http off", folder.text("pid")));
    assert!(line.contains("unix_socket"), "{line}");
    assert_eq!(folder.names(), [""; 0]);
}
