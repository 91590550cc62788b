//! Everything of a start that may fail: limits, sockets, files, another user.
//!
//! [`prepare`] does it in its order, before anything is served; [`StartError`] says which setting was
//! in the way and what would do instead.
//!
//! Invariants:
//! - TCP is bound and the pid file opened before root is dropped, the unix socket bound after, so that
//!   it belongs to the user that serves it; what a service manager or the process before has bound is taken
//!   instead, whatever the user;
//! - a start that fails leaves nothing behind: what was bound and opened is undone when dropped.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::admin::unix_socket::AdminSocket;
use super::auth::Users;
use super::handover::files::Files;
use super::handover::listeners::Found;
use super::handover::{Inherited, socket_unit};
use super::listener::Listener;
use super::pid_file::PidFile;
use super::socket_file::SocketFile;
use super::tls::{self, Tls};
use super::{AdminSocketOptions, HttpOptions, Options, UnixSocket, port_file, process};

/// Why the server could not start: the setting, what went wrong with it, and what would do.
#[derive(Debug)]
pub struct StartError {
    /// The setting's name in the configuration file.
    pub setting: &'static str,
    /// What went wrong.
    pub what: String,
    /// What would do.
    pub remedy: &'static str,
    /// It may be over by itself, so that another start is worth a try.
    pub passing: bool,
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
    /// An error of this setting.
    pub fn new(setting: &'static str, what: String, remedy: &'static str) -> StartError {
        StartError {
            setting,
            what,
            remedy,
            passing: false,
        }
    }

    /// A TCP address that cannot be listened on.
    pub fn socket(name: &str, error: io::Error) -> StartError {
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
        let what = format!("{name} cannot be listened on: {error}");
        StartError {
            passing: is_passing(&error),
            ..StartError::new("listen", what, remedy)
        }
    }

    /// A unix socket that cannot be listened on.
    pub fn unix(path: &Path, error: io::Error) -> StartError {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "stop the server that listens there, or choose another path with -s"
            }
            io::ErrorKind::AlreadyExists => {
                "that path is no socket: remove it, or choose another with -s"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "choose a path with -s in a directory that the unit lets it write, such as /run/memcached or /run/tokencached"
            }
            _ => {
                "choose a path with -s in a directory that exists and that the user of -u may write"
            }
        };
        let what = format!("{} cannot be listened on: {error}", path.display());
        StartError {
            passing: is_passing(&error),
            ..StartError::new("unix_socket", what, remedy)
        }
    }

    /// A pid file that cannot be written.
    pub fn pid_file(path: &Option<PathBuf>, error: io::Error) -> StartError {
        let name = path.as_deref().unwrap_or(Path::new("")).display();
        let what = format!("{name} cannot be written: {error}");
        StartError::new("pidfile", what, "choose another path with -P")
    }

    /// Certificates that cannot be used.
    pub fn tls(fault: &tls::Fault) -> StartError {
        StartError::new(fault.option(), fault.told(), fault.remedy())
    }

    /// Nobody says who is at the other end of a connection.
    pub fn access(error: io::Error) -> StartError {
        StartError::new(
            "access",
            format!(
                "who is at the other end of a connection on loopback cannot be looked up: {error}"
            ),
            "allow AF_NETLINK (RestrictAddressFamilies), load the kernel's tcp_diag, or leave [access] out",
        )
    }

    /// Threads or runtimes that cannot be had.
    pub fn system(error: io::Error) -> StartError {
        let remedy = "lower -t, or raise the limits of processes and open files";
        StartError {
            passing: true,
            ..StartError::new("threads", error.to_string(), remedy)
        }
    }
}

/// What is bound and opened before anything is served. Dropped, it leaves no file behind.
pub struct Sockets {
    /// What clients connect to.
    pub listeners: Vec<Listener>,
    /// Whether a socket unit has bound them, so that they are its own to keep.
    pub is_activated: bool,
    /// The file of the unix socket, if it is this server's.
    pub socket_file: Option<SocketFile>,
    /// What the process before listened on, and nobody asked for.
    pub unwanted: Found,
    /// The HTTP port, if there is one.
    pub http: Option<std::net::TcpListener>,
    /// The admin socket, if there is one.
    pub admin_socket: Option<AdminSocket>,
    /// The pid file, opened and not yet written.
    pub pid_file: Option<PidFile>,
    /// Who may speak.
    pub users: Option<Arc<Users>>,
    /// Certificates and key, read.
    pub tls: Option<Arc<Tls>>,
}

/// Everything that has to happen in its order: privileges are dropped after binding TCP and before
/// binding the unix socket.
///
/// # Errors
/// The first thing that could not be had; what was had before it is given back.
pub fn prepare(options: &Options, inherited: &Inherited) -> Result<Sockets, StartError> {
    let mut listeners = socket_unit::listeners(options, inherited)?;
    let mut found = Found::of(inherited).map_err(StartError::system)?;
    let is_activated = !listeners.is_empty();
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
    if !is_activated {
        listeners = bind_tcp(options, &mut found)?;
    }
    if let Some(path) = options
        .port_file
        .as_deref()
        .filter(|_| !listeners.is_empty())
    {
        tell_ports(path, &listeners);
    }
    // As root still, since passwords are often only root's to read.
    let files = inherited.files();
    let users = options.auth_file.as_deref();
    let users = users.map(|path| load_users(path, &files)).transpose()?;
    // The key is often only root's to read.
    let tls = options.tls.clone();
    let tls = tls.map(|tls| load_tls(tls, &files)).transpose()?;
    // As root still, since the directory is often only root's to write.
    let mut pid_file = options.pid_file.as_deref().map(PidFile::open);
    if let Some(user) = &options.user {
        process::become_user(user).map_err(|error| {
            StartError::new(
                "user",
                format!("cannot become {user}: {error}"),
                "name a user of this machine with -u",
            )
        })?;
    }
    let mut socket_file = None;
    if let Some(unix) = options.unix.as_ref().filter(|_| !is_activated) {
        let (listener, file) = bind_unix(unix, options.backlog, &mut found)?;
        listeners.push(listener);
        socket_file = Some(file);
    }
    if let (Some(path), Some(Err(_))) = (&options.pid_file, &pid_file) {
        // A directory of the user's own, in which root may do nothing where it lacks CAP_DAC_OVERRIDE.
        pid_file = Some(PidFile::open(path));
    }
    let pid_file = match pid_file.transpose() {
        Ok(file) => file,
        Err(error) => {
            let error = StartError::pid_file(&options.pid_file, error);
            if !inherited.is_successor() {
                return Err(error);
            }
            // Not worth what a successor has.
            tracing::warn!("{error}");
            None
        }
    };
    let http = bind_http(options.http.as_ref())?;
    let admin_socket = bind_admin(options.admin_socket.as_ref())?;
    Ok(Sockets {
        listeners,
        is_activated,
        socket_file,
        unwanted: found,
        http,
        admin_socket,
        pid_file,
        users: users.map(Arc::new),
        tls: tls.map(Arc::new),
    })
}

/// The users of the file, or if it cannot be used those of the process before.
fn load_users(path: &Path, files: &Files) -> Result<Users, StartError> {
    Users::load(path).or_else(|error| {
        let copy = files.get(path).and_then(|text| Users::of_copy(path, text));
        let users =
            copy.ok_or_else(|| StartError::new(error.setting, error.what.clone(), error.remedy))?;
        tracing::error!("{error}; goes on with the users and passwords of the process before");
        Ok(users)
    })
}

/// Certificates and key, or if they cannot be used those of the process before.
fn load_tls(options: tls::Options, files: &Files) -> Result<Tls, StartError> {
    Tls::new(options.clone()).or_else(|fault| {
        let copies = Tls::of_copies(options, files);
        let tls = copies.map_err(|_| StartError::tls(&fault))?;
        tracing::error!("{fault}; goes on with the certificates of the process before");
        Ok(tls)
    })
}

/// Reads the files that a start would read, and keeps nothing of them: for a configuration that is looked
/// at and not acted on.
///
/// # Errors
/// The first of them that cannot be used.
pub fn check_files(options: &Options) -> Result<(), StartError> {
    options
        .tls
        .clone()
        .map(Tls::new)
        .transpose()
        .map_err(|fault| StartError::tls(&fault))?;
    options.auth_file.as_deref().map(Users::load).transpose()?;
    Ok(())
}

/// As in memcached, a file that cannot be written is no reason not to serve.
fn tell_ports(path: &Path, listeners: &[Listener]) {
    let addresses = listeners.iter().filter_map(Listener::tcp_address);
    if let Err(error) = port_file::write(path, addresses) {
        let path = path.display();
        tracing::warn!("{path} cannot be written: {error}; set MEMCACHED_PORT_FILENAME to another");
    }
}

/// Carries out `-k`. A child does not inherit it, so it is done again after going into the background.
///
/// # Errors
/// The limit of locked memory is too low.
pub fn lock_memory(options: &Options) -> Result<(), StartError> {
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

fn bind_tcp(options: &Options, found: &mut Found) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    let named: Vec<_> = options.listen.iter().map(|listen| listen.addr).collect();
    for listen in &options.listen {
        let served = (listen.protocol, listen.security);
        let bound = match found.tcp(listen.addr, &named) {
            Some(socket) => Listener::inherit(socket, served, options.backlog),
            None => Listener::bind_tcp(listen, options.backlog),
        };
        match bound {
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

/// Whether an address may be free, or there, a moment later.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
    )
}

fn bind_unix(
    unix: &UnixSocket,
    backlog: i32,
    found: &mut Found,
) -> Result<(Listener, SocketFile), StartError> {
    let bound = match found.unix(&unix.path) {
        Some(socket) => Listener::inherit_unix(socket, unix, backlog),
        None => Listener::bind_unix(unix, backlog),
    };
    bound.map_err(|error| StartError::unix(&unix.path, error))
}

/// Whether a machine without IPv6 says so.
fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
    )
}

/// Binds the HTTP port; the default one being taken is no reason not to serve.
fn bind_http(options: Option<&HttpOptions>) -> Result<Option<std::net::TcpListener>, StartError> {
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
            let remedy = "choose another address with --http, or --http off";
            Err(StartError {
                passing: is_passing(&error),
                ..StartError::new("http", what, remedy)
            })
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

/// Binds the admin socket; failing at the place where it is by default is no reason not to serve.
fn bind_admin(options: Option<&AdminSocketOptions>) -> Result<Option<AdminSocket>, StartError> {
    let Some(options) = options else {
        return Ok(None);
    };
    let path = options.path.display();
    match AdminSocket::bind(&options.path) {
        Ok(socket) => {
            tracing::info!("admin socket at {path}");
            Ok(Some(socket))
        }
        Err(error) if options.required => {
            let what = format!("{path} cannot be listened on: {error}");
            let remedy = "choose another path with --admin-socket, in a directory that the server's user may write";
            Err(StartError {
                passing: is_passing(&error),
                ..StartError::new("admin_socket", what, remedy)
            })
        }
        Err(error) => {
            tracing::warn!(
                "no admin socket: {path} cannot be listened on: {error}; choose another with --admin-socket, or --admin-socket off"
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
