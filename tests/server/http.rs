//! The HTTP port: metrics and health, switchable, and never in the way.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

use crate::daemon::{Daemon, Folder, LIMIT, MIB, PROGRAM, is_root, refused};

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Asks once, as a client on this machine does; gives status line, head and body.
fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String, String) {
    say(
        address,
        &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
}

/// Sends a request after which the connection ends; gives status line, head and body.
fn say(address: SocketAddr, request: &str) -> (String, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let (status, head) = head.split_once("\r\n").unwrap();
    (status.to_owned(), head.to_lowercase(), body.to_owned())
}

fn daemon() -> Daemon {
    Daemon::with("-l 127.0.0.1:0 --http 127.0.0.1:0")
}

#[test]
fn metrics_and_health_are_served() {
    let daemon = daemon();
    let mut client = daemon.client();
    client.must_set("secretkey", b"secretvalue");
    assert!(client.get("secretkey").is_some());
    let (status, head, body) = ask(daemon.http(), "GET", "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(!name.is_empty(), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(!body.contains("secret"), "{body}");
    let (status, _, body) = ask(daemon.http(), "GET", "/healthz");
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 200 OK", "ok\n")
    );
    let (status, _, body) = ask(daemon.http(), "HEAD", "/metrics");
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", ""));
    for path in [
        "/index.html",
        "/watch",
        "/metrics/",
        "/metric",
        "//metrics",
        "/../metrics",
    ] {
        assert_eq!(
            ask(daemon.http(), "GET", path).0,
            "HTTP/1.1 404 Not Found",
            "{path}"
        );
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let (status, head, body) = ask(daemon.http(), method, "/metrics");
        assert_eq!(status, "HTTP/1.1 405 Method Not Allowed", "{method}");
        assert!(head.contains("allow: get, head"), "{head}");
        assert_eq!(body, "only GET and HEAD\n", "{method}");
    }
}

#[test]
fn the_status_page_is_served_with_all_that_it_needs() {
    let daemon = daemon();
    daemon.client().must_set("secretkey", b"secretvalue");
    let (status, head, body) = ask(daemon.http(), "GET", "/");
    assert_eq!(status, "HTTP/1.1 200 OK");
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; script-src 'sha256-",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    assert!(!head.contains("set-cookie"), "{head}");
    assert!(body.starts_with("<!DOCTYPE html>"), "{body}");
    for elsewhere in ["http://", "https://", " src=", "@import", "url("] {
        assert!(!body.contains(elsewhere), "{elsewhere}");
    }
    assert!(!body.contains("secret"), "{body}");
    let (status, _, body) = ask(daemon.http(), "HEAD", "/?again");
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", ""));
}

#[test]
fn the_page_and_its_figures_show_settings_and_no_path_of_a_file() {
    let folder = Folder::new();
    std::fs::write(folder.path("users"), "user:password\n").unwrap();
    std::fs::set_permissions(folder.path("users"), PermissionsExt::from_mode(0o600)).unwrap();
    let (users, socket) = (folder.text("users"), folder.text("socket"));
    let daemon = Daemon::with(&format!(
        "-m 16 -l 127.0.0.1:0 --http 127.0.0.1:0 -s {socket} -B ascii -Y {users}"
    ));
    for path in ["/", "/api/status"] {
        let (_, _, body) = ask(daemon.http(), "GET", path);
        for shown in ["16777216", "auth_enabled_ascii", "domain_socket"] {
            assert!(body.contains(shown), "{path}: {shown}");
        }
        assert!(!body.contains(&users) && !body.contains(&socket), "{path}");
    }
    let (_, _, body) = ask(daemon.http(), "GET", "/api/status");
    assert!(body.contains(r#"["auth_enabled_ascii","set"]"#), "{body}");
    assert!(body.contains(r#"["ssl_key","(null)"]"#), "{body}");
}

#[test]
fn a_request_that_is_addressed_to_somebody_else_is_refused() {
    let daemon =
        Daemon::with("-l 127.0.0.1:0 --http 127.0.0.1:0 --http-hosts unit.example,10.9.8.7");
    let status = |host: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        let (status, _, body) = say(daemon.http(), &request);
        assert_eq!(
            status.ends_with("200 OK"),
            body.contains("memcached_up 1"),
            "{host}"
        );
        status.split(' ').nth(1).unwrap().to_owned()
    };
    for own in [
        "localhost",
        "127.0.0.1:9150",
        "[::1]:9150",
        "Unit.Example:80",
        "10.9.8.7",
    ] {
        assert_eq!(status(&format!("Host: {own}\r\n")), "200", "{own}");
    }
    for other in [
        "evil.example",
        "localhost.evil.example:9150",
        "192.0.2.1",
        "other.unit.example",
    ] {
        assert_eq!(status(&format!("Host: {other}\r\n")), "421", "{other}");
    }
    for unclear in [
        "",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: a b\r\n",
    ] {
        assert_eq!(status(unclear), "400", "{unclear}");
    }
    let target =
        "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(say(daemon.http(), target).0.contains("421"));
    let old = say(daemon.http(), "GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(
        old.0, "HTTP/1.0 200 OK",
        "health checks of old name no host"
    );
}

#[test]
fn slow_http_clients_hold_nothing_up() {
    let mut daemon = daemon();
    let connect = |_| {
        let mut stream = TcpStream::connect(daemon.http()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
        stream
    };
    let _slow: Vec<TcpStream> = (0..20).map(connect).collect();
    let mut unread = TcpStream::connect(daemon.http()).unwrap();
    unread.write_all(SCRAPE.repeat(1_000).as_bytes()).unwrap();
    let mut client = daemon.client();
    client.must_set("k", b"value");
    assert_eq!(client.get("k").as_deref(), Some(&b"value"[..]));
    assert_eq!(ask(daemon.http(), "GET", "/healthz").0, "HTTP/1.1 200 OK");
    daemon.stop();
}

#[test]
fn scrapers_that_never_read_take_no_memory() {
    let daemon = daemon();
    assert_eq!(ask(daemon.http(), "GET", "/metrics").0, "HTTP/1.1 200 OK");
    let before = daemon.memory("VmRSS");
    let connect = |_| {
        let mut stream = TcpStream::connect(daemon.http()).unwrap();
        stream.write_all(SCRAPE.repeat(1_000).as_bytes()).unwrap();
        stream
    };
    let unread: Vec<TcpStream> = (0..30).map(connect).collect();
    // Answered behind them: they have been taken up, and have come as far as they come.
    for _ in 0..10 {
        assert_eq!(ask(daemon.http(), "GET", "/metrics").0, "HTTP/1.1 200 OK");
    }
    let grown = daemon.memory("VmRSS").saturating_sub(before);
    assert!(
        grown < 8 * MIB,
        "{grown} bytes for {} scrapers",
        unread.len()
    );
}

#[test]
fn thousands_of_scrapes_at_once_are_answered_and_the_cache_beside_them() {
    let daemon = daemon();
    let mut client = daemon.client();
    client.must_set("k", b"value");
    let address = daemon.http();
    let scrapers: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                let mut writer = stream.try_clone().unwrap();
                let asking = thread::spawn(move || {
                    writer.write_all(SCRAPE.repeat(999).as_bytes()).unwrap();
                    let last = SCRAPE.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
                    writer.write_all(last.as_bytes()).unwrap();
                });
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                asking.join().unwrap();
                text.matches("HTTP/1.1 200 OK").count()
            })
        })
        .collect();
    while !scrapers.iter().all(|scraper| scraper.is_finished()) {
        assert_eq!(client.get("k").as_deref(), Some(&b"value"[..]));
        assert!(daemon.client().get("k").is_some(), "a new connection");
    }
    for scraper in scrapers {
        assert_eq!(scraper.join().unwrap(), 1_000);
    }
}

#[test]
fn nonsense_on_the_http_port_ends_that_connection_only() {
    let daemon = daemon();
    for nonsense in [
        &b"\xff\xfe\x00\r\n\r\n"[..],
        b"get k\r\n",
        b"GET\r\n\r\n",
        &[b'x'; 1 << 20],
    ] {
        let mut stream = TcpStream::connect(daemon.http()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // It may be hung up on before all is sent.
        let _ = stream.write_all(nonsense);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(ask(daemon.http(), "GET", "/healthz").0, "HTTP/1.1 200 OK");
}

#[test]
fn an_http_address_that_was_asked_for_and_is_taken_fails_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(PROGRAM);
    command.args(["-l", "127.0.0.1:0", "--http", &address]);
    if is_root() {
        command.args(["-u", "root"]);
    }
    let (status, text) = refused(command);
    assert_eq!(status, Some(71), "{text}");
    let line = text.lines().last().unwrap();
    assert!(
        line.contains(&format!("http = \"{address}\" (command line --http)")),
        "{line}"
    );
    assert!(line.contains("--http off"), "{line}");
}

#[test]
fn the_default_http_address_being_taken_is_only_a_warning() {
    // Taken by this, or by whoever else has it already.
    let _taken = TcpListener::bind("127.0.0.1:9150");
    let mut daemon = Daemon::with("-l 127.0.0.1:0");
    daemon.client().must_set("k", b"value");
    let log = daemon.log();
    let warning = log
        .lines()
        .find(|line| line.contains("no metrics"))
        .expect("a warning");
    assert!(
        warning.contains("WARN") && warning.contains("--http"),
        "{warning}"
    );
    daemon.stop();
}

#[test]
fn http_can_be_off() {
    let daemon = Daemon::start("");
    assert!(!daemon.log().contains("metrics"));
}
