//! Classes of items by size, and the pages that their chunks are cut from.
//!
//! Every class has chunks of one size, 1.25 times that of the class below. A page has 1 MiB and
//! belongs to one class at a time. A class without a free chunk takes a page: its first one
//! whatever the limit is, more only within the limit. Which chunk of its page an item has makes no
//! difference, so a free chunk is the number of its page.
//!
//! Source: `slabs.c` of memcached 1.6.18, `slabs_init`, `do_slabs_newslab` and
//! `slab_rebalance_finish`.
//!
//! Invariant: the pages made and not given up are those of the classes and those in the pool.

use std::collections::VecDeque;

/// Bytes of a page; no item is larger.
pub const PAGE_BYTES: u32 = 1 << 20;

/// Bytes of the smallest chunk: an item's header and 48 bytes.
const CHUNK_BYTES_MIN: u32 = 96;

/// Bytes of the largest chunk of which a page has more than one.
const CHUNK_BYTES_MAX: u32 = PAGE_BYTES / 2;

const FACTOR: f64 = 1.25;

/// Bytes that a chunk's size is a multiple of.
const ALIGNMENT: u32 = 8;

/// A page's number.
pub type Page = u32;

/// All pages, by class.
#[derive(Debug, Clone)]
pub struct Slabs {
    classes: Vec<Class>,
    bytes_max: u64,
    /// Pages that are somebody's or in the pool.
    pages: u64,
    /// The number of the next page that is made.
    next: Page,
    /// Pages that a class gave back.
    pool: Vec<Page>,
}

#[derive(Debug, Clone)]
struct Class {
    chunk_bytes: u32,
    /// From the oldest to the newest.
    pages: VecDeque<Page>,
    /// The pages of the free chunks; the last is taken first.
    free: Vec<Page>,
}

impl Slabs {
    /// Classes without pages, which may have so many bytes of pages.
    pub fn new(bytes_max: u64) -> Slabs {
        let class = |chunk_bytes| Class {
            chunk_bytes,
            pages: VecDeque::new(),
            free: Vec::new(),
        };
        Slabs {
            classes: chunk_sizes().into_iter().map(class).collect(),
            bytes_max,
            pages: 0,
            next: 0,
            pool: Vec::new(),
        }
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// The class of items of so many bytes; `None` if they are too large for any.
    pub fn class_of(&self, item_bytes: u32) -> Option<usize> {
        let below = |class: &Class| class.chunk_bytes < item_bytes;
        let class = self.classes.partition_point(below);
        (class < self.classes.len()).then_some(class)
    }

    /// Pages of a class.
    pub fn pages(&self, class: usize) -> usize {
        self.classes[class].pages.len()
    }

    /// Free chunks in the pages of a class.
    pub fn free_chunks(&self, class: usize) -> usize {
        self.classes[class].free.len()
    }

    /// Chunks in a page of a class.
    pub fn chunks_per_page(&self, class: usize) -> usize {
        (PAGE_BYTES / self.classes[class].chunk_bytes) as usize
    }

    /// Takes a chunk, for which the class may take a page; gives the chunk's page.
    pub fn allocate(&mut self, class: usize) -> Option<Page> {
        if self.classes[class].free.is_empty() {
            let page = self.new_page(class)?;
            self.add_page(class, page);
        }
        self.allocate_free(class)
    }

    /// Takes a chunk from the pages that the class has.
    pub fn allocate_free(&mut self, class: usize) -> Option<Page> {
        self.classes[class].free.pop()
    }

    /// Gives back a chunk of this page.
    pub fn free(&mut self, class: usize, page: Page) {
        self.classes[class].free.push(page);
    }

    /// Takes the oldest page away from a class, and with it its free chunks; never the last one. Its
    /// used chunks are for the caller to see to.
    pub fn take_page(&mut self, class: usize) -> Option<Page> {
        let class = &mut self.classes[class];
        if class.pages.len() < 2 {
            return None;
        }
        let page = class.pages.pop_front()?;
        class.free.retain(|free| *free != page);
        Some(page)
    }

    /// Gives a page that was taken away to a class, or to the pool for whoever needs it first; gives
    /// it up if there are more pages than may be.
    pub fn give_page(&mut self, to: Option<usize>, page: Page) {
        match to {
            Some(class) => self.add_page(class, page),
            None if self.pages * u64::from(PAGE_BYTES) > self.bytes_max => self.pages -= 1,
            None => self.pool.push(page),
        }
    }

    fn new_page(&mut self, class: usize) -> Option<Page> {
        let pooled = self.pool.pop();
        if pooled.is_some() {
            return pooled;
        }
        let bytes = (self.pages + 1) * u64::from(PAGE_BYTES);
        if bytes > self.bytes_max && !self.classes[class].pages.is_empty() {
            return None;
        }
        self.pages += 1;
        self.next += 1;
        Some(self.next)
    }

    fn add_page(&mut self, class: usize, page: Page) {
        let chunks = self.chunks_per_page(class);
        let class = &mut self.classes[class];
        class.pages.push_back(page);
        class.free.extend(std::iter::repeat_n(page, chunks));
    }
}

/// The bytes of each class's chunks: the original's, and whole pages for what it would chain.
fn chunk_sizes() -> Vec<u32> {
    let mut sizes = Vec::new();
    let mut bytes = CHUNK_BYTES_MIN;
    while f64::from(bytes) < f64::from(CHUNK_BYTES_MAX) / FACTOR {
        bytes = bytes.next_multiple_of(ALIGNMENT);
        sizes.push(bytes);
        bytes = (f64::from(bytes) * FACTOR) as u32;
    }
    sizes.extend([CHUNK_BYTES_MAX, PAGE_BYTES]);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_that_memcached_prints() {
        let expected = [
            96, 120, 152, 192, 240, 304, 384, 480, 600, 752, 944, 1184, 1480, 1856, 2320, 2904,
            3632, 4544, 5680, 7104, 8880, 11104, 13880, 17352, 21696, 27120, 33904, 42384, 52984,
            66232, 82792, 103496, 129376, 161720, 202152, 252696, 315872, 394840, 524288, 1048576,
        ];
        assert_eq!(chunk_sizes(), expected);
    }

    #[test]
    fn an_item_gets_the_smallest_chunk_that_holds_it() {
        let slabs = Slabs::new(0);
        let chunk = |bytes| Some(slabs.classes[slabs.class_of(bytes)?].chunk_bytes);
        assert_eq!(chunk(1), Some(96));
        assert_eq!(chunk(11104), Some(11104));
        assert_eq!(chunk(11105), Some(13880));
        assert_eq!(chunk(PAGE_BYTES), Some(PAGE_BYTES));
        assert_eq!(chunk(PAGE_BYTES + 1), None);
    }

    #[test]
    fn the_first_page_of_a_class_is_granted_and_no_more_than_the_limit() {
        let mut slabs = Slabs::new(2 << 20);
        let class = slabs.class_of(13880).unwrap();
        let taken = std::iter::from_fn(|| slabs.allocate(class)).count();
        assert_eq!(taken, 2 * 75);
        let other = slabs.class_of(11104).unwrap();
        let taken = std::iter::from_fn(|| slabs.allocate(other)).count();
        assert_eq!(taken, 94);
    }

    #[test]
    fn a_page_that_moves_takes_its_free_chunks_along() {
        let mut slabs = Slabs::new(2 << 20);
        let [from, to] = [13880, 11104].map(|bytes| slabs.class_of(bytes).unwrap());
        let page = slabs.allocate(from).unwrap();
        assert_eq!(slabs.take_page(from), None);
        while slabs.pages(from) < 2 {
            slabs.allocate(from);
        }
        slabs.free(from, page);
        assert_eq!(slabs.free_chunks(from), 75);
        assert_eq!(slabs.take_page(from), Some(page));
        slabs.give_page(Some(to), page);
        assert_eq!([from, to].map(|class| slabs.free_chunks(class)), [74, 94]);
    }
}
