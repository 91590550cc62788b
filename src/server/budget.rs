//! What all connection buffers together may take.
//!
//! An idle connection owns no buffer; one that waits, for the rest of a request or for its peer to
//! read, takes what it keeps from here and gives it back. When the budget runs out it is the large
//! and late ones that are refused: half of it is for anything, three quarters for what is at most
//! 32 KiB, all of it for command lines and short replies. Values that a slow peer has not
//! read may besides stay where they are in the store, up to a limit of their own, in which there are
//! no such steps, and one value is always allowed, so that any that can be stored can be read.
//!
//! Invariant: what was taken is given back when its [`Share`] is dropped.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A command line, or replies without values.
pub const SMALL_BYTES: usize = 4 << 10;

/// A token with its request, in each of its forms.
const MEDIUM_BYTES: usize = 32 << 10;

/// A bounded number of bytes that connections share.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    used: Arc<AtomicU64>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Large amounts leave room for small ones.
    Stepped,
    /// All amounts are alike, and one alone may be of any size.
    Plain,
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: usize) -> Arc<Budget> {
        Budget::counted(total, Arc::default())
    }

    /// A budget of `total` bytes that counts in `used`, so that statistics can show it.
    pub fn counted(total: usize, used: Arc<AtomicU64>) -> Arc<Budget> {
        let kind = Kind::Stepped;
        Arc::new(Budget { total, used, kind })
    }

    /// A budget of `total` bytes in which all amounts are alike, and one alone may be of any size.
    pub fn plain(total: usize) -> Arc<Budget> {
        Arc::new(Budget {
            total,
            used: Arc::default(),
            kind: Kind::Plain,
        })
    }

    /// Bytes taken at the moment.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed) as usize
    }

    /// Whether an amount of this size would find room now.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.used() + bytes <= self.limit_for(bytes)
    }

    /// Up to where an amount of this size may fill the budget.
    fn limit_for(&self, bytes: usize) -> usize {
        if self.kind == Kind::Plain {
            return self.total;
        }
        if bytes <= SMALL_BYTES {
            self.total
        } else if bytes <= MEDIUM_BYTES {
            self.total / 4 * 3
        } else {
            self.total / 2
        }
    }

    /// Takes `bytes` more for somebody who then has `all` of it.
    fn try_take(&self, bytes: usize, all: usize) -> bool {
        let limit = self.limit_for(all) as u64;
        let alone = |used: u64| used == 0 && self.kind == Kind::Plain;
        let take = |used: u64| {
            let sum = used.checked_add(bytes as u64)?;
            (sum <= limit || alone(used)).then_some(sum)
        };
        // Relaxed: a count that orders nothing.
        self.used.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Relaxed);
    }
}

/// What one connection has taken.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Nothing yet.
    pub fn new(budget: &Arc<Budget>) -> Share {
        Share {
            budget: Arc::clone(budget),
            bytes: 0,
        }
    }

    /// Makes the share exactly `bytes`; says whether there was room, and leaves it alone if not.
    pub fn resize(&mut self, bytes: usize) -> bool {
        if bytes == self.bytes {
            return true;
        }
        if bytes > self.bytes && !self.budget.try_take(bytes - self.bytes, bytes) {
            return false;
        }
        if bytes < self.bytes {
            self.budget.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_amounts_leave_room_for_small_ones() {
        let budget = Budget::new(1 << 20);
        let mut large = Share::new(&budget);
        assert!(!large.resize(600 << 10));
        assert!(large.resize(512 << 10));
        let mut medium = Share::new(&budget);
        assert!(medium.resize(20 << 10));
        let mut refused = Share::new(&budget);
        assert!(!refused.resize(100 << 10) && refused.resize(4 << 10));
        assert_eq!(budget.used(), (512 + 20 + 4) << 10);
        drop((large, medium, refused));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_plain_budget_takes_any_amount_alone_and_all_amounts_alike() {
        let budget = Budget::plain(1 << 20);
        let (mut one, mut other) = (Share::new(&budget), Share::new(&budget));
        assert!(one.resize(2 << 20) && !other.resize(1));
        assert!(one.resize(900 << 10) && other.resize(100 << 10) && !other.resize(200 << 10));
    }

    #[test]
    fn who_grows_in_small_steps_is_large_all_the_same() {
        let budget = Budget::new(1 << 20);
        let mut shares: Vec<Share> = (0..10).map(|_| Share::new(&budget)).collect();
        for kib in 1..=100 {
            for share in &mut shares {
                share.resize(kib << 10);
            }
        }
        assert!(budget.used() <= 512 << 10);
        assert!(Share::new(&budget).resize(20 << 10));
    }

    #[test]
    fn the_budget_is_never_exceeded() {
        let budget = Budget::new(64 << 10);
        let shares: Vec<Share> = std::iter::repeat_with(|| Share::new(&budget))
            .map_while(|mut share| share.resize(4 << 10).then_some(share))
            .collect();
        assert_eq!(shares.len(), 16);
        assert_eq!(budget.used(), 64 << 10);
    }
}
