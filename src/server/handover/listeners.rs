//! The listening sockets of the process before, matched by address to what the configuration names.
//!
//! `start.rs` asks [`Found`] for each address before it binds it: what is there already needs no privilege, and
//! the clients in its queue are served. What nobody asked for is let go once the server serves.
//!
//! Invariant: a socket is used for the address that it is bound to, and for one only.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf, absolute};

use socket2::{SockRef, Socket};

use super::Inherited;

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The file of a unix socket.
    Unix(PathBuf),
}

impl Place {
    /// Where this one listens; `None` for a unix socket without a path.
    ///
    /// # Errors
    /// Those of getsockname.
    pub fn of(socket: &OwnedFd) -> io::Result<Option<Place>> {
        let address = SockRef::from(socket).local_addr()?;
        let tcp = address.as_socket().map(Place::Tcp);
        let unix = || address.as_pathname().map(Path::to_path_buf);
        Ok(tcp.or_else(|| unix().map(Place::Unix)))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Tcp(address) => address.fmt(formatter),
            Place::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// Copies of the inherited sockets that nobody has asked for yet.
#[derive(Debug, Default)]
pub struct Found {
    sockets: Vec<(Place, Socket)>,
    /// Some were of no use, and are in the store still.
    was_useless: bool,
}

impl Found {
    /// All of them.
    ///
    /// # Errors
    /// Those of duplicating a descriptor.
    pub fn of(inherited: &Inherited) -> io::Result<Found> {
        let mut found = Found::default();
        for socket in inherited.listeners() {
            match Place::of(socket) {
                Ok(Some(place)) => found.sockets.push((place, socket.try_clone()?.into())),
                // What has no address serves none.
                _ => found.was_useless = true,
            }
        }
        Ok(found)
    }

    /// The socket bound to this address. For port 0, any of the same IP address whose own is not among `named`.
    pub fn tcp(&mut self, wanted: SocketAddr, named: &[SocketAddr]) -> Option<Socket> {
        let exact = self.take(|place| *place == Place::Tcp(wanted));
        if exact.is_some() || wanted.port() != 0 {
            return exact;
        }
        self.take(|place| match place {
            Place::Tcp(address) => address.ip() == wanted.ip() && !named.contains(address),
            Place::Unix(_) => false,
        })
    }

    /// The socket bound to this path, if its file is still there: without it nobody can reach it.
    pub fn unix(&mut self, wanted: &Path) -> Option<Socket> {
        let path = absolute(wanted).ok()?;
        let found = self.take(|place| match place {
            Place::Unix(other) => absolute(other).is_ok_and(|other| other == path),
            Place::Tcp(_) => false,
        })?;
        let is_reachable = is_socket(wanted);
        self.was_useless |= !is_reachable;
        is_reachable.then_some(found)
    }

    fn take(&mut self, is_wanted: impl FnMut(&Place) -> bool) -> Option<Socket> {
        let mut places = self.sockets.iter().map(|(place, _)| place);
        let at = places.position(is_wanted)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Closes the rest, and removes what their paths lead to. Says whether the store has anything
    /// that is of no use.
    pub fn let_go(self) -> bool {
        for (place, _) in &self.sockets {
            tracing::info!("no longer served: {place}");
            if let Place::Unix(path) = place
                && is_socket(path)
            {
                // The directory may be only root's.
                let _ = std::fs::remove_file(path);
            }
        }
        self.was_useless || !self.sockets.is_empty()
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn found(count: usize) -> (Found, Vec<SocketAddr>) {
        let sockets = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let sockets: Vec<OwnedFd> = sockets.map(OwnedFd::from).collect();
        let place = |socket: &OwnedFd| Place::of(socket).unwrap().unwrap();
        let places: Vec<Place> = sockets.iter().map(place).collect();
        let addresses = places.iter().map(|place| match place {
            Place::Tcp(address) => *address,
            Place::Unix(_) => unreachable!("only TCP was bound"),
        });
        let addresses = addresses.collect();
        let sockets = sockets.into_iter().map(Socket::from);
        let found = Found {
            sockets: places.into_iter().zip(sockets).collect(),
            was_useless: false,
        };
        (found, addresses)
    }

    #[test]
    fn an_address_has_its_own_socket_once() {
        let (mut found, addresses) = found(2);
        assert!(found.tcp(addresses[1], &addresses).is_some());
        assert!(found.tcp(addresses[1], &addresses).is_none());
        assert!(
            found
                .tcp("127.0.0.2:1".parse().unwrap(), &addresses)
                .is_none()
        );
        assert!(found.let_go(), "one is left");
    }

    #[test]
    fn any_port_is_one_that_nobody_names() {
        let (mut found, addresses) = found(2);
        let any = "127.0.0.1:0".parse().unwrap();
        let named = &addresses[..1];
        let taken = found.tcp(any, named).unwrap();
        assert_eq!(taken.local_addr().unwrap().as_socket(), Some(addresses[1]));
        assert!(found.tcp(any, named).is_none());
        assert!(found.tcp("[::1]:0".parse().unwrap(), named).is_none());
    }
}
