//! What is kept for a successor: in the service manager's store of descriptors (FDSTORE=1, sd_notify(3)), where
//! it has one, and at hand for an exec.
//!
//! Called by the main thread and by threads that serve nobody: a message takes some microseconds, more when
//! the manager is busy.
//!
//! Invariants:
//! - what the manager keeps is what [`FdStore::take_held`] gives, but for the sockets of its own socket unit;
//! - a name that is kept again is forgotten first where its content is another.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use sd_notify::NotifyState;

use super::files::Files;
use super::{Inherited, Role, memory_file};

/// How long a manager may take to work through its messages; at a boot it has others to care for.
const BARRIER: Duration = Duration::from_secs(5);

/// How the manager of systemd 254 and later says how much it stores; also told to a program that is
/// executed in this one's place.
pub const FDSTORE: &str = "FDSTORE";

/// The name of what only asks whether there is a store.
pub const PROBE: &str = "probe";

/// The store.
#[derive(Debug)]
pub struct FdStore {
    is_there: bool,
    held: Mutex<Vec<(String, OwnedFd)>>,
    /// A failure is warned of once.
    warned: AtomicBool,
}

impl FdStore {
    /// Finds out whether the manager stores anything, which may take one exchange of messages with it, and
    /// has it forget what was of no use.
    pub fn open(inherited: &Inherited) -> FdStore {
        let mut store = FdStore {
            is_there: std::env::var_os("NOTIFY_SOCKET").is_some(),
            held: Mutex::default(),
            warned: AtomicBool::new(false),
        };
        if store.is_there {
            let said = std::env::var(FDSTORE).ok();
            store.is_there = match said.map(|most| most.parse() != Ok(0_u32)) {
                Some(said) => said,
                None => inherited.is_successor() || store.has_room_for(1),
            };
        }
        for role in inherited.refused() {
            store.forget(*role);
        }
        store
    }

    /// Whether what is kept outlives this process.
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Keeps a copy of a descriptor. What is kept already is not kept twice.
    pub fn keep(&self, role: Role, descriptor: impl AsFd) {
        let descriptor = descriptor.as_fd();
        if self.is_there {
            self.warn_of(store(role.name(), descriptor));
        }
        self.hold(role.name(), descriptor);
    }

    /// Keeps a sealed memory file with these bytes in the place of the last one.
    pub fn keep_bytes(&self, role: Role, bytes: &[u8]) {
        self.forget(role);
        match memory_file::seal(role.name(), bytes) {
            Ok(file) => self.keep(role, file),
            Err(error) => self.warn_of(Err(error)),
        }
    }

    /// Keeps the files that a successor may have to go on with, in the place of the last ones.
    pub fn keep_files(&self, files: &Files) {
        match files.is_empty() {
            true => self.forget(Role::Files),
            false => self.keep_bytes(Role::Files, &files.to_bytes()),
        }
    }

    /// Keeps a copy for an exec alone: the manager has its own.
    pub fn hold(&self, name: &str, descriptor: BorrowedFd<'_>) {
        match descriptor.try_clone_to_owned() {
            Ok(copy) => self.held.lock().push((name.to_owned(), copy)),
            Err(error) => self.warn_of(Err(error)),
        }
    }

    /// Lets all go that is kept in this role.
    pub fn forget(&self, role: Role) {
        self.held.lock().retain(|(name, _)| name != role.name());
        if self.is_there {
            self.warn_of(remove(role.name()));
        }
    }

    /// Waits until the manager has worked through all messages, for five seconds at most. Says nothing about
    /// whether it kept what they brought.
    pub fn barrier(&self) {
        if self.is_there {
            self.warn_of(barrier());
        }
    }

    /// Takes all that is kept, with its names.
    pub fn take_held(&self) -> Vec<(String, OwnedFd)> {
        std::mem::take(&mut self.held.lock())
    }

    /// Warns if the manager has no room for so many more descriptors, which are to be kept at the end.
    pub fn check_room(&self, count: usize) {
        if self.is_there && !self.has_room_for(count) {
            let needed = self.held.lock().len() + count;
            tracing::warn!(
                "the service manager does not keep {needed} descriptors: a restart will lose connections, or more; raise FileDescriptorStoreMax="
            );
        }
    }

    /// Whether the manager keeps so many descriptors that it is sent: one that it does not keep it closes.
    fn has_room_for(&self, count: usize) -> bool {
        probe(count).unwrap_or_else(|error| {
            self.warn_of(Err(error));
            false
        })
    }

    fn warn_of(&self, done: io::Result<()>) {
        if let Err(error) = done
            && !self.warned.swap(true, Relaxed)
        {
            tracing::warn!(
                "not all can be kept for the process that comes next: {error}; a restart may then begin empty"
            );
        }
    }
}

fn store(name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let states = [
        NotifyState::FdStore,
        NotifyState::FdName(name),
        // Kept as it is, whatever becomes of the other end.
        NotifyState::Custom("FDPOLL=0"),
    ];
    uninterrupted(|| sd_notify::notify_with_fds(&states, &[descriptor]))
}

fn remove(name: &str) -> io::Result<()> {
    let states = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    uninterrupted(|| sd_notify::notify(&states))
}

/// Whether so many descriptors are kept. None of them is, afterwards.
fn probe(count: usize) -> io::Result<bool> {
    let mut ends = Vec::with_capacity(count);
    for _ in 0..count {
        let (own, sent) = UnixStream::pair()?;
        store(PROBE, sent.as_fd())?;
        own.set_nonblocking(true)?;
        ends.push(own);
    }
    barrier()?;
    let are_kept = ends.iter().all(|mut own| own.read(&mut [0]).is_err());
    remove(PROBE)?;
    Ok(are_kept)
}

/// The manager closes what comes with the message when it has worked through those before.
fn barrier() -> io::Result<()> {
    let (mut own, sent) = UnixStream::pair()?;
    let states = [NotifyState::Custom("BARRIER=1")];
    uninterrupted(|| sd_notify::notify_with_fds(&states, &[sent.as_fd()]))?;
    drop(sent);
    own.set_read_timeout(Some(BARRIER))?;
    uninterrupted(|| own.read(&mut [0])).map(drop)
}

/// Does it again when a signal came in between.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
