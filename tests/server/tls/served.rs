//! What is served over TLS is what is served without, to the last byte and to the clients it is for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use socket2::SockRef;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{HandshakeKind, StreamOwned};

use super::{Authority, connect, connection, is_served};
use crate::daemon::{Client, Daemon, KIB, LIMIT, MIB, pattern};

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
    let demanding = format!("{options} -o ssl_verify_mode=2");
    let daemon = Daemon::with(&format!("-l btls:127.0.0.1:0 {demanding}"));
    assert!(is_served(connect(
        daemon.address(),
        authority.client(None, &TLS13)
    )));
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
fn one_who_reads_slowly_gets_all_of_it_and_then_the_end() {
    let authority = Authority::new();
    let daemon = authority.serve("-I 2m");
    let value = pattern(3, MIB);
    authority.plain().must_set("k", &value);
    for (version, small) in [(&TLS12, "x"), (&TLS13, "y")] {
        let socket = TcpStream::connect(daemon.address()).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        // So little that the server always has some of an answer left.
        SockRef::from(&socket)
            .set_recv_buffer_size(32 * KIB)
            .unwrap();
        let config = authority.client(None, version);
        let mut stream = StreamOwned::new(connection(config), socket);
        stream.write_all(b"get k\r\n").unwrap();
        let mut expected = format!("VALUE k 0 {MIB}\r\n").into_bytes();
        expected.extend_from_slice(&value);
        expected.extend_from_slice(b"\r\nEND\r\n");
        let mut answer = vec![0; expected.len()];
        for piece in answer.chunks_mut(30_001) {
            stream.read_exact(piece).unwrap();
        }
        assert!(
            answer == expected,
            "a client that waits for the last byte gets it"
        );
        // Sent in one go, so that the end comes while most of the value is still on its way.
        let requests = format!("set {small} 0 0 1\r\n1\r\nget k\r\nquit\r\n");
        stream.write_all(requests.as_bytes()).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("told of the end");
        assert!(rest == [b"STORED\r\n", &expected[..]].concat());
    }
}

#[test]
fn sessions_are_taken_up_again_only_where_they_are_kept() {
    let authority = Authority::new();
    for (options, kept) in [("", false), ("-o ssl_session_cache", true)] {
        let daemon = authority.serve(options);
        for version in [&TLS12, &TLS13] {
            let config = Arc::new(authority.client(None, version));
            let kind = || {
                let mut stream = connect(daemon.address(), Arc::clone(&config));
                stream.write_all(b"version\r\n").unwrap();
                stream.read_exact(&mut [0; 16]).unwrap();
                stream.conn.handshake_kind().unwrap()
            };
            assert_eq!(kind(), HandshakeKind::Full);
            assert_eq!(kind() == HandshakeKind::Resumed, kept, "{version:?}");
        }
        let stats = authority.plain().stats("");
        let sessions = stats.iter().find(|(name, _)| name == "ssl_new_sessions");
        assert_eq!(sessions.map(|(_, count)| &**count), kept.then_some("2"));
    }
}

#[test]
fn the_settings_of_tls_are_shown_as_memcached_shows_them() {
    let shown = |settings: Vec<(String, String)>| {
        let of_tls = settings
            .into_iter()
            .filter(|(name, _)| name.starts_with("ssl_"));
        let lines = of_tls.map(|(name, value)| format!("{name} {value}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let off = Daemon::start("").client().stats("settings");
    // What memcached 1.6.18, built with TLS, shows without -Z.
    let expected = "ssl_enabled no\nssl_chain_cert (null)\nssl_key (null)\nssl_verify_mode 0\n\
                    ssl_keyformat 1\nssl_ciphers NULL\nssl_ca_cert NULL\nssl_wbuf_size 16384\n\
                    ssl_session_cache no\nssl_kernel_tls no\nssl_min_version tlsv1.2";
    assert_eq!(shown(off), expected);
    let authority = Authority::new();
    let more = "-o ssl_verify_mode=2,ssl_min_version=3,ssl_session_cache";
    let _daemon = authority.serve(more);
    let on = authority.plain().stats("settings");
    let expected = expected
        .replace("ssl_enabled no", "ssl_enabled yes")
        .replace(
            "cert (null)",
            &format!("cert {}", authority.file("server.pem")),
        )
        .replace(
            "key (null)",
            &format!("key {}", authority.file("server.key")),
        )
        .replace("mode 0", "mode 3")
        .replace(
            "ca_cert NULL",
            &format!("ca_cert {}", authority.file("ca.pem")),
        )
        .replace("session_cache no", "session_cache yes")
        .replace("tlsv1.2", "tlsv1.3");
    assert_eq!(shown(on), expected);
}
