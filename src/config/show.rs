//! The decided configuration, written down: for `--print-config`, and in
//! memcached's words for `stats settings`.
//!
//! `resolve.rs` records a [`Shown`] for each setting as it decides it, and asks
//! for [`stats_settings`] when all is decided. The engine shows that list as it
//! is, but for what can change while running (`maxbytes`, `verbosity`,
//! `detail_enabled`).
//!
//! Invariants:
//! - *true here*: names of memcached that describe a part that tokencached does
//!   not have (slabs, LRU crawler, hash table) are left out, not invented.
//!   `lru_crawler no` stays, because monitoring asks for it.
//! - *three words a line*: no value is empty or has a space in it; nothing is
//!   `NULL`, as with memcached.

use crate::protocol::codec::Protocol;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::server::tls;

/// A setting that was decided: its name, value and source, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The long name with `_` for `-`, which is the key of the TOML file too.
    pub key: &'static str,
    /// The value in the form in which it can be given.
    pub value: String,
    /// Where the value comes from: `default`, `command line -m`,
    /// `/etc/memcached.conf line 12`, `/etc/tokencached.toml: memory_limit`.
    pub source: String,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} = \"{}\" ({})",
            self.key,
            self.value.escape_debug(),
            self.source
        )
    }
}

/// One setting a line: name, value and source in columns.
pub(super) fn table(settings: &[Shown]) -> String {
    let widest = |text: fn(&Shown) -> &str| {
        let widths = settings.iter().map(|shown| text(shown).chars().count());
        widths.max().unwrap_or(0)
    };
    let (key, value) = (
        widest(|shown| shown.key),
        widest(|shown| &shown.value).min(40),
    );
    let line = |shown: &Shown| {
        format!(
            "{:key$}  {:value$}  {}\n",
            shown.key, shown.value, shown.source
        )
    };
    settings.iter().map(line).collect()
}

/// The values that `stats settings` names, for all three `Options`.
pub(super) struct Facts<'c> {
    pub(super) store: &'c crate::store::Options,
    pub(super) server: &'c crate::server::Options,
    pub(super) port: u16,
    pub(super) unix_mask: u32,
    pub(super) verbosity: u8,
    pub(super) cas: bool,
    pub(super) packing: bool,
    pub(super) flush_allowed: bool,
    pub(super) shutdown_allowed: bool,
    pub(super) dump_allowed: bool,
    pub(super) delimiter: Option<u8>,
}

/// `stats settings`: names and order of memcached 1.6.45.
pub(super) fn stats_settings(facts: &Facts<'_>) -> Vec<(String, String)> {
    let Facts { store, server, .. } = facts;
    let socket = server
        .unix
        .as_ref()
        .map(|unix| unix.path.display().to_string());
    let auth_file = server.auth_file.as_ref();
    let auth_file = auth_file.map(|path| path.display().to_string());
    let delimiter = char::from(facts.delimiter.unwrap_or(b':'));
    let lines = [
        ("maxbytes", store.memory_limit_bytes.to_string()),
        ("maxconns", server.connections_max.to_string()),
        ("tcpport", facts.port.to_string()),
        ("udpport", "0".into()),
        ("inter", interfaces(server, facts.port)),
        ("verbosity", facts.verbosity.to_string()),
        ("oldest", "0".into()),
        ("evictions", if store.evict { "on" } else { "off" }.into()),
        ("domain_socket", socket.unwrap_or_default()),
        ("umask", format!("{:o}", facts.unix_mask)),
        ("shutdown_command", yes_no(facts.shutdown_allowed)),
        ("num_threads", server.threads.to_string()),
        ("stat_key_prefix", delimiter.to_string()),
        ("detail_enabled", yes_no(facts.delimiter.is_some())),
        ("reqs_per_event", server.requests_per_event.to_string()),
        ("cas_enabled", yes_no(facts.cas)),
        ("packing", yes_no(facts.packing)),
        (
            "lasting_idle",
            store.eviction.lasting_idle_seconds.to_string(),
        ),
        ("tcp_backlog", server.backlog.to_string()),
        ("binding_protocol", binding_protocol(server)),
        ("auth_enabled_sasl", yes_no(server.sasl)),
        (
            "auth_enabled_ascii",
            auth_file.unwrap_or_else(|| yes_no(false)),
        ),
        ("item_size_max", store.item_bytes_max.to_string()),
        ("maxconns_fast", yes_no(true)),
        ("lru_crawler", yes_no(false)),
        ("flush_enabled", yes_no(facts.flush_allowed)),
        ("dump_enabled", yes_no(facts.dump_allowed)),
        (
            "idle_timeout",
            server.idle_timeout_seconds.unwrap_or(0).to_string(),
        ),
    ];
    let flags = ("client_flags_size", "4".to_owned());
    lines
        .into_iter()
        .chain(ssl_settings(server.tls.as_ref()))
        .chain([flags])
        .map(|(name, value)| (name.to_owned(), one_word(&value)))
        .collect()
}

/// What memcached shows of TLS. Its numbers of `ssl_verify_mode` and `ssl_keyformat` are OpenSSL's, and
/// what is shown of keys, ciphers, buffers and the kernel holds here too: PEM, those of the library, one
/// record, none.
fn ssl_settings(tls: Option<&tls::Options>) -> [(&'static str, String); 11] {
    let file = |path: Option<&PathBuf>, none: &str| {
        path.map_or_else(|| none.to_owned(), |path| path.display().to_string())
    };
    let verify = match tls.map_or(tls::Verify::Nobody, |tls| tls.verify) {
        tls::Verify::Nobody => 0,
        tls::Verify::Shown => 1,
        tls::Verify::Everybody => 3,
    };
    let oldest = match tls.map_or(tls::Oldest::Tls12, |tls| tls.oldest) {
        tls::Oldest::Tls12 => "tlsv1.2",
        tls::Oldest::Tls13 => "tlsv1.3",
    };
    [
        ("ssl_enabled", yes_no(tls.is_some())),
        (
            "ssl_chain_cert",
            file(tls.map(|tls| &tls.chain_cert), "(null)"),
        ),
        ("ssl_key", file(tls.map(|tls| &tls.key), "(null)")),
        ("ssl_verify_mode", verify.to_string()),
        ("ssl_keyformat", "1".into()),
        ("ssl_ciphers", "NULL".into()),
        (
            "ssl_ca_cert",
            file(tls.and_then(|tls| tls.ca_cert.as_ref()), "NULL"),
        ),
        ("ssl_wbuf_size", "16384".into()),
        (
            "ssl_session_cache",
            yes_no(tls.is_some_and(|tls| tls.session_cache)),
        ),
        ("ssl_kernel_tls", yes_no(false)),
        ("ssl_min_version", oldest.to_owned()),
    ]
}

/// The name that `-B` has for it.
pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Auto => "auto",
        Protocol::Text => "ascii",
        Protocol::Binary => "binary",
    }
}

/// memcached's name for what is spoken; where listeners differ, for what all of them together do.
fn binding_protocol(server: &crate::server::Options) -> String {
    let listen = server.listen.iter().map(|listen| listen.protocol);
    let unix = server.unix.iter().map(|unix| unix.protocol);
    let mut all = listen.chain(unix);
    let first = all.next().unwrap_or_default();
    match first {
        Protocol::Auto => "auto-negotiate",
        _ if all.any(|other| other != first) => "auto-negotiate",
        only => protocol(only),
    }
    .into()
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.into()
}

/// The addresses, without the port where it is the common one.
fn interfaces(server: &crate::server::Options, port: u16) -> String {
    let name = |addr: SocketAddr| match addr.port() == port {
        true => addr.ip().to_string(),
        false => addr.to_string(),
    };
    let names: Vec<_> = server
        .listen
        .iter()
        .map(|listen| name(listen.addr))
        .collect();
    names.join(",")
}

fn one_word(value: &str) -> String {
    let escaped = |c: char| match c {
        c if c.is_whitespace() || c.is_control() => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    match value {
        "" => "NULL".into(),
        value => value.chars().map(escaped).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let shown = |key, value: &str| Shown {
            key,
            value: value.into(),
            source: "default".into(),
        };
        let text = table(&[shown("a", "12345"), shown("longer", "1")]);
        assert_eq!(text, "a       12345  default\nlonger  1      default\n");
    }

    #[test]
    fn values_are_one_word() {
        assert_eq!(one_word(""), "NULL");
        assert_eq!(one_word("/run/a b"), "/run/a\\u{20}b");
    }
}
