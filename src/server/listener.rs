//! Listening sockets: bound all or none, accepted from in the main thread.
//!
//! [`Listener::bind_tcp`] runs before root is dropped, [`Listener::bind_unix`] after, so that the
//! socket file belongs to the user that serves it. [`accept_loop`] hands each connection to the next
//! worker in turn.
//!
//! Invariants:
//! - above `-c` connections a new one is closed, and told why where text alone is spoken;
//! - whom the access rules refuse is closed before a byte of it is read, and is not answered at all;
//! - running out of descriptors or memory pauses accepting; it neither spins nor ends the server.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::access::{self, Access, Admission, Decision, Refusal};
use super::connection::{self, Connection, ParkedConnection};
use super::handover::connections::{Arrived, Lot, Newcomer, UnderWay};
use super::peer::{Ends, Unnamed};
use super::socket_file::SocketFile;
use super::tls::{self, Tls, Verify};
use super::worker::{Worker, WorkerThread};
use super::{Listen, Security, StartError, UnixSocket};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::protocol::codec::Protocol;
use crate::stats::connections::{self, Address, State};

/// How long accepting pauses when there are no descriptors or memory left.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections of one listener that wait until it is known which groups their users are in.
const WAITING_MAX: usize = 256;

/// A bound socket, and how `stats conns` names it.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    name: Arc<str>,
    is_unix: bool,
    protocol: Protocol,
    security: Security,
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

    /// The address, as `tcp:127.0.0.1:11211` or `unix:/path`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a connection at this place came in here.
    fn has(&self, place: &Place) -> bool {
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

/// Where accepted connections go.
#[derive(Debug)]
pub struct Acceptor {
    engine: Arc<Engine>,
    workers: Vec<WorkerThread>,
    next: AtomicUsize,
    connections_max: u64,
    tls: Option<Arc<Tls>>,
    access: Arc<Access>,
    lot: Arc<Lot>,
}

impl Acceptor {
    /// Hands connections that `access` admits to these workers, up to `connections_max` at once.
    pub fn new(
        engine: Arc<Engine>,
        workers: Vec<WorkerThread>,
        connections_max: usize,
        tls: Option<Arc<Tls>>,
        access: Arc<Access>,
    ) -> Acceptor {
        Acceptor {
            engine,
            workers,
            next: AtomicUsize::new(0),
            connections_max: connections_max as u64,
            tls,
            access,
            lot: Arc::default(),
        }
    }

    /// Has every plain connection parked, and gives what they are left in. Those of TLS are served on.
    pub async fn park_all(&self) -> Arc<Lot> {
        for connection in self.engine.stats().connections.clients() {
            connection.park();
        }
        self.lot.wait_for_all().await;
        Arc::clone(&self.lot)
    }

    /// Goes on with the connections of the process before that came in on these listeners. Called before
    /// anything is accepted.
    pub async fn go_on(&self, arrived: &mut Arrived, listeners: &[Listener]) {
        if let Some(totals) = arrived.totals() {
            self.engine.stats().inherit(totals);
        }
        let (all, mut gone_on) = (arrived.len(), 0);
        while let Some(newcomer) = arrived.next() {
            let goes_on = match newcomer {
                Some(newcomer) => self.go_on_with(newcomer, listeners).await,
                None => false,
            };
            gone_on += usize::from(goes_on);
        }
        if all > 0 {
            let closed = all - gone_on;
            tracing::info!(
                "connections of the process before: {gone_on} go on, {closed} are closed"
            );
        }
    }

    /// Goes on with a connection, if there is still a listener like its own, and the rules admit it.
    async fn go_on_with(&self, newcomer: Newcomer, listeners: &[Listener]) -> bool {
        let Newcomer { socket, known } = newcomer;
        let Ok(place) = Place::of(&socket) else {
            // Its peer has left, or it is no connection at all.
            return false;
        };
        let is_own = |listener: &&Listener| match &known {
            Some((client, _)) => client.listener == *listener.name,
            None => listener.has(&place),
        };
        let listener = listeners.iter().find(is_own);
        let Some(listener) = listener.filter(|listener| listener.security == Security::Plain)
        else {
            return false;
        };
        let Ok(socket) = place.accepted(socket, listener.is_unix) else {
            return false;
        };
        let uid = known.as_ref().and_then(|(client, _)| client.uid);
        let decision = self.access.reconsider(uid, socket.ends());
        let admission = match self.access.settle(decision).await {
            Ok(admission) if !self.is_full() => admission,
            Ok(_) => return false,
            Err(refusal) => {
                self.note_refused(refusal, listener);
                return false;
            }
        };
        let last_command = known.as_ref().map(|(client, _)| client.last_command);
        let parked = known.map(|(_, parked)| parked);
        self.hand_over(
            socket,
            listener,
            admission,
            Begin {
                parked,
                last_command,
            },
        );
        true
    }

    /// Where the workers' tasks are spawned.
    pub fn runtimes(&self) -> Vec<Handle> {
        let runtimes = self.workers.iter().map(|worker| &worker.runtime);
        runtimes.cloned().collect()
    }

    /// Waits for the workers to end.
    pub fn join(self) {
        self.workers.into_iter().for_each(WorkerThread::join);
    }

    /// Enters the listening socket itself, for as long as what this gives is kept.
    fn register(&self, listener: &Listener) -> Registered {
        let info = connections::Connection::new(
            Address::Named(Arc::clone(&listener.name)),
            None,
            State::Listening,
            Clock::System.now().seconds,
        );
        Registered::new(&self.engine, Arc::new(info))
    }

    /// Decides on a new connection. Never blocks.
    fn admit(&self, socket: &Accepted) -> Decision {
        if self.access.is_on() {
            let lookups = &self.engine.stats().server.peer_lookups;
            lookups.fetch_add(1, Relaxed);
        }
        self.access.admit(match socket {
            Accepted::Tcp(stream, ends) => access::Socket::Tcp(stream, *ends),
            Accepted::Unix(stream) => access::Socket::Unix(stream),
        })
    }

    /// Serves a connection that was decided on, or turns it away.
    fn receive(&self, socket: Accepted, listener: &Listener, decided: Result<Admission, Refusal>) {
        match decided {
            Err(refusal) => self.note_refused(refusal, listener),
            Ok(_) if self.is_full() => self.reject(listener, socket),
            Ok(admission) => self.hand_over(socket, listener, admission, Begin::default()),
        }
    }

    /// Counts a connection that was refused; the log has a line of it, unless there are many.
    fn note_refused(&self, refusal: Refusal, listener: &Listener) {
        let server = &self.engine.stats().server;
        server.access_refused.fetch_add(1, Relaxed);
        if let Refusal::Unnamed(unnamed) = &refusal {
            server.access_unnamed.fetch_add(1, Relaxed);
            let failed = matches!(unnamed, Unnamed::Unanswered(_));
            server
                .peer_lookup_failures
                .fetch_add(failed.into(), Relaxed);
        }
        self.access.complain("refused", refusal, &listener.name);
    }

    fn hand_over(&self, socket: Accepted, listener: &Listener, admission: Admission, begin: Begin) {
        let protocol = listener.protocol;
        let number = self.next.fetch_add(1, Relaxed) % self.workers.len();
        let target = &self.workers[number];
        let now = Clock::System.now().seconds;
        let info = Arc::new(connections::Connection::new(
            match &socket {
                Accepted::Tcp(_, ends) => Address::Tcp(ends.peer),
                Accepted::Unix(_) => Address::Named(Arc::clone(&listener.name)),
            },
            Some(Arc::clone(&listener.name)),
            State::Read,
            begin.last_command.unwrap_or(now),
        ));
        tracing::debug!("{} came in on {}", info.peer, listener.name);
        info.read_only.store(admission.read_only, Relaxed);
        if let Some(uid) = admission.uid {
            // Nobody has set it before.
            let _ = info.uid.set(uid);
        }
        let guard = Counted::new(&self.engine, &info, begin.last_command.is_none());
        let worker = Arc::clone(&target.worker);
        let under_way = || UnderWay::new(&self.lot);
        match (socket, listener.security) {
            (Accepted::Tcp(stream, _), Security::Tls(verify)) => {
                let tls = self.tls.clone();
                target.runtime.spawn(async move {
                    // The guard counts the handshake too.
                    let _guard = guard;
                    if let (Some(tls), Ok(stream)) = (tls, TcpStream::from_std(stream)) {
                        serve_secured(stream, (&tls, verify), protocol, worker, info).await;
                    }
                })
            }
            (Accepted::Tcp(stream, _), Security::Plain) => {
                let under_way = under_way();
                target.runtime.spawn(async move {
                    let _guard = guard;
                    if let Ok(stream) = TcpStream::from_std(stream) {
                        let parked = begin.parked;
                        serve_plain(stream, protocol, worker, info, (parked, under_way)).await;
                    }
                })
            }
            (Accepted::Unix(stream), _) => {
                let under_way = under_way();
                target.runtime.spawn(async move {
                    let _guard = guard;
                    if let Ok(stream) = UnixStream::from_std(stream) {
                        let parked = begin.parked;
                        serve_plain(stream, protocol, worker, info, (parked, under_way)).await;
                    }
                })
            }
        };
    }

    fn is_full(&self) -> bool {
        self.engine.stats().server.curr_connections.load(Relaxed) >= self.connections_max
    }

    /// Turns a client away, with a word where it is known to understand it: keystonemiddleware's binary
    /// client would take one for a broken frame, and a close for a miss.
    fn reject(&self, listener: &Listener, mut socket: Accepted) {
        self.engine
            .stats()
            .server
            .rejected_connections
            .fetch_add(1, Relaxed);
        let is_text = listener.protocol == Protocol::Text;
        if is_text && listener.security == Security::Plain {
            socket.say(b"ERROR Too many open connections\r\n");
        }
    }

    async fn pause(&self) {
        let server = &self.engine.stats().server;
        server.listen_disabled_num.fetch_add(1, Relaxed);
        tokio::time::sleep(PAUSE).await;
        server
            .time_in_listen_disabled_us
            .fetch_add(PAUSE.as_micros() as u64, Relaxed);
    }
}

/// Serves a client as it comes, from where it was parked, until it ends or is parked.
async fn serve_plain<S: PlainStream>(
    mut stream: S,
    protocol: Protocol,
    worker: Arc<Worker>,
    info: Arc<connections::Connection>,
    (parked, under_way): (Option<Box<ParkedConnection>>, UnderWay),
) {
    let served = serve_or_park(&mut stream, protocol, &worker, &info, parked).await;
    // An error of the socket is the peer's business.
    if let Ok(Some(parked)) = served
        && let Ok(socket) = stream.into_socket()
    {
        under_way.leave(socket, &info, parked);
    }
}

async fn serve_or_park<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    protocol: Protocol,
    worker: &Worker,
    info: &connections::Connection,
    parked: Option<Box<ParkedConnection>>,
) -> io::Result<Option<ParkedConnection>> {
    let mut connection = match parked {
        Some(parked) => Connection::resume(stream, protocol, worker, info, *parked)?,
        None => Connection::plain(stream, protocol, worker, info),
    };
    connection.serve().await
}

/// A stream of the runtime's that can be taken out of it.
trait PlainStream: AsyncRead + AsyncWrite + Unpin {
    fn into_socket(self) -> io::Result<OwnedFd>;
}

impl PlainStream for TcpStream {
    fn into_socket(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}

impl PlainStream for UnixStream {
    fn into_socket(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}

/// How a connection begins: anew, or where the process before has left it.
#[derive(Debug, Default)]
struct Begin {
    parked: Option<Box<ParkedConnection>>,
    /// The second of its last command.
    last_command: Option<u32>,
}

/// Serves a client once its handshake is done; one that fails is counted, and closed.
async fn serve_secured(
    stream: TcpStream,
    (tls, verify): (&Tls, Verify),
    protocol: Protocol,
    worker: Arc<Worker>,
    info: Arc<connections::Connection>,
) {
    let counters = &worker.engine.stats().server;
    let mut stream = match info.while_open(Box::pin(tls.accept(stream, verify))).await {
        Some(Ok(stream)) => stream,
        None => return,
        Some(Err(why)) => {
            counters.ssl_handshake_errors.fetch_add(1, Relaxed);
            let now = Clock::System.now().seconds;
            worker.complaints.of_handshake(&info.peer, &why, now);
            return;
        }
    };
    if tls::is_new_session(&stream) {
        counters.ssl_new_sessions.fetch_add(1, Relaxed);
    }
    let served = connection::serve(&mut stream, protocol, &worker, &info).await;
    // The kind that TLS gives to what it cannot read; a socket never does.
    if served.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
        counters.ssl_proto_errors.fetch_add(1, Relaxed);
    }
    tls::say_goodbye(stream).await;
}

/// Where a connected socket is.
enum Place {
    Tcp(Ends),
    /// The path that it came in on.
    Unix(Option<PathBuf>),
}

impl Place {
    /// # Errors
    /// Those of the socket calls, for one that is not connected.
    fn of(socket: &OwnedFd) -> io::Result<Place> {
        let socket = SockRef::from(socket);
        let (local, peer) = (socket.local_addr()?, socket.peer_addr()?);
        Ok(match (peer.as_socket(), local.as_socket()) {
            (Some(peer), Some(local)) => Place::Tcp(Ends::new(peer, local)),
            _ => Place::Unix(local.as_pathname().map(Path::to_path_buf)),
        })
    }

    /// The socket as one that was accepted.
    fn accepted(&self, socket: OwnedFd, is_unix: bool) -> io::Result<Accepted> {
        SockRef::from(&socket).set_nonblocking(true)?;
        match self {
            Place::Tcp(ends) if !is_unix => Ok(Accepted::Tcp(socket.into(), *ends)),
            Place::Unix(_) if is_unix => Ok(Accepted::Unix(socket.into())),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// An accepted socket, belonging to no runtime yet.
enum Accepted {
    Tcp(std::net::TcpStream, Ends),
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    /// Its two addresses, on TCP.
    fn ends(&self) -> Option<Ends> {
        match self {
            Accepted::Tcp(_, ends) => Some(*ends),
            Accepted::Unix(_) => None,
        }
    }

    /// Writes a line if the socket takes it at once.
    fn say(&mut self, line: &[u8]) {
        use std::io::Write;
        // A peer that is turned away and does not even listen loses nothing more.
        let _ = match self {
            Accepted::Tcp(stream, _) => stream.write(line),
            Accepted::Unix(stream) => stream.write(line),
        };
    }
}

/// A connection or a listening socket in the register, until it is dropped.
struct Registered {
    engine: Arc<Engine>,
    number: u64,
}

impl Registered {
    fn new(engine: &Arc<Engine>, info: Arc<connections::Connection>) -> Registered {
        Registered {
            number: engine.stats().connections.enter(info),
            engine: Arc::clone(engine),
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.engine.stats().connections.leave(self.number);
    }
}

/// A connection in the register and in the count, until it is dropped.
struct Counted(Registered);

impl Counted {
    /// Counts it in; one of the process before is in the total already.
    fn new(engine: &Arc<Engine>, info: &Arc<connections::Connection>, is_new: bool) -> Counted {
        let server = &engine.stats().server;
        server.curr_connections.fetch_add(1, Relaxed);
        server.total_connections.fetch_add(is_new.into(), Relaxed);
        Counted(Registered::new(engine, Arc::clone(info)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let server = &self.0.engine.stats().server;
        server.curr_connections.fetch_sub(1, Relaxed);
    }
}

/// Accepts from one listener until its future is dropped.
///
/// # Errors
/// If the socket cannot be used at all.
pub async fn accept_loop(listener: Listener, acceptor: Arc<Acceptor>) -> Result<(), StartError> {
    let listener = Arc::new(listener);
    let source =
        Source::new(&listener).map_err(|error| StartError::socket(&listener.name, error))?;
    let _registered = acceptor.register(&listener);
    let mut waiting = JoinSet::new();
    let mut paused = false;
    loop {
        let accepted = tokio::select! {
            accepted = source.accept() => accepted,
            Some(_) = waiting.join_next() => continue,
        };
        match accepted {
            Ok(socket) => {
                paused = false;
                match acceptor.admit(&socket) {
                    Decision::Made(decided) => acceptor.receive(socket, &listener, decided),
                    Decision::AskGroups(uid) if waiting.len() >= WAITING_MAX => {
                        let why = io::Error::other("too many wait for that");
                        acceptor.receive(socket, &listener, Err(Refusal::Groups(uid, why)));
                    }
                    decision @ Decision::AskGroups(_) => {
                        let decided = settle(Arc::clone(&acceptor.access), decision);
                        // A strong one would keep the workers from being joined at the end.
                        let acceptor = Arc::downgrade(&acceptor);
                        let listener = Arc::clone(&listener);
                        waiting.spawn(receive_later(acceptor, socket, listener, decided));
                    }
                }
            }
            Err(error) if is_exhaustion(&error) => {
                // Said once, however long it lasts.
                if !std::mem::replace(&mut paused, true) {
                    let name = listener.name();
                    tracing::warn!(listener = name, %error, "accepting pauses: raise the limit of open files or lower -c");
                }
                acceptor.pause().await;
            }
            // The peer went away between its handshake and ours.
            Err(_) => {}
        }
    }
}

async fn settle(access: Arc<Access>, decision: Decision) -> Result<Admission, Refusal> {
    access.settle(decision).await
}

/// Receives a connection once it is decided on; others are accepted meanwhile.
async fn receive_later(
    acceptor: Weak<Acceptor>,
    socket: Accepted,
    listener: Arc<Listener>,
    decided: impl Future<Output = Result<Admission, Refusal>>,
) {
    let decided = decided.await;
    if let Some(acceptor) = acceptor.upgrade() {
        acceptor.receive(socket, &listener, decided);
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .contains(&errno.unwrap_or(Errno::INTR))
}

enum Source {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Source {
    fn new(listener: &Listener) -> io::Result<Source> {
        let socket = listener.socket.try_clone()?;
        Ok(if listener.is_unix {
            Source::Unix(UnixListener::from_std(socket.into())?)
        } else {
            Source::Tcp(TcpListener::from_std(socket.into())?)
        })
    }

    async fn accept(&self) -> io::Result<Accepted> {
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
