//! Floor 3: a command meets the store, the only place where it does.
//!
//! `server::session` calls [`Engine::execute`] with a decoded command and encodes the reply that it
//! gets. A hit pins its value and allocates nothing. Time comes in with the call.
//!
//! Invariants:
//! - everything that is counted of a command is counted here, once;
//! - values are packed and unpacked here alone: clients never see it.

mod arithmetic;
mod dictionaries;
mod found;
mod housekeeping;
mod lookup;
mod meta;
mod storing;
mod telling;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::Notify;

use crate::clock::Now;
use crate::packing::Packing;
use crate::protocol::command::{self, Command, Exptime, Key};
use crate::protocol::error::Error;
use crate::protocol::reply::{Hit, Reply, Stat, Touched, Value};
use crate::stats::events::{self, Op};
use crate::stats::memcached::{self, Process};
use crate::stats::status::Status;
use crate::stats::{Access, Counters, Moment, Sources, Stats, Totals};
use crate::store::{AT_ONCE, ItemRef, Miss, NEVER, Store};

pub use found::Found;
pub use housekeeping::Housekeeper;
pub use lookup::{Answer, LENT_BYTES_MAX};
pub use storing::Begin;

/// What a validation costs Keystone that keeps no cache of its own, in milliseconds of CPU: measured.
const VALIDATION_COST_MS: u32 = 100;

/// What the engine is told by the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// Items carry CAS uniques (`-C` absent).
    pub cas: bool,
    /// `flush_all` is allowed (`-F` absent).
    pub flush_allowed: bool,
    /// `shutdown` is allowed (`-A`).
    pub shutdown_allowed: bool,
    /// `stats detail` is allowed (`-X` absent).
    pub dump_allowed: bool,
    /// Count by key prefix from the start, dividing keys at this byte (`-D`).
    pub detail_prefix_delimiter: Option<u8>,
    /// Pack values that shrink (`--no-packing` absent). What is packed is read all the same.
    pub packing: bool,
    /// What Keystone's validation of a token costs, in milliseconds of CPU, for metrics.
    pub validation_cost_ms: u32,
    /// What `stats settings` shows, in order; each value is one word.
    pub settings: Vec<(String, String)>,
    /// How much is logged, shared with the log's filter (`-v`).
    pub verbosity: Arc<AtomicU32>,
    /// What `refresh_certs` reads again; without it, the command is unknown.
    pub certificates: Option<Arc<dyn Certificates>>,
}

/// The certificates of TLS, as much of them as a command can reach; the server has the rest.
pub trait Certificates: fmt::Debug + Send + Sync {
    /// Reads the files again, for connections made from now on, and logs how that went.
    ///
    /// # Errors
    /// The line that memcached answers; then nothing has changed.
    fn refresh(&self) -> Result<(), String>;

    /// Whether sessions are kept to be taken up again, which `stats` has a line for.
    fn keeps_sessions(&self) -> bool;
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cas: true,
            flush_allowed: true,
            shutdown_allowed: false,
            dump_allowed: true,
            detail_prefix_delimiter: None,
            packing: true,
            validation_cost_ms: VALIDATION_COST_MS,
            settings: Vec::new(),
            verbosity: Arc::default(),
            certificates: None,
        }
    }
}

/// Commands in, replies out.
#[derive(Debug)]
pub struct Engine {
    store: Store,
    packing: Packing,
    stats: Stats,
    options: Options,
    process: Process,
    shutdown: Notify,
}

impl Engine {
    /// An engine over a store.
    pub fn new(store: Store, options: Options, process: Process) -> Engine {
        let stats = Stats::default();
        if let Some(delimiter) = options.detail_prefix_delimiter {
            stats.detail.set_delimiter(delimiter);
            stats.detail.switch(true);
        }
        let started = process.started;
        let engine = Engine {
            store,
            packing: Packing::default(),
            stats,
            options,
            process,
            shutdown: Notify::new(),
        };
        engine.take_over_dictionaries(started);
        engine
    }

    /// How much is logged.
    pub fn verbosity(&self) -> u32 {
        self.options.verbosity.load(Relaxed)
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What was counted since the start, to be handed on to the process that comes next.
    pub fn totals(&self) -> Totals {
        self.stats
            .totals(&self.store, &self.process, self.options.validation_cost_ms)
    }

    /// Goes on from what the processes before this one have counted. Called once, before anything is.
    pub fn inherit(&self, totals: &Totals) {
        self.stats.inherit(totals);
        totals.give_departures(self.store.departures());
    }

    /// Returns once a client has asked for the server's end, which `-A` allows.
    pub async fn shutdown_asked(&self) {
        self.shutdown.notified().await;
    }

    /// All metrics in Prometheus' text format. Costs some milliseconds at most, by how many services and connections
    /// there are, whatever the store holds, and blocks no worker.
    ///
    /// # Errors
    /// One line for the log.
    pub fn metrics(&self, now: Now) -> Result<String, String> {
        let moment = Moment::since_start(self.sources(), now);
        crate::stats::prometheus::render(&moment).map_err(|error| error.to_string())
    }

    /// What a person is shown of the server. Costs and blocks as [`Engine::metrics`].
    pub fn status(&self, now: Now) -> Status {
        let moment = Moment::since_start(self.sources(), now);
        Status::new(&moment, &self.stats.history)
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            stats: &self.stats,
            store: &self.store,
            process: &self.process,
            settings: &self.options.settings,
            validation_cost_ms: self.options.validation_cost_ms,
        }
    }

    /// Most bytes that unsent values may keep in the store at once: a quarter of its limit.
    pub fn held_bytes_max(&self) -> u64 {
        self.store.usage().limit_bytes / 4
    }

    /// Changes how much is logged.
    pub fn set_verbosity(&self, level: u32) {
        self.options.verbosity.store(level, Relaxed);
    }

    /// Changes the memory limit; says whether it could, see [`Store::set_memory_limit`].
    pub fn set_memory_limit(&self, bytes: u64, now: Now) -> bool {
        self.store.set_memory_limit(bytes, now.seconds)
    }

    /// Notes that this process does not end of the heap that it has taken over, see [`Store::prove`].
    pub fn prove_heap(&self) {
        self.store.prove();
    }

    /// Carries a command out. Never blocks beyond a short lock; a hit allocates nothing.
    // What is not a plain `get` is kept out of line, so that this is small enough to go into its caller.
    #[inline]
    pub fn execute<'e, 'b>(
        &'e self,
        command: &Command<'b>,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        match *command {
            Command::Get {
                key,
                terms: Some(ref terms),
                ..
            } => self.fetch(key, terms, counters, now),
            Command::Get {
                key, touch: None, ..
            } => self.get(key, counters, now),
            Command::Get {
                key,
                touch: Some(exptime),
                ..
            } => self.get_and_touch(key, exptime, counters, now),
            Command::Touch { key, exptime } => self.touch_only(key, exptime, counters, now),
            Command::Store(ref store) => self.store(store, counters, now),
            Command::Delete {
                key,
                terms: Some(ref terms),
            } => self.meta_delete(key, terms, counters, now),
            Command::Delete { key, terms: None } => self.delete(key, counters, now),
            Command::Arithmetic {
                key,
                direction,
                delta,
                ref terms,
            } => self.arithmetic(key, (direction, delta), terms.as_ref(), counters, now),
            ref other => {
                counters.by_class.other();
                self.execute_other(other, counters, now)
            }
        }
    }

    /// Carries out what is about no item, or about one and no part of what a cache is for.
    #[inline(never)]
    fn execute_other<'e, 'b>(
        &'e self,
        command: &Command<'b>,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        match *command {
            Command::FlushAll { at } => self.flush_all(at, counters, now),
            Command::CacheMemlimit { megabytes } => self.cache_memlimit(megabytes, now),
            Command::Verbosity { level } => {
                self.set_verbosity(level);
                Reply::Ok
            }
            Command::RefreshCerts => self.refresh_certs(now),
            Command::Stats(stats) => self.show(stats, now),
            Command::Version => Reply::Version,
            Command::Inspect { key, .. } => self.inspect(key, counters, now),
            // All but the first are `execute`'s own.
            Command::Nothing
            | Command::Get { .. }
            | Command::Store(_)
            | Command::Delete { .. }
            | Command::Arithmetic { .. }
            | Command::Touch { .. } => Reply::Nothing,
            // Who asks for authentication answers it before it comes here.
            Command::Sasl(_) => Reply::Error(Error::UnknownCommand),
            Command::Shutdown { .. } if !self.options.shutdown_allowed => {
                Reply::Error(Error::ShutdownNotEnabled)
            }
            Command::Shutdown { mode_known: false } => Reply::Error(Error::BadShutdownMode),
            Command::Shutdown { mode_known: true } => {
                self.shutdown.notify_one();
                Reply::Close
            }
            Command::Quit => Reply::Close,
        }
    }

    // Goes into `execute` and with that into its caller: a hit is a call shorter.
    #[inline(always)]
    fn get<'e, 'b>(
        &'e self,
        key: Key<'b>,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        match self.store.get(key.0, now.seconds) {
            Ok(item) => {
                counters.cmd_get.add(1);
                counters.get_hits.add(1);
                self.stats.detail.count(key.0, Access::Hit);
                self.tell_hit(Op::Get, key, &item, counters, now);
                Reply::Hit(self.hit(key, item, counters))
            }
            Err(miss) => {
                self.count_miss(key, miss, counters);
                self.tell_miss(Op::Get, key, miss.cause(), counters, now);
                self.stats.detail.count(key.0, Access::Miss);
                Reply::Miss
            }
        }
    }

    /// Counts a `get` that found nothing.
    #[inline(never)]
    fn count_miss(&self, key: Key<'_>, miss: Miss, counters: &Counters) {
        counters.cmd_get.add(1);
        counters.by_class.miss(key.0, miss);
        counters.get_misses.add(1);
        match miss {
            Miss::Absent(_) => {}
            Miss::Expired => counters.get_expired.add(1),
            Miss::Flushed => counters.get_flushed.add(1),
        }
    }

    fn hit<'e, 'b>(
        &'e self,
        key: Key<'b>,
        item: ItemRef<'e>,
        counters: &'e Counters,
    ) -> Hit<'b, Found<'e>> {
        let value = Found::new(item, &self.packing, counters);
        counters.by_class.hit(value.class(), value.len());
        Hit {
            key,
            client_flags: value.client_flags(),
            cas_unique: self.shown_unique(value.cas_unique()),
            value,
        }
    }

    /// Counts a hit whose value turned out to be damaged: the client was answered with a miss.
    pub fn note_unreadable(&self, counters: &Counters) {
        counters.get_unreadable.add(1);
    }

    fn get_and_touch<'e, 'b>(
        &'e self,
        key: Key<'b>,
        exptime: Exptime,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        match self.touch(key, exptime, counters, now) {
            Ok(item) => {
                self.stats.detail.count(key.0, Access::Hit);
                self.tell_hit(Op::Gat, key, &item, counters, now);
                Reply::Hit(self.hit(key, item, counters))
            }
            Err(miss) => {
                counters.by_class.miss(key.0, miss);
                self.tell_miss(Op::Gat, key, miss.cause(), counters, now);
                self.stats.detail.count(key.0, Access::Miss);
                Reply::Miss
            }
        }
    }

    /// `touch`
    #[inline(never)]
    fn touch_only<'e, 'b>(
        &'e self,
        key: Key<'b>,
        exptime: Exptime,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        counters.by_class.touch(key.0);
        match self.touch(key, exptime, counters, now) {
            Ok(item) => {
                self.tell_hit(Op::Touch, key, &item, counters, now);
                Reply::Touched(Touched {
                    client_flags: item.client_flags(),
                    cas_unique: self.shown_unique(item.cas_unique()),
                })
            }
            Err(miss) => {
                self.tell_miss(Op::Touch, key, miss.cause(), counters, now);
                Reply::NotFound
            }
        }
    }

    fn touch(
        &self,
        key: Key<'_>,
        exptime: Exptime,
        counters: &Counters,
        now: Now,
    ) -> Result<ItemRef<'_>, Miss> {
        counters.cmd_touch.add(1);
        let touched = self
            .store
            .get_and_touch(key.0, expiry(exptime, now), now.seconds);
        match touched {
            Ok(_) => counters.touch_hits.add(1),
            Err(_) => counters.touch_misses.add(1),
        }
        touched
    }

    fn delete<'e, 'b>(
        &'e self,
        key: Key<'b>,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        self.stats.detail.count(key.0, Access::Delete);
        counters.by_class.delete(key.0);
        let (told, reply) = if self.store.delete(key.0, now.seconds) {
            counters.delete_hits.add(1);
            (events::Outcome::Deleted, Reply::Deleted)
        } else {
            counters.delete_misses.add(1);
            (events::Outcome::NotFound, Reply::NotFound)
        };
        self.tell(Op::Delete, key, (None, told), counters, now);
        reply
    }

    fn flush_all<'e, 'b>(
        &'e self,
        at: Option<Exptime>,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        counters.cmd_flush.add(1);
        if !self.options.flush_allowed {
            return Reply::Error(Error::FlushNotAllowed);
        }
        let Some(at) = at else {
            return Reply::Error(Error::BadExptime);
        };
        let second = expiry(at, now);
        let later = (second > now.seconds).then_some(second);
        self.store.flush(later, now.seconds);
        Reply::Ok
    }

    fn cache_memlimit<'e, 'b>(&'e self, megabytes: u32, now: Now) -> Reply<'b, Found<'e>> {
        let bytes = u64::from(megabytes) << 20;
        if self.set_memory_limit(bytes, now) {
            Reply::Ok
        } else {
            Reply::Error(Error::MemoryLimitNotAdjusted)
        }
    }

    /// Reads the certificates again, as `refresh_certs` and SIGHUP ask.
    ///
    /// Costs the reading of three small files and the building of what is offered with them, less than
    /// a millisecond, in which the worker that was asked serves nobody else; not worth a thread.
    pub fn refresh_certs<'e, 'b>(&'e self, now: Now) -> Reply<'b, Found<'e>> {
        match self.options.certificates.as_ref().map(|it| it.refresh()) {
            None => Reply::Error(Error::UnknownCommand),
            Some(Err(line)) => Reply::NotRefreshed(line),
            Some(Ok(())) => {
                let refreshed = &self.stats.server.ssl_last_cert_refresh;
                refreshed.store(now.seconds, Relaxed);
                Reply::Ok
            }
        }
    }

    fn show<'e, 'b>(&'e self, stats: command::Stats, now: Now) -> Reply<'b, Found<'e>> {
        use command::Stats as Shown;
        let detail = &self.stats.detail;
        match stats {
            Shown::General => Reply::Stats(memcached::general(
                &Moment::since_reset(self.sources(), now),
                self.tls(),
            )),
            Shown::Settings => Reply::Stats(self.settings()),
            Shown::Items => Reply::Stats(Vec::new()),
            Shown::Slabs => Reply::Stats(memcached::slabs(&self.store)),
            Shown::Sizes => Reply::Stats(memcached::sizes()),
            Shown::Conns => Reply::Stats(self.stats.connections.stats(now.seconds)),
            Shown::Reset => {
                self.stats.reset(&self.store);
                detail.clear();
                Reply::Reset
            }
            Shown::DetailOn | Shown::DetailOff | Shown::DetailDump
                if !self.options.dump_allowed =>
            {
                Reply::Error(Error::StatsDetailNotAllowed)
            }
            Shown::DetailOn | Shown::DetailOff => {
                detail.switch(stats == Shown::DetailOn);
                Reply::Ok
            }
            Shown::DetailDump => Reply::PrefixDump(detail.dump()),
        }
    }

    fn tls(&self) -> memcached::Tls {
        match &self.options.certificates {
            None => memcached::Tls::Off,
            Some(certificates) => memcached::Tls::On {
                sessions_kept: certificates.keeps_sessions(),
            },
        }
    }

    /// The settings as they are now: what a client may have changed is not as configured.
    fn settings(&self) -> Vec<Stat> {
        let current = |name: &str, configured: &str| match name {
            "maxbytes" => self.store.usage().limit_bytes.to_string(),
            "verbosity" => self.options.verbosity.load(Relaxed).to_string(),
            "detail_enabled" if self.stats.detail.is_on() => "yes".to_owned(),
            "detail_enabled" => "no".to_owned(),
            _ => configured.to_owned(),
        };
        let configured = self.options.settings.iter();
        configured
            .map(|(name, value)| Stat::new(name, current(name, value)))
            .collect()
    }
}

/// When an item expires, in the store's seconds.
fn expiry(exptime: Exptime, now: Now) -> u32 {
    match exptime {
        Exptime::Never => NEVER,
        Exptime::AtOnce => AT_ONCE,
        Exptime::Relative(seconds) => now.seconds.saturating_add(seconds),
        Exptime::Absolute(unix_seconds) => match i64::from(unix_seconds) - now.unix_seconds {
            ..=0 => AT_ONCE,
            seconds => now.seconds.saturating_add(seconds as u32),
        },
    }
}
