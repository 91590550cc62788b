//! Floor 1: items in a bounded heap.
//!
//! Knows neither wire nor tokens nor tokio; the engine is its only caller. Items lie one after
//! another in the segments of a memory file (`heap`, `segment`, `item`), a sharded index leads to
//! them (`index`), two chains and a ghost decide what leaves (`eviction`, `ghost`), and another
//! process can read the whole of it (`recovery`). After Segcache (Yang, Yue, Rashmi, NSDI 2021), with
//! a probation chain and a ghost, which a simulation of token workloads asked for.
//!
//! # Locks
//!
//! One heap lock reserves room and moves segments; one short lock a shard protects the index and the
//! items it knows. The heap lock may be held when a shard's is taken, never the other way round. A
//! set copies its bytes under neither; a get holds its shard's lock, shared, while it finds the item
//! and pins its segment.
//!
//! # Invariants
//!
//! - the full key is compared on every lookup: a hash alone never serves a value;
//! - an expired, deleted or flushed item is never returned, also not by a process that takes over;
//! - segments in use, index and ghost together stay within the limit;
//! - the old copy of an item is marked dead before the new one is live: a crash may lose an item,
//!   never bring one back;
//! - a flush is ordered by write sequence: whole seconds cannot tell a set from the flush before it.

pub mod audit;
mod eviction;
mod ghost;
mod heap;
mod index;
mod item;
mod recovery;
mod segment;
mod superblock;
mod upload;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use heap::Heap;
use index::Shard;
use item::{Checksum, Header, Identity, Life};
use segment::{Chain, Geometry, Lane, Log, SegmentId, Segments, State};
use superblock::Superblock;

pub use item::{AT_ONCE, HEADER_BYTES, NEVER};
pub use recovery::Recovered;
pub use upload::Upload;

/// Smallest memory limit; memcached's `cache_memlimit` has the same.
pub const MEMORY_LIMIT_BYTES_MIN: u64 = 8 << 20;

/// What a store is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes for everything that grows with the items: segments, index and ghost together (`-m`).
    pub memory_limit_bytes: u64,
    /// How far [`Store::set_memory_limit`] can raise the limit: the size of the sparse memory file.
    pub memory_ceiling_bytes: u64,
    /// Largest item, header and key included (`-I`); at most half of the limit.
    pub item_bytes_max: u32,
    /// Make room by letting items leave. Without it (`-M`) a set that finds no room is refused.
    pub evict: bool,
}

impl Default for Options {
    /// 64 MiB, up to 1 GiB, items up to 1 MiB, evicting: memcached's defaults.
    fn default() -> Options {
        Options {
            memory_limit_bytes: 64 << 20,
            memory_ceiling_bytes: 1 << 30,
            item_bytes_max: 1 << 20,
            evict: true,
        }
    }
}

/// Why an item left: one word for each way, used by code, statistics and documentation alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its time was over.
    Expired = 0,
    /// Others needed the room.
    Evicted = 1,
    /// A client deleted it.
    Deleted = 2,
    /// A newer value of its key took its place.
    Replaced = 3,
    /// It was written before a `flush_all`.
    Flushed = 4,
    /// Its token was revoked.
    Revoked = 5,
}

impl Cause {
    /// All causes, in the order of their numbers.
    pub const ALL: [Cause; 6] = [
        Cause::Expired,
        Cause::Evicted,
        Cause::Deleted,
        Cause::Replaced,
        Cause::Flushed,
        Cause::Revoked,
    ];
}

/// One item's departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Why it left.
    pub cause: Cause,
    /// Whether it was read since it was written.
    pub fetched: bool,
}

/// Why a lookup found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The key is not known.
    Absent,
    /// Its time is over.
    Expired,
    /// It was written before a `flush_all`.
    Flushed,
}

/// When a put may store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// Only where the key is absent.
    Absent,
    /// Only where the key is present.
    Present,
    /// Only where the item has this CAS unique.
    Unique(u64),
}

/// A value to store.
#[derive(Clone, Copy)]
pub struct Put<'a> {
    /// 1 to 250 bytes.
    pub key: &'a [u8],
    /// The value's pieces in order.
    pub value: &'a [&'a [u8]],
    /// Opaque to the store.
    pub client_flags: u32,
    /// Seconds of `clock::Now`, [`NEVER`] or [`AT_ONCE`]; `None` keeps the present item's.
    pub expiry: Option<u32>,
    /// When to store.
    pub condition: Condition,
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, with this CAS unique.
    Stored(u64),
    /// The key was present or absent against the condition.
    NotStored,
    /// The item has another CAS unique.
    Exists,
    /// A CAS unique was asked for and there is no item.
    NotFound,
}

/// Why a put could not be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The item would exceed [`Options::item_bytes_max`].
    TooLarge,
    /// No room could be made.
    OutOfMemory,
}

/// Counters of the store's own work; the engine counts commands.
#[derive(Debug, Default)]
struct Counters {
    removed: [AtomicU64; Cause::ALL.len()],
    removed_unfetched: [AtomicU64; Cause::ALL.len()],
    stored: AtomicU64,
    overwritten: AtomicU64,
    moved: AtomicU64,
    moved_bytes: AtomicU64,
    returned: AtomicU64,
}

impl Counters {
    fn count(&self, removal: Removal) {
        let cause = removal.cause as usize;
        self.removed[cause].fetch_add(1, Relaxed);
        if !removal.fetched {
            self.removed_unfetched[cause].fetch_add(1, Relaxed);
        }
    }

    /// All counts at one moment.
    fn read(&self) -> Counts {
        let all = |counts: &[AtomicU64; Cause::ALL.len()]| {
            std::array::from_fn(|cause| counts[cause].load(Relaxed))
        };
        Counts {
            removed: all(&self.removed),
            removed_unfetched: all(&self.removed_unfetched),
            stored: self.stored.load(Relaxed),
            overwritten: self.overwritten.load(Relaxed),
            moved: self.moved.load(Relaxed),
            moved_bytes: self.moved_bytes.load(Relaxed),
            returned: self.returned.load(Relaxed),
        }
    }
}

/// What the store has counted at one moment, or the difference of two such moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    removed: [u64; Cause::ALL.len()],
    removed_unfetched: [u64; Cause::ALL.len()],
    /// Items stored, in place or not.
    pub stored: u64,
    /// Those that took the place of their older value.
    pub overwritten: u64,
    /// Items that an evacuation moved.
    pub moved: u64,
    /// Bytes of those.
    pub moved_bytes: u64,
    /// Keys that came back from the ghost.
    pub returned: u64,
}

impl Counts {
    /// Items that left for this cause.
    pub fn removed(&self, cause: Cause) -> u64 {
        self.removed[cause as usize]
    }

    /// Those of them that nobody had read.
    pub fn removed_unfetched(&self, cause: Cause) -> u64 {
        self.removed_unfetched[cause as usize]
    }

    /// What was counted since `zero`.
    pub fn since(&self, zero: &Counts) -> Counts {
        let difference = |now: &[u64; Cause::ALL.len()], then: &[u64; Cause::ALL.len()]| {
            std::array::from_fn(|cause| now[cause] - then[cause])
        };
        Counts {
            removed: difference(&self.removed, &zero.removed),
            removed_unfetched: difference(&self.removed_unfetched, &zero.removed_unfetched),
            stored: self.stored - zero.stored,
            overwritten: self.overwritten - zero.overwritten,
            moved: self.moved - zero.moved,
            moved_bytes: self.moved_bytes - zero.moved_bytes,
            returned: self.returned - zero.returned,
        }
    }
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
    /// Index and ghost.
    pub table_bytes: u64,
    /// The limit for the two above.
    pub limit_bytes: u64,
}

/// A bounded store of items, shared by all workers.
pub struct Store {
    heap: Heap,
    geometry: Geometry,
    states: Box<[State]>,
    shards: Box<[RwLock<Shard>]>,
    hasher: ahash::RandomState,
    log: Mutex<Log>,
    options: Options,
    limit_bytes: AtomicU64,
    /// Bytes of index and ghost; signed, since shards add and subtract in any order.
    table_bytes: AtomicI64,
    sequence: AtomicU64,
    /// Items up to this write sequence are flushed.
    flush_sequence: AtomicU64,
    /// The second at which a delayed flush comes due; 0 without one.
    flush_at: AtomicU32,
    /// The segment that is being emptied; [`eviction::NO_SEGMENT`] without one.
    evacuating: AtomicU32,
    /// Bytes of segments held by uploads that are under way.
    upload_bytes: AtomicU64,
    counters: Counters,
}

/// A found item: its value stays readable, and its segment unused by others, until this is dropped.
/// Hold it no longer than one send.
pub struct ItemRef<'s> {
    store: &'s Store,
    segment: SegmentId,
    value_position: u64,
    value_bytes: usize,
    client_flags: u32,
    cas_unique: u64,
}

impl Store {
    /// Makes an empty store. Takes memory only as items come.
    ///
    /// # Errors
    /// Those of making and mapping the memory file.
    pub fn new(options: &Options) -> io::Result<Store> {
        let ceiling = options.memory_ceiling_bytes;
        let geometry = Geometry::new(options.memory_limit_bytes, ceiling);
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
            hasher: ahash::RandomState::new(),
            log: Mutex::default(),
            options: options.clone(),
            limit_bytes: AtomicU64::new(options.memory_limit_bytes),
            table_bytes: AtomicI64::new(table_bytes as i64),
            sequence: AtomicU64::new(superblock.take_over_sequence()),
            flush_sequence: AtomicU64::new(superblock.flush_sequence()),
            flush_at: AtomicU32::new(superblock.flush_at()),
            evacuating: AtomicU32::new(eviction::NO_SEGMENT),
            upload_bytes: AtomicU64::new(0),
            counters: Counters::default(),
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
        self.settle(now_seconds);
        let hash = self.hash(key);
        let shard = self.shard(hash).read();
        let item = self.find_valid(&shard, hash, key, now_seconds)?;
        item.access(now_seconds, eviction::PROVES_AFTER_SECONDS);
        Ok(self.pin(&item))
    }

    /// The same without counting as a read.
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
        item.access(now_seconds, eviction::PROVES_AFTER_SECONDS);
        item.set_expiry(expiry);
        self.state_of(&item).expires(expiry);
        Ok(self.pin(&item))
    }

    /// Stores a value if the condition holds. Copies the bytes once, outside all locks, unless the
    /// value fits the room of the key's present item, which is then overwritten under the shard's
    /// lock. May let other items leave.
    ///
    /// # Errors
    /// Why it could not be tried; the present item stays as it is.
    pub fn put(&self, put: &Put<'_>, now_seconds: u32) -> Result<Outcome, Refusal> {
        let value_bytes = put.value.iter().map(|piece| piece.len()).sum();
        let write = Write::new(self, put, value_bytes, now_seconds);
        let target = match self.place(&write, put.value)? {
            Placement::Append(chain, lane) => (chain, lane),
            Placement::Done(outcome) => return Ok(outcome),
        };
        let mut upload = self.reserve(&write, target)?;
        for piece in put.value {
            upload.write(piece);
        }
        Ok(upload.publish(&write))
    }

    /// Removes an item; says whether there was one to return.
    pub fn delete(&self, key: &[u8], now_seconds: u32) -> bool {
        self.settle(now_seconds);
        let hash = self.hash(key);
        let mut shard = self.lock(hash);
        match self.find_valid(&shard, hash, key, now_seconds) {
            Ok(item) => {
                shard.remove(self, hash, &item, Cause::Deleted, now_seconds);
                true
            }
            Err(_) => false,
        }
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
        let ceiling = u64::from(self.geometry.segments) * self.geometry.segment_bytes;
        let floor = MEMORY_LIMIT_BYTES_MIN.max(2 * u64::from(self.options.item_bytes_max));
        if !(floor..=ceiling).contains(&bytes) {
            return false;
        }
        self.limit_bytes.store(bytes, Relaxed);
        self.fit_limit(eviction::RESERVE, now_seconds);
        true
    }

    /// Frees what has expired or was flushed, segment by segment. For a background thread, about
    /// once a second; takes the heap lock for one segment at a time.
    pub fn housekeep(&self, now_seconds: u32) {
        self.settle(now_seconds);
        let mut log = self.log.lock();
        log.clear_limbo(self.segments());
        self.sweep(&mut log, now_seconds);
    }

    /// What was counted since the store was made.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// Where the memory is. Walks the segments' states: microseconds, not nanoseconds.
    pub fn usage(&self) -> Usage {
        let sum = |count: fn(&State) -> u64| self.states.iter().map(count).sum();
        Usage {
            items: sum(|state| u64::from(state.live_items.load(Relaxed))),
            item_bytes: sum(|state| state.live_bytes.load(Relaxed)),
            segment_bytes: u64::from(self.log.lock().in_use) * self.geometry.segment_bytes,
            table_bytes: self.table_bytes(),
            limit_bytes: self.limit_bytes.load(Relaxed),
        }
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

    fn table_bytes(&self) -> u64 {
        self.table_bytes.load(Relaxed).max(0) as u64
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        let bits = self.shards.len().trailing_zeros();
        &self.shards[(hash >> (64 - bits)) as usize]
    }

    fn lock(&self, hash: u64) -> LockedShard<'_> {
        let shard = self.shard(hash).write();
        LockedShard {
            bytes_before: shard.bytes(),
            table_bytes: &self.table_bytes,
            shard,
        }
    }

    fn find<'s>(&'s self, shard: &Shard, hash: u64, key: &[u8]) -> Option<Header<'s>> {
        shard
            .candidates(hash)
            .map(|position| Header::at(&self.heap, position))
            .find(|item| item.key_bytes() == key.len() && item.key() == key)
    }

    fn find_valid<'s>(
        &'s self,
        shard: &Shard,
        hash: u64,
        key: &[u8],
        now_seconds: u32,
    ) -> Result<Header<'s>, Miss> {
        let item = self.find(shard, hash, key).ok_or(Miss::Absent)?;
        self.validity(&item, now_seconds).map(|()| item)
    }

    fn validity(&self, item: &Header<'_>, now_seconds: u32) -> Result<(), Miss> {
        if item.expired(now_seconds) {
            Err(Miss::Expired)
        } else if item.sequence() <= self.flush_sequence.load(Relaxed) {
            Err(Miss::Flushed)
        } else {
            Ok(())
        }
    }

    fn pin(&self, item: &Header<'_>) -> ItemRef<'_> {
        // Under the shard's lock, so the item is known and its segment cannot have become free;
        // whoever frees it later takes that lock first and then sees the pin.
        self.state_of(item).pins.fetch_add(1, Relaxed);
        ItemRef {
            store: self,
            segment: self.geometry.segment_of(item.position()),
            value_position: item.value_position(),
            value_bytes: item.value_bytes(),
            client_flags: item.client_flags(),
            cas_unique: item.cas_unique(),
        }
    }

    /// Carries out a delayed flush that has come due.
    fn settle(&self, now_seconds: u32) {
        // Acquire: who sees that no flush is pending also sees the sequence that the last one set.
        let flush_at = self.flush_at.load(Acquire);
        if flush_at != 0 && flush_at <= now_seconds {
            let _log = self.log.lock();
            if self.flush_at.load(Relaxed) == flush_at {
                self.flush_now();
                self.set_flush_at(0);
            }
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

    /// Decides where a put goes, and carries it out if that is the place of its older value.
    fn place(&self, write: &Write<'_>, value: &[&[u8]]) -> Result<Placement, Refusal> {
        if !self.item_fits(write.key.len(), write.value_bytes) {
            return Err(Refusal::TooLarge);
        }
        let mut shard = self.lock(write.hash);
        let present = self.present(&mut shard, write);
        if let Err(outcome) = write.meets_condition(present.as_ref()) {
            return Ok(Placement::Done(outcome));
        }
        let Some(item) = present else {
            let returned = shard.shard.ghost.take(write.hash);
            self.counters
                .returned
                .fetch_add(u64::from(returned), Relaxed);
            let chain = if returned {
                Chain::Main
            } else {
                Chain::Probation
            };
            return Ok(Placement::Append(
                chain,
                Lane::of(write.expiry.unwrap_or(NEVER)),
            ));
        };
        if self.may_overwrite(&item, write) {
            return Ok(Placement::Done(self.overwrite(&item, write, value)));
        }
        let segment = self.geometry.segment_of(item.position());
        let chain = self.segments().header(segment).chain();
        let lane = Lane::of(write.expiry.unwrap_or_else(|| item.expiry()));
        Ok(Placement::Append(chain, lane))
    }

    /// The valid item of the key; an invalid one is removed on the way.
    fn present<'s>(&'s self, shard: &mut LockedShard<'_>, write: &Write<'_>) -> Option<Header<'s>> {
        let item = self.find(&shard.shard, write.hash, write.key)?;
        let cause = match self.validity(&item, write.now_seconds) {
            Ok(()) => return Some(item),
            Err(Miss::Flushed) => Cause::Flushed,
            Err(_) => Cause::Expired,
        };
        shard.remove(self, write.hash, &item, cause, write.now_seconds);
        None
    }

    /// Whether the new value may take the old one's place: it fits, nobody reads it, and its
    /// segment is not about to be emptied. The caller holds the shard's lock.
    fn may_overwrite(&self, item: &Header<'_>, write: &Write<'_>) -> bool {
        const ROOM_BYTES_MAX: usize = 64 << 10;
        let footprint = item::footprint(item.key_bytes(), item.value_bytes());
        if self.geometry.is_large(footprint) || item.room() > ROOM_BYTES_MAX {
            return false;
        }
        let segment = self.geometry.segment_of(item.position());
        item::footprint(write.key.len(), write.value_bytes) <= item.room()
            // Acquire pairs with the release of the last reader's unpin.
            && self.state_of(item).pins.load(Acquire) == 0
            && !self.is_evacuating(segment)
    }

    fn overwrite(&self, item: &Header<'_>, write: &Write<'_>, value: &[&[u8]]) -> Outcome {
        let identity = write.identity(self.next_sequence());
        let mut checksum = Checksum::default();
        checksum.update(write.key);
        value.iter().for_each(|piece| checksum.update(piece));
        let checksum = checksum.finish(write.key.len(), write.value_bytes, &identity);
        let expiry = write.expiry.unwrap_or_else(|| item.expiry());
        item.set_life(Life::Writing);
        item.resize(write.value_bytes);
        let mut position = item.value_position();
        for piece in value {
            self.heap.write(position, piece);
            position += piece.len() as u64;
        }
        item.identify(identity, expiry, write.now_seconds, checksum);
        item.unmark();
        item.set_life(Life::Live);
        self.state_of(item).renew(expiry, identity.sequence);
        self.counters.stored.fetch_add(1, Relaxed);
        self.counters.overwritten.fetch_add(1, Relaxed);
        Outcome::Stored(identity.cas_unique)
    }
}

/// Where a put goes.
enum Placement {
    /// Into a chain's open segment.
    Append(Chain, Lane),
    /// It is done: overwritten in place, or its condition was not met.
    Done(Outcome),
}

/// One write, from its hash to its publication.
struct Write<'a> {
    key: &'a [u8],
    hash: u64,
    value_bytes: usize,
    client_flags: u32,
    expiry: Option<u32>,
    condition: Condition,
    now_seconds: u32,
}

impl<'a> Write<'a> {
    fn new(store: &Store, put: &Put<'a>, value_bytes: usize, now_seconds: u32) -> Write<'a> {
        store.settle(now_seconds);
        Write {
            key: put.key,
            hash: store.hash(put.key),
            value_bytes,
            client_flags: put.client_flags,
            expiry: put.expiry,
            condition: put.condition,
            now_seconds,
        }
    }

    fn identity(&self, sequence: u64) -> Identity {
        Identity {
            client_flags: self.client_flags,
            cas_unique: sequence,
            sequence,
            packing: 0,
        }
    }

    fn meets_condition(&self, present: Option<&Header<'_>>) -> Result<(), Outcome> {
        match (self.condition, present) {
            (Condition::Always, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => {
                Ok(())
            }
            (Condition::Absent, Some(_)) | (Condition::Present, None) => Err(Outcome::NotStored),
            (Condition::Unique(_), None) => Err(Outcome::NotFound),
            (Condition::Unique(unique), Some(item)) if item.cas_unique() == unique => Ok(()),
            (Condition::Unique(_), Some(_)) => Err(Outcome::Exists),
        }
    }
}

/// A shard under its exclusive lock, which keeps the account of the tables' bytes.
struct LockedShard<'s> {
    shard: RwLockWriteGuard<'s, Shard>,
    bytes_before: usize,
    table_bytes: &'s AtomicI64,
}

impl std::ops::Deref for LockedShard<'_> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl LockedShard<'_> {
    /// Takes an item out of the index: the one way by which items leave.
    fn remove(
        &mut self,
        store: &Store,
        hash: u64,
        item: &Header<'_>,
        cause: Cause,
        now_seconds: u32,
    ) {
        let known = self.shard.remove(hash, item.position());
        debug_assert!(known, "only items that the index knows are removed");
        item.set_life(Life::Dead);
        store
            .state_of(item)
            .subtract(store.segments().item_bytes(item));
        let removal = Removal {
            cause,
            fetched: item.fetched(),
        };
        let left_for_room = cause == Cause::Evicted;
        if left_for_room || (cause == Cause::Expired && removal.fetched) {
            let live_items = self.shard.items();
            self.shard
                .ghost
                .insert(hash, cause, now_seconds, live_items);
        }
        store.counters.count(removal);
    }
}

impl Drop for LockedShard<'_> {
    fn drop(&mut self) {
        let change = self.shard.bytes() as i64 - self.bytes_before as i64;
        if change != 0 {
            self.table_bytes.fetch_add(change, Relaxed);
        }
    }
}

impl ItemRef<'_> {
    /// Length of the value.
    pub fn len(&self) -> usize {
        self.value_bytes
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.value_bytes == 0
    }

    /// Opaque to the store.
    pub fn client_flags(&self) -> u32 {
        self.client_flags
    }

    /// What `cas` compares.
    pub fn cas_unique(&self) -> u64 {
        self.cas_unique
    }

    /// The longest contiguous piece of the value that begins at `offset`.
    pub fn piece(&self, offset: usize) -> &[u8] {
        let store = self.store;
        let (position, in_segment) = store.segments().value_piece(self.value_position, offset);
        let length = in_segment.min(self.value_bytes.saturating_sub(offset));
        store.heap.bytes(position, length)
    }
}

impl Drop for ItemRef<'_> {
    fn drop(&mut self) {
        let state = &self.store.states[self.segment as usize];
        // Release: what was read was read before the segment may be written again.
        state.pins.fetch_sub(1, Release);
    }
}

impl std::fmt::Debug for ItemRef<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ItemRef({} bytes)", self.value_bytes)
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
