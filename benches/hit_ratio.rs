//! What each policy hits, and how fast it is replayed: an hour of three scenarios, one unit of three,
//! with values of 10 KB.
//!
//! Prints the hit ratios first; then Criterion times the policies on `large`, an element a request of
//! the whole trace. `tokencached-tool simulate` does the same for any scenario at length.

use std::num::NonZero;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokencached::tool::generate::{Scenario, generate};
use tokencached::tool::progress::Progress;
use tokencached::tool::simulate::balance::Balance;
use tokencached::tool::simulate::policy::spec::{DEFAULTS, Spec};
use tokencached::tool::simulate::replay::Values;
use tokencached::tool::simulate::report::table;
use tokencached::tool::simulate::{Options, Simulation, Units};
use tokencached::tool::trace::Trace;

const SCENARIOS: [&str; 3] = ["large", "ci", "mint-once"];

fn options(policies: &str, memory_mib: &[u64]) -> Options {
    let spec = |name| Spec::parse(name).expect("the name is a policy's");
    Options {
        policies: policies.split(',').map(spec).collect(),
        memory_bytes: memory_mib.iter().map(|mib| mib << 20).collect(),
        ttl_seconds: vec![300],
        units: vec![3],
        balances: vec![Balance::RoundRobin],
        replayed: Units::First,
        values: vec![Values::Bytes(10_240)],
        validation_millis: Some(100),
        warm_up_seconds: Some(600),
        threads: NonZero::<usize>::MIN,
    }
}

fn trace(name: &str) -> Trace {
    let mut scenario = Scenario::named(name).expect("the name is a scenario's");
    scenario.set("hours=1").expect("an hour makes sense");
    generate(&scenario, 1, |_| ())
}

fn hit_ratios(criterion: &mut Criterion) {
    let every = options(DEFAULTS, &[16, 64]);
    let mut simulation = Simulation::new(&every);
    let quiet = Progress::new(true);
    let traces = SCENARIOS.map(trace);
    for trace in &traces {
        simulation
            .replay(trace, &quiet)
            .expect("the options make sense");
    }
    print!(
        "{}",
        table::text(&simulation.report("cargo bench --bench hit_ratio".to_owned()))
    );

    let [large, ..] = &traces;
    let mut group = criterion.benchmark_group("replay/large");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(large.requests.len() as u64 / 3));
    for name in DEFAULTS.split(',') {
        let one = options(name, &[16]);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let mut simulation = Simulation::new(&one);
                simulation
                    .replay(large, &quiet)
                    .expect("the options make sense");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, hit_ratios);
criterion_main!(benches);
