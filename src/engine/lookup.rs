//! An ordinary look-up, of which a cache is asked most: the shortest way from a key to its value.
//!
//! `server::session` calls [`Engine::look_up`] for what [`Classic::lookup`](crate::protocol::classic::Classic::lookup)
//! has read. It counts and tells what [`Engine::execute`] does of a `get`, without a reply in between: a short value
//! is lent to who writes it down, under the lock under which it was found.
//!
//! Invariant: for whoever asks, it is a `get`.

use super::{Engine, Found};
use crate::clock::Now;
use crate::protocol::command::Key;
use crate::protocol::reply::{Hit, Unreadable};
use crate::stats::Counters;
use crate::store::{ItemRef, Packing};
use crate::token::class::Class;

/// Values up to this are lent. The copy keeps who would write an item of the same shard waiting for a
/// microsecond or two; a pin, and a reply in three pieces, take longer than that.
pub const LENT_BYTES_MAX: usize = 16 << 10;

/// Who writes down what was found.
pub trait Answer<'e> {
    /// Writes a value that lies ready and is lent: a lock is held meanwhile, so this is a copy and no more.
    fn lent(&mut self, hit: Hit<'_, &[u8]>);

    /// Writes any other.
    ///
    /// # Errors
    /// If it cannot be read; nothing has been written then.
    fn found(&mut self, hit: Hit<'_, Found<'e>>) -> Result<(), Unreadable>;
}

impl Engine {
    /// Whether more is to be done with each look-up than [`Engine::look_up`] does. Costs two loads.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.stats.events.is_on() || self.stats.detail.is_on()
    }

    /// Looks a key up and has the value written, if there is one. Takes its shard's lock, shared, for the time of a
    /// search and the copy of a short value; allocates nothing but what room
    /// the reply needs. Not for an engine that is watched.
    #[inline(always)]
    pub fn look_up<'e>(
        &'e self,
        key: Key<'_>,
        counters: &'e Counters,
        now: Now,
        answer: &mut impl Answer<'e>,
    ) {
        let seen = self.store.look(key.0, now.seconds, |item| {
            let value = match item.short(LENT_BYTES_MAX) {
                Some(value) if item.packing() == Packing::NONE => value,
                _ => return Some(item.pin()),
            };
            let class = Class::from_number(item.class());
            counters.by_class.hit(class, value.len());
            answer.lent(Hit {
                key,
                client_flags: item.client_flags(),
                cas_unique: self.shown_unique(item.cas_unique()),
                value,
            });
            None
        });
        match seen {
            Ok(pinned) => {
                counters.cmd_get.add(1);
                counters.get_hits.add(1);
                if let Some(item) = pinned {
                    self.answer_pinned(key, item, counters, answer);
                }
            }
            Err(miss) => self.count_miss(key, miss, counters),
        }
    }

    // Out of line, as all that is not for a short value.
    #[inline(never)]
    fn answer_pinned<'e>(
        &'e self,
        key: Key<'_>,
        item: ItemRef<'e>,
        counters: &'e Counters,
        answer: &mut impl Answer<'e>,
    ) {
        if let Err(Unreadable) = answer.found(self.hit(key, item, counters)) {
            self.note_unreadable(counters);
        }
    }
}
