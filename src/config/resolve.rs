//! From partial settings to a [`Config`]: defaults, bounds that span several
//! settings, names looked up, and what deserves a warning.
//!
//! Called once, by `mod.rs`, with all sources laid over each other. Whether a
//! value is a number at all was decided in `settings.rs`; here are the rules
//! that need more than the value: `-I` against `-m`, `-m` against the machine,
//! addresses against `--allow-remote`, `-u` against the user who started it.
//!
//! Invariants of a `Config` that comes out:
//! - `item_bytes_max` is at least 1 KiB, at most 1 GiB and half of the limit;
//! - the limit is at least 8 MiB, within the machine's memory and the ceiling;
//! - there is at least one socket to listen on;
//! - no wildcard address without `--allow-remote`, no address beyond loopback
//!   without a warning;
//! - [`Config::settings`] has one line for each setting.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::flags::Flag;
use super::listen;
use super::listen::{Place, Usual};
use super::machine::Machine;
use super::settings::{Origin, Said, Settings, Sourced};
use super::show::{self, Facts, Shown};
use super::sockets::{PORT_DEFAULT, Sockets, UNIX_MASK_DEFAULT};
use super::units::{GIB, MIB, Problem, show_size};
use super::{Config, ConfigError, sizes};
use crate::protocol::codec::Protocol;
use crate::server::{Security, access, tls};

const MEMORY_LIMIT_DEFAULT: u64 = 64 * MIB;
const MEMORY_CEILING_LEAST_DEFAULT: u64 = GIB;
const ITEM_BYTES_MAX_DEFAULT: u64 = MIB;
const BUFFER_MEMORY_DEFAULT: u64 = 16 * MIB;
const CONNECTIONS_DEFAULT: u64 = 4096;
const THREADS_DEFAULT: u64 = 4;
/// Above this memcached warns too.
const THREADS_ADVISED_MAX: u64 = 64;
const REQUESTS_DEFAULT: u64 = 20;
const BACKLOG_DEFAULT: u64 = 1024;

/// TLS that asks every client for a certificate.
const MUTUAL: Security = Security::Tls(tls::Verify::Everybody);

/// How an address is served where nothing else is said.
const PLAIN: Usual = Usual {
    protocol: Protocol::Auto,
    security: Security::Plain,
};

/// Decides everything. Looks host names up, which may block.
pub(super) fn resolve(settings: Settings, machine: &Machine) -> Result<Config, ConfigError> {
    let mut resolver = Resolver::new(machine, &settings);
    let allow_remote = resolver.switch("allow_remote", &settings.allow_remote);
    let store = resolver.store(&settings)?;
    let port = settings
        .port
        .as_ref()
        .map_or(PORT_DEFAULT, |port| port.value.unwrap_or(0));
    let tls = resolver.tls(&settings)?;
    let auth = resolver.auth(&settings)?;
    let access = resolver.access(&settings)?;
    let sockets = resolver.sockets(&settings, allow_remote)?;
    check_security(&sockets, tls.as_ref())?;
    if access.is_some() {
        sockets.check_reach(&settings)?;
    }
    resolver.check_protocols(&sockets, &auth)?;
    let server = crate::server::Options {
        access,
        ..resolver.server(&settings, sockets, auth, tls, allow_remote)?
    };
    let verbosity = resolver.number("verbose", settings.verbose.clone(), 0);
    resolver.remarks(&settings);
    let flush_allowed = !resolver.switch("disable_flush_all", &settings.disable_flush_all);
    let shutdown_allowed = resolver.switch("enable_shutdown", &settings.enable_shutdown);
    let dump_allowed = !resolver.switch("disable_dumping", &settings.disable_dumping);
    let cas = !resolver.switch("disable_cas", &settings.disable_cas);
    let packing = !resolver.switch("no_packing", &settings.no_packing);
    let validation_cost_ms = resolver.validation_cost_ms(&settings);
    let delimiter = resolver.delimiter(settings.delimiter);
    let shown_settings = show::stats_settings(&Facts {
        store: &store,
        server: &server,
        port: if server.listen.is_empty() { 0 } else { port },
        unix_mask: settings
            .unix_mask
            .as_ref()
            .map_or(UNIX_MASK_DEFAULT, |mask| mask.value),
        verbosity,
        cas,
        packing,
        flush_allowed,
        shutdown_allowed,
        dump_allowed,
        delimiter,
    });
    let engine = crate::engine::Options {
        cas,
        flush_allowed,
        shutdown_allowed,
        dump_allowed,
        packing,
        validation_cost_ms,
        detail_prefix_delimiter: delimiter,
        settings: shown_settings,
        verbosity: Arc::new(AtomicU32::new(verbosity.into())),
        // The server's to read, when it starts.
        certificates: None,
    };
    Ok(resolver.finish(store, engine, server, verbosity))
}

/// What is decided so far; `sockets.rs` adds the part about addresses.
pub(super) struct Resolver<'m> {
    pub(super) machine: &'m Machine,
    pub(super) usual: Usual,
    /// There are access rules.
    pub(super) guarded: bool,
    pub(super) shown: Vec<Shown>,
    notes: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl<'m> Resolver<'m> {
    fn new(machine: &'m Machine, settings: &Settings) -> Self {
        let mut notes = settings.notes.clone();
        if !settings.without_effect.is_empty() {
            let list = settings.without_effect.join(", ");
            notes.push(format!("accepted without effect: {list}"));
        }
        let warnings = settings.warnings.clone();
        let extended = settings.extended.iter().map(|option| Shown {
            key: "extended",
            value: option.value.clone(),
            source: option.origin.to_string(),
        });
        Resolver {
            machine,
            usual: PLAIN,
            guarded: false,
            shown: extended.collect(),
            notes,
            warnings,
        }
    }

    fn finish(
        mut self,
        store: crate::store::Options,
        engine: crate::engine::Options,
        server: crate::server::Options,
        verbosity: u8,
    ) -> Config {
        let position = |key| super::flags::keyed().position(|flag: &Flag| flag.key() == key);
        // What has no flag comes last.
        self.shown
            .sort_by_cached_key(|shown| position(shown.key).unwrap_or(usize::MAX));
        Config {
            store,
            engine,
            server,
            verbosity,
            notes: self.notes,
            warnings: self.warnings,
            settings: self.shown,
        }
    }

    /// Takes what is said or the default, and records it as `show` writes it.
    pub(super) fn pick<T>(
        &mut self,
        key: &'static str,
        said: Said<T>,
        default: T,
        show: impl Fn(&T) -> String,
    ) -> Sourced<T> {
        let built_in = || Sourced {
            value: default,
            origin: Origin::built_in(),
        };
        let picked = said.unwrap_or_else(built_in);
        self.record(key, show(&picked.value), &picked.origin);
        picked
    }

    pub(super) fn record(&mut self, key: &'static str, value: String, origin: &Origin) {
        self.shown.push(Shown {
            key,
            value,
            source: origin.to_string(),
        });
    }

    fn switch(&mut self, key: &'static str, said: &Said<bool>) -> bool {
        self.pick(key, said.clone(), false, bool::to_string).value
    }

    fn number<T: ToString>(&mut self, key: &'static str, said: Said<T>, default: T) -> T {
        self.pick(key, said, default, T::to_string).value
    }

    fn size(&mut self, key: &'static str, said: &Said<u64>, default: u64) -> Sourced<u64> {
        self.pick(key, said.clone(), default, |bytes| show_size(*bytes))
    }

    fn store(&mut self, settings: &Settings) -> Result<crate::store::Options, ConfigError> {
        let limit = self.size("memory_limit", &settings.memory_limit, MEMORY_LIMIT_DEFAULT);
        check_size(
            "memory_limit",
            &limit,
            sizes::check_limit(limit.value, self.machine.memory.as_ref()),
        )?;
        let four = limit.value.saturating_mul(4).min(sizes::MEMORY_MAX);
        let default = four.max(MEMORY_CEILING_LEAST_DEFAULT);
        let ceiling = self.size("memory_ceiling", &settings.memory_ceiling, default);
        check_size(
            "memory_ceiling",
            &ceiling,
            sizes::check_ceiling(ceiling.value, limit.value),
        )?;
        let item = self.size(
            "max_item_size",
            &settings.max_item_size,
            ITEM_BYTES_MAX_DEFAULT,
        );
        check_size(
            "max_item_size",
            &item,
            sizes::check_item(item.value, limit.value),
        )?;
        Ok(crate::store::Options {
            memory_limit_bytes: limit.value,
            memory_ceiling_bytes: ceiling.value,
            // `sizes` keeps it at most 1 GiB.
            item_bytes_max: u32::try_from(item.value).unwrap_or(u32::MAX),
            evict: !self.switch("disable_evictions", &settings.disable_evictions),
            eviction: self.eviction(settings),
            hash_seed: None,
        })
    }

    fn validation_cost_ms(&mut self, settings: &Settings) -> u32 {
        let default = u64::from(crate::engine::Options::default().validation_cost_ms);
        let said = settings.validation_cost_ms.clone();
        let millis = self.number("validation_cost_ms", said, default);
        // `settings.rs` keeps it within its type.
        u32::try_from(millis).unwrap_or(u32::MAX)
    }

    fn eviction(&mut self, settings: &Settings) -> crate::store::Eviction {
        let default = crate::store::Eviction::default();
        let said = settings.lasting_idle.clone();
        let idle = self.number(
            "lasting_idle",
            said,
            u64::from(default.lasting_idle_seconds),
        );
        crate::store::Eviction {
            // `settings.rs` keeps it within its type.
            lasting_idle_seconds: u32::try_from(idle).unwrap_or(u32::MAX),
            ..default
        }
    }

    pub(super) fn path(&mut self, key: &'static str, said: &Said<PathBuf>) -> Option<PathBuf> {
        let said = said.clone().map(|said| Sourced {
            value: Some(said.value),
            origin: said.origin,
        });
        let show = |path: &Option<PathBuf>| match path {
            Some(path) => path.display().to_string(),
            None => "none".into(),
        };
        self.pick(key, said, None, show).value
    }

    fn server(
        &mut self,
        settings: &Settings,
        sockets: Sockets,
        auth: Auth,
        tls: Option<tls::Options>,
        allow_remote: bool,
    ) -> Result<crate::server::Options, ConfigError> {
        let threads = self.threads(settings.threads.clone());
        let connections = self.number(
            "conn_limit",
            settings.conn_limit.clone(),
            CONNECTIONS_DEFAULT,
        );
        let backlog = self.number(
            "listen_backlog",
            settings.listen_backlog.clone(),
            BACKLOG_DEFAULT,
        );
        let said = settings.max_reqs_per_event.clone();
        let requests = self.number("max_reqs_per_event", said, REQUESTS_DEFAULT);
        let buffers = self.size(
            "buffer_memory",
            &settings.buffer_memory,
            BUFFER_MEMORY_DEFAULT,
        );
        // `settings.rs` bounds each of these numbers within its type.
        Ok(crate::server::Options {
            listen: sockets.listen,
            listen_asked: !settings.listen.is_empty() || settings.port.is_some(),
            unix: sockets.unix,
            access: None,
            auth_file: auth.file,
            sasl: auth.sasl,
            binary_strict: self.switch("binary_strict", &settings.binary_strict),
            tls,
            idle_timeout_seconds: self.idle_timeout(settings),
            threads: usize::try_from(threads).unwrap_or(usize::MAX),
            connections_max: usize::try_from(connections).unwrap_or(usize::MAX),
            backlog: i32::try_from(backlog).unwrap_or(i32::MAX),
            requests_per_event: u32::try_from(requests).unwrap_or(u32::MAX),
            buffer_budget_bytes: usize::try_from(buffers.value).unwrap_or(usize::MAX),
            http: self.http(settings.http.clone(), &settings.http_hosts, allow_remote)?,
            admin_socket: self.admin_socket(&settings.admin_socket),
            service_names: !self.switch("no_service_names", &settings.no_service_names),
            user: self.user(settings.user.clone())?,
            pid_file: self.path("pidfile", &settings.pidfile),
            port_file: self.machine.port_file.clone(),
            lock_memory: self.switch("lock_memory", &settings.lock_memory),
            daemonize: self.switch("daemon", &settings.daemon),
        })
    }

    /// Who may connect, and write. Looks names up, which may block.
    fn access(&mut self, settings: &Settings) -> Result<Option<access::Rules>, ConfigError> {
        let Some(Sourced { value, origin }) = &settings.access else {
            self.record("access", "off".into(), &Origin::built_in());
            return Ok(None);
        };
        self.record("access", value.shown(), origin);
        if let Some(warning) = value.warning() {
            self.warnings.push(format!("access ({origin}): {warning}"));
        }
        let rules = value.resolve(self.machine)?;
        self.guarded = rules.is_some();
        Ok(rules)
    }

    /// Which protocol is spoken, and by whom: without `-S` the text protocol alone can ask.
    fn auth(&mut self, settings: &Settings) -> Result<Auth, ConfigError> {
        let sasl = self.switch("enable_sasl", &settings.enable_sasl);
        let file = self.path("auth_file", &settings.auth_file);
        if let (Some(said), true, None) = (&settings.enable_sasl, sasl, &file) {
            let problem = Problem::new(
                "there are no users",
                "name a file of user:password lines with -Y FILE",
            );
            return Err(ConfigError::refused("enable_sasl", &said.origin, &problem));
        }
        let text_alone = file.is_some() && !sasl;
        let usual = if text_alone {
            Protocol::Text
        } else {
            Protocol::Auto
        };
        let show = |protocol: &Protocol| show::protocol(*protocol).to_owned();
        let protocol = self.pick("protocol", settings.protocol.clone(), usual, show);
        if sasl && protocol.value == Protocol::Text {
            let problem = Problem::new("SASL needs the binary protocol", "give auto or binary");
            return Err(ConfigError::value(
                "protocol",
                "ascii",
                &protocol.origin,
                &problem,
            ));
        }
        self.usual.protocol = protocol.value;
        Ok(Auth { file, sasl })
    }

    /// Where users are asked for without SASL, nobody could say who they are in the binary protocol.
    fn check_protocols(&self, sockets: &Sockets, auth: &Auth) -> Result<(), ConfigError> {
        let listen = sockets.listen.iter().map(|listen| listen.protocol);
        let unix = sockets.unix.iter().map(|unix| unix.protocol);
        let is_text = listen
            .chain(unix)
            .all(|protocol| protocol == Protocol::Text);
        if auth.file.is_none() || auth.sasl || is_text {
            return Ok(());
        }
        let problem = Problem::new(
            "without SASL only the text protocol can ask who a client is",
            "add -S, or leave -B and proto[...] out",
        );
        let shown = self.shown.iter().find(|shown| shown.key == "auth_file");
        let subject = shown.map_or_else(|| "auth_file".to_owned(), Shown::to_string);
        Err(ConfigError::line(&subject, &problem))
    }

    /// `-Z` and what belongs to it.
    fn tls(&mut self, settings: &Settings) -> Result<Option<tls::Options>, ConfigError> {
        let said = settings.enable_ssl.as_ref();
        let origin = said.map_or_else(Origin::built_in, |said| said.origin.clone());
        let enabled = self.switch("enable_ssl", &settings.enable_ssl);
        let ssl = settings.ssl.clone();
        if !enabled {
            if ssl.is_said() {
                let warning = "extended: its ssl_ options have no effect, as TLS is off; add -Z";
                self.warnings.push(warning.to_owned());
            }
            return Ok(None);
        }
        let (Some(chain_cert), Some(key)) = (ssl.chain_cert, ssl.key) else {
            let missing = match &settings.ssl.chain_cert {
                Some(_) => "TLS needs the key of its certificate too",
                None => "TLS needs a certificate and its key",
            };
            let problem = Problem::new(
                missing,
                "name PEM files with -o ssl_chain_cert=FILE,ssl_key=FILE",
            );
            return Err(ConfigError::refused("enable_ssl", &origin, &problem));
        };
        let verify = ssl.verify.map_or(tls::Verify::Nobody, |said| said.value);
        self.usual.security = Security::Tls(verify);
        if verify != tls::Verify::Nobody && ssl.ca_cert.is_none() {
            let problem = Problem::new(
                "nobody vouches for the clients' certificates",
                "name a PEM file with -o ssl_ca_cert=FILE, or leave ssl_verify_mode out",
            );
            return Err(ConfigError::line("extended: ssl_verify_mode", &problem));
        }
        let asks = |place: &Sourced<Place>| place.value.security == Some(MUTUAL);
        let nobody = verify == tls::Verify::Nobody && !settings.listen.iter().any(asks);
        if nobody && ssl.ca_cert.is_some() {
            let warning = "extended: ssl_ca_cert alone asks nobody for a certificate; add ssl_verify_mode=2, or \
                mtls: before an address";
            self.warnings.push(warning.to_owned());
        }
        Ok(Some(tls::Options {
            chain_cert: chain_cert.value,
            key: key.value,
            ca_cert: ssl.ca_cert.map(|said| said.value),
            verify,
            oldest: ssl.oldest.map_or(tls::Oldest::Tls12, |said| said.value),
            session_cache: ssl.session_cache.is_some_and(|said| said.value),
        }))
    }

    /// After how many seconds a silent connection is closed.
    fn idle_timeout(&mut self, settings: &Settings) -> Option<u32> {
        let said = settings
            .idle_timeout
            .as_ref()
            .filter(|said| said.value > 0)?;
        self.warnings.push(format!(
            "extended = \"idle_timeout={}\" ({}): a process of keystonemiddleware's that meets a closed connection \
             does without its cache for memcache_pool_dead_retry, 300 s; leave it out",
            said.value, said.origin
        ));
        Some(said.value)
    }

    fn threads(&mut self, said: Said<u64>) -> u64 {
        let threads = self.pick("threads", said, THREADS_DEFAULT, u64::to_string);
        if threads.value > THREADS_ADVISED_MAX {
            self.warnings.push(format!(
                "threads = \"{}\" ({}): more than the machine's cores gain nothing",
                threads.value, threads.origin
            ));
        }
        threads.value
    }

    /// The user to become: none unless root started us, as memcached has it.
    fn user(&mut self, said: Said<String>) -> Result<Option<String>, ConfigError> {
        let Some(Sourced {
            value: user,
            origin,
        }) = said
        else {
            self.record("user", "none".into(), &Origin::built_in());
            if self.machine.root {
                let advice = "runs as root; name another user, such as -u memcache";
                self.warnings
                    .push(format!("user = \"none\" (default): {advice}"));
            }
            return Ok(None);
        };
        self.record("user", user.clone(), &origin);
        let known = (self.machine.user_known)(&user);
        let subject = format!("user = \"{}\" ({origin})", user.escape_debug());
        match (known, self.machine.root) {
            (true, true) => Ok(Some(user)),
            (false, true) => Err(ConfigError::line(
                &subject,
                &Problem::new("there is no such user", "create it, or name another one"),
            )),
            (true, false) => {
                self.notes
                    .push(format!("{subject}: no effect, not started as root"));
                Ok(None)
            }
            (false, false) => {
                let what = "there is no such user; no effect now, but as root it would not start";
                self.warnings.push(format!("{subject}: {what}"));
                Ok(None)
            }
        }
    }

    fn delimiter(&mut self, said: Said<u8>) -> Option<u8> {
        let given = said.as_ref().map(|said| said.value);
        let show = |byte: &u8| char::from(*byte).to_string();
        self.pick("prefix_delimiter", said, b':', show);
        given
    }

    /// Settings that are accepted and not acted on, each with its reason.
    fn remarks(&mut self, settings: &Settings) {
        if let Some(udp) = settings.udp_port.as_ref().filter(|udp| udp.value != 0) {
            self.warnings.push(format!(
                "udp_port = \"{}\" ({}): UDP is not served",
                udp.value, udp.origin
            ));
        }
        self.number("udp_port", settings.udp_port.clone(), 0);
        if let Some(dumps) = settings
            .enable_coredumps
            .as_ref()
            .filter(|dumps| dumps.value)
        {
            self.notes.push(format!(
                "enable_coredumps ({}): core dumps stay off, they would hold live tokens",
                dumps.origin
            ));
        }
    }
}

/// Who may speak.
struct Auth {
    file: Option<PathBuf>,
    sasl: bool,
}

/// An encrypted address needs TLS, clients' certificates somebody who vouches for them, and TLS an
/// address.
fn check_security(sockets: &Sockets, tls: Option<&tls::Options>) -> Result<(), ConfigError> {
    if tls.is_some() && sockets.listen.is_empty() {
        let what = "there is no TCP address to encrypt";
        let problem = Problem::new(what, "name one with -l or -p, or leave -Z out");
        return Err(ConfigError::line("enable_ssl", &problem));
    }
    let vouched = tls.is_some_and(|tls| tls.ca_cert.is_some());
    for listen in &sockets.listen {
        let written = listen::written(listen, PLAIN);
        let fail = |what, remedy| {
            let subject = format!("listen = \"{written}\"");
            Err(ConfigError::line(&subject, &Problem::new(what, remedy)))
        };
        match listen.security {
            Security::Tls(_) if tls.is_none() => {
                return fail(
                    "TLS is off",
                    "add -Z and -o ssl_chain_cert=FILE,ssl_key=FILE, or leave the prefix out",
                );
            }
            Security::Tls(tls::Verify::Everybody) if !vouched => {
                return fail(
                    "clients' certificates cannot be checked",
                    "add -o ssl_ca_cert=FILE, or leave mtls: out",
                );
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_size(
    key: &str,
    size: &Sourced<u64>,
    checked: Result<(), Problem>,
) -> Result<(), ConfigError> {
    let text = show_size(size.value);
    checked.map_err(|problem| ConfigError::value(key, &text, &size.origin, &problem))
}
