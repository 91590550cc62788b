//! The same sums as Prometheus metrics.
//!
//! The only module that names the prometheus crate. Made anew for each scrape from one snapshot, so
//! counting costs nothing in between. Names are those of prometheus/memcached_exporter, so that what
//! was built on them goes on working.

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use super::memcached::Process;
use super::{ServerCounters, Snapshot, Stats};
use crate::clock::Now;
use crate::protocol::MEMCACHED_VERSION;
use crate::store::{Cause, Counts, Store};

/// All metrics in Prometheus' text format.
///
/// # Errors
/// The crate's own, which name a metric that is declared twice or wrongly.
pub fn render(
    stats: &Stats,
    store: &Store,
    process: &Process,
    now: Now,
) -> Result<String, prometheus::Error> {
    let metrics = Metrics(Registry::new());
    metrics.process(stats.started_seconds(process), now)?;
    metrics.commands(&stats.total())?;
    metrics.connections(stats, process)?;
    metrics.access(&stats.server)?;
    metrics.items(store, &stats.store_total(store))?;
    metrics.packing(&stats.total(), store)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&metrics.0.gather(), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

struct Metrics(Registry);

impl Metrics {
    fn register<C: Collector + Clone + 'static>(&self, metric: &C) -> prometheus::Result<()> {
        self.0.register(Box::new(metric.clone()))
    }

    fn counter(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        self.register(&counter)
    }

    fn seconds(&self, name: &str, help: &str, nanos: u64) -> prometheus::Result<()> {
        let counter = Counter::new(name, help)?;
        counter.inc_by(nanos as f64 / 1e9);
        self.register(&counter)
    }

    fn gauge(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.register(&gauge)
    }

    fn process(&self, started_seconds: u32, now: Now) -> prometheus::Result<()> {
        self.gauge("memcached_up", "Whether the server answers.", 1)?;
        let uptime = now.seconds.saturating_sub(started_seconds);
        self.counter(
            "memcached_uptime_seconds",
            "Seconds since the server started.",
            uptime.into(),
        )?;
        let version = Opts::new("memcached_version", "The memcached release that is spoken.")
            .const_label("version", MEMCACHED_VERSION);
        let version = Gauge::with_opts(version)?;
        version.set(1.0);
        self.register(&version)
    }

    fn commands(&self, sums: &Snapshot) -> prometheus::Result<()> {
        let opts = Opts::new(
            "memcached_commands_total",
            "Commands by what was asked for and what came of it.",
        );
        let commands = IntCounterVec::new(opts, &["command", "status"])?;
        for (command, status, value) in by_status(sums) {
            commands.with_label_values(&[command, status]).inc_by(value);
        }
        self.register(&commands)?;
        self.counter(
            "memcached_read_bytes_total",
            "Bytes read from clients.",
            sums.bytes_read,
        )?;
        self.counter(
            "memcached_written_bytes_total",
            "Bytes written to clients.",
            sums.bytes_written,
        )?;
        self.counter(
            "memcached_connections_yielded_total",
            "Times a connection stepped back for others.",
            sums.conn_yields,
        )?;
        self.counter(
            "tokencached_authentications_total",
            "Users and passwords that were looked at.",
            sums.auth_cmds,
        )?;
        self.counter(
            "tokencached_authentication_errors_total",
            "Those that do not belong together.",
            sums.auth_errors,
        )?;
        self.counter(
            "tokencached_access_writes_refused_total",
            "Commands refused as their client may only read.",
            sums.access_write_refused,
        )?;
        self.counter(
            "tokencached_failures_untold_total",
            "Failures in the binary protocol that keystonemiddleware was told as a success or a miss.",
            sums.failures_untold,
        )?;
        self.counter(
            "tokencached_idle_connections_closed_total",
            "Connections closed since they were silent for idle_timeout.",
            sums.idle_kicks,
        )
    }

    fn connections(&self, stats: &Stats, process: &Process) -> prometheus::Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        let server = &stats.server;
        self.gauge(
            "memcached_current_connections",
            "Open client connections.",
            server.curr_connections.load(Relaxed),
        )?;
        self.gauge(
            "memcached_max_connections",
            "Most connections that may be open.",
            process.connections_max as u64,
        )?;
        self.counter(
            "memcached_connections_total",
            "Connections accepted.",
            server.total_connections.load(Relaxed),
        )?;
        self.counter(
            "memcached_connections_rejected_total",
            "Connections turned away over the maximum.",
            server.rejected_connections.load(Relaxed),
        )?;
        self.counter(
            "tokencached_tls_handshake_errors_total",
            "Clients of a TLS listener whose handshake failed.",
            server.ssl_handshake_errors.load(Relaxed),
        )?;
        self.counter(
            "tokencached_tls_protocol_errors_total",
            "Connections that ended since what came after their handshake was no TLS.",
            server.ssl_proto_errors.load(Relaxed),
        )?;
        self.counter(
            "memcached_connections_listener_disabled_total",
            "Times accepting had to pause.",
            server.listen_disabled_num.load(Relaxed),
        )
    }

    fn access(&self, server: &ServerCounters) -> prometheus::Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        for (name, help, value) in [
            (
                "tokencached_access_refused_total",
                "Connections refused by the access rules.",
                &server.access_refused,
            ),
            (
                "tokencached_access_unnamed_total",
                "Those of them whose peer could not be named.",
                &server.access_unnamed,
            ),
            (
                "tokencached_access_closed_total",
                "Connections closed since access rules that came later refuse them.",
                &server.access_closed,
            ),
            (
                "tokencached_peer_lookups_total",
                "Times it was asked who is at the other end of a connection.",
                &server.peer_lookups,
            ),
            (
                "tokencached_peer_lookup_failures_total",
                "Those that the system did not answer.",
                &server.peer_lookup_failures,
            ),
        ] {
            self.counter(name, help, value.load(Relaxed))?;
        }
        Ok(())
    }

    fn items(&self, store: &Store, counts: &Counts) -> prometheus::Result<()> {
        let usage = store.usage();
        self.gauge("memcached_current_items", "Items held.", usage.items)?;
        self.gauge(
            "memcached_current_bytes",
            "Bytes of the items held, headers included.",
            usage.item_bytes,
        )?;
        self.gauge(
            "memcached_limit_bytes",
            "Most bytes that items and index may take.",
            usage.limit_bytes,
        )?;
        self.gauge(
            "memcached_malloced_bytes",
            "Bytes of the segments in use.",
            usage.segment_bytes,
        )?;
        self.counter("memcached_items_total", "Items stored.", counts.stored)?;
        self.counter(
            "memcached_items_evicted_total",
            "Live items that left for others.",
            counts.removed(Cause::Evicted),
        )?;
        self.counter(
            "memcached_items_reclaimed_total",
            "Items that left after they had expired.",
            counts.removed(Cause::Expired),
        )
    }
}

impl Metrics {
    fn packing(&self, sums: &Snapshot, store: &Store) -> prometheus::Result<()> {
        let usage = store.usage();
        for (name, help, value) in [
            (
                "tokencached_values_packed_total",
                "Values that were stored packed.",
                sums.values_packed,
            ),
            (
                "tokencached_packed_from_bytes_total",
                "Bytes of the values that were stored packed, as they came.",
                sums.packed_from_bytes,
            ),
            (
                "tokencached_packed_into_bytes_total",
                "Bytes that they were packed into.",
                sums.packed_into_bytes,
            ),
            (
                "tokencached_values_unpacked_total",
                "Values that were unpacked for a client.",
                sums.values_unpacked,
            ),
            (
                "tokencached_values_unreadable_total",
                "Values that were found damaged and answered as a miss.",
                sums.get_unreadable,
            ),
        ] {
            self.counter(name, help, value)?;
        }
        self.seconds(
            "tokencached_pack_cpu_seconds_total",
            "Time spent on packing values, and on finding out that it does not pay.",
            sums.pack_nanos,
        )?;
        self.seconds(
            "tokencached_unpack_cpu_seconds_total",
            "Time spent on unpacking values; one of sixteen is timed.",
            sums.unpack_nanos,
        )?;
        self.gauge(
            "tokencached_dictionaries",
            "Dictionaries that values are packed with.",
            usage.dictionaries,
        )?;
        self.gauge(
            "tokencached_dictionary_bytes",
            "Bytes of the dictionaries, within the limit.",
            usage.dictionary_bytes,
        )
    }
}

/// memcached_exporter's `command` and `status` labels.
fn by_status(sums: &Snapshot) -> [(&'static str, &'static str, u64); 16] {
    [
        ("get", "hit", sums.get_hits),
        ("get", "miss", sums.get_misses),
        ("set", "hit", sums.cmd_set),
        ("touch", "hit", sums.touch_hits),
        ("touch", "miss", sums.touch_misses),
        ("delete", "hit", sums.delete_hits),
        ("delete", "miss", sums.delete_misses),
        ("incr", "hit", sums.incr_hits),
        ("incr", "miss", sums.incr_misses),
        ("decr", "hit", sums.decr_hits),
        ("decr", "miss", sums.decr_misses),
        ("cas", "hit", sums.cas_hits),
        ("cas", "miss", sums.cas_misses),
        ("cas", "badval", sums.cas_badval),
        ("flush", "hit", sums.cmd_flush),
        ("set", "too_large", sums.store_too_large),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::Options;

    #[test]
    fn a_scrape_shows_what_was_counted() {
        let stats = Stats::default();
        stats.register_worker().get_hits.add(5);
        let refused = &stats.server.access_refused;
        refused.fetch_add(3, std::sync::atomic::Ordering::Relaxed);
        let store = Store::new(&Options::default()).unwrap();
        let now = Clock::manual().now();
        let process = Process {
            started: now,
            connections_max: 10,
            threads: 1,
        };
        let text = render(&stats, &store, &process, now).unwrap();
        assert!(text.contains(r#"memcached_commands_total{command="get",status="hit"} 5"#));
        assert!(text.contains("memcached_max_connections 10"));
        assert!(text.contains("tokencached_access_refused_total 3"));
    }
}
