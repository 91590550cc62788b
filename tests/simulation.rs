//! Simulations as a user runs them, and the hit ratios that the store's eviction is there for.
//!
//! Everything here is counted in virtual time, from made-up traces: the same on every machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tokencached::tool::generate::{Scenario, generate};
use tokencached::tool::trace::{Kind, Trace};

fn tool(words: &str) -> Output {
    tool_in(Path::new("."), words)
}

fn tool_in(folder: &Path, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tokencached-tool"))
        .args(words.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Standard output of what must work.
fn printed(words: &str) -> String {
    let output = tool(words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{words}: {said}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The one line that is said of what cannot work.
fn refused(folder: &Path, words: &str) -> String {
    let output = tool_in(folder, words);
    assert!(
        !output.status.success() && output.stdout.is_empty(),
        "{words}"
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// Hit percentages by policy, of one scenario and one size.
fn hits(scenario: &str, memory: u32, more: &str) -> impl Fn(&str) -> f64 + use<> {
    let json = printed(&format!(
        "simulate --scenario {scenario} --set hours=1.5 --memory {memory} --format json {more}"
    ));
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    move |policy| {
        let rows = report["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["policy"] == policy).unwrap();
        row["hit_percent"].as_f64().unwrap()
    }
}

const RIVALS: &str = "--values 10240 --policies tokencached,lru,lru+x,moka-tinylfu,infinite";

#[test]
fn in_64_mb_tokens_in_use_stay_until_they_expire() {
    for scenario in ["large", "ci"] {
        let of = hits(scenario, 64, RIVALS);
        let lost = of("infinite") - of("tokencached");
        assert!(lost <= 0.1, "{scenario}: {lost} points below the bound");
    }
}

#[test]
fn commands_that_last_longer_get_the_memory_that_lru_would_give_them() {
    const AWAY_MAX: f64 = 1.0;
    for (scenario, mix) in [
        ("slow-ci", ""),
        ("ci", "--set command_pause_seconds=10 --seeds 9"),
        (
            "ci",
            "--set command_requests=8 --set command_pause_seconds=3",
        ),
        (
            "ci",
            "--set controllers=3000 --set controller_interval_seconds=60",
        ),
        (
            "large",
            "--set command_pause_seconds=10 --set command_requests=5",
        ),
    ] {
        let of = hits(scenario, 64, &format!("{RIVALS} {mix}"));
        let behind = of("lru+x") - of("tokencached");
        assert!(
            behind <= AWAY_MAX,
            "{scenario} {mix}: {behind} points behind LRU"
        );
    }
}

#[test]
fn a_flood_of_tokens_used_once_pushes_out_little_that_is_in_use() {
    let of = hits("mint-once", 64, RIVALS);
    for rival in ["lru", "lru+x", "moka-tinylfu"] {
        let gained = of("tokencached") - of(rival);
        assert!(gained >= 3.0, "{gained} points above {rival}");
    }
}

#[test]
fn in_16_mb_every_scenario_is_better_off_than_with_lru() {
    for scenario in [
        "large",
        "ci",
        "flash-crowd",
        "mint-once",
        "mint-thrice",
        "dogpile",
    ] {
        let of = hits(scenario, 16, RIVALS);
        let gained = of("tokencached") - of("lru").max(of("lru+x"));
        assert!(gained >= 2.0, "{scenario}: {gained} points above LRU");
    }
}

#[test]
fn packed_tokens_stay_until_they_expire_in_16_mb() {
    for scenario in ["small", "large", "ci", "flash-crowd", "mint-once"] {
        let of = hits(
            scenario,
            16,
            "--values packed --policies tokencached,infinite",
        );
        let lost = of("infinite") - of("tokencached");
        assert!(lost <= 0.1, "{scenario}: {lost} points below the bound");
    }
}

#[test]
fn the_same_options_give_the_same_report() {
    let words =
        "simulate --scenario ci --set hours=0.7 --values 10240 --memory 8 --format markdown";
    assert_eq!(
        printed(words),
        printed(&format!("{words} --threads 1")).replace(" --threads 1", "")
    );
}

#[test]
fn a_trace_from_a_file_is_replayed_like_one_that_is_generated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.trace");
    let made = "--scenario small --set hours=1";
    assert!(
        tool(&format!("generate {made} --output {}", file.display()))
            .status
            .success()
    );
    let how = "--memory 8 --policies tokencached,lru --format csv";
    let rows = |words: String| -> Vec<String> {
        let told = printed(&words);
        let figures = |line: &str| line.split(',').take(10).collect::<Vec<_>>().join(",");
        told.lines().map(figures).collect()
    };
    assert_eq!(
        rows(format!("simulate --trace {} {how}", file.display())),
        rows(format!("simulate {made} {how}"))
    );
}

#[test]
fn more_units_validate_more_and_source_hashing_does_not() {
    let misses = |units: u32, balance: &str| {
        let json = printed(&format!(
            "simulate --scenario small --set hours=1 --units {units} --balance {balance} --all-units \
             --policies infinite --memory 8 --format json"
        ));
        let report: serde_json::Value = serde_json::from_str(&json).unwrap();
        let row = &report["rows"][0];
        row["requests"].as_u64().unwrap() - row["hits"].as_u64().unwrap()
    };
    let one = misses(1, "roundrobin");
    assert!(misses(3, "roundrobin") > one * 3 / 2);
    assert!(misses(3, "leastconn") > one * 3 / 2);
    // A client stays with a unit, so its token is validated there only.
    assert_eq!(misses(3, "source"), one);
}

#[test]
fn what_makes_no_sense_is_refused_in_one_line_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made = tool_in(
        folder,
        "generate --scenario small --set hours=0.2 -o good.trace",
    );
    assert!(made.status.success());
    let good = fs::read(folder.join("good.trace")).unwrap();
    fs::write(folder.join("cut.trace"), &good[..good.len() / 2]).unwrap();
    let mut newer = good.clone();
    newer[8] = 9;
    fs::write(folder.join("newer.trace"), newer).unwrap();
    fs::write(folder.join("no.trace"), "{}").unwrap();
    let before = fs::read_dir(folder).unwrap().count();
    let cases = [
        (
            "simulate --trace cut.trace --report r.html -o o",
            "cut.trace: is cut short",
        ),
        (
            "simulate --trace newer.trace --report r.html -o o",
            "newer.trace: is a trace of version 9",
        ),
        (
            "simulate --trace no.trace --report r.html -o o",
            "no.trace: is no trace",
        ),
        (
            "simulate --trace absent.trace",
            "absent.trace: cannot be read",
        ),
        (
            "simulate --trace good.trace -o o",
            "no request comes after the warm-up",
        ),
        ("simulate --memory 0", "--memory"),
        ("simulate --memory 1", "tokencached needs at least 8 MiB"),
        ("simulate --ttl 0", "a TTL of 0 s"),
        ("simulate --units 0", "0 units"),
        ("simulate --values 0", "--values"),
        ("simulate --values 1000000", "at most 900000"),
        ("simulate --balance random", "roundrobin"),
        // Told before the good one is replayed.
        (
            "simulate --trace good.trace --trace newer.trace",
            "newer.trace: is a trace of version 9",
        ),
        ("simulate --report -", "give the page a file of its own"),
        (
            "replay --trace good.trace --target 127.0.0.1:1",
            "a shorter --warm-up",
        ),
        (
            "replay --trace good.trace --warm-up 0 --ttl 155520060 --target 127.0.0.1:1",
            "over 30 days",
        ),
        ("simulate --policies lruu", "did you mean lru? there are"),
        (
            "simulate --trace good.trace --seeds 2",
            "--set and --seeds are for scenarios",
        ),
        (
            "simulate --scenario small --set services=0 --set controllers=0 --set dashboards=0 \
             --set commands_per_second=0 --set monitors=0",
            "there is no request in it",
        ),
        (
            "simulate --scenario mint-once --set services=0 --set controllers=0 --set dashboards=0 \
             --set commands_per_second=0 --set monitors=0 --set hours=1 --set attack_tokens_per_second=1",
            "there is no hit ratio of such",
        ),
        // Told before a day of requests is made up.
        (
            "generate --set hours=24 -o absent/o",
            "absent/o: cannot be written",
        ),
        (
            "simulate --set hours=24 --report absent/o",
            "absent/o: cannot be written",
        ),
        ("simulate --scenario larg", "did you mean large?"),
        (
            "simulate --scenario large --set hour=1",
            "did you mean hours?",
        ),
        (
            "simulate --trace good.trace -o good.trace",
            "good.trace: would be written over",
        ),
        (
            "simulate --scenario ci -o same --report same",
            "same: would be written over",
        ),
        (
            "generate --set services=1000000 --set hours=1000 -o o",
            "requests, and at most",
        ),
        ("generate --set hours=-1 -o o", "hours=-1: must be from"),
        ("generate --set hours=NaN -o o", "hours=NaN: must be from"),
        ("generate --set services -o o", "NAME=VALUE"),
        (
            "generate --set hours=0.01 -o absent/o",
            "absent/o: cannot be written",
        ),
    ];
    for (words, told) in cases {
        let said = refused(folder, words);
        assert!(said.contains(told), "{words}: {said}");
    }
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        before,
        "something was written"
    );
}

#[test]
fn what_is_given_twice_is_replayed_once() {
    let csv = printed(
        "simulate --scenario small,small --seeds 1,1 --set hours=0.6 --memory 8,8 --policies lru,lru --format csv",
    );
    assert_eq!(csv.lines().count(), 2);
}

#[test]
fn a_trace_goes_through_a_pipe_whole() {
    let folder = tempfile::tempdir().unwrap();
    for output in ["-", "/dev/stdout"] {
        let made = tool(&format!(
            "generate --scenario small --set hours=0.6 -o {output}"
        ));
        fs::write(folder.path().join("piped.trace"), made.stdout).unwrap();
        let read = tool_in(folder.path(), "simulate --trace piped.trace --policies lru");
        assert!(read.status.success());
    }
}

#[test]
fn traces_of_one_name_with_other_parameters_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    for (file, pause) in [("quick", 1), ("slow", 30)] {
        let words = format!(
            "generate --scenario small --set hours=1 --set command_pause_seconds={pause} -o {file}"
        );
        assert!(tool_in(folder.path(), &words).status.success());
    }
    let words = "simulate --trace quick --trace slow --policies infinite --memory 8 --format csv";
    let csv = String::from_utf8(tool_in(folder.path(), words).stdout).unwrap();
    let names: Vec<&str> = csv
        .lines()
        .skip(1)
        .filter_map(|line| line.split(',').next())
        .collect();
    assert_eq!(names, ["small", "small hours=1 command_pause_seconds=30"]);
}

fn made(name: &str, hours: &str, seed: u64) -> Trace {
    let mut scenario = Scenario::named(name).unwrap();
    scenario.set(hours).unwrap();
    generate(&scenario, seed, |_| ())
}

#[test]
fn a_seed_gives_the_same_trace_and_another_one_another() {
    let (one, again, other) = (
        made("small", "hours=0.5", 1),
        made("small", "hours=0.5", 1),
        made("small", "hours=0.5", 2),
    );
    assert!(one == again);
    assert!(one.requests != other.requests);
}

#[test]
fn requests_are_in_the_order_of_their_time_and_as_many_as_the_parameters_say() {
    let mut scenario = Scenario::named("mint-thrice").unwrap();
    scenario.set("hours=2").unwrap();
    let trace = generate(&scenario, 1, |_| ());
    assert!(trace.requests.is_sorted_by_key(|request| request.millis));
    assert!(
        trace
            .requests
            .iter()
            .all(|request| request.millis < trace.about.millis)
    );
    let expected = scenario.requests_about();
    let off = trace.requests.len() as f64 / expected - 1.0;
    assert!(
        off.abs() < 0.1,
        "{} requests, about {expected}",
        trace.requests.len()
    );
    let attacks = trace
        .tokens
        .iter()
        .filter(|token| token.kind == Kind::Attack)
        .count() as f64;
    let expected = scenario.attack_tokens_per_second * 7200.0;
    assert!((attacks / expected - 1.0).abs() < 0.05);
}
