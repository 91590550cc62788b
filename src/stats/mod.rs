//! Floor 2: counters, and their views.
//!
//! Every worker counts into its own [`Counters`], a set for each service, without sharing a cache line with
//! another; a reader sums them ([`Stats::snapshot`], [`Stats::services`]). A [`Moment`] is all that is counted, read
//! once; what is shown of it is declared once (`metrics`): `memcached` makes the lines of `stats` from that,
//! `prometheus` what a scrape gets, `reference` docs/metrics.md. The server also keeps its register of open
//! connections here (`connections`), since
//! `stats conns` shows it. Who watches a server is told of each command (`events`, `watch_line`).
//!
//! Invariants:
//! - a counter has one writer; reading never disturbs it;
//! - `stats reset` moves the zero line and changes no counter, so metrics never run backwards, nor do
//!   they over a restart whose process hands its totals on (`inherited`).

pub mod by_class;
pub mod connections;
mod detail;
pub mod events;
mod histograms;
pub mod history;
mod inherited;
pub mod memcached;
pub mod metrics;
mod moment;
pub mod need;
pub mod prometheus;
pub mod reference;
pub mod services;
pub mod status;
pub mod watch_line;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::store::{Cause, Counts, Store};
use by_class::ByClass;
use connections::State;
pub use detail::{Access, Detail};
use events::Events;
pub use histograms::Histograms;
use history::Sample;
pub use inherited::Totals;
pub use moment::{Moment, Sources};
use services::{SERVICES, Service, ServiceSums, Services};

/// A count with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the count. Only its one writer calls this, so a load and a store do; no lock prefix.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed) + amount, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Declares the counters of a worker once: their fields, and their sums.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What one worker counts for one service; aligned so that two workers share no cache line.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Counter,)+
            /// What is counted by class.
            pub by_class: ByClass,
            /// The service that is counted for.
            pub service: Service,
        }

        /// The sums over all workers at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Snapshot {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Snapshot {
            fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.get();)+
            }

            /// What was counted since `zero`.
            pub fn since(&self, zero: &Snapshot) -> Snapshot {
                Snapshot { $($name: self.$name.saturating_sub(zero.$name),)+ }
            }

            /// What was counted together with what others counted.
            fn plus(&self, others: &Snapshot) -> Snapshot {
                Snapshot { $($name: self.$name.saturating_add(others.$name),)+ }
            }
        }
    };
}

counters! {
    /// Keys looked up by `get`, `gets` and `mg`.
    cmd_get,
    /// Those found.
    get_hits,
    /// Those not found.
    get_misses,
    /// Those not found because they had expired.
    get_expired,
    /// Those not found because they were flushed.
    get_flushed,
    /// Those found whose value was damaged, so that they were answered as not found.
    get_unreadable,
    /// Values that were stored packed.
    values_packed,
    /// Bytes of those as they came.
    packed_from_bytes,
    /// Bytes that they were packed into.
    packed_into_bytes,
    /// Nanoseconds spent on packing, and on finding out that it does not pay.
    pack_nanos,
    /// Values that were unpacked.
    values_unpacked,
    /// Nanoseconds spent on that; one of sixteen is timed.
    unpack_nanos,
    /// Storage commands that were tried.
    cmd_set,
    /// Items touched, by `touch`, `gat`, `gats` and `mg`.
    cmd_touch,
    /// Those found.
    touch_hits,
    /// Those not found.
    touch_misses,
    /// `flush_all` commands.
    cmd_flush,
    /// `me` commands.
    cmd_meta,
    /// Items deleted by clients.
    delete_hits,
    /// Deletes that found nothing.
    delete_misses,
    /// `incr` commands that found their item.
    incr_hits,
    /// Those that did not.
    incr_misses,
    /// `decr` commands that found their item.
    decr_hits,
    /// Those that did not.
    decr_misses,
    /// `cas` commands that stored.
    cas_hits,
    /// Those that found no item.
    cas_misses,
    /// Those that found another CAS unique.
    cas_badval,
    /// Values refused because of `-I`.
    store_too_large,
    /// Values refused because no room could be made.
    store_no_memory,
    /// Connections closed since they were silent too long (`-o idle_timeout`).
    idle_kicks,
    /// Commands refused as their client may only read.
    access_write_refused,
    /// Failures that keystonemiddleware was told as a success or a miss.
    failures_untold,
    /// Users and passwords that were looked at.
    auth_cmds,
    /// Those that do not belong together.
    auth_errors,
    /// Bytes read from clients.
    bytes_read,
    /// Bytes written to clients.
    bytes_written,
    /// Times a connection stepped back for others after `-R` commands.
    conn_yields,
    /// Connections closed because their buffers would have exceeded the budget.
    closed_for_memory,
}

/// Counters that the listener and the connections keep, written by any thread.
#[derive(Debug, Default)]
pub struct ServerCounters {
    /// Open client connections.
    pub curr_connections: AtomicU64,
    /// Connections accepted since the start.
    pub total_connections: AtomicU64,
    /// Connections turned away over `-c`.
    pub rejected_connections: AtomicU64,
    /// Connections refused by the access rules.
    pub access_refused: AtomicU64,
    /// Those of them whose peer could not be named.
    pub access_unnamed: AtomicU64,
    /// Connections closed since access rules that came later refuse them.
    pub access_closed: AtomicU64,
    /// Times it was asked who is at the other end of a connection.
    pub peer_lookups: AtomicU64,
    /// Those that the system did not answer.
    pub peer_lookup_failures: AtomicU64,
    /// Clients of a TLS listener whose handshake failed or took too long.
    pub ssl_handshake_errors: AtomicU64,
    /// Connections that ended since what came after their handshake was no TLS.
    pub ssl_proto_errors: AtomicU64,
    /// Handshakes that were made in full, and not by taking an earlier session up.
    pub ssl_new_sessions: AtomicU64,
    /// The second in which the certificates were read, if not at the start.
    pub ssl_last_cert_refresh: AtomicU32,
    /// Times accepting had to pause for lack of file descriptors or memory.
    pub listen_disabled_num: AtomicU64,
    /// Microseconds of those pauses.
    pub time_in_listen_disabled_us: AtomicU64,
    /// Bytes of requests that are half received; the server's budget of them counts here.
    pub request_buffer_bytes: Arc<AtomicU64>,
    /// Bytes of replies that their peers have not taken; likewise.
    pub reply_buffer_bytes: Arc<AtomicU64>,
}

/// What one worker counts: for who is not known, which is what it derefs to, and for each service that has
/// come to it.
#[derive(Debug)]
pub struct WorkerCounters {
    unknown: Counters,
    known: [OnceLock<Box<Counters>>; SERVICES],
}

impl Default for WorkerCounters {
    fn default() -> WorkerCounters {
        WorkerCounters {
            unknown: Counters::default(),
            known: std::array::from_fn(|_| OnceLock::new()),
        }
    }
}

impl WorkerCounters {
    /// The counters of a service. They are made when it first comes, which takes a kilobyte.
    pub fn of(&self, service: Service) -> &Counters {
        match service {
            Service::UNKNOWN => &self.unknown,
            _ => self.known[service.index()].get_or_init(|| {
                Box::new(Counters {
                    service,
                    ..Counters::default()
                })
            }),
        }
    }

    fn all(&self) -> impl Iterator<Item = (Service, &Counters)> {
        let known = Service::all().zip(&self.known);
        let known = known.filter_map(|(service, counters)| Some((service, &**counters.get()?)));
        known.chain([(Service::UNKNOWN, &self.unknown)])
    }
}

impl Deref for WorkerCounters {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        &self.unknown
    }
}

/// Where everything stands at one moment.
#[derive(Debug, Default)]
struct Sums {
    commands: Snapshot,
    store: Counts,
}

/// All counters of the process.
#[derive(Debug, Default)]
pub struct Stats {
    workers: Mutex<Vec<Arc<WorkerCounters>>>,
    /// What the processes before this one have counted.
    inherited: Mutex<Sums>,
    /// The same by service.
    inherited_services: Mutex<Vec<(Service, ServiceSums)>>,
    /// The second in which the first of them has started.
    started: OnceLock<u32>,
    /// Where everything stood at the last `stats reset`.
    zero: Mutex<Sums>,
    /// Counters of the server's own.
    pub server: ServerCounters,
    /// How lengths and times are spread.
    pub histograms: Histograms,
    /// The open connections.
    pub connections: connections::Connections,
    /// Counts by key prefix.
    pub detail: Detail,
    /// Who the services are.
    pub services: Services,
    /// What was served lately.
    pub history: history::History,
    /// Who is told of each command.
    pub events: Events,
}

impl Stats {
    /// Counters for one more worker.
    pub fn register_worker(&self) -> Arc<WorkerCounters> {
        let counters = Arc::new(WorkerCounters::default());
        self.workers.lock().push(Arc::clone(&counters));
        counters
    }

    /// Workers that count.
    pub fn workers(&self) -> usize {
        self.workers.lock().len()
    }

    /// The sums since the start, of the first process if others have handed on theirs.
    pub fn total(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for worker in self.workers.lock().iter() {
            worker.all().for_each(|(_, counters)| sum.add(counters));
        }
        // Counted as hits before their values were looked at.
        sum.get_hits = sum.get_hits.saturating_sub(sum.get_unreadable);
        sum.get_misses += sum.get_unreadable;
        sum.plus(&self.inherited.lock().commands)
    }

    /// What was counted since the start of each service, by its label, likewise. Users of one name are one.
    pub fn services(&self) -> BTreeMap<String, ServiceSums> {
        let sums = self.service_sums();
        let mut by_label: BTreeMap<String, ServiceSums> = BTreeMap::new();
        for (service, label) in self.services.labels() {
            let of_label = by_label.entry(label).or_default();
            of_label.add(&sums[service.index()]);
        }
        by_label
    }

    /// Notes what was served until now, for [`Stats::history`]; a validation costs Keystone so many milliseconds.
    /// Called once a second by one thread.
    pub fn note_history(&self, store: &Store, now_seconds: u32, validation_cost_ms: u32) {
        let sums = self.service_sums();
        let total = Sample {
            evictions: self.store_total(store).removed(Cause::Evicted),
            ..Sample::of(&sums, validation_cost_ms.into())
        };
        self.history.note(now_seconds, &total);
    }

    /// Open connections by the label of their service and their state.
    pub fn open_connections(&self) -> BTreeMap<(String, &'static str), u64> {
        let labels = self.services.labels().into_iter();
        let none = labels.map(|(_, label)| ((label, State::Read.name()), 0));
        let mut open: BTreeMap<_, u64> = none.collect();
        for connection in self.connections.clients() {
            let label = self.services.label(connection.service);
            *open.entry((label, connection.state_name())).or_default() += 1;
        }
        open
    }

    /// The same by number.
    fn service_sums(&self) -> [ServiceSums; SERVICES] {
        let mut sums = [ServiceSums::default(); SERVICES];
        for worker in self.workers.lock().iter() {
            for (service, counters) in worker.all() {
                sums[service.index()].count(&counters.by_class);
            }
        }
        for service in Service::all() {
            sums[service.index()].accepted = self.services.accepted(service);
        }
        for (service, inherited) in self.inherited_services.lock().iter() {
            sums[service.index()].add(inherited);
        }
        sums
    }

    /// What the store counted since the start, likewise.
    pub fn store_total(&self, store: &Store) -> Counts {
        store.counts().plus(&self.inherited.lock().store)
    }

    /// The sums since the last `stats reset`.
    pub fn snapshot(&self) -> Snapshot {
        self.total().since(&self.zero.lock().commands)
    }

    /// What the store counted since the last `stats reset`.
    pub fn store_counts(&self, store: &Store) -> Counts {
        self.store_total(store).since(&self.zero.lock().store)
    }

    /// Makes this moment the zero line of what `stats` shows.
    pub fn reset(&self, store: &Store) {
        *self.zero.lock() = Sums {
            commands: self.total(),
            store: self.store_total(store),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Options;

    #[test]
    fn sums_are_over_all_workers_and_a_reset_moves_only_the_zero_line() {
        let stats = Stats::default();
        let (one, two) = (stats.register_worker(), stats.register_worker());
        one.get_hits.add(3);
        two.get_hits.add(4);
        assert_eq!(stats.snapshot().get_hits, 7);
        stats.reset(&Store::new(&Options::default()).unwrap());
        two.get_hits.add(1);
        assert_eq!(stats.snapshot().get_hits, 1);
        assert_eq!(stats.total().get_hits, 8);
    }
}
