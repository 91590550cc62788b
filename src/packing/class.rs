//! Which values are not worth trying: what did not shrink is remembered by class.
//!
//! Of what holds no token: those are always tried. A class is what a value looks like (its first byte,
//! whether it was base64) and its client flags, in which clients say what they have done to a value: python-binary-memcached
//! marks with them what it has compressed itself. Shared by all threads, without locks; two threads
//! that count at once may lose a count, which costs one try more.
//!
//! Invariant: bounded. Classes that fall on the same place share it.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

const PLACES: usize = 1024;

/// Values in a row that did not shrink, after which their class is given up.
const FAILURES_MAX: u32 = 8;

/// Of a class given up one value in so many is tried all the same: its values may have changed.
const RETRY_EVERY: u32 = 256;

/// Which values are taken to be alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(usize);

impl Class {
    /// The class of a value.
    pub fn of(content: &[u8], was_base64: bool, client_flags: u32) -> Class {
        // Behind a signature the first byte is as good as random.
        let first = match content.first() {
            Some(&first) if !was_base64 => u32::from(first),
            _ => 0,
        };
        let kind = first << 1 | u32::from(was_base64);
        let mixed = (kind ^ client_flags.rotate_left(16)).wrapping_mul(0x9e37_79b1);
        Class((mixed >> 16) as usize % PLACES)
    }
}

/// What is known of each class: tries in a row that failed, and since the class was given up, values.
#[derive(Debug)]
pub struct Classes([AtomicU32; PLACES]);

impl Default for Classes {
    fn default() -> Classes {
        Classes(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Classes {
    /// Whether to try a value of this class.
    pub fn worth_trying(&self, class: Class) -> bool {
        let count = &self.0[class.0];
        let failures = count.load(Relaxed);
        if failures < FAILURES_MAX {
            return true;
        }
        let next = failures + 1;
        let retry = next >= FAILURES_MAX + RETRY_EVERY;
        count.store(if retry { FAILURES_MAX } else { next }, Relaxed);
        retry
    }

    /// Notes how a try went.
    pub fn note(&self, class: Class, shrank: bool) {
        let count = &self.0[class.0];
        let failures = count.load(Relaxed);
        if shrank {
            if failures > 0 {
                count.store(0, Relaxed);
            }
        } else if failures < FAILURES_MAX {
            count.store(failures + 1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_shrink_is_given_up_and_seldom_tried_again() {
        let classes = Classes::default();
        let class = Class::of(b"\x78\x9c", false, 24);
        let tried = (0..10_000).filter(|_| {
            let tries = classes.worth_trying(class);
            if tries {
                classes.note(class, false);
            }
            tries
        });
        assert_eq!(tried.count(), 8 + (10_000 - 8) / 256);
    }

    #[test]
    fn one_value_that_shrinks_brings_its_class_back() {
        let classes = Classes::default();
        let class = Class::of(b"x", false, 0);
        (0..8).for_each(|_| classes.note(class, false));
        assert!(!classes.worth_trying(class));
        classes.note(class, true);
        assert!((0..1_000).all(|_| classes.worth_trying(class)));
    }

    #[test]
    fn what_clients_compressed_or_encrypted_is_apart_from_what_they_did_not() {
        let plain = Class::of(b"{\"a\": {", false, 0);
        let encrypted = Class::of(&[200; 60], true, 0);
        let compressed = Class::of(b"\x78\x9c", false, 24);
        let all = [plain, encrypted, compressed];
        for (at, class) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(class));
        }
    }
}
