//! Listening sockets: bound all or none, or the process before's; and what comes in on them.
//!
//! [`Listener::bind_tcp`] runs before root is dropped, [`Listener::bind_unix`] after, so that the
//! socket file belongs to the user that serves it. `acceptor` takes what [`Source`] accepts.
//!
//! Invariant: a socket file that somebody serves is nobody's to replace.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};

use super::peer::Ends;
use super::socket_file::SocketFile;
use super::tls::Verify;
use super::{Listen, Security, UnixSocket};
use crate::protocol::codec::Protocol;

/// A bound socket, and how `stats conns` names it.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// The address, as `tcp:127.0.0.1:11211` or `unix:/path`.
    pub name: Arc<str>,
    /// Whether it is a unix socket.
    pub is_unix: bool,
    /// What its clients may speak.
    pub protocol: Protocol,
    /// How it is encrypted, if it is.
    pub security: Security,
}

impl Listener {
    /// Binds a TCP address and listens on it.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn bind_tcp(listen: &Listen, backlog: i32) -> io::Result<Listener> {
        let address = listen.addr;
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(backlog)?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Listener {
            socket: socket.into(),
            name: format!("tcp:{local}").into(),
            is_unix: false,
            protocol: listen.protocol,
            security: listen.security,
        })
    }

    /// Takes a socket that somebody else made listen.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn adopt(socket: Socket, protocol: Protocol, security: Security) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let path = address.as_pathname().unwrap_or(Path::new(""));
        let name = match address.as_socket() {
            Some(tcp) => format!("tcp:{tcp}"),
            None => format!("unix:{}", path.display()),
        };
        Ok(Listener {
            socket: socket.into(),
            name: name.into(),
            is_unix: address.is_unix(),
            protocol,
            security,
        })
    }

    /// Takes a socket of the process before, with the queue that is asked for now.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn inherit(
        socket: Socket,
        (protocol, security): (Protocol, Security),
        backlog: i32,
    ) -> io::Result<Listener> {
        socket.listen(backlog)?;
        Listener::adopt(socket, protocol, security)
    }

    /// The socket, for handing it on to another process.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Where it listens, if that is TCP.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        SockRef::from(&self.socket).local_addr().ok()?.as_socket()
    }

    /// Binds a unix socket and listens on it. A socket file that nobody listens on any more is
    /// replaced; anything else at that path is left alone.
    ///
    /// # Errors
    /// Those of the socket calls; `AddrInUse` if a server listens there, `AlreadyExists` if the
    /// path is no socket.
    pub fn bind_unix(options: &UnixSocket, backlog: i32) -> io::Result<(Listener, SocketFile)> {
        let path = options.path.as_path();
        remove_dead_socket(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let address = SockAddr::unix(path)?;
        // Nobody may connect before the mode is what was asked for.
        let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
        let bound = socket.bind(&address);
        rustix::process::umask(mask);
        bound?;
        let file = SocketFile::of(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(options.mode))?;
        socket.listen(backlog)?;
        Ok((
            Listener::adopt(socket, options.protocol, Security::Plain)?,
            file,
        ))
    }

    /// Takes the unix socket of the process before, whose file may have another mode now.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn inherit_unix(
        socket: Socket,
        options: &UnixSocket,
        backlog: i32,
    ) -> io::Result<(Listener, SocketFile)> {
        let path = options.path.as_path();
        let mut file = SocketFile::of(path)?;
        // Until this process serves: if it does not, the next goes on with it.
        file.leave();
        if let Err(error) = std::fs::set_permissions(path, Permissions::from_mode(options.mode)) {
            let mode = std::fs::metadata(path).map(|file| file.permissions().mode() & 0o7777);
            if mode.ok() != Some(options.mode) {
                let path = path.display();
                tracing::warn!(
                    "{path} keeps the mode that it has: {error}; it is another user's, remove it and restart"
                );
            }
        }
        let served = (options.protocol, Security::Plain);
        Ok((Listener::inherit(socket, served, backlog)?, file))
    }

    /// Whether a connection at this place came in here.
    pub fn has(&self, place: &Place) -> bool {
        let Ok(own) = SockRef::from(&self.socket).local_addr() else {
            return false;
        };
        match place {
            Place::Tcp(ends) => own.as_socket().is_some_and(|own| {
                own.port() == ends.local.port()
                    && (own.ip().is_unspecified() || own.ip() == ends.local.ip())
            }),
            Place::Unix(path) => path.is_some() && own.as_pathname() == path.as_deref(),
        }
    }

    /// The same for the log: where it listens, and how it is served.
    pub fn described(&self) -> String {
        let security = match self.security {
            Security::Plain => "",
            Security::Tls(Verify::Nobody) => " with TLS",
            Security::Tls(Verify::Shown) => " with TLS, certificates if clients have them",
            Security::Tls(Verify::Everybody) => " with TLS and clients' certificates",
        };
        let protocol = match self.protocol {
            Protocol::Auto => "",
            Protocol::Text => " for the text protocol alone",
            Protocol::Binary => " for the binary protocol alone",
        };
        format!("{}{security}{protocol}", self.name)
    }
}

fn remove_dead_socket(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Where a connected socket is.
pub enum Place {
    /// Between these addresses.
    Tcp(Ends),
    /// The path that it came in on.
    Unix(Option<PathBuf>),
}

impl Place {
    /// Where this one is.
    ///
    /// # Errors
    /// Those of the socket calls, for one that is not connected.
    pub fn of(socket: &OwnedFd) -> io::Result<Place> {
        let socket = SockRef::from(socket);
        let (local, peer) = (socket.local_addr()?, socket.peer_addr()?);
        Ok(match (peer.as_socket(), local.as_socket()) {
            (Some(peer), Some(local)) => Place::Tcp(Ends::new(peer, local)),
            _ => Place::Unix(local.as_pathname().map(Path::to_path_buf)),
        })
    }

    /// The socket as one that was accepted.
    ///
    /// # Errors
    /// Those of the socket calls; `InvalidData` for one of another kind than its listener.
    pub fn accepted(&self, socket: OwnedFd, is_unix: bool) -> io::Result<Accepted> {
        SockRef::from(&socket).set_nonblocking(true)?;
        match self {
            Place::Tcp(ends) if !is_unix => Ok(Accepted::Tcp(socket.into(), *ends)),
            Place::Unix(_) if is_unix => Ok(Accepted::Unix(socket.into())),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// An accepted socket, belonging to no runtime yet.
pub enum Accepted {
    /// On TCP, between these addresses.
    Tcp(std::net::TcpStream, Ends),
    /// On a unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl From<Accepted> for OwnedFd {
    fn from(accepted: Accepted) -> OwnedFd {
        match accepted {
            Accepted::Tcp(stream, _) => stream.into(),
            Accepted::Unix(stream) => stream.into(),
        }
    }
}

impl Accepted {
    /// Its two addresses, on TCP.
    pub fn ends(&self) -> Option<Ends> {
        match self {
            Accepted::Tcp(_, ends) => Some(*ends),
            Accepted::Unix(_) => None,
        }
    }

    /// Writes a line if the socket takes it at once.
    pub fn say(&mut self, line: &[u8]) {
        use std::io::Write;
        // A peer that is turned away and does not even listen loses nothing more.
        let _ = match self {
            Accepted::Tcp(stream, _) => stream.write(line),
            Accepted::Unix(stream) => stream.write(line),
        };
    }
}

/// A listener within the runtime.
pub enum Source {
    /// One of TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl Source {
    /// Its own copy of the listener's socket.
    ///
    /// # Errors
    /// Those of duplicating it, and of entering it in the runtime.
    pub fn new(listener: &Listener) -> io::Result<Source> {
        let socket = listener.socket.try_clone()?;
        Ok(if listener.is_unix {
            Source::Unix(UnixListener::from_std(socket.into())?)
        } else {
            Source::Tcp(TcpListener::from_std(socket.into())?)
        })
    }

    /// The next connection, ready for small answers and for peers that vanish. Nothing is lost if the future is
    /// dropped.
    ///
    /// # Errors
    /// Those of accept(2), and of the calls on a socket whose peer has left.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Source::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let ends = Ends::new(peer, stream.local_addr()?);
                let stream = Socket::from(stream.into_std()?);
                stream.set_tcp_nodelay(true)?;
                stream.set_tcp_keepalive(&TcpKeepalive::new())?;
                Ok(Accepted::Tcp(stream.into(), ends))
            }
            Source::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Unix(stream.into_std()?))
            }
        }
    }
}
