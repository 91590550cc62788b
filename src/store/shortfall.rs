//! How much more memory would have kept a key that was asked for after it had to leave.
//!
//! When a look-up misses a key that the ghost knows to have been evicted, and whose time is not over, the segments that
//! its chain has given up since say how many more that chain would have needed. Were the memory larger by a part, so
//! would each chain be: that part times its segments. And a key that came back too late to be put into main would have
//! been in main, did items stay there for longer. `returns` knows all that, without a lock.
//!
//! An estimate, and a low one: what the ghost has forgotten is not in it. How near it comes is tested in virtual
//! time against stores that have that memory (tests/shortfall.rs): within two points of the hit ratio, but for
//! a store with a fraction of what it needs.

/// The memory that would have kept a key, in parts of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortfall {
    /// An eighth more.
    Eighth = 0,
    /// A quarter more.
    Quarter = 1,
    /// Half as much again.
    Half = 2,
    /// Twice as much in all.
    Double = 3,
    /// Three times as much in all.
    Triple = 4,
}

impl Shortfall {
    /// All of them, the smallest first, in the order of their numbers.
    pub const ALL: [Shortfall; 5] = [
        Shortfall::Eighth,
        Shortfall::Quarter,
        Shortfall::Half,
        Shortfall::Double,
        Shortfall::Triple,
    ];

    /// How much that is, in eighths of the limit.
    pub const fn eighths(self) -> u64 {
        match self {
            Shortfall::Eighth => 1,
            Shortfall::Quarter => 2,
            Shortfall::Half => 4,
            Shortfall::Double => 8,
            Shortfall::Triple => 16,
        }
    }

    /// That of a key which a chain of so many segments gave up so many segments ago. `None` beyond the largest, and
    /// for a chain of which nothing is known.
    pub(super) fn of(given_up_since: u64, chain_segments: u64) -> Option<Shortfall> {
        let would_do =
            |shortfall: &Shortfall| given_up_since * 8 < chain_segments * shortfall.eighths();
        Shortfall::ALL.into_iter().find(would_do)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_ago_a_key_left_the_more_memory_had_kept_it() {
        let of = |given_up| Shortfall::of(given_up, 80);
        assert_eq!(of(0), Some(Shortfall::Eighth));
        assert_eq!(of(9), Some(Shortfall::Eighth));
        assert_eq!(of(10), Some(Shortfall::Quarter));
        assert_eq!(of(39), Some(Shortfall::Half));
        assert_eq!(of(40), Some(Shortfall::Double));
        assert_eq!(of(159), Some(Shortfall::Triple));
        assert_eq!(of(160), None);
        assert_eq!(Shortfall::of(0, 0), None, "nothing was given up yet");
    }
}
