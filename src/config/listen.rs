//! `-l` and `--http`: from the text of an address to sockets to bind.
//!
//! Two stages. [`parse_list`] reads the form of a list of addresses, when a
//! source is read; [`addresses`] looks the names up, once, when everything is
//! resolved. The form is memcached's: `host`, `host:port`, `[v6]:port`, a bare
//! `::1`, `*`; separated by `,` or `;`; with the prefixes `notls:`, `btls:` or
//! `mtls:`, `proto[...]:` and `tag[...]:` before it (`memcached -h`, "--listen").
//!
//! Invariants:
//! - *one way*: an address that is named twice is served in the same way both
//!   times, or refused.
//! - *IPv6 may be missing*: where a name stands for addresses of both families,
//!   as `localhost` does, the IPv6 ones are not required, so that a machine
//!   without IPv6 starts. An address that was written as numbers is required.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::machine::Machine;
use super::units::{self, Problem};
use crate::protocol::codec::Protocol;
use crate::server::tls::Verify;
use crate::server::{Listen, Security};

/// One address as it was written: a host and perhaps a port of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A name, an address, or `*`.
    pub(super) host: String,
    /// The port behind it; without one, `-p` decides.
    pub(super) port: Option<u16>,
    /// A `tag[...]:` stood before it, which has no effect here.
    pub(super) tagged: bool,
    /// What a `proto[...]:` before it says; without one, `-B` decides.
    pub(super) protocol: Option<Protocol>,
    /// What a `notls:`, `btls:` or `mtls:` before it says; without one, `-Z` decides.
    pub(super) security: Option<Security>,
}

impl Place {
    /// A host alone.
    pub(super) fn host(host: &str) -> Self {
        Place {
            host: host.to_owned(),
            port: None,
            tagged: false,
            protocol: None,
            security: None,
        }
    }
}

/// How an address without a prefix is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usual {
    /// What is spoken (`-B`).
    pub(super) protocol: Protocol,
    /// How it is encrypted (`-Z`).
    pub(super) security: Security,
}

/// Reads a list as `-l` takes it. At least one place, or a problem.
pub(super) fn parse_list(text: &str) -> Result<Vec<Place>, Problem> {
    let entries = text.split([',', ';']).map(str::trim);
    let places: Result<Vec<Place>, Problem> = entries
        .filter(|entry| !entry.is_empty())
        .map(parse_place)
        .collect();
    match places {
        Ok(places) if places.is_empty() => Err(no_address()),
        other => other,
    }
}

/// Reads a host alone, as it stands in a `Host` header: a name or an address, without a port.
pub(super) fn host_name(text: &str) -> Result<&str, Problem> {
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = !text.is_empty() && text.bytes().all(in_name);
    if is_name || text.parse::<IpAddr>().is_ok() {
        return Ok(text);
    }
    Err(Problem::new(
        "not a host's name",
        "give names such as unit-1.example.org, separated by commas, without http:// and port",
    ))
}

fn no_address() -> Problem {
    Problem::new(
        "names no address",
        "give one such as 127.0.0.1, [::1]:11211 or localhost",
    )
}

fn parse_place(entry: &str) -> Result<Place, Problem> {
    let (rest, security) = strip_security(entry);
    let (rest, protocol) = strip_protocol(rest)?;
    let (rest, tagged) = strip_tag(rest)?;
    let (host, port) = split_port(rest)?;
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(no_address());
    }
    // The system would take it for an IPv4 address in one number.
    if host.bytes().all(|byte| byte.is_ascii_digit()) {
        let remedy = format!("give an address too, such as 127.0.0.1:{host}");
        return Err(Problem::new("a number without an address", remedy));
    }
    Ok(Place {
        host: host.to_owned(),
        port,
        tagged,
        protocol,
        security,
    })
}

/// The prefixes that say how an address is encrypted.
const SECURITIES: [(&str, Security); 3] = [
    ("notls:", Security::Plain),
    ("btls:", Security::Tls(Verify::Nobody)),
    ("mtls:", Security::Tls(Verify::Everybody)),
];

fn strip_security(entry: &str) -> (&str, Option<Security>) {
    let stripped = |(prefix, security)| Some((entry.strip_prefix(prefix)?, Some(security)));
    let mut found = SECURITIES.into_iter().filter_map(stripped);
    found.next().unwrap_or((entry, None))
}

/// The names of protocols in `proto[...]`.
const PROTOCOLS: [(&str, Protocol); 3] = [
    ("ascii", Protocol::Text),
    ("binary", Protocol::Binary),
    ("negotiating", Protocol::Auto),
];

/// An address as it can be given where those without a prefix are served as `usual` says.
pub(super) fn written(listen: &Listen, usual: Usual) -> String {
    let security = SECURITIES
        .iter()
        .find(|(_, security)| *security == listen.security && listen.security != usual.security)
        .map_or("", |(prefix, _)| prefix);
    let protocol = PROTOCOLS
        .iter()
        .find(|(_, protocol)| *protocol == listen.protocol && listen.protocol != usual.protocol)
        .map_or_else(String::new, |(name, _)| format!("proto[{name}]:"));
    format!("{security}{protocol}{}", listen.addr)
}

fn strip_protocol(entry: &str) -> Result<(&str, Option<Protocol>), Problem> {
    let Some((name, rest)) = bracketed(entry, "proto") else {
        return Ok((entry, None));
    };
    if let Some((_, protocol)) = PROTOCOLS.iter().find(|(known, _)| *known == name) {
        return Ok((rest, Some(*protocol)));
    }
    let what = match name {
        "proxy" => "proto[proxy] is the proxy's, and there is none",
        _ => "unknown protocol in the proto[...] prefix",
    };
    let remedy = "use ascii, binary or negotiating, or leave the prefix out";
    Err(Problem::new(what, remedy))
}

fn strip_tag(entry: &str) -> Result<(&str, bool), Problem> {
    let tag = bracketed(entry, "tag").or_else(|| {
        let (name, rest) = entry.strip_prefix("tag_")?.split_once('_')?;
        Some((name, rest.strip_prefix(':')?))
    });
    match tag {
        None => Ok((entry, false)),
        Some((name, rest)) if (1..=8).contains(&name.len()) => Ok((rest, true)),
        Some(_) => Err(Problem::new(
            "a tag has 1 to 8 characters",
            "shorten it, or leave it out: tags have no effect here",
        )),
    }
}

/// `word[name]:rest` as (name, rest).
fn bracketed<'t>(text: &'t str, word: &str) -> Option<(&'t str, &'t str)> {
    text.strip_prefix(word)?.strip_prefix('[')?.split_once("]:")
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), Problem> {
    if let Some(inner) = text.strip_prefix('[') {
        let unclosed = || Problem::new("no ] after [", "write an IPv6 address as [::1]:11211");
        let (host, rest) = inner.split_once(']').ok_or_else(unclosed)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(own_port(port)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(Problem::new(
                "unexpected text after ]",
                "write [::1] or [::1]:11211",
            )),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((host, Some(own_port(port)?))),
        _ => Ok((text, None)),
    }
}

fn own_port(text: &str) -> Result<u16, Problem> {
    let max = u64::from(u16::MAX);
    let not_a_port = |_| {
        Problem::new(
            format!("\"{}\" is not a port", text.escape_debug()),
            format!("give a number from 0 (any free port) to {max} after the colon"),
        )
    };
    let port = units::whole(text, 0, max).map_err(not_a_port)?;
    Ok(u16::try_from(port).unwrap_or(u16::MAX))
}

/// The sockets one place stands for. Looks names up, which may block.
pub(super) fn addresses(
    place: &Place,
    default_port: u16,
    usual: Usual,
    machine: &Machine,
) -> Result<Vec<Listen>, Problem> {
    let port = place.port.unwrap_or(default_port);
    let found = look_up(&place.host, port, machine)?;
    let has_v4 = found.iter().any(SocketAddr::is_ipv4);
    let required = |addr: &SocketAddr| addr.is_ipv4() || !has_v4;
    Ok(found
        .into_iter()
        .map(|addr| Listen {
            addr,
            protocol: place.protocol.unwrap_or(usual.protocol),
            security: place.security.unwrap_or(usual.security),
            required: required(&addr),
        })
        .collect())
}

fn look_up(host: &str, port: u16, machine: &Machine) -> Result<Vec<SocketAddr>, Problem> {
    if host == "*" {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        return Ok(any.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let remedy = "give an address, or a name that the system can resolve";
    match (machine.addresses_of)(host, port) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Problem::new("the name has no address", remedy)),
        Err(error) => Err(Problem::new(
            format!(
                "cannot resolve \"{}\": {}",
                host.escape_debug(),
                one_line(&error)
            ),
            remedy,
        )),
    }
}

fn one_line(error: &std::io::Error) -> String {
    error.to_string().replace('\n', " ")
}

/// Adds sockets to a list, each address once; required if any mention is.
///
/// # Errors
/// An address that is there already, with another security.
pub(super) fn merge(list: &mut Vec<Listen>, more: Vec<Listen>) -> Result<(), Problem> {
    for new in more {
        let same = |old: &&mut Listen| old.addr == new.addr && new.addr.port() != 0;
        match list.iter_mut().find(same) {
            Some(old) if (old.security, old.protocol) != (new.security, new.protocol) => {
                let (addr, first, then) = (new.addr, spoken(old), spoken(&new));
                let what = format!("{addr} is named {first} before, and {then} here");
                let remedy = "give each a port of its own, or leave one out";
                return Err(Problem::new(what, remedy));
            }
            Some(old) => old.required |= new.required,
            None => list.push(new),
        }
    }
    Ok(())
}

fn spoken(listen: &Listen) -> String {
    let security = match listen.security {
        Security::Plain => "without TLS",
        Security::Tls(Verify::Nobody) => "with TLS",
        Security::Tls(Verify::Shown) => "with TLS and ssl_verify_mode=1",
        Security::Tls(Verify::Everybody) => "with TLS and clients' certificates",
    };
    match PROTOCOLS
        .iter()
        .find(|(_, protocol)| *protocol == listen.protocol)
    {
        Some((name, _)) if listen.protocol != Protocol::Auto => format!("{security} for {name}"),
        _ => security.to_owned(),
    }
}

/// Who can reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Processes of this machine only.
    Loopback,
    /// Everybody who can route to one address.
    Network,
    /// Everybody who can route to any address of this machine.
    Everywhere,
}

/// Who can reach `ip`; an IPv4 address in IPv6's clothes counts as IPv4.
pub(super) fn reach(ip: IpAddr) -> Reach {
    match ip.to_canonical() {
        ip if ip.is_loopback() => Reach::Loopback,
        ip if ip.is_unspecified() => Reach::Everywhere,
        _ => Reach::Network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, port: Option<u16>) -> Place {
        Place {
            host: host.into(),
            port,
            tagged: false,
            protocol: None,
            security: None,
        }
    }

    #[test]
    fn the_forms_memcached_takes() {
        for (text, host, port) in [
            ("127.0.0.1", "127.0.0.1", None),
            ("127.0.0.1:11212", "127.0.0.1", Some(11212)),
            ("[::1]:0", "::1", Some(0)),
            ("[::1]", "::1", None),
            ("::1", "::1", None),
            ("ip6-localhost", "ip6-localhost", None),
            ("*", "*", None),
        ] {
            assert_eq!(parse_list(text), Ok(vec![place(host, port)]), "{text}");
        }
    }

    #[test]
    fn a_prefix_names_the_protocol() {
        for (text, protocol) in [
            ("proto[ascii]:localhost:1", Protocol::Text),
            ("proto[binary]:localhost:1", Protocol::Binary),
            ("proto[negotiating]:localhost:1", Protocol::Auto),
        ] {
            let expected = Place {
                protocol: Some(protocol),
                ..place("localhost", Some(1))
            };
            assert_eq!(parse_list(text), Ok(vec![expected]), "{text}");
        }
    }

    #[test]
    fn prefixes_say_how_an_address_is_encrypted() {
        for (text, host, security) in [
            ("notls:a", "a", Some(Security::Plain)),
            ("btls:a", "a", Some(Security::Tls(Verify::Nobody))),
            (
                "mtls:proto[ascii]:tag_api_:a",
                "a",
                Some(Security::Tls(Verify::Everybody)),
            ),
            ("tls", "tls", None),
        ] {
            let place = &parse_list(text).unwrap()[0];
            assert_eq!((&*place.host, place.security), (host, security), "{text}");
        }
    }

    #[test]
    fn an_address_speaks_one_way() {
        let listen = |text: &str, security| Listen {
            addr: text.parse().unwrap(),
            protocol: Protocol::Auto,
            security,
            required: false,
        };
        let encrypted = Security::Tls(Verify::Nobody);
        let mut list = vec![listen("127.0.0.1:1", Security::Plain)];
        let mut add = |text, security| merge(&mut list, vec![listen(text, security)]);
        assert_eq!(add("127.0.0.1:1", Security::Plain), Ok(()));
        assert_eq!(add("127.0.0.1:2", encrypted), Ok(()));
        assert_eq!(add("127.0.0.1:0", Security::Plain), Ok(()));
        assert_eq!(add("127.0.0.1:0", encrypted), Ok(()), "two free ports");
        let what = "127.0.0.1:1 is named without TLS before, and with TLS here";
        assert_eq!(add("127.0.0.1:1", encrypted).unwrap_err().what, what);
        assert_eq!(list.len(), 4);
        let usual = |protocol| Usual {
            protocol,
            security: encrypted,
        };
        let (auto, text) = (usual(Protocol::Auto), usual(Protocol::Text));
        assert_eq!(written(&list[0], auto), "notls:127.0.0.1:1");
        assert_eq!(written(&list[1], auto), "127.0.0.1:2");
        assert_eq!(written(&list[1], text), "proto[negotiating]:127.0.0.1:2");
    }

    #[test]
    fn lists_and_tags() {
        let list = parse_list(" a:1, b ;tag[api]:c:3,,tag_api_:d").unwrap();
        let hosts: Vec<_> = list.iter().map(|place| place.host.as_str()).collect();
        assert_eq!(hosts, ["a", "b", "c", "d"]);
        assert!(list[2].tagged && list[3].tagged && !list[0].tagged);
    }

    #[test]
    fn what_is_refused() {
        for (text, what) in [
            ("", "names no address"),
            (" ,; ", "names no address"),
            (":11211", "names no address"),
            ("[::1", "no ] after ["),
            ("[::1]x", "unexpected text after ]"),
            ("host:port", "\"port\" is not a port"),
            ("host:65536", "\"65536\" is not a port"),
            (
                "proto[proxy]:host",
                "proto[proxy] is the proxy's, and there is none",
            ),
            (
                "proto[gopher]:host",
                "unknown protocol in the proto[...] prefix",
            ),
            ("tag[ninechars]:host", "a tag has 1 to 8 characters"),
        ] {
            assert_eq!(parse_list(text).unwrap_err().what, what, "{text}");
        }
    }

    #[test]
    fn who_can_reach_an_address() {
        for (ip, expected) in [
            ("127.8.9.1", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("0.0.0.0", Reach::Everywhere),
            ("::", Reach::Everywhere),
            ("::ffff:0.0.0.0", Reach::Everywhere),
            ("10.0.0.5", Reach::Network),
            ("fe80::1", Reach::Network),
        ] {
            assert_eq!(reach(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
