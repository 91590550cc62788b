//! The descriptors that this process was started with (`LISTEN_FDS`, sd_listen_fds(3)), by their names.
//!
//! `main` calls [`Inherited::take`] first of all; the other rooms of `handover` look at what is theirs. Names
//! that are no [`Role`]'s are a socket unit's.
//!
//! # Soundness
//!
//! All `unsafe` code of the server is in this file. A descriptor becomes an [`OwnedFd`] once in the life of the
//! process (`TAKEN`), and
//! 1. it is open: `sd_notify` has set its `FD_CLOEXEC`, which fails for one that is not;
//! 2. nobody in this process owns it: `main` has opened nothing yet, so it was there at the start, where
//!    `LISTEN_PID` and `LISTEN_FDS` gave it away.
//!
//! `lay_out` is the way back, just before the program is executed anew: it has the proof with it.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::SealFlags;
use rustix::io::FdFlags;
use socket2::{SockRef, Type};

use super::fd_store::PROBE;
use super::files::Files;
use super::{Role, memory_file};

/// Whether the descriptors have been taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The number of the first descriptor (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Longest configuration that is read.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// What was found, each where it belongs. Closed when dropped.
#[derive(Debug, Default)]
pub struct Inherited {
    /// What a socket unit has bound, with its names; not looked at yet.
    units: Vec<(String, OwnedFd)>,
    listeners: Vec<OwnedFd>,
    heap: Option<OwnedFd>,
    config: Option<OwnedFd>,
    files: Option<OwnedFd>,
    state: Option<OwnedFd>,
    connections: Option<OwnedFd>,
    /// Roles of which something was closed, and is still in the store.
    refused: Vec<Role>,
    /// What was wrong with single descriptors, a line each.
    remarks: Vec<String>,
    /// Why none could be taken at all.
    fault: Option<String>,
}

impl Inherited {
    /// Takes all that was handed to this process; nothing the second time. To be called before anything is
    /// opened. Logs nothing, see [`Inherited::remarks`].
    pub fn take() -> Inherited {
        let mut inherited = Inherited::default();
        // Only one thread runs yet; the order with other memory does not matter.
        if TAKEN.swap(true, Ordering::Relaxed) {
            return inherited;
        }
        match sd_notify::listen_fds_with_names() {
            Ok(named) => {
                for (number, name) in named {
                    // SAFETY: it is open and nobody's (1. and 2. in the header).
                    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
                    inherited.sort_in(descriptor, name);
                }
            }
            Err(error) => inherited.fault = Some(error.to_string()),
        }
        inherited
    }

    /// Puts a descriptor where its name says, or closes it.
    fn sort_in(&mut self, descriptor: OwnedFd, name: String) {
        if name == PROBE {
            // Of a process that was killed while it asked.
            return;
        }
        let Some(role) = Role::of(&name) else {
            self.units.push((name, descriptor));
            return;
        };
        if let Some(what) = misfit(role, &descriptor) {
            return self.refuse(role, what);
        }
        let place = match role {
            Role::Listen => return self.listeners.push(descriptor),
            Role::Heap => &mut self.heap,
            Role::Config => &mut self.config,
            Role::Files => &mut self.files,
            Role::State => &mut self.state,
            Role::Connections => &mut self.connections,
        };
        match place {
            None => *place = Some(descriptor),
            Some(_) => self.refuse(role, "is there already"),
        }
    }

    fn refuse(&mut self, role: Role, what: &str) {
        let name = role.name();
        self.remarks
            .push(format!("inherited as {name}: {what}; it is closed"));
        self.refused.push(role);
    }

    /// Lines for the log about what was closed, each given once.
    pub fn remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    /// Whether another tokencached has left something, so that this process is where that one was.
    pub fn is_successor(&self) -> bool {
        let files = [
            &self.heap,
            &self.config,
            &self.files,
            &self.state,
            &self.connections,
        ];
        !self.listeners.is_empty() || files.iter().any(|file| file.is_some())
    }

    /// What a socket unit has bound, with its names.
    ///
    /// # Errors
    /// Why nothing that was handed over could be taken.
    pub fn units(&self) -> Result<&[(String, OwnedFd)], &str> {
        match &self.fault {
            Some(fault) => Err(fault),
            None => Ok(&self.units),
        }
    }

    /// The listening sockets of the process before.
    pub fn listeners(&self) -> &[OwnedFd] {
        &self.listeners
    }

    /// Its heap.
    pub fn heap(&self) -> Option<BorrowedFd<'_>> {
        self.heap.as_ref().map(AsFd::as_fd)
    }

    /// The bytes of its configuration.
    ///
    /// # Errors
    /// One line for the log.
    pub fn config(&self) -> Option<Result<Vec<u8>, String>> {
        let file = self.config.as_ref()?;
        let read = memory_file::read(file, CONFIG_BYTES_MAX);
        Some(read.map_err(|error| format!("inherited as config: cannot be read: {error}")))
    }

    /// The files of users and certificates that it had read; none if there are none that can be read.
    pub fn files(&self) -> Files {
        let read = |file| memory_file::read(file, CONFIG_BYTES_MAX).ok();
        let bytes = self.files.as_ref().and_then(read);
        bytes.map_or_else(Files::default, |bytes| Files::from_bytes(&bytes))
    }

    /// Its connections and their state.
    pub fn take_connections(&mut self) -> (Option<OwnedFd>, Option<OwnedFd>) {
        (self.connections.take(), self.state.take())
    }

    /// Roles of which something in the store is of no use.
    pub fn refused(&self) -> &[Role] {
        &self.refused
    }
}

/// What is wrong with a descriptor, by what its name says.
fn misfit(role: Role, descriptor: &OwnedFd) -> Option<&'static str> {
    let (fits, what) = match role {
        Role::Heap => (
            rustix::fs::fcntl_get_seals(descriptor)
                .is_ok_and(|seals| seals.contains(SealFlags::SHRINK)),
            "is no memory file that keeps its length",
        ),
        Role::Config | Role::Files | Role::State => (
            memory_file::is_sealed(descriptor),
            "is no sealed memory file",
        ),
        Role::Listen => (is_listening(descriptor), "is no stream socket that listens"),
        Role::Connections => (
            SockRef::from(descriptor)
                .r#type()
                .is_ok_and(|kind| kind == Type::SEQPACKET),
            "is no SOCK_SEQPACKET socket",
        ),
    };
    (!fits).then_some(what)
}

/// Whether clients can be accepted from it.
pub fn is_listening(socket: &OwnedFd) -> bool {
    let socket = SockRef::from(socket);
    socket.is_listener().unwrap_or(false) && socket.r#type().is_ok_and(|kind| kind == Type::STREAM)
}

/// Lays descriptors out from 3 on, open across an exec: for nothing but an exec that follows at once,
/// since whatever had these numbers is closed.
///
/// # Errors
/// Those of fcntl and dup3; then too nothing but the end of the process may follow.
pub(super) fn lay_out(descriptors: &[OwnedFd]) -> std::io::Result<()> {
    let beyond = FIRST + descriptors.len() as RawFd;
    // Above all targets first, so that none of them is overwritten before it is laid out.
    let above: Vec<OwnedFd> = descriptors
        .iter()
        .map(|descriptor| rustix::io::fcntl_dupfd_cloexec(descriptor, beyond))
        .collect::<Result<_, _>>()?;
    for (number, descriptor) in (FIRST..).zip(&above) {
        // SAFETY: dup2 makes the number open; never dropped, so it stays so until the exec. If another owner
        // in this process had it, that one's file is gone, which nobody is left to notice: no other thread
        // serves any more, and this one executes a program or ends.
        let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        rustix::io::dup2(descriptor, &mut target)?;
        rustix::io::fcntl_setfd(&*target, FdFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn heap() -> OwnedFd {
        let flags = rustix::fs::MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("heap", flags).unwrap();
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        file
    }

    fn sorted(found: Vec<(&str, OwnedFd)>) -> Inherited {
        let mut inherited = Inherited::default();
        for (name, descriptor) in found {
            inherited.sort_in(descriptor, name.to_owned());
        }
        inherited
    }

    #[test]
    fn what_is_not_what_its_name_says_is_closed_and_said() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let udp = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut inherited = sorted(vec![
            ("heap", file()),
            ("config", heap()),
            ("state", udp()),
            ("listen", udp()),
            ("listen", file()),
            ("connections", udp()),
        ]);
        assert!(!inherited.is_successor());
        let remarks = inherited.remarks();
        assert_eq!(remarks.len(), 6, "{remarks:?}");
        assert!(remarks[0].starts_with("inherited as heap: is no memory file"));
        assert!(inherited.remarks().is_empty(), "said once");
        assert_eq!(inherited.refused().len(), 6);
    }

    #[test]
    fn one_of_each_is_kept_and_other_names_are_a_socket_units() {
        let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let config = || memory_file::seal("config", b"bytes").unwrap();
        let mut inherited = sorted(vec![
            ("tokencached.socket", listener()),
            ("listen", listener()),
            ("listen", listener()),
            ("heap", heap()),
            ("heap", heap()),
            ("config", config()),
            ("config", config()),
        ]);
        assert!(inherited.is_successor() && inherited.heap().is_some());
        assert_eq!(inherited.units().unwrap().len(), 1);
        assert_eq!(inherited.listeners().len(), 2);
        assert_eq!(inherited.config().unwrap().unwrap(), b"bytes");
        assert_eq!(inherited.remarks().len(), 2);
        assert_eq!(inherited.refused(), [Role::Heap, Role::Config]);
    }
}
