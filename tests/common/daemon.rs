//! Runs the daemon and talks to it: what the tests of the running server share.
//!
//! A [`Daemon`] listens on free ports of loopback only and is killed when it is dropped; where it
//! listens is read from its log. A [`Client`] says what it likes, in any pieces. The time limits only
//! end a test that hangs; none is ever measured.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};

/// After this a test that waits for something is taken to hang.
pub const LIMIT: Duration = Duration::from_secs(30);

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tokencached");

pub const KIB: usize = 1 << 10;
pub const MIB: usize = 1 << 20;

/// Whether the tests run as root; the daemon then has to be told that it may, too.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Waits until `done` holds. Panics with `what` if that never happens.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "never came: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A running daemon.
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts one on a free TCP port, without HTTP; `args` are separated by spaces.
    pub fn start(args: &str) -> Daemon {
        Daemon::with(&format!("-l 127.0.0.1:0 --http off {args}"))
    }

    /// Starts one with these arguments only, and `-u root` where the tests run as root.
    pub fn with(args: &str) -> Daemon {
        let mut command = Command::new(PROGRAM);
        command.args(args.split_whitespace());
        if is_root() && !args.contains("-u ") {
            command.args(["-u", "root"]);
        }
        Daemon::run(command)
    }

    /// Runs a command that becomes a daemon, and waits until it listens.
    pub fn run(mut command: Command) -> Daemon {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned() + "\n";
                lines.lock().unwrap().push_str(&line);
            }
        });
        let mut daemon = Daemon {
            child,
            log,
            reader: Some(reader),
        };
        daemon.wait_for_log("listening on ");
        daemon
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written to standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn wait_for_log(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.log().contains(text) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended with {ended:?}: {}", self.log());
            assert!(
                Instant::now() < deadline,
                "no \"{text}\" in: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where it listens on TCP: the first address that its log names.
    pub fn address(&self) -> SocketAddr {
        logged_address(&self.log(), "listening on tcp:")
    }

    /// Where it serves HTTP, since its last restart.
    pub fn http(&self) -> SocketAddr {
        const BEFORE: &str = "metrics on http://";
        let log = self.log();
        let last = log.rfind(BEFORE).expect("the log names the address");
        logged_address(&log[last..], BEFORE)
    }

    pub fn client(&self) -> Client<TcpStream> {
        Client::tcp(self.address())
    }

    /// One figure of `stats`, asked for over a connection of its own.
    pub fn stat(&self, name: &str) -> u64 {
        self.client().stat(name)
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(pid(self.pid()), signal).unwrap();
    }

    /// Sets how many files it may have open.
    pub fn limit_open_files(&self, files: u64) {
        let limit = Rlimit {
            current: Some(files),
            maximum: rustix::process::getrlimit(Resource::Nofile).maximum,
        };
        rustix::process::prlimit(Some(pid(self.pid())), Resource::Nofile, limit).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait_for(&mut self.child);
        // Its end closed the pipe, so the log is complete once the reader has ended.
        self.reader.take().map(JoinHandle::join);
        status
    }

    /// Asks for its end with SIGTERM, which has to be orderly.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// A figure of `/proc/PID/status` in bytes, such as `VmRSS`.
    pub fn memory(&self, name: &str) -> usize {
        let kib = self.status(name);
        let kib = kib.strip_suffix("kB").unwrap().trim();
        kib.parse::<usize>().unwrap() * KIB
    }

    /// A field of `/proc/PID/status`.
    pub fn status(&self, name: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let lines = text.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.next().unwrap().trim().to_owned()
    }

    /// The CPU time it has used.
    pub fn cpu_time(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Behind the name, which may hold anything: state is field 3, utime and stime are 14 and 15.
        let fields = text.rsplit_once(')').unwrap().1.split_whitespace();
        let fields: Vec<&str> = fields.collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only for one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

fn logged_address(log: &str, before: &str) -> SocketAddr {
    let (_, rest) = log.split_once(before).expect("the log names the address");
    let end = rest.find(|c: char| c.is_whitespace() || c == '/');
    rest[..end.unwrap()].parse().unwrap()
}

pub fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

fn wait_for(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a daemon that is expected not to start. Gives its exit status and what it wrote.
pub fn refused(mut command: Command) -> (Option<i32>, String) {
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        // A daemon that did start is killed by `wait_for`, which ends this too.
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let status = wait_for(&mut child);
    (status.code(), reader.join().unwrap())
}

/// A folder that is removed in the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tokencached-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The same as text, for command lines.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Names of what lies in it.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let names = entries.map(name).map(|name| name.into_string().unwrap());
        names.collect()
    }

    /// Gives it to another user; only root can.
    pub fn give_to(&self, uid: u32, gid: u32) {
        std::os::unix::fs::chown(&self.0, Some(uid), Some(gid)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Permission bits of a file.
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// The test's own end of many connections takes as many descriptors.
pub fn allow_many_connections() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit).unwrap();
}

/// A client's end of a connection.
pub struct Client<S> {
    pub stream: S,
    /// What was received and not taken yet begins here in it.
    received: Vec<u8>,
    taken: usize,
}

impl Client<TcpStream> {
    pub fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Client::new(stream)
    }
}

impl Client<UnixStream> {
    pub fn unix(path: impl AsRef<Path>) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Client::new(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub fn new(stream: S) -> Self {
        Client {
            stream,
            received: Vec::new(),
            taken: 0,
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// One more line, without its end.
    pub fn line(&mut self) -> String {
        let mut searched = 0;
        loop {
            let waiting = &self.received[self.taken..];
            if let Some(at) = waiting[searched..].iter().position(|&byte| byte == b'\n') {
                let line = self.exactly(searched + at + 1);
                let line = line.strip_suffix(b"\r\n").expect("lines end in \\r\\n");
                return String::from_utf8_lossy(line).into_owned();
            }
            searched = waiting.len();
            assert!(self.receive() > 0, "closed instead of a line");
        }
    }

    /// So many bytes more.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() - self.taken < count {
            assert!(self.receive() > 0, "closed instead of {count} bytes");
        }
        let bytes = self.received[self.taken..self.taken + count].to_vec();
        self.taken += count;
        bytes
    }

    fn receive(&mut self) -> usize {
        self.received.drain(..self.taken);
        self.taken = 0;
        let before = self.received.len();
        self.received.resize(before + 256 * KIB, 0);
        let received = match self.stream.read(&mut self.received[before..]) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("no answer: {error}"),
        };
        self.received.truncate(before + received);
        received
    }

    /// Waits for the server to close. Gives what came before.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.receive() > 0 {}
        self.received.split_off(self.taken)
    }

    /// Sends a line and gives the answer's first.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.line()
    }

    /// Stores a value. Gives the answer.
    pub fn set(&mut self, key: &str, value: &[u8]) -> String {
        self.send(set_request(key, value));
        self.line()
    }

    /// Stores a value, which has to work.
    pub fn must_set(&mut self, key: &str, value: &[u8]) {
        assert_eq!(self.set(key, value), "STORED", "{key}");
    }

    pub fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.send(format!("get {key}\r\n"));
        let value = self.value(key)?;
        assert_eq!(self.line(), "END");
        Some(value)
    }

    /// The value of a `get` that was sent; nothing if its answer is `END`.
    pub fn value(&mut self, key: &str) -> Option<Vec<u8>> {
        let line = self.line();
        if line == "END" {
            return None;
        }
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[..3], ["VALUE", key, "0"], "{line}");
        let value = self.exactly(words[3].parse().unwrap());
        assert_eq!(self.exactly(2), b"\r\n");
        Some(value)
    }

    /// `stats` with an argument, or none: its lines by name.
    pub fn stats(&mut self, argument: &str) -> Vec<(String, String)> {
        self.send(format!("stats {argument}").trim_end().to_owned() + "\r\n");
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            if line == "END" {
                return lines;
            }
            let rest = line.strip_prefix("STAT ").expect("a line of stats");
            let (name, value) = rest.split_once(' ').expect("a name and a value");
            lines.push((name.to_owned(), value.to_owned()));
        }
    }

    pub fn stat(&mut self, name: &str) -> u64 {
        let lines = self.stats("");
        let found = lines.iter().find(|(key, _)| key == name);
        let (_, value) = found.unwrap_or_else(|| panic!("no {name}"));
        value.parse().unwrap()
    }
}

pub fn set_request(key: &str, value: &[u8]) -> Vec<u8> {
    let line = format!("set {key} 0 0 {}\r\n", value.len());
    [line.as_bytes(), value, b"\r\n"].concat()
}

/// Bytes of which no two stretches are alike, line ends among them.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
