//! Floor 3: a command meets the store, the only place where it does.
//!
//! `server::session` calls [`Engine::execute`] with a decoded command and encodes the reply that it
//! gets. A hit pins its value and allocates nothing. Time comes in with the call.
//!
//! Invariants:
//! - everything that is counted of a command is counted here, once;
//! - a `set` that fails takes the old value with it, as in memcached: a client must not go on reading
//!   what it meant to replace;
//! - `append`, `prepend`, `incr` and `decr` are read, change, and store if the CAS unique is still the
//!   same, again until it is.

mod housekeeping;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::Notify;

use crate::clock::Now;
use crate::protocol::command::{self, Command, Direction, Exptime, Key, Mode};
use crate::protocol::error::Error;
use crate::protocol::number;
use crate::protocol::reply::{Hit, Reply, Stat, Value};
use crate::stats::memcached::{self, Process};
use crate::stats::{Access, Counters, Stats};
use crate::store::{
    AT_ONCE, Condition, ItemRef, Miss, NEVER, Outcome, Put, Refusal, Store, Upload,
};

pub use housekeeping::Housekeeper;

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
    /// What `stats settings` shows, in order; each value is one word.
    pub settings: Vec<(String, String)>,
    /// How much is logged, shared with the log's filter (`-v`).
    pub verbosity: Arc<AtomicU32>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cas: true,
            flush_allowed: true,
            shutdown_allowed: false,
            dump_allowed: true,
            detail_prefix_delimiter: None,
            settings: Vec::new(),
            verbosity: Arc::default(),
        }
    }
}

/// Commands in, replies out.
#[derive(Debug)]
pub struct Engine {
    store: Store,
    stats: Stats,
    options: Options,
    process: Process,
    shutdown: Notify,
}

/// What to do with a storage command whose value has not arrived.
pub enum Begin<'e> {
    /// Collect the value, then execute the command.
    Buffer,
    /// Write the value as it arrives, then [`Engine::finish_store`].
    Stream(Upload<'e>),
    /// Answer this and skip the value.
    Refuse(Error),
}

impl Value for ItemRef<'_> {
    fn len(&self) -> usize {
        ItemRef::len(self)
    }

    fn piece(&self, offset: usize) -> &[u8] {
        ItemRef::piece(self, offset)
    }

    fn held_bytes(&self) -> usize {
        self.pinned_bytes()
    }
}

impl Engine {
    /// An engine over a store.
    pub fn new(store: Store, options: Options, process: Process) -> Engine {
        let stats = Stats::default();
        if let Some(delimiter) = options.detail_prefix_delimiter {
            stats.detail.set_delimiter(delimiter);
            stats.detail.switch(true);
        }
        Engine {
            store,
            stats,
            options,
            process,
            shutdown: Notify::new(),
        }
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Returns once a client has asked for the server's end, which `-A` allows.
    pub async fn shutdown_asked(&self) {
        self.shutdown.notified().await;
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// One line for the log.
    pub fn metrics(&self, now: Now) -> Result<String, String> {
        crate::stats::prometheus::render(&self.stats, &self.store, &self.process, now)
            .map_err(|error| error.to_string())
    }

    /// Most bytes that unsent values may keep in the store at once: a quarter of its limit.
    pub fn held_bytes_max(&self) -> u64 {
        self.store.usage().limit_bytes / 4
    }

    /// Carries a command out. Never blocks beyond a short lock; a hit allocates nothing.
    pub fn execute<'e, 'b>(
        &'e self,
        command: &Command<'b>,
        counters: &Counters,
        now: Now,
    ) -> Reply<'b, ItemRef<'e>> {
        match *command {
            Command::Get { key, touch: None } => self.get(key, counters, now),
            Command::Get {
                key,
                touch: Some(exptime),
            } => self.get_and_touch(key, exptime, counters, now),
            Command::Store(ref store) => self.store(store, counters, now),
            Command::Delete { key } => self.delete(key, counters, now),
            Command::Arithmetic {
                key,
                direction,
                delta,
            } => self.arithmetic(key, direction, delta, counters, now),
            Command::Touch { key, exptime } => match self.touch(key, exptime, counters, now) {
                Ok(_) => Reply::Touched,
                Err(_) => Reply::NotFound,
            },
            Command::FlushAll { at } => self.flush_all(at, counters, now),
            Command::CacheMemlimit { megabytes } => self.cache_memlimit(megabytes, now),
            Command::Verbosity { level } => {
                self.options.verbosity.store(level, Relaxed);
                Reply::Ok
            }
            Command::Stats(stats) => self.show(stats, now),
            Command::Version => Reply::Version,
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

    fn get<'e, 'b>(
        &'e self,
        key: Key<'b>,
        counters: &Counters,
        now: Now,
    ) -> Reply<'b, ItemRef<'e>> {
        counters.cmd_get.add(1);
        match self.store.get(key.0, now.seconds) {
            Ok(item) => {
                counters.get_hits.add(1);
                self.stats.detail.count(key.0, Access::Hit);
                self.hit(key, item)
            }
            Err(miss) => {
                counters.get_misses.add(1);
                match miss {
                    Miss::Absent => {}
                    Miss::Expired => counters.get_expired.add(1),
                    Miss::Flushed => counters.get_flushed.add(1),
                }
                self.stats.detail.count(key.0, Access::Miss);
                Reply::Miss
            }
        }
    }

    fn hit<'e, 'b>(&'e self, key: Key<'b>, item: ItemRef<'e>) -> Reply<'b, ItemRef<'e>> {
        Reply::Hit(Hit {
            key,
            client_flags: item.client_flags(),
            cas_unique: if self.options.cas {
                item.cas_unique()
            } else {
                0
            },
            value: item,
        })
    }

    fn get_and_touch<'e, 'b>(
        &'e self,
        key: Key<'b>,
        exptime: Exptime,
        counters: &Counters,
        now: Now,
    ) -> Reply<'b, ItemRef<'e>> {
        match self.touch(key, exptime, counters, now) {
            Ok(item) => {
                self.stats.detail.count(key.0, Access::Hit);
                self.hit(key, item)
            }
            Err(_) => {
                self.stats.detail.count(key.0, Access::Miss);
                Reply::Miss
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
        counters: &Counters,
        now: Now,
    ) -> Reply<'b, ItemRef<'e>> {
        self.stats.detail.count(key.0, Access::Delete);
        if self.store.delete(key.0, now.seconds) {
            counters.delete_hits.add(1);
            Reply::Deleted
        } else {
            counters.delete_misses.add(1);
            Reply::NotFound
        }
    }

    /// Says how the value of a storage command is to be taken in.
    pub fn begin_store(
        &self,
        store: &command::Store<'_>,
        value_bytes: usize,
        counters: &Counters,
        now: Now,
    ) -> Begin<'_> {
        let key = store.key.0;
        if let Some(error) = self.refuse_if_too_large(store, value_bytes, counters, now) {
            return Begin::Refuse(error);
        }
        let extends = matches!(store.mode, Mode::Append | Mode::Prepend);
        if extends || !self.store.is_large(key.len(), value_bytes) {
            return Begin::Buffer;
        }
        match self.store.begin_upload(key, value_bytes, now.seconds) {
            Ok(upload) => Begin::Stream(upload),
            Err(refusal) => Begin::Refuse(self.refuse(store, refusal, counters, now)),
        }
    }

    /// Refuses a storage command whose value is beyond `-I`, before its value is looked at.
    pub fn refuse_if_too_large(
        &self,
        store: &command::Store<'_>,
        value_bytes: usize,
        counters: &Counters,
        now: Now,
    ) -> Option<Error> {
        let too_large = !self.store.item_fits(store.key.0.len(), value_bytes);
        too_large.then(|| self.refuse(store, Refusal::TooLarge, counters, now))
    }

    /// Carries a storage command out whose value was written as it arrived.
    pub fn finish_store<'e>(
        &'e self,
        upload: Upload<'e>,
        store: &command::Store<'_>,
        counters: &Counters,
        now: Now,
    ) -> Reply<'static, ItemRef<'e>> {
        self.stats.detail.count(store.key.0, Access::Set);
        let put = self.put_of(store, &[], now);
        let outcome = upload.finish(&put, now.seconds);
        stored(store.mode, outcome, counters)
    }

    /// Refuses a storage command for lack of memory for its value.
    pub fn refuse_for_memory(
        &self,
        store: &command::Store<'_>,
        counters: &Counters,
        now: Now,
    ) -> Error {
        self.refuse(store, Refusal::OutOfMemory, counters, now)
    }

    fn refuse(
        &self,
        store: &command::Store<'_>,
        refusal: Refusal,
        counters: &Counters,
        now: Now,
    ) -> Error {
        if store.mode == Mode::Set {
            self.store.delete(store.key.0, now.seconds);
        }
        match refusal {
            Refusal::TooLarge => {
                counters.store_too_large.add(1);
                Error::TooLarge
            }
            Refusal::OutOfMemory => {
                counters.store_no_memory.add(1);
                Error::OutOfMemory
            }
        }
    }

    fn put_of<'a>(&self, store: &command::Store<'a>, value: &'a [&'a [u8]], now: Now) -> Put<'a> {
        Put {
            key: store.key.0,
            value,
            client_flags: store.client_flags,
            expiry: Some(expiry(store.exptime, now)),
            condition: match store.mode {
                Mode::Set | Mode::Append | Mode::Prepend => Condition::Always,
                Mode::Add => Condition::Absent,
                Mode::Replace => Condition::Present,
                Mode::Cas(unique) if self.options.cas => Condition::Unique(unique),
                // All items show 0, so only 0 can be theirs.
                Mode::Cas(0) => Condition::Present,
                Mode::Cas(_) => Condition::Unique(u64::MAX),
            },
        }
    }

    fn store<'e>(
        &'e self,
        store: &command::Store<'_>,
        counters: &Counters,
        now: Now,
    ) -> Reply<'static, ItemRef<'e>> {
        self.stats.detail.count(store.key.0, Access::Set);
        if matches!(store.mode, Mode::Append | Mode::Prepend) {
            return self.extend(store, counters, now);
        }
        match self
            .store
            .put(&self.put_of(store, &[store.value.0], now), now.seconds)
        {
            Ok(outcome) => stored(store.mode, outcome, counters),
            Err(refusal) => Reply::Error(self.refuse(store, refusal, counters, now)),
        }
    }

    /// `append` and `prepend`: the old value with the new one behind or before it.
    fn extend<'e>(
        &'e self,
        store: &command::Store<'_>,
        counters: &Counters,
        now: Now,
    ) -> Reply<'static, ItemRef<'e>> {
        let key = store.key.0;
        if !self.store.item_fits(key.len(), store.value.0.len()) {
            return Reply::Error(self.refuse(store, Refusal::TooLarge, counters, now));
        }
        counters.cmd_set.add(1);
        loop {
            let Ok(item) = self.store.peek(key, now.seconds) else {
                return Reply::NotStored;
            };
            let identity = (item.client_flags(), item.cas_unique());
            let mut pieces = pieces_of(&item);
            match store.mode {
                Mode::Prepend => pieces.insert(0, store.value.0),
                _ => pieces.push(store.value.0),
            }
            match self
                .store
                .put(&changed(key, identity, &pieces), now.seconds)
            {
                Ok(Outcome::Stored(_)) => return Reply::Stored,
                Ok(Outcome::Exists) => {}
                Ok(_) | Err(Refusal::TooLarge) => return Reply::NotStored,
                Err(Refusal::OutOfMemory) => {
                    counters.store_no_memory.add(1);
                    return Reply::Error(Error::OutOfMemory);
                }
            }
        }
    }

    fn arithmetic<'e, 'b>(
        &'e self,
        key: Key<'b>,
        direction: Direction,
        delta: u64,
        counters: &Counters,
        now: Now,
    ) -> Reply<'b, ItemRef<'e>> {
        let (hits, misses) = match direction {
            Direction::Up => (&counters.incr_hits, &counters.incr_misses),
            Direction::Down => (&counters.decr_hits, &counters.decr_misses),
        };
        loop {
            let Ok(item) = self.store.get(key.0, now.seconds) else {
                misses.add(1);
                return Reply::NotFound;
            };
            let Some(value) = counter_of(&item) else {
                return Reply::Error(Error::NotNumeric);
            };
            let value = match direction {
                Direction::Up => value.wrapping_add(delta),
                Direction::Down => value.saturating_sub(delta),
            };
            // As in memcached, the value keeps its length: spaces take the place of lost digits.
            let digits = format!("{value:<width$}", width = item.len());
            let identity = (item.client_flags(), item.cas_unique());
            // Let go, so that the new number may be written in the old one's place.
            drop(item);
            let digits = [digits.as_bytes()];
            match self
                .store
                .put(&changed(key.0, identity, &digits), now.seconds)
            {
                Ok(Outcome::Stored(_)) => {
                    hits.add(1);
                    return Reply::Number(value);
                }
                Ok(_) => {}
                Err(_) => return Reply::Error(Error::OutOfMemoryForDelta),
            }
        }
    }

    fn flush_all<'e, 'b>(
        &'e self,
        at: Option<Exptime>,
        counters: &Counters,
        now: Now,
    ) -> Reply<'b, ItemRef<'e>> {
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

    fn cache_memlimit<'e, 'b>(&'e self, megabytes: u32, now: Now) -> Reply<'b, ItemRef<'e>> {
        let bytes = u64::from(megabytes) << 20;
        if self.store.set_memory_limit(bytes, now.seconds) {
            Reply::Ok
        } else {
            Reply::Error(Error::MemoryLimitNotAdjusted)
        }
    }

    fn show<'e, 'b>(&'e self, stats: command::Stats, now: Now) -> Reply<'b, ItemRef<'e>> {
        use command::Stats as Shown;
        let detail = &self.stats.detail;
        match stats {
            Shown::General => Reply::Stats(memcached::general(
                &self.stats,
                &self.store,
                &self.process,
                now,
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

/// A put that changes an item and nothing else about it.
fn changed<'a>(
    key: &'a [u8],
    (client_flags, cas_unique): (u32, u64),
    value: &'a [&'a [u8]],
) -> Put<'a> {
    Put {
        key,
        value,
        client_flags,
        expiry: None,
        condition: Condition::Unique(cas_unique),
    }
}

fn pieces_of<'a>(item: &'a ItemRef<'_>) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut offset = 0;
    while offset < item.len() {
        let piece = item.piece(offset);
        offset += piece.len();
        pieces.push(piece);
    }
    pieces
}

/// The number that an item holds. As in memcached, a value in several pieces is none.
fn counter_of(item: &ItemRef<'_>) -> Option<u64> {
    let value = item.piece(0);
    (value.len() == item.len()).then(|| number::counter(value))?
}

fn stored<'e>(mode: Mode, outcome: Outcome, counters: &Counters) -> Reply<'static, ItemRef<'e>> {
    counters.cmd_set.add(1);
    if let Mode::Cas(_) = mode {
        match outcome {
            Outcome::Stored(_) => counters.cas_hits.add(1),
            Outcome::Exists | Outcome::NotStored => counters.cas_badval.add(1),
            Outcome::NotFound => counters.cas_misses.add(1),
        }
    }
    match outcome {
        Outcome::Stored(_) => Reply::Stored,
        Outcome::NotStored => Reply::NotStored,
        Outcome::Exists => Reply::Exists,
        Outcome::NotFound => Reply::NotFound,
    }
}
