//! The best that could be done with so much memory: Belady's choice, with expiries.
//!
//! Knows the requests to come. What will not be asked for before it expires is not kept; else what will
//! be asked for last leaves first, the newcomer included. With entries of unequal length this is
//! a good choice and not provably the best.

use std::collections::BinaryHeap;

use super::{Entry, NEVER, Policy, Seconds, charged_bytes};
use crate::tool::trace::TokenId;

/// A request's place among all those to the same unit.
type Place = u32;

/// There is no further request.
const NO_PLACE: Place = Place::MAX;

/// What is to come: for each request to a unit, where the next with its token stands.
#[derive(Debug)]
pub struct Future {
    next: Vec<Place>,
    seconds: Vec<Seconds>,
}

impl Future {
    /// Of these requests, each a token and its second, in their order.
    pub fn of(requests: impl Iterator<Item = (TokenId, Seconds)>, tokens: usize) -> Future {
        let mut last = vec![NO_PLACE; tokens];
        let mut future = Future {
            next: Vec::new(),
            seconds: Vec::new(),
        };
        for (place, (token, second)) in requests.enumerate() {
            let before = std::mem::replace(&mut last[token as usize], place as Place);
            if before != NO_PLACE {
                future.next[before as usize] = place as Place;
            }
            future.next.push(NO_PLACE);
            future.seconds.push(second);
        }
        future
    }
}

/// A cache that knows its future.
#[derive(Debug)]
pub struct Belady {
    future: Future,
    place: usize,
    /// By token: the place of its next request.
    next: Vec<Place>,
    /// By token: what it is charged, 0 if it is not here.
    charged: Vec<u32>,
    expiries: Vec<Seconds>,
    /// Residents by their next request, beside entries that hold no longer.
    latest: BinaryHeap<(Place, TokenId)>,
    residents: usize,
    used_bytes: u64,
    capacity_bytes: u64,
}

impl Belady {
    /// An empty cache of so many bytes for so many tokens; `get` is called for each request of the
    /// future in its order.
    pub fn new(memory_bytes: u64, tokens: usize, future: Future) -> Belady {
        Belady {
            future,
            place: 0,
            next: vec![NO_PLACE; tokens],
            charged: vec![0; tokens],
            expiries: vec![0; tokens],
            latest: BinaryHeap::new(),
            residents: 0,
            used_bytes: 0,
            capacity_bytes: memory_bytes,
        }
    }

    fn remove(&mut self, token: TokenId) {
        let charged = std::mem::take(&mut self.charged[token as usize]);
        self.used_bytes -= u64::from(charged);
        self.residents -= usize::from(charged > 0);
    }

    /// Whether the token is asked for again while its entry lives.
    fn is_wanted(&self, token: TokenId) -> bool {
        let (next, expiry) = (self.next[token as usize], self.expiries[token as usize]);
        next != NO_PLACE && (expiry == NEVER || self.future.seconds[next as usize] < expiry)
    }

    /// Notes that a resident's next request is another one now.
    fn note(&mut self, token: TokenId) {
        if !self.is_wanted(token) {
            self.remove(token);
            return;
        }
        self.latest.push((self.next[token as usize], token));
        if self.latest.len() > 4 * self.residents + 1024 {
            let old = std::mem::take(&mut self.latest);
            self.latest = old
                .into_iter()
                .filter(|entry| self.holds_still(entry))
                .collect();
        }
    }

    fn holds_still(&self, &(place, token): &(Place, TokenId)) -> bool {
        self.charged[token as usize] > 0 && self.next[token as usize] == place
    }

    /// The resident whose next request is the last of all.
    fn last_wanted(&mut self) -> Option<(Place, TokenId)> {
        while let Some(entry) = self.latest.peek().copied() {
            if self.holds_still(&entry) {
                return Some(entry);
            }
            self.latest.pop();
        }
        None
    }
}

impl Policy for Belady {
    fn get(&mut self, token: TokenId, now: Seconds) -> bool {
        self.next[token as usize] = self.future.next[self.place];
        self.place += 1;
        let expiry = self.expiries[token as usize];
        let hit = self.charged[token as usize] > 0 && (expiry == NEVER || expiry > now);
        if self.charged[token as usize] > 0 {
            self.note(token);
        }
        hit
    }

    fn put(&mut self, token: TokenId, entry: Entry, _now: Seconds) {
        self.remove(token);
        self.expiries[token as usize] = entry.expiry;
        if !self.is_wanted(token) {
            return;
        }
        let charged = charged_bytes(entry.value_bytes);
        if u64::from(charged) > self.capacity_bytes {
            return;
        }
        while self.used_bytes + u64::from(charged) > self.capacity_bytes {
            match self.last_wanted() {
                Some((place, victim)) if place > self.next[token as usize] => self.remove(victim),
                _ => return,
            }
        }
        self.charged[token as usize] = charged;
        self.used_bytes += u64::from(charged);
        self.residents += 1;
        self.note(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hits of a trace in which every miss is put at once.
    fn hits(requests: &[TokenId], room: u64, ttl: Seconds) -> usize {
        let timed = || requests.iter().copied().zip(1_000..);
        let entry = |now| Entry {
            value_bytes: 1_000,
            expiry: now + ttl,
        };
        let memory = room * u64::from(charged_bytes(1_000));
        let mut belady = Belady::new(memory, 10, Future::of(timed(), 10));
        let hit = |(token, now)| {
            let hit = belady.get(token, now);
            if !hit {
                belady.put(token, entry(now), now);
            }
            hit
        };
        timed().map(hit).filter(|hit| *hit).count()
    }

    #[test]
    fn what_is_asked_for_last_leaves_first() {
        // Belady's own kind of example: with room for three, LRU would hit twice.
        assert_eq!(hits(&[1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5], 3, 100), 5);
    }

    #[test]
    fn what_would_expire_before_it_is_asked_for_takes_no_room() {
        assert_eq!(hits(&[1, 2, 2, 2, 1], 1, 3), 2);
        assert_eq!(hits(&[1, 2, 1, 2], 2, 2), 0);
        assert_eq!(hits(&[1, 2, 1, 2], 2, 3), 2);
    }
}
