//! Who may speak: users and passwords, in the text protocol and by SASL.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::Signal;

use crate::daemon::{Client, Daemon, Folder, PROGRAM, refused, wait_until};
use crate::frames::{Answer, Request};

const NOT_FOUND: u16 = 0x01;
const AUTH_FAILURE: u16 = 0x20;

/// A file of one user, which goes when this does.
struct Users(Folder);

impl Users {
    fn new(text: &str) -> Users {
        let users = Users(Folder::new());
        users.write(text, 0o600);
        users
    }

    fn path(&self) -> String {
        self.0.text("users")
    }

    fn write(&self, text: &str, mode: u32) {
        fs::write(self.path(), text).unwrap();
        fs::set_permissions(self.path(), fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn text_set(user_and_password: &str) -> String {
    let length = user_and_password.len();
    format!("set auth 0 0 {length}\r\n{user_and_password}\r\n")
}

fn plain(user: &str, password: &str) -> Request {
    let message = format!("\0{user}\0{password}");
    Request::new(0x21).key("PLAIN").value(message)
}

fn ask(client: &mut Client<TcpStream>, request: Request) -> Answer {
    client.send(request.bytes());
    Answer::read(&mut client.stream)
}

#[test]
fn nobody_speaks_before_the_right_password_in_either_protocol() {
    let users = Users::new("alice:secret\n");
    let daemon = Daemon::start(&format!("-S -Y {}", users.path()));
    let mut text = daemon.client();
    text.send("get k\r\n");
    assert_eq!(text.line(), "CLIENT_ERROR unauthenticated");
    text.send(text_set("alice mistaken"));
    assert_eq!(text.line(), "CLIENT_ERROR authentication failure");
    text.send(text_set("alice secret"));
    assert_eq!(text.line(), "STORED");
    text.send("set k 0 0 5\r\nvalue\r\nget auth\r\n");
    assert_eq!(text.line(), "STORED");
    assert_eq!(text.line(), "END", "what authenticated is not an item");

    let mut binary = daemon.client();
    let list = ask(&mut binary, Request::new(0x20));
    assert_eq!((list.status, list.text()), (0, "PLAIN"));
    let wrong = ask(&mut binary, plain("alice", "mistaken"));
    assert_eq!(
        (wrong.status, wrong.text()),
        (AUTH_FAILURE, "Auth failure.")
    );
    let right = ask(&mut binary, plain("alice", "secret"));
    assert_eq!((right.status, right.text()), (0, "Authenticated"));
    assert_eq!(ask(&mut binary, Request::new(0).key("k")).text(), "value");

    let mut early = daemon.client();
    let version = ask(&mut early, Request::new(0x0b));
    assert_eq!((version.status, version.text()), (0, "1.6.45"));
    let answer = ask(&mut early, Request::new(0).key("k"));
    assert_eq!(
        (answer.status, answer.text()),
        (AUTH_FAILURE, "Auth failure.")
    );
    assert_eq!(early.rest(), b"", "it is closed");
    assert_eq!(text.stat("auth_cmds"), 4);
    assert_eq!(text.stat("auth_errors"), 2);
    let log = daemon.log();
    assert!(!log.contains("alice") && !log.contains("mistaken"), "{log}");
}

#[test]
fn a_second_message_may_carry_the_password() {
    let users = Users::new("alice:secret\n");
    let daemon = Daemon::start(&format!("-S -Y {}", users.path()));
    let mut client = daemon.client();
    let step = Request::new(0x22).key("PLAIN").value("\0alice\0secret");
    let unasked = ask(&mut client, step.clone());
    assert_eq!(unasked.status, AUTH_FAILURE);
    let begun = ask(&mut client, Request::new(0x21).key("PLAIN"));
    assert_eq!((begun.status, begun.text()), (0x21, ""));
    assert_eq!(ask(&mut client, step.clone()).status, 0);
    let unknown = Request::new(0x21).key("CRAM-MD5");
    assert_eq!(ask(&mut client, unknown).status, AUTH_FAILURE);
}

#[test]
fn keystonemiddleware_that_has_not_authenticated_meets_misses_and_no_errors() {
    let users = Users::new("alice:secret\n");
    let daemon = Daemon::start(&format!("-S -Y {}", users.path()));
    let mut known = daemon.client();
    known.send(text_set("alice secret") + "set tokens/a 0 0 1\r\nA\r\n");
    assert_eq!(
        (known.line(), known.line()),
        ("STORED".into(), "STORED".into())
    );
    let mut unknown = daemon.client();
    for key in ["tokens/a", "tokens/b"] {
        let miss = ask(&mut unknown, Request::new(0).key(key));
        assert_eq!((miss.status, miss.text()), (NOT_FOUND, "Not found"));
        let set = Request::new(1).extras([0; 8]).key(key).value("B");
        assert_eq!(ask(&mut unknown, set).status, 0);
    }
    // A large value is passed over as it comes.
    let large = Request::new(1)
        .extras([0; 8])
        .key("tokens/b")
        .value("B".repeat(900_000));
    assert_eq!(ask(&mut unknown, large).status, 0);
    assert_eq!(known.stat("failures_untold"), 5);
    known.send("get tokens/a tokens/b\r\n");
    assert_eq!(known.line(), "VALUE tokens/a 0 1");
    assert_eq!((known.line(), known.line()), ("A".into(), "END".into()));
    let other = ask(&mut unknown, Request::new(4).key("tokens/a"));
    assert_eq!(
        other.status, AUTH_FAILURE,
        "what keystonemiddleware never asks"
    );
    assert_eq!(unknown.rest(), b"");
}

#[test]
fn binary_strict_tells_keystonemiddleware_too() {
    let users = Users::new("alice:secret\n");
    let daemon = Daemon::start(&format!("--binary-strict -S -Y {}", users.path()));
    let mut client = daemon.client();
    let answer = ask(&mut client, Request::new(0).key("tokens/a"));
    assert_eq!(answer.status, AUTH_FAILURE);
    let daemon = Daemon::start("--binary-strict -I 1k");
    let large = Request::new(1)
        .extras([0; 8])
        .key("tokens/a")
        .value("B".repeat(2_000));
    let answer = ask(&mut daemon.client(), large);
    assert_eq!((answer.status, answer.text()), (0x03, "Too large."));
}

#[test]
fn without_sasl_the_binary_protocol_is_closed() {
    let users = Users::new("alice:secret\n");
    let daemon = Daemon::start(&format!("-Y {}", users.path()));
    let mut client = daemon.client();
    client.send(Request::new(0x0b).bytes());
    assert_eq!(client.rest(), b"");
}

#[test]
fn passwords_are_read_again_on_sighup_and_a_bad_file_changes_nothing() {
    let users = Users::new("alice:secret\n");
    let mut daemon = Daemon::start(&format!("-Y {}", users.path()));
    let mut before = daemon.client();
    before.send(text_set("alice secret"));
    assert_eq!(before.line(), "STORED");
    users.write("alice:changed\n", 0o644);
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("can be used by anybody");
    let admits = |password: &str| {
        let mut client = daemon.client();
        client.send(text_set(&format!("alice {password}")));
        client.line() == "STORED"
    };
    assert!(admits("secret") && !admits("changed"));
    users.write("alice:changed\n", 0o600);
    daemon.signal(Signal::HUP);
    wait_until("the new password is in force", || admits("changed"));
    assert!(!admits("secret"));
    assert_eq!(before.get("k"), None, "who was let in stays in");
    let log = daemon.log();
    assert!(!log.contains("alice") && !log.contains("changed"), "{log}");
}

#[test]
fn a_file_of_passwords_that_cannot_be_used_is_refused_at_start() {
    let users = Users::new("alice:secret\n");
    let refusal = |users: &Users| {
        let mut command = Command::new(PROGRAM);
        command.args(["-p", "-1", "--http", "off", "-Y", &users.path()]);
        let (status, text) = refused(command);
        assert_eq!(status, Some(78), "{text}");
        let error = text.lines().last().unwrap().to_owned();
        assert!(error.contains("auth_file = "), "{error}");
        assert!(
            !error.contains("alice") && !error.contains("secret"),
            "{error}"
        );
        error
    };
    users.write("alice:secret\n", 0o644);
    assert!(refusal(&users).contains("chmod o= it"));
    users.write("alice secret\n", 0o600);
    assert!(refusal(&users).contains("line 1 is no user:password of"));
    users.write("\n", 0o600);
    assert!(refusal(&users).contains("names no user"));
    fs::remove_file(users.path()).unwrap();
    assert!(refusal(&users).contains("cannot be read"));
    let fifo = Command::new("mkfifo").arg(users.path()).status().unwrap();
    assert!(fifo.success());
    assert!(refusal(&users).contains("is no regular file"));
}

#[test]
fn wrong_passwords_hold_nobody_else_up() {
    let users = Users::new("alice:secret\n");
    let daemon = Daemon::start(&format!("-t 1 -Y {}", users.path()));
    let guessing: Vec<_> = (0..100)
        .map(|_| {
            let mut client = daemon.client();
            client.send(text_set("alice wrong"));
            client
        })
        .collect();
    let mut client = daemon.client();
    client.send(text_set("alice secret"));
    assert_eq!(client.line(), "STORED");
    wait_until("all have been looked at", || {
        client.stat("auth_errors") == 100
    });
    for mut guesser in guessing {
        assert_eq!(guesser.line(), "CLIENT_ERROR authentication failure");
    }
    // A mistyped password leaves a service without its cache, and a guesser must not fill the log.
    let log = daemon.log();
    assert_eq!(
        log.matches("a wrong user or password from tcp:").count(),
        1,
        "{log}"
    );
}

#[test]
fn a_configuration_is_checked_with_the_files_that_it_names() {
    let users = Users::new("alice:secret\n");
    let check = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokencached-tool"));
        let output = command
            .arg("check-config")
            .args(arguments)
            .output()
            .unwrap();
        let said =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    assert_eq!(check(&["-Y", &users.path()]).0, Some(0));
    users.write("alice:secret\n", 0o644);
    let (status, said) = check(&["-Y", &users.path()]);
    assert!(status == Some(78) && said.contains("chmod o="), "{said}");
    let (status, said) = check(&["-Z", "-o", "ssl_chain_cert=/nowhere/c,ssl_key=/nowhere/k"]);
    let expected =
        "extended = \"ssl_chain_cert=/nowhere/c\" (command line -o): /nowhere/c: cannot be read";
    assert!(status == Some(78) && said.contains(expected), "{said}");
}
