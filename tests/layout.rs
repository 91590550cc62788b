//! The table of imports, kept true: which room of `src/` never names what.
//!
//! Reads the sources as text. A *path* is forbidden where it begins a path (`crate::store`, `tokio`),
//! a *word* wherever it stands alone. Comments do not count.

use std::fs;
use std::path::{Path, PathBuf};

struct Rule {
    /// What the rule is for, as a failure says it.
    reason: &'static str,
    /// Files and folders it holds for.
    within: &'static [&'static str],
    /// Files and folders among them it does not hold for.
    except: &'static [&'static str],
    /// Beginnings of paths that are forbidden.
    paths: &'static [&'static str],
    /// Words that are forbidden.
    words: &'static [&'static str],
}

const NOTHING: &[&str] = &[];

#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule {
        reason: "protocol is bytes to commands: no store, no I/O, no clock, no logging",
        within: &["src/protocol/"],
        except: NOTHING,
        paths: &["crate::store", "crate::token", "crate::engine", "crate::stats", "crate::server", "crate::clock",
                 "tokio", "socket2", "rustix", "std::net", "std::io", "std::time", "tracing"],
        words: NOTHING,
    },
    Rule {
        reason: "store knows neither wire nor tokens nor tokio",
        within: &["src/store/"],
        except: NOTHING,
        paths: &["crate::protocol", "crate::token", "crate::packing", "crate::stats", "crate::engine",
                 "crate::server", "tokio", "serde", "std::net", "std::time"],
        words: NOTHING,
    },
    Rule {
        reason: "token is pure",
        within: &["src/token/"],
        except: NOTHING,
        paths: &["crate::protocol", "crate::store", "crate::engine", "crate::server", "tokio"],
        words: NOTHING,
    },
    Rule {
        reason: "packing is bytes to fewer bytes: no wire, no I/O, no logging",
        within: &["src/packing/"],
        except: NOTHING,
        paths: &["crate::protocol", "crate::stats", "crate::engine", "crate::server", "crate::clock",
                 "tokio", "std::net", "std::io::Read", "std::io::Write", "std::time", "tracing"],
        words: NOTHING,
    },
    Rule {
        reason: "one file owns zstd",
        within: &["src/"],
        // Whose tests read the recorded tokens.
        except: &["src/packing/codec.rs", "src/tool/tokens/mod.rs"],
        paths: &["zstd", "zstd_safe"],
        words: NOTHING,
    },
    Rule {
        reason: "one file of the server owns base64",
        within: &["src/"],
        except: &["src/packing/base64.rs", "src/tool/"],
        paths: &["base64_simd"],
        words: NOTHING,
    },
    Rule {
        reason: "stats is below the engine",
        within: &["src/stats/"],
        except: NOTHING,
        paths: &["crate::engine", "crate::server"],
        words: NOTHING,
    },
    Rule {
        reason: "the engine is below the server and knows no sockets",
        within: &["src/engine/"],
        except: NOTHING,
        paths: &["crate::server", "tokio::net", "tokio::io", "socket2", "std::net", "std::os::unix::net"],
        words: NOTHING,
    },
    Rule {
        reason: "the store's inside is its own",
        within: &["src/"],
        except: &["src/store/"],
        paths: NOTHING,
        words: &["store::audit", "store::compaction", "store::departures", "store::dictionary", "store::eviction", "store::ghost", "store::heap", "store::index", "store::item",
                 "store::packing", "store::recovery", "store::returns", "store::segment", "store::shortfall", "store::superblock", "store::time_left", "store::upload", "store::view"],
    },
    Rule {
        reason: "config fills the others' options; only the programs name it",
        within: &["src/"],
        except: &["src/config/", "src/main.rs", "src/bin/"],
        paths: &["crate::config", "tokencached::config", "clap", "toml"],
        words: NOTHING,
    },
    Rule {
        reason: "one file of the server owns TLS",
        within: &["src/"],
        except: &["src/server/tls.rs"],
        paths: &["tokio_rustls", "rustls"],
        words: NOTHING,
    },
    Rule {
        reason: "three files talk to the service manager",
        within: &["src/"],
        except: &["src/server/handover/fd_store.rs", "src/server/handover/inherited.rs", "src/server/manager.rs"],
        paths: &["sd_notify"],
        words: NOTHING,
    },
    Rule {
        reason: "one file of the server asks the kernel who a peer is",
        within: &["src/"],
        except: &["src/server/peer.rs"],
        paths: &["netlink_packet_core", "netlink_packet_sock_diag"],
        words: NOTHING,
    },
    Rule {
        reason: "three files do what no type of socket2's or tokio's does: netlink, descriptors, clients' sockets without the C library",
        within: &["src/"],
        except: &["src/server/stream.rs", "src/server/peer.rs", "src/server/handover/queue.rs"],
        paths: &["rustix::net"],
        words: NOTHING,
    },
    Rule {
        reason: "one file owns prometheus",
        within: &["src/"],
        except: &["src/stats/prometheus.rs"],
        paths: &["prometheus"],
        words: NOTHING,
    },
    Rule {
        reason: "other caches are rivals in the simulator, one file each",
        within: &["src/"],
        except: &["src/tool/simulate/policy/"],
        paths: &["moka", "quick_cache"],
        words: NOTHING,
    },
    Rule {
        reason: "one file shows progress",
        within: &["src/"],
        except: &["src/tool/progress.rs"],
        paths: &["indicatif"],
        words: NOTHING,
    },
    Rule {
        reason: "one folder knows the terminal, and the time of day",
        within: &["src/"],
        except: &["src/tool/top/"],
        paths: &["ratatui", "crossterm", "jiff"],
        words: NOTHING,
    },
    Rule {
        reason: "of the tool, only the simulator knows the store",
        within: &["src/tool/"],
        except: &["src/tool/simulate/policy/"],
        paths: &["crate::store", "crate::engine", "crate::server", "crate::protocol"],
        words: NOTHING,
    },
    Rule {
        reason: "one file draws",
        within: &["src/"],
        except: &["src/tool/simulate/report/chart.rs"],
        paths: &["plotters"],
        words: NOTHING,
    },
    Rule {
        reason: "the status page alone is filled from a template",
        within: &["src/"],
        except: &["src/server/page/"],
        paths: &["minijinja"],
        words: NOTHING,
    },
    Rule {
        reason: "one file writes CSV",
        within: &["src/"],
        except: &["src/tool/simulate/report/records.rs"],
        paths: &["csv"],
        words: NOTHING,
    },
    Rule {
        reason: "time is an argument",
        within: &["src/"],
        except: &["src/clock.rs", "src/tool/"],
        paths: NOTHING,
        words: &["Instant", "SystemTime::now", "clock_gettime"],
    },
    Rule {
        reason: "the memory file, descriptors that come from outside and those in the reactor are the places without the compiler's proof",
        within: &["src/"],
        except: &["src/store/heap.rs", "src/server/handover/inherited.rs", "src/server/stream.rs"],
        paths: NOTHING,
        words: &["unsafe"],
    },
    Rule {
        reason: "one room an import, named from the top, so that this test sees it",
        within: &["src/"],
        except: NOTHING,
        paths: &["crate::{", "super::super", "crate::*"],
        words: NOTHING,
    },
    Rule {
        reason: "what is served is finished",
        within: &["src/", "tests/", "benches/"],
        except: &["tests/layout.rs"],
        paths: NOTHING,
        words: &["todo!", "unimplemented!", "dbg!", "#[ignore"],
    },
];

#[test]
fn imports_go_down_the_floors_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"] {
        collect(&root.join(folder), &mut files);
    }
    assert!(files.len() > 20, "the sources are where they were");
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let name = file.strip_prefix(root).unwrap().to_str().unwrap();
            violations(name, &fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_planted_violation_is_found() {
    let planted = "use std::fmt;\n\n// use crate::store::Store;\nuse crate::store::Store;\n";
    let found = violations("src/protocol/planted.rs", planted);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("src/protocol/planted.rs:4: crate::store: protocol is"));
    for (file, line, count) in [
        (
            "src/engine/planted.rs",
            "let socket: std::net::TcpStream;",
            1,
        ),
        (
            "src/engine/planted.rs",
            "crate::stats::prometheus::render()",
            0,
        ),
        ("src/server/planted.rs", "use prometheus::Counter;", 1),
        (
            "src/tool/simulate/report/page.rs",
            "use plotters::prelude::*;",
            1,
        ),
        (
            "src/tool/simulate/report/page.rs",
            "csv::Writer::from_path(path)",
            1,
        ),
        (
            "src/server/planted.rs",
            "use crate::store::{self, ItemRef};",
            0,
        ),
        ("src/server/planted.rs", "store::audit::Audit", 1),
        (
            "src/server/planted.rs",
            "let now = std::time::Instant::now();",
            1,
        ),
        (
            "src/tool/planted.rs",
            "let now = std::time::Instant::now();",
            0,
        ),
        ("src/tool/status.rs", "use ratatui::Frame;", 1),
        ("src/tool/top/planted.rs", "use ratatui::Frame;", 0),
        (
            "src/store/planted.rs",
            "let unsafely = unsafe { read() };",
            1,
        ),
        ("src/store/planted.rs", "use crate::{clock, protocol};", 1),
        ("src/stats/planted.rs", "use crate::engines;", 0),
        ("tests/planted.rs", "#[ignore]", 1),
    ] {
        assert_eq!(violations(file, line).len(), count, "{file}: {line}");
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Each violation as `file:line: name: reason`.
fn violations(file: &str, text: &str) -> Vec<String> {
    let holds = |rule: &&Rule| {
        let is_in = |places: &[&str]| places.iter().any(|place| file.starts_with(place));
        is_in(rule.within) && !is_in(rule.except)
    };
    let mut found = Vec::new();
    for rule in RULES.iter().filter(holds) {
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            let paths = rule.paths.iter().filter(|name| names(code, name, true));
            let words = rule.words.iter().filter(|name| names(code, name, false));
            found.extend(paths.chain(words).map(|name| {
                let reason = rule.reason;
                format!("{file}:{number}: {name}: {reason}")
            }));
        }
    }
    found
}

/// Whether `code` has `name` as a word of its own, or, for `begins_path`, at the beginning of a path.
fn names(code: &str, name: &str, begins_path: bool) -> bool {
    let in_word = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        let begins = !before.is_some_and(|char| in_word(char) || (begins_path && char == ':'));
        let ends = !name.ends_with(in_word) || !after.is_some_and(in_word);
        let is_path = !begins_path || name.contains("::") || is_crate(code, at, name.len());
        begins && ends && is_path
    })
}

/// Whether the name of a crate at `at` is used as one: `use name...`, or followed by `::`.
fn is_crate(code: &str, at: usize, length: usize) -> bool {
    code[..at].trim_end().ends_with("use") || code[at + length..].starts_with("::")
}
