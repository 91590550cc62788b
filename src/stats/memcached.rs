//! The `stats` command: memcached's names, with memcached's meanings, where they exist here.
//!
//! Made by the engine from a moment when a client asks. What a metric shows too is declared there (`metrics`); here is
//! the order, and what no metric shows. prometheus/memcached_exporter reads it as a
//! healthy memcached: the names that it cannot do without are there, slab classes are not, since
//! there are none.
//!
//! Source: protocol.txt, "General-purpose statistics".

use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;

use super::metrics::{self, Metric, Read};
use super::moment::Moment;
use crate::clock::Now;
use crate::protocol::MEMCACHED_VERSION;
use crate::protocol::reply::Stat;
use crate::store::{Cause, Store};

const MICROS: u64 = 1_000_000;

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

/// A line of `stats`.
enum Line {
    /// What a metric shows too, whose declaration has this name of a line.
    Shown(&'static str),
    /// What no metric shows.
    Alone(Alone),
}

/// A name, what it is, and its value.
type Alone = (&'static str, &'static str, fn(&Moment<'_>) -> String);

use Line::Shown;

const fn alone(name: &'static str, help: &'static str, read: fn(&Moment<'_>) -> String) -> Line {
    Line::Alone((name, help, read))
}

/// Process, connections, commands, the listener: in memcached's order.
#[rustfmt::skip]
const GENERAL: &[Line] = &[
    alone("pid", "The number of the process.", |_| std::process::id().to_string()),
    Shown("uptime"), Shown("time"),
    alone("version", "The memcached release that is spoken.", |_| MEMCACHED_VERSION.to_owned()),
    alone("pointer_size", "Bits of an address.", |_| usize::BITS.to_string()),
    Shown("rusage_user"), Shown("rusage_system"),
    Shown("max_connections"), Shown("curr_connections"), Shown("total_connections"), Shown("rejected_connections"),
    alone("connection_structures", "The same as curr_connections.", |m| {
        m.stats.server.curr_connections.load(Relaxed).to_string()
    }),
    alone("access_refused", "Connections refused by the access rules, unnamed ones among them.", |m| {
        m.stats.server.access_refused.load(Relaxed).to_string()
    }),
    alone("access_unnamed", "Those of them whose peer could not be named.", |m| {
        m.stats.server.access_unnamed.load(Relaxed).to_string()
    }),
    Shown("access_closed"), Shown("peer_lookups"), Shown("peer_lookup_failures"),
    alone("cmd_get", "Keys looked up.", |m| m.commands.cmd_get.to_string()),
    alone("cmd_set", "Storage commands that were tried, cas among them.", |m| m.commands.cmd_set.to_string()),
    Shown("cmd_flush"),
    alone("cmd_touch", "Items touched, found or not.", |m| m.commands.cmd_touch.to_string()),
    alone("cmd_meta", "Commands me.", |m| m.commands.cmd_meta.to_string()),
    Shown("get_hits"), Shown("get_misses"),
    alone("get_expired", "Misses since the item had expired.", |m| m.commands.get_expired.to_string()),
    alone("get_flushed", "Misses since the item was flushed.", |m| m.commands.get_flushed.to_string()),
    Shown("delete_misses"), Shown("delete_hits"), Shown("incr_misses"), Shown("incr_hits"), Shown("decr_misses"),
    Shown("decr_hits"), Shown("cas_misses"), Shown("cas_hits"), Shown("cas_badval"), Shown("touch_hits"),
    Shown("touch_misses"), Shown("store_too_large"), Shown("store_no_memory"), Shown("access_write_refused"),
    Shown("failures_untold"), Shown("auth_cmds"), Shown("auth_errors"), Shown("bytes_read"), Shown("bytes_written"),
    Shown("idle_kicks"), Shown("conn_yields"), Shown("closed_for_memory"),
    Shown("accepting_conns"), Shown("listen_disabled_num"), Shown("time_in_listen_disabled_us"),
    alone("threads", "Threads that serve clients (-t).", |m| m.process.threads.to_string()),
    Shown("buffer_bytes"),
];

/// As in memcached, these lines are there only where TLS is on, the first only where sessions are kept.
#[rustfmt::skip]
const OF_TLS: &[Line] = &[
    Shown("ssl_new_sessions"), Shown("ssl_handshake_errors"), Shown("ssl_proto_errors"),
    alone("time_since_server_cert_refresh", "Seconds since the certificates were read.", |m| {
        let refreshed = m.stats.server.ssl_last_cert_refresh.load(Relaxed);
        let refreshed = refreshed.max(m.process.started.seconds);
        m.now.seconds.saturating_sub(refreshed).to_string()
    }),
];

/// Items and memory; names of tokencached's own come last.
#[rustfmt::skip]
const ITEMS: &[Line] = &[
    Shown("limit_maxbytes"),
    alone("hash_bytes", "Bytes of index, ghost and dictionaries.", |m| m.usage.table_bytes.to_string()),
    Shown("bytes"), Shown("curr_items"), Shown("total_items"),
    alone("expired_unfetched", "Items that expired and that nobody had read.", |m| {
        m.counts.removed_unfetched(Cause::Expired).to_string()
    }),
    alone("evicted_unfetched", "Items that were evicted and that nobody had read.", |m| {
        m.counts.removed_unfetched(Cause::Evicted).to_string()
    }),
    Shown("evictions"), Shown("reclaimed"), Shown("total_malloced"),
    alone("items_replaced", "Items whose place a newer value took.", |m| {
        m.counts.removed(Cause::Replaced).to_string()
    }),
    alone("items_flushed", "Items that left as they were flushed.", |m| {
        m.counts.removed(Cause::Flushed).to_string()
    }),
    alone("items_overwritten", "Values written where their older value was.", |m| m.counts.overwritten.to_string()),
    alone("items_moved", "Items moved when their segment was emptied.", |m| m.counts.moved.to_string()),
    alone("items_moved_bytes", "Bytes of those.", |m| m.counts.moved_bytes.to_string()),
    alone("ghost_returns", "Keys that came back not long after they had left.", |m| m.counts.returned.to_string()),
    Shown("values_packed"), Shown("packed_from_bytes"), Shown("packed_into_bytes"), Shown("pack_cpu_us"),
    Shown("values_unpacked"), Shown("unpack_cpu_us"), Shown("get_unreadable"), Shown("dictionaries"),
    Shown("dictionary_bytes"),
    alone("tokencached_version", "The server's own release.", |_| env!("CARGO_PKG_VERSION").to_owned()),
];

/// The lines that metrics declare, by name: how they are read, and how many of what is read make a unit.
static DECLARED: LazyLock<HashMap<&'static str, (Read, u64)>> = LazyLock::new(|| {
    let lines = metrics::all().flat_map(Metric::lines);
    lines
        .map(|(name, read, unit)| (name, (read, unit)))
        .collect()
});

/// `stats`: process, connections, commands, items.
pub fn general(moment: &Moment<'_>, tls: Tls) -> Vec<Stat> {
    let of_tls = match tls {
        Tls::Off => &[],
        Tls::On { sessions_kept } => &OF_TLS[usize::from(!sessions_kept)..],
    };
    let lines = GENERAL.iter().chain(of_tls).chain(ITEMS);
    lines.filter_map(|line| shown(line, moment)).collect()
}

/// Nothing for a line that no metric declares, of which a test makes sure that there is none.
fn shown(line: &Line, moment: &Moment<'_>) -> Option<Stat> {
    match line {
        Line::Alone((name, _, read)) => Some(Stat::new(*name, read(moment))),
        Shown(name) => {
            let (read, per_unit) = DECLARED.get(name)?;
            Some(Stat::new(*name, number(name, read(moment), *per_unit)))
        }
    }
}

/// Times are microseconds under a name that says so, and else as memcached prints them, `S.UUUUUU`.
fn number(name: &str, number: u64, per_unit: u64) -> String {
    if per_unit == 1 {
        return number.to_string();
    }
    let micros = (u128::from(number) * u128::from(MICROS) / u128::from(per_unit)) as u64;
    if name.ends_with("_us") {
        return micros.to_string();
    }
    format!("{}.{:06}", micros / MICROS, micros % MICROS)
}

/// The lines that no metric shows, in their order: name, and what it is.
pub fn alone_lines() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = GENERAL.iter().chain(OF_TLS).chain(ITEMS);
    lines.filter_map(|line| match line {
        Line::Alone((name, help, _)) => Some((*name, *help)),
        Shown(_) => None,
    })
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
    use std::collections::BTreeSet;

    use super::*;
    use crate::clock::Clock;
    use crate::stats::{Sources, Stats};
    use crate::store::Options;

    const ALL: Tls = Tls::On {
        sessions_kept: true,
    };

    fn lines(stats: &Stats, clock: &Clock, started: Now, tls: Tls) -> Vec<Stat> {
        let store = Store::new(&Options::default()).unwrap();
        let process = Process {
            started,
            connections_max: 4096,
            threads: 4,
        };
        let sources = Sources {
            stats,
            store: &store,
            process: &process,
            settings: &[],
            validation_cost_ms: 100,
        };
        general(&Moment::since_reset(sources, clock.now()), tls)
    }

    #[test]
    fn every_line_is_a_name_and_one_word_and_no_name_comes_twice() {
        let clock = Clock::manual();
        let mut names = BTreeSet::new();
        for line in lines(&Stats::default(), &clock, clock.now(), ALL) {
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
    fn every_line_that_a_metric_declares_has_its_place_and_no_other_has_one() {
        let declared = metrics::all().flat_map(Metric::lines);
        let mut declared: Vec<&str> = declared.map(|(name, ..)| name).collect();
        let placed = GENERAL.iter().chain(OF_TLS).chain(ITEMS);
        let placed = placed.filter_map(|line| match line {
            Shown(name) => Some(*name),
            Line::Alone(_) => None,
        });
        let mut placed: Vec<&str> = placed.collect();
        declared.sort_unstable();
        placed.sort_unstable();
        assert_eq!(declared, placed);
    }

    #[test]
    fn tls_is_spoken_of_only_where_it_is_on() {
        let clock = Clock::manual();
        let started = clock.now();
        clock.advance(7);
        let stats = Stats::default();
        let shown = |tls| {
            let lines = lines(&stats, &clock, started, tls);
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
        refreshed.store(clock.now().seconds - 2, Relaxed);
        assert_eq!(shown(on(true)), format!("ssl_new_sessions=0 {three}=2"));
    }

    #[test]
    fn times_are_seconds_with_six_decimals_or_microseconds_where_the_name_says_so() {
        assert_eq!(
            number("rusage_user", 1_000_042_999, 1_000_000_000),
            "1.000042"
        );
        assert_eq!(
            number("pack_cpu_us", 1_000_042_999, 1_000_000_000),
            "1000042"
        );
        assert_eq!(number("time_in_listen_disabled_us", 42, MICROS), "42");
        assert_eq!(number("curr_items", 42, 1), "42");
    }
}
