//! Floor 1: items in a bounded heap.
//!
//! Knows neither wire nor tokens nor tokio; the engine is its only caller. Items lie one after
//! another in the segments of a memory file (`heap`, `segment`, `item`), a sharded index leads to
//! them (`index`), two chains and a ghost decide what leaves (`eviction`, `returns`, `ghost`;
//! under `-M` nothing does, `compaction`), what leaves is counted (`counts`, `departures`), what packed values
//! need to be read is kept as long as they are (`dictionary`), and another process can read the whole
//! of it (`recovery`). After Segcache (Yang, Yue, Rashmi, NSDI 2021), with
//! a probation chain and a ghost, which a simulation of token workloads asked for.
//!
//! # Locks
//!
//! One heap lock reserves room and moves segments; one short lock a shard protects the index and the
//! items it knows; one lock says which dictionaries are open, and is taken by a background thread and
//! who adds one. The heap lock may be held when either of the others is taken, never the other way round. A
//! set copies its bytes under neither; a get holds its shard's lock, shared, while it finds the item
//! and pins its segment.
//!
//! # Invariants
//!
//! - the full key is compared on every lookup: a hash alone never serves a value;
//! - an expired, deleted or flushed item is never returned, also not by a process that takes over;
//! - segments in use, index, ghost and dictionaries together stay within the limit;
//! - an item is marked dead before the one that replaces it is live: a crash may lose an item that is
//!   just being written, and never brings one back;
//! - a flush is ordered by write sequence: whole seconds cannot tell a set from the flush before it.

pub mod audit;
mod compaction;
mod counts;
mod departures;
mod dictionary;
mod eviction;
mod fetch;
mod geometry;
mod ghost;
mod heap;
mod index;
mod item;
mod item_ref;
#[cfg(test)]
mod killed;
mod locked_shard;
mod packing;
mod put;
mod recovery;
mod returns;
mod segment;
mod shortfall;
mod superblock;
mod time_left;
mod upload;
mod view;

use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};

use parking_lot::{Mutex, RwLock};

use counts::Counters;
use dictionary::Dictionaries;
use geometry::Geometry;
use ghost::Known;
use heap::Heap;
use index::Shard;
use item::Header;
use locked_shard::LockedShard;
use returns::Returns;
use segment::{Chain, Log, Segments, State};
use superblock::Superblock;

pub use counts::{Cause, Counts};
pub use departures::Departures;
pub use dictionary::DictionaryHold;
pub use eviction::Eviction;
pub use fetch::{Fetch, Invalidation, Seen, Unmet};
pub use geometry::{DICTIONARIES_MAX, DICTIONARY_BYTES_MAX};
pub use item::{AT_ONCE, CLASSES, HEADER_BYTES, Marks, NEVER};
pub use item_ref::ItemRef;
pub use packing::{DictionaryNumber, Packing};
pub use put::{Condition, Outcome, Put, Refusal};
pub use recovery::Recovered;
pub use shortfall::Shortfall;
pub use upload::{Arriving, Upload};
pub use view::View;

/// Smallest memory limit; memcached's `cache_memlimit` has the same.
pub const MEMORY_LIMIT_BYTES_MIN: u64 = 8 << 20;

/// What a store is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes for everything that grows with the items: segments, index, ghost and dictionaries
    /// together (`-m`).
    pub memory_limit_bytes: u64,
    /// How far [`Store::set_memory_limit`] can raise the limit: the size of the sparse memory file.
    pub memory_ceiling_bytes: u64,
    /// Largest item, header and key included (`-I`); at most half of the limit.
    pub item_bytes_max: u32,
    /// Make room by letting items leave. Without it (`-M`) a set that finds no room is refused.
    pub evict: bool,
    /// How items are chosen to leave.
    pub eviction: Eviction,
    /// What keys are hashed with; `None` for a random one, which nobody can guess. A fixed one makes
    /// a simulation repeatable.
    pub hash_seed: Option<u64>,
}

impl Default for Options {
    /// 64 MiB, up to 1 GiB, items up to 1 MiB, evicting: memcached's defaults.
    fn default() -> Options {
        Options {
            memory_limit_bytes: 64 << 20,
            memory_ceiling_bytes: 1 << 30,
            item_bytes_max: 1 << 20,
            evict: true,
            eviction: Eviction::default(),
            hash_seed: None,
        }
    }
}

/// Why a lookup found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The key is not there; how it left, if that is remembered.
    Absent(Option<Gone>),
    /// Its time is over.
    Expired,
    /// It was written before a `flush_all`.
    Flushed,
}

impl Miss {
    /// Why the key is not there; `None` for one that was never there, as far as is remembered.
    pub fn cause(self) -> Option<Cause> {
        match self {
            Miss::Absent(gone) => gone.map(|gone| gone.cause),
            Miss::Expired => Some(Cause::Expired),
            Miss::Flushed => Some(Cause::Flushed),
        }
    }

    /// How much more memory would have kept it; `None` if none would.
    pub fn shortfall(self) -> Option<Shortfall> {
        match self {
            Miss::Absent(gone) => gone?.shortfall,
            Miss::Expired | Miss::Flushed => None,
        }
    }
}

/// How a key left that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Why.
    pub cause: Cause,
    /// How much more memory would have kept it, if it left for others and its time is not over.
    pub shortfall: Option<Shortfall>,
}

/// Where the memory is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Items that the index knows.
    pub items: u64,
    /// Their bytes, headers, keys and padding included.
    pub item_bytes: u64,
    /// Segments in use.
    pub segment_bytes: u64,
    /// Index, ghost and dictionaries.
    pub table_bytes: u64,
    /// Dictionaries alone, with the working copies of them.
    pub dictionary_bytes: u64,
    /// Dictionaries alive.
    pub dictionaries: u64,
    /// The limit for segments and tables.
    pub limit_bytes: u64,
    /// Segments of new items.
    pub probation_segments: u32,
    /// Segments of items that proved themselves.
    pub main_segments: u32,
    /// Segments in use that are in neither chain: being emptied, or filled by a large value.
    pub other_segments: u32,
}

/// A bounded store of items, shared by all workers.
pub struct Store {
    heap: Heap,
    geometry: Geometry,
    states: Box<[State]>,
    shards: Box<[RwLock<Shard>]>,
    /// Bits of a hash behind those that say its shard.
    shard_shift: u32,
    hasher: ahash::RandomState,
    log: Mutex<Log>,
    options: Options,
    limit_bytes: AtomicU64,
    /// Bytes of index, ghost and dictionaries; signed, since shards add and subtract in any order.
    table_bytes: AtomicI64,
    sequence: AtomicU64,
    /// Items up to this write sequence are flushed.
    flush_sequence: AtomicU64,
    /// The second at which a delayed flush comes due; 0 without one.
    flush_at: AtomicU32,
    /// The segment that is being emptied; [`eviction::NO_SEGMENT`] without one.
    evacuating: AtomicU32,
    returns: Returns,
    /// Bytes of segments held by uploads that are under way.
    upload_bytes: AtomicU64,
    dictionaries: Dictionaries,
    counters: Counters,
    departures: Departures,
}

impl Store {
    /// Makes an empty store. Takes memory only as items come.
    ///
    /// # Errors
    /// Those of making and mapping the memory file.
    pub fn new(options: &Options) -> io::Result<Store> {
        let ceiling = options.memory_ceiling_bytes;
        let wanted = options.eviction.segment_bytes;
        let geometry = Geometry::new(options.memory_limit_bytes, ceiling, wanted);
        let heap = Heap::create(geometry.heap_bytes())?;
        Superblock::of(&heap).format(&geometry);
        Ok(Store::over(heap, geometry, options))
    }

    fn over(heap: Heap, geometry: Geometry, options: &Options) -> Store {
        let superblock = Superblock::of(&heap);
        let shards = (options.memory_limit_bytes >> 20).next_power_of_two();
        let shards = shards.clamp(16, 4096) as usize;
        let shards: Box<[RwLock<Shard>]> = (0..shards).map(|_| RwLock::default()).collect();
        let table_bytes: usize = shards.iter().map(|shard| shard.read().bytes()).sum();
        Store {
            states: (0..geometry.segments).map(|_| State::default()).collect(),
            hasher: hasher(options.hash_seed),
            log: Mutex::default(),
            options: options.clone(),
            limit_bytes: AtomicU64::new(options.memory_limit_bytes),
            table_bytes: AtomicI64::new(table_bytes as i64),
            sequence: AtomicU64::new(superblock.take_over_sequence()),
            flush_sequence: AtomicU64::new(superblock.flush_sequence()),
            flush_at: AtomicU32::new(superblock.flush_at()),
            evacuating: AtomicU32::new(eviction::NO_SEGMENT),
            returns: Returns::new(&options.eviction, geometry.segments),
            upload_bytes: AtomicU64::new(0),
            dictionaries: Dictionaries::default(),
            counters: Counters::default(),
            departures: Departures::default(),
            shard_shift: 64 - shards.len().trailing_zeros(),
            shards,
            geometry,
            heap,
        }
    }

    /// The memory file, for handing it on.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.heap.file()
    }

    /// Looks a key up and pins its value. Takes the shard's lock shared; allocates nothing.
    ///
    /// # Errors
    /// Why there is nothing to return.
    pub fn get(&self, key: &[u8], now_seconds: u32) -> Result<ItemRef<'_>, Miss> {
        self.look(key, now_seconds, View::pin)
    }

    /// The same as [`Store::get`] without counting as a read.
    ///
    /// # Errors
    /// Why there is nothing to return.
    pub fn peek(&self, key: &[u8], now_seconds: u32) -> Result<ItemRef<'_>, Miss> {
        self.settle(now_seconds);
        let hash = self.hash(key);
        let shard = self.shard(hash).read();
        let item = self.find_valid(&shard, hash, key, now_seconds)?;
        Ok(self.pin(&item))
    }

    /// Looks a key up, renews its expiry and pins its value. Takes the shard's lock.
    ///
    /// # Errors
    /// Why there is nothing to return.
    pub fn get_and_touch(
        &self,
        key: &[u8],
        expiry: u32,
        now_seconds: u32,
    ) -> Result<ItemRef<'_>, Miss> {
        self.settle(now_seconds);
        let hash = self.hash(key);
        let shard = self.shard(hash).write();
        let item = self.find_valid(&shard, hash, key, now_seconds)?;
        item.access(now_seconds, self.options.eviction.proves_after_seconds);
        item.set_expiry(expiry);
        self.state_of(&item).expires(expiry);
        Ok(self.pin(&item))
    }

    /// Removes an item; says whether there was one to return.
    pub fn delete(&self, key: &[u8], now_seconds: u32) -> bool {
        self.delete_if(key, None, now_seconds).is_ok()
    }

    /// Makes every item written so far invalid, at `at_seconds` or, without, now. A later flush
    /// takes the place of one that is still to come, as in memcached; one that has come due is
    /// carried out first.
    pub fn flush(&self, at_seconds: Option<u32>, now_seconds: u32) {
        self.settle(now_seconds);
        let _log = self.log.lock();
        match at_seconds {
            Some(second) => self.set_flush_at(second),
            None => {
                self.flush_now();
                self.set_flush_at(0);
            }
        }
    }

    /// Changes the memory limit, letting items leave until the rest fits and giving their memory
    /// back. Under `-M` nothing leaves: sets are refused until enough has expired.
    ///
    /// Says whether it could: the limit is at least 8 MiB, at most the ceiling, and at least twice
    /// the largest item.
    pub fn set_memory_limit(&self, bytes: u64, now_seconds: u32) -> bool {
        let ceiling = self.geometry.ceiling_bytes();
        let floor = MEMORY_LIMIT_BYTES_MIN.max(2 * u64::from(self.options.item_bytes_max));
        if !(floor..=ceiling).contains(&bytes) {
            return false;
        }
        self.limit_bytes.store(bytes, Relaxed);
        self.fit_limit(eviction::RESERVE, now_seconds);
        true
    }

    /// Frees what has expired or was flushed, segment by segment, and gives back what memory the index
    /// has grown into. For a background thread, about once a second; takes the heap lock for one segment at a time.
    pub fn housekeep(&self, now_seconds: u32) {
        self.settle(now_seconds);
        let one = || {
            let mut log = self.log.lock();
            log.clear_limbo(self.segments());
            self.sweep(&mut log, now_seconds)
        };
        while one() {}
        self.give_back_excess();
    }

    /// What was counted since the store was made, and before that by those whose counts it goes on with.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// What items were worth that left.
    pub fn departures(&self) -> &Departures {
        &self.departures
    }

    /// Adds what the processes before this one have counted.
    pub fn add_counts(&self, before: &Counts) {
        self.counters.add(before);
    }

    /// Where the memory is. Walks the segments' states: microseconds, not nanoseconds.
    pub fn usage(&self) -> Usage {
        let sum = |count: fn(&State) -> u64| self.states.iter().map(count).sum();
        let (in_use, [probation_segments, main_segments]) = {
            let log = self.log.lock();
            let of = |chain: Chain| log.chains[chain as usize].segments;
            (log.in_use, [of(Chain::Probation), of(Chain::Main)])
        };
        Usage {
            items: sum(|state| u64::from(state.live_items.load(Relaxed))),
            item_bytes: sum(|state| state.live_bytes.load(Relaxed)),
            segment_bytes: u64::from(in_use) * self.geometry.segment_bytes,
            table_bytes: self.table_bytes(),
            dictionary_bytes: self.dictionaries.bytes(),
            dictionaries: self.dictionaries.numbers().count() as u64,
            limit_bytes: self.limit_bytes.load(Relaxed),
            probation_segments,
            main_segments,
            other_segments: in_use.saturating_sub(probation_segments + main_segments),
        }
    }

    /// Whether items may leave for others (`-M` absent).
    pub fn evicts(&self) -> bool {
        self.options.evict
    }

    /// The memory limit in force, in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes.load(Relaxed)
    }

    /// Largest item, header and key included.
    pub fn item_bytes_max(&self) -> u32 {
        self.options.item_bytes_max
    }

    /// Whether an item of these lengths may be stored.
    pub fn item_fits(&self, key_bytes: usize, value_bytes: usize) -> bool {
        item::footprint(key_bytes, value_bytes) <= self.options.item_bytes_max as usize
    }

    /// Whether a value of this length would be written into segments of its own, so that it can be
    /// written as it arrives.
    pub fn is_large(&self, key_bytes: usize, value_bytes: usize) -> bool {
        self.geometry
            .is_large(item::footprint(key_bytes, value_bytes))
    }

    fn segments(&self) -> Segments<'_> {
        Segments {
            heap: &self.heap,
            geometry: &self.geometry,
            states: &self.states,
        }
    }

    fn state_of(&self, item: &Header<'_>) -> &State {
        let segment = self.geometry.segment_of(item.position());
        &self.states[segment as usize]
    }

    fn chain_of(&self, item: &Header<'_>) -> Chain {
        let segment = self.geometry.segment_of(item.position());
        self.segments().header(segment).chain()
    }

    fn table_bytes(&self) -> u64 {
        self.table_bytes.load(Relaxed).max(0) as u64
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        // Without the length that a slice's `Hash` puts in front: the hasher adds it anyway.
        hasher.write(key);
        hasher.finish()
    }

    #[inline]
    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[(hash >> self.shard_shift) as usize]
    }

    fn lock(&self, hash: u64) -> LockedShard<'_> {
        LockedShard::new(self.shard(hash).write(), &self.table_bytes)
    }

    #[inline(always)]
    fn find<'s>(&'s self, shard: &Shard, hash: u64, key: &[u8]) -> Option<Header<'s>> {
        for position in shard.candidates(hash) {
            let item = Header::at(&self.heap, position);
            if item.key_bytes() == key.len() && item.key() == key {
                return Some(item);
            }
        }
        None
    }

    #[inline(always)]
    fn find_valid<'s>(
        &'s self,
        shard: &Shard,
        hash: u64,
        key: &[u8],
        now_seconds: u32,
    ) -> Result<Header<'s>, Miss> {
        match self.find(shard, hash, key) {
            Some(item) => self.validity(&item, now_seconds).map(|()| item),
            None => Err(Miss::Absent(self.gone(shard, hash, now_seconds))),
        }
    }

    /// How a key left that the index does not have.
    #[cold]
    fn gone(&self, shard: &Shard, hash: u64, now_seconds: u32) -> Option<Gone> {
        let known = shard.ghost.known(hash)?;
        let cause = known.cause(now_seconds);
        let shortfall = match known {
            Known::Used(departure) if cause == Cause::Evicted => {
                self.returns.shortfall(&departure, now_seconds)
            }
            _ => None,
        };
        Some(Gone { cause, shortfall })
    }

    #[inline]
    fn validity(&self, item: &Header<'_>, now_seconds: u32) -> Result<(), Miss> {
        if item.expired(now_seconds) {
            Err(Miss::Expired)
        } else if item.sequence() <= self.flush_sequence.load(Relaxed) {
            Err(Miss::Flushed)
        } else {
            Ok(())
        }
    }

    // Out of line, so that a look-up which copies what it finds is small.
    #[inline(never)]
    fn pin(&self, item: &Header<'_>) -> ItemRef<'_> {
        // Under the shard's lock, so the item is known and its segment cannot have become free;
        // whoever frees it later takes that lock first and then sees the pin.
        self.state_of(item).pins.fetch_add(1, Relaxed);
        ItemRef {
            store: self,
            segment: self.geometry.segment_of(item.position()),
            value_position: item.value_position(),
            // As wide as it is in the header.
            key_bytes: item.key_bytes() as u8,
            value_bytes: item.value_bytes(),
            client_flags: item.client_flags(),
            cas_unique: item.cas_unique(),
            packing: item.packing(),
            class: item.class(),
        }
    }

    /// Carries out a delayed flush that has come due.
    #[inline]
    fn settle(&self, now_seconds: u32) {
        // Acquire: who sees that no flush is pending also sees the sequence that the last one set.
        let flush_at = self.flush_at.load(Acquire);
        if flush_at != 0 && flush_at <= now_seconds {
            self.settle_flush(flush_at);
        }
    }

    #[cold]
    fn settle_flush(&self, flush_at: u32) {
        let _log = self.log.lock();
        if self.flush_at.load(Relaxed) == flush_at {
            self.flush_now();
            self.set_flush_at(0);
        }
    }

    fn flush_now(&self) {
        let sequence = self.next_sequence();
        Superblock::of(&self.heap).set_flush_sequence(sequence);
        self.flush_sequence.store(sequence, Relaxed);
    }

    fn set_flush_at(&self, second: u32) {
        Superblock::of(&self.heap).set_flush_at(second);
        self.flush_at.store(second, Release);
    }

    /// The next number in the order of all writes; also the CAS unique of what it numbers.
    fn next_sequence(&self) -> u64 {
        let sequence = self.sequence.fetch_add(1, Relaxed);
        Superblock::of(&self.heap).cover(sequence);
        sequence
    }
}

fn hasher(seed: Option<u64>) -> ahash::RandomState {
    match seed {
        None => ahash::RandomState::new(),
        Some(seed) => ahash::RandomState::with_seeds(seed, 1, 2, 3),
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Store")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
