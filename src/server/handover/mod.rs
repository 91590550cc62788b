//! A restart that nobody notices: what a process leaves to its successor, and what it finds itself.
//!
//! ```text
//!            kept while running (fd_store)             found at the start (inherited)
//! process ──> systemd's fd store, or the exec of ───> successor
//!             the program in its own place (exec)       heap ─────> heap: Store::open, or an empty one
//!             heap, listen, config                      listen ───> listeners: instead of binding
//!             state, connections: at a planned end      config ───> main: where its own cannot be used
//! ```
//!
//! `main` takes what it inherits before anything else ([`Inherited::take`]) and lends it to
//! [`run`](super::run), which works with copies: a start that fails leaves all of it for the next try, with the
//! last good configuration. Once clients are served, the originals are let go.
//! `socket_unit` has the rules for what a socket unit binds, which is never ours to keep.
//!
//! At a planned end `connection` parks what it serves; [`state`] writes that down, with the totals that were
//! counted, and `queue` carries the sockets; [`connections`] does both, on either side.
//!
//! Invariants:
//! - the heap is kept as soon as it is there, the listening sockets before the first client is served, so that a
//!   crash leaves them too;
//! - nothing that is inherited is trusted: what is not what its name says is closed, and one line says so;
//! - what goes wrong with keeping is one warning, and no reason not to serve.

pub mod connections;
pub mod exec;
pub mod fd_store;
pub mod files;
pub mod heap;
pub mod inherited;
pub mod listeners;
pub mod memory_file;
mod queue;
pub mod socket_unit;
pub mod state;

use std::os::fd::AsFd;
use std::sync::Arc;

pub use exec::Program;
pub use inherited::Inherited;

use super::listener::Listener;
use fd_store::FdStore;
use files::Files;
use listeners::Found;

/// What is kept when a process ends as planned.
const AT_THE_END: [Role; 2] = [Role::State, Role::Connections];

/// The exit status of a process that could not execute its program anew: `EX_OSERR` of `sysexits.h`.
const EX_OSERR: i32 = 71;

/// What a descriptor is to a successor; its name in the service manager's store and in `LISTEN_FDNAMES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The memory file with all items.
    Heap,
    /// A listening socket.
    Listen,
    /// A configuration that works: a sealed memory file, in a form that `main` alone knows.
    Config,
    /// Users and certificates as they were read: a sealed memory file.
    Files,
    /// What is between two reads of each connection: a sealed memory file.
    State,
    /// The receiving end of a pair of SOCK_SEQPACKET sockets, with the connections in its queue.
    Connections,
}

impl Role {
    const ALL: [Role; 6] = [
        Role::Heap,
        Role::Listen,
        Role::Config,
        Role::Files,
        Role::State,
        Role::Connections,
    ];

    /// The role of this name; anything else is a socket unit's.
    fn of(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Heap => "heap",
            Role::Listen => "listen",
            Role::Config => "config",
            Role::Files => "files",
            Role::State => "state",
            Role::Connections => "connections",
        }
    }
}

/// What a process leaves to the next.
#[derive(Debug)]
pub struct Bequest {
    /// What is executed on SIGUSR2.
    pub program: Program,
    /// Everything else.
    pub fd_store: Arc<FdStore>,
}

impl Bequest {
    /// Keeps all that a successor needs, the heap apart, which is kept since it is there; and lets go what
    /// was inherited, since all that is wanted of it is this process's own now.
    pub fn settle(
        &self,
        inherited: &mut Inherited,
        (listeners, is_activated): (&[Listener], bool),
        unwanted: Found,
        (record, files): (&[u8], &Files),
    ) {
        if unwanted.let_go() {
            self.fd_store.forget(Role::Listen);
        }
        // Those of a socket unit come with each start; in the store they would be there twice.
        for (name, socket) in inherited.units().unwrap_or_default() {
            self.fd_store.hold(name, socket.as_fd());
        }
        for listener in listeners.iter().filter(|_| !is_activated) {
            self.fd_store.keep(Role::Listen, listener.socket());
        }
        self.fd_store.keep_bytes(Role::Config, record);
        self.fd_store.keep_files(files);
        // A successor goes on with a manager that has been asked.
        if !inherited.is_successor() {
            self.fd_store.check_room(AT_THE_END.len());
        }
        *inherited = Inherited::default();
    }

    /// Executes the program in the place of this process; see [`exec::replace`]. If it cannot be done the
    /// process ends: what the numbers of its descriptors mean is no longer known.
    pub fn execute(&self) {
        let error = exec::replace(&self.program, &self.fd_store);
        let path = self.program.path.display();
        tracing::error!("{path} cannot be executed: {error}; start it again");
        std::process::exit(EX_OSERR);
    }
}
