//! What is wrong with the configuration is said in one line at start; going into the background.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::daemon::{Client, Daemon, Folder, PROGRAM, is_root, pid, refused, wait_until};

fn refusal(args: &[&str]) -> String {
    let mut command = Command::new(PROGRAM);
    command.args(args);
    let (status, text) = refused(command);
    assert_eq!(status, Some(78), "{args:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    text
}

#[test]
fn the_port_file_names_the_port_of_each_address() {
    let folder = Folder::new();
    let path = folder.path("ports");
    let mut command = Command::new(PROGRAM);
    command.args(["-l", "127.0.0.1,[::1]:0", "-p", "-1", "--http", "off"]);
    if is_root() {
        command.args(["-u", "root"]);
    }
    command.env("MEMCACHED_PORT_FILENAME", &path);
    let daemon = Daemon::run(command);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0], format!("TCP INET: {}", daemon.address().port()));
    assert!(lines[1].starts_with("TCP INET6: "), "{text}");
    assert_eq!(folder.names(), ["ports"], "nothing is left beside it");
}

#[test]
fn a_port_file_that_cannot_be_written_is_no_reason_not_to_serve() {
    let mut command = Command::new(PROGRAM);
    command.args(["-l", "127.0.0.1:0", "--http", "off"]);
    if is_root() {
        command.args(["-u", "root"]);
    }
    command.env("MEMCACHED_PORT_FILENAME", "/nowhere/at.all");
    let daemon = Daemon::run(command);
    assert!(daemon.log().contains("MEMCACHED_PORT_FILENAME"));
    assert_eq!(daemon.client().ask("version"), "VERSION 1.6.45");
}

#[test]
fn a_wrong_setting_is_named_with_its_value_its_source_and_what_would_do() {
    let folder = Folder::new();
    let (conf, toml) = (folder.text("memcached.conf"), folder.text("config.toml"));
    fs::write(&conf, "-m 64\n# comment\n-c many\n").unwrap();
    fs::write(&toml, "memory_limt = 64\n").unwrap();
    let conf_line = format!("{conf} line 3");
    for (args, parts) in [
        (
            &["-m", "lots"][..],
            &["memory_limit = \"lots\" (command line -m)", "give a number"][..],
        ),
        (&["-m", "4"], &["memory_limit = \"4m\"", "give at least 8m"]),
        (
            &["-m", "9999999"],
            &["memory_limit", "allows", "give at most"],
        ),
        (
            &["-I", "40m"],
            &[
                "max_item_size = \"40m\"",
                "at most half of memory_limit, here 32m",
            ],
        ),
        (&["-t", "0"], &["threads = \"0\"", "too small"]),
        (&["--memory-limt", "64"], &["did you mean --memory-limit?"]),
        (
            &["--memcached-conf", &conf],
            &["conn_limit = \"many\"", &conf_line],
        ),
        (
            &["--config", &toml],
            &["memory_limt", "memory_limit", "config.toml"],
        ),
        (
            &["--config", "/nowhere/at.all"],
            &[
                "config = \"/nowhere/at.all\" (command line --config)",
                "cannot be read",
                "name a readable file",
            ],
        ),
        (&["--config", "/"], &["config = \"/\"", "cannot be read"]),
        (&["-l", "0.0.0.0"], &["listen", "0.0.0.0", "--allow-remote"]),
        (
            &["-l", "no.such.name.invalid"],
            &["listen", "no.such.name.invalid"],
        ),
        (&["-l", "127.0.0.1:port"], &["\"port\" is not a port"]),
        (&["-p", "0"], &["turns TCP off"]),
    ] {
        let line = refusal(args);
        assert!(line.starts_with("tokencached: "), "{line}");
        for part in parts {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
    }
}

#[test]
fn an_unknown_user_is_refused_before_anything_is_begun() {
    if !is_root() {
        println!("left out: only root can become another user");
        return;
    }
    let folder = Folder::new();
    let (socket, pid) = (folder.text("socket"), folder.text("pid"));
    let line = refusal(&[
        "-u",
        "nosuchuser",
        "-s",
        &socket,
        "-P",
        &pid,
        "--http",
        "off",
    ]);
    assert!(
        line.contains("user = \"nosuchuser\" (command line -u)"),
        "{line}"
    );
    assert!(line.contains("create it, or name another one"), "{line}");
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn an_unreadable_file_is_refused() {
    let folder = Folder::new();
    let path = folder.text("latin1.toml");
    fs::write(&path, b"memory_limit = 64 # m\xe9moire\n").unwrap();
    assert!(refusal(&["--config", &path]).contains("not UTF-8"));
    let path = folder.text("binary.conf");
    fs::write(&path, b"-m \xff\xfe\x00\n").unwrap();
    assert!(refusal(&["--memcached-conf", &path]).contains("binary.conf"));
}

#[test]
fn a_daemon_in_the_background_is_known_by_its_pid_file() {
    let folder = Folder::new();
    let (socket, pid_file) = (folder.text("socket"), folder.text("pid"));
    let mut command = Command::new(PROGRAM);
    // Names as the foreground understands them, which works in another folder later.
    command.current_dir(folder.path(""));
    command.args(["-d", "-s", "socket", "-P", "pid", "--http", "off"]);
    if is_root() {
        command.args(["-u", "root"]);
    }
    assert!(command.status().unwrap().success());
    let mut number = String::new();
    wait_until("a pid file", || {
        number = fs::read_to_string(&pid_file).unwrap_or_default();
        number.ends_with('\n')
    });
    let number = number.trim().parse().unwrap();
    wait_until("a socket", || {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    });
    let mut client = Client::unix(&socket);
    client.must_set("k", b"value");
    assert_eq!(client.stat("pid"), u64::from(number));
    rustix::process::kill_process(pid(number), Signal::TERM).unwrap();
    wait_until("its end", || folder.names().is_empty());
}

#[test]
fn a_daemon_that_cannot_start_says_so_before_it_leaves_the_foreground() {
    let folder = Folder::new();
    let (file, pid) = (folder.text("file"), folder.text("pid"));
    fs::write(&file, "").unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["-d", "-s", &file, "-P", &pid, "--http", "off"]);
    if is_root() {
        command.args(["-u", "root"]);
    }
    let (status, text) = refused(command);
    assert_eq!(status, Some(78), "{text}");
    assert!(text.contains("unix_socket"), "{text}");
    wait_until("no pid file", || folder.names() == ["file"]);
}
