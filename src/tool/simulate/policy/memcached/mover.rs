//! Which class gives up a page, and to whom.
//!
//! Two reasons. A class with more than two and a half pages of free chunks that has been quiet for
//! half a minute gives a page back for whoever needs it. And a class that evicts all the time takes
//! one from the class whose next victim is oldest, if its own are younger than four fifths of that,
//! by the average of half a minute.
//!
//! Source: `slab_automove.c` of memcached 1.6.18, `slab_automove_run`, with its defaults. It is asked
//! once a second, and again while pages are given back.

use crate::tool::simulate::policy::Seconds;

/// Samples that are averaged.
const WINDOW: usize = 30;

/// A class with no more pages than this gives none to another.
const SOURCE_PAGES: usize = 2;

/// Pages of free chunks that a class keeps.
const KEPT_PAGES: f64 = 2.5;

/// How much younger the victims of a class that gets a page are.
const AGE_RATIO: f64 = 0.8;

/// The share of all evictions that makes a class one that evicts.
const EVICTED_RATIO: f32 = 0.25;

/// A class as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Items evicted so far.
    pub evicted: u64,
    /// Puts refused so far.
    pub refused: u64,
    /// The age of the item that would be evicted next.
    pub age: Seconds,
    /// Pages it has.
    pub pages: usize,
    /// Chunks free in them.
    pub free_chunks: usize,
    /// Chunks in a page.
    pub chunks_per_page: usize,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A page of one class is to become another's.
    Between {
        /// Who gives it.
        from: usize,
        /// Who gets it.
        to: usize,
    },
    /// A page is given back.
    ToPool {
        /// Who gives it.
        from: usize,
    },
}

/// Decides, and keeps what it saw of each class.
#[derive(Debug, Clone)]
pub struct Mover {
    before: Vec<Sample>,
    windows: Vec<[Seen; WINDOW]>,
    turn: usize,
}

/// What happened to a class between two samples.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    age: u64,
    evicted: bool,
    /// Its share of all evictions.
    evicted_ratio: f32,
    /// Evicted, refused, or got or lost a page.
    busy: bool,
}

/// The class that a page would be taken from or given to.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    class: usize,
    age: u64,
    evicting: bool,
}

impl Mover {
    /// One that has seen nothing yet.
    pub fn new(classes: usize) -> Mover {
        Mover {
            before: vec![Sample::default(); classes],
            windows: vec![[Seen::default(); WINDOW]; classes],
            turn: 0,
        }
    }

    /// Looks at all classes.
    pub fn decide(&mut self, samples: Vec<Sample>) -> Option<Move> {
        self.turn += 1;
        let before = std::mem::replace(&mut self.before, samples);
        let pairs = before.iter().zip(&self.before);
        let evicted: u64 = pairs.map(|(old, new)| new.evicted - old.evicted).sum();
        let (mut oldest, mut youngest) = (None::<Candidate>, None::<Candidate>);
        for (class, old) in before.iter().enumerate() {
            let new = self.before[class];
            if new.pages == 0 {
                continue;
            }
            let window = &mut self.windows[class];
            let seen = Seen::between(old, &new, evicted);
            window[self.turn % WINDOW] = seen;
            if gives_back(window, &new) {
                return Some(Move::ToPool { from: class });
            }
            let age = window.iter().map(|seen| seen.age).sum::<u64>() / WINDOW as u64;
            let evicting = seen.evicted;
            let candidate = Some(Candidate {
                class,
                age,
                evicting,
            });
            if age > oldest.map_or(0, |other| other.age) && new.pages > SOURCE_PAGES {
                oldest = candidate;
            }
            if youngest.is_none_or(|other| age < other.age) && evicts(window) {
                youngest = candidate;
            }
        }
        let (from, to) = oldest.zip(youngest)?;
        let younger = (to.age as f64) < from.age as f64 * AGE_RATIO;
        let (from, to, decided) = (from.class, to.class, younger && to.evicting);
        (decided && self.turn > WINDOW).then_some(Move::Between { from, to })
    }
}

impl Seen {
    fn between(old: &Sample, new: &Sample, evicted_by_all: u64) -> Seen {
        let evicted = new.evicted - old.evicted;
        Seen {
            age: u64::from(new.age),
            evicted: evicted > 0,
            evicted_ratio: evicted as f32 / evicted_by_all.max(1) as f32,
            busy: evicted > 0 || new.refused != old.refused || new.pages != old.pages,
        }
    }
}

fn gives_back(window: &[Seen; WINDOW], now: &Sample) -> bool {
    now.free_chunks as f64 > now.chunks_per_page as f64 * KEPT_PAGES
        && !window.iter().any(|seen| seen.busy)
}

fn evicts(window: &[Seen; WINDOW]) -> bool {
    let ratios: f32 = window.iter().map(|seen| seen.evicted_ratio).sum();
    window.iter().filter(|seen| seen.evicted).count() > WINDOW / 2
        || ratios / WINDOW as f32 > EVICTED_RATIO
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Sample = Sample {
        evicted: 0,
        refused: 0,
        age: 100,
        pages: 10,
        free_chunks: 0,
        chunks_per_page: 75,
    };

    #[test]
    fn a_class_with_many_free_chunks_gives_a_page_back_once_it_is_quiet() {
        let mut mover = Mover::new(1);
        let mut sample = Sample {
            free_chunks: 188,
            ..QUIET
        };
        let mut when = Vec::new();
        for second in 0..100 {
            if mover.decide(vec![sample]) == Some(Move::ToPool { from: 0 }) {
                when.push(second);
                sample.pages -= 1;
            }
        }
        assert_eq!(when, [30, 61, 92]);
        sample.free_chunks = 187;
        assert!((0..100).all(|_| mover.decide(vec![sample]).is_none()));
    }

    #[test]
    fn a_class_that_evicts_young_items_takes_a_page_from_one_whose_are_old() {
        let decided = |age, seconds| {
            let mut mover = Mover::new(2);
            let moves = (1..=seconds).map(|second| {
                let evicted = second;
                let evicting = Sample {
                    age,
                    evicted,
                    ..QUIET
                };
                mover.decide(vec![QUIET, evicting])
            });
            moves.last().flatten()
        };
        assert_eq!(decided(79, 31), Some(Move::Between { from: 0, to: 1 }));
        assert_eq!(decided(79, 30), None);
        assert_eq!(decided(80, 31), None);
    }
}
