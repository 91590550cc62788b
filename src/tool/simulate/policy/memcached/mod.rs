//! A model of memcached 1.6.18, Debian 12's, with its defaults and `-m`.
//!
//! What it has of the original: an item takes a chunk of its class's size, classes take whole pages
//! as long as there are any (`slabs`), and an item that finds no chunk makes one free in its own
//! class. Each class has three queues. What is put comes into HOT; what leaves HOT or WARM at the
//! back goes to COLD, or to WARM if it was hit twice; COLD is evicted from at the back. A thread of
//! the original keeps the queues at their share of the class and moves what has become too old
//! (`juggle`); another takes out what has expired, by a schedule of its own (`crawler`); and pages
//! move between classes (`mover`).
//!
//! Where the original's threads take their time, the model is instantaneous: the queues are in
//! order after each put and each second, a hit in COLD moves to WARM at once, a crawl and a page's
//! move take no time. Items over half a page, which the original chains from several chunks, have a
//! class of whole pages here. Client flags are 0, as python-memcached sets them for bytes; others
//! would add 4 bytes an item. The hash table is outside `-m` in the original and left out.
//!
//! Sources: `items.c` (`do_item_alloc_pull`, `do_item_bump`, `lru_pull_tail`,
//! `lru_maintainer_juggle`), `slabs.c`, `slab_automove.c` and `crawler.c` of memcached 1.6.18.
//! Nothing of them was copied. The test `memcached_model` compares both.
//!
//! Invariants: an item is in one queue, and has one chunk of that queue's class, or neither; the
//! bytes of a queue are those of its items; the used and the free chunks of a class are those of its
//! pages.

mod crawler;
mod mover;
mod slabs;

use super::list::Lists;
use super::{Entry, KEY_BYTES, NEVER, Policy, Seconds};
use crate::tool::trace::TokenId;
use crawler::Schedule;
use mover::{Move, Mover, Sample};
use slabs::{Page, Slabs};

/// Bytes of an item besides key and value: its header, its CAS unique, the key's terminator, and
/// the line's end behind the value.
const HEADER_BYTES: u32 = 48 + 8 + 1 + 2;

/// Times that a put looks for a chunk before it is refused.
const ALLOCATION_TRIES: usize = 10;

/// Items that are looked at from the back of a queue at a time.
const PULL_TRIES: usize = 5;

const HOT_PERCENT: u64 = 20;
const WARM_PERCENT: u64 = 40;

/// A queue of a class; what they are for is told above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lru {
    Hot,
    Warm,
    Cold,
}

const LRUS: [Lru; 3] = [Lru::Hot, Lru::Warm, Lru::Cold];

/// What is known of a token's item.
#[derive(Debug, Clone, Copy)]
struct Item {
    expiry: Seconds,
    /// When it was linked, or last became active.
    time: Seconds,
    bytes: u32,
    page: Page,
    /// Its queue's list; [`NOWHERE`] if there is no item.
    list: u16,
    /// Was hit.
    fetched: bool,
    /// Was hit again, and not moved for it yet.
    active: bool,
}

const NOWHERE: u16 = u16::MAX;

impl Item {
    const NONE: Item = Item {
        expiry: 0,
        time: 0,
        bytes: 0,
        page: 0,
        list: NOWHERE,
        fetched: false,
        active: false,
    };

    /// Whether all that clear up take it for expired: a second later than a get does.
    fn is_overdue(&self, now: Seconds) -> bool {
        self.expiry != NEVER && self.expiry < now
    }

    fn class(&self) -> usize {
        usize::from(self.list) / LRUS.len()
    }
}

/// memcached, as a policy.
#[derive(Debug, Clone)]
pub struct Memcached {
    slabs: Slabs,
    items: Vec<Item>,
    /// The front is what the original calls head.
    lists: Lists,
    /// Of each list: the bytes of its items.
    bytes: Vec<u64>,
    /// Of each list: when it is crawled.
    schedules: Vec<Schedule>,
    /// Of each class: items evicted so far.
    evicted: Vec<u64>,
    /// Of each class: puts refused so far for want of a chunk.
    refused: Vec<u64>,
    mover: Mover,
}

fn list_of(class: usize, lru: Lru) -> usize {
    class * LRUS.len() + lru as usize
}

impl Memcached {
    /// An empty cache with `-m` so many bytes, for tokens numbered below `tokens`.
    pub fn new(memory_bytes: u64, tokens: usize) -> Memcached {
        let slabs = Slabs::new(memory_bytes);
        let classes = slabs.classes();
        let lists = classes * LRUS.len();
        Memcached {
            slabs,
            items: vec![Item::NONE; tokens],
            lists: Lists::new(lists, tokens),
            bytes: vec![0; lists],
            schedules: vec![Schedule::default(); lists],
            evicted: vec![0; classes],
            refused: vec![0; classes],
            mover: Mover::new(classes),
        }
    }

    /// Puts a token's item at the front of a list of its class.
    fn link(&mut self, token: TokenId, list: usize) {
        let item = &mut self.items[token as usize];
        item.list = list as u16;
        self.bytes[list] += u64::from(item.bytes);
        self.lists.push_front(list, token);
    }

    /// Takes a token's item, which must be there, out of its list.
    fn unlink(&mut self, token: TokenId) {
        let item = &mut self.items[token as usize];
        self.bytes[usize::from(item.list)] -= u64::from(item.bytes);
        self.lists.remove(token);
    }

    /// Moves an item to the front of a queue of its class.
    fn relink(&mut self, token: TokenId, lru: Lru) {
        let class = self.items[token as usize].class();
        self.unlink(token);
        self.link(token, list_of(class, lru));
    }

    /// Removes a token's item if there is one, and frees its chunk.
    fn remove(&mut self, token: TokenId) {
        let item = self.items[token as usize];
        if item.list != NOWHERE {
            self.unlink(token);
            self.slabs.free(item.class(), item.page);
            self.items[token as usize] = Item::NONE;
        }
    }

    /// Finds a chunk, for which it evicts if need be; gives its page. The original never takes an
    /// item out of WARM for this, so a class that has all in there refuses.
    fn allocate(&mut self, class: usize, now: Seconds) -> Option<Page> {
        for _ in 0..ALLOCATION_TRIES {
            let page = self.slabs.allocate(class);
            if page.is_some() {
                return page;
            }
            if self.pull_cold(class, true, now) == 0 {
                self.pull(class, Lru::Hot, 0, 0, now);
            }
        }
        self.refused[class] += 1;
        None
    }

    /// Looks at the back of HOT or WARM: removes what is overdue, moves on what is active, and moves
    /// one item to COLD if the queue has more than so many bytes or the item is older than so many
    /// seconds. Gives how many were removed or moved.
    fn pull(
        &mut self,
        class: usize,
        lru: Lru,
        bytes_max: u64,
        age_max: Seconds,
        now: Seconds,
    ) -> usize {
        let list = list_of(class, lru);
        let mut next = self.lists.back(list);
        let mut moved = 0;
        for _ in 0..PULL_TRIES {
            let Some(token) = next else { break };
            next = self.lists.newer(token);
            let item = &mut self.items[token as usize];
            if item.is_overdue(now) {
                self.remove(token);
            } else if item.active {
                item.active = false;
                self.relink(token, Lru::Warm);
                if lru == Lru::Hot {
                    return moved + 1;
                }
            } else if self.bytes[list] > bytes_max || now - item.time > age_max {
                self.relink(token, Lru::Cold);
                return moved + 1;
            } else {
                break;
            }
            moved += 1;
        }
        moved
    }

    /// Looks at the back of COLD: removes what is overdue, and then evicts one item or saves it if it
    /// is active. Gives how many were removed or moved.
    fn pull_cold(&mut self, class: usize, evict: bool, now: Seconds) -> usize {
        let mut next = self.lists.back(list_of(class, Lru::Cold));
        let mut moved = 0;
        for _ in 0..PULL_TRIES {
            let Some(token) = next else { break };
            next = self.lists.newer(token);
            let item = &mut self.items[token as usize];
            if item.is_overdue(now) {
                self.remove(token);
                moved += 1;
                continue;
            }
            if evict {
                self.remove(token);
                self.evicted[class] += 1;
                return moved + 1;
            }
            if item.active {
                item.active = false;
                self.relink(token, Lru::Warm);
                return moved + 1;
            }
            break;
        }
        moved
    }

    /// Brings a class's queues to their sizes and ages, until nothing is left to do.
    fn juggle(&mut self, class: usize, now: Seconds) {
        let bytes: u64 = LRUS
            .iter()
            .map(|lru| self.bytes[list_of(class, *lru)])
            .sum();
        let (hot_max, warm_max) = (bytes * HOT_PERCENT / 100, bytes * WARM_PERCENT / 100);
        let cold_age = self.cold_age(class, now);
        loop {
            let mut moved = self.pull(class, Lru::Hot, hot_max, cold_age / 5, now);
            if moved == 0 {
                moved = self.pull(class, Lru::Warm, warm_max, cold_age * 2, now);
            }
            moved += self.pull_cold(class, false, now);
            if moved == 0 {
                return;
            }
        }
    }

    /// The age of what would be evicted next.
    fn cold_age(&self, class: usize, now: Seconds) -> Seconds {
        let back = self.lists.back(list_of(class, Lru::Cold));
        back.map_or(0, |token| now - self.items[token as usize].time)
    }

    /// Removes from the lists whose turn it is what is overdue.
    fn crawl(&mut self, now: Seconds) {
        for list in 0..self.schedules.len() {
            if !self.schedules[list].begin(now) {
                continue;
            }
            let mut next = self.lists.back(list);
            while let Some(token) = next {
                next = self.lists.newer(token);
                let item = self.items[token as usize];
                if item.is_overdue(now) {
                    self.remove(token);
                } else {
                    self.schedules[list].note(item.expiry, now);
                }
            }
        }
    }

    /// Moves pages between classes.
    fn move_pages(&mut self, now: Seconds) {
        loop {
            let sample = |class| Sample {
                evicted: self.evicted[class],
                refused: self.refused[class],
                age: self.cold_age(class, now),
                pages: self.slabs.pages(class),
                free_chunks: self.slabs.free_chunks(class),
                chunks_per_page: self.slabs.chunks_per_page(class),
            };
            let samples: Vec<Sample> = (0..self.slabs.classes()).map(sample).collect();
            match self.mover.decide(samples) {
                Some(Move::Between { from, to }) => return self.move_page(from, Some(to), now),
                Some(Move::ToPool { from }) => self.move_page(from, None, now),
                None => return,
            }
        }
    }

    /// Takes the class's oldest page away and gives it to another class or back to all. Its items
    /// that find a free chunk in the class's other pages come to the front of their queues; the
    /// others are lost.
    fn move_page(&mut self, from: usize, to: Option<usize>, now: Seconds) {
        let Some(page) = self.slabs.take_page(from) else {
            return;
        };
        for list in LRUS.map(|lru| list_of(from, lru)) {
            let mut next = self.lists.back(list);
            while let Some(token) = next {
                next = self.lists.newer(token);
                if self.items[token as usize].page == page {
                    self.save(token, now);
                }
            }
        }
        self.slabs.give_page(to, page);
    }

    /// Moves an item out of a page that is going away, or loses it.
    fn save(&mut self, token: TokenId, now: Seconds) {
        let item = self.items[token as usize];
        self.unlink(token);
        let chunk = match item.is_overdue(now) {
            true => None,
            false => self.slabs.allocate_free(item.class()),
        };
        let Some(page) = chunk else {
            self.items[token as usize] = Item::NONE;
            return;
        };
        let time = now;
        self.items[token as usize] = Item { page, time, ..item };
        self.link(token, usize::from(item.list));
    }
}

impl Policy for Memcached {
    fn get(&mut self, token: TokenId, now: Seconds) -> bool {
        let item = &mut self.items[token as usize];
        if item.list == NOWHERE {
            return false;
        }
        if item.expiry != NEVER && item.expiry <= now {
            self.remove(token);
            return false;
        }
        if item.fetched && !item.active {
            item.time = now;
            item.active = true;
            if usize::from(item.list) == list_of(item.class(), Lru::Cold) {
                item.active = false;
                self.relink(token, Lru::Warm);
            }
        }
        self.items[token as usize].fetched = true;
        true
    }

    fn put(&mut self, token: TokenId, entry: Entry, now: Seconds) {
        let bytes = entry.value_bytes.saturating_add(KEY_BYTES + HEADER_BYTES);
        // The older one leaves after the chunk for the new one is found, and even if none is.
        let class = self.slabs.class_of(bytes);
        let page = class.and_then(|class| self.allocate(class, now));
        self.remove(token);
        if let Some((class, page)) = class.zip(page) {
            self.items[token as usize] = Item {
                expiry: entry.expiry,
                time: now,
                bytes,
                page,
                ..Item::NONE
            };
            self.link(token, list_of(class, Lru::Hot));
            self.juggle(class, now);
        }
    }

    fn second(&mut self, now: Seconds) {
        for class in 0..self.slabs.classes() {
            if self.slabs.pages(class) > 0 {
                self.juggle(class, now);
            }
        }
        self.crawl(now);
        self.move_pages(now);
    }
}

#[cfg(test)]
mod tests;
