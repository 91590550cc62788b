//! First in, first out.

use super::list::Lists;
use super::residents::{Expired, Residents};
use super::{Entry, Policy, Seconds};
use crate::tool::trace::TokenId;

const ALL: usize = 0;

/// What was put the longest ago leaves first.
#[derive(Debug)]
pub struct Fifo {
    residents: Residents,
    lists: Lists,
}

impl Fifo {
    /// An empty cache of so many bytes for so many tokens.
    pub fn new(memory_bytes: u64, tokens: usize, expired: Expired) -> Fifo {
        Fifo {
            residents: Residents::new(memory_bytes, tokens, expired),
            lists: Lists::new(1, tokens),
        }
    }
}

impl Policy for Fifo {
    fn get(&mut self, token: TokenId, now: Seconds) -> bool {
        self.residents.alive(token, now)
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
    fn being_asked_for_keeps_nothing() {
        let entry = Entry {
            value_bytes: 1_000,
            expiry: 2_000,
        };
        let mut fifo = Fifo::new(3_500, 9, Expired::First);
        (0..3).for_each(|token| fifo.put(token, entry, 1_000));
        assert!(fifo.get(0, 1_001));
        fifo.put(3, entry, 1_002);
        assert_eq!(
            [0, 1, 2, 3].map(|token| fifo.get(token, 1_003)),
            [false, true, true, true]
        );
    }
}
