//! What one source says: values with their origins, still partial.
//!
//! `args.rs`, `memcached_conf.rs` and `file.rs` each fill one [`Settings`]
//! through [`Settings::give`]; [`Settings::over`] lays the higher source over
//! the lower; `resolve.rs` turns the last one into a `Config`.
//!
//! Invariants:
//! - *parsed where it is read*: a wrong value is refused even if a higher
//!   source has another one, and the message names the source it stands in.
//! - *origins stay*: each value carries where it came from, through to
//!   `--print-config` and to errors found later.
//! - within a source the last value counts, as with getopt; `-l` adds up and
//!   `-v` counts.

use std::fmt;
use std::path::PathBuf;

use super::ConfigError;
use super::access;
use super::extended;
use super::flags::{self, Does, Flag, Setting};
use super::listen::{self, Place};
use super::units::{self, KIB, MIB, Problem};
use crate::protocol::codec::Protocol;
use crate::server::tls;

/// Where a value came from, for people: `command line -m`,
/// `/etc/memcached.conf line 12`, `/etc/tokencached.toml: memory_limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin(String);

impl Origin {
    pub(super) fn built_in() -> Self {
        Origin("default".into())
    }

    pub(super) fn command_line(flag: &str) -> Self {
        Origin(format!("command line {}", flag.escape_debug()))
    }

    pub(super) fn line(path: &str, line: usize) -> Self {
        Origin(format!("{} line {line}", path.escape_debug()))
    }

    pub(super) fn key(path: &str, key: &str) -> Self {
        Origin(format!("{}: {}", path.escape_debug(), key.escape_debug()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Sourced<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

/// `--http`: an address, or off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Http {
    Off,
    At(Place),
}

/// `--admin-socket`: a path, or off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AdminSocket {
    Off,
    At(PathBuf),
}

/// A setting that a source may or may not speak of.
pub(super) type Said<T> = Option<Sourced<T>>;

/// What one source, or several laid over each other, say.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// `Some(None)` asks for any free port.
    pub(super) port: Said<Option<u16>>,
    pub(super) udp_port: Said<u16>,
    pub(super) unix_socket: Said<PathBuf>,
    pub(super) unix_mask: Said<u32>,
    pub(super) enable_shutdown: Said<bool>,
    /// Empty where nothing is said.
    pub(super) listen: Vec<Sourced<Place>>,
    pub(super) daemon: Said<bool>,
    pub(super) enable_coredumps: Said<bool>,
    pub(super) user: Said<String>,
    pub(super) memory_limit: Said<u64>,
    pub(super) disable_evictions: Said<bool>,
    pub(super) conn_limit: Said<u64>,
    pub(super) lock_memory: Said<bool>,
    pub(super) verbose: Said<u8>,
    pub(super) pidfile: Said<PathBuf>,
    pub(super) delimiter: Said<u8>,
    pub(super) threads: Said<u64>,
    pub(super) max_reqs_per_event: Said<u64>,
    pub(super) disable_cas: Said<bool>,
    pub(super) listen_backlog: Said<u64>,
    pub(super) protocol: Said<Protocol>,
    pub(super) enable_sasl: Said<bool>,
    pub(super) auth_file: Said<PathBuf>,
    pub(super) binary_strict: Said<bool>,
    pub(super) max_item_size: Said<u64>,
    pub(super) disable_flush_all: Said<bool>,
    pub(super) disable_dumping: Said<bool>,
    pub(super) memory_ceiling: Said<u64>,
    pub(super) buffer_memory: Said<u64>,
    pub(super) http: Said<Http>,
    pub(super) admin_socket: Said<AdminSocket>,
    pub(super) no_service_names: Said<bool>,
    pub(super) validation_cost_ms: Said<u64>,
    /// Empty where nothing is said.
    pub(super) http_hosts: Vec<Sourced<String>>,
    pub(super) allow_remote: Said<bool>,
    pub(super) no_packing: Said<bool>,
    pub(super) lasting_idle: Said<u64>,
    pub(super) enable_ssl: Said<bool>,
    pub(super) ssl: Ssl,
    pub(super) idle_timeout: Said<u32>,
    pub(super) access: Said<access::Table>,
    /// Options accepted without effect, as `-f (command line -f)`.
    pub(super) without_effect: Vec<String>,
    /// Each option of `-o`, as it was written.
    pub(super) extended: Vec<Sourced<String>>,
    /// Other things accepted that are worth a line in the log.
    pub(super) notes: Vec<String>,
    /// Things accepted that the operator should change.
    pub(super) warnings: Vec<String>,
}

/// The `ssl_` names of `-o`.
#[derive(Clone, Debug, Default)]
pub(super) struct Ssl {
    pub(super) chain_cert: Said<PathBuf>,
    pub(super) key: Said<PathBuf>,
    pub(super) ca_cert: Said<PathBuf>,
    pub(super) verify: Said<tls::Verify>,
    pub(super) oldest: Said<tls::Oldest>,
    pub(super) session_cache: Said<bool>,
}

impl Ssl {
    fn over(self, lower: Ssl) -> Ssl {
        Ssl {
            chain_cert: self.chain_cert.or(lower.chain_cert),
            key: self.key.or(lower.key),
            ca_cert: self.ca_cert.or(lower.ca_cert),
            verify: self.verify.or(lower.verify),
            oldest: self.oldest.or(lower.oldest),
            session_cache: self.session_cache.or(lower.session_cache),
        }
    }

    /// Whether there is any.
    pub(super) fn is_said(&self) -> bool {
        let files = [&self.chain_cert, &self.key, &self.ca_cert];
        files.into_iter().any(Option::is_some)
            || self.verify.is_some()
            || self.oldest.is_some()
            || self.session_cache.is_some()
    }
}

impl Settings {
    /// Lays `self` over `lower`: what `self` does not speak of, `lower` decides.
    pub(super) fn over(self, lower: Settings) -> Settings {
        Settings {
            port: self.port.or(lower.port),
            udp_port: self.udp_port.or(lower.udp_port),
            unix_socket: self.unix_socket.or(lower.unix_socket),
            unix_mask: self.unix_mask.or(lower.unix_mask),
            enable_shutdown: self.enable_shutdown.or(lower.enable_shutdown),
            listen: either(self.listen, lower.listen),
            daemon: self.daemon.or(lower.daemon),
            enable_coredumps: self.enable_coredumps.or(lower.enable_coredumps),
            user: self.user.or(lower.user),
            memory_limit: self.memory_limit.or(lower.memory_limit),
            disable_evictions: self.disable_evictions.or(lower.disable_evictions),
            conn_limit: self.conn_limit.or(lower.conn_limit),
            lock_memory: self.lock_memory.or(lower.lock_memory),
            verbose: self.verbose.or(lower.verbose),
            pidfile: self.pidfile.or(lower.pidfile),
            delimiter: self.delimiter.or(lower.delimiter),
            threads: self.threads.or(lower.threads),
            max_reqs_per_event: self.max_reqs_per_event.or(lower.max_reqs_per_event),
            disable_cas: self.disable_cas.or(lower.disable_cas),
            listen_backlog: self.listen_backlog.or(lower.listen_backlog),
            protocol: self.protocol.or(lower.protocol),
            enable_sasl: self.enable_sasl.or(lower.enable_sasl),
            auth_file: self.auth_file.or(lower.auth_file),
            binary_strict: self.binary_strict.or(lower.binary_strict),
            max_item_size: self.max_item_size.or(lower.max_item_size),
            disable_flush_all: self.disable_flush_all.or(lower.disable_flush_all),
            disable_dumping: self.disable_dumping.or(lower.disable_dumping),
            memory_ceiling: self.memory_ceiling.or(lower.memory_ceiling),
            buffer_memory: self.buffer_memory.or(lower.buffer_memory),
            http: self.http.or(lower.http),
            admin_socket: self.admin_socket.or(lower.admin_socket),
            no_service_names: self.no_service_names.or(lower.no_service_names),
            validation_cost_ms: self.validation_cost_ms.or(lower.validation_cost_ms),
            http_hosts: either(self.http_hosts, lower.http_hosts),
            allow_remote: self.allow_remote.or(lower.allow_remote),
            no_packing: self.no_packing.or(lower.no_packing),
            lasting_idle: self.lasting_idle.or(lower.lasting_idle),
            enable_ssl: self.enable_ssl.or(lower.enable_ssl),
            ssl: self.ssl.over(lower.ssl),
            idle_timeout: self.idle_timeout.or(lower.idle_timeout),
            access: self.access.or(lower.access),
            without_effect: joined(lower.without_effect, self.without_effect),
            extended: joined(lower.extended, self.extended),
            notes: joined(lower.notes, self.notes),
            warnings: joined(lower.warnings, self.warnings),
        }
    }

    /// Takes in one flag with its value, as text; a switch comes as `true` or
    /// `false`, a count as a number.
    ///
    /// What a command line asks for ([`Does::Ask`]) is not a setting, and is
    /// refused: the command line itself takes it out before.
    pub(super) fn give(
        &mut self,
        flag: &Flag,
        text: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let off = matches!(flag.takes, flags::Takes::Nothing) && text == "false";
        let given = match flag.does {
            Does::NoEffect if off => return Ok(()),
            Does::Set(setting) => self.set(setting, text.trim(), &origin),
            Does::Extended => extended::take(text, &origin, self),
            Does::NoEffect => {
                self.without_effect
                    .push(format!("{} ({origin})", flag.key()));
                Ok(())
            }
            Does::Ask(_) => {
                return Err(ConfigError::refused(
                    &flag.key(),
                    &origin,
                    &Problem::new("not a setting", "give it on the command line only"),
                ));
            }
        };
        given.map_err(|problem| ConfigError::value(&flag.key(), text, &origin, &problem))
    }

    fn set(&mut self, setting: Setting, text: &str, origin: &Origin) -> Result<(), Problem> {
        match setting {
            Setting::Port => self.port = said(units::port(text)?, origin),
            Setting::UdpPort => self.udp_port = said(udp_port(text)?, origin),
            Setting::UnixSocket => self.unix_socket = said(socket_path(text)?, origin),
            Setting::UnixMask => self.unix_mask = said(units::octal_mask(text)?, origin),
            Setting::EnableShutdown => self.enable_shutdown = said(switch(text)?, origin),
            Setting::Listen => self.add_listen(text, origin)?,
            Setting::Daemon => self.daemon = said(switch(text)?, origin),
            Setting::EnableCoredumps => self.enable_coredumps = said(switch(text)?, origin),
            Setting::User => self.user = said(word(text)?, origin),
            Setting::MemoryLimit => self.memory_limit = said(units::size(text, MIB)?, origin),
            Setting::DisableEvictions => self.disable_evictions = said(switch(text)?, origin),
            Setting::ConnLimit => self.conn_limit = said(count(text, CONNECTIONS)?, origin),
            Setting::LockMemory => self.lock_memory = said(switch(text)?, origin),
            Setting::Verbose => self.add_verbose(text, origin)?,
            Setting::Pidfile => self.pidfile = said(path(text)?, origin),
            Setting::Delimiter => self.delimiter = said(delimiter(text)?, origin),
            Setting::Threads => self.threads = said(count(text, THREADS)?, origin),
            Setting::MaxReqsPerEvent => {
                self.max_reqs_per_event = said(count(text, REQUESTS)?, origin);
            }
            Setting::DisableCas => self.disable_cas = said(switch(text)?, origin),
            Setting::ListenBacklog => self.listen_backlog = said(count(text, BACKLOG)?, origin),
            Setting::Protocol => self.protocol = said(protocol(text)?, origin),
            Setting::EnableSasl => self.enable_sasl = said(switch(text)?, origin),
            Setting::AuthFile => self.auth_file = said(path(text)?, origin),
            Setting::BinaryStrict => self.binary_strict = said(switch(text)?, origin),
            Setting::MaxItemSize => self.max_item_size = said(units::size(text, 1)?, origin),
            Setting::DisableFlushAll => self.disable_flush_all = said(switch(text)?, origin),
            Setting::DisableDumping => self.disable_dumping = said(switch(text)?, origin),
            Setting::MemoryCeiling => self.memory_ceiling = said(units::size(text, MIB)?, origin),
            Setting::BufferMemory => self.buffer_memory = said(buffer_memory(text)?, origin),
            Setting::Http => self.http = said(http(text)?, origin),
            Setting::AdminSocket => self.admin_socket = said(admin_socket(text)?, origin),
            Setting::ValidationCostMs => {
                self.validation_cost_ms = said(count(text, COST_MS)?, origin);
            }
            Setting::NoServiceNames => self.no_service_names = said(switch(text)?, origin),
            Setting::HttpHosts => self.add_http_hosts(text, origin)?,
            Setting::AllowRemote => self.allow_remote = said(switch(text)?, origin),
            Setting::NoPacking => self.no_packing = said(switch(text)?, origin),
            Setting::EnableSsl => self.enable_ssl = said(switch(text)?, origin),
            Setting::LastingIdle => self.lasting_idle = said(count(text, IDLE_SECONDS)?, origin),
        }
        Ok(())
    }

    fn add_listen(&mut self, text: &str, origin: &Origin) -> Result<(), Problem> {
        let places = listen::parse_list(text)?;
        if places.iter().any(|place| place.tagged) {
            self.without_effect
                .push(format!("the tag in listen ({origin})"));
        }
        let sourced = |value| Sourced {
            value,
            origin: origin.clone(),
        };
        self.listen.extend(places.into_iter().map(sourced));
        Ok(())
    }

    fn add_http_hosts(&mut self, text: &str, origin: &Origin) -> Result<(), Problem> {
        for name in text.split(',').map(str::trim) {
            let name = listen::host_name(name)?;
            self.http_hosts.push(Sourced {
                value: name.to_owned(),
                origin: origin.clone(),
            });
        }
        Ok(())
    }

    fn add_verbose(&mut self, text: &str, origin: &Origin) -> Result<(), Problem> {
        let before = self.verbose.as_ref().map_or(0, |said| said.value);
        // `whole` keeps it at most 9, so it is a `u8`.
        let more = u8::try_from(units::whole(text, 0, 9)?).unwrap_or(9);
        self.verbose = said(before.saturating_add(more).min(9), origin);
        Ok(())
    }
}

const CONNECTIONS: (u64, u64) = (1, 1_048_576);
const THREADS: (u64, u64) = (1, 1024);
const REQUESTS: (u64, u64) = (1, i32::MAX as u64);
const IDLE_SECONDS: (u64, u64) = (1, i32::MAX as u64);

/// A minute at most.
const COST_MS: (u64, u64) = (1, 60_000);
const BACKLOG: (u64, u64) = (1, i32::MAX as u64);
/// The path of a unix socket has 108 bytes in the kernel, the last one zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

#[allow(clippy::unnecessary_wraps)] // The fields are options; this builds one.
pub(super) fn said<T>(value: T, origin: &Origin) -> Said<T> {
    Some(Sourced {
        value,
        origin: origin.clone(),
    })
}

/// The first list, or if there is nothing in it the other.
fn either<T>(first: Vec<T>, other: Vec<T>) -> Vec<T> {
    if first.is_empty() { other } else { first }
}

fn joined<T>(mut first: Vec<T>, then: Vec<T>) -> Vec<T> {
    first.extend(then);
    first
}

fn count(text: &str, (min, max): (u64, u64)) -> Result<u64, Problem> {
    units::whole(text, min, max)
}

fn udp_port(text: &str) -> Result<u16, Problem> {
    // `whole` keeps it within a port.
    units::whole(text, 0, u64::from(u16::MAX)).map(|port| u16::try_from(port).unwrap_or(0))
}

fn switch(text: &str) -> Result<bool, Problem> {
    text.parse()
        .map_err(|_| Problem::new("not a switch", "give true or false"))
}

fn word(text: &str) -> Result<String, Problem> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Problem::new(
            "not a name",
            "give a name or a number without spaces",
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn path(text: &str) -> Result<PathBuf, Problem> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err(Problem::new("not a path", "give the path of a file"));
    }
    Ok(PathBuf::from(text))
}

fn socket_path(text: &str) -> Result<PathBuf, Problem> {
    if text.len() > SOCKET_PATH_BYTES_MAX {
        return Err(Problem::new(
            format!("{} bytes are too long for a unix socket", text.len()),
            format!("give a path of at most {SOCKET_PATH_BYTES_MAX} bytes"),
        ));
    }
    path(text)
}

fn delimiter(text: &str) -> Result<u8, Problem> {
    match text.as_bytes() {
        [byte] if byte.is_ascii_graphic() => Ok(*byte),
        _ => Err(Problem::new(
            "not a delimiter",
            "give one ASCII character, such as :",
        )),
    }
}

fn protocol(text: &str) -> Result<Protocol, Problem> {
    match text {
        "ascii" => Ok(Protocol::Text),
        "binary" => Ok(Protocol::Binary),
        "auto" => Ok(Protocol::Auto),
        _ => Err(Problem::new("not a protocol", "give ascii, binary or auto")),
    }
}

fn buffer_memory(text: &str) -> Result<u64, Problem> {
    let bytes = units::size(text, MIB)?;
    if bytes < MIB || usize::try_from(bytes).is_err() {
        return Err(Problem::new("too small", "give at least 1 MiB, such as 16"));
    }
    Ok(bytes)
}

fn admin_socket(text: &str) -> Result<AdminSocket, Problem> {
    match text {
        "off" => Ok(AdminSocket::Off),
        _ => socket_path(text).map(AdminSocket::At),
    }
}

fn http(text: &str) -> Result<Http, Problem> {
    if text == "off" {
        return Ok(Http::Off);
    }
    let remedy = "give one address such as 127.0.0.1:9150, or off";
    match listen::parse_list(text) {
        Ok(places) => match <[Place; 1]>::try_from(places) {
            Ok([place]) if place.host != "*" => Ok(Http::At(place)),
            _ => Err(Problem::new("not one address", remedy)),
        },
        Err(problem) => Err(Problem::new(problem.what, remedy)),
    }
}

/// The least and the most that `-I` may be; half of `-m` bounds it too.
pub(super) const ITEM_BYTES: (u64, u64) = (KIB, units::GIB);
