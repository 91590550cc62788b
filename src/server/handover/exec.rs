//! SIGUSR2: the process executes its own program anew, under the same number, for an upgrade without a service
//! manager, or beside it.
//!
//! `server::serve` calls [`asked`], which tries the new program first, ends what was begun, and calls
//! [`replace`]. What the successor finds is what [`FdStore`] has at hand, handed over as a service manager does
//! it (`LISTEN_FDS`, sd_listen_fds(3)).
//!
//! Invariants:
//! - the path is what it was at the start: a package that replaces the file replaces the program, and no
//!   search path or working folder decides what is executed;
//! - a program that does not run, or refuses the configuration, is not executed: one line, and the old one
//!   goes on;
//! - a signal that comes in between is not lost, and does not end the successor: `signals` has it wait.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::Access;
use tokio::signal::unix::Signal as Asked;

use super::fd_store::{FDSTORE, FdStore};
use super::{inherited, memory_file};
use crate::server::{Options, check_files};

/// How long the new program may take to say whether it accepts the configuration.
const CHECK_SECONDS: u32 = 10;

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// What `--print-config` begins with.
const FIRST_SETTING: &str = "port ";

/// What the daemon's own errors begin with.
const PREFIX: &str = "tokencached: ";

/// Longest line of its that is logged.
const LINE_BYTES_MAX: usize = 500;

/// What runs in this process, and how it was started.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<OsString>,
    /// Where relative paths begin.
    pub folder: PathBuf,
}

impl Program {
    /// Where to execute it: its folder, if whoever this process has become may enter it.
    fn place(&self) -> &Path {
        match rustix::fs::access(&self.folder, Access::EXEC_OK) {
            Ok(()) => &self.folder,
            Err(_) => Path::new("/"),
        }
    }
}

/// Returns once SIGUSR2 has come and the new program has been tried and found good. A program that is not is
/// one line of the log.
pub async fn asked(mut signal: Asked, program: &Program, options: &Options) {
    loop {
        if signal.recv().await.is_none() {
            // Not while there is a runtime.
            return std::future::pending().await;
        }
        let (tried, options) = (program.clone(), options.clone());
        let tried = tokio::task::spawn_blocking(move || check(&tried, &options));
        match tried.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => return,
            Err(line) => tracing::error!("not restarted: {line} (this process goes on)"),
        }
    }
}

/// Whether the program runs and accepts the configuration, and files that only root may read can be read again.
/// Blocks for ten seconds at most.
fn check(program: &Program, options: &Options) -> Result<(), String> {
    check_files(options).map_err(|error| error.to_string())?;
    let path = program.path.display();
    // Not a pipe, which may fill, and which whoever the program leaves behind keeps open.
    let stderr = memory_file::empty("stderr").map_err(|error| error.to_string())?;
    let its_own = stderr.try_clone().map_err(|error| error.to_string())?;
    let stdout = memory_file::empty("stdout").map_err(|error| error.to_string())?;
    let answer = stdout.try_clone().map_err(|error| error.to_string())?;
    let mut child = Command::new(&program.path)
        .arg("--print-config")
        .args(&program.args)
        .current_dir(program.place())
        .stdin(Stdio::null())
        .stdout(answer)
        .stderr(its_own)
        .spawn()
        .map_err(|error| format!("{path} cannot be executed: {error}"))?;
    match ended(&mut child) {
        Ok(Some(status)) if status.success() => match first_line(stdout) {
            Some(line) if line.starts_with(FIRST_SETTING) => Ok(()),
            _ => Err(format!("{path} is no tokencached")),
        },
        Ok(Some(status)) => Err(match first_line(stderr) {
            Some(line) => match line.strip_prefix(PREFIX) {
                Some(own) => own.to_owned(),
                None => format!("{path} says: {line}"),
            },
            None => format!("{path} ends with {status}"),
        }),
        Ok(None) => Err(format!("{path} says nothing for {CHECK_SECONDS} s")),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

/// Waits for the end of a process, and brings it about if it takes too long.
fn ended(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let looks = CHECK_SECONDS * 1_000 / LOOK.as_millis() as u32;
    for _ in 0..looks {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// The first line of what an ended process has written.
fn first_line(mut file: File) -> Option<String> {
    let mut said = Vec::new();
    // The position is the process's too.
    file.rewind().ok()?;
    file.take(LINE_BYTES_MAX as u64)
        .read_to_end(&mut said)
        .ok()?;
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| !line.trim().is_empty())?;
    Some(line.replace(char::is_control, " "))
}

/// Executes the program in the place of this process, which has stopped serving. Does not return if it can be
/// done.
///
/// # Errors
/// Why it cannot; then nothing but the end of the process may follow.
pub fn replace(program: &Program, fd_store: &FdStore) -> io::Error {
    match try_replace(program, fd_store) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn try_replace(program: &Program, fd_store: &FdStore) -> io::Result<std::convert::Infallible> {
    let path = text(program.path.as_os_str())?;
    let args = program.args.iter().map(|arg| text(arg));
    let args: Vec<CString> = std::iter::once(Ok(path.clone()))
        .chain(args)
        .collect::<io::Result<_>>()?;
    let (names, descriptors): (Vec<_>, Vec<_>) = fd_store.take_held().into_iter().unzip();
    let environment = environment(&names, fd_store.is_there())?;
    std::env::set_current_dir(program.place())?;
    inherited::lay_out(&descriptors)?;
    Ok(nix::unistd::execve(&path, &args, &environment)?)
}

/// This process's environment, with what is handed over as sd_listen_fds(3) reads it.
fn environment(names: &[String], is_stored: bool) -> io::Result<Vec<CString>> {
    let own = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", FDSTORE];
    let is_others = |(name, _): &(OsString, OsString)| own.iter().all(|own| name != own);
    let others = std::env::vars_os().filter(is_others);
    let others = others.map(|(name, value)| [name.as_os_str(), &value].join(OsStr::new("=")));
    let own = [
        format!("LISTEN_FDS={}", names.len()),
        format!("LISTEN_FDNAMES={}", names.join(":")),
        format!("LISTEN_PID={}", std::process::id()),
        // What is known of the manager's store need not be asked again.
        format!("{FDSTORE}={}", u32::from(is_stored)),
    ];
    others
        .chain(own.map(OsString::from))
        .map(|variable| text(&variable))
        .collect()
}

fn text(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}
