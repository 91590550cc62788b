//! What is told of each command to those who watch ([`Events`](crate::stats::events::Events)).
//!
//! Called where a command is counted by class, once for each, and where one is refused. What is about no item, `me`, and
//! what never gets here (of a client that may only read, a value without its end) is not told.
//!
//! Invariant: while nobody watches, a hit pays for one load and a branch.

use super::Engine;
use super::found::value_bytes;
use super::meta::ttl;
use crate::clock::Now;
use crate::protocol::command::{Direction, Key, Mode, Terms};
use crate::stats::Counters;
use crate::stats::by_class::MissCause;
use crate::stats::events::{Event, Op, Outcome};
use crate::store::{Cause, ItemRef};
use crate::token::class::Class;

/// What is told of a key; without a class, it is that which the key tells.
pub(super) type Told = (Option<Class>, Outcome);

impl Engine {
    /// Tells of an item that was found.
    #[inline(always)]
    pub(super) fn tell_hit(
        &self,
        op: Op,
        key: Key<'_>,
        item: &ItemRef<'_>,
        counters: &Counters,
        now: Now,
    ) {
        if self.stats.events.is_on() {
            self.tell_found(op, key, item, counters, now);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_found(&self, op: Op, key: Key<'_>, item: &ItemRef<'_>, counters: &Counters, now: Now) {
        let told = hit_of(item, item.expiry(), now);
        self.tell_watchers(op, key, told, counters, now);
    }

    /// Tells of a key that was looked up and is not there.
    pub(super) fn tell_miss(
        &self,
        op: Op,
        key: Key<'_>,
        cause: Option<Cause>,
        counters: &Counters,
        now: Now,
    ) {
        self.tell(op, key, missed(cause), counters, now);
    }

    /// Tells of any command.
    #[inline]
    pub(super) fn tell(&self, op: Op, key: Key<'_>, told: Told, counters: &Counters, now: Now) {
        if self.stats.events.is_on() {
            self.tell_watchers(op, key, told, counters, now);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_watchers(&self, op: Op, key: Key<'_>, told: Told, counters: &Counters, now: Now) {
        let (class, outcome) = told;
        let class = class.unwrap_or_else(|| counters.by_class.of_missing(key.0));
        let event = Event::new(op, counters.service, class, outcome);
        self.stats.events.tell(key.0, event, now);
    }
}

/// How a look-up by `mg` is told.
pub(super) fn op_of_fetch(terms: &Terms) -> Op {
    match terms.touch {
        Some(_) => Op::Gat,
        None => Op::Get,
    }
}

/// How an `md` is told.
pub(super) fn op_of_delete(terms: &Terms) -> Op {
    match terms.invalidate {
        true => Op::Invalidate,
        false => Op::Delete,
    }
}

/// How a storage command is told.
pub(super) fn op_of_store(mode: Mode) -> Op {
    match mode {
        Mode::Set => Op::Set,
        Mode::Add => Op::Add,
        Mode::Replace => Op::Replace,
        Mode::Append => Op::Append,
        Mode::Prepend => Op::Prepend,
        Mode::Cas(_) => Op::Cas,
    }
}

/// How an `incr`, a `decr` or an `ma` is told.
pub(super) fn op_of_arithmetic(direction: Direction) -> Op {
    match direction {
        Direction::Up => Op::Incr,
        Direction::Down => Op::Decr,
    }
}

/// What is told of an item that was found, and now has this expiry.
pub(super) fn hit_of(item: &ItemRef<'_>, expiry: u32, now: Now) -> Told {
    let outcome = Outcome::Hit {
        age_seconds: now.seconds.saturating_sub(item.written_at()),
        ttl_seconds: ttl(expiry, now),
        value_bytes: value_bytes(item) as u64,
        stored_bytes: item.len() as u64,
    };
    (Some(Class::from_number(item.class())), outcome)
}

/// What is told of a key that is not there.
pub(super) fn missed(cause: Option<Cause>) -> Told {
    let cause = MissCause::of(cause);
    (None, Outcome::Miss { cause })
}

/// What is told of a value of `lengths` bytes, as clients see it and as it is stored.
pub(super) fn stored(class: Class, expiry: u32, lengths: (usize, usize), now: Now) -> Told {
    let (value_bytes, stored_bytes) = lengths;
    let outcome = Outcome::Stored {
        ttl_seconds: ttl(expiry, now),
        value_bytes: value_bytes as u64,
        stored_bytes: stored_bytes as u64,
    };
    (Some(class), outcome)
}

/// What is told of a value of so many bytes that was not stored.
pub(super) fn not_stored(class: Option<Class>, value_bytes: usize) -> Told {
    let value_bytes = value_bytes as u64;
    (class, Outcome::NotStored { value_bytes })
}
