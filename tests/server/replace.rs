//! SIGUSR2: the program is executed anew in the same process, with all items and addresses.

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::daemon::{Client, Daemon, Folder, LIMIT, PROGRAM, is_root, wait_until};

/// Waits until a restart on SIGUSR2 is done; what the log says of it before does not count.
pub fn replace(daemon: &mut Daemon) {
    let before = daemon.log().matches("listening on ").count();
    let pid = daemon.pid();
    daemon.signal(Signal::USR2);
    wait_until("it listens again", || {
        daemon.log().matches("listening on ").count() > before
    });
    assert_eq!(daemon.pid(), pid);
}

#[test]
fn sigusr2_executes_the_program_anew_with_all_items() {
    let folder = Folder::new();
    let (socket, pid_file) = (folder.text("socket"), folder.text("pid"));
    let mut daemon = Daemon::start(&format!("-s {socket} -P {pid_file} -t 2"));
    let address = daemon.address();
    daemon.client().must_set("k", b"value");
    for _ in 0..3 {
        replace(&mut daemon);
        assert_eq!(daemon.stat("pid"), u64::from(daemon.pid()));
        assert_eq!(
            Client::tcp(address).get("k").as_deref(),
            Some(&b"value"[..])
        );
        assert!(Client::unix(&socket).get("k").is_some());
        let number = fs::read_to_string(&pid_file).unwrap();
        assert_eq!(number.trim(), daemon.pid().to_string());
    }
    let descriptors = |daemon: &Daemon| {
        let entries = fs::read_dir(format!("/proc/{}/fd", daemon.pid()));
        entries.unwrap().count()
    };
    let before = descriptors(&daemon);
    for _ in 0..5 {
        replace(&mut daemon);
    }
    assert!(Client::tcp(address).get("k").is_some());
    // But for connections that come and go.
    assert!(descriptors(&daemon) <= before + 3, "none is left over");
    daemon.stop();
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn a_pid_file_that_cannot_be_written_any_more_ends_no_successor() {
    let folder = Folder::new();
    let pid_file = folder.text("pid");
    let mut daemon = Daemon::start(&format!("-P {pid_file}"));
    daemon.client().must_set("k", b"value");
    fs::remove_file(&pid_file).unwrap();
    fs::create_dir(&pid_file).unwrap();
    replace(&mut daemon);
    daemon.wait_for_log("pid cannot be written: ");
    assert!(daemon.client().get("k").is_some());
}

#[test]
fn an_end_that_is_asked_for_during_a_restart_comes() {
    for millis in (0..30).step_by(2) {
        let mut daemon = Daemon::start("-t 1");
        let clients: Vec<_> = (0..50).map(|_| daemon.client()).collect();
        daemon.signal(Signal::USR2);
        thread::sleep(Duration::from_millis(millis));
        daemon.signal(Signal::TERM);
        assert!(daemon.wait().success());
        drop(clients);
    }
}

#[test]
fn clients_that_come_during_a_restart_wait() {
    let mut daemon = Daemon::start("-t 1");
    let address = daemon.address();
    daemon.client().must_set("k", b"value");
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let connecting = std::thread::spawn(move || {
        let mut served = 0;
        while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            // A request that meets the end of the old process may find its connection closed: it is tried again.
            let stream = TcpStream::connect(address).expect("nobody is refused");
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            served += u32::from(answers(stream));
        }
        served
    });
    for _ in 0..10 {
        replace(&mut daemon);
    }
    drop(end);
    assert!(connecting.join().unwrap() > 0);
}

fn answers(mut stream: TcpStream) -> bool {
    use std::io::{Read, Write};
    let mut answer = [0; 5];
    stream.write_all(b"get k\r\n").is_ok() && stream.read_exact(&mut answer).is_ok()
}

#[test]
fn a_restart_that_cannot_work_is_one_line_and_the_old_process_goes_on() {
    let folder = Folder::new();
    let (file, users) = (folder.text("config.toml"), folder.text("users"));
    fs::write(&file, "memory_limit = 32\n").unwrap();
    let write_users = || {
        fs::write(&users, "user:password\n").unwrap();
        fs::set_permissions(&users, Permissions::from_mode(0o600)).unwrap();
    };
    write_users();
    let mut daemon = Daemon::start(&format!("--config {file} -Y {users}"));
    fs::write(&file, "memory_limt = 32\n").unwrap();
    daemon.signal(Signal::USR2);
    daemon.wait_for_log("not restarted: memory_limt");
    fs::write(&file, "memory_limit = 32\n").unwrap();
    fs::remove_file(&users).unwrap();
    daemon.signal(Signal::USR2);
    daemon.wait_for_log("not restarted: auth_file");
    assert_eq!(daemon.log().matches("not restarted").count(), 2);
    assert_eq!(daemon.log().matches("listening on ").count(), 1);
    write_users();
    replace(&mut daemon);
}

#[test]
fn a_program_that_was_replaced_by_a_broken_one_is_not_executed() {
    let folder = Folder::new();
    let program = folder.text("tokencached");
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["-l", "127.0.0.1:0", "--http", "off"]);
    if is_root() {
        command.args(["-u", "root"]);
    }
    let mut daemon = Daemon::run(command);
    daemon.client().must_set("k", b"value");
    let broken = folder.text("broken");
    // Nor does one that leaves somebody behind who could still say something.
    let left_behind = "#!/bin/sh\nsleep 20 &\necho nonsense >&2\nexit 1\n";
    fs::write(&broken, left_behind).unwrap();
    fs::set_permissions(&broken, fs::metadata(&program).unwrap().permissions()).unwrap();
    fs::rename(&broken, &program).unwrap();
    daemon.signal(Signal::USR2);
    daemon.wait_for_log("says: nonsense (this process goes on)");
    // Nor does one that is another altogether.
    fs::copy("/bin/true", &broken).unwrap();
    fs::rename(&broken, &program).unwrap();
    daemon.signal(Signal::USR2);
    daemon.wait_for_log("is no tokencached");
    fs::write(&broken, "no program").unwrap();
    fs::set_permissions(&broken, fs::metadata(&program).unwrap().permissions()).unwrap();
    fs::rename(&broken, &program).unwrap();
    daemon.signal(Signal::USR2);
    wait_until("it is refused", || {
        daemon.log().matches("not restarted: ").count() == 3
    });
    assert!(daemon.client().get("k").is_some());
    // As a package puts a new one in its place.
    fs::copy(PROGRAM, &broken).unwrap();
    fs::rename(&broken, &program).unwrap();
    replace(&mut daemon);
    assert!(daemon.client().get("k").is_some());
    let running = fs::read_link(format!("/proc/{}/exe", daemon.pid())).unwrap();
    assert_eq!(running, folder.path("tokencached"));
}

#[test]
fn a_restart_in_the_background_stays_there() {
    let folder = Folder::new();
    let (socket, pid_file) = (folder.text("socket"), folder.text("pid"));
    let mut command = Command::new(PROGRAM);
    command.current_dir(folder.path(""));
    command.args(["-d", "-s", "socket", "-P", "pid", "--http", "off"]);
    // Whose look-up would be another thread, for some seconds.
    command.arg("--no-service-names");
    if is_root() {
        command.args(["-u", "root"]);
    }
    assert!(command.status().unwrap().success());
    let mut number = String::new();
    wait_until("a pid file", || {
        number = fs::read_to_string(&pid_file).unwrap_or_default();
        number.ends_with('\n')
    });
    let pid = crate::daemon::pid(number.trim().parse().unwrap());
    wait_until("a socket", || UnixStream::connect(&socket).is_ok());
    Client::unix(&socket).must_set("k", b"value");
    // The number stays, and what was counted; the threads are others.
    let threads = || -> Vec<_> {
        let tasks = fs::read_dir(format!("/proc/{}/task", number.trim())).unwrap();
        tasks.map(|task| task.unwrap().file_name()).collect()
    };
    let before = threads();
    rustix::process::kill_process(pid, Signal::USR2).unwrap();
    wait_until("another program", || {
        let now = threads();
        now.len() == before.len() && now != before
    });
    let mut client = Client::unix(&socket);
    assert!(client.get("k").is_some());
    assert_eq!(client.stat("pid"), number.trim().parse::<u64>().unwrap());
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    wait_until("its end", || folder.names().is_empty());
}

#[test]
fn who_has_given_root_up_restarts_as_who_it_is() {
    if !is_root() {
        println!("left out: only root can become another user");
        return;
    }
    let folder = Folder::new();
    // In a folder of root's.
    let pid_file = folder.text("pid");
    let mut command = Command::new(PROGRAM);
    command.args([
        "-l",
        "127.0.0.1:0",
        "--http",
        "off",
        "-u",
        "nobody",
        "-P",
        &pid_file,
    ]);
    let mut daemon = Daemon::run(command);
    daemon.client().must_set("k", b"value");
    replace(&mut daemon);
    assert!(daemon.client().get("k").is_some());
    assert_ne!(daemon.status("Uid").split_whitespace().next(), Some("0"));
    assert_eq!(
        fs::read_to_string(&pid_file).unwrap().trim(),
        daemon.pid().to_string()
    );
}

#[test]
fn files_that_only_root_may_read_keep_a_process_that_is_not_from_restarting() {
    if !is_root() {
        println!("left out: only root can become another user");
        return;
    }
    let folder = Folder::new();
    let users = folder.text("users");
    fs::write(&users, "user:password\n").unwrap();
    fs::set_permissions(&users, Permissions::from_mode(0o600)).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args([
        "-l",
        "127.0.0.1:0",
        "--http",
        "off",
        "-u",
        "nobody",
        "-Y",
        &users,
    ]);
    let mut daemon = Daemon::run(command);
    daemon.signal(Signal::USR2);
    daemon.wait_for_log("not restarted: auth_file");
    TcpStream::connect(daemon.address()).unwrap();
}
