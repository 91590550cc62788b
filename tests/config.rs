//! The configuration from outside: tables of command lines and files, and what
//! comes of them, to the letter.
//!
//! No file system and no DNS: `load_with` is given the files, and the machine
//! is made up. `tests/config/memcached.conf` is the file as the OpenStack charms
//! write it.

#[path = "config/access.rs"]
mod access;
#[path = "config/shipped.rs"]
mod shipped;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;

use tokencached::config::{self, Action, Config, ConfigError, Machine, MemoryBound};

const CHARM: &str = include_str!("config/memcached.conf");

fn machine(root: bool) -> Machine {
    Machine {
        memory: Some(MemoryBound {
            bytes: 16 << 30,
            source: "/proc/meminfo".into(),
        }),
        root,
        port_file: None,
        runtime_directory: None,
        user_known: |name| ["root", "memcache", "11211"].contains(&name),
        uid_of: |name| match name {
            "root" => Some(0),
            "nova" => Some(64060),
            _ => None,
        },
        gid_of: |name| (name == "glance").then_some(64062),
        system_uid_max: 999,
        addresses_of: |host, port| {
            let all = match host {
                "localhost" => vec!["127.0.0.1", "::1"],
                "ip6-localhost" => vec!["::1"],
                "unit" => vec!["10.0.0.5"],
                _ => return Err(io::Error::other("Name or service not known")),
            };
            let address = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
            Ok(all.into_iter().map(address).collect())
        },
    }
}

/// Loads a command line given as one text, with two files: `conf` and `toml`.
fn act(root: bool, line: &str, conf: &str, toml: &str) -> Result<Action, ConfigError> {
    let args = line.split_whitespace().map(OsString::from);
    config::load_with(args, &machine(root), |path| match path {
        "conf" => Ok(conf.into()),
        "toml" => Ok(toml.into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    })
}

fn run(root: bool, line: &str, conf: &str, toml: &str) -> Config {
    match act(root, line, conf, toml) {
        Ok(Action::Run(config)) => config,
        Ok(Action::Print(text)) => panic!("{line}: printed {text}"),
        Err(error) => panic!("{line}: {error}"),
    }
}

fn printed(line: &str) -> String {
    match act(false, line, "", "") {
        Ok(Action::Print(text)) => text,
        Ok(Action::Run(_)) => panic!("{line}: ran"),
        Err(error) => panic!("{line}: {error}"),
    }
}

fn refusal(line: &str, conf: &str, toml: &str) -> String {
    match act(true, line, conf, toml) {
        Ok(_) => panic!("accepted: {line} / {conf} / {toml}"),
        Err(error) => error.to_string(),
    }
}

/// The addresses to listen on, with a `?` where one may be missing.
fn listens(config: &Config) -> Vec<String> {
    let mark = |required| if required { "" } else { "?" };
    let listen = config.server.listen.iter();
    listen
        .map(|listen| format!("{}{}", listen.addr, mark(listen.required)))
        .collect()
}

fn source(config: &Config, key: &str) -> String {
    let found = config.settings.iter().find(|shown| shown.key == key);
    found.unwrap().source.clone()
}

fn stat<'c>(config: &'c Config, name: &str) -> &'c str {
    let found = config.engine.settings.iter().find(|(key, _)| key == name);
    &found.unwrap().1
}

#[test]
fn the_defaults() {
    let config = run(false, "", "", "");
    assert_eq!(config.store.memory_limit_bytes, 64 << 20);
    assert_eq!(config.store.memory_ceiling_bytes, 1 << 30);
    assert_eq!(config.store.item_bytes_max, 1 << 20);
    assert!(config.store.evict && config.engine.cas);
    assert!(config.engine.flush_allowed && config.engine.dump_allowed);
    assert!(!config.engine.shutdown_allowed);
    assert_eq!(config.engine.detail_prefix_delimiter, None);
    assert_eq!(listens(&config), ["127.0.0.1:11211", "[::1]:11211?"]);
    let server = &config.server;
    assert_eq!((server.threads, server.connections_max), (4, 4096));
    assert_eq!((server.backlog, server.requests_per_event), (1024, 20));
    assert_eq!(server.buffer_budget_bytes, 16 << 20);
    let http = server.http.as_ref().unwrap();
    assert_eq!(http.addr, "127.0.0.1:9150".parse().unwrap());
    assert!(!http.required && !server.lock_memory && !server.daemonize);
    assert!(http.hosts.is_empty());
    assert!(server.unix.is_none() && server.user.is_none() && server.pid_file.is_none());
    assert_eq!(config.verbosity, 0);
    assert!(config.notes.is_empty() && config.warnings.is_empty());
    assert!(
        config
            .settings
            .iter()
            .all(|shown| shown.source == "default")
    );
}

#[test]
fn the_charms_file() {
    let config = run(true, "--memcached-conf conf", CHARM, "");
    assert_eq!(config.store.memory_limit_bytes, 64 << 20);
    assert_eq!(listens(&config), ["[::1]:11211"]);
    assert_eq!(config.server.user.as_deref(), Some("memcache"));
    assert!(!config.server.daemonize);
    assert_eq!(source(&config, "memory_limit"), "conf line 23");
    assert_eq!(source(&config, "listen"), "conf line 35");
    assert_eq!(source(&config, "threads"), "default");
    assert_eq!(
        config.notes,
        [
            "\"-d\" (conf line 9): not acted on, the service manager decides",
            "\"logfile /var/log/memcached.log\" (conf line 12): not acted on, \
             the log goes to standard error",
        ]
    );
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn a_higher_source_comes_before_a_lower_one() {
    let conf = "-m 100\n-c 200\n-t 3\n-l ::1\n-vv\n";
    let toml = "memory_limit = 300\nconn_limit = 400\nlisten = [\"unit\"]\n";
    let line = "--memcached-conf conf --config toml -m500";
    let config = run(false, line, conf, toml);
    for (key, value, source) in [
        ("memory_limit", "500m", "command line -m"),
        ("conn_limit", "400", "toml: conn_limit"),
        ("threads", "3", "conf line 3"),
        ("verbose", "2", "conf line 5"),
        ("listen", "10.0.0.5:11211", "toml: listen"),
        ("listen_backlog", "1024", "default"),
    ] {
        let shown = config
            .settings
            .iter()
            .find(|shown| shown.key == key)
            .unwrap();
        assert_eq!(
            (shown.value.as_str(), shown.source.as_str()),
            (value, source),
            "{key}"
        );
    }
    assert_eq!(config.store.memory_ceiling_bytes, 2000 << 20);
}

#[test]
fn where_it_listens() {
    for (line, expected) in [
        ("-p 1", &["127.0.0.1:1", "[::1]:1?"][..]),
        ("-p -1", &["127.0.0.1:0", "[::1]:0?"]),
        (
            "-l 127.0.0.1:0 -l 127.0.0.1:0",
            &["127.0.0.1:0", "127.0.0.1:0"],
        ),
        ("-l localhost", &["127.0.0.1:11211", "[::1]:11211?"]),
        ("-l localhost,::1", &["127.0.0.1:11211", "[::1]:11211"]),
        ("-l ip6-localhost -p 5", &["[::1]:5"]),
        (
            "-l 127.0.0.1,[::1]:7;127.0.0.2:8 -p 5",
            &["127.0.0.1:5", "[::1]:7", "127.0.0.2:8"],
        ),
        ("-l * --allow-remote", &["0.0.0.0:11211", "[::]:11211?"]),
        ("-s /s", &[]),
        ("-s /s -p 5", &["127.0.0.1:5", "[::1]:5?"]),
        ("-s /s -l ::1", &["[::1]:11211"]),
        ("-s /s -p 0", &[]),
    ] {
        let config = run(false, line, "", "");
        assert_eq!(listens(&config), expected, "{line}");
        assert_eq!(config.server.unix.is_some(), line.contains("-s"), "{line}");
    }
}

#[test]
fn flags_reach_their_options() {
    let line = "-A -F -X -C -M -k -d -D / -P /p -s /s -a 770 -R 7 -b 9 --http off \
                --memory-ceiling 2g --buffer-memory 4 -I 512k -vvv -B ascii -U 0";
    let config = run(false, line, "", "");
    let (store, engine, server) = (&config.store, &config.engine, &config.server);
    assert!(!store.evict && !engine.cas);
    assert_eq!(
        (store.item_bytes_max, store.memory_ceiling_bytes),
        (512 << 10, 2 << 30)
    );
    assert!(engine.shutdown_allowed && !engine.flush_allowed && !engine.dump_allowed);
    assert_eq!(engine.detail_prefix_delimiter, Some(b'/'));
    assert!(server.lock_memory && server.daemonize && server.http.is_none());
    assert_eq!(server.pid_file.as_deref(), Some("/p".as_ref()));
    let unix = server.unix.as_ref().unwrap();
    assert_eq!((unix.path.as_path(), unix.mode), ("/s".as_ref(), 0o770));
    assert_eq!((server.requests_per_event, server.backlog), (7, 9));
    assert_eq!((server.buffer_budget_bytes, config.verbosity), (4 << 20, 3));
    assert!(config.warnings.is_empty() && config.notes.is_empty());
}

#[test]
fn long_names_and_joined_letters_as_getopt_takes_them() {
    for line in [
        "--memory-limit=128 --verbose --verbose --lock-memory",
        "--memory-limit 128 -vvk",
        "--memory-l 128 -kvv",
        "-vkvm128",
        "-kvvm 128",
    ] {
        let config = run(false, line, "", "");
        assert_eq!(config.store.memory_limit_bytes, 128 << 20, "{line}");
        assert!(config.server.lock_memory && config.verbosity == 2, "{line}");
    }
}

#[test]
fn toml_says_what_the_command_line_says() {
    let toml = "
        listen = ['127.0.0.1:1', '::1']
        unix_socket = '/s'
        unix_mask = 770
        memory_limit = '1g'
        max_item_size = 0x400
        disable_evictions = true
        disable_cas = false
        no_packing = true
        verbose = 2
        http = 'off'
        prefix_delimiter = '#'
        extended = ['modern', 'hashpower=20']
        slab_growth_factor = 1.25
        enable_sasl = false
    ";
    let config = run(false, "--config toml", "", toml);
    assert_eq!(listens(&config), ["127.0.0.1:1", "[::1]:11211"]);
    assert_eq!(config.server.unix.as_ref().unwrap().mode, 0o770);
    assert_eq!(config.store.memory_limit_bytes, 1 << 30);
    assert_eq!(config.store.item_bytes_max, 1024);
    assert!(!config.engine.packing && config.engine.cas);
    assert!(!config.store.evict && config.engine.cas && config.server.http.is_none());
    assert_eq!(
        (config.verbosity, config.engine.detail_prefix_delimiter),
        (2, Some(b'#'))
    );
    assert_eq!(
        config.notes,
        [
            "accepted without effect: -o modern (toml: extended), -o hashpower (toml: extended), \
          slab_growth_factor (toml: slab_growth_factor)"
        ]
    );
}

#[test]
fn the_admin_socket_is_where_the_service_manager_or_a_setting_says() {
    let of = |line: &str, directory: Option<&str>| {
        let mut machine = machine(false);
        machine.runtime_directory = directory.map(Into::into);
        let arguments = line.split_whitespace().map(OsString::from);
        let none = |_: &str| Err(io::ErrorKind::NotFound.into());
        match config::load_with(arguments, &machine, none).unwrap() {
            Action::Run(config) => {
                let socket = config.server.admin_socket.clone();
                socket.map(|socket| (socket.path.display().to_string(), socket.required))
            }
            Action::Print(text) => panic!("{text}"),
        }
    };
    let at = |path: &str, required| Some((path.to_owned(), required));
    assert_eq!(of("", None), None);
    assert_eq!(of("", Some("/run/x")), at("/run/x/admin.sock", false));
    assert_eq!(of("--admin-socket off", Some("/run/x")), None);
    assert_eq!(of("--admin-socket /a", Some("/run/x")), at("/a", true));
}

#[test]
fn names_of_the_http_port_come_from_one_source() {
    let hosts = |line: &str| {
        let toml = "http_hosts = ['unit.example', '10.0.0.1']";
        let config = run(false, line, "", toml);
        config.server.http.unwrap().hosts
    };
    assert_eq!(hosts("--config toml"), ["unit.example", "10.0.0.1"]);
    let line = "--config toml --http-hosts other,fe80::1 --http-hosts third";
    assert_eq!(hosts(line), ["other", "fe80::1", "third"]);
    let line = "--config toml --http unit:9150 --http-hosts other";
    assert_eq!(
        hosts(line),
        ["other", "unit"],
        "as it was asked to be served"
    );
}

#[test]
fn services_are_named_and_a_validation_costs_a_tenth_of_a_second_unless_said_otherwise() {
    let said = |line: &str| {
        let config = run(false, line, "", "");
        (
            config.server.service_names,
            config.engine.validation_cost_ms,
        )
    };
    assert_eq!(said(""), (true, 100));
    let line = "--no-service-names --validation-cost-ms 40";
    assert_eq!(said(line), (false, 40));
}

#[test]
fn what_is_accepted_without_effect_is_listed_once() {
    let line = "-f 1.1 -n 96 -L -W -e /m -N 2 -o no_lru_crawler,slab_automove=2 -r -l tag[a]:::1";
    let config = run(false, line, "", "");
    assert_eq!(
        config.notes,
        [
            "accepted without effect: slab_growth_factor (command line -f), \
             slab_min_size (command line -n), enable_largepages (command line -L), \
             disable_watch (command line -W), memory_file (command line -e), \
             napi_ids (command line -N), -o no_lru_crawler (command line -o), \
             -o slab_automove (command line -o), the tag in listen (command line -l)",
            "enable_coredumps (command line -r): core dumps stay off, they would hold live tokens",
        ]
    );
    assert!(config.warnings.is_empty());
}

#[test]
fn warnings() {
    const EXPOSED: &str = "not a loopback address; whoever reaches it reads and writes every \
                           cached token, as there is no authentication";
    for (root, line, conf, expected) in [
        (
            false,
            "-l unit",
            "",
            format!("listen = \"unit\" (command line -l): {EXPOSED}"),
        ),
        (
            false,
            "--memcached-conf conf",
            "-l 192.0.2.7",
            format!("listen = \"192.0.2.7\" (conf line 1): {EXPOSED}"),
        ),
        (
            false,
            "-l 0.0.0.0 --allow-remote",
            "",
            format!("listen = \"0.0.0.0\" (command line -l): {EXPOSED}"),
        ),
        (
            false,
            "-Z -o ssl_chain_cert=/c,ssl_key=/k -l unit",
            "",
            "listen = \"unit\" (command line -l): not a loopback address; whoever reaches it reads \
             and writes every cached token, as TLS encrypts but keeps nobody out (mtls: asks for \
             certificates)"
                .into(),
        ),
        (
            false,
            "-Z -o ssl_chain_cert=/c,ssl_key=/k,ssl_ca_cert=/a -l mtls:unit,notls:127.0.0.1",
            "",
            "listen = \"unit\" (command line -l): not a loopback address; whoever has a \
             certificate of ssl_ca_cert's reads and writes every cached token"
                .into(),
        ),
        (
            false,
            "-o ssl_chain_cert=/c,ssl_key=/k",
            "",
            "extended: its ssl_ options have no effect, as TLS is off; add -Z".into(),
        ),
        (
            false,
            "--http unit",
            "",
            "http = \"unit\" (command line --http): not a loopback address; \
             whoever reaches it reads the metrics"
                .into(),
        ),
        (
            false,
            "-U 11211",
            "",
            "udp_port = \"11211\" (command line -U): UDP is not served".into(),
        ),
        (
            false,
            "-t 65",
            "",
            "threads = \"65\" (command line -t): more than the machine's cores gain nothing".into(),
        ),
        (
            false,
            "-s /s -p 0 -l ::1",
            "",
            "port = \"0\" (command line -p): turns TCP off, so the addresses of listen are not \
             served"
                .into(),
        ),
        (
            true,
            "",
            "",
            "user = \"none\" (default): runs as root; name another user, such as -u memcache"
                .into(),
        ),
        (
            false,
            "-u nobody-here",
            "",
            "user = \"nobody-here\" (command line -u): there is no such user; no effect now, but \
             as root it would not start"
                .into(),
        ),
        (
            false,
            "--memcached-conf conf",
            "-h -m 5",
            "\"-h -m 5\" (conf line 1): the whole line is ignored, as Debian's wrapper ignores it"
                .into(),
        ),
    ] {
        let config = run(root, line, conf, "");
        assert_eq!(config.warnings, [expected], "{line} {conf}");
    }
}

#[test]
fn the_user_counts_only_for_root() {
    for (root, line, user) in [
        (true, "-u memcache", Some("memcache")),
        (true, "-u 11211", Some("11211")),
        (true, "-u root", Some("root")),
        (false, "-u memcache", None),
    ] {
        let config = run(root, line, "", "");
        assert_eq!(config.server.user.as_deref(), user, "{line}");
        assert_eq!(config.notes.len(), usize::from(!root));
    }
}

#[test]
fn command_lines_that_are_refused() {
    for (line, message) in [
        (
            "-m abc",
            "memory_limit = \"abc\" (command line -m): not a size; \
             give a number of MiB such as 64, or one with k, m or g, such as 512m or 2g",
        ),
        (
            "-m 7",
            "memory_limit = \"7m\" (command line -m): too small; give at least 8m",
        ),
        (
            "-m 16385",
            "memory_limit = \"16385m\" (command line -m): more than the 16384 MiB that \
             /proc/meminfo allows; give at most 16384m",
        ),
        (
            "--memory-ceiling 32",
            "memory_ceiling = \"32m\" (command line --memory-ceiling): below memory_limit, which \
             is 64m; give at least 64m, or leave it out",
        ),
        (
            "-I 33m",
            "max_item_size = \"33m\" (command line -I): more than half of memory_limit; \
             give 1k to 1024m and at most half of memory_limit, here 32m",
        ),
        (
            "-I 1023",
            "max_item_size = \"1023\" (command line -I): too small; \
             give 1k to 1024m and at most half of memory_limit, here 32m",
        ),
        (
            "-m 4g -I 1025m",
            "max_item_size = \"1025m\" (command line -I): too large; \
             give 1k to 1024m and at most half of memory_limit, here 1g",
        ),
        (
            "-c 0",
            "conn_limit = \"0\" (command line -c): too small; \
             give a whole number from 1 to 1048576",
        ),
        (
            "-t four",
            "threads = \"four\" (command line -t): not a whole number; \
             give a whole number from 1 to 1024",
        ),
        (
            "--port=65536",
            "port = \"65536\" (command line --port): too large; \
             give a whole number from 0 to 65535",
        ),
        (
            "-p 0",
            "port = \"0\" (command line -p): turns TCP off, and there is no unix socket; \
             give a port, or a socket with -s",
        ),
        (
            "-s /s -a 888",
            "unix_mask = \"888\" (command line -a): not an octal access mask; \
             give permission bits from 0 to 0777, such as 0700 or 0770",
        ),
        (
            "-l 0.0.0.0",
            "listen = \"0.0.0.0\" (command line -l): every address of this machine would be \
             served; name one address such as 127.0.0.1, or add --allow-remote (allow_remote = true in a file of --config)",
        ),
        (
            "--http 9150",
            "http = \"9150\" (command line --http): a number without an address; \
             give one address such as 127.0.0.1:9150, or off",
        ),
        (
            "-l 11212",
            "listen = \"11212\" (command line -l): a number without an address; \
             give an address too, such as 127.0.0.1:11212",
        ),
        (
            "--http [::]:9150",
            "http = \"::\" (command line --http): every address of this machine would be \
             served; name one address such as 127.0.0.1, or add --allow-remote (allow_remote = true in a file of --config)",
        ),
        (
            "--http-hosts unit,http://unit",
            "http_hosts = \"unit,http://unit\" (command line --http-hosts): not a host's name; \
             give names such as unit-1.example.org, separated by commas, without http:// and port",
        ),
        (
            "--http-hosts unit:9150",
            "http_hosts = \"unit:9150\" (command line --http-hosts): not a host's name; \
             give names such as unit-1.example.org, separated by commas, without http:// and port",
        ),
        (
            "-l nowhere",
            "listen = \"nowhere\" (command line -l): cannot resolve \"nowhere\": \
             Name or service not known; give an address, or a name that the system can resolve",
        ),
        (
            "-l btls:127.0.0.1",
            "listen = \"btls:127.0.0.1:11211\": TLS is off; \
             add -Z and -o ssl_chain_cert=FILE,ssl_key=FILE, or leave the prefix out",
        ),
        (
            "-Z -o ssl_chain_cert=/c,ssl_key=/k -l mtls:127.0.0.1",
            "listen = \"mtls:127.0.0.1:11211\": clients' certificates cannot be checked; \
             add -o ssl_ca_cert=FILE, or leave mtls: out",
        ),
        (
            "-Z -o ssl_chain_cert=/c,ssl_key=/k -l notls:127.0.0.1:11211,127.0.0.1",
            "listen = \"127.0.0.1\" (command line -l): 127.0.0.1:11211 is named without TLS \
             before, and with TLS here; give each a port of its own, or leave one out",
        ),
        (
            "-Z -o ssl_chain_cert=/c,ssl_key=/k -s /s",
            "enable_ssl: there is no TCP address to encrypt; \
             name one with -l or -p, or leave -Z out",
        ),
        (
            "-u ghost",
            "user = \"ghost\" (command line -u): there is no such user; \
             create it, or name another one",
        ),
        (
            "-S",
            "enable_sasl (command line -S): there are no users; name a file of user:password lines \
             with -Y FILE",
        ),
        (
            "-Y /f -B binary",
            "auth_file = \"/f\" (command line -Y): without SASL only the text protocol can ask who a \
             client is; add -S, or leave -B and proto[...] out",
        ),
        (
            "-Y /f -l proto[negotiating]:::1",
            "auth_file = \"/f\" (command line -Y): without SASL only the text protocol can ask who a \
             client is; add -S, or leave -B and proto[...] out",
        ),
        (
            "-S -Y /f -B ascii",
            "protocol = \"ascii\" (command line -B): SASL needs the binary protocol; give auto or binary",
        ),
        (
            "--enable-ssl",
            "enable_ssl (command line --enable-ssl): TLS needs a certificate and its key; \
             name PEM files with -o ssl_chain_cert=FILE,ssl_key=FILE",
        ),
        (
            "-B gopher",
            "protocol = \"gopher\" (command line -B): not a protocol; give ascii, binary or auto",
        ),
        (
            "-o ssl_min_version=1",
            "extended = \"ssl_min_version=1\" (command line -o): not a version that is served; \
             give ssl_min_version=2 (TLS 1.2) or 3 (TLS 1.3)",
        ),
        (
            "-o slab_automov",
            "extended = \"slab_automov\" (command line -o): unknown option \"slab_automov\"; \
             did you mean slab_automove?",
        ),
        (
            "--memory-limt 64",
            "--memory-limt (command line --memory-limt): unknown option; \
             did you mean --memory-limit?",
        ),
        (
            "--memory 64",
            "--memory (command line --memory): it could be --memory-limit or --memory-file; \
             write the name in full",
        ),
        (
            "-T 4",
            "-T (command line -T): unknown option; did you mean -t (--threads)?",
        ),
        (
            "-G",
            "-G (command line -G): unknown option; -h lists the known ones",
        ),
        (
            "-m",
            "memory_limit (command line -m): no value given; write -m and the value after it",
        ),
        (
            "--lock-memory=yes",
            "--lock-memory = \"yes\" (command line --lock-memory): takes no value; \
             give --lock-memory alone",
        ),
        (
            "thread 4",
            "thread (command line thread): not an option; did you mean --threads?",
        ),
        (
            "-D ab",
            "prefix_delimiter = \"ab\" (command line -D): not a delimiter; \
             give one ASCII character, such as :",
        ),
        (
            "--buffer-memory 1k",
            "buffer_memory = \"1k\" (command line --buffer-memory): too small; \
             give at least 1 MiB, such as 16",
        ),
        (
            "--config none",
            "config = \"none\" (command line --config): cannot be read: entity not found; \
             name a readable file, or leave --config out",
        ),
    ] {
        assert_eq!(refusal(line, "", ""), message, "{line}");
    }
}

#[test]
fn files_that_are_refused() {
    for (conf, message) in [
        (
            "# c\n-m 64x",
            "memory_limit = \"64x\" (conf line 2): not a size; \
             give a number of MiB such as 64, or one with k, m or g, such as 512m or 2g",
        ),
        (
            "-m 64\n-S",
            "enable_sasl (conf line 2): there are no users; name a file of user:password lines \
             with -Y FILE",
        ),
        (
            "--lisen ::1",
            "--lisen (conf line 1): unknown option; did you mean --listen?",
        ),
        (
            "-V",
            "version (conf line 1): not a setting; give it on the command line only",
        ),
        (
            "-u $(id)",
            "memcached_conf = \"-u $(id)\" (conf line 1): a shell would act on part of it; \
             write plain flags and values",
        ),
    ] {
        assert_eq!(
            refusal("--memcached-conf conf", conf, ""),
            message,
            "{conf}"
        );
    }
    for (toml, message) in [
        (
            "memory_limt = 64",
            "memory_limt (toml: memory_limt): unknown key; did you mean memory_limit?",
        ),
        (
            "threads = 0",
            "threads = \"0\" (toml: threads): too small; give a whole number from 1 to 1024",
        ),
        (
            "lock_memory = 1",
            "lock_memory (toml: lock_memory): a TOML integer does not fit; give true or false",
        ),
        (
            "[store]\nmemory_limit = 64",
            "store (toml: store): there is no table but [access]; move its keys to the top of the file",
        ),
        (
            "qqq = 1",
            "qqq (toml: qqq): unknown key; \
             the keys are the long names that -h lists, with _ for -",
        ),
        (
            "enable_sasl = true",
            "enable_sasl (toml: enable_sasl): there are no users; name a file of user:password lines \
             with -Y FILE",
        ),
        (
            "threads = 1\n= 3",
            "config (toml line 2): unquoted keys cannot be empty, expected letters, numbers, \
             `-`, `_`; write lines such as memory_limit = 64, and lists such as [\"a\", \"b\"]",
        ),
    ] {
        assert_eq!(refusal("--config toml", "", toml), message, "{toml}");
    }
}

#[test]
fn a_wrong_value_is_refused_even_where_a_higher_source_has_another() {
    let message = refusal("--memcached-conf conf -m 64", "-m x", "");
    assert!(
        message.starts_with("memory_limit = \"x\" (conf line 1)"),
        "{message}"
    );
}

#[test]
fn stats_settings_are_memcacheds_names_and_three_words() {
    let config = run(false, "-s /a/b -l ::1,127.0.0.1:5 -m 100 -D / -X", "", "");
    for (name, value) in [
        ("maxbytes", "104857600"),
        ("maxconns", "4096"),
        ("tcpport", "11211"),
        ("inter", "::1,127.0.0.1:5"),
        ("domain_socket", "/a/b"),
        ("umask", "700"),
        ("stat_key_prefix", "/"),
        ("detail_enabled", "yes"),
        ("dump_enabled", "no"),
        ("lru_crawler", "no"),
        ("item_size_max", "1048576"),
    ] {
        assert_eq!(stat(&config, name), value, "{name}");
    }
    let alone = run(false, "-s /a", "", "");
    assert_eq!(
        (stat(&alone, "tcpport"), stat(&alone, "inter")),
        ("0", "NULL")
    );
    for (name, value) in &config.engine.settings {
        assert_eq!(format!("STAT {name} {value}").split_whitespace().count(), 3);
    }
}

#[test]
fn what_is_printed() {
    assert_eq!(printed("-h").lines().next(), Some("memcached 1.6.45"));
    assert!(printed("-V").starts_with("tokencached "));
    assert!(printed("-V").ends_with(" (memcached 1.6.45 compatible)\n"));
    assert!(printed("-i").contains("Apache License"));
    let table = printed("--print-config -m 128");
    let line = table
        .lines()
        .find(|line| line.starts_with("memory_limit "))
        .unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words, ["memory_limit", "128m", "command", "line", "-m"]);
}

#[test]
fn a_failure_to_act_is_told_in_the_same_form() {
    let config = run(false, "-l 127.0.0.1:80", "", "");
    assert_eq!(
        config
            .blame("listen", "no right to bind it", "take a port from 1024 on")
            .to_string(),
        "listen = \"127.0.0.1:80\" (command line -l): no right to bind it; \
         take a port from 1024 on"
    );
}

#[test]
fn read_again_a_configuration_says_what_takes_a_restart() {
    let config = run(
        true,
        "-u root --config toml",
        "",
        "memory_limit = 64\nthreads = 2\n",
    );
    let renewed = |toml: &str| {
        let args = ["-u", "root", "--config", "toml"].map(OsString::from);
        let read = |_: &str| Ok(toml.as_bytes().to_vec());
        config.renewed(args, &machine(true), read)
    };
    let same = renewed("memory_limit = 64\nthreads = 2\n").unwrap();
    assert_eq!((same.memory_limit_bytes, same.verbosity), (64 << 20, 0));
    assert_eq!((same.access, same.remarks), (None, vec![]));
    let toml = "memory_limit = 512\nverbose = 2\nextended = \"idle_timeout=5\"\n[access]\nconnect = [\"nova\"]\n";
    let other = renewed(toml).unwrap();
    assert_eq!((other.memory_limit_bytes, other.verbosity), (512 << 20, 2));
    assert!(other.access.is_some());
    let threads = "threads = \"4\" (default): was \"2\"; it takes a restart";
    assert_eq!(other.remarks[0], threads, "the ceiling follows the limit");
    assert_eq!(
        other.remarks[1],
        "extended: another idle_timeout; it takes a restart"
    );
    assert!(other.remarks[2].contains("idle_timeout=5"), "its warning");
    assert_eq!(other.remarks.len(), 3);
    assert!(other.takes_restart && !same.takes_restart);
    let unusable = renewed("threads = 0\n").unwrap_err().to_string();
    assert!(unusable.starts_with("threads = \"0\""), "{unusable}");
}
