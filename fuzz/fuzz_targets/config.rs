//! Any bytes as `memcached.conf`, as a TOML file and as an argument list (words
//! separated by zero bytes): reading them never panics, an error is one line,
//! and a configuration that comes out keeps what `config/resolve.rs` promises.
//!
//! Nothing here touches the file system or DNS.

#![no_main]

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;
use tokencached::config::{Action, Config, Machine, MemoryBound, Shown, load_with};

const MEMORY_BYTES: u64 = 4 << 30;

fuzz_target!(|data: &[u8]| {
    check(["--memcached-conf", "fuzzed"].map(OsString::from), data);
    check(["--config", "fuzzed"].map(OsString::from), data);
    let words = data.split(|byte| *byte == 0);
    check(words.map(|word| OsString::from_vec(word.to_vec())), data);
});

fn machine() -> Machine {
    Machine {
        memory: Some(MemoryBound {
            bytes: MEMORY_BYTES,
            source: "/proc/meminfo".into(),
        }),
        root: true,
        port_file: None,
        runtime_directory: None,
        user_known: |name| name.len() < 9,
        uid_of: |name| (name.len() < 9).then_some(7),
        gid_of: |name| (name.len() < 9).then_some(7),
        system_uid_max: 999,
        addresses_of: |host, port| match host.len() {
            0..4 => Err(io::Error::other("unknown\nname")),
            length => {
                let v4 = IpAddr::from([0, 0, 0, 0]);
                let v6 = IpAddr::from([0, 0, 0, 0, 0, 0, 0, length as u16]);
                Ok(
                    vec![SocketAddr::new(v6, port), SocketAddr::new(v4, port)][length % 2..]
                        .to_vec(),
                )
            }
        },
    }
}

fn check(args: impl IntoIterator<Item = OsString>, file: &[u8]) {
    match load_with(args, &machine(), |_| Ok(file.to_vec())) {
        Ok(Action::Run(config)) => check_config(&config),
        Ok(Action::Print(text)) => assert!(text.ends_with('\n')),
        Err(error) => assert_line(&error.to_string()),
    }
}

fn check_config(config: &Config) {
    let store = &config.store;
    let (limit, item) = (store.memory_limit_bytes, u64::from(store.item_bytes_max));
    assert!((8 << 20..=MEMORY_BYTES).contains(&limit));
    assert!(limit <= store.memory_ceiling_bytes);
    assert!((1 << 10..=1 << 30).contains(&item) && item <= limit / 2);

    let server = &config.server;
    assert!(!server.listen.is_empty() || server.unix.is_some());
    assert!(server.unix.as_ref().is_none_or(|unix| unix.mode <= 0o777));
    assert!(server.threads > 0 && server.connections_max > 0);
    assert!(server.backlog > 0 && server.requests_per_event > 0);
    assert!(server.buffer_budget_bytes >= 1 << 20);

    let http = server.http.as_ref().map(|http| http.addr);
    let mut addresses = server.listen.iter().map(|listen| listen.addr).chain(http);
    let remote_allowed = |shown: &Shown| shown.key == "allow_remote" && shown.value == "true";
    if addresses
        .clone()
        .any(|addr| addr.ip().to_canonical().is_unspecified())
    {
        assert!(config.settings.iter().any(remote_allowed));
    }
    if addresses.any(|addr| !addr.ip().to_canonical().is_loopback()) {
        let exposed = |warning: &String| warning.contains("not a loopback address");
        assert!(config.warnings.iter().any(exposed));
    }
    check_texts(config);
}

fn check_texts(config: &Config) {
    config.notes.iter().for_each(|note| assert_line(note));
    config
        .warnings
        .iter()
        .for_each(|warning| assert_line(warning));
    assert_eq!(config.table().lines().count(), config.settings.len());
    assert_line(&config.blame("listen", "a problem", "a remedy").to_string());
    for (name, value) in &config.engine.settings {
        assert_eq!(format!("STAT {name} {value}").split_whitespace().count(), 3);
    }
}

fn assert_line(text: &str) {
    assert!(
        !text.is_empty() && !text.chars().any(char::is_control),
        "{text:?}"
    );
}
