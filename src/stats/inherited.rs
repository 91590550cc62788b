//! Totals that outlive a process: handed on by one, begun with by the next.
//!
//! A server that hands over asks for [`Stats::totals`], and its successor calls [`Stats::inherit`] before it
//! serves. From then on every view shows the sums of all processes. Counts go by their names, so
//! that another release, which counts other things, takes what it knows and leaves the rest.
//!
//! Invariant: over a restart that hands them on, no total becomes smaller.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::memcached::Process;
use super::services::{Service, ServiceTotals};
use super::{ServerCounters, Snapshot, Stats, Sums, history};
use crate::histogram::Distribution;
use crate::store::{Counts, Departures, Store};

/// What was counted since the start of the first process, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// The second in which the first process has started.
    started: Option<u32>,
    commands: Snapshot,
    store: BTreeMap<String, u64>,
    server: BTreeMap<String, u64>,
    services: Vec<ServiceTotals>,
    histograms: BTreeMap<String, Distribution>,
    departures: BTreeMap<String, Distribution>,
    history: history::Handed,
    /// Where the first two stood at the last `stats reset`.
    zero_commands: Snapshot,
    zero_store: BTreeMap<String, u64>,
}

impl Stats {
    /// What was counted, in this process and those before it; a validation that Keystone was spared cost so many
    /// milliseconds.
    pub fn totals(&self, store: &Store, process: &Process, validation_cost_ms: u32) -> Totals {
        let zero = self.zero.lock();
        Totals {
            started: Some(self.started_seconds(process)),
            commands: self.total(),
            store: by_name(self.store_total(store)),
            server: self
                .server
                .totals()
                .map(|(name, count)| (name.to_owned(), count.load(Relaxed)))
                .into(),
            services: self.service_totals(validation_cost_ms.into()),
            histograms: self.histograms.totals(),
            departures: store.departures().totals().collect(),
            history: self.history.hand_on(),
            zero_commands: zero.commands,
            zero_store: by_name(zero.store),
        }
    }

    /// Goes on from what the processes before this one have counted. Called once, before anything is.
    pub fn inherit(&self, totals: &Totals) {
        *self.inherited.lock() = Sums {
            commands: totals.commands,
            store: counts_of(&totals.store),
        };
        *self.zero.lock() = Sums {
            commands: totals.zero_commands,
            store: counts_of(&totals.zero_store),
        };
        let services = totals.services.iter();
        let services = services.map(|totals| totals.read(&self.services));
        *self.inherited_services.lock() = services.collect();
        for (name, count) in self.server.totals() {
            let inherited = totals.server.get(name).copied().unwrap_or_default();
            count.fetch_add(inherited, Relaxed);
        }
        self.histograms.inherit(&totals.histograms);
        self.history.inherit(&totals.history);
        if let Some(started) = totals.started {
            // Nobody has set it before.
            let _ = self.started.set(started);
        }
    }

    fn service_totals(&self, cost_ms: u64) -> Vec<ServiceTotals> {
        let sums = self.service_sums();
        let counted = Service::all().filter(|service| sums[service.index()] != Default::default());
        counted
            .map(|service| {
                let (uid, name) = self.services.user(service).unzip();
                let who = (uid, name.flatten());
                ServiceTotals::new(service, who, &sums[service.index()], cost_ms)
            })
            .collect()
    }

    /// The second of the start, of the first process if there were others.
    pub fn started_seconds(&self, process: &Process) -> u32 {
        let started = process.started.seconds;
        self.started.get().copied().unwrap_or(started)
    }
}

impl Totals {
    /// Adds what was counted of items that left.
    pub fn give_departures(&self, departures: &Departures) {
        departures.inherit(|name| self.departures.get(name));
    }
}

impl ServerCounters {
    /// Those that count up for ever, each with its name.
    fn totals(&self) -> [(&'static str, &AtomicU64); 12] {
        [
            ("total_connections", &self.total_connections),
            ("rejected_connections", &self.rejected_connections),
            ("access_refused", &self.access_refused),
            ("access_unnamed", &self.access_unnamed),
            ("access_closed", &self.access_closed),
            ("peer_lookups", &self.peer_lookups),
            ("peer_lookup_failures", &self.peer_lookup_failures),
            ("ssl_handshake_errors", &self.ssl_handshake_errors),
            ("ssl_proto_errors", &self.ssl_proto_errors),
            ("ssl_new_sessions", &self.ssl_new_sessions),
            ("listen_disabled_num", &self.listen_disabled_num),
            (
                "time_in_listen_disabled_us",
                &self.time_in_listen_disabled_us,
            ),
        ]
    }
}

fn by_name(mut counts: Counts) -> BTreeMap<String, u64> {
    let named = counts.named().into_iter();
    named.map(|(name, count)| (name, *count)).collect()
}

fn counts_of(by_name: &BTreeMap<String, u64>) -> Counts {
    let mut counts = Counts::default();
    for (name, count) in counts.named() {
        *count = by_name.get(&name).copied().unwrap_or_default();
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::stats::memcached::{Tls, general};
    use crate::stats::prometheus::render;
    use crate::stats::{Moment, Sources};
    use crate::store::Options;
    use crate::token::class::Class;

    /// A process in which so many gets have hit, a key was stored, and some connections came in.
    fn ran(clock: &Clock, inherited: Option<&Totals>) -> (Stats, Store, Process) {
        let stats = Stats::default();
        inherited
            .into_iter()
            .for_each(|totals| stats.inherit(totals));
        let counters = stats.register_worker();
        counters.get_hits.add(5);
        counters.get_unreadable.add(1);
        stats.histograms.item_bytes.count(13_000);
        let connections = &stats.server.total_connections;
        connections.fetch_add(3, Relaxed);
        stats.server.curr_connections.store(2, Relaxed);
        let store = Store::new(&Options::default()).unwrap();
        store.delete(b"nothing", clock.now().seconds);
        let process = Process {
            started: clock.now(),
            connections_max: 1,
            threads: 1,
        };
        (stats, store, process)
    }

    fn sources((stats, store, process): &(Stats, Store, Process)) -> Sources<'_> {
        Sources {
            stats,
            store,
            process,
            settings: &[],
            validation_cost_ms: 100,
        }
    }

    fn shown(ran: &(Stats, Store, Process), clock: &Clock) -> Vec<String> {
        let moment = Moment::since_reset(sources(ran), clock.now());
        let lines = general(&moment, Tls::Off);
        let names = [
            "uptime",
            "get_hits",
            "total_connections",
            "curr_connections",
        ];
        let lines = lines
            .into_iter()
            .filter(|line| names.contains(&&*line.name));
        lines
            .map(|line| format!("{}={}", line.name, line.value))
            .collect()
    }

    #[test]
    fn a_successor_goes_on_counting_where_its_predecessor_stopped() {
        let clock = Clock::manual();
        let first = ran(&clock, None);
        clock.advance(10);
        let totals = first.0.totals(&first.1, &first.2, 100);
        let second = ran(&clock, Some(&totals));
        clock.advance(10);
        let expected = [
            "uptime=20",
            "curr_connections=2",
            "total_connections=6",
            "get_hits=8",
        ];
        assert_eq!(shown(&second, &clock), expected);
        let metrics = render(&Moment::since_start(sources(&second), clock.now())).unwrap();
        assert!(metrics.contains("memcached_uptime_seconds 20"));
        assert!(metrics.contains("memcached_connections_total 6"));
        assert!(metrics.contains("tokencached_item_bytes_count 2"));
        assert!(metrics.contains("tokencached_item_bytes_sum 26000"));
        assert!(metrics.contains(r#"memcached_commands_total{command="get",status="hit"} 8"#));
    }

    #[test]
    fn a_successor_goes_on_with_the_history_and_trusts_no_time_in_it() {
        let clock = Clock::manual();
        let (stats, store, process) = ran(&clock, None);
        let note =
            |stats: &Stats, clock: &Clock| stats.note_history(&store, clock.now().seconds, 100);
        note(&stats, &clock);
        let counters = stats.register_worker();
        counters.by_class.hit(Class::Token, 1);
        clock.advance(1);
        note(&stats, &clock);
        let hits = |stats: &Stats| {
            stats
                .history
                .window(86_400, clock.now().seconds)
                .served
                .hits
        };
        assert_eq!(hits(&stats), 1);
        let totals = stats.totals(&store, &process, 100);
        let (next, ..) = ran(&clock, Some(&totals));
        assert_eq!(hits(&next), 1);
        // As if noted in another boot, which had lasted for longer.
        let earlier = Clock::manual();
        let future = Stats::default();
        future.inherit(&totals_at(u32::MAX));
        (0..2).for_each(|_| {
            note(&future, &earlier);
            future.register_worker().by_class.hit(Class::Token, 1);
            earlier.advance(1);
        });
        note(&future, &earlier);
        assert_eq!(
            future.history.window(60, earlier.now().seconds).served.hits,
            2
        );
    }

    /// Totals whose history was noted in this minute.
    fn totals_at(minute: u32) -> Totals {
        let written = format!(
            r#"{{"history": {{"first": 1, "newest_minute": {minute}, "minutes": 2, "counts": {{"hits": [1, 2]}}}}}}"#
        );
        serde_json::from_str(&written).unwrap()
    }

    #[test]
    fn a_reset_before_or_after_a_restart_moves_the_zero_line_alone() {
        let clock = Clock::manual();
        let (stats, store, process) = ran(&clock, None);
        stats.reset(&store);
        let (stats, store, process) = ran(&clock, Some(&stats.totals(&store, &process, 100)));
        assert_eq!(stats.snapshot().get_hits, 4);
        assert_eq!(stats.total().get_hits, 8);
        stats.reset(&store);
        assert_eq!(stats.snapshot().get_hits, 0);
        let (stats, ..) = ran(&clock, Some(&stats.totals(&store, &process, 100)));
        assert_eq!((stats.snapshot().get_hits, stats.total().get_hits), (4, 12));
    }

    #[test]
    fn totals_of_another_release_are_taken_by_the_names_that_are_known() {
        let written = r#"{"commands": {"get_hits": 7, "get_later": 1}, "store": {"stored": 3, "lost": 2},
            "server": {"total_connections": 4, "": 9}, "later": []}"#;
        let totals: Totals = serde_json::from_str(written).unwrap();
        let clock = Clock::manual();
        let (stats, store, process) = ran(&clock, Some(&totals));
        assert_eq!(stats.total().get_hits, 11);
        assert_eq!(stats.store_total(&store).stored, 3);
        assert_eq!(stats.server.total_connections.load(Relaxed), 7);
        assert_eq!(stats.started_seconds(&process), clock.now().seconds);
    }

    #[test]
    fn totals_beyond_reason_are_counted_without_a_panic() {
        let written = r#"{"started": 4294967295, "commands": {"get_hits": 18446744073709551615},
            "zero_commands": {"get_misses": 18446744073709551615},
            "store": {"removed_expired": 18446744073709551615}}"#;
        let clock = Clock::manual();
        let second = ran(&clock, Some(&serde_json::from_str(written).unwrap()));
        assert_eq!(second.0.total().get_hits, u64::MAX);
        assert_eq!(second.0.snapshot().get_misses, 0);
        assert!(shown(&second, &clock).contains(&"uptime=0".to_owned()));
    }
}
