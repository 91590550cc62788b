//! What the configuration has to ask the machine.
//!
//! `main.rs` and the tool call [`Machine::detect`] once and hand the result to
//! [`super::load`]; tests and the fuzzer hand in a made-up one. Everything else
//! of `config/` is a function of its arguments, the files that `--config` and
//! `--memcached-conf` name apart.
//!
//! The memory bound is the smallest of what the machine has
//! (`/proc/meminfo`, MemTotal) and of what the control groups of this process
//! allow: `memory.max` of cgroup v2 and `memory.limit_in_bytes` of v1, of the
//! group itself and of each group above it, since the tightest of them decides
//! when the kernel kills. A file that is missing or says `max` bounds nothing.
//! Inside a container the path in `/proc/self/cgroup` may lie outside of what
//! is mounted; walking up ends at the mount's root, which is then the
//! container's own group.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

const SYSTEM_UID_MAX_DEFAULT: u32 = 999;

/// What the configuration has to know about the machine and the process.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The memory this process may use, where it could be found out.
    pub memory: Option<MemoryBound>,
    /// The process was started as root, so `-u` can be acted on.
    pub root: bool,
    /// Where to write the TCP ports (`MEMCACHED_PORT_FILENAME`).
    pub port_file: Option<PathBuf>,
    /// The directory that the service manager has made for this process (`RUNTIME_DIRECTORY`).
    pub runtime_directory: Option<PathBuf>,
    /// Is there a user of this name or number?
    pub user_known: fn(&str) -> bool,
    /// The number of the user of this name. May block on the user database.
    pub uid_of: fn(&str) -> Option<u32>,
    /// The number of the group of this name, likewise.
    pub gid_of: fn(&str) -> Option<u32>,
    /// The largest uid of a user of the system's (`SYS_UID_MAX` of `/etc/login.defs`).
    pub system_uid_max: u32,
    /// The addresses of a host name, with the port given. May block on DNS.
    pub addresses_of: fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
}

/// The most memory there is for this process, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryBound {
    /// In bytes.
    pub bytes: u64,
    /// The file that says so, such as `/proc/meminfo`.
    pub source: String,
}

impl Machine {
    /// Asks the system this process runs on.
    pub fn detect() -> Self {
        Machine {
            memory: memory_bound(|path| std::fs::read_to_string(path).ok()),
            root: nix::unistd::geteuid().is_root(),
            port_file: std::env::var_os("MEMCACHED_PORT_FILENAME").map(PathBuf::from),
            runtime_directory: runtime_directory(std::env::var("RUNTIME_DIRECTORY").ok()),
            user_known,
            uid_of,
            gid_of,
            system_uid_max: system_uid_max(std::fs::read_to_string("/etc/login.defs").ok()),
            addresses_of,
        }
    }
}

/// The first, where there are several.
fn runtime_directory(said: Option<String>) -> Option<PathBuf> {
    let said = said?;
    let first = said.split(':').next()?;
    (!first.is_empty()).then(|| first.into())
}

fn user_known(name: &str) -> bool {
    use nix::unistd::{Uid, User};
    let by_number = |uid: u32| User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let by_name = User::from_name(name).ok().flatten();
    by_name
        .or_else(|| name.parse().ok().and_then(by_number))
        .is_some()
}

fn uid_of(name: &str) -> Option<u32> {
    let user = nix::unistd::User::from_name(name).ok().flatten();
    user.map(|user| user.uid.as_raw())
}

fn gid_of(name: &str) -> Option<u32> {
    let group = nix::unistd::Group::from_name(name).ok().flatten();
    group.map(|group| group.gid.as_raw())
}

/// Debian's default where the file is missing or says nothing.
fn system_uid_max(login_defs: Option<String>) -> u32 {
    let text = login_defs.unwrap_or_default();
    let mut lines = text.lines().map(str::split_whitespace);
    let said = lines.find_map(|mut words| {
        (words.next() == Some("SYS_UID_MAX")).then(|| words.next()?.parse().ok())?
    });
    said.unwrap_or(SYSTEM_UID_MAX_DEFAULT)
}

fn addresses_of(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Iterator::collect)
}

/// The smallest bound of the machine and of the control groups; `read` gives a
/// file's text, or `None` where there is no such file.
pub(super) fn memory_bound(read: impl Fn(&str) -> Option<String>) -> Option<MemoryBound> {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let group_bounds = groups
        .lines()
        .flat_map(limit_files)
        .filter_map(|path| limit_in(&path, &read));
    machine_bound(&read)
        .into_iter()
        .chain(group_bounds)
        .min_by_key(|bound| bound.bytes)
}

fn machine_bound(read: impl Fn(&str) -> Option<String>) -> Option<MemoryBound> {
    let text = read("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(MemoryBound {
        bytes: kib.checked_mul(1024)?,
        source: "/proc/meminfo".into(),
    })
}

fn limit_in(path: &str, read: impl Fn(&str) -> Option<String>) -> Option<MemoryBound> {
    Some(MemoryBound {
        bytes: read(path)?.trim().parse().ok()?,
        source: path.to_owned(),
    })
}

/// The limit files that one line of `/proc/self/cgroup` leads to, from the
/// group itself up to the root of its hierarchy.
fn limit_files(line: &str) -> Vec<String> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    let (mounts, file): (&[&str], &str) = if controllers.is_empty() {
        (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        (&["/sys/fs/cgroup/memory"], "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    let groups: Vec<&str> = self_and_above(group).collect();
    let files = |mount: &&str| {
        let mount = (*mount).to_owned();
        groups
            .iter()
            .map(move |group| format!("{mount}{group}/{file}"))
            .collect::<Vec<_>>()
    };
    mounts.iter().flat_map(files).collect()
}

/// `/a/b`, `/a`, and the empty text for the root.
fn self_and_above(group: &str) -> impl Iterator<Item = &str> {
    let start = group.trim_end_matches('/');
    std::iter::successors(Some(start), |group| {
        group.rfind('/').map(|slash| &group[..slash])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound_in(files: &[(&str, &str)]) -> Option<MemoryBound> {
        memory_bound(|path| {
            let found = files.iter().find(|(name, _)| *name == path);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemTotal:       16036 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_machine_alone() {
        let bound = bound_in(&[MEMINFO]).unwrap();
        assert_eq!(bound.bytes, 16036 * 1024);
        assert_eq!(bound.source, "/proc/meminfo");
        assert_eq!(bound_in(&[]), None);
    }

    #[test]
    fn a_group_above_may_be_tighter() {
        let slice = "/sys/fs/cgroup/system.slice/memory.max";
        let bound = bound_in(&[
            MEMINFO,
            ("/proc/self/cgroup", "0::/system.slice/cache.service\n"),
            (
                "/sys/fs/cgroup/system.slice/cache.service/memory.max",
                "max\n",
            ),
            (slice, "8388608\n"),
        ]);
        let bound = bound.unwrap();
        assert_eq!((bound.bytes, bound.source.as_str()), (8_388_608, slice));
    }

    #[test]
    fn version_one_and_a_container_that_sees_only_its_own_mount() {
        let root = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        let bound = bound_in(&[
            MEMINFO,
            (
                "/proc/self/cgroup",
                "5:cpu:/x\n4:memory:/docker/abc\n0::/\n",
            ),
            (root, "4194304\n"),
        ]);
        assert_eq!(bound.unwrap().source, root);
    }

    #[test]
    fn no_limit_is_no_bound() {
        let bound = bound_in(&[
            MEMINFO,
            ("/proc/self/cgroup", "4:memory:/\nnonsense\n"),
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert_eq!(bound.unwrap().source, "/proc/meminfo");
    }
}
