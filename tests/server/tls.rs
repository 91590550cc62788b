//! TLS: who is served, who is not, and that certificates change while it runs.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::daemon::{Client, Daemon, Folder, PROGRAM, pattern, refused, wait_until};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Somebody who vouches for servers and clients, with files of theirs in a folder.
struct Authority {
    folder: Folder,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority {
            folder: Folder::new(),
            issuer,
        };
        fs::write(authority.folder.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority.issue("server");
        authority.issue("client");
        authority
    }

    /// A new certificate and key for 127.0.0.1, as `NAME.pem` and `NAME.key`.
    fn issue(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.folder.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(
            self.folder.path(&format!("{name}.key")),
            key.serialize_pem(),
        )
        .unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.folder.text(name)
    }

    /// A server with TLS on TCP, and a unix socket to look at it without.
    fn serve(&self, more: &str) -> Daemon {
        let (chain, key, ca) = (
            self.file("server.pem"),
            self.file("server.key"),
            self.file("ca.pem"),
        );
        Daemon::start(&format!(
            "-Z -o ssl_chain_cert={chain},ssl_key={key},ssl_ca_cert={ca} -s {} {more}",
            self.file("socket")
        ))
    }

    fn plain(&self) -> Client<std::os::unix::net::UnixStream> {
        Client::unix(self.folder.path("socket"))
    }

    fn client(
        &self,
        shows: Option<&str>,
        version: &'static SupportedProtocolVersion,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.folder.path("ca.pem")).unwrap())
            .unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        match shows {
            None => builder.with_no_client_auth(),
            Some(name) => builder
                .with_client_auth_cert(
                    vec![certificate(&self.folder.path(&format!("{name}.pem")))],
                    PrivateKeyDer::from_pem_file(self.folder.path(&format!("{name}.key"))).unwrap(),
                )
                .unwrap(),
        }
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

fn connect(address: SocketAddr, config: ClientConfig) -> Stream {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(crate::daemon::LIMIT)).unwrap();
    StreamOwned::new(connection, stream)
}

/// Whether a client is served at all.
fn is_served(mut stream: Stream) -> bool {
    let mut answer = [0; 16];
    stream.write_all(b"version\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == *b"VERSION 1.6.45\r\n"
}

#[test]
fn what_is_served_over_tls_is_what_is_served_without() {
    let authority = Authority::new();
    let daemon = authority.serve("-I 8m");
    for version in [&TLS12, &TLS13] {
        let mut client = Client::new(connect(daemon.address(), authority.client(None, version)));
        for length in [0, 1, 16_384, 100_000, 5_000_000] {
            let value = pattern(7, length);
            client.must_set("tokens/k", &value);
            assert!(client.get("tokens/k").unwrap() == value, "{length}");
        }
        client.send(b"get tokens/k\r\n".repeat(20));
        for _ in 0..20 {
            assert!(client.value("tokens/k").is_some());
            client.line();
        }
    }
    let settings = authority.plain().stats("settings");
    let of = |name: &str| {
        settings
            .iter()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(of("ssl_enabled"), "yes");
    assert_eq!(of("ssl_key"), authority.file("server.key"));
    assert_eq!(of("ssl_verify_mode"), "0");
    assert_eq!(of("ssl_min_version"), "tlsv1.2");
}

#[test]
fn a_client_that_speaks_no_tls_is_closed_and_counted_and_reaches_nothing() {
    let authority = Authority::new();
    let daemon = authority.serve("");
    authority.plain().must_set("k", b"1");
    let garbage: [&[u8]; 4] = [
        b"flush_all\r\n",
        b"\x80\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x16; 70_000],
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(daemon.address()).unwrap();
        // The server may close before all of it is written.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"OK"));
    }
    // One who leaves in the middle of a handshake.
    TcpStream::connect(daemon.address())
        .unwrap()
        .write_all(b"\x16\x03\x01")
        .unwrap();
    let mut plain = authority.plain();
    wait_until("all are counted", || {
        plain.stat("ssl_handshake_errors") == 5
    });
    wait_until("all are closed", || plain.stat("curr_connections") == 1);
    assert_eq!(plain.get("k").unwrap(), b"1");
    assert!(is_served(connect(
        daemon.address(),
        authority.client(None, &TLS13)
    )));
}

#[test]
fn clients_show_certificates_where_they_are_asked_to() {
    let authority = Authority::new();
    let stranger = Authority::new();
    for (options, nobody, known) in [
        ("-o ssl_verify_mode=0", true, true),
        ("-o ssl_verify_mode=1", true, true),
        ("-o ssl_verify_mode=2", false, true),
    ] {
        let daemon = authority.serve(options);
        let served = |config| is_served(connect(daemon.address(), config));
        assert_eq!(served(authority.client(None, &TLS13)), nobody, "{options}");
        assert_eq!(
            served(authority.client(Some("client"), &TLS13)),
            known,
            "{options}"
        );
    }
    let daemon = authority.serve("-o ssl_verify_mode=1");
    let mut config = authority.client(None, &TLS13);
    config.client_auth_cert_resolver = stranger
        .client(Some("client"), &TLS13)
        .client_auth_cert_resolver;
    assert!(
        !is_served(connect(daemon.address(), config)),
        "one that nobody here vouches for"
    );
}

#[test]
fn the_oldest_version_is_the_one_that_is_set() {
    let authority = Authority::new();
    let daemon = authority.serve("-o ssl_min_version=3");
    assert!(!is_served(connect(
        daemon.address(),
        authority.client(None, &TLS12)
    )));
    assert!(is_served(connect(
        daemon.address(),
        authority.client(None, &TLS13)
    )));
}

#[test]
fn prefixes_say_which_addresses_are_encrypted() {
    let authority = Authority::new();
    let options = format!(
        "-Z -o ssl_chain_cert={},ssl_key={},ssl_ca_cert={} --http off",
        authority.file("server.pem"),
        authority.file("server.key"),
        authority.file("ca.pem")
    );
    let daemon = Daemon::with(&format!("-l notls:127.0.0.1:0 {options}"));
    assert_eq!(daemon.client().ask("version\r\n"), "VERSION 1.6.45");
    let daemon = Daemon::with(&format!("-l mtls:127.0.0.1:0 {options}"));
    assert!(!is_served(connect(
        daemon.address(),
        authority.client(None, &TLS13)
    )));
    assert!(is_served(connect(
        daemon.address(),
        authority.client(Some("client"), &TLS13)
    )));
}

#[test]
fn sighup_brings_new_certificates_and_bad_ones_change_nothing() {
    let authority = Authority::new();
    let mut daemon = authority.serve("");
    let shown = || {
        let mut stream = connect(daemon.address(), authority.client(None, &TLS13));
        stream.write_all(b"version\r\n").unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
        stream.conn.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    };
    let mut old = Client::new(connect(daemon.address(), authority.client(None, &TLS13)));
    old.must_set("k", b"1");
    let before = certificate(&authority.folder.path("server.pem"));
    assert_eq!(shown(), before);
    authority.issue("server");
    let after = certificate(&authority.folder.path("server.pem"));
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("certificates are read again");
    let shown = || {
        let mut stream = connect(daemon.address(), authority.client(None, &TLS13));
        stream.write_all(b"version\r\n").unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
        stream.conn.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    };
    assert_eq!(shown(), after);
    fs::write(authority.folder.path("server.key"), "no key").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("the certificates read before stay in use");
    assert_eq!(old.get("k").unwrap(), b"1", "a connection outlives both");
    assert!(is_served(connect(
        daemon.address(),
        authority.client(None, &TLS13)
    )));
}

#[test]
fn files_that_cannot_be_used_end_the_start_in_one_line() {
    let authority = Authority::new();
    let file = |name: &str| authority.file(name);
    fs::write(authority.folder.path("empty"), "").unwrap();
    authority.issue("other");
    let (pem, key) = (file("server.pem"), file("server.key"));
    for (options, told) in [
        (
            String::new(),
            "name PEM files with -o ssl_chain_cert=FILE,ssl_key=FILE",
        ),
        (
            format!("-o ssl_chain_cert=/nowhere,ssl_key={key}"),
            "ssl_chain_cert: /nowhere cannot be read",
        ),
        (
            format!("-o ssl_chain_cert={},ssl_key={key}", file("empty")),
            "has nothing of that kind in it",
        ),
        (format!("-o ssl_chain_cert={pem},ssl_key={pem}"), "ssl_key"),
        (
            format!("-o ssl_chain_cert={pem},ssl_key={}", file("other.key")),
            "and its key",
        ),
        (
            format!("-o ssl_chain_cert={pem},ssl_key={key},ssl_verify_mode=2"),
            "ssl_ca_cert=FILE",
        ),
        (
            format!("-o ssl_chain_cert={pem},ssl_key={key},ssl_min_version=1"),
            "give ssl_min_version=2 (TLS 1.2) or 3",
        ),
        (
            format!("-o ssl_chain_cert={pem},ssl_key={key} -l mtls:127.0.0.1:0"),
            "leave mtls: out",
        ),
    ] {
        let mut command = Command::new(PROGRAM);
        command
            .args("-Z -p -1 -u root --http off".split(' '))
            .args(options.split_whitespace());
        let (status, text) = refused(command);
        assert_eq!(status, Some(78), "{options}: {text}");
        let error = text
            .lines()
            .find(|line| line.starts_with("tokencached:"))
            .unwrap_or_default();
        assert!(error.contains(told), "{options}: {text}");
    }
}
