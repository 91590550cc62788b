//! Root is dropped, memory is locked, and no core dump could ever hold a token.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::User;

use crate::daemon::{Client, Daemon, Folder, MIB, PROGRAM, is_root, refused};

fn nobody() -> User {
    User::from_name("nobody")
        .unwrap()
        .expect("there is a nobody")
}

/// Whether root may lift limits here (CAP_SYS_RESOURCE); in containers it often may not.
fn lifts_limits() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap() & (1 << 24) != 0
}

/// Soft and hard limit of core dumps, as `/proc/PID/limits` has them.
fn core_limits(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = line.unwrap().split_whitespace().skip(4).take(2).collect();
    words.join(" ")
}

#[test]
fn root_becomes_the_user_of_u_with_its_groups_only() {
    if !is_root() {
        println!("left out: only root can become another user");
        return;
    }
    let user = nobody();
    for name in ["nobody".to_owned(), user.uid.to_string()] {
        let folder = Folder::new();
        folder.give_to(user.uid.as_raw(), user.gid.as_raw());
        let socket = folder.path("socket");
        let lock = if lifts_limits() { "-k" } else { "" };
        let mut daemon = Daemon::start(&format!("-u {name} {lock} -s {}", socket.display()));
        let four = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
        assert_eq!(daemon.status("Uid"), four(user.uid.as_raw()));
        assert_eq!(daemon.status("Gid"), four(user.gid.as_raw()));
        assert_eq!(daemon.status("Groups"), user.gid.to_string());
        assert_eq!(daemon.status("CapEff"), "0000000000000000");
        assert_eq!(daemon.memory("VmLck") > 0, lifts_limits());
        let owner = fs::metadata(&socket).unwrap();
        assert_eq!(
            (owner.uid(), owner.gid()),
            (user.uid.as_raw(), user.gid.as_raw())
        );
        assert_eq!(core_limits(daemon.pid()), "0 0");
        // The files in /proc of a process that is not dumpable belong to root.
        let process = fs::metadata(format!("/proc/{}/environ", daemon.pid())).unwrap();
        assert_eq!(process.uid(), 0, "it is dumpable");
        Client::unix(&socket).must_set("k", b"value");
        daemon.stop();
        assert_eq!(folder.names(), [""; 0]);
    }
}

#[test]
fn core_dumps_are_off_whoever_runs_it() {
    let daemon = Daemon::start("-r");
    assert_eq!(core_limits(daemon.pid()), "0 0");
}

#[test]
fn locked_memory_takes_no_more_than_is_used() {
    let mut command = Command::new(PROGRAM);
    command.args(["-l", "127.0.0.1:0", "--http", "off", "-k", "-m", "64"]);
    if is_root() {
        command.args(["-u", "root"]);
    } else {
        println!("left out: only root can lock much memory");
        return;
    }
    let daemon = Daemon::run(command);
    assert!(daemon.memory("VmLck") > 64 * MIB);
    assert!(
        daemon.memory("VmRSS") < 32 * MIB,
        "an empty cache takes no memory"
    );
    let mut client = daemon.client();
    for number in 0..1_000 {
        client.must_set(&format!("k{number}"), &vec![b'x'; 10_000]);
    }
    assert!(daemon.memory("VmRSS") < 48 * MIB);
}

#[test]
fn memory_that_cannot_be_locked_fails_the_start_and_leaves_nothing() {
    let folder = Folder::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -l 64 && exec \"$0\" \"$@\"", PROGRAM]);
    command.args([
        "-k",
        "--http",
        "off",
        "-s",
        &folder.text("socket"),
        "-P",
        &folder.text("pid"),
    ]);
    if is_root() {
        // Root would lift the limit.
        let user = nobody();
        folder.give_to(user.uid.as_raw(), user.gid.as_raw());
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let (status, text) = refused(command);
    assert_eq!(status, Some(78), "{text}");
    let line = text.lines().last().unwrap();
    assert!(
        line.contains("lock_memory = \"true\" (command line -k)"),
        "{line}"
    );
    assert!(line.contains("LimitMEMLOCK=infinity"), "{line}");
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn a_limit_of_open_files_below_c_is_warned_of() {
    if !is_root() {
        println!("left out: it needs another user than the one of the tests");
        return;
    }
    let user = nobody();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\"", PROGRAM]);
    command.args(["-l", "127.0.0.1:0", "--http", "off", "-c", "1000"]);
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    let daemon = Daemon::run(command);
    let log = daemon.log();
    let warning = log.lines().find(|line| line.contains("files may be open"));
    assert!(
        warning.is_some_and(|line| line.contains("WARN") && line.contains("-c 1000")),
        "{log}"
    );
    daemon.client().must_set("k", b"value");
}
