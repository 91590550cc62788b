//! The acceptor: accepts in the main thread, asks `access` who it is, and hands each connection to the next
//! worker in turn; at a planned end it has them parked, and a successor's goes on with them.
//!
//! [`accept_loop`] serves one listener; [`Acceptor::park_all`] and [`Acceptor::go_on`] are the two sides of
//! `handover`.
//!
//! Invariants:
//! - above `-c` connections a new one is closed, and told why where text alone is spoken;
//! - whom the access rules refuse is closed before a byte of it is read, and is not answered at all;
//! - running out of descriptors or memory pauses accepting; it neither spins nor ends the server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::access::{self, Access, Admission, Decision, Refusal};
use super::connection::{self, Connection, ParkedConnection};
use super::handover::connections::{Arrived, Lot, Newcomer, UnderWay};
use super::handover::state::Client;
use super::listener::{Accepted, Listener, Place, Source};
use super::peer::Unnamed;
use super::stream::Stream;
use super::tls::{self, Tls, Verify};
use super::worker::{Worker, WorkerThread};
use super::{Security, StartError, user_database};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::protocol::codec::Protocol;
use crate::stats::connections::{self, Address, State};
use crate::stats::services::Service;

/// How long accepting pauses when there are no descriptors or memory left.
const PAUSE: Duration = Duration::from_millis(100);

/// New connections that wait until it is known which groups their users are in.
const UNDECIDED_MAX: usize = 256;

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
    /// One for each connection that waits until the groups of its user are known.
    undecided: Mutex<JoinSet<()>>,
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
            undecided: Mutex::default(),
        }
    }

    /// Has every plain connection parked, and gives what they are left in, and how many connections there
    /// were. Those of TLS are served on.
    pub async fn park_all(&self) -> (Arc<Lot>, usize) {
        let mut undecided = std::mem::take(&mut *self.undecided.lock());
        undecided.shutdown().await;
        let clients = self.engine.stats().connections.clients();
        for connection in &clients {
            connection.park();
        }
        self.lot.wait_for_all().await;
        (Arc::clone(&self.lot), clients.len())
    }

    /// Goes on with the connections of the process before that came in on these listeners. Called before
    /// anything is accepted. Does not block.
    pub fn go_on(self: &Arc<Acceptor>, arrived: Arrived, listeners: &[Arc<Listener>]) {
        if let Some(totals) = arrived.totals() {
            self.engine.inherit(totals);
        }
        let (all, mut gone_on) = (arrived.len(), 0);
        for newcomer in arrived {
            let goes_on = match newcomer {
                Some(newcomer) => self.go_on_with(newcomer, listeners),
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

    /// Goes on with a connection, if there is still a listener like its own, and the rules admit it or may yet.
    fn go_on_with(self: &Arc<Acceptor>, newcomer: Newcomer, listeners: &[Arc<Listener>]) -> bool {
        let Newcomer { socket, known } = newcomer;
        let Ok(place) = Place::of(&socket) else {
            // Its peer has left, or it is no connection at all.
            return false;
        };
        let (client, parked) = known.unzip();
        let named = |listener: &&Arc<Listener>| {
            let name = client.as_ref().map(|client| &*client.listener);
            name == Some(&*listener.name)
        };
        let own = listeners.iter().find(named);
        let own = own.or_else(|| listeners.iter().find(|listener| listener.has(&place)));
        let Some(listener) = own.filter(|listener| listener.security == Security::Plain) else {
            return false;
        };
        let Ok(socket) = place.accepted(socket, listener.is_unix) else {
            return false;
        };
        let uid = client.as_ref().and_then(|client| client.uid);
        let decision = self.access.reconsider(uid, socket.ends());
        let begin = Begin {
            parked,
            last_command: client.map(|client| client.last_command),
        };
        match decision {
            Decision::Made(decided) => self.receive((socket, begin), listener, decided),
            Decision::AskGroups(uid) => {
                self.decide_later((socket, begin), listener, uid);
                true
            }
        }
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
        if self.access.asks() {
            let lookups = &self.engine.stats().server.peer_lookups;
            lookups.fetch_add(1, Relaxed);
        }
        self.access.admit(match socket {
            Accepted::Tcp(stream, ends) => access::Socket::Tcp(stream, *ends),
            Accepted::Unix(stream) => access::Socket::Unix(stream),
        })
    }

    /// Decides on a connection that was accepted, at once or once the groups of its user are known.
    fn consider(self: &Arc<Acceptor>, socket: Accepted, listener: &Arc<Listener>) {
        let begun = (socket, Begin::default());
        match self.admit(&begun.0) {
            Decision::Made(decided) => {
                self.receive(begun, listener, decided);
            }
            Decision::AskGroups(uid) if self.undecided_count() >= UNDECIDED_MAX => {
                let why = io::Error::other("too many wait for that");
                self.receive(begun, listener, Err(Refusal::Groups(uid, why)));
            }
            Decision::AskGroups(uid) => self.decide_later(begun, listener, uid),
        }
    }

    /// Decides on a connection once the groups of its user are known; others are accepted meanwhile.
    fn decide_later(
        self: &Arc<Acceptor>,
        (socket, begin): (Accepted, Begin),
        listener: &Arc<Listener>,
        uid: u32,
    ) {
        let undecided = Undecided {
            connection: Some((socket, begin)),
            listener: Arc::clone(listener),
            uid,
            under_way: UnderWay::new(&self.lot),
        };
        let access = Arc::clone(&self.access);
        // A strong one would keep the workers from being joined at the end.
        let acceptor = Arc::downgrade(self);
        self.undecided.lock().spawn(async move {
            let decided = access.settle(Decision::AskGroups(uid)).await;
            if let Some(acceptor) = acceptor.upgrade() {
                undecided.receive(&acceptor, decided);
            }
        });
    }

    /// How many connections wait to be decided on.
    fn undecided_count(&self) -> usize {
        let mut tasks = self.undecided.lock();
        while tasks.try_join_next().is_some() {}
        tasks.len()
    }

    /// Serves a connection that was decided on, or turns it away. Says whether it is served.
    fn receive(
        &self,
        (socket, begin): (Accepted, Begin),
        listener: &Listener,
        decided: Result<Admission, Refusal>,
    ) -> bool {
        match decided {
            Err(refusal) => self.note_refused(refusal, listener),
            Ok(_) if self.is_full() => self.reject((socket, &begin), listener),
            Ok(admission) => {
                self.hand_over(socket, listener, admission, begin);
                return true;
            }
        }
        false
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
        let client = client(&socket, listener, admission, &begin);
        let mut info = client.enter(&listener.name);
        info.service = self.service_of(admission.uid, begin.last_command.is_none());
        let info = Arc::new(info);
        tracing::debug!("{} came in on {}", info.peer, listener.name);
        let guard = Counted::new(&self.engine, &info, begin.last_command.is_none());
        let worker = Arc::clone(&target.worker);
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
            (socket, _) => {
                let under_way = UnderWay::new(&self.lot);
                target.runtime.spawn(async move {
                    let _guard = guard;
                    if let Ok(stream) = Stream::new(socket.into()) {
                        let parked = begin.parked;
                        serve_plain(stream, protocol, worker, info, (parked, under_way)).await;
                    }
                })
            }
        };
    }

    /// The service that a user's connection counts for. The user's name is looked up by the way.
    fn service_of(&self, uid: Option<u32>, is_new: bool) -> Service {
        let services = &self.engine.stats().services;
        let service = services.of(uid.filter(|_| self.access.names_services()));
        if is_new {
            services.count_accepted(service);
        }
        if let Some(uid) = services.wants_name(service, Clock::System.now().seconds) {
            let engine = Arc::clone(&self.engine);
            tokio::task::spawn_blocking(move || {
                engine
                    .stats()
                    .services
                    .set_name(uid, user_database::name_of(uid));
            });
        }
        service
    }

    fn is_full(&self) -> bool {
        self.engine.stats().server.curr_connections.load(Relaxed) >= self.connections_max
    }

    /// Turns a client away, with a word where it is known to understand it: keystonemiddleware's binary
    /// client would take one for a broken frame, and a close for a miss.
    fn reject(&self, (mut socket, begin): (Accepted, &Begin), listener: &Listener) {
        self.engine
            .stats()
            .server
            .rejected_connections
            .fetch_add(1, Relaxed);
        let is_text = listener.protocol == Protocol::Text;
        // One of the process before may be in the middle of an answer.
        if is_text && listener.security == Security::Plain && begin.last_command.is_none() {
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
async fn serve_plain(
    mut stream: Stream,
    protocol: Protocol,
    worker: Arc<Worker>,
    info: Arc<connections::Connection>,
    (parked, under_way): (Option<Box<ParkedConnection>>, UnderWay),
) {
    let served = serve_or_park(&mut stream, protocol, &worker, &info, parked).await;
    // An error of the socket is the peer's business.
    if let Ok(Some(parked)) = served {
        under_way.leave(stream.into_socket(), Client::of(&info), parked);
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

/// Whose a connection is, as it is handed on and stands in the register.
fn client(socket: &Accepted, listener: &Listener, admission: Admission, begin: &Begin) -> Client {
    Client {
        listener: listener.name.to_string(),
        peer: socket.ends().map(|ends| ends.peer),
        uid: admission.uid,
        read_only: admission.read_only,
        last_command: begin
            .last_command
            .unwrap_or_else(|| Clock::System.now().seconds),
    }
}

/// A connection on which is not decided; it is left to a successor if nobody here comes to do it.
struct Undecided {
    connection: Option<(Accepted, Begin)>,
    listener: Arc<Listener>,
    uid: u32,
    under_way: UnderWay,
}

impl Undecided {
    fn receive(mut self, acceptor: &Acceptor, decided: Result<Admission, Refusal>) {
        if let Some(connection) = self.connection.take() {
            acceptor.receive(connection, &self.listener, decided);
        }
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        let Some((socket, begin)) = self.connection.take() else {
            return;
        };
        let nothing_yet = Admission {
            uid: Some(self.uid),
            read_only: true,
        };
        let client = client(&socket, &self.listener, nothing_yet, &begin);
        let parked = begin.parked.map(|parked| *parked).unwrap_or_default();
        if self.listener.security == Security::Plain {
            self.under_way.leave(socket.into(), client, parked);
        }
    }
}

/// Accepts from one listener until its future is dropped.
///
/// # Errors
/// If the socket cannot be used at all.
pub async fn accept_loop(
    listener: Arc<Listener>,
    acceptor: Arc<Acceptor>,
) -> Result<(), StartError> {
    let source =
        Source::new(&listener).map_err(|error| StartError::socket(&listener.name, error))?;
    let _registered = acceptor.register(&listener);
    let mut paused = false;
    loop {
        match source.accept().await {
            Ok(socket) => {
                paused = false;
                acceptor.consider(socket, &listener);
            }
            Err(error) if is_exhaustion(&error) => {
                // Said once, however long it lasts.
                if !std::mem::replace(&mut paused, true) {
                    let name = &listener.name;
                    tracing::warn!(listener = %name, %error, "accepting pauses: raise the limit of open files or lower -c");
                }
                acceptor.pause().await;
            }
            // The peer went away between its handshake and ours.
            Err(_) => {}
        }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .contains(&errno.unwrap_or(Errno::INTR))
}
