//! The part of the resolution that is about addresses: where to listen, on TCP
//! and on a unix socket, and where HTTP is served.
//!
//! More of `resolve.rs`'s `Resolver`, which calls [`Resolver::sockets`] and
//! [`Resolver::http`]; the forms of addresses are `listen.rs`'s.
//!
//! Invariants:
//! - there is a socket to listen on, or an error;
//! - a wildcard address needs `--allow-remote`, whichever way it was written
//!   or looked up; every other address beyond loopback comes with a warning;
//! - of the default addresses only 127.0.0.1 is required: without IPv6 in the
//!   kernel there is no ::1, and that is no fault.
//!
//! Differs from memcached: `-s` with `-l` or `-p` serves both, where memcached
//! drops TCP; without `-l` only loopback is served.

use std::net::IpAddr;

use super::ConfigError;
use super::listen::{self, Place, Reach};
use super::resolve::Resolver;
use super::settings::{AdminSocket, Http, Origin, Said, Settings, Sourced};
use super::show::Shown;
use super::units::Problem;
use crate::server::tls::Verify;
use crate::server::{AdminSocketOptions, HttpOptions, Listen, Security, UnixSocket};

pub(super) const PORT_DEFAULT: u16 = 11211;
pub(super) const UNIX_MASK_DEFAULT: u32 = 0o700;
const HTTP_PORT_DEFAULT: u16 = 9150;

/// Where to listen.
pub(super) struct Sockets {
    pub(super) listen: Vec<Listen>,
    pub(super) unix: Option<UnixSocket>,
}

impl Sockets {
    /// Access rules name loopback's clients alone: where no address is there, they would refuse everybody.
    pub(super) fn check_reach(&self, settings: &Settings) -> Result<(), ConfigError> {
        let is_remote = |listen: &Listen| listen::reach(listen.addr.ip()) == Reach::Network;
        let has_others = self.unix.is_some() || !self.listen.iter().all(is_remote);
        match &settings.access {
            Some(said) if !has_others => {
                let problem = Problem::new(
                    "clients of addresses beyond loopback cannot be named, so that nobody could connect",
                    "listen on a loopback address or a unix socket too, or leave the rules out",
                );
                Err(ConfigError::refused("access", &said.origin, &problem))
            }
            _ => Ok(()),
        }
    }
}

impl Resolver<'_> {
    /// Where to listen. Looks names up, which may block.
    pub(super) fn sockets(
        &mut self,
        settings: &Settings,
        allow_remote: bool,
    ) -> Result<Sockets, ConfigError> {
        let unix = self.unix(settings);
        let port = self.pick("port", settings.port.clone(), Some(PORT_DEFAULT), |port| {
            port.map_or("-1".into(), |port| port.to_string())
        });
        let asked = !settings.listen.is_empty() || settings.port.is_some();
        let tcp = port.value != Some(0) && (unix.is_none() || asked);
        if !tcp && unix.is_none() {
            let problem = Problem::new(
                "turns TCP off, and there is no unix socket",
                "give a port, or a socket with -s",
            );
            return Err(ConfigError::value("port", "0", &port.origin, &problem));
        }
        if !tcp && !settings.listen.is_empty() {
            self.warnings.push(format!(
                "port = \"0\" ({}): turns TCP off, so the addresses of listen are not served",
                port.origin
            ));
        }
        let listen = if tcp {
            self.tcp(settings, port.value.unwrap_or(0), allow_remote)?
        } else {
            self.record("listen", "off".into(), &tcp_off_by(settings, port.origin));
            Vec::new()
        };
        Ok(Sockets { listen, unix })
    }

    fn unix(&mut self, settings: &Settings) -> Option<UnixSocket> {
        let mask = settings.unix_mask.clone();
        let mask = self.pick("unix_mask", mask, UNIX_MASK_DEFAULT, |mask| {
            format!("{mask:04o}")
        });
        let path = self.path("unix_socket", &settings.unix_socket)?;
        Some(UnixSocket {
            path,
            mode: mask.value,
            protocol: self.usual.protocol,
        })
    }

    fn tcp(
        &mut self,
        settings: &Settings,
        port: u16,
        allow_remote: bool,
    ) -> Result<Vec<Listen>, ConfigError> {
        let defaults = loopback_places();
        let places = if settings.listen.is_empty() {
            &defaults
        } else {
            &settings.listen
        };
        let mut all = Vec::new();
        let mut sources: Vec<String> = Vec::new();
        for Sourced {
            value: place,
            origin,
        } in places
        {
            let security = place.security.unwrap_or(self.usual.security);
            let exposed = if self.guarded {
                EXPOSED_TO_NOBODY
            } else {
                exposed_cache(security, settings.auth_file.is_some())
            };
            let listens = self.place("listen", place, port, origin, allow_remote, exposed)?;
            listen::merge(&mut all, listens)
                .map_err(|problem| ConfigError::value("listen", &place.host, origin, &problem))?;
            if !sources.contains(&origin.to_string()) {
                sources.push(origin.to_string());
            }
        }
        if settings.listen.is_empty() {
            // Without IPv6 in the kernel there is no ::1, and that is no fault.
            all.iter_mut()
                .for_each(|listen| listen.required = listen.addr.is_ipv4());
        }
        let written = |listen| listen::written(listen, self.usual);
        let addresses: Vec<_> = all.iter().map(written).collect();
        self.shown.push(Shown {
            key: "listen",
            value: addresses.join(","),
            source: sources.join(", "),
        });
        Ok(all)
    }

    /// The sockets of one place, after a look at who can reach them.
    fn place(
        &mut self,
        key: &str,
        place: &Place,
        port: u16,
        origin: &Origin,
        allow_remote: bool,
        exposed: &str,
    ) -> Result<Vec<Listen>, ConfigError> {
        let fail = |problem| ConfigError::value(key, &place.host, origin, &problem);
        let listens = listen::addresses(place, port, self.usual, self.machine).map_err(fail)?;
        let reaches = listens.iter().map(|listen| listen::reach(listen.addr.ip()));
        let wildcard = reaches.clone().any(|reach| reach == Reach::Everywhere);
        if wildcard && !allow_remote {
            return Err(fail(Problem::new(
                "every address of this machine would be served",
                "name one address such as 127.0.0.1, or add --allow-remote (allow_remote = true in a file of --config)",
            )));
        }
        if reaches.into_iter().any(|reach| reach != Reach::Loopback) {
            let host = place.host.escape_debug();
            let warning =
                format!("{key} = \"{host}\" ({origin}): not a loopback address; {exposed}");
            self.warnings.push(warning);
        }
        Ok(listens)
    }

    /// Where HTTP is served, if at all. Looks a name up, which may block.
    pub(super) fn http(
        &mut self,
        said: Said<Http>,
        hosts: &[Sourced<String>],
        allow_remote: bool,
    ) -> Result<Option<HttpOptions>, ConfigError> {
        let mut hosts = self.http_hosts(hosts);
        let required = said.is_some();
        let default = Http::At(Place::host("127.0.0.1"));
        let said = said.unwrap_or(Sourced {
            value: default,
            origin: Origin::built_in(),
        });
        let Http::At(place) = said.value else {
            self.record("http", "off".into(), &said.origin);
            return Ok(None);
        };
        let port = HTTP_PORT_DEFAULT;
        let found = self.place(
            "http",
            &place,
            port,
            &said.origin,
            allow_remote,
            EXPOSED_METRICS,
        )?;
        let first = found
            .into_iter()
            .map(|listen| listen.addr)
            .min_by_key(|addr| addr.is_ipv6());
        let Some(addr) = first else { return Ok(None) };
        self.record("http", addr.to_string(), &said.origin);
        // Who names it to be served there means it to be asked by that name, too.
        if place.host.parse::<IpAddr>().is_err() {
            hosts.push(place.host);
        }
        Ok(Some(HttpOptions {
            addr,
            required,
            hosts,
        }))
    }

    /// Where the admin socket is, if anywhere.
    pub(super) fn admin_socket(&mut self, said: &Said<AdminSocket>) -> Option<AdminSocketOptions> {
        let directory = self.machine.runtime_directory.as_deref();
        let (path, origin) = match said {
            None => (
                directory.map(|it| it.join("admin.sock")),
                Origin::built_in(),
            ),
            Some(said) => match &said.value {
                AdminSocket::Off => (None, said.origin.clone()),
                AdminSocket::At(path) => (Some(path.clone()), said.origin.clone()),
            },
        };
        let shown = path.as_ref().map(|path| path.display().to_string());
        self.record(
            "admin_socket",
            shown.unwrap_or_else(|| "off".into()),
            &origin,
        );
        let required = said.is_some();
        path.map(|path| AdminSocketOptions { path, required })
    }

    /// Names under which it may be asked, beside its address.
    fn http_hosts(&mut self, said: &[Sourced<String>]) -> Vec<String> {
        let names: Vec<String> = said.iter().map(|name| name.value.clone()).collect();
        let origin = said
            .first()
            .map_or_else(Origin::built_in, |name| name.origin.clone());
        let shown = match &names[..] {
            [] => "none".to_owned(),
            names => names.join(","),
        };
        self.record("http_hosts", shown, &origin);
        names
    }
}

/// What it means that others reach the cache: TLS hides what is said, and keeps nobody out.
fn exposed_cache(security: Security, asks_users: bool) -> &'static str {
    match security {
        Security::Plain if asks_users => {
            "passwords and cached tokens cross the network as they are (-Z encrypts)"
        }
        Security::Tls(_) if asks_users => {
            "whoever has a user and a password reads and writes every cached token"
        }
        Security::Plain => {
            "whoever reaches it reads and writes every cached token, as there is no authentication"
        }
        Security::Tls(Verify::Nobody | Verify::Shown) => {
            "whoever reaches it reads and writes every cached token, as TLS encrypts but keeps nobody out (mtls: asks for certificates)"
        }
        Security::Tls(Verify::Everybody) => {
            "whoever has a certificate of ssl_ca_cert's reads and writes every cached token"
        }
    }
}

const EXPOSED_TO_NOBODY: &str = "the access rules refuse whoever comes from beyond loopback, as it cannot be named; leave the address out, or the rules";

const EXPOSED_METRICS: &str = "whoever reaches it reads the metrics";

fn loopback_places() -> Vec<Sourced<Place>> {
    ["127.0.0.1", "::1"]
        .map(|host| Sourced {
            value: Place::host(host),
            origin: Origin::built_in(),
        })
        .to_vec()
}

/// What turned TCP off: `-p 0`, or a unix socket that stands alone.
fn tcp_off_by(settings: &Settings, port: Origin) -> Origin {
    match (&settings.port, &settings.unix_socket) {
        (None, Some(unix)) => unix.origin.clone(),
        _ => port,
    }
}
