//! Floor 4: sockets, threads, signals: the engine made a daemon.
//!
//! [`run`] is the life of the process: limits, sockets, another user, the store, the workers; then
//! waiting for a signal; then finishing what was begun.
//! `manager` tells the service manager about each step; `handover` takes what the process before has left, and
//! leaves the same to the next.
//!
//! ```text
//! acceptor ── accepts, asks access (who is it? peer) ──> worker (one thread, one runtime)
//!                           └─ connection: recv ─> session ─> send
//!                                                    └─ protocol::decode ─> engine ─> protocol::encode
//! ```
//!
//! Invariants:
//! - nothing is served before everything that may fail has succeeded;
//! - every error of the start names the setting, and what would do.

mod acceptor;
pub mod access;
mod admin;
pub mod auth;
pub mod budget;
mod complaint;
pub mod connection;
pub mod handover;
mod hosts;
mod listener;
pub mod log;
mod manager;
pub mod output;
mod page;
mod peer;
mod pid_file;
mod port_file;
mod process;
pub mod reload;
pub mod session;
mod signals;
mod socket_file;
mod start;
mod stream;
pub mod tls;
mod user_database;
pub mod worker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::engine::{self, Certificates, Engine, Housekeeper};
use crate::protocol::codec::Protocol;
use crate::stats::memcached::Process;
use crate::store;
use acceptor::Acceptor;
use access::Access;
use admin::Admin;
use admin::http_port::HttpPort;
use auth::Users;
use budget::Budget;
use handover::connections::Arrived;
use handover::fd_store::FdStore;
use handover::{Bequest, Inherited, Program, exec};
use hosts::Hosts;
use listener::Listener;
pub use manager::before_another_start;
use reload::{Fresh, Reload, Reloader};
use signals::Signals;
use socket_file::SocketFile;
use start::{Sockets, lock_memory, prepare};
pub use start::{StartError, check_files};
use worker::{HAND_ON_WITHIN, STOP_WITHIN, Worker, WorkerThread};

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 is any free one.
    pub addr: SocketAddr,
    /// What its clients may speak.
    pub protocol: Protocol,
    /// How it is encrypted, if it is.
    pub security: Security,
    /// Whether a machine that does not have this address at all fails the start.
    pub required: bool,
}

/// What clients of an address speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// The protocol, as it is.
    Plain,
    /// TLS, with certificates of these clients.
    Tls(tls::Verify),
}

/// A unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// Where it lies.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// What its clients may speak.
    pub protocol: Protocol,
}

/// The HTTP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// Its address.
    pub addr: SocketAddr,
    /// Whether it was asked for, so that failing to bind it fails the start.
    pub required: bool,
    /// Names under which it may be asked, beside localhost and its addresses.
    pub hosts: Vec<String>,
}

/// The admin socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSocketOptions {
    /// Its path.
    pub path: PathBuf,
    /// Whether it was asked for, so that failing to bind it fails the start.
    pub required: bool,
}

/// What the server is told by the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// TCP addresses.
    pub listen: Vec<Listen>,
    /// Whether they were asked for, and are not the default ones.
    pub listen_asked: bool,
    /// A unix socket, never encrypted.
    pub unix: Option<UnixSocket>,
    /// Clients are counted by their users, who are asked for also where no rules do.
    pub service_names: bool,
    /// Who may connect, and write; without rules, everybody who can connect.
    pub access: Option<access::Rules>,
    /// The file of users and passwords; without one, everybody may speak.
    pub auth_file: Option<PathBuf>,
    /// The binary protocol may be spoken by those users, after SASL.
    pub sasl: bool,
    /// Failures are told to keystonemiddleware too, by their status in the binary protocol.
    pub binary_strict: bool,
    /// What TLS is made from; needed where an address asks for it.
    pub tls: Option<tls::Options>,
    /// Seconds after which a silent connection is closed; without them, never.
    pub idle_timeout_seconds: Option<u32>,
    /// Worker threads.
    pub threads: usize,
    /// Most client connections at once.
    pub connections_max: usize,
    /// Connections that the kernel queues before they are accepted.
    pub backlog: i32,
    /// Commands of one connection in a row.
    pub requests_per_event: u32,
    /// Bytes for all connection buffers together.
    pub buffer_budget_bytes: usize,
    /// The HTTP port, if there is one.
    pub http: Option<HttpOptions>,
    /// The admin socket, if there is one.
    pub admin_socket: Option<AdminSocketOptions>,
    /// The user to become.
    pub user: Option<String>,
    /// Where to write the process's number.
    pub pid_file: Option<PathBuf>,
    /// Where to write the TCP ports.
    pub port_file: Option<PathBuf>,
    /// Keep all memory from being swapped.
    pub lock_memory: bool,
    /// Go into the background.
    pub daemonize: bool,
}

/// Where the process comes from: what can be read, and executed, again.
pub struct Origin {
    /// What runs, and how it was started.
    pub program: Program,
    /// Reads the configuration again, when SIGHUP asks for that.
    pub reload: Arc<Reload>,
    /// What a successor can go on with if its own configuration cannot be used, in `main`'s own form.
    pub record: Vec<u8>,
}

/// Serves until a signal, or a client where `-A` allows it, ends it; goes on with what is `inherited`.
///
/// # Errors
/// What could not be had at the start; nothing is left half started, and what is inherited is as it was, for
/// another try. Or why serving ended; then nothing is left of it.
pub fn run(
    options: Options,
    mut engine_options: engine::Options,
    store_options: &store::Options,
    origin: Origin,
    inherited: &mut Inherited,
) -> Result<(), StartError> {
    for remark in inherited.remarks() {
        tracing::warn!("{remark}");
    }
    let begun_with = Fresh {
        memory_limit_bytes: store_options.memory_limit_bytes,
        verbosity: engine_options.verbosity.load(Relaxed),
        access: options.access.clone(),
        remarks: Vec::new(),
        takes_restart: false,
        record: origin.record,
    };
    let fd_store = Arc::new(FdStore::open(inherited));
    let sockets = prepare(&options, inherited)?;
    let tls = sockets.tls.clone();
    engine_options.certificates = tls.map(|tls| tls as Arc<dyn Certificates>);
    let store = handover::heap::store(store_options, inherited, &fd_store)?;
    let process = Process {
        started: Clock::System.now(),
        connections_max: options.connections_max,
        threads: options.threads,
    };
    let engine = Arc::new(Engine::new(store, engine_options, process));
    let started = Started {
        options: &options,
        sockets,
        engine: Arc::clone(&engine),
        fd_store,
    };
    let served = started.serve(begun_with, (origin.program, origin.reload), inherited);
    if served.is_err() {
        // However short its life was, it was not the heap that ended it.
        engine.prove_heap();
    }
    served
}

/// What has been had by the time that there is a store.
struct Started<'o> {
    options: &'o Options,
    sockets: Sockets,
    engine: Arc<Engine>,
    fd_store: Arc<FdStore>,
}

impl Started<'_> {
    /// Serves, once the rest of what may fail has succeeded.
    fn serve(
        self,
        begun_with: Fresh,
        (program, reload): (Program, Arc<Reload>),
        inherited: &mut Inherited,
    ) -> Result<(), StartError> {
        let Started {
            options,
            mut sockets,
            engine,
            fd_store,
        } = self;
        let access = Access::new(options.access.clone(), options.service_names)
            .map_err(StartError::access)?;
        let reloader = Reloader {
            source: (reload, begun_with),
            engine: Arc::clone(&engine),
            users: sockets.users.clone(),
            tls: sockets.tls.clone(),
            access: Arc::new(access),
            fd_store: Arc::clone(&fd_store),
        };
        lock_memory(options)?;
        // All that is likely to fail has been tried, so that it is said while somebody listens.
        if options.daemonize {
            go_into_background(options, &engine, inherited.is_successor())?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_start(|| drop(signals::hold()))
            .build()
            .map_err(StartError::system)?;
        let signals = {
            let _entered = runtime.enter();
            Signals::new().map_err(StartError::system)?
        };
        // Whoever reads the process's number may send it a signal at once.
        if let Some(pid_file) = &mut sockets.pid_file {
            let written = pid_file.write();
            written.map_err(|error| StartError::pid_file(&options.pid_file, error))?;
        }
        let bequest = Bequest { program, fd_store };
        let served = serve(
            options,
            sockets,
            engine,
            (signals, reloader),
            (bequest, inherited),
        );
        let served = runtime.block_on(served);
        // A configuration that is being read again is not waited for.
        runtime.shutdown_background();
        served
    }
}

/// The first that a process does: nobody else may look into it, and signals wait until they are heard.
///
/// # Errors
/// Those of prctl, setrlimit and pthread_sigmask.
pub fn begin_process() -> io::Result<()> {
    process::forbid_core_dumps()?;
    signals::hold()
}

/// Carries out `-d`. A successor is where the process before was already, but for its folder.
fn go_into_background(
    options: &Options,
    engine: &Engine,
    is_successor: bool,
) -> Result<(), StartError> {
    if is_successor {
        return std::env::set_current_dir("/").map_err(StartError::system);
    }
    // As in memcached, whoever asks for more lines gets to see them.
    let keeps_log = engine.verbosity() > 0;
    nix::unistd::daemon(false, keeps_log).map_err(|error| StartError::system(error.into()))?;
    // A child does not inherit its parent's locks.
    lock_memory(options)
}

/// How serving ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The process does.
    Stop,
    /// The program is executed anew.
    Replace,
}

async fn serve(
    options: &Options,
    sockets: Sockets,
    engine: Arc<Engine>,
    (mut signals, reloader): (Signals, Reloader),
    (bequest, inherited): (Bequest, &mut Inherited),
) -> Result<(), StartError> {
    let Sockets {
        listeners,
        is_activated,
        mut socket_file,
        unwanted,
        http,
        admin_socket,
        tls,
        users,
        // Its drop removes it, in the end.
        pid_file: _pid_file,
    } = sockets;
    let http = http.map(TcpListener::from_std).transpose();
    let http = http.map_err(StartError::system)?;
    let hosts = options.http.as_ref().map(|http| Hosts::new(&http.hosts));
    let admin = Arc::new(Admin::new(Arc::clone(&engine)));
    let (stop, stopping) = watch::channel(None);
    let workers = start_workers(options, &engine, users.as_ref(), &stopping)?;
    let housekeeper = Housekeeper::start(Arc::clone(&engine)).map_err(StartError::system)?;
    // Nothing fails any more.
    let arrived = Arrived::take(inherited, &bequest.fd_store);
    let good = (&*reloader.source.1.record, &reloader.files());
    bequest.settle(inherited, (&listeners, is_activated), unwanted, good);
    socket_file.iter_mut().for_each(SocketFile::take);
    let listeners: Vec<_> = listeners.into_iter().map(Arc::new).collect();
    let acceptor = Arc::new(Acceptor::new(
        Arc::clone(&engine),
        workers,
        options.connections_max,
        tls,
        Arc::clone(&reloader.access),
    ));
    if options.access.is_some() {
        reloader.access.tell();
    }
    acceptor.go_on(arrived, &listeners);
    let mut tasks = begin(listeners, &acceptor);
    if let Some(http) = http {
        let port = HttpPort::new(Arc::clone(&admin), hosts.unwrap_or_default());
        tasks.spawn(async move {
            port.serve(http).await;
            Ok(())
        });
    }
    if let Some(socket) = admin_socket {
        tasks.spawn(async move { socket.serve(admin).await.map_err(StartError::system) });
    }
    manager::ready();
    let ended = tokio::select! {
        () = signals.stop.wait() => Ok(End::Stop),
        () = reload_at(signals.hangup, reloader) => Ok(End::Stop),
        () = engine.shutdown_asked() => Ok(End::Stop),
        () = exec::asked(signals.replace, &bequest.program, options) => Ok(End::Replace),
        Some(Ok(ended)) = tasks.join_next() => ended.map(|()| End::Stop),
    };
    let is_replaced = matches!(ended, Ok(End::Replace));
    if is_replaced {
        let path = bequest.program.path.display();
        tracing::info!("restarting: {path} is executed anew, connections are handed on");
    } else {
        manager::stopping();
        tracing::info!(
            "stopping: {}",
            match bequest.fd_store.is_there() {
                true => "connections are left to the next process, if one follows at once",
                false => "requests that were begun are finished",
            }
        );
    }
    let hands_on = is_replaced || bequest.fd_store.is_there();
    if hands_on {
        socket_file.iter_mut().for_each(SocketFile::leave);
    } else {
        // Or they would listen on.
        drop(bequest.fd_store.take_held());
    }
    drop(socket_file);
    tasks.shutdown().await;
    let lot = match hands_on {
        true => Some(acceptor.park_all().await),
        false => None,
    };
    stop.send_replace(Some(match lot {
        Some(_) => HAND_ON_WITHIN,
        None => STOP_WITHIN,
    }));
    if let Some(acceptor) = Arc::into_inner(acceptor) {
        acceptor.join();
    }
    drop(housekeeper);
    // However short its life was, it was not the heap that ended it.
    engine.prove_heap();
    if let Some((lot, all)) = lot {
        lot.hand_on(all, engine.totals(), &bequest.fd_store);
    }
    if is_replaced {
        signals::hold().map_err(StartError::system)?;
        if !signals.stop.has_come().await {
            bequest.execute();
        }
    }
    ended.map(drop)
}

/// Serves clients and the manager's watchdog.
fn begin(
    listeners: Vec<Arc<Listener>>,
    acceptor: &Arc<Acceptor>,
) -> JoinSet<Result<(), StartError>> {
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tracing::info!("listening on {}", listener.described());
        tasks.spawn(acceptor::accept_loop(listener, Arc::clone(acceptor)));
    }
    if let Some(limit) = manager::watchdog() {
        let workers = acceptor.runtimes();
        tasks.spawn(async move {
            manager::keep_alive(workers, limit).await;
            Ok(())
        });
    }
    tasks
}

/// Reads again what can change while running, at each SIGHUP. Does not return.
async fn reload_at(mut hangup: Signal, mut reloader: Reloader) {
    loop {
        if hangup.recv().await.is_none() {
            // Not while there is a runtime.
            return std::future::pending().await;
        }
        manager::reloading();
        reloader.reload().await;
        manager::ready();
    }
}

fn start_workers(
    options: &Options,
    engine: &Arc<Engine>,
    users: Option<&Arc<Users>>,
    stopping: &watch::Receiver<Option<Duration>>,
) -> Result<Vec<WorkerThread>, StartError> {
    let counters = &engine.stats().server;
    let half = options.buffer_budget_bytes / 2;
    let requests = Budget::counted(half, Arc::clone(&counters.request_buffer_bytes));
    let replies = Budget::counted(half, Arc::clone(&counters.reply_buffer_bytes));
    let held = Budget::plain(usize::try_from(engine.held_bytes_max()).unwrap_or(usize::MAX));
    let complaints = Arc::default();
    let worker = || Worker {
        engine: Arc::clone(engine),
        counters: engine.stats().register_worker(),
        requests: Arc::clone(&requests),
        replies: Arc::clone(&replies),
        held: Arc::clone(&held),
        requests_per_event: options.requests_per_event,
        idle_timeout_seconds: options.idle_timeout_seconds,
        users: users.cloned(),
        sasl: options.sasl,
        binary_strict: options.binary_strict,
        busy: AtomicUsize::new(0),
        complaints: Arc::clone(&complaints),
    };
    (0..options.threads)
        .map(|number| WorkerThread::start(number, worker(), stopping.clone()))
        .collect::<io::Result<_>>()
        .map_err(StartError::system)
}
