//! The `stats` command: memcached's names, with memcached's meanings, where they exist here.
//!
//! Made from sums by the engine when a client asks. prometheus/memcached_exporter reads it as a
//! healthy memcached: the names that it cannot do without are there, slab classes are not, since
//! there are none. Names of tokencached's own come last.
//!
//! Source: protocol.txt, "General-purpose statistics".

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use super::{ServerCounters, Snapshot, Stats};
use crate::clock::Now;
use crate::protocol::MEMCACHED_VERSION;
use crate::protocol::reply::Stat;
use crate::store::{Cause, Store, Usage};

/// What is not counted but set when the server starts.
#[derive(Clone, Debug)]
pub struct Process {
    /// The clock at the start.
    pub started: Now,
    /// `-c`
    pub connections_max: usize,
    /// `-t`
    pub threads: usize,
}

/// What `stats` has to know of TLS to show its lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// There is none, and no line of it.
    #[default]
    Off,
    /// It is served.
    On {
        /// Sessions are kept to be taken up again (`ssl_session_cache`).
        sessions_kept: bool,
    },
}

/// `stats`: process, connections, commands, items.
pub fn general(stats: &Stats, store: &Store, process: &Process, tls: Tls, now: Now) -> Vec<Stat> {
    let mut lines = Vec::with_capacity(80);
    process_lines(&mut lines, stats.started_seconds(process), now);
    connection_lines(&mut lines, &stats.server, process);
    command_lines(&mut lines, &stats.snapshot());
    listener_lines(&mut lines, stats, process);
    if let Tls::On { sessions_kept } = tls {
        tls_lines(&mut lines, &stats.server, sessions_kept, process, now);
    }
    item_lines(&mut lines, stats, store);
    lines
}

fn process_lines(lines: &mut Vec<Stat>, started_seconds: u32, now: Now) {
    let (user, system) = cpu_times();
    let uptime = now.seconds.saturating_sub(started_seconds);
    lines.extend([
        Stat::new("pid", std::process::id()),
        Stat::new("uptime", uptime),
        Stat::new("time", now.unix_seconds),
        Stat::new("version", MEMCACHED_VERSION),
        Stat::new("pointer_size", usize::BITS),
        Stat::new("rusage_user", seconds(user)),
        Stat::new("rusage_system", seconds(system)),
    ]);
}

/// The CPU time that this process has used, user and system.
fn cpu_times() -> (Duration, Duration) {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return (Duration::ZERO, Duration::ZERO);
    };
    let duration = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1_000)
    };
    (duration(usage.user_time()), duration(usage.system_time()))
}

/// `S.UUUUUU`, as memcached prints times.
fn seconds(duration: Duration) -> String {
    format!("{}.{:06}", duration.as_secs(), duration.subsec_micros())
}

fn connection_lines(lines: &mut Vec<Stat>, server: &ServerCounters, process: &Process) {
    use std::sync::atomic::Ordering::Relaxed;
    let open = server.curr_connections.load(Relaxed);
    lines.extend([
        Stat::new("max_connections", process.connections_max),
        Stat::new("curr_connections", open),
        Stat::new("total_connections", server.total_connections.load(Relaxed)),
        Stat::new(
            "rejected_connections",
            server.rejected_connections.load(Relaxed),
        ),
        Stat::new("connection_structures", open),
        Stat::new("access_refused", server.access_refused.load(Relaxed)),
        Stat::new("access_unnamed", server.access_unnamed.load(Relaxed)),
        Stat::new("access_closed", server.access_closed.load(Relaxed)),
        Stat::new("peer_lookups", server.peer_lookups.load(Relaxed)),
        Stat::new(
            "peer_lookup_failures",
            server.peer_lookup_failures.load(Relaxed),
        ),
    ]);
}

fn command_lines(lines: &mut Vec<Stat>, sums: &Snapshot) {
    lines.extend([
        Stat::new("cmd_get", sums.cmd_get),
        Stat::new("cmd_set", sums.cmd_set),
        Stat::new("cmd_flush", sums.cmd_flush),
        Stat::new("cmd_touch", sums.cmd_touch),
        Stat::new("cmd_meta", sums.cmd_meta),
        Stat::new("get_hits", sums.get_hits),
        Stat::new("get_misses", sums.get_misses),
        Stat::new("get_expired", sums.get_expired),
        Stat::new("get_flushed", sums.get_flushed),
        Stat::new("delete_misses", sums.delete_misses),
        Stat::new("delete_hits", sums.delete_hits),
        Stat::new("incr_misses", sums.incr_misses),
        Stat::new("incr_hits", sums.incr_hits),
        Stat::new("decr_misses", sums.decr_misses),
        Stat::new("decr_hits", sums.decr_hits),
        Stat::new("cas_misses", sums.cas_misses),
        Stat::new("cas_hits", sums.cas_hits),
        Stat::new("cas_badval", sums.cas_badval),
        Stat::new("touch_hits", sums.touch_hits),
        Stat::new("touch_misses", sums.touch_misses),
        Stat::new("store_too_large", sums.store_too_large),
        Stat::new("store_no_memory", sums.store_no_memory),
        Stat::new("access_write_refused", sums.access_write_refused),
        Stat::new("failures_untold", sums.failures_untold),
        Stat::new("auth_cmds", sums.auth_cmds),
        Stat::new("auth_errors", sums.auth_errors),
        Stat::new("bytes_read", sums.bytes_read),
        Stat::new("bytes_written", sums.bytes_written),
        Stat::new("idle_kicks", sums.idle_kicks),
        Stat::new("conn_yields", sums.conn_yields),
        Stat::new("closed_for_memory", sums.closed_for_memory),
    ]);
}

fn listener_lines(lines: &mut Vec<Stat>, stats: &Stats, process: &Process) {
    use std::sync::atomic::Ordering::Relaxed;
    let server = &stats.server;
    lines.extend([
        Stat::new("accepting_conns", 1),
        Stat::new(
            "listen_disabled_num",
            server.listen_disabled_num.load(Relaxed),
        ),
        Stat::new(
            "time_in_listen_disabled_us",
            server.time_in_listen_disabled_us.load(Relaxed),
        ),
        Stat::new("threads", process.threads),
        Stat::new(
            "buffer_bytes",
            server.request_buffer_bytes.load(Relaxed) + server.reply_buffer_bytes.load(Relaxed),
        ),
    ]);
}

/// As in memcached, these lines are there only where TLS is on, the first only where sessions are kept.
fn tls_lines(
    lines: &mut Vec<Stat>,
    server: &ServerCounters,
    sessions_kept: bool,
    process: &Process,
    now: Now,
) {
    use std::sync::atomic::Ordering::Relaxed;
    if sessions_kept {
        let sessions = server.ssl_new_sessions.load(Relaxed);
        lines.push(Stat::new("ssl_new_sessions", sessions));
    }
    let refreshed = server.ssl_last_cert_refresh.load(Relaxed);
    let refreshed = refreshed.max(process.started.seconds);
    lines.extend([
        Stat::new(
            "ssl_handshake_errors",
            server.ssl_handshake_errors.load(Relaxed),
        ),
        Stat::new("ssl_proto_errors", server.ssl_proto_errors.load(Relaxed)),
        Stat::new(
            "time_since_server_cert_refresh",
            now.seconds.saturating_sub(refreshed),
        ),
    ]);
}

fn item_lines(lines: &mut Vec<Stat>, stats: &Stats, store: &Store) {
    let usage = store.usage();
    let counts = stats.store_counts(store);
    lines.extend([
        Stat::new("limit_maxbytes", usage.limit_bytes),
        Stat::new("hash_bytes", usage.table_bytes),
        Stat::new("bytes", usage.item_bytes),
        Stat::new("curr_items", usage.items),
        Stat::new("total_items", counts.stored),
        Stat::new(
            "expired_unfetched",
            counts.removed_unfetched(Cause::Expired),
        ),
        Stat::new(
            "evicted_unfetched",
            counts.removed_unfetched(Cause::Evicted),
        ),
        Stat::new("evictions", counts.removed(Cause::Evicted)),
        Stat::new("reclaimed", counts.removed(Cause::Expired)),
        Stat::new("total_malloced", usage.segment_bytes),
        Stat::new("items_replaced", counts.removed(Cause::Replaced)),
        Stat::new("items_flushed", counts.removed(Cause::Flushed)),
        Stat::new("items_overwritten", counts.overwritten),
        Stat::new("items_moved", counts.moved),
        Stat::new("items_moved_bytes", counts.moved_bytes),
        Stat::new("ghost_returns", counts.returned),
    ]);
    packing_lines(lines, &stats.snapshot(), &usage);
    lines.extend([Stat::new("tokencached_version", env!("CARGO_PKG_VERSION"))]);
}

/// What packing saves and costs.
fn packing_lines(lines: &mut Vec<Stat>, sums: &Snapshot, usage: &Usage) {
    lines.extend([
        Stat::new("values_packed", sums.values_packed),
        Stat::new("packed_from_bytes", sums.packed_from_bytes),
        Stat::new("packed_into_bytes", sums.packed_into_bytes),
        Stat::new("pack_cpu_us", sums.pack_nanos / 1_000),
        Stat::new("values_unpacked", sums.values_unpacked),
        Stat::new("unpack_cpu_us", sums.unpack_nanos / 1_000),
        Stat::new("get_unreadable", sums.get_unreadable),
        Stat::new("dictionaries", usage.dictionaries),
        Stat::new("dictionary_bytes", usage.dictionary_bytes),
    ]);
}

/// `stats slabs`: no class, and what memcached says of all classes together.
pub fn slabs(store: &Store) -> Vec<Stat> {
    vec![
        Stat::new("active_slabs", 0),
        Stat::new("total_malloced", store.usage().segment_bytes),
    ]
}

/// `stats sizes`: memcached's histogram, which is off there too unless asked for.
pub fn sizes() -> Vec<Stat> {
    vec![Stat::new("sizes_status", "disabled")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::Options;

    #[test]
    fn every_line_is_a_name_and_one_word_and_no_name_comes_twice() {
        let store = Store::new(&Options::default()).unwrap();
        let now = Clock::manual().now();
        let process = Process {
            started: now,
            connections_max: 4096,
            threads: 4,
        };
        let tls = Tls::On {
            sessions_kept: true,
        };
        let lines = general(&Stats::default(), &store, &process, tls, now);
        let mut names = std::collections::HashSet::new();
        for line in lines {
            assert!(
                !line.value.is_empty() && !line.value.contains(' '),
                "{line:?}"
            );
            assert!(names.insert(line.name.clone()), "{} comes twice", line.name);
        }
        for mandatory in ["cmd_set", "cas_misses", "cas_hits", "cas_badval"] {
            assert!(names.contains(mandatory));
        }
    }

    #[test]
    fn tls_is_spoken_of_only_where_it_is_on() {
        let clock = Clock::manual();
        let process = Process {
            started: clock.now(),
            connections_max: 1,
            threads: 1,
        };
        let store = Store::new(&Options::default()).unwrap();
        clock.advance(7);
        let stats = Stats::default();
        let shown = |tls| {
            let lines = general(&stats, &store, &process, tls, clock.now());
            let of_tls = lines
                .into_iter()
                .filter(|line| line.name.contains("ssl") || line.name.contains("cert"))
                .map(|line| format!("{}={}", line.name, line.value));
            of_tls.collect::<Vec<_>>().join(" ")
        };
        let on = |sessions_kept| Tls::On { sessions_kept };
        assert_eq!(shown(Tls::Off), "");
        let three = "ssl_handshake_errors=0 ssl_proto_errors=0 time_since_server_cert_refresh";
        assert_eq!(shown(on(false)), format!("{three}=7"), "since the start");
        let refreshed = &stats.server.ssl_last_cert_refresh;
        refreshed.store(
            clock.now().seconds - 2,
            std::sync::atomic::Ordering::Relaxed,
        );
        assert_eq!(shown(on(true)), format!("ssl_new_sessions=0 {three}=2"));
    }

    #[test]
    fn times_have_six_decimals() {
        assert_eq!(seconds(Duration::from_micros(1_000_042)), "1.000042");
    }
}
