//! Storing a value: the condition, the place, the bytes.
//!
//! [`Store::put`] looks the key up once to decide where the value goes. Over its older value, if there
//! is room and nobody is reading; else at the end of a chain, written by `upload` under no lock and
//! published after the condition was looked at again.
//!
//! Invariant: what a put keeps of an item (`append` and `incr` the expiry, a stale value also who was
//! told to make it anew) is taken from the item that is replaced, under the same lock.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::counts::Cause;
use super::departures::Removal;
use super::ghost::Known;
use super::item::{self, Checksum, Header, Identity, Life, Marks, NEVER};
use super::packing::Packing;
use super::returns::Departure;
use super::segment::{Chain, Lane};
use super::{LockedShard, Miss, Store};

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
    /// The same, or where the item has a higher one: the value is stale then, and keeps the item's
    /// expiry.
    UniqueOrStale(u64),
    /// Only where the item is still what was found.
    Unchanged {
        /// The found item's write sequence.
        sequence: u64,
        /// And its CAS unique, which may change without being written anew.
        cas_unique: u64,
    },
}

/// A value to store.
#[derive(Clone, Copy)]
pub struct Put<'a> {
    /// 1 to 250 bytes.
    pub key: &'a [u8],
    /// The value's pieces in order, as they are to lie in the heap.
    pub value: &'a [&'a [u8]],
    /// How the value is packed. Its dictionary is held by the caller until the put is done.
    pub packing: Packing,
    /// What the caller takes it for; below [`CLASSES`](super::CLASSES), opaque to the store.
    pub class: u8,
    /// Opaque to the store.
    pub client_flags: u32,
    /// Seconds of `clock::Now`, [`NEVER`] or [`item::AT_ONCE`]; `None` keeps the present item's.
    pub expiry: Option<u32>,
    /// When to store.
    pub condition: Condition,
    /// The CAS unique it is to have; `None` for one that no item has had.
    pub cas_unique: Option<u64>,
    /// What is noted of it from the start.
    pub marks: Marks,
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored.
    Stored {
        /// The item's CAS unique.
        cas_unique: u64,
        /// How the key left before, if it was not there and that is remembered.
        left: Option<Cause>,
    },
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
    /// The item would exceed [`Options::item_bytes_max`](super::Options::item_bytes_max).
    TooLarge,
    /// No room could be made.
    OutOfMemory,
}

impl Store {
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
            Placement::Append(target) => target,
            Placement::Done(outcome) => return Ok(outcome),
        };
        let mut upload = self.reserve(&write, target)?;
        for piece in put.value {
            upload.write(piece);
        }
        Ok(upload.publish(&write))
    }

    /// Decides where a put goes, and carries it out if that is the place of its older value.
    fn place(&self, write: &Write<'_>, value: &[&[u8]]) -> Result<Placement, Refusal> {
        if !self.item_fits(write.key.len(), write.value_bytes) {
            return Err(Refusal::TooLarge);
        }
        let mut shard = self.lock(write.hash);
        let present = self.present(&mut shard, write);
        let terms = match write.terms(present.as_ref()) {
            Ok(terms) => terms,
            Err(outcome) => return Ok(Placement::Done(outcome)),
        };
        if let Some(item) = &present
            && self.may_overwrite(item, write)
        {
            let outcome = self.overwrite(item, write, terms, value);
            return Ok(Placement::Done(outcome));
        }
        let target = self.target(write, present.as_ref(), terms, &mut shard);
        Ok(Placement::Append(target))
    }

    /// Decides where a value goes that has yet to arrive, and that is too large for the place of its older
    /// value; or what becomes of the put, if its condition is not met.
    pub(super) fn place_ahead(&self, write: &Write<'_>) -> Result<Target, Outcome> {
        let mut shard = self.lock(write.hash);
        let present = self.present(&mut shard, write);
        let terms = write.terms(present.as_ref())?;
        Ok(self.target(write, present.as_ref(), terms, &mut shard))
    }

    /// The chain of the present item, or the one that the ghost knows a missing one to deserve.
    fn target(
        &self,
        write: &Write<'_>,
        present: Option<&Header<'_>>,
        terms: Terms,
        shard: &mut LockedShard<'_>,
    ) -> Target {
        let lane = Lane::of(terms.expiry);
        if let Some(item) = present {
            let chain = self.chain_of(item);
            let left = None;
            return Target { chain, lane, left };
        }
        let known = shard.shard.ghost.take(write.hash);
        let returned = match &known {
            Some(Known::Used(departure)) => self.comes_back(write, departure),
            Some(Known::Noted(_)) | None => false,
        };
        self.counters
            .returned
            .fetch_add(u64::from(returned), Relaxed);
        Target {
            chain: match returned {
                true => Chain::Main,
                false => Chain::Probation,
            },
            lane,
            left: known.map(|known| known.cause(write.now_seconds)),
        }
    }

    /// Learns from a key that comes back, and says whether it goes to main.
    fn comes_back(&self, write: &Write<'_>, departure: &Departure) -> bool {
        let eviction = &self.options.eviction;
        let bytes = item::footprint(write.key.len(), write.value_bytes);
        let heap_bytes = self.limit_bytes.load(Relaxed);
        let segments = heap_bytes / self.geometry.segment_bytes;
        self.returns
            .learn(eviction, departure, bytes, (heap_bytes, segments));
        let idle_seconds = departure.idle_seconds(write.now_seconds);
        self.returns.would_have_stayed(eviction, idle_seconds)
    }

    /// The valid item of the key; an invalid one is removed on the way.
    pub(super) fn present<'s>(
        &'s self,
        shard: &mut LockedShard<'_>,
        write: &Write<'_>,
    ) -> Option<Header<'s>> {
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

    fn overwrite(
        &self,
        item: &Header<'_>,
        write: &Write<'_>,
        terms: Terms,
        value: &[&[u8]],
    ) -> Outcome {
        let identity = write.identity(self.next_sequence());
        let mut checksum = Checksum::default();
        checksum.update(write.key);
        value.iter().for_each(|piece| checksum.update(piece));
        let checksum = checksum.finish(write.key.len(), write.value_bytes, &identity);
        self.dictionaries.acquire(identity.packing);
        self.dictionaries.release(item.packing());
        let replaced = Removal::of(item, Cause::Replaced, write.now_seconds);
        self.departures.count(&replaced);
        item.set_life(Life::Writing);
        item.resize(write.value_bytes);
        let mut position = item.value_position();
        for piece in value {
            self.heap.write(position, piece);
            position += piece.len() as u64;
        }
        item.identify(identity, terms.expiry, write.now_seconds, checksum);
        item.set_marks(terms.marks);
        item.set_life(Life::Live);
        self.state_of(item).renew(terms.expiry, identity.sequence);
        self.counters.stored.fetch_add(1, Relaxed);
        self.counters.overwritten.fetch_add(1, Relaxed);
        Outcome::Stored {
            cas_unique: identity.cas_unique,
            left: None,
        }
    }
}

/// Where a put goes.
enum Placement {
    /// Behind the other items of a chain.
    Append(Target),
    /// It is done: overwritten in place, or its condition was not met.
    Done(Outcome),
}

/// Where an item is appended, and what is known of its key.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) chain: Chain,
    pub(super) lane: Lane,
    /// How the key left before.
    pub(super) left: Option<Cause>,
}

/// One write, from its hash to its publication.
pub(super) struct Write<'a> {
    pub(super) key: &'a [u8],
    pub(super) hash: u64,
    pub(super) value_bytes: usize,
    pub(super) client_flags: u32,
    pub(super) expiry: Option<u32>,
    pub(super) condition: Condition,
    pub(super) cas_unique: Option<u64>,
    pub(super) marks: Marks,
    pub(super) packing: Packing,
    pub(super) class: u8,
    pub(super) now_seconds: u32,
}

/// What a write that may store is stored with.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) expiry: u32,
    pub(super) marks: Marks,
}

impl<'a> Write<'a> {
    pub(super) fn new(
        store: &Store,
        put: &Put<'a>,
        value_bytes: usize,
        now_seconds: u32,
    ) -> Write<'a> {
        store.settle(now_seconds);
        Write {
            key: put.key,
            hash: store.hash(put.key),
            value_bytes,
            client_flags: put.client_flags,
            expiry: put.expiry,
            condition: put.condition,
            cas_unique: put.cas_unique,
            marks: put.marks,
            packing: put.packing,
            class: put.class,
            now_seconds,
        }
    }

    pub(super) fn identity(&self, sequence: u64) -> Identity {
        Identity {
            client_flags: self.client_flags,
            cas_unique: self.cas_unique.unwrap_or(sequence),
            sequence,
            packing: self.packing,
            class: self.class,
        }
    }

    /// Whether the condition holds, and what it is stored with then.
    pub(super) fn terms(&self, present: Option<&Header<'_>>) -> Result<Terms, Outcome> {
        let Some(item) = present else {
            return match self.condition {
                Condition::Always | Condition::Absent => Ok(Terms {
                    expiry: self.expiry.unwrap_or(NEVER),
                    marks: self.marks,
                }),
                Condition::Present => Err(Outcome::NotStored),
                Condition::Unique(_)
                | Condition::UniqueOrStale(_)
                | Condition::Unchanged { .. } => Err(Outcome::NotFound),
            };
        };
        let fresh = Terms {
            expiry: self.expiry.unwrap_or_else(|| item.expiry()),
            marks: self.marks,
        };
        match self.condition {
            Condition::Always | Condition::Present => Ok(fresh),
            Condition::Absent => Err(Outcome::NotStored),
            Condition::Unique(unique) | Condition::UniqueOrStale(unique)
                if item.cas_unique() == unique =>
            {
                Ok(fresh)
            }
            Condition::UniqueOrStale(unique) if item.cas_unique() > unique => Ok(Terms {
                expiry: item.expiry(),
                marks: Marks {
                    stale: true,
                    token_sent: item.marks().token_sent,
                    ..self.marks
                },
            }),
            Condition::Unchanged {
                sequence,
                cas_unique,
            } if (item.sequence(), item.cas_unique()) == (sequence, cas_unique) => Ok(fresh),
            Condition::Unique(_) | Condition::UniqueOrStale(_) | Condition::Unchanged { .. } => {
                Err(Outcome::Exists)
            }
        }
    }
}
