//! Numbers: `incr`, `decr`, and `ma`.
//!
//! Invariant: a number is read, changed, and stored if the item is still the same, again until it is.

use super::Engine;
use super::found::Found;
use super::meta::{UNNOTICED, ttls_of};
use super::storing::{changed, pieces_of};
use super::telling::{Told, hit_of, missed, not_stored, op_of_arithmetic, stored};
use crate::clock::Now;
use crate::protocol::command::{Direction, Exptime, Key, Terms};
use crate::protocol::error::Error;
use crate::protocol::number;
use crate::protocol::reply::{Number, Reply, Value};
use crate::stats::Counters;
use crate::store::{self, Condition, Fetch, Marks, NEVER, Outcome, Put, Refusal, Seen};
use crate::token::class::Class;

/// A look-up that counts as a read, and asks for nothing else.
const NOTICED: Fetch = Fetch {
    unnoticed: false,
    ..UNNOTICED
};

impl Engine {
    /// `incr`, `decr` and `ma`
    #[inline(never)]
    pub(super) fn arithmetic<'e, 'b>(
        &'e self,
        key: Key<'b>,
        (direction, delta): (Direction, u64),
        terms: Option<&Terms>,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        counters.by_class.arithmetic(key.0);
        let mut told = not_stored(None, 0);
        let by = (direction, delta);
        let reply = self.count_up(key, by, (terms, &mut told), counters, now);
        self.tell(op_of_arithmetic(direction), key, told, counters, now);
        reply
    }

    /// Does it, and notes in `told` what came of it where that is more than that nothing was stored.
    fn count_up<'e, 'b>(
        &'e self,
        key: Key<'b>,
        (direction, delta): (Direction, u64),
        (terms, told): (Option<&Terms>, &mut Told),
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        let (hits, misses) = match direction {
            Direction::Up => (&counters.incr_hits, &counters.incr_misses),
            Direction::Down => (&counters.decr_hits, &counters.decr_misses),
        };
        loop {
            let (item, seen) = match self.store.fetch(key.0, &NOTICED, now.seconds) {
                Ok(found) => found,
                Err(miss) => {
                    if let Some((terms, exptime)) = vivified_by(terms) {
                        match self.vivify_number(key, exptime, (terms, told), now) {
                            Some(reply) => return reply,
                            // Another client was faster: its number is counted.
                            None => continue,
                        }
                    }
                    misses.add(1);
                    *told = missed(miss.cause());
                    return Reply::NotFound;
                }
            };
            let old = Found::new(item, &self.packing, counters);
            let mut unpacked = Vec::new();
            let Some(pieces) = pieces_of(&old, &mut unpacked) else {
                self.note_unreadable(counters);
                misses.add(1);
                return Reply::NotFound;
            };
            // As in memcached, a value without bytes or in several pieces is no number.
            let [digits] = pieces[..] else {
                return Reply::Error(Error::NotNumeric);
            };
            let asked = self.compared_unique(terms.and_then(|terms| terms.unique));
            if asked.is_some_and(|asked| asked != old.cas_unique()) {
                return Reply::Exists;
            }
            let Some(value) = number::counter(digits) else {
                return Reply::Error(Error::NotNumeric);
            };
            let value = match direction {
                Direction::Up => value.wrapping_add(delta),
                Direction::Down => value.saturating_sub(delta),
            };
            let touch = terms.and_then(|terms| terms.touch);
            let expiry = touch.map(|exptime| super::expiry(exptime, now));
            let found = hit_of(old.item(), expiry.unwrap_or(old.item().expiry()), now);
            let given = (terms.and_then(|terms| terms.new_unique), expiry);
            match self.put_number(key, value, (old, &seen), given, counters, now) {
                Ok(Outcome::Stored { cas_unique, .. }) => {
                    hits.add(1);
                    *told = found;
                    let number = self.number(value, cas_unique, seen.expiry, terms, now);
                    return Reply::Number(number);
                }
                Ok(_) => {}
                Err(_) => return Reply::Error(Error::OutOfMemoryForDelta),
            }
        }
    }

    /// Writes a number in the place of another, with another CAS unique and another expiry if they are given.
    fn put_number(
        &self,
        key: Key<'_>,
        value: u64,
        (old, seen): (Found<'_>, &Seen),
        (cas_unique, expiry): (Option<u64>, Option<u32>),
        counters: &Counters,
        now: Now,
    ) -> Result<Outcome, Refusal> {
        // As in memcached, the value keeps its length: spaces take the place of all that is lost.
        let mut digits = value.to_string().into_bytes();
        digits.resize(digits.len().max(old.len()), b' ');
        let digits = [&digits[..]];
        let put = changed(key.0, &old, seen, &digits);
        // memcached writes in place where it can, and what is noted of the item stays then.
        let marks = if digits[0].len() == old.len() {
            seen.marks
        } else {
            put.marks
        };
        // Let go, so that the new number may be written in the old one's place.
        drop(old);
        let put = Put {
            cas_unique,
            expiry,
            marks,
            ..put
        };
        self.put(&put, counters, now).map(|done| done.outcome)
    }

    /// Makes the number that `ma` did not find; `None` if it is there now.
    fn vivify_number<'e, 'b>(
        &'e self,
        key: Key<'b>,
        exptime: Exptime,
        (terms, told): (&Terms, &mut Told),
        now: Now,
    ) -> Option<Reply<'b, Found<'e>>> {
        let digits = terms.initial.to_string();
        let class = Class::of(key.0, digits.as_bytes());
        let last = match terms.touch {
            Some(touch) if terms.touch_after_vivify => touch,
            _ => exptime,
        };
        let expiry = super::expiry(last, now);
        let put = Put {
            key: key.0,
            value: &[digits.as_bytes()],
            packing: store::Packing::NONE,
            class: class as u8,
            client_flags: 0,
            expiry: Some(expiry),
            condition: Condition::Absent,
            cas_unique: terms.new_unique,
            marks: Marks {
                binary_key: terms.key_is_binary,
                ..Marks::default()
            },
        };
        match self
            .put_counted(&put, digits.len(), now)
            .map(|done| done.outcome)
        {
            Ok(Outcome::Stored { cas_unique, .. }) => {
                *told = stored(class, expiry, (digits.len(), digits.len()), now);
                Some(Reply::Number(Number {
                    ttls: ttls_of(NEVER, Some(exptime), terms, now),
                    ..self.number(terms.initial, cas_unique, NEVER, None, now)
                }))
            }
            Ok(_) => None,
            Err(_) => Some(Reply::Error(Error::OutOfMemoryForNumber)),
        }
    }

    fn number(
        &self,
        value: u64,
        unique: u64,
        expiry: u32,
        terms: Option<&Terms>,
        now: Now,
    ) -> Number {
        Number {
            value,
            cas_unique: self.shown_unique(unique),
            ttls: terms.map_or_else(Default::default, |terms| ttls_of(expiry, None, terms, now)),
        }
    }
}

fn vivified_by(terms: Option<&Terms>) -> Option<(&Terms, Exptime)> {
    terms.and_then(|terms| Some((terms, terms.vivify?)))
}
