//! Storage commands: how a value is taken in, packed, and stored.
//!
//! The engine's part for `set` and its kin, `append`, `incr` and theirs. What a client gave is packed
//! here if that pays, and what changes a value sees it as the client gave it.
//!
//! Invariants:
//! - a `set` that fails takes the old value with it, as in memcached: a client must not go on reading
//!   what it meant to replace;
//! - `append`, `prepend`, `incr` and `decr` are read, change, and store if the CAS unique is still the
//!   same, again until it is;
//! - `-I` bounds values as clients give them, whatever they are packed into.

use std::cell::RefCell;

use super::Engine;
use super::found::Found;
use crate::clock::{Now, Stopwatch};
use crate::packing;
use crate::protocol::command::{self, Direction, Key, Mode};
use crate::protocol::error::Error;
use crate::protocol::number;
use crate::protocol::reply::{Reply, Value};
use crate::stats::{Access, Counters};
use crate::store::{self, Condition, Outcome, Put, Refusal, Upload};

thread_local! {
    /// Where a value is packed on its way into the store.
    static ROOM: RefCell<packing::Room> = RefCell::default();
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

impl Engine {
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
        let is_small = !self.store.is_large(key.len(), value_bytes);
        if extends || is_small || self.may_pack(value_bytes) {
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
    ) -> Reply<'static, Found<'e>> {
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
            packing: store::Packing::NONE,
            client_flags: store.client_flags,
            expiry: Some(super::expiry(store.exptime, now)),
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

    pub(super) fn store<'e>(
        &'e self,
        store: &command::Store<'_>,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'static, Found<'e>> {
        self.stats.detail.count(store.key.0, Access::Set);
        if matches!(store.mode, Mode::Append | Mode::Prepend) {
            return self.extend(store, counters, now);
        }
        let value = [store.value.0];
        let put = self.put_of(store, &value, now);
        match self.put(&put, counters, now) {
            Ok(outcome) => stored(store.mode, outcome, counters),
            Err(refusal) => Reply::Error(self.refuse(store, refusal, counters, now)),
        }
    }

    /// Stores a value, packed if that pays. The packing is done here, under no lock.
    fn put(&self, put: &Put<'_>, counters: &Counters, now: Now) -> Result<store::Outcome, Refusal> {
        match *put.value {
            [value] if self.may_pack(value.len()) => {
                ROOM.with_borrow_mut(|room| self.put_packed(put, value, room, counters, now))
            }
            _ => self.store.put(put, now.seconds),
        }
    }

    fn put_packed(
        &self,
        put: &Put<'_>,
        value: &[u8],
        room: &mut packing::Room,
        counters: &Counters,
        now: Now,
    ) -> Result<store::Outcome, Refusal> {
        if !self.store.item_fits(put.key.len(), value.len()) {
            return Err(Refusal::TooLarge);
        }
        let watch = Stopwatch::start();
        let value = packing::Value {
            key: put.key,
            bytes: value,
            client_flags: put.client_flags,
        };
        let outcome = self.packing.pack(&value, now.seconds, room);
        if let Some(offer) = outcome.offer {
            self.adopt(&offer, now);
        }
        counters.pack_nanos.add(watch.nanos());
        let Some((how, bytes)) = outcome.packed else {
            return self.store.put(put, now.seconds);
        };
        let number = how.dictionary();
        let held = number.and_then(|number| self.store.hold_dictionary(number));
        let is_gone = number.is_some() && held.is_none();
        // A packed value is read in one piece, which one in segments of its own may not be.
        if is_gone || self.store.is_large(put.key.len(), bytes.len()) {
            return self.store.put(put, now.seconds);
        }
        counters.values_packed.add(1);
        counters.packed_from_bytes.add(value.bytes.len() as u64);
        counters.packed_into_bytes.add(bytes.len() as u64);
        let packed = Put {
            value: &[bytes],
            packing: how,
            ..*put
        };
        self.store.put(&packed, now.seconds)
    }

    /// Whether a value of this length is worth a look at what it would be packed.
    fn may_pack(&self, value_bytes: usize) -> bool {
        let worth = packing::VALUE_BYTES_MIN..=packing::VALUE_BYTES_MAX;
        self.options.packing && worth.contains(&value_bytes)
    }

    /// `append` and `prepend`: the old value with the new one behind or before it.
    fn extend<'e>(
        &'e self,
        store: &command::Store<'_>,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'static, Found<'e>> {
        let (key, added) = (store.key.0, store.value.0);
        if !self.store.item_fits(key.len(), added.len()) {
            return Reply::Error(self.refuse(store, Refusal::TooLarge, counters, now));
        }
        counters.cmd_set.add(1);
        loop {
            let Ok(item) = self.store.peek(key, now.seconds) else {
                return Reply::NotStored;
            };
            let old = Found::new(item, &self.packing, counters);
            if !self.store.item_fits(key.len(), old.len() + added.len()) {
                return Reply::NotStored;
            }
            let mut unpacked = Vec::new();
            let Some(mut pieces) = pieces_of(&old, &mut unpacked) else {
                self.note_unreadable(counters);
                return Reply::NotStored;
            };
            match store.mode {
                Mode::Prepend => pieces.insert(0, added),
                _ => pieces.push(added),
            }
            let joined = if self.may_pack(old.len() + added.len()) {
                pieces.concat()
            } else {
                Vec::new()
            };
            if !joined.is_empty() {
                pieces = vec![&joined];
            }
            let identity = (old.client_flags(), old.cas_unique());
            match self.put(&changed(key, identity, &pieces), counters, now) {
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

    pub(super) fn arithmetic<'e, 'b>(
        &'e self,
        key: Key<'b>,
        direction: Direction,
        delta: u64,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        let (hits, misses) = match direction {
            Direction::Up => (&counters.incr_hits, &counters.incr_misses),
            Direction::Down => (&counters.decr_hits, &counters.decr_misses),
        };
        loop {
            let Ok(item) = self.store.get(key.0, now.seconds) else {
                misses.add(1);
                return Reply::NotFound;
            };
            let old = Found::new(item, &self.packing, counters);
            let mut unpacked = Vec::new();
            let Some(pieces) = pieces_of(&old, &mut unpacked) else {
                self.note_unreadable(counters);
                misses.add(1);
                return Reply::NotFound;
            };
            let Some(value) = counter_of(&pieces) else {
                return Reply::Error(Error::NotNumeric);
            };
            let value = match direction {
                Direction::Up => value.wrapping_add(delta),
                Direction::Down => value.saturating_sub(delta),
            };
            // As in memcached, the value keeps its length: spaces take the place of lost digits.
            let digits = format!("{value:<width$}", width = old.len());
            let identity = (old.client_flags(), old.cas_unique());
            // Let go, so that the new number may be written in the old one's place.
            drop(old);
            let digits = [digits.as_bytes()];
            match self.put(&changed(key.0, identity, &digits), counters, now) {
                Ok(Outcome::Stored(_)) => {
                    hits.add(1);
                    return Reply::Number(value);
                }
                Ok(_) => {}
                Err(_) => return Reply::Error(Error::OutOfMemoryForDelta),
            }
        }
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
        packing: store::Packing::NONE,
        client_flags,
        expiry: None,
        condition: Condition::Unique(cas_unique),
    }
}

/// A found value as it came, in pieces; a packed one is unpacked for it. `None` if it is damaged.
fn pieces_of<'a>(found: &'a Found<'_>, unpacked: &'a mut Vec<u8>) -> Option<Vec<&'a [u8]>> {
    if !found.is_in_place() {
        found.append_to(unpacked).ok()?;
        return Some(vec![unpacked]);
    }
    let mut pieces = Vec::new();
    let mut offset = 0;
    while offset < found.len() {
        let piece = found.piece(offset);
        offset += piece.len();
        pieces.push(piece);
    }
    Some(pieces)
}

/// The number that an item holds. As in memcached, a value in several pieces is none.
fn counter_of(pieces: &[&[u8]]) -> Option<u64> {
    match pieces {
        [value] => number::counter(value),
        _ => None,
    }
}

fn stored<'e>(mode: Mode, outcome: Outcome, counters: &Counters) -> Reply<'static, Found<'e>> {
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
