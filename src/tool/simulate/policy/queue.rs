//! Least recently used, and first in, first out: one list, of which the end leaves.

use super::list::Lists;
use super::residents::{Expired, Residents};
use super::{Entry, Policy, Seconds};
use crate::tool::trace::TokenId;

const ALL: usize = 0;

/// What the list is in the order of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The last time each was asked for or put: LRU.
    Used,
    /// The last time each was put: FIFO.
    Put,
}

/// What comes last in the order leaves first.
#[derive(Debug)]
pub struct Queue {
    order: Order,
    residents: Residents,
    lists: Lists,
}

impl Queue {
    /// An empty cache of so many bytes for so many tokens.
    pub fn new(order: Order, memory_bytes: u64, tokens: usize, expired: Expired) -> Queue {
        Queue {
            order,
            residents: Residents::new(memory_bytes, tokens, expired),
            lists: Lists::new(1, tokens),
        }
    }
}

impl Policy for Queue {
    fn get(&mut self, token: TokenId, now: Seconds) -> bool {
        let alive = self.residents.alive(token, now);
        if alive && self.order == Order::Used {
            self.lists.remove(token);
            self.lists.push_front(ALL, token);
        }
        alive
    }

    fn put(&mut self, token: TokenId, entry: Entry, now: Seconds) {
        if self.residents.holds(token) {
            self.residents.remove(token);
            self.lists.remove(token);
        }
        while let Some((expired, _)) = self.residents.pop_expired(now) {
            self.lists.remove(expired);
        }
        while self.residents.lacks_room_for(entry) {
            let Some(oldest) = self.lists.pop_back(ALL) else {
                return;
            };
            self.residents.remove(oldest);
        }
        self.residents.add(token, entry);
        self.lists.push_front(ALL, token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_the_longest_leaves_first() {
        let entry = Entry {
            value_bytes: 1_000,
            expiry: 2_000,
        };
        let mut lru = Queue::new(Order::Used, 3_500, 9, Expired::First);
        (0..3).for_each(|token| lru.put(token, entry, 1_000));
        assert!(lru.get(0, 1_001));
        lru.put(3, entry, 1_002);
        assert_eq!(
            [0, 1, 2, 3].map(|token| lru.get(token, 1_003)),
            [true, false, true, true]
        );
    }

    #[test]
    fn what_has_expired_leaves_before_what_is_alive_if_told_so() {
        let entry = |expiry| Entry {
            value_bytes: 1_000,
            expiry,
        };
        for (expired, stays) in [(Expired::First, true), (Expired::Stay, false)] {
            let mut lru = Queue::new(Order::Used, 3_500, 9, expired);
            lru.put(0, entry(1_500), 1_000);
            lru.put(1, entry(1_600), 1_000);
            lru.put(2, entry(1_700), 1_000);
            assert!(lru.get(0, 1_001) && lru.get(1, 1_002));
            assert!(lru.get(2, 1_003) && lru.get(0, 1_004));
            lru.put(3, entry(1_900), 1_500);
            assert_eq!(lru.get(1, 1_501), stays);
        }
    }

    #[test]
    fn being_asked_for_keeps_nothing() {
        let entry = Entry {
            value_bytes: 1_000,
            expiry: 2_000,
        };
        let mut fifo = Queue::new(Order::Put, 3_500, 9, Expired::First);
        (0..3).for_each(|token| fifo.put(token, entry, 1_000));
        assert!(fifo.get(0, 1_001));
        fifo.put(3, entry, 1_002);
        assert_eq!(
            [0, 1, 2, 3].map(|token| fifo.get(token, 1_003)),
            [false, true, true, true]
        );
    }
}
