//! A small report for the views' tests.

use super::{Report, Row, Tally};

/// The policies of [`report`], in its order.
pub const POLICIES: [&str; 4] = ["tokencached", "lru", "belady", "infinite"];

/// The percentage of hits of each of them at 16 MB; at 64 MB, all are at [`BOUND`].
const PERCENT: [f64; 4] = [77.0, 72.5, 83.4, BOUND];

const BOUND: f64 = 84.0;

/// A scenario whose name is to be escaped.
pub const HOSTILE: &str = "<script>a|b\n\x1b[1m&";

/// Two scenarios (`large` and [`HOSTILE`], which is an attack), two TTLs, two memory sizes, four
/// policies, and two seeds, of which the second has 0.2 points more.
pub fn report() -> Report {
    let mut rows = Vec::new();
    for scenario in ["large", HOSTILE] {
        for seed in [1, 2] {
            for ttl_seconds in [300, 3600] {
                for memory in [16, 64] {
                    for (policy, percent) in POLICIES.into_iter().zip(PERCENT) {
                        let percent = if memory == 64 { BOUND } else { percent };
                        let percent = percent + if seed == 2 { 0.2 } else { 0.0 };
                        rows.push(row(scenario, seed, ttl_seconds, memory, policy, percent));
                    }
                }
            }
        }
    }
    Report {
        command: "tokencached-tool simulate --seeds 2".to_owned(),
        traces: vec![
            "large: many users".to_owned(),
            format!("{HOSTILE}: a flood"),
        ],
        rows,
    }
}

fn row(scenario: &str, seed: u64, ttl: u32, memory: u64, policy: &str, percent: f64) -> Row {
    let is_attack = scenario == HOSTILE;
    Row {
        scenario: scenario.to_owned(),
        seed,
        units: 3,
        balance: "roundrobin".to_owned(),
        units_replayed: 1,
        values: "plain".to_owned(),
        ttl_seconds: ttl,
        memory_bytes: memory << 20,
        policy: policy.to_owned(),
        tally: Tally {
            requests: 100_000,
            hits: (1000.0 * percent).round() as u64,
            attack_requests: if is_attack { 17_000 } else { 0 },
            ..Tally::default()
        },
        counted_seconds: 1000.0,
        replayed_per_second: 1e7,
    }
}
