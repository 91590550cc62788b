//! Certificates: whose are wanted, that they change while it runs, and which files do not do.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;

use rustix::process::Signal;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::{Authority, certificate, connect, is_served};
use crate::daemon::{Client, Daemon, PROGRAM, refused, wait_until};

/// The certificate that a new connection is shown.
fn shown(authority: &Authority, daemon: &Daemon) -> CertificateDer<'static> {
    let mut stream = connect(daemon.address(), authority.client(None, &TLS13));
    stream.write_all(b"version\r\n").unwrap();
    stream.read_exact(&mut [0; 16]).unwrap();
    let certificates = stream.conn.peer_certificates().unwrap();
    certificates[0].clone().into_owned()
}

fn in_file(authority: &Authority) -> CertificateDer<'static> {
    certificate(&authority.folder.path("server.pem"))
}

#[test]
fn clients_show_certificates_where_they_are_asked_to() {
    let authority = Authority::new();
    for (options, nobody, known) in [
        ("-o ssl_verify_mode=0", true, true),
        ("-o ssl_verify_mode=1", true, true),
        ("-o ssl_verify_mode=2", false, true),
        ("-o ssl_verify_mode=3", false, true),
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
}

#[test]
fn a_certificate_that_nobody_here_vouches_for_is_as_bad_as_none() {
    let authority = Authority::new();
    let stranger = Authority::new();
    for options in [
        "-o ssl_verify_mode=1",
        "-o ssl_verify_mode=2",
        "-l mtls:127.0.0.1:0",
    ] {
        let daemon = authority.serve_at(options);
        for version in [&TLS12, &TLS13] {
            let mut config = authority.client(None, version);
            config.client_auth_cert_resolver = stranger
                .client(Some("client"), version)
                .client_auth_cert_resolver;
            let stream = connect(daemon.address(), config);
            assert!(!is_served(stream), "{options} {version:?}");
        }
        let mut plain = authority.plain();
        wait_until("both are counted", || {
            plain.stat("ssl_handshake_errors") == 2
        });
    }
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
fn refresh_certs_brings_new_certificates_and_bad_ones_change_nothing() {
    let authority = Authority::new();
    let mut daemon = authority.serve("");
    let mut old = Client::new(connect(daemon.address(), authority.client(None, &TLS13)));
    old.must_set("k", b"1");
    let before = in_file(&authority);
    assert_eq!(shown(&authority, &daemon), before);
    authority.issue("server");
    assert_eq!(shown(&authority, &daemon), before, "until it is told");
    assert_eq!(authority.plain().ask("refresh_certs"), "OK");
    assert_eq!(shown(&authority, &daemon), in_file(&authority));
    assert_ne!(in_file(&authority), before);
    authority.issue("server");
    assert_eq!(old.ask("refresh_certs"), "OK", "whoever asks");
    let last = in_file(&authority);
    assert_eq!(shown(&authority, &daemon), last);

    let (key, ca) = (authority.file("server.key"), authority.file("ca.pem"));
    authority.issue("other");
    fs::copy(authority.folder.path("other.key"), &key).unwrap();
    let answer = old.ask("refresh_certs");
    assert!(
        answer.starts_with("Error validating the certificate: "),
        "{answer}"
    );
    fs::write(&key, "no key").unwrap();
    let answer = format!("Error loading the key: {key} : has no unencrypted key in it");
    assert_eq!(old.ask("refresh_certs"), answer);
    fs::remove_file(authority.folder.path("server.pem")).unwrap();
    let answer = old.ask("refresh_certs");
    assert!(
        answer.starts_with("Error loading the certificate chain: "),
        "{answer}"
    );
    daemon.wait_for_log("the certificates read before stay in use; mend it");
    assert_eq!(
        old.get("k").unwrap(),
        b"1",
        "a connection outlives all of it"
    );
    assert_eq!(shown(&authority, &daemon), last);
    authority.issue("server");
    fs::write(&ca, "").unwrap();
    let answer = format!("Error loading the CA certificate: {ca} : has no certificate in it");
    assert_eq!(old.ask("refresh_certs"), answer);
    old.stat("time_since_server_cert_refresh");
}

#[test]
fn refresh_certs_is_unknown_where_there_is_no_tls() {
    let daemon = Daemon::start("");
    let mut client = daemon.client();
    assert_eq!(client.ask("refresh_certs"), "ERROR");
    assert_eq!(client.ask("version"), "VERSION 1.6.45");
    let stats = client.stats("");
    assert!(
        !stats
            .iter()
            .any(|(name, _)| name.contains("ssl") || name.contains("cert"))
    );
}

#[test]
fn sighup_brings_new_certificates_and_bad_ones_change_nothing() {
    let authority = Authority::new();
    let mut daemon = authority.serve("");
    let mut old = Client::new(connect(daemon.address(), authority.client(None, &TLS13)));
    old.must_set("k", b"1");
    authority.issue("server");
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("certificates are read again");
    assert_eq!(shown(&authority, &daemon), in_file(&authority));
    fs::write(authority.folder.path("server.key"), "no key").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("the certificates read before stay in use");
    assert_eq!(old.get("k").unwrap(), b"1", "a connection outlives both");
    assert_eq!(shown(&authority, &daemon), in_file(&authority));
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
            "extended = \"ssl_chain_cert=/nowhere\" (command line -o): /nowhere: cannot be read: No such",
        ),
        (
            format!("-o ssl_chain_cert={},ssl_key={key}", file("empty")),
            "has no certificate in it; name a PEM file",
        ),
        (
            format!("-o ssl_chain_cert={pem},ssl_key={pem}"),
            "server.pem: has no unencrypted key in it",
        ),
        (
            format!("-o ssl_chain_cert={pem},ssl_key={}", file("other.key")),
            "other.key: is not the key of the certificate in ",
        ),
        (
            format!("-o ssl_chain_cert={pem},ssl_key={key},ssl_ca_cert={key}"),
            "server.key: has no certificate in it",
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
