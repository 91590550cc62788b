//! Floor 4: sockets, threads, signals: the engine made a daemon.
//!
//! [`run`] is the life of the process: limits, sockets, another user, the store, the workers; then
//! waiting for a signal; then finishing what was begun.
//!
//! ```text
//! listener ── accepts ──> worker (one thread, one runtime)
//!                           └─ connection: recv ─> session ─> send
//!                                                    └─ protocol::decode ─> engine ─> protocol::encode
//! ```
//!
//! Invariants:
//! - nothing is served before everything that may fail has succeeded;
//! - every error of the start names the setting, and what would do.

mod admin;
pub mod budget;
mod connection;
mod listener;
pub mod log;
pub mod output;
mod pid_file;
mod process;
pub mod session;
mod worker;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::engine::{self, Engine, Housekeeper};
use crate::stats::memcached::Process;
use crate::store::{self, Store};
use budget::Budget;
use listener::{Acceptor, Listener};
use pid_file::PidFile;
use worker::{Worker, WorkerThread};

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 is any free one.
    pub addr: SocketAddr,
    /// Whether a machine that does not have this address at all fails the start.
    pub required: bool,
}

/// A unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// Where it lies.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

/// The HTTP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// Its address.
    pub addr: SocketAddr,
    /// Whether it was asked for, so that failing to bind it fails the start.
    pub required: bool,
}

/// What the server is told by the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// TCP addresses.
    pub listen: Vec<Listen>,
    /// A unix socket.
    pub unix: Option<UnixSocket>,
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
    /// The user to become.
    pub user: Option<String>,
    /// Where to write the process's number.
    pub pid_file: Option<PathBuf>,
    /// Keep all memory from being swapped.
    pub lock_memory: bool,
    /// Go into the background.
    pub daemonize: bool,
}

/// Why the server could not start: the setting, what went wrong with it, and what would do.
#[derive(Debug)]
pub struct StartError {
    /// The setting's name in the configuration file.
    pub setting: &'static str,
    /// What went wrong.
    pub what: String,
    /// What would do.
    pub remedy: &'static str,
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: {}; {}",
            self.setting, self.what, self.remedy
        )
    }
}

impl std::error::Error for StartError {}

impl StartError {
    fn new(setting: &'static str, what: String, remedy: &'static str) -> StartError {
        StartError {
            setting,
            what,
            remedy,
        }
    }

    fn socket(name: &str, error: io::Error) -> StartError {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "stop the server that listens there, or choose another with -p or -l"
            }
            io::ErrorKind::PermissionDenied => {
                "choose a port from 1024 on, or start as root with -u USER"
            }
            io::ErrorKind::AddrNotAvailable => "name an address of this machine with -l",
            _ => "choose another with -l or -p",
        };
        StartError::new(
            "listen",
            format!("{name} cannot be listened on: {error}"),
            remedy,
        )
    }

    fn unix(path: &Path, error: io::Error) -> StartError {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "stop the server that listens there, or choose another path with -s"
            }
            io::ErrorKind::AlreadyExists => {
                "that path is no socket: remove it, or choose another with -s"
            }
            _ => "choose a path with -s in a directory that the user of -u may write",
        };
        let what = format!("{} cannot be listened on: {error}", path.display());
        StartError::new("unix_socket", what, remedy)
    }

    fn pid_file(path: &Option<PathBuf>, error: io::Error) -> StartError {
        let name = path.as_deref().unwrap_or(Path::new("")).display();
        let what = format!("{name} cannot be written: {error}");
        StartError::new("pidfile", what, "choose another path with -P")
    }

    fn system(error: io::Error) -> StartError {
        StartError::new(
            "threads",
            error.to_string(),
            "lower -t, or raise the limits of processes and open files",
        )
    }
}

/// Serves until a signal, or a client where `-A` allows it, ends it.
///
/// # Errors
/// What could not be had at the start; nothing is left half started.
pub fn run(
    options: Options,
    engine_options: engine::Options,
    store_options: &store::Options,
) -> Result<(), StartError> {
    let Sockets {
        listeners,
        http,
        mut pid_file,
    } = prepare(&options)?;
    let engine = Arc::new(make_engine(&options, engine_options, store_options)?);
    lock_memory(&options)?;
    // All that is likely to fail has been tried, so that it is said while somebody listens.
    if options.daemonize {
        nix::unistd::daemon(false, false).map_err(|error| StartError::system(error.into()))?;
        // A child does not inherit its parent's locks.
        lock_memory(&options)?;
    }
    if let Some(pid_file) = &mut pid_file {
        let written = pid_file.write();
        written.map_err(|error| StartError::pid_file(&options.pid_file, error))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::system)?;
    runtime.block_on(serve(&options, listeners, http, engine))
}

/// What is bound and opened before anything is served. Dropped, it leaves no file behind.
struct Sockets {
    listeners: Vec<Listener>,
    http: Option<std::net::TcpListener>,
    pid_file: Option<PidFile>,
}

/// Everything that has to happen in its order: privileges are dropped after binding TCP and before
/// binding the unix socket.
fn prepare(options: &Options) -> Result<Sockets, StartError> {
    process::forbid_core_dumps().map_err(StartError::system)?;
    let files = process::raise_open_files(options.connections_max);
    if files < options.connections_max as u64 {
        tracing::warn!(
            "only {files} files may be open, for -c {}: raise the limit (LimitNOFILE=, ulimit -n) or lower -c",
            options.connections_max
        );
    }
    if options.lock_memory {
        process::lift_lock_limit();
    }
    let mut listeners = bind_tcp(options)?;
    // As root still, since the directory is often only root's to write.
    let pid_file = options.pid_file.as_deref().map(PidFile::open);
    let pid_file = pid_file.transpose();
    let pid_file = pid_file.map_err(|error| StartError::pid_file(&options.pid_file, error))?;
    if let Some(user) = &options.user {
        process::become_user(user).map_err(|error| {
            StartError::new(
                "user",
                format!("cannot become {user}: {error}"),
                "name a user of this machine with -u",
            )
        })?;
    }
    if let Some(unix) = &options.unix {
        let bound = Listener::bind_unix(unix, options.backlog);
        listeners.push(bound.map_err(|error| StartError::unix(&unix.path, error))?);
    }
    let http = bind_http(options.http)?;
    Ok(Sockets {
        listeners,
        http,
        pid_file,
    })
}

fn lock_memory(options: &Options) -> Result<(), StartError> {
    if !options.lock_memory {
        return Ok(());
    }
    process::lock_memory().map_err(|error| {
        let what = format!("the memory cannot be locked: {error}");
        StartError::new(
            "lock_memory",
            what,
            "raise the limit (LimitMEMLOCK=infinity, ulimit -l), or start as root with -u USER",
        )
    })
}

fn bind_tcp(options: &Options) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    for listen in &options.listen {
        match Listener::bind_tcp(listen.addr, options.backlog) {
            Ok(listener) => listeners.push(listener),
            Err(error) if !listen.required && is_absent(&error) => {
                tracing::info!(
                    "{} is not served: this machine does not have it",
                    listen.addr
                );
            }
            Err(error) => return Err(StartError::socket(&listen.addr.to_string(), error)),
        }
    }
    Ok(listeners)
}

/// Whether a machine without IPv6 says so.
fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
    )
}

fn make_engine(
    options: &Options,
    engine_options: engine::Options,
    store_options: &store::Options,
) -> Result<Engine, StartError> {
    let store = Store::new(store_options).map_err(|error| {
        let what = format!("the memory file cannot be made: {error}");
        StartError::new("memory_limit", what, "lower -m or --memory-ceiling")
    })?;
    let process = Process {
        started: Clock::System.now(),
        connections_max: options.connections_max,
        threads: options.threads,
    };
    Ok(Engine::new(store, engine_options, process))
}

async fn serve(
    options: &Options,
    listeners: Vec<Listener>,
    http: Option<std::net::TcpListener>,
    engine: Arc<Engine>,
) -> Result<(), StartError> {
    let mut stop_signals = StopSignals::new().map_err(StartError::system)?;
    let http = http.map(TcpListener::from_std).transpose();
    let http = http.map_err(StartError::system)?;
    let (stop, stopping) = watch::channel(false);
    let workers = start_workers(options, &engine, &stopping)?;
    let housekeeper = Housekeeper::start(Arc::clone(&engine)).map_err(StartError::system)?;
    let acceptor = Arc::new(Acceptor::new(
        Arc::clone(&engine),
        workers,
        options.connections_max,
    ));
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tracing::info!("listening on {}", listener.name());
        tasks.spawn(listener::accept_loop(listener, Arc::clone(&acceptor)));
    }
    if let Some(http) = http {
        let engine = Arc::clone(&engine);
        tasks.spawn(async move {
            admin::serve(http, engine).await;
            Ok(())
        });
    }
    let ended = tokio::select! {
        () = stop_signals.wait() => Ok(()),
        () = engine.shutdown_asked() => Ok(()),
        Some(Ok(ended)) = tasks.join_next() => ended,
    };
    tracing::info!("stopping: requests that were begun are finished");
    tasks.shutdown().await;
    stop.send_replace(true);
    if let Some(acceptor) = Arc::into_inner(acceptor) {
        acceptor.join();
    }
    drop(housekeeper);
    ended
}

/// Binds the HTTP port; the default one being taken is no reason not to serve.
fn bind_http(options: Option<HttpOptions>) -> Result<Option<std::net::TcpListener>, StartError> {
    let Some(options) = options else {
        return Ok(None);
    };
    match listen_nonblocking(options.addr) {
        Ok(listener) => {
            let addr = listener.local_addr().unwrap_or(options.addr);
            tracing::info!("metrics on http://{addr}/metrics");
            Ok(Some(listener))
        }
        Err(error) if options.required => {
            let what = format!("{} cannot be listened on: {error}", options.addr);
            Err(StartError::new(
                "http",
                what,
                "choose another address with --http, or --http off",
            ))
        }
        Err(error) => {
            tracing::warn!(
                "no metrics: {} cannot be listened on: {error}; choose another address with --http, or --http off",
                options.addr
            );
            Ok(None)
        }
    }
}

fn listen_nonblocking(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn start_workers(
    options: &Options,
    engine: &Arc<Engine>,
    stopping: &watch::Receiver<bool>,
) -> Result<Vec<WorkerThread>, StartError> {
    let buffer_bytes = Arc::clone(&engine.stats().server.buffer_bytes);
    let buffers = Budget::counted(options.buffer_budget_bytes, buffer_bytes);
    let held = Budget::plain(usize::try_from(engine.held_bytes_max()).unwrap_or(usize::MAX));
    let worker = || Worker {
        engine: Arc::clone(engine),
        counters: engine.stats().register_worker(),
        buffers: Arc::clone(&buffers),
        held: Arc::clone(&held),
        requests_per_event: options.requests_per_event,
        busy: AtomicUsize::new(0),
    };
    (0..options.threads)
        .map(|number| WorkerThread::start(number, worker(), stopping.clone()))
        .collect::<io::Result<_>>()
        .map_err(StartError::system)
}

/// The signals that end the server.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// memcached's signal for a graceful end.
    user: Signal,
    /// Means "read the configuration again" to a daemon; here it changes nothing and ends nothing.
    hangup: Signal,
}

impl StopSignals {
    fn new() -> io::Result<StopSignals> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user: signal(SignalKind::user_defined1())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn wait(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.user.recv() => return,
                _ = self.hangup.recv() => {}
            }
        }
    }
}
