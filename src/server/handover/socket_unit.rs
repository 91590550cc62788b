//! Sockets that a socket unit has bound, taken in the place of binding.
//!
//! `start.rs` calls [`listeners`] before it makes a socket itself. They are the service manager's: it hands
//! them to each start, so they are not kept in its store, and their files are its to remove.
//!
//! Invariants:
//! - what is taken is a stream socket that listens;
//! - where the configuration names addresses, those that are handed over are the same, or nothing starts. Where
//!   it names none, what is handed over is served as the default addresses would be.

use std::os::fd::OwnedFd;

use super::Inherited;
use super::inherited::is_listening;
use super::listeners::Place;
use crate::protocol::codec::Protocol;
use crate::server::listener::Listener;
use crate::server::{Options, Security, StartError};

const SAME: &str =
    "name the same addresses in the socket unit and in the configuration, or none in the latter";

/// Copies of the sockets that were handed over, ready to accept from; none if there are none.
///
/// # Errors
/// A descriptor that is no listening stream socket; an address that the configuration names and that was not
/// handed over, or the other way round.
pub fn listeners(options: &Options, inherited: &Inherited) -> Result<Vec<Listener>, StartError> {
    let sockets = inherited.units().map_err(unusable)?;
    let places = sockets.iter().map(|(_, socket)| place(socket));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    if !places.is_empty() {
        check(options, &places)?;
    }
    let adopt = |((_, socket), place): (&(String, OwnedFd), &Place)| {
        let (protocol, security) = spoken(options, place);
        let copy = socket.try_clone();
        copy.and_then(|copy| Listener::adopt(copy.into(), protocol, security))
            .map_err(StartError::system)
    };
    sockets.iter().zip(&places).map(adopt).collect()
}

fn place(socket: &OwnedFd) -> Result<Place, StartError> {
    if !is_listening(socket) {
        return Err(unusable("a descriptor is no stream socket that listens"));
    }
    let place = Place::of(socket).map_err(StartError::system)?;
    place.ok_or_else(|| unusable("a socket has neither a TCP address nor a path"))
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
        let what = format!("the service manager hands {place} over");
        return Err(StartError::new(setting(place), what, SAME));
    }
    if let Some(place) = named.iter().find(|place| !places.contains(place)) {
        let what = format!("the service manager does not hand {place} over");
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
