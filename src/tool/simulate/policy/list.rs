//! Doubly linked lists over dense numbers, for every policy that keeps its entries in an order.
//!
//! The links of all numbers stand in one vector; no step allocates, hashes or follows a pointer.
//! A policy names its lists by numbers of its own (`0..lists`), and calls the front of a list what
//! came last: LRU pushes to the front and evicts from the back.
//!
//! Each list is a ring through a sentinel behind the last number, so that nothing is special at
//! either end. A number that is in no list is a ring of its own.
//!
//! Invariants: a number is in one list at most; whoever inserts it knows that it is in none. Which
//! list it is in, and how long a list is, is for the policy to remember if it needs that.

/// Some lists over the numbers `0..numbers`.
#[derive(Debug, Clone)]
pub struct Lists {
    links: Vec<Link>,
    numbers: u32,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
}

impl Lists {
    /// So many empty lists, and numbers that are in none.
    pub fn new(lists: usize, numbers: usize) -> Lists {
        let all = u32::try_from(lists + numbers).expect("tokens are numbered in 32 bits");
        let alone = |at| Link {
            newer: at,
            older: at,
        };
        Lists {
            links: (0..all).map(alone).collect(),
            numbers: numbers as u32,
        }
    }

    /// Puts a number that is in no list at the front.
    pub fn push_front(&mut self, list: usize, number: u32) {
        let sentinel = self.sentinel(list);
        self.insert_between(sentinel, number, self.link(sentinel).older);
    }

    /// Puts a number that is in no list at the back.
    pub fn push_back(&mut self, list: usize, number: u32) {
        let sentinel = self.sentinel(list);
        self.insert_between(self.link(sentinel).newer, number, sentinel);
    }

    /// Takes a number out of the list it is in; nothing happens if it is in none.
    pub fn remove(&mut self, number: u32) {
        let Link { newer, older } = self.link(number);
        self.links[newer as usize].older = older;
        self.links[older as usize].newer = newer;
        self.links[number as usize] = Link {
            newer: number,
            older: number,
        };
    }

    /// Takes out the number at the back.
    pub fn pop_back(&mut self, list: usize) -> Option<u32> {
        let number = self.back(list)?;
        self.remove(number);
        Some(number)
    }

    /// The number at the front.
    pub fn front(&self, list: usize) -> Option<u32> {
        self.number(self.link(self.sentinel(list)).older)
    }

    /// The number at the back.
    pub fn back(&self, list: usize) -> Option<u32> {
        self.number(self.link(self.sentinel(list)).newer)
    }

    /// The next number towards the front of the list that this one is in.
    pub fn newer(&self, number: u32) -> Option<u32> {
        self.number(self.link(number).newer)
    }

    /// The next number towards the back of the list that this one is in.
    pub fn older(&self, number: u32) -> Option<u32> {
        self.number(self.link(number).older)
    }

    fn insert_between(&mut self, newer: u32, number: u32, older: u32) {
        debug_assert_eq!(self.link(number).newer, number, "it is in a list already");
        self.links[newer as usize].older = number;
        self.links[older as usize].newer = number;
        self.links[number as usize] = Link { newer, older };
    }

    fn link(&self, at: u32) -> Link {
        self.links[at as usize]
    }

    fn sentinel(&self, list: usize) -> u32 {
        self.numbers + list as u32
    }

    fn number(&self, at: u32) -> Option<u32> {
        (at < self.numbers).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::random::Random;
    use std::collections::VecDeque;

    /// The numbers of a list from front to back, read in both directions.
    fn read(lists: &Lists, list: usize) -> Vec<u32> {
        let down = std::iter::successors(lists.front(list), |at| lists.older(*at));
        let up = std::iter::successors(lists.back(list), |at| lists.newer(*at));
        let down: Vec<u32> = down.collect();
        let mut up: Vec<u32> = up.collect();
        up.reverse();
        assert_eq!(down, up);
        down
    }

    #[test]
    fn lists_are_what_deques_are() {
        let mut random = Random::new(4);
        let mut lists = Lists::new(2, 20);
        let mut model = [VecDeque::new(), VecDeque::new()];
        for _ in 0..5000 {
            let (list, number) = (random.below(2) as usize, random.below(20) as u32);
            match random.below(4) {
                0 => assert_eq!(lists.pop_back(list), model[list].pop_back()),
                step => {
                    lists.remove(number);
                    model
                        .iter_mut()
                        .for_each(|deque| deque.retain(|at| *at != number));
                    match step {
                        1 => {
                            lists.push_front(list, number);
                            model[list].push_front(number);
                        }
                        2 => {
                            lists.push_back(list, number);
                            model[list].push_back(number);
                        }
                        _ => {}
                    }
                }
            }
            for (list, deque) in model.iter().enumerate() {
                assert_eq!(VecDeque::from(read(&lists, list)), *deque);
            }
        }
    }
}
