//! Advice as an operator gets it: from a trace, held against the simulation that it comes from, and from a running
//! server.

#[expect(dead_code, reason = "other tests need the rest of it")]
#[path = "common/daemon.rs"]
mod daemon;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tokencached::tool::trace::{self, Recorded};

use daemon::Daemon;

fn tool(folder: &Path, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tokencached-tool"))
        .args(words.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Standard output of what must work.
fn printed(folder: &Path, words: &str) -> String {
    let output = tool(folder, words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(folder: &Path, words: &str) -> Value {
    serde_json::from_str(&printed(folder, words)).unwrap()
}

/// The one line that is said of what cannot work.
fn refused(folder: &Path, words: &str) -> String {
    let output = tool(folder, words);
    assert!(
        !output.status.success() && output.stdout.is_empty(),
        "{words}"
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// A trace of an hour, of which half is counted.
fn made(folder: &Path) {
    printed(
        folder,
        "generate --scenario small --set hours=1 -o made.trace",
    );
}

/// Memory and TTL of each row.
fn caches(rows: &Value) -> Vec<(u64, u64)> {
    let rows = rows.as_array().unwrap().iter();
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap();
    rows.map(|row| {
        (
            number(row, "memory_bytes") >> 20,
            number(row, "ttl_seconds"),
        )
    })
    .collect()
}

/// Holds rows against what the simulator says of the same caches.
fn assert_simulated(rows: &Value, simulated: &Value) {
    let simulated = simulated["rows"].as_array().unwrap();
    for row in rows.as_array().unwrap() {
        let is_same = |other: &&Value| {
            ["memory_bytes", "ttl_seconds"]
                .iter()
                .all(|name| other[name] == row[name])
        };
        let same = simulated.iter().find(is_same).unwrap();
        for name in ["requests", "hits", "hit_percent", "validations_per_second"] {
            assert_eq!(row[name], same[name], "{name} of {row}");
        }
    }
}

#[test]
fn the_figures_are_those_of_the_simulation() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    made(folder);
    let how = "--trace made.trace --values 10240";
    let advice = json(folder, &format!("advise {how} --memory 16 --json"));
    let memory = [(8, 300), (16, 300), (24, 300), (32, 300), (64, 300)];
    assert_eq!(caches(&advice["memory"]), memory);
    let ttl = [(16, 60), (16, 120), (16, 300), (16, 600)];
    assert_eq!(caches(&advice["ttl"]), ttl);
    assert_eq!(
        advice["ttl_seconds_left_out"],
        serde_json::json!([900, 1_800, 3_600])
    );

    let how = format!("simulate {how} --policies tokencached --all-units --format json");
    let simulated = json(folder, &format!("{how} --memory 8,16,24,32,64 --ttl 300"));
    assert_simulated(&advice["memory"], &simulated);
    let simulated = json(folder, &format!("{how} --memory 16 --ttl 60,120,300,600"));
    assert_simulated(&advice["ttl"], &simulated);
    assert_eq!(advice["units"], 3);
}

#[test]
fn a_change_is_the_difference_to_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    made(folder);
    let words = "advise --trace made.trace --memory 16,8 --ttl 120,300 --validation-cost-ms 200";
    let advice = json(folder, &format!("{words} --json"));
    assert_eq!(caches(&advice["memory"]), [(8, 120), (16, 120)]);
    assert_eq!(caches(&advice["ttl"]), [(16, 120), (16, 300)]);
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap();
    let [present, longer] = &advice["ttl"].as_array().unwrap()[..] else {
        panic!("other rows");
    };
    assert_eq!(present["is_present"], true);
    assert_eq!(number(present, "validations_per_second_change"), 0.0);
    let name = "validations_per_second";
    let spared = number(present, name) - number(longer, name);
    assert!(spared > 0.0, "a longer TTL spares something");
    assert_eq!(number(longer, "validations_per_second_change"), -spared);
    let cores = number(longer, "keystone_cores_change");
    assert!((cores + spared * 0.2).abs() < 1e-9, "{cores}");

    let text = printed(folder, words);
    for line in advice["advice"].as_array().unwrap() {
        assert!(text.contains(line.as_str().unwrap()), "{line}: {text}");
    }
    assert!(text.contains("16 MB (present)"), "{text}");
    assert!(
        text.contains("TTL: token_cache_time = 300 would spare"),
        "{text}"
    );
}

#[test]
fn a_recorded_trace_says_itself_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    made(folder);
    let mut recorded = trace::file::read(&folder.join("made.trace")).unwrap();
    recorded.about.recorded = Some(Recorded {
        warm_up_millis: 600_500,
        validation_millis: 100,
        ttl_seconds: 240,
        memory_bytes: 12 << 20,
        look_ups: 0,
        hits: 0,
        left_out: 0,
        lost: 0,
    });
    trace::file::write(&folder.join("recorded.trace"), &recorded).unwrap();
    let advice = json(folder, "advise --trace recorded.trace --json");
    assert_eq!(advice["units"], 1);
    assert_eq!(advice["counted_seconds"], 2_999.5);
    let memory = [(12, 240), (18, 240), (24, 240), (48, 240)];
    assert_eq!(caches(&advice["memory"]), memory);
    let ttl = [60, 120, 240, 300, 600, 900].map(|seconds| (12, seconds));
    assert_eq!(caches(&advice["ttl"]), ttl);

    recorded.about.recorded.as_mut().unwrap().memory_bytes = u64::MAX;
    trace::file::write(&folder.join("odd.trace"), &recorded).unwrap();
    let advice = json(folder, "advise --trace odd.trace --ttl 240,60 --json");
    assert_eq!(advice["present_memory_bytes"], 64 << 20);
}

#[test]
fn a_trace_that_is_short_for_what_there_is_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    made(folder);
    let text = printed(
        folder,
        "advise --trace made.trace --memory 8,16 --ttl 1200,60",
    );
    assert!(
        text.contains("take all figures for an extrapolation"),
        "{text}"
    );
    assert!(!text.contains("Left out"), "{text}");
    let text = printed(
        folder,
        "advise --trace made.trace --memory 8,16 --ttl 60,1200",
    );
    assert!(text.contains("Left out: a TTL of 1200 s"), "{text}");
    assert!(!text.contains("extrapolation"), "{text}");
}

#[test]
fn what_makes_no_sense_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    printed(
        folder,
        "generate --scenario small --set hours=0.2 -o short.trace",
    );
    let mut newer = fs::read(folder.join("short.trace")).unwrap();
    newer[8] = 99;
    fs::write(folder.join("newer.trace"), newer).unwrap();
    fs::write(folder.join("no.trace"), "{}").unwrap();
    for (words, told) in [
        ("--trace short.trace", "a shorter --warm-up"),
        (
            "--trace newer.trace",
            "newer.trace: is a trace of version 99",
        ),
        ("--trace no.trace", "no.trace: is no trace"),
        ("--trace absent.trace", "absent.trace: cannot be read"),
        ("--trace short.trace --memory 1", "needs at least 8 MiB"),
        ("--trace short.trace --memory 64,x", "--memory \"x\""),
        ("--trace short.trace --ttl 0", "a TTL of 0 s"),
        (
            "--trace short.trace --warm-up 60 --ttl 300,0",
            "a TTL of 0 s",
        ),
        ("--trace short.trace --units 0", "0 units"),
        ("--trace short.trace --values tiny", "--values \"tiny\""),
        ("--http 127.0.0.1:1", "cannot reach 127.0.0.1:1"),
        ("--admin absent.sock", "cannot reach unix:absent.sock"),
    ] {
        let said = refused(folder, &format!("advise {words}"));
        assert!(said.contains(told), "{words}: {said}");
    }
}

#[test]
fn a_server_that_has_just_begun_is_shown_and_nothing_advised() {
    let daemon = Daemon::with("-l 127.0.0.1:0 --http 127.0.0.1:0 -m 32");
    let folder = Path::new(".");
    let words = format!("advise --http {}", daemon.http());
    let text = printed(folder, &words);
    assert!(text.contains("of 32 MB in use"), "{text}");
    assert!(text.contains("Too early to advise"), "{text}");
    let advice = json(folder, &format!("{words} --json"));
    assert_eq!(advice["source"], "server");
    assert_eq!(advice["is_too_early"], true);
    assert_eq!(advice["limit_bytes"], 32 << 20);
    assert_eq!(advice["memory"][0]["is_present"], true);
}
