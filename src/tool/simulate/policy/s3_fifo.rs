//! S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi, SOSP 2023).
//!
//! New entries go to a small queue, of a tenth of the memory. What was asked for more than once there goes
//! on to the main queue, the rest leaves to a ghost, which remembers as many bytes of entries as main
//! holds; what comes back from there goes to main at once. In main, what was asked for goes round
//! again, one asking for each round.

use std::collections::VecDeque;

use super::list::Lists;
use super::residents::{Expired, Residents};
use super::{Entry, Policy, Seconds};
use crate::tool::trace::TokenId;

const SMALL: usize = 0;
const MAIN: usize = 1;
const SMALL_PERCENT: u64 = 10;
const FREQUENCY_MAX: u8 = 3;

/// What an entry needs to go on from small to main.
const ASKED_MORE_THAN: u8 = 1;

/// Two queues and a ghost.
#[derive(Debug)]
pub struct S3Fifo {
    residents: Residents,
    lists: Lists,
    in_small: Vec<bool>,
    small_bytes: u64,
    frequency: Vec<u8>,
    ghost: Ghost,
}

/// Keys that left the small queue, the oldest first.
#[derive(Debug)]
struct Ghost {
    /// The turn in which the token left; 0 if it is not here.
    turns: Vec<u32>,
    queue: VecDeque<(TokenId, u32, u32)>,
    turn: u32,
    bytes: u64,
    capacity_bytes: u64,
}

impl S3Fifo {
    /// An empty cache of so many bytes for so many tokens.
    pub fn new(memory_bytes: u64, tokens: usize, expired: Expired) -> S3Fifo {
        S3Fifo {
            residents: Residents::new(memory_bytes, tokens, expired),
            lists: Lists::new(2, tokens),
            in_small: vec![false; tokens],
            small_bytes: 0,
            frequency: vec![0; tokens],
            ghost: Ghost {
                turns: vec![0; tokens],
                queue: VecDeque::new(),
                turn: 0,
                bytes: 0,
                capacity_bytes: memory_bytes - memory_bytes * SMALL_PERCENT / 100,
            },
        }
    }

    fn unlink(&mut self, token: TokenId, charged: u32) {
        self.lists.remove(token);
        if std::mem::take(&mut self.in_small[token as usize]) {
            self.small_bytes -= u64::from(charged);
        }
    }

    fn link_small(&mut self, token: TokenId) {
        self.lists.push_front(SMALL, token);
        self.in_small[token as usize] = true;
        self.small_bytes += u64::from(self.residents.charged(token));
    }

    /// Lets one entry leave, after as many have gone on or round as had to.
    fn evict(&mut self) -> bool {
        loop {
            let small_is_full =
                self.small_bytes * 100 > self.residents.capacity_bytes() * SMALL_PERCENT;
            let main = self.lists.back(MAIN);
            let (from, at) = match (self.lists.back(SMALL), main) {
                (Some(at), None) => (SMALL, at),
                (Some(at), Some(_)) if small_is_full => (SMALL, at),
                (_, Some(at)) => (MAIN, at),
                (None, None) => return false,
            };
            let charged = self.residents.charged(at);
            let frequency = &mut self.frequency[at as usize];
            let stays = match from {
                SMALL => std::mem::take(frequency) > ASKED_MORE_THAN,
                _ if *frequency > 0 => {
                    *frequency -= 1;
                    true
                }
                _ => false,
            };
            self.unlink(at, charged);
            if stays {
                self.lists.push_front(MAIN, at);
                continue;
            }
            if from == SMALL {
                self.ghost.add(at, charged);
            }
            self.residents.remove(at);
            return true;
        }
    }
}

impl Policy for S3Fifo {
    fn get(&mut self, token: TokenId, now: Seconds) -> bool {
        let alive = self.residents.alive(token, now);
        if alive {
            let frequency = &mut self.frequency[token as usize];
            *frequency = FREQUENCY_MAX.min(*frequency + 1);
        }
        alive
    }

    fn put(&mut self, token: TokenId, entry: Entry, now: Seconds) {
        let was_in_main = self.residents.holds(token) && !self.in_small[token as usize];
        if self.residents.holds(token) {
            self.unlink(token, self.residents.charged(token));
            self.residents.remove(token);
        }
        while let Some((expired, charged)) = self.residents.pop_expired(now) {
            self.unlink(expired, charged);
        }
        while self.residents.lacks_room_for(entry) {
            if !self.evict() {
                return;
            }
        }
        self.residents.add(token, entry);
        self.frequency[token as usize] = 0;
        if self.ghost.take(token) || was_in_main {
            self.lists.push_front(MAIN, token);
        } else {
            self.link_small(token);
        }
    }
}

impl Ghost {
    fn add(&mut self, token: TokenId, charged: u32) {
        self.turn += 1;
        self.turns[token as usize] = self.turn;
        self.queue.push_back((token, self.turn, charged));
        self.bytes += u64::from(charged);
        while self.bytes > self.capacity_bytes {
            let Some((oldest, turn, charged)) = self.queue.pop_front() else {
                return;
            };
            self.bytes -= u64::from(charged);
            if self.turns[oldest as usize] == turn {
                self.turns[oldest as usize] = 0;
            }
        }
    }

    /// Forgets a token; says whether it was here.
    fn take(&mut self, token: TokenId) -> bool {
        std::mem::take(&mut self.turns[token as usize]) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry = Entry {
        value_bytes: 1_000,
        expiry: 2_000,
    };

    #[test]
    fn a_flood_of_entries_asked_for_once_leaves_what_is_in_use() {
        let mut cache = S3Fifo::new(20_000, 1_000, Expired::First);
        cache.put(0, ENTRY, 1_000);
        assert!((0..2).all(|_| cache.get(0, 1_001)));
        (100..500).for_each(|token| cache.put(token, ENTRY, 1_002));
        assert!(cache.get(0, 1_003));
    }

    #[test]
    fn what_comes_back_from_the_ghost_goes_to_main() {
        let mut cache = S3Fifo::new(20_000, 1_000, Expired::First);
        (0..20).for_each(|token| cache.put(token, ENTRY, 1_000));
        assert!(!cache.get(0, 1_001));
        cache.put(0, ENTRY, 1_001);
        (100..130).for_each(|token| cache.put(token, ENTRY, 1_002));
        assert!(cache.get(0, 1_003) && !cache.get(105, 1_003));
    }
}
