//! SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi, NSDI 2024).
//!
//! One list in the order of putting. A hand goes from the oldest to the newest and round again: what was
//! asked for since the hand last passed stays where it is, the first that was not leaves.

use super::list::Lists;
use super::residents::{Expired, Residents};
use super::{Entry, Policy, Seconds};
use crate::tool::trace::TokenId;

const ALL: usize = 0;

/// A list with a hand.
#[derive(Debug)]
pub struct Sieve {
    residents: Residents,
    lists: Lists,
    visited: Vec<bool>,
    hand: Option<TokenId>,
}

impl Sieve {
    /// An empty cache of so many bytes for so many tokens.
    pub fn new(memory_bytes: u64, tokens: usize, expired: Expired) -> Sieve {
        Sieve {
            residents: Residents::new(memory_bytes, tokens, expired),
            lists: Lists::new(1, tokens),
            visited: vec![false; tokens],
            hand: None,
        }
    }

    /// Takes an entry out of the list; the hand moves on if it stood there.
    fn unlink(&mut self, token: TokenId) {
        if self.hand == Some(token) {
            self.hand = self.lists.newer(token);
        }
        self.lists.remove(token);
        self.visited[token as usize] = false;
    }

    fn evict(&mut self) -> Option<TokenId> {
        loop {
            let at = self.hand.or_else(|| self.lists.back(ALL))?;
            if !std::mem::take(&mut self.visited[at as usize]) {
                self.hand = Some(at);
                self.unlink(at);
                return Some(at);
            }
            self.hand = self.lists.newer(at);
        }
    }
}

impl Policy for Sieve {
    fn get(&mut self, token: TokenId, now: Seconds) -> bool {
        let alive = self.residents.alive(token, now);
        if alive {
            self.visited[token as usize] = true;
        }
        alive
    }

    fn put(&mut self, token: TokenId, entry: Entry, now: Seconds) {
        if self.residents.holds(token) {
            self.residents.remove(token);
            self.unlink(token);
        }
        while let Some((expired, _)) = self.residents.pop_expired(now) {
            self.unlink(expired);
        }
        while self.residents.lacks_room_for(entry) {
            let Some(victim) = self.evict() else {
                return;
            };
            self.residents.remove(victim);
        }
        self.residents.add(token, entry);
        self.lists.push_front(ALL, token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hand_passes_what_was_asked_for_and_goes_on_from_where_it_was() {
        let entry = Entry {
            value_bytes: 1_000,
            expiry: 2_000,
        };
        let mut sieve = Sieve::new(3_500, 9, Expired::First);
        (0..3).for_each(|token| sieve.put(token, entry, 1_000));
        assert!(sieve.get(0, 1_001));
        sieve.put(3, entry, 1_002);
        assert!(!sieve.get(1, 1_003), "0 was passed, 1 left");
        sieve.put(4, entry, 1_004);
        assert!(!sieve.get(2, 1_005), "the hand stood behind 1");
        assert!(sieve.get(0, 1_006) && sieve.get(3, 1_006) && sieve.get(4, 1_006));
    }
}
