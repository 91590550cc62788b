//! Storage commands: how a value is taken in, packed, and stored.
//!
//! The engine's part for `set` and its kin, `append` and theirs; `arithmetic` has the numbers. What a client gave is packed
//! here if that pays, and what changes a value sees it as the client gave it.
//!
//! Invariants:
//! - a `set` that fails takes the old value with it, as in memcached: a client must not go on reading
//!   what it meant to replace; an `ms` does so in every mode;
//! - `append`, `prepend` and their like in meta are read, change, and store if the item is
//!   still the same, again until it is;
//! - `-I` bounds values as clients give them, whatever they are packed into.

use std::cell::RefCell;

use super::Engine;
use super::found::Found;
use super::meta::UNNOTICED;
use super::telling::{Told, not_stored, op_of_store, stored};
use crate::clock::{Now, Stopwatch};
use crate::packing;
use crate::protocol::command::{self, Mode};
use crate::protocol::error::Error;
use crate::protocol::reply::{Reply, Stored, Value};
use crate::stats::{Access, Counters};
use crate::store::{self, Arriving, Condition, Marks, NEVER, Outcome, Put, Refusal, Seen};
use crate::token::class::Class;

thread_local! {
    /// Where a value is packed on its way into the store.
    static ROOM: RefCell<packing::Room> = RefCell::default();
}

/// What to do with a storage command whose value has not arrived.
pub enum Begin<'e> {
    /// Collect the value, then execute the command.
    Buffer,
    /// Write the value as it arrives, then [`Engine::finish_store`].
    Stream(Arriving<'e>),
    /// Answer this and skip the value.
    Refuse(Error),
}

/// What became of a put.
pub(super) struct Done {
    pub(super) outcome: Outcome,
    /// Length of the value as it was to be stored.
    pub(super) stored_bytes: usize,
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
        let put = self.put_of(store, &[], now);
        match self.store.begin_upload(&put, value_bytes, now.seconds) {
            Ok(arriving) => Begin::Stream(arriving),
            Err(refusal) => Begin::Refuse(self.refuse(store, value_bytes, refusal, counters, now)),
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
        too_large.then(|| self.refuse(store, value_bytes, Refusal::TooLarge, counters, now))
    }

    /// Carries a storage command out whose value was written as it arrived.
    pub fn finish_store<'e>(
        &'e self,
        arriving: Arriving<'e>,
        store: &command::Store<'_>,
        counters: &Counters,
        now: Now,
    ) -> Reply<'static, Found<'e>> {
        self.count_by_prefix(store);
        let put = self.put_of(store, &[], now);
        let value_bytes = arriving.value_bytes();
        let outcome = arriving.finish(&put, now.seconds);
        let done = Done {
            outcome,
            stored_bytes: value_bytes,
        };
        self.count_set(&put, value_bytes, outcome, counters);
        self.count_lengths(&done, value_bytes);
        self.tell_set(store, &put, (value_bytes, &done), counters, now);
        self.stored(store.mode, outcome, counters)
    }

    /// Refuses a storage command for lack of memory for its value.
    pub fn refuse_for_memory(
        &self,
        store: &command::Store<'_>,
        value_bytes: usize,
        counters: &Counters,
        now: Now,
    ) -> Error {
        self.refuse(store, value_bytes, Refusal::OutOfMemory, counters, now)
    }

    fn refuse(
        &self,
        store: &command::Store<'_>,
        value_bytes: usize,
        refusal: Refusal,
        counters: &Counters,
        now: Now,
    ) -> Error {
        let told = not_stored(None, value_bytes);
        self.tell(op_of_store(store.mode), store.key, told, counters, now);
        self.fail(store, refusal, counters, now)
    }

    fn fail(
        &self,
        store: &command::Store<'_>,
        refusal: Refusal,
        counters: &Counters,
        now: Now,
    ) -> Error {
        let drops_old = store.terms.is_some_and(|terms| terms.drops_old);
        if store.mode == Mode::Set || drops_old {
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
        let takes_stale = store.terms.is_some_and(|terms| terms.invalidate);
        Put {
            key: store.key.0,
            value,
            packing: store::Packing::NONE,
            // Of a value that is still arriving its key alone tells.
            class: Class::of(store.key.0, store.value.0) as u8,
            client_flags: store.client_flags,
            expiry: Some(super::expiry(store.exptime, now)),
            condition: match store.mode {
                Mode::Set => Condition::Always,
                // Where there was nothing to extend; whoever was faster is extended instead.
                Mode::Add | Mode::Append | Mode::Prepend => Condition::Absent,
                Mode::Replace => Condition::Present,
                Mode::Cas(unique) if self.options.cas && takes_stale && unique != 0 => {
                    Condition::UniqueOrStale(unique)
                }
                Mode::Cas(unique) if self.options.cas => Condition::Unique(unique),
                // All items show 0, so only 0 can be theirs.
                Mode::Cas(0) => Condition::Present,
                Mode::Cas(_) => Condition::Unique(u64::MAX),
            },
            cas_unique: new_unique(store),
            marks: Marks {
                binary_key: store.terms.is_some_and(|terms| terms.key_is_binary),
                ..Marks::default()
            },
        }
    }

    /// As in memcached, meta commands are not counted by key prefix.
    fn count_by_prefix(&self, store: &command::Store<'_>) {
        if !store.terms.is_some_and(|terms| terms.by_meta) {
            self.stats.detail.count(store.key.0, Access::Set);
        }
    }

    #[inline(never)]
    pub(super) fn store<'e>(
        &'e self,
        store: &command::Store<'_>,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'static, Found<'e>> {
        self.count_by_prefix(store);
        if matches!(store.mode, Mode::Append | Mode::Prepend) {
            return self.extend(store, counters, now);
        }
        let value = [store.value.0];
        let value_bytes = store.value.0.len();
        let put = self.put_of(store, &value, now);
        match self.put(&put, counters, now) {
            Ok(done) => {
                self.count_set(&put, value_bytes, done.outcome, counters);
                self.tell_set(store, &put, (value_bytes, &done), counters, now);
                self.stored(store.mode, done.outcome, counters)
            }
            Err(refusal) => Reply::Error(self.refuse(store, value_bytes, refusal, counters, now)),
        }
    }

    /// Tells of a put that was tried.
    fn tell_set(
        &self,
        store: &command::Store<'_>,
        put: &Put<'_>,
        (value_bytes, done): (usize, &Done),
        counters: &Counters,
        now: Now,
    ) {
        let class = Class::from_number(put.class);
        let told = match done.outcome {
            Outcome::Stored { .. } => {
                let lengths = (value_bytes, done.stored_bytes);
                // As it was asked for: a value that comes too late for `ms` with `I` keeps the item's.
                stored(class, put.expiry.unwrap_or(NEVER), lengths, now)
            }
            _ => not_stored(Some(class), value_bytes),
        };
        self.tell(op_of_store(store.mode), store.key, told, counters, now);
    }

    /// Counts a storage command that was tried, by class.
    fn count_set(&self, put: &Put<'_>, value_bytes: usize, outcome: Outcome, counters: &Counters) {
        let class = Class::from_number(put.class);
        counters.by_class.set(class, value_bytes);
        if let Outcome::Stored { left, .. } = outcome {
            counters.by_class.stored(class, left);
        }
    }

    /// Stores a value, packed if that pays. The packing is done here, under no lock.
    pub(super) fn put(
        &self,
        put: &Put<'_>,
        counters: &Counters,
        now: Now,
    ) -> Result<Done, Refusal> {
        match *put.value {
            [value] if self.may_pack(value.len()) => {
                ROOM.with_borrow_mut(|room| self.put_packed(put, value, room, counters, now))
            }
            _ => self.put_counted(put, lengths(put.value), now),
        }
    }

    /// Stores what stands for a value of so many bytes.
    pub(super) fn put_counted(
        &self,
        put: &Put<'_>,
        value_bytes: usize,
        now: Now,
    ) -> Result<Done, Refusal> {
        let done = Done {
            outcome: self.store.put(put, now.seconds)?,
            stored_bytes: lengths(put.value),
        };
        self.count_lengths(&done, value_bytes);
        Ok(done)
    }

    fn count_lengths(&self, done: &Done, value_bytes: usize) {
        if let Outcome::Stored { .. } = done.outcome {
            let histograms = &self.stats.histograms;
            histograms.item_bytes.count(value_bytes as u64);
            histograms.packed_bytes.count(done.stored_bytes as u64);
        }
    }

    fn put_packed(
        &self,
        put: &Put<'_>,
        value: &[u8],
        room: &mut packing::Room,
        counters: &Counters,
        now: Now,
    ) -> Result<Done, Refusal> {
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
        let value_bytes = value.bytes.len();
        let Some((how, bytes)) = outcome.packed else {
            return self.put_counted(put, value_bytes, now);
        };
        let number = how.dictionary();
        let held = number.and_then(|number| self.store.hold_dictionary(number));
        let is_gone = number.is_some() && held.is_none();
        // A packed value is read in one piece, which one in segments of its own may not be.
        if is_gone || self.store.is_large(put.key.len(), bytes.len()) {
            return self.put_counted(put, value_bytes, now);
        }
        counters.values_packed.add(1);
        counters.packed_from_bytes.add(value_bytes as u64);
        counters.packed_into_bytes.add(bytes.len() as u64);
        let packed = Put {
            value: &[bytes],
            packing: how,
            ..*put
        };
        self.put_counted(&packed, value_bytes, now)
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
        let added = store.value.0;
        if !self.store.item_fits(store.key.0.len(), added.len()) {
            let refusal = Refusal::TooLarge;
            return Reply::Error(self.refuse(store, added.len(), refusal, counters, now));
        }
        counters.cmd_set.add(1);
        let class = Class::of(store.key.0, added);
        counters.by_class.set(class, added.len());
        let mut told = not_stored(Some(class), added.len());
        let reply = self.join(store, (class, &mut told), counters, now);
        self.tell(op_of_store(store.mode), store.key, told, counters, now);
        reply
    }

    /// Does it, and notes in `told` what came of it where that is more than that nothing was stored.
    fn join<'e>(
        &'e self,
        store: &command::Store<'_>,
        (class, told): (Class, &mut Told),
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'static, Found<'e>> {
        let (key, added) = (store.key.0, store.value.0);
        loop {
            let Ok((item, seen)) = self.store.fetch(key, &UNNOTICED, now.seconds) else {
                match self.vivify_extended(store, (class, told), counters, now) {
                    Some(reply) => return reply,
                    // Another client was faster: its item is extended.
                    None => continue,
                }
            };
            let old = Found::new(item, &self.packing, counters);
            if !self.may_extend(store, old.cas_unique()) {
                return Reply::Exists;
            }
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
            let length = lengths(&pieces);
            let put = Put {
                cas_unique: new_unique(store),
                ..changed(key, &old, &seen, &pieces)
            };
            match self.put(&put, counters, now) {
                Ok(Done {
                    outcome: Outcome::Stored { cas_unique, .. },
                    stored_bytes,
                }) => {
                    *told = stored(class, seen.expiry, (length, stored_bytes), now);
                    return Reply::Stored(Stored {
                        cas_unique: self.shown_unique(cas_unique),
                        value_bytes: Some(length),
                    });
                }
                Ok(_) => {}
                Err(Refusal::TooLarge) => return Reply::NotStored,
                Err(Refusal::OutOfMemory) => {
                    counters.store_no_memory.add(1);
                    return Reply::Error(Error::OutOfMemory);
                }
            }
        }
    }

    /// Whether the item has the CAS unique that `ms` asks for; 0 asks for none.
    fn may_extend(&self, store: &command::Store<'_>, unique: u64) -> bool {
        let asked = store.terms.and_then(|terms| terms.unique);
        match asked.filter(|&asked| asked != 0) {
            Some(asked) => self.options.cas && asked == unique,
            None => true,
        }
    }

    /// Stores what was to extend a missing item, where `ms` says so; `None` if it is there now.
    fn vivify_extended<'e>(
        &'e self,
        store: &command::Store<'_>,
        (class, told): (Class, &mut Told),
        counters: &Counters,
        now: Now,
    ) -> Option<Reply<'static, Found<'e>>> {
        let Some(exptime) = store.terms.and_then(|terms| terms.vivify) else {
            return Some(Reply::NotStored);
        };
        let store = command::Store { exptime, ..*store };
        let value = [store.value.0];
        match self.put(&self.put_of(&store, &value, now), counters, now) {
            Ok(Done {
                outcome: Outcome::Stored { cas_unique, .. },
                stored_bytes,
            }) => {
                let lengths = (store.value.0.len(), stored_bytes);
                *told = stored(class, super::expiry(exptime, now), lengths, now);
                Some(Reply::Stored(Stored {
                    cas_unique: self.shown_unique(cas_unique),
                    value_bytes: None,
                }))
            }
            Ok(_) => None,
            Err(refusal) => Some(Reply::Error(self.fail(&store, refusal, counters, now))),
        }
    }

    fn stored<'e>(
        &'e self,
        mode: Mode,
        outcome: Outcome,
        counters: &Counters,
    ) -> Reply<'static, Found<'e>> {
        counters.cmd_set.add(1);
        if let Mode::Cas(_) = mode {
            match outcome {
                Outcome::Stored { .. } => counters.cas_hits.add(1),
                Outcome::Exists | Outcome::NotStored => counters.cas_badval.add(1),
                Outcome::NotFound => counters.cas_misses.add(1),
            }
        }
        match outcome {
            Outcome::Stored { cas_unique, .. } => Reply::Stored(Stored {
                cas_unique: self.shown_unique(cas_unique),
                value_bytes: None,
            }),
            Outcome::NotStored => Reply::NotStored,
            Outcome::Exists => Reply::Exists,
            Outcome::NotFound => Reply::NotFound,
        }
    }
}

/// The CAS unique that `ms` asks for; as in memcached, 0 asks for none.
fn new_unique(store: &command::Store<'_>) -> Option<u64> {
    let asked = store.terms.and_then(|terms| terms.new_unique);
    asked.filter(|&unique| unique != 0)
}

/// A put that changes an item's value and nothing else about it.
pub(super) fn changed<'a>(
    key: &'a [u8],
    old: &Found<'_>,
    seen: &Seen,
    value: &'a [&'a [u8]],
) -> Put<'a> {
    Put {
        key,
        value,
        packing: store::Packing::NONE,
        class: old.class() as u8,
        client_flags: old.client_flags(),
        expiry: None,
        condition: Condition::Unchanged {
            sequence: seen.sequence,
            cas_unique: old.cas_unique(),
        },
        cas_unique: None,
        marks: Marks {
            binary_key: seen.marks.binary_key,
            ..Marks::default()
        },
    }
}

/// Bytes of all pieces.
fn lengths(pieces: &[&[u8]]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

/// A found value as it came, in pieces; a packed one is unpacked for it. `None` if it is damaged.
pub(super) fn pieces_of<'a>(
    found: &'a Found<'_>,
    unpacked: &'a mut Vec<u8>,
) -> Option<Vec<&'a [u8]>> {
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
