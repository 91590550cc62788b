//! A service manager that stores descriptors, as systemd does: what it is sent it keeps by name, and hands to
//! the next process that it starts.
//!
//! Two threads: one reads notifications, the other gives each launcher what is stored. The launcher is a
//! short Python program, since only what begins as another process can have descriptors from 3 on.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::daemon::{Daemon, Folder, PROGRAM, is_root, wait_until};

/// Fetches descriptors from `sys.argv[1]`, lays them out from 3 on, and becomes the rest of its arguments.
const LAUNCHER: &str = "
import fcntl, os, socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
names, numbers, _, _ = socket.recv_fds(peer, 65536, 250)
high = [fcntl.fcntl(number, fcntl.F_DUPFD, 400) for number in numbers]
os.closerange(3, 400)
for index, number in enumerate(high):
    os.dup2(number, 3 + index)
os.closerange(400, 1000)
if high:
    os.environ['LISTEN_PID'] = str(os.getpid())
    os.environ['LISTEN_FDS'] = str(len(high))
    os.environ['LISTEN_FDNAMES'] = names.decode()
os.execv(sys.argv[2], sys.argv[2:])
";

/// What is stored.
type Stored = Arc<Mutex<Vec<(String, OwnedFd)>>>;

/// The manager.
pub struct Manager {
    pub stored: Stored,
    folder: Folder,
}

impl Manager {
    /// One that stores so many descriptors; none for one without a store.
    pub fn storing(most: usize) -> Manager {
        let folder = Folder::new();
        let stored = Stored::default();
        let notified = UnixDatagram::bind(folder.path("notify")).unwrap();
        let started = UnixListener::bind(folder.path("start")).unwrap();
        let own = Arc::clone(&stored);
        // Both end with the test's process.
        thread::spawn(move || {
            while let Some((message, descriptors)) = receive(&notified) {
                note(&own, most, &message, descriptors);
            }
        });
        let own = Arc::clone(&stored);
        thread::spawn(move || {
            for peer in started.incoming().map_while(Result::ok) {
                hand_out(&own.lock().unwrap(), &peer);
            }
        });
        Manager { stored, folder }
    }

    pub fn new() -> Manager {
        Manager::storing(64)
    }

    /// A command that starts the daemon with what is stored.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new("python3");
        command.args(["-c", LAUNCHER, &self.folder.text("start"), PROGRAM]);
        command.args(args.split_whitespace());
        if is_root() && !args.contains("-u ") {
            command.args(["-u", "root"]);
        }
        command.env("NOTIFY_SOCKET", self.folder.path("notify"));
        command.env_remove("FDSTORE");
        command
    }

    /// Starts it on a free TCP port, without HTTP, and waits until it serves.
    pub fn start(&self, args: &str) -> Daemon {
        Daemon::run(self.command(&format!("-l 127.0.0.1:0 --http off {args}")))
    }

    /// The names of all that is stored, in order.
    pub fn names(&self) -> Vec<String> {
        let stored = self.stored.lock().unwrap();
        let mut names: Vec<String> = stored.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Waits until this is stored, and nothing else.
    pub fn wait_for(&self, names: &[&str]) {
        let mut seen = Vec::new();
        wait_until(&format!("{names:?} stored"), || {
            seen = self.names();
            seen == names
        });
    }

    /// Stores something in the daemon's place.
    pub fn put(&self, name: &str, descriptor: impl Into<OwnedFd>) {
        let entry = (name.to_owned(), descriptor.into());
        self.stored.lock().unwrap().push(entry);
    }

    /// Where sockets and files of a test may lie.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }
}

fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(socket, &mut slices, &mut control, flags).ok()?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let text = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
    Some((text, descriptors))
}

/// Does what a message says; descriptors that are not stored are closed.
fn note(stored: &Stored, most: usize, message: &str, descriptors: Vec<OwnedFd>) {
    let has = |line: &str| message.lines().any(|other| other == line);
    let name = message
        .lines()
        .find_map(|line| line.strip_prefix("FDNAME="));
    let mut stored = stored.lock().unwrap();
    if has("FDSTOREREMOVE=1") {
        stored.retain(|(other, _)| Some(other.as_str()) != name);
    }
    if has("FDSTORE=1") {
        for descriptor in descriptors {
            let is_there = stored.iter().any(|(_, other)| is_same(other, &descriptor));
            if !is_there && stored.len() < most {
                stored.push((name.unwrap().to_owned(), descriptor));
            }
        }
    }
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let identity = |descriptor: &OwnedFd| {
        let stat = rustix::fs::fstat(descriptor).unwrap();
        (stat.st_dev, stat.st_ino)
    };
    identity(one) == identity(other)
}

fn hand_out(stored: &[(String, OwnedFd)], peer: &impl AsFd) {
    let names: Vec<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
    let descriptors: Vec<_> = stored
        .iter()
        .map(|(_, descriptor)| descriptor.as_fd())
        .collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    // A message without descriptors has to have some byte too.
    let names = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(":")
    };
    let slices = [IoSlice::new(names.as_bytes())];
    rustix::net::sendmsg(peer, &slices, &mut control, SendFlags::empty()).unwrap();
}

/// A memory file with these bytes, sealed with all seals or with none.
pub fn memory_file(bytes: &[u8], is_sealed: bool) -> OwnedFd {
    use rustix::fs::{MemfdFlags, SealFlags};
    use std::io::Write;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = fs::File::from(rustix::fs::memfd_create("test", flags).unwrap());
    file.write_all(bytes).unwrap();
    if is_sealed {
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    }
    file.into()
}
