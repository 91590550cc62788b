//! A server that the tool itself starts, to compare it with another.
//!
//! Its command line says where it is to listen, with `{port}` or `{socket}` in the place of a free port of loopback or a
//! path for a unix socket. No shell reads it: it is split into words as one would.
//!
//! Invariants: what was started is ended, with all of its process group, whatever happens; it listens on loopback only if its
//! command line says so, which is up to who writes it.

use crate::tool::{Error, Target};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take until it accepts a connection.
const START_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to end once it is asked to; then it is killed.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Programs in front of a command line that run what follows them.
const WRAPPERS: [&str; 5] = ["taskset", "nice", "chrt", "numactl", "env"];

/// A running server, ended when this is dropped.
#[derive(Debug)]
pub struct Contender {
    /// Where it listens.
    pub target: Target,
    /// Its process, as long as its command line runs nothing but the server.
    pub pid: u32,
    child: Child,
    said: File,
    _folder: TempDir,
}

impl Contender {
    /// Starts a server and waits until it accepts a connection, or until `asked_to_end`.
    ///
    /// # Errors
    /// A command line that names no place or no program; a server that ends, with the last line that it said.
    pub fn start(command: &str, asked_to_end: &AtomicBool) -> Result<Contender, Error> {
        let wrong = |what: &str| Error::Options(format!("{command:?} {what}"));
        let failed = |why| Error::System("start a server", why);
        let folder = TempDir::with_prefix("tokencached-load-").map_err(failed)?;
        let words = shlex::split(command).ok_or_else(|| wrong("has a quote that is not closed"))?;
        let (words, target) = placed(words, folder.path()).map_err(|why| wrong(&why))?;
        let [program, arguments @ ..] = &words[..] else {
            return Err(wrong("names no program"));
        };
        let said = tempfile::tempfile().map_err(failed)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said.try_clone().map_err(failed)?)
            // The terminal's signals are for the tool, which then ends it in order.
            .process_group(0)
            .spawn()
            .map_err(|why| wrong(&format!("cannot be started: {why}")))?;
        let mut contender = Contender {
            target,
            pid: child.id(),
            child,
            said,
            _folder: folder,
        };
        contender.await_listening(command, asked_to_end)?;
        Ok(contender)
    }

    fn await_listening(&mut self, command: &str, asked_to_end: &AtomicBool) -> Result<(), Error> {
        let begun = Instant::now();
        let wrong = |what: String| Err(Error::Options(format!("{command:?} {what}")));
        while begun.elapsed() < START_WITHIN {
            if asked_to_end.load(Relaxed) {
                return wrong("was still starting when the end was asked for".to_owned());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return wrong(format!(
                    "ended while starting ({status}): {}",
                    self.last_line()
                ));
            }
            let accepts = match &self.target {
                Target::Tcp(address) => TcpStream::connect(address).is_ok(),
                Target::Unix(path) => UnixStream::connect(path).is_ok(),
            };
            if accepts {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        wrong(format!(
            "did not listen at {} within {} s",
            self.target,
            START_WITHIN.as_secs()
        ))
    }

    /// The last line that it wrote to standard error.
    fn last_line(&mut self) -> String {
        let mut said = Vec::new();
        let read = self
            .said
            .rewind()
            .and_then(|()| self.said.read_to_end(&mut said));
        let lines = String::from_utf8_lossy(&said);
        let last = lines.lines().rfind(|line| !line.trim().is_empty());
        match (read, last) {
            (Ok(_), Some(line)) => crate::tool::shown(line.as_bytes()),
            _ => "it said nothing".to_owned(),
        }
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        // It may have ended by itself. What it has started is of its group, unless it took care to leave it.
        let group = Pid::from_raw(self.pid as i32);
        let _ = killpg(group, Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < END_WITHIN {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// The words of a command line with their place put in, and the place; an error says what is wrong with it.
fn placed(words: Vec<String>, folder: &Path) -> Result<(Vec<String>, Target), String> {
    let put_in = |mark: &str, place: &str| {
        let words = words.iter().map(|word| word.replace(mark, place));
        words.collect::<Vec<_>>()
    };
    let has = |mark: &str| words.iter().any(|word| word.contains(mark));
    if has("{socket}") {
        let path = folder.join("server.sock");
        let placed = put_in("{socket}", &path.to_string_lossy());
        return Ok((placed, Target::Unix(path)));
    }
    if !has("{port}") {
        return Err(
            "does not say where the server listens: write {port} or {socket} where it takes that"
                .to_owned(),
        );
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|probe| probe.local_addr());
    let address = free.map_err(|why: io::Error| format!("has no free port: {why}"))?;
    let placed = put_in("{port}", &address.port().to_string());
    Ok((placed, Target::Tcp(address)))
}

/// What a command line's program is called.
pub fn label(command: &str) -> String {
    let words = shlex::split(command).unwrap_or_default();
    let name = |word: &String| {
        let path = Path::new(word);
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let mut names = words.iter().filter_map(name);
    let first = names.next().unwrap_or_default();
    if !WRAPPERS.contains(&first.as_str()) {
        return first;
    }
    // Behind a wrapper stand its own options, in numbers and dashes, and then the program.
    let program = words[1..].iter().find(|word| {
        let is_option = word.starts_with('-') || word.contains('=');
        !is_option && word.parse::<f64>().is_err()
    });
    program.and_then(name).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(command: &str) -> Result<Contender, Error> {
        Contender::start(command, &AtomicBool::new(false))
    }

    #[test]
    fn a_command_line_that_cannot_be_run_is_explained_in_one_line() {
        for (command, words) in [
            ("memcached -p 11211", "does not say where"),
            ("memcached -p {port} 'x", "a quote that is not closed"),
            ("/nowhere/memcached -p {port}", "cannot be started"),
            (
                "sh -c 'echo first >&2; echo why >&2; exit 3' {port}",
                "(exit status: 3): why",
            ),
            ("true {port}", "it said nothing"),
        ] {
            let message = start(command).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
            assert!(!message.contains('\n'));
        }
    }

    #[test]
    fn a_server_is_called_what_its_program_is() {
        for (command, expected) in [
            ("memcached -p {port}", "memcached"),
            ("taskset -c 0 /usr/bin/memcached -p {port}", "memcached"),
            ("nice -n 5 ./tokencached", "tokencached"),
            ("env A=1 tokencached", "tokencached"),
            ("", ""),
        ] {
            assert_eq!(label(command), expected, "{command}");
        }
    }
}
