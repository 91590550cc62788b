//! Runs the transcripts (`scripts/`) over a socket: against tokencached, and against
//! memcached as oracle where one is installed (`MEMCACHED`, or `memcached` in `PATH`).
//!
//! Every script gets a server of its own, started with the flags its header names. All blocks run, and all that failed
//! are reported, each with its file, block and line. The time limits here only end a run that hangs; no test measures time.

#[path = "common/script.rs"]
mod script;

#[path = "common/oracle.rs"]
mod oracle;

#[path = "common/users.rs"]
mod users;

use std::env;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use script::{Action, Block, Captures, Clock, Match, Pattern, Script, Step, Target, escape};
use tempfile::{NamedTempFile, TempDir};

/// How long a reply may take before the block counts as failed.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a server may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Another process may take the free port before the server does; then another one is tried.
const START_ATTEMPTS: usize = 5;

#[test]
fn tokencached_follows_the_transcripts() {
    run_all(&tokencached(), script::TEXT);
}

#[test]
fn tokencached_follows_the_binary_transcripts() {
    run_all(&tokencached(), script::BINARY);
}

#[test]
fn tokencached_follows_the_transcripts_of_users() {
    run_all(&tokencached(), script::AUTH);
}

#[test]
fn memcached_confirms_the_transcripts() {
    run_oracle(script::TEXT);
}

#[test]
fn memcached_confirms_the_binary_transcripts() {
    run_oracle(script::BINARY);
}

#[test]
fn memcached_confirms_the_transcripts_of_users() {
    run_oracle(script::AUTH);
}

fn tokencached() -> Program {
    Program {
        path: PathBuf::from(env!("CARGO_BIN_EXE_tokencached")),
        own_args: &["--http", "off"],
        target: Target::Tokencached,
    }
}

fn run_oracle(folders: &[&str]) {
    let Some(path) = oracle::find_memcached() else {
        println!("no memcached is installed: the oracle was left out");
        return;
    };
    let target = ask_version(&path);
    let program = Program {
        path,
        own_args: &[],
        target,
    };
    run_all(&program, folders);
}

/// Runs every script of the folders.
fn run_all(program: &Program, folders: &[&str]) {
    let mut failures = Vec::new();
    let mut blocks_run = 0;
    for (file, script) in script::read_all(folders) {
        let (ours, left_out): (Vec<&Block>, Vec<&Block>) = script
            .blocks
            .iter()
            .partition(|block| block.skip_reason(program.target).is_none());
        for block in left_out {
            let reason = block.skip_reason(program.target).unwrap_or_default();
            println!("{file}: left out: {} ({reason})", block.name);
        }
        let users = match Users::prepare(program, &script) {
            Ok(users) => users,
            Err(reason) => {
                println!("{file}: left out: {reason}");
                continue;
            }
        };
        if ours.is_empty() {
            continue;
        }
        let server = match Server::start(program, &script.args, &users) {
            Ok(server) => server,
            Err(error) => {
                failures.push(format!("{file}: {error}"));
                continue;
            }
        };
        for block in ours {
            blocks_run += 1;
            if let Err(failure) = run_block(server.address, block, program.target) {
                failures.push(format!("{file}: {failure}"));
            }
        }
    }
    let path = program.path.display();
    println!("{path}: {blocks_run} blocks run");
    assert!(blocks_run > 0, "there are no scripts");
    assert!(
        failures.is_empty(),
        "{path}: {} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn run_block(address: SocketAddr, block: &Block, target: Target) -> Result<(), String> {
    let locate = |line| move |error| format!("line {line}: {}: {error}", block.name);
    let mut session = Session::open(address).map_err(locate(block.line))?;
    for step in block.steps_for(target) {
        session.take(step).map_err(locate(step.line))?;
    }
    Ok(())
}

/// The client's end of a conversation.
struct Session {
    address: SocketAddr,
    stream: TcpStream,
    /// Sends that wait for the next step of another kind, so that they leave in one write.
    unsent: Vec<u8>,
    /// What the server sent and no expectation has consumed yet.
    received: Vec<u8>,
    captures: Captures,
}

impl Session {
    fn open(address: SocketAddr) -> Result<Self, String> {
        Ok(Session {
            address,
            stream: connect(address)?,
            unsent: Vec::new(),
            received: Vec::new(),
            captures: Captures::new(),
        })
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        if let Action::Send(template) = &step.action {
            self.unsent.extend(template.render(&self.captures));
            return Ok(());
        }
        // A server that has closed refuses the write; what is expected next tells whether it should have.
        let _ = self.stream.write_all(&self.unsent);
        self.unsent.clear();
        match &step.action {
            Action::Send(_) => {}
            Action::Expect(pattern) => self.expect(pattern)?,
            Action::Close => self.expect_close()?,
            Action::Wait(seconds) => thread::sleep(Duration::from_secs(*seconds)),
            Action::Connect => {
                self.stream = connect(self.address)?;
                self.received.clear();
            }
        }
        Ok(())
    }

    fn expect(&mut self, pattern: &Pattern) -> Result<(), String> {
        loop {
            match pattern.matches(&self.received, &mut self.captures, Clock::Runs) {
                Match::Complete { consumed } => {
                    self.received.drain(..consumed);
                    return Ok(());
                }
                Match::Mismatch(message) => return Err(message),
                Match::Incomplete => {}
            }
            let incomplete = match self.receive() {
                Received::Bytes => continue,
                Received::End => "before the connection ended",
                Received::Nothing => "before the time limit",
            };
            return Err(format!(
                "expected \"{}\", got only \"{}\" {incomplete}",
                pattern.describe(&self.captures),
                escape(&self.received)
            ));
        }
    }

    fn expect_close(&mut self) -> Result<(), String> {
        loop {
            if !self.received.is_empty() {
                let got = escape(&self.received);
                return Err(format!("expected a close, got \"{got}\""));
            }
            match self.receive() {
                Received::Bytes => {}
                Received::End => return Ok(()),
                Received::Nothing => return Err("the connection stayed open".to_string()),
            }
        }
    }

    fn receive(&mut self) -> Received {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => Received::End,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                Received::Bytes
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Received::End,
            Err(_) => Received::Nothing,
        }
    }
}

enum Received {
    Bytes,
    End,
    Nothing,
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address);
    let stream = stream.map_err(|error| format!("the server accepts no connection: {error}"))?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(REPLY_TIMEOUT)).unwrap();
    stream.set_nodelay(true).unwrap();
    Ok(stream)
}

/// Tells which generation of memcached the program is.
fn ask_version(path: &Path) -> Target {
    let output = Command::new(path).arg("-V").output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let answer = String::from_utf8_lossy(&output.stdout);
    println!("the oracle says {}", answer.trim_end());
    let numbers = answer.split_whitespace().nth(1).unwrap_or("").split('.');
    let numbers: Vec<u32> = numbers.map_while(|number| number.parse().ok()).collect();
    match numbers < vec![1, 6, 27] {
        true => Target::MemcachedOld,
        false => Target::MemcachedNew,
    }
}

/// Flags and environment that make a server know the users of a script. Their files go with it.
#[derive(Default)]
struct Users {
    file: Option<NamedTempFile>,
    sasl_folder: Option<TempDir>,
}

impl Users {
    /// An error says why this server cannot know them.
    fn prepare(program: &Program, script: &Script) -> Result<Self, String> {
        if script.users.is_empty() {
            return Ok(Users::default());
        }
        let sasl = script.args.iter().any(|arg| arg == "-S");
        if !sasl || program.target == Target::Tokencached {
            return Ok(Users {
                file: Some(users::file(&script.users)),
                sasl_folder: None,
            });
        }
        if !program.knows_sasl() {
            return Err("this memcached is built without SASL".to_string());
        }
        Ok(Users {
            file: None,
            sasl_folder: Some(users::sasl_folder(&script.users)?),
        })
    }

    fn tell(&self, command: &mut Command) {
        if let Some(file) = &self.file {
            command.arg("-Y").arg(file.path());
        }
        if let Some(folder) = &self.sasl_folder {
            command.env("SASL_CONF_PATH", folder.path());
        }
    }
}

/// A server to run, and the flags that only it needs.
struct Program {
    path: PathBuf,
    own_args: &'static [&'static str],
    target: Target,
}

impl Program {
    /// Whether this memcached has SASL built in.
    fn knows_sasl(&self) -> bool {
        let help = Command::new(&self.path).arg("-h").output();
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--enable-sasl"))
    }
}

/// A running server, killed when it is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(program: &Program, args: &[String], users: &Users) -> Result<Self, String> {
        let started = (0..START_ATTEMPTS).find_map(|_| Self::try_start(program, args, users));
        started.ok_or_else(|| format!("{} does not start", program.path.display()))
    }

    fn try_start(program: &Program, args: &[String], users: &Users) -> Option<Self> {
        let address = free_address();
        let mut command = Command::new(&program.path);
        command.args(["-l", "127.0.0.1", "-U", "0", "-p"]);
        command.arg(address.port().to_string());
        command.args(program.own_args).args(args);
        users.tell(&mut command);
        if runs_as_root() {
            command.args(["-u", "root"]);
        }
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}", program.path.display()));
        let mut server = Server { child, address };
        server.accepts().then_some(server)
    }

    /// Waits until the server accepts a connection. False if it exits or takes too long.
    fn accepts(&mut self) -> bool {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            if TcpStream::connect(self.address).is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a server that has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().unwrap()
}

/// Servers refuse to run as root unless told to; in containers the tests often do.
fn runs_as_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
