//! Holds the README's tables of commands and options against what a server does with each of them.
//!
//! The names are those of memcached 1.6.45 (`proto_text.c`, `protocol_binary.h`, the option tables of `memcached.c` and
//! `storage.c`): each stands in one row, and says what is true.

#[path = "common/binary_client.rs"]
mod binary_client;
#[path = "common/conversation.rs"]
mod conversation;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use binary_client::{Answer, Request};
use conversation::Conversation;
use tokencached::clock::Clock;
use tokencached::config::{self, Action, Machine};
use tokencached::engine::{Certificates, Engine, Options};
use tokencached::server::auth::Users;
use tokencached::server::session::Rules;
use tokencached::stats::memcached::Process;
use tokencached::store::{self, Store};

const README: &str = include_str!("../README.md");

/// What a row says of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Here {
    Same,
    Differs,
    Refused,
    None,
    WithoutEffect,
}

/// The rows of the table with this heading: each name in backticks of the first column, and what is said of it.
fn table(heading: &str) -> BTreeMap<&'static str, Here> {
    let (_, rest) = README.split_once(heading).expect("the table is there");
    let rows = rest
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut said = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, names, here, why, _] = cells[..] else {
            panic!("three columns: {row}");
        };
        let here = match here {
            "same" => Here::Same,
            "differs" => Here::Differs,
            "refused" => Here::Refused,
            "none" => Here::None,
            "without effect" => Here::WithoutEffect,
            other => panic!("{other}: {row}"),
        };
        assert!(here == Here::Same || !why.is_empty(), "no reason: {row}");
        for name in names.split('`').skip(1).step_by(2) {
            assert!(
                said.insert(name, here).is_none(),
                "{name} stands there twice"
            );
        }
    }
    said
}

/// Every name has its row, and every row's name is known.
fn assert_same_names<'n>(said: &BTreeMap<&str, Here>, names: impl Iterator<Item = &'n str>) {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    assert_eq!(said.keys().copied().collect::<Vec<_>>(), names);
}

/// What is true of something that does what it is for: the same, if the transcripts hold it against memcached, or not.
fn served(said: Here) -> Here {
    match said {
        Here::Same => Here::Same,
        _ => Here::Differs,
    }
}

/// A line for each command of the text protocols.
#[rustfmt::skip]
const LINES: &[(&str, &str)] = &[
    ("get", "get k"), ("gets", "gets k"), ("gat", "gat 0 k"), ("gats", "gats 0 k"),
    ("set", "set k 0 0 1\r\n1"), ("add", "add k 0 0 1\r\n1"), ("replace", "replace k 0 0 1\r\n1"),
    ("append", "append k 0 0 1\r\n1"), ("prepend", "prepend k 0 0 1\r\n1"), ("cas", "cas k 0 0 1 1\r\n1"),
    ("delete", "delete k"), ("incr", "incr k 1"), ("decr", "decr k 1"), ("touch", "touch k 0"),
    ("flush_all", "flush_all"), ("verbosity", "verbosity 1"), ("version", "version"), ("quit", "quit"),
    ("shutdown", "shutdown"), ("cache_memlimit", "cache_memlimit 64"), ("refresh_certs", "refresh_certs"),
    ("mg", "mg k v"), ("ms", "ms k 1\r\n1"), ("md", "md k"), ("ma", "ma k N0"), ("mn", "mn"), ("me", "me k"),
    ("stats", "stats"), ("stats settings", "stats settings"), ("stats conns", "stats conns"),
    ("stats detail", "stats detail on"), ("stats reset", "stats reset"), ("stats items", "stats items"),
    ("stats slabs", "stats slabs"), ("stats sizes", "stats sizes"), ("stats cachedump", "stats cachedump 1 1"),
    ("lru_crawler", "lru_crawler metadump all"), ("watch", "watch"), ("slabs", "slabs automove 1"),
    ("lru", "lru mode flat"),
];

/// Opcode, and lengths of extras and key, for each command of the binary protocol.
#[rustfmt::skip]
const OPCODES: &[(&str, u8, usize, usize)] = &[
    ("GET", 0x00, 0, 1), ("GETQ", 0x09, 0, 1), ("GETK", 0x0c, 0, 1), ("GETKQ", 0x0d, 0, 1), ("SET", 0x01, 8, 1),
    ("SETQ", 0x11, 8, 1), ("ADD", 0x02, 8, 1), ("ADDQ", 0x12, 8, 1), ("REPLACE", 0x03, 8, 1), ("REPLACEQ", 0x13, 8, 1),
    ("APPEND", 0x0e, 0, 1), ("APPENDQ", 0x19, 0, 1), ("PREPEND", 0x0f, 0, 1), ("PREPENDQ", 0x1a, 0, 1),
    ("DELETE", 0x04, 0, 1), ("DELETEQ", 0x14, 0, 1), ("INCREMENT", 0x05, 20, 1), ("INCREMENTQ", 0x15, 20, 1),
    ("DECREMENT", 0x06, 20, 1), ("DECREMENTQ", 0x16, 20, 1), ("TOUCH", 0x1c, 4, 1), ("GAT", 0x1d, 4, 1),
    ("GATQ", 0x1e, 4, 1), ("GATK", 0x23, 4, 1), ("GATKQ", 0x24, 4, 1), ("FLUSH", 0x08, 0, 0), ("FLUSHQ", 0x18, 0, 0),
    ("NOOP", 0x0a, 0, 0), ("VERSION", 0x0b, 0, 0), ("QUIT", 0x07, 0, 0), ("QUITQ", 0x17, 0, 0), ("STAT", 0x10, 0, 0),
    ("VERBOSITY", 0x1b, 4, 0), ("SASL_LIST_MECHS", 0x20, 0, 0), ("SASL_AUTH", 0x21, 0, 1), ("SASL_STEP", 0x22, 0, 1),
];

const UNKNOWN_COMMAND: u16 = 0x81;

/// Certificates that can always be read again.
#[derive(Debug)]
struct Fresh;

impl Certificates for Fresh {
    fn refresh(&self) -> Result<(), String> {
        Ok(())
    }

    fn keeps_sessions(&self) -> bool {
        false
    }
}

fn engine() -> Engine {
    let process = Process {
        started: Clock::manual().now(),
        connections_max: 1,
        threads: 1,
    };
    let options = Options {
        certificates: Some(Arc::new(Fresh)),
        ..Options::default()
    };
    Engine::new(
        Store::new(&store::Options::default()).unwrap(),
        options,
        process,
    )
}

/// What a server answers on a fresh connection.
fn answer(engine: &Engine, rules: Rules<'_>, request: &[u8]) -> Vec<u8> {
    let counters = engine.stats().register_worker();
    let mut conversation = Conversation::under(rules, engine, &counters);
    conversation.feed(request, Clock::manual().now());
    conversation.replies
}

#[test]
fn commands_are_what_the_table_says() {
    let said = table("| command | here | what differs, and why |");
    let lines = LINES.iter().map(|(name, _)| *name);
    let opcodes = OPCODES.iter().map(|(name, ..)| *name);
    assert_same_names(&said, lines.chain(opcodes));
    let engine = engine();
    for (name, line) in LINES {
        let replies = answer(&engine, Rules::default(), format!("{line}\r\n").as_bytes());
        let reply = String::from_utf8(replies).unwrap();
        let found = match reply.trim_end() {
            "ERROR" => Here::None,
            refusal if refusal.contains("not allowed") => Here::Refused,
            refusal if refusal.ends_with("disabled") => Here::Refused,
            _ => served(said[name]),
        };
        assert_eq!(said[name], found, "{name}: {reply}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "alice:secret\n").unwrap();
    let users = Users::load(file.path()).unwrap();
    for (name, opcode, extras, key) in OPCODES {
        let is_sasl = name.starts_with("SASL");
        let rules = Rules {
            users: is_sasl.then_some(&users),
            sasl: is_sasl,
            ..Rules::default()
        };
        let request = Request::new(*opcode)
            .extras(vec![0; *extras])
            .key(vec![b'k'; *key]);
        let replies = answer(&engine, rules, &request.bytes());
        let is_known = replies.is_empty() || {
            let answer = Answer::read(&mut &replies[..]);
            answer.opcode == *opcode && answer.status != UNKNOWN_COMMAND
        };
        assert!(is_known, "{name}");
        assert_eq!(said[name], served(said[name]), "{name}");
    }
}

/// What memcached gives to getopt, and a value for each letter that takes one.
const LETTERS: &str = "a:AZp:s:U:m:Mc:khiVrvdl:u:P:f:n:t:D:LR:Cb:B:I:SFXWY:e:o:N:";

#[rustfmt::skip]
const VALUES: &[(char, &str)] = &[
    ('a', "0700"), ('p', "1"), ('s', "/s"), ('U', "0"), ('m', "64"), ('c', "9"), ('l', "127.0.0.1"), ('u', "root"),
    ('P', "/p"), ('f', "1.25"), ('n', "48"), ('t', "1"), ('D', ":"), ('R', "9"), ('b', "9"), ('B', "auto"), ('I', "1m"),
    ('Y', "/y -S"), ('e', "/e"), ('N', "1"),
];

#[rustfmt::skip]
const EXTENDED: &[&str] = &[
    "maxconns_fast", "hashpower=20", "no_hashexpand", "slab_reassign", "slab_automove=1", "slab_automove_ratio=0.8",
    "slab_automove_window=30", "slab_automove_freeratio=0.01", "relaxed_privileges", "sock_cookie_id=1",
    "tail_repair_time=0", "hash_algorithm=xxh3", "lru_crawler", "lru_crawler_sleep=100",
    "lru_crawler_tocrawl=0", "lru_maintainer", "hot_lru_pct=20", "warm_lru_pct=40", "hot_max_factor=0.2",
    "warm_max_factor=2.0", "temporary_ttl=61", "idle_timeout=60", "watcher_logbuf_size=256", "worker_logbuf_size=64",
    "slab_sizes=8-16", "slab_chunk_max=512", "track_sizes", "modern", "no_chunked_items", "inline_ascii_resp",
    "drop_privileges", "resp_obj_mem_limit=1", "read_buf_mem_limit=1", "ssl_chain_cert=/c", "ssl_key=/k",
    "ssl_verify_mode=1", "ssl_keyformat=1", "ssl_ciphers=x", "ssl_ca_cert=/a", "ssl_wbuf_size=16", "ssl_session_cache",
    "ssl_kernel_tls", "ssl_min_version=2", "proxy_config=x", "proxy_arg=x", "proxy_uring", "proxy_memprofile",
    "ext_path=/x:64m", "ext_page_size=64", "ext_wbuf_size=4", "ext_threads=1", "ext_io_depth=1", "ext_item_size=512",
    "ext_item_age=0", "ext_low_ttl=0", "ext_recache_rate=2000", "ext_compact_under=4", "ext_drop_under=4",
    "ext_max_sleep=1", "ext_max_frag=0.8", "ext_drop_unread",
];

/// A name as the table has it, and a command line with it.
fn options() -> impl Iterator<Item = (String, String)> {
    let letters = LETTERS
        .chars()
        .filter(|letter| !matches!(letter, ':' | 'o'));
    let letters = letters.map(|letter| {
        let value = VALUES
            .iter()
            .find(|(of, _)| *of == letter)
            .map_or("", |(_, value)| value);
        let needs = if letter == 'S' { " -Y /y" } else { "" };
        let needs = if letter == 'Z' {
            " -o ssl_chain_cert=/c,ssl_key=/k"
        } else {
            needs
        };
        (format!("-{letter}"), format!("-{letter} {value}{needs}"))
    });
    let extended = EXTENDED.iter().map(|option| {
        let (name, _) = option.split_once('=').unwrap_or((option, ""));
        (format!("-o {name}"), format!("-o {option}"))
    });
    letters.chain(extended)
}

#[test]
fn options_are_what_the_table_says() {
    let said = table("| option | here | what differs, and why |");
    let options: Vec<(String, String)> = options().collect();
    assert_same_names(&said, options.iter().map(|(name, _)| name.as_str()));
    let machine = Machine {
        memory: None,
        root: true,
        port_file: None,
        runtime_directory: None,
        user_known: |_| true,
        uid_of: |_| None,
        gid_of: |_| None,
        system_uid_max: 999,
        addresses_of: |_, _| Ok(Vec::new()),
    };
    for (name, line) in &options {
        let args = line.split_whitespace().map(OsString::from);
        let found = match config::load(args, &machine) {
            Ok(Action::Print(_)) => served(said[&**name]),
            Ok(Action::Run(config)) => {
                let without_effect = config
                    .notes
                    .iter()
                    .any(|note| note.starts_with("accepted without effect"));
                if without_effect {
                    Here::WithoutEffect
                } else {
                    served(said[&**name])
                }
            }
            Err(error) => {
                assert!(
                    error.to_string().contains("there is none"),
                    "{name}: {error}"
                );
                Here::Refused
            }
        };
        assert_eq!(said[&**name], found, "{name}");
    }
}
