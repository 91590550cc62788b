//! What meta commands ask beyond the classic ones: items made on a miss, stale items, and the one client
//! that is told to make an item anew.
//!
//! The engine's part for `mg`, `md` and `me`; `ms` and `ma` are storage commands, in `storing`. As in
//! memcached, meta commands are not counted by key prefix (`stats detail`).
//!
//! Invariant: of all clients that miss an item and offer to make it, one is told to.

use super::Engine;
use super::expiry;
use super::found::Found;
use super::telling::{not_stored, op_of_delete, op_of_fetch};
use crate::clock::Now;
use crate::protocol::command::{Exptime, Key, Terms};
use crate::protocol::error::Error;
use crate::protocol::reply::{Facts, Reply, State, Ttl, Ttls};
use crate::stats::{Access, Counters, events};
use crate::store::{
    self, AT_ONCE, Condition, Fetch, Invalidation, Marks, NEVER, Outcome, Put, Seen, Unmet,
};
use crate::token::class::Class;

impl Engine {
    /// `mg`
    #[inline(never)]
    pub(super) fn fetch<'e, 'b>(
        &'e self,
        key: Key<'b>,
        terms: &Terms,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        let fetch = Fetch {
            expiry: terms.touch.map(|exptime| expiry(exptime, now)),
            recache_before: terms.recache.map(|exptime| expiry(exptime, now)),
            recache_after_touch: terms.touch_before_recache,
            unnoticed: terms.unnoticed,
            only_reads: terms.only_reads,
        };
        let op = op_of_fetch(terms);
        loop {
            match self.store.fetch(key.0, &fetch, now.seconds) {
                Ok((item, seen)) => {
                    count_found(terms, counters);
                    let state = state_of(&seen, terms, now);
                    self.tell_hit(op, key, &item, counters, now);
                    return Reply::Fetched(self.hit(key, item, counters), state);
                }
                Err(miss) => {
                    if let Some(exptime) = terms.vivify {
                        match self.vivify(key, exptime, terms, now) {
                            Some(Outcome::Stored { cas_unique, .. }) => {
                                count_found(terms, counters);
                                // Its client has to make it.
                                counters.by_class.miss(key.0, miss);
                                self.tell_miss(op, key, miss.cause(), counters, now);
                                return self.vivified(cas_unique, exptime, terms, now);
                            }
                            // Another client was faster: this one finds its item.
                            Some(_) => continue,
                            None => {}
                        }
                    }
                    self.count_miss(key, miss, counters);
                    self.tell_miss(op, key, miss.cause(), counters, now);
                    return Reply::Miss;
                }
            }
        }
    }

    /// Makes an empty item where there is none; `None` if there is no room for it.
    fn vivify(&self, key: Key<'_>, exptime: Exptime, terms: &Terms, now: Now) -> Option<Outcome> {
        let last = match terms.touch {
            Some(touch) if terms.touch_after_vivify => touch,
            _ => exptime,
        };
        let put = Put {
            key: key.0,
            value: &[],
            packing: store::Packing::NONE,
            class: Class::of(key.0, b"") as u8,
            client_flags: 0,
            expiry: Some(expiry(last, now)),
            condition: Condition::Absent,
            cas_unique: terms.new_unique,
            marks: Marks {
                fetched: !terms.unnoticed,
                stale: false,
                token_sent: true,
                binary_key: terms.key_is_binary,
            },
        };
        self.store.put(&put, now.seconds).ok()
    }

    fn vivified<'e, 'b>(
        &'e self,
        cas_unique: u64,
        exptime: Exptime,
        terms: &Terms,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        let state = State {
            ttls: ttls_of(NEVER, Some(exptime), terms, now),
            idle_seconds: 0,
            fetched: false,
            stale: false,
            token_sent: false,
            won: true,
            key_is_binary: terms.key_is_binary,
        };
        Reply::Vivified(self.shown_unique(cas_unique), state)
    }

    /// `md`
    #[inline(never)]
    pub(super) fn meta_delete<'e, 'b>(
        &'e self,
        key: Key<'b>,
        terms: &Terms,
        counters: &'e Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        if !terms.by_meta {
            self.stats.detail.count(key.0, Access::Delete);
        }
        counters.by_class.delete(key.0);
        let op = op_of_delete(terms);
        let unique = self.compared_unique(terms.unique);
        let done = if terms.drop_value {
            match self.drop_value(key, unique, terms, now) {
                Some(done) => done,
                None => {
                    self.tell(op, key, not_stored(None, 0), counters, now);
                    return Reply::Error(Error::OutOfMemoryForDelta);
                }
            }
        } else if terms.invalidate {
            let invalidation = Invalidation {
                unique,
                expiry: terms.touch.map(|exptime| expiry(exptime, now)),
                cas_unique: terms.new_unique,
            };
            self.store.invalidate(key.0, &invalidation, now.seconds)
        } else {
            self.store.delete_if(key.0, unique, now.seconds)
        };
        match done {
            Ok(()) if terms.invalidate => {}
            Ok(()) => counters.delete_hits.add(1),
            Err(_) => counters.delete_misses.add(1),
        }
        let (told, reply) = match done {
            Ok(()) => ((None, events::Outcome::Deleted), Reply::Deleted),
            Err(Unmet::NotFound) => ((None, events::Outcome::NotFound), Reply::NotFound),
            Err(Unmet::Exists) => (not_stored(None, 0), Reply::Exists),
        };
        self.tell(op, key, told, counters, now);
        reply
    }

    /// Puts an empty item in the place of one; `None` if there is no room for it.
    fn drop_value(
        &self,
        key: Key<'_>,
        unique: Option<u64>,
        terms: &Terms,
        now: Now,
    ) -> Option<Result<(), Unmet>> {
        loop {
            let Ok((item, seen)) = self.store.fetch(key.0, &UNNOTICED, now.seconds) else {
                return Some(Err(Unmet::NotFound));
            };
            let cas_unique = item.cas_unique();
            // Let go, so that the empty value may be written in its place.
            drop(item);
            if unique.is_some_and(|unique| unique != cas_unique) {
                return Some(Err(Unmet::Exists));
            }
            let kept = (!terms.invalidate).then_some(cas_unique);
            let put = Put {
                key: key.0,
                value: &[],
                packing: store::Packing::NONE,
                class: Class::of(key.0, b"") as u8,
                client_flags: terms.client_flags,
                expiry: Some(terms.touch.map_or(NEVER, |exptime| expiry(exptime, now))),
                condition: Condition::Unchanged {
                    sequence: seen.sequence,
                    cas_unique,
                },
                cas_unique: terms.new_unique.or(kept),
                marks: Marks {
                    stale: terms.invalidate,
                    binary_key: seen.marks.binary_key || terms.key_is_binary,
                    ..Marks::default()
                },
            };
            match self.store.put(&put, now.seconds) {
                Ok(Outcome::Stored { .. }) => return Some(Ok(())),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// `me`
    #[inline(never)]
    pub(super) fn inspect<'e, 'b>(
        &'e self,
        key: Key<'b>,
        counters: &Counters,
        now: Now,
    ) -> Reply<'b, Found<'e>> {
        counters.cmd_meta.add(1);
        match self.store.fetch(key.0, &UNNOTICED, now.seconds) {
            Ok((item, seen)) => Reply::Facts(Facts {
                ttl: ttl(seen.expiry, now),
                idle_seconds: now.seconds.saturating_sub(seen.accessed_at),
                cas_unique: self.shown_unique(item.cas_unique()),
                fetched: seen.marks.fetched,
                item_bytes: seen.item_bytes,
                key_is_binary: seen.marks.binary_key,
            }),
            Err(_) => Reply::Miss,
        }
    }

    /// A CAS unique as clients see it: 0 where `-C` has switched them off.
    pub(super) fn shown_unique(&self, cas_unique: u64) -> u64 {
        if self.options.cas { cas_unique } else { 0 }
    }

    /// What the store is to compare for a client that asks for a CAS unique.
    pub(super) fn compared_unique(&self, unique: Option<u64>) -> Option<u64> {
        match unique {
            Some(0) if !self.options.cas => None,
            // All items show 0, so this is none of theirs.
            Some(_) if !self.options.cas => Some(u64::MAX),
            unique => unique,
        }
    }
}

/// A look-up that leaves no trace.
pub(super) const UNNOTICED: Fetch = Fetch {
    expiry: None,
    recache_before: None,
    recache_after_touch: false,
    unnoticed: true,
    only_reads: false,
};

/// As in memcached, `mg` counts as a `touch` where it does one, and otherwise as a `get`.
fn count_found(terms: &Terms, counters: &Counters) {
    if terms.touch.is_some() {
        counters.cmd_touch.add(1);
        counters.touch_hits.add(1);
    } else {
        counters.cmd_get.add(1);
        counters.get_hits.add(1);
    }
}

fn state_of(seen: &Seen, terms: &Terms, now: Now) -> State {
    State {
        ttls: ttls_of(seen.expiry, None, terms, now),
        idle_seconds: now.seconds.saturating_sub(seen.accessed_at),
        fetched: seen.marks.fetched,
        stale: seen.marks.stale,
        token_sent: seen.marks.token_sent,
        won: seen.won,
        key_is_binary: seen.marks.binary_key,
    }
}

/// The time that an item has left, as each of the flags leaves it.
pub(super) fn ttls_of(before: u32, vivified: Option<Exptime>, terms: &Terms, now: Now) -> Ttls {
    let after = |exptime| ttl(expiry(exptime, now), now);
    Ttls {
        before: ttl(before, now),
        touched: terms.touch.and_then(after),
        vivified: vivified.map(after),
    }
}

/// The time that an item with this expiry has left.
pub(super) fn ttl(expiry: u32, now: Now) -> Ttl {
    match expiry {
        NEVER => None,
        AT_ONCE => Some(0),
        expiry => Some(expiry.saturating_sub(now.seconds)),
    }
}
