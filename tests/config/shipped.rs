//! What the packages ship, as the real parser reads it.

use tokencached::config::Config;

use super::{CHARM, listens, run};

/// The lines of a unit that start its program, as words after it.
fn started_by(unit: &str) -> Vec<&str> {
    let starts = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ExecStart="));
    starts
        .filter_map(|line| line.strip_prefix("/usr/bin/tokencached "))
        .collect()
}

#[test]
fn the_units_start_with_what_they_ship() {
    let own = include_str!("../../systemd/tokencached.service");
    let taken = include_str!("../../systemd/memcached.service.d/50-tokencached.conf");
    assert_eq!(
        started_by(own),
        ["--config /etc/tokencached/tokencached.toml"]
    );
    assert_eq!(
        started_by(taken),
        ["--memcached-conf /etc/memcached.conf --config /etc/tokencached/takeover.toml"]
    );
    let settings = |config: &Config| -> Vec<String> {
        let shown = config.settings.iter();
        let shown = shown.filter(|shown| shown.key != "access");
        shown.map(ToString::to_string).collect()
    };
    let own = include_str!("../../systemd/tokencached.toml");
    let config = run(false, "--config toml", "", own);
    assert_eq!(
        settings(&config),
        settings(&run(false, "", "", "")),
        "all but the rules is commented out"
    );
    let appended = format!("{own}memory_limit = 32\n");
    let config = run(false, "--config toml", "", &appended);
    assert_eq!(config.store.memory_limit_bytes, 32 << 20);
    let taken = include_str!("../../systemd/takeover.toml");
    let config = run(true, "--memcached-conf conf --config toml", CHARM, taken);
    let before = run(true, "--memcached-conf conf", CHARM, "");
    assert_eq!(settings(&config), settings(&before));
    assert_eq!(listens(&config), ["[::1]:11211"]);
}

#[test]
fn the_shipped_file_shows_defaults() {
    let shipped = include_str!("../../systemd/tokencached.toml");
    let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let lines = shipped.lines().filter(is_key).map(|line| &line[1..]);
    let toml: Vec<&str> = lines.filter(|line| !line.starts_with("access.")).collect();
    assert!(toml.len() > 5, "{toml:?}");
    let values = |config: &Config| {
        let shown = config.settings.iter();
        // The one whose default is none, and what follows from it.
        let shown = shown.filter(|shown| !shown.key.starts_with("unix_"));
        shown
            .map(|shown| (shown.key, shown.value.clone()))
            .collect::<Vec<_>>()
    };
    let config = run(false, "--config toml", "", &toml.join("\n"));
    assert_eq!(values(&config), values(&run(false, "", "", "")));
}

#[test]
fn the_shipped_access_rules_let_services_in_and_nobody_else() {
    use tokencached::server::access::{Person, Verdict};
    let own = include_str!("../../systemd/tokencached.toml");
    let taken = include_str!("../../systemd/takeover.toml");
    let [rules, same] = [own, taken].map(|toml| {
        let config = run(true, "-u root --config toml", "", toml);
        config.server.access.expect("there are rules")
    });
    assert_eq!(rules, same);
    for (uid, expected) in [
        (0, Verdict::Full),
        (112, Verdict::Full),
        (999, Verdict::Full),
        (1000, Verdict::Unlisted),
        (1005, Verdict::Full),
        // nova, cinder and glance, as Debian numbers them.
        (64060, Verdict::Full),
        (64061, Verdict::Full),
        (64062, Verdict::Full),
        (65534, Verdict::Unlisted),
    ] {
        let person = Person {
            uid,
            gids: &[uid],
            server_uid: 1005,
        };
        assert_eq!(rules.verdict(&person), expected, "{uid}");
    }
}
