//! Sockets that the service manager has bound already, taken in the place of binding (`LISTEN_FDS`, sd_listen_fds(3)).
//!
//! `start.rs` calls [`listeners`] before it makes a socket itself.
//!
//! Invariants:
//! - what is taken is a stream socket that listens;
//! - where the configuration names addresses, those that are handed over are the same, or nothing starts. Where
//!   it names none, what is handed over is served as the default addresses would be.
//!
//! # Soundness
//!
//! All `unsafe` code of the server is in this file. A descriptor becomes an [`OwnedFd`] once in the life of the
//! process ([`TAKEN`]), and only if
//! 1. it is open: `sd_notify::listen_fds` has set its `FD_CLOEXEC`, which fails for one that is not;
//! 2. nobody in this process owns it: it is a listening socket, and this process has not made one yet. So it
//!    was there at its start, where `LISTEN_PID` and `LISTEN_FDS` gave it away.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{SockRef, Socket, Type};

use super::listener::Listener;
use super::{Options, Security, StartError};
use crate::protocol::codec::Protocol;

/// Whether the descriptors have been taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

const SAME: &str =
    "name the same addresses in the socket unit and in the configuration, or none in the latter";

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The sockets that were handed over, ready to accept from; none if there are none, the second time too.
///
/// # Errors
/// A descriptor that is no listening stream socket; an address that the configuration names and that was not
/// handed over, or the other way round.
pub fn listeners(options: &Options) -> Result<Vec<Listener>, StartError> {
    let sockets = take()?;
    let places = sockets.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    if !places.is_empty() {
        check(options, &places)?;
    }
    let adopt = |(socket, place): (Socket, &Place)| {
        let (protocol, security) = spoken(options, place);
        Listener::adopt(socket, protocol, security).map_err(StartError::system)
    };
    sockets.into_iter().zip(&places).map(adopt).collect()
}

fn take() -> Result<Vec<Socket>, StartError> {
    // Only one thread runs yet; the order with other memory does not matter.
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let numbers = sd_notify::listen_fds().map_err(|error| unusable(&error.to_string()))?;
    numbers.map(own).collect()
}

fn own(number: RawFd) -> Result<Socket, StartError> {
    // SAFETY: it is open (1. in the header), and nothing closes it while this thread looks at it.
    let lent = unsafe { BorrowedFd::borrow_raw(number) };
    if !is_listening(&lent).unwrap_or(false) {
        return Err(unusable(&format!(
            "descriptor {number} is no stream socket that listens"
        )));
    }
    // SAFETY: it is open and nobody's (1. and 2. in the header).
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    Ok(owned.into())
}

fn is_listening(socket: &BorrowedFd<'_>) -> io::Result<bool> {
    let socket = SockRef::from(socket);
    Ok(socket.is_listener()? && socket.r#type()? == Type::STREAM)
}

fn place(socket: &Socket) -> Result<Place, StartError> {
    let address = socket.local_addr().map_err(StartError::system)?;
    let tcp = address.as_socket().map(Place::Tcp);
    let unix = address.as_pathname().map(Path::to_path_buf);
    tcp.or(unix.map(Place::Unix))
        .ok_or_else(|| unusable("a socket has neither a TCP address nor a path"))
}

fn unusable(what: &str) -> StartError {
    StartError::new(
        "listen",
        format!("what the service manager hands over cannot be used: {what}"),
        "name TCP addresses and paths with ListenStream= in the socket unit, with Accept=no",
    )
}

/// Holds what was handed over against what the configuration names.
fn check(options: &Options, places: &[Place]) -> Result<(), StartError> {
    if is_open(options) {
        let exposed = places.iter().filter_map(|place| match place {
            Place::Tcp(address) if !address.ip().is_loopback() => Some(address),
            _ => None,
        });
        let exposed_to = match options.access {
            Some(_) => "the access rules refuse whoever comes from beyond loopback",
            None => "whoever reaches it may be able to read and write every cached token",
        };
        for address in exposed {
            tracing::warn!("{address} (socket unit): not a loopback address; {exposed_to}");
        }
        return Ok(());
    }
    let named = named(options);
    if let Some(place) = places.iter().find(|place| !named.contains(place)) {
        let what = format!("the service manager hands {} over", written(place));
        return Err(StartError::new(setting(place), what, SAME));
    }
    if let Some(place) = named.iter().find(|place| !places.contains(place)) {
        let what = format!("the service manager does not hand {} over", written(place));
        return Err(StartError::new(setting(place), what, SAME));
    }
    Ok(())
}

/// Whether the configuration leaves it to the socket unit where to listen.
fn is_open(options: &Options) -> bool {
    !options.listen_asked && options.unix.is_none()
}

fn named(options: &Options) -> Vec<Place> {
    let tcp = options.listen.iter().map(|listen| Place::Tcp(listen.addr));
    let unix = options.unix.iter();
    tcp.chain(unix.map(|unix| Place::Unix(unix.path.clone())))
        .collect()
}

/// What is spoken at a place: as the configuration says of it, or else of the default addresses.
fn spoken(options: &Options, place: &Place) -> (Protocol, Security) {
    let first = options.listen.first();
    match place {
        Place::Tcp(address) => {
            let same = options.listen.iter().find(|listen| listen.addr == *address);
            let listen = same.or(first);
            listen.map_or((Protocol::default(), Security::Plain), |listen| {
                (listen.protocol, listen.security)
            })
        }
        Place::Unix(_) => {
            let own = options.unix.as_ref().map(|unix| unix.protocol);
            let protocol = own.or(first.map(|listen| listen.protocol));
            (protocol.unwrap_or_default(), Security::Plain)
        }
    }
}

fn setting(place: &Place) -> &'static str {
    match place {
        Place::Tcp(_) => "listen",
        Place::Unix(_) => "unix_socket",
    }
}

fn written(place: &Place) -> String {
    match place {
        Place::Tcp(address) => address.to_string(),
        Place::Unix(path) => path.display().to_string(),
    }
}
