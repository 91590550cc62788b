//! The process: that it lives, for how long, what it is, what it costs.

use super::{Metric, Samples, counter, gauge, one, seconds, unlisted, unlisted_sample};
use crate::protocol::MEMCACHED_VERSION;

const NANOS: u64 = 1_000_000_000;

/// What `tokencached_config_info` tells of the settings: words and numbers, no path and no name of anybody.
const CONFIG: &[&str] = &[
    "cas_enabled",
    "evictions",
    "flush_enabled",
    "idle_timeout",
    "item_size_max",
    "lasting_idle",
    "num_threads",
    "packing",
    "reqs_per_event",
    "ssl_enabled",
];

pub(super) const METRICS: &[Metric] = &[
    gauge(
        "memcached_up",
        "Whether the server answers: 1.",
        "Alert when it is absent: until it is back, every token is validated by Keystone.",
        unlisted(|_| 1),
    ),
    counter(
        "memcached_uptime_seconds",
        "Seconds since the server started; a restart that hands its items on does not begin anew.",
        "Where it falls, the cache has begun empty: expect misses for as long as tokens take to come back.",
        one("uptime", |moment| moment.uptime_seconds().into()),
    ),
    gauge(
        "process_start_time_seconds",
        "Unix time at which this program was started or, by SIGUSR2, executed anew; the name is Prometheus' own.",
        "Changes with each restart, of which memcached_uptime_seconds shows those alone that lose the items.",
        unlisted(|moment| u64::try_from(moment.process.started.unix_seconds).unwrap_or_default()),
    ),
    gauge(
        "memcached_time_seconds",
        "Unix time of the server's clock.",
        "Compare with time(): a clock that is wrong shifts expiry times that clients give as dates.",
        one("time", |moment| {
            u64::try_from(moment.now.unix_seconds).unwrap_or_default()
        }),
    ),
    gauge(
        "memcached_version",
        "The memcached release that is spoken, as a label.",
        "For what was made for memcached; the server's own release is in tokencached_build_info.",
        Samples::Each(
            &["version"],
            &[unlisted_sample(&[MEMCACHED_VERSION], |_| 1)],
        ),
    ),
    seconds(
        "memcached_process_user_cpu_seconds_total",
        "CPU time of this process outside the kernel.",
        "Its rate is cores in use; begins anew with a new process, and goes on over SIGUSR2.",
        (
            NANOS,
            one("rusage_user", |moment| moment.cpu[0].as_nanos() as u64),
        ),
    ),
    seconds(
        "memcached_process_system_cpu_seconds_total",
        "CPU time of this process in the kernel.",
        "As above; most of a cache's time goes into sockets.",
        (
            NANOS,
            one("rusage_system", |moment| moment.cpu[1].as_nanos() as u64),
        ),
    ),
    gauge(
        "tokencached_build_info",
        "The server's own release and the memcached release that it speaks, as labels.",
        "Count by version to see how far a rollout has come.",
        Samples::Each(
            &["version", "memcached_version"],
            &[unlisted_sample(
                &[env!("CARGO_PKG_VERSION"), MEMCACHED_VERSION],
                |_| 1,
            )],
        ),
    ),
    gauge(
        "tokencached_config_info",
        "Settings as configured, as labels under the names of stats settings.",
        "Count by a label to find the unit that is configured unlike the others.",
        Samples::Family(CONFIG, |moment, visit| {
            let values: Vec<&str> = CONFIG.iter().map(|name| moment.setting(name)).collect();
            visit(&values, 1.into());
        }),
    ),
];
