//! Whom a request on the HTTP port may be addressed to.
//!
//! A web page can have a browser on this machine resolve a name of the page's own to this machine's address, and then
//! read what is served here as if it were the page's (DNS rebinding). The browser still says the page's name in the
//! `Host` header, so that a request which names anybody else is refused. `admin` asks for each request.
//!
//! Invariant: no name is looked up, and none is admitted but `localhost` and those of the configuration.
//!
//! Source: RFC 9110, "Host and :authority"; RFC 9112, "Request Target".

use std::net::IpAddr;

use hyper::Version;
use hyper::header::{HOST, HeaderMap};
use hyper::http::uri::{Authority, Uri};

/// The name that always means this machine.
const LOCALHOST: &str = "localhost";

/// Names under which the server may be asked, beside `localhost` and its addresses.
#[derive(Debug, Default)]
pub struct Hosts {
    names: Vec<String>,
}

/// What is wrong with whom a request is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not say, or says it twice, or not as a name or an address.
    Unclear,
    /// It is addressed to somebody else.
    Elsewhere,
}

impl Hosts {
    /// Names and addresses of the configuration, without ports; case is of no matter.
    pub fn new(names: &[String]) -> Hosts {
        Hosts {
            names: names.to_vec(),
        }
    }

    /// Whether a request that came in at the address `local` is addressed to this server.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(
        &self,
        (version, uri, headers): (Version, &Uri, &HeaderMap),
        local: IpAddr,
    ) -> Result<(), Fault> {
        let mut named = headers.get_all(HOST).iter();
        let host = match (named.next(), named.next()) {
            (Some(host), None) => Some(host),
            // So old a client is no browser.
            (None, None) if version < Version::HTTP_11 => None,
            _ => return Err(Fault::Unclear),
        };
        if let Some(host) = host {
            let host = Authority::try_from(host.as_bytes()).map_err(|_| Fault::Unclear)?;
            self.admit(&host, local)?;
        }
        uri.authority()
            .map_or(Ok(()), |target| self.admit(target, local))
    }

    fn admit(&self, authority: &Authority, local: IpAddr) -> Result<(), Fault> {
        if authority.as_str().contains('@') {
            return Err(Fault::Unclear);
        }
        let host = authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let is_local = bare.parse().is_ok_and(|address| is_same(address, local));
        if is_local || self.is_named(bare.strip_suffix('.').unwrap_or(bare)) {
            return Ok(());
        }
        Err(Fault::Elsewhere)
    }

    fn is_named(&self, host: &str) -> bool {
        let mut names = self.names.iter().map(String::as_str).chain([LOCALHOST]);
        names.any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// Whether an address is loopback's, or the one that the connection was made to.
fn is_same(address: IpAddr, local: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address == local.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "192.0.2.7";

    fn check(version: Version, uri: &str, hosts: &[&str]) -> Result<(), Fault> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        let own = Hosts::new(&["unit.example".to_owned()]);
        own.check(
            (version, &uri.parse().unwrap(), &headers),
            LOCAL.parse().unwrap(),
        )
    }

    #[test]
    fn loopback_the_bound_address_and_names_of_the_configuration_are_served() {
        for host in [
            "localhost",
            "LOCALHOST:9150",
            "localhost.",
            "127.0.0.1:9150",
            "127.9.9.9",
            "[::1]:9150",
            "[::1]",
            "[::ffff:127.0.0.1]:1",
            "192.0.2.7:9150",
            "[::ffff:192.0.2.7]",
            "unit.example",
            "Unit.Example.:80",
        ] {
            assert_eq!(
                check(Version::HTTP_11, "/metrics", &[host]),
                Ok(()),
                "{host}"
            );
        }
    }

    #[test]
    fn everybody_else_is_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil.example.localhost:80",
            "xlocalhost",
            "127.0.0.1.evil.example",
            "192.0.2.8",
            "0.0.0.0",
            "[::]",
            "[2001:db8::1]",
            "sub.unit.example",
            "localhost..",
        ] {
            let found = check(Version::HTTP_11, "/metrics", &[host]);
            assert_eq!(found, Err(Fault::Elsewhere), "{host}");
        }
    }

    #[test]
    fn a_target_with_a_host_of_its_own_is_held_to_the_same() {
        let check = |uri, host| check(Version::HTTP_11, uri, &[host]);
        assert_eq!(check("http://localhost/metrics", "localhost"), Ok(()));
        let elsewhere = Err(Fault::Elsewhere);
        assert_eq!(check("http://evil.example/", "localhost"), elsewhere);
        assert_eq!(check("http://localhost/", "evil.example"), elsewhere);
    }

    #[test]
    fn one_host_is_asked_for_unless_the_client_is_of_old() {
        let unclear = Err(Fault::Unclear);
        assert_eq!(check(Version::HTTP_11, "/", &[]), unclear);
        assert_eq!(check(Version::HTTP_10, "/", &[]), Ok(()));
        let twice = ["localhost", "localhost"];
        assert_eq!(check(Version::HTTP_11, "/", &twice), unclear);
        assert_eq!(check(Version::HTTP_10, "/", &twice), unclear);
        for host in ["", "a b", "me@localhost", "http://localhost", "localhost/x"] {
            assert_eq!(check(Version::HTTP_11, "/", &[host]), unclear, "{host}");
        }
    }
}
