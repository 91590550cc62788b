//! What the process asks of the system before it serves: limits, locked memory, another user.
//!
//! The values are live bearer tokens, so no core dump is ever written and, under `-k`, nothing is
//! swapped.

use std::io;

use nix::unistd::{Gid, Uid, User};
use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Descriptors beside those of client connections: listeners, runtimes, HTTP, logs.
const SPARE_DESCRIPTORS: u64 = 128;

/// Makes core dumps impossible, and other processes of the same user unable to read this one.
///
/// # Errors
/// Those of prctl and setrlimit.
pub fn forbid_core_dumps() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none)?;
    Ok(())
}

/// Raises the limit of open files to what `connections` need, the hard limit too where that is
/// allowed. Gives the limit that is in force.
pub fn raise_open_files(connections: usize) -> u64 {
    let wanted = connections as u64 + SPARE_DESCRIPTORS;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let enough = |bound: Option<u64>| bound.is_none_or(|bound| bound >= wanted);
    if enough(limit.current) {
        return limit.current.unwrap_or(u64::MAX);
    }
    let maximum = if enough(limit.maximum) {
        limit.maximum
    } else {
        Some(wanted)
    };
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    let reachable = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // The first needs privileges where the hard limit is too low; the second never does.
    let done = rustix::process::setrlimit(Resource::Nofile, raised)
        .or_else(|_| rustix::process::setrlimit(Resource::Nofile, reachable));
    match done {
        Ok(()) => rustix::process::getrlimit(Resource::Nofile)
            .current
            .unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

/// Lifts the limit of locked memory where the process may, so that `-k` works after root is gone.
pub fn lift_lock_limit() {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    // Refused without privileges; then `lock_memory` says whether the limit in force is enough.
    let _ = rustix::process::setrlimit(Resource::Memlock, unlimited);
}

/// Keeps all memory, present and to come, from being swapped, each page from its first use on.
///
/// # Errors
/// Those of mlockall: the limit of locked memory is below what the process maps.
pub fn lock_memory() -> io::Result<()> {
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    Ok(rustix::mm::mlockall(flags)?)
}

/// Becomes another user, by name or number, with that user's groups. Nothing changes for who is that user
/// already and not root: the one before has done it, or an earlier try.
///
/// # Errors
/// `NotFound` for an unknown user; those of setgid and setuid.
pub fn become_user(user: &str) -> io::Result<()> {
    let found = match User::from_name(user)? {
        Some(found) => Some(found),
        None => match user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number))?,
            Err(_) => None,
        },
    };
    let found = found.ok_or(io::ErrorKind::NotFound)?;
    if !found.uid.is_root() && nix::unistd::getuid() == found.uid {
        return Ok(());
    }
    set_groups(&found.name, found.gid)?;
    nix::unistd::setgid(found.gid)?;
    nix::unistd::setuid(found.uid)?;
    // Changing the user makes a process dumpable again on some kernels.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn set_groups(name: &str, group: Gid) -> io::Result<()> {
    let name = std::ffi::CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(nix::unistd::initgroups(&name, group)?)
}
