//! Keys and values, made from numbers: the same seed gives the same bytes in every run and in every
//! process.
//!
//! The one thing the rest of `tool/` knows about them. What they are is up to [`pad`](super::pad),
//! random bytes, or [`tokens`](super::tokens), what keystonemiddleware caches; both are made from
//! the key's number and a version, which can be read from the value again. So a reply is checked
//! byte for byte without anything having been kept.
//!
//! The [`Ledger`] knows which versions of a key a get may see.
//!
//! Invariants: *one set at a time* is under way for a key, so the order of its versions is known;
//! *no version is forgotten early*: a get accepts what was acknowledged before it was sent and all
//! that was sent until its reply was read.

use super::keys;
use super::pad::Pad;
use super::tokens::{FLAGS, Tokens};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// Makes and checks keys and values, for all connections.
#[derive(Debug)]
pub enum Workload {
    /// Values are random bytes.
    Random(Pad),
    /// Values are tokens.
    Tokens(Tokens),
}

/// What is to be known about a value without making it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Client flags, checked like the bytes.
    pub flags: u32,
    /// Length of the value in bytes.
    pub bytes: usize,
}

impl Workload {
    /// Bytes of every key.
    pub fn key_bytes(&self) -> usize {
        match self {
            Workload::Random(_) => keys::PLAIN_BYTES,
            Workload::Tokens(tokens) => tokens.key_bytes(),
        }
    }

    /// Appends the key of this number.
    pub fn push_key(&self, key: u64, out: &mut Vec<u8>) {
        match self {
            Workload::Random(pad) => pad.push_key(key, out),
            Workload::Tokens(tokens) => tokens.push_key(key, out),
        }
    }

    /// The shape of this version of this key's value.
    pub fn shape(&self, key: u64, version: u32) -> Shape {
        match self {
            Workload::Random(pad) => pad.shape(key, version),
            Workload::Tokens(tokens) => Shape {
                flags: FLAGS,
                bytes: tokens.value_bytes(key),
            },
        }
    }

    /// Appends this version of this key's value.
    pub fn push_value(&self, key: u64, version: u32, out: &mut Vec<u8>) {
        match self {
            Workload::Random(pad) => pad.push_value(key, version, out),
            Workload::Tokens(tokens) => tokens.push_value(key, version, out),
        }
    }

    /// The version of which `flags` and `value` are exactly the client flags and the bytes; `None`
    /// if they are of none.
    pub fn version_of(&self, key: u64, flags: u32, value: &[u8]) -> Option<u32> {
        match self {
            Workload::Random(pad) => pad.version_of(key, flags, value),
            Workload::Tokens(tokens) if flags == FLAGS => tokens.version_of(key, value),
            Workload::Tokens(_) => None,
        }
    }
}

/// Which versions of each key may be seen; 8 bytes a key, shared by threads without a lock.
#[derive(Debug)]
pub struct Ledger {
    keys: Vec<AtomicU64>,
}

/// What is known of a key, in one word. Versions begin with 1, so that 0 is none.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    acknowledged: u32,
    sent: u32,
    busy: bool,
}

const BUSY: u64 = 1 << 63;

impl Entry {
    fn of(word: u64) -> Entry {
        Entry {
            acknowledged: word as u32,
            sent: ((word & !BUSY) >> 32) as u32,
            busy: word & BUSY != 0,
        }
    }

    fn word(self) -> u64 {
        let busy = if self.busy { BUSY } else { 0 };
        u64::from(self.acknowledged) | u64::from(self.sent) << 32 | busy
    }
}

/// The oldest version that a get sent now may see; `None` means any, because this run has not set
/// the key.
pub type Floor = Option<u32>;

impl Ledger {
    /// A ledger of `keys` keys of which nothing is known: an earlier run may have left any version
    /// of them.
    pub fn new(keys: u64) -> Self {
        Ledger {
            keys: (0..keys).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn entry(&self, key: u64) -> Entry {
        Entry::of(self.keys[key as usize].load(SeqCst))
    }

    /// Begins a set: gives the version to send, or `None` while another set of this key is under
    /// way. A key can be set two thousand million times.
    pub fn begin_set(&self, key: u64) -> Option<u32> {
        let begin = |word| {
            let entry = Entry::of(word);
            let next = Entry {
                sent: entry.sent + 1,
                busy: true,
                ..entry
            };
            (!entry.busy).then(|| next.word())
        };
        let before = self.keys[key as usize].fetch_update(SeqCst, SeqCst, begin);
        before.ok().map(|word| Entry::of(word).sent + 1)
    }

    /// Ends the set under way, which only who began it does. One that was not stored may or may not have changed the
    /// value.
    pub fn end_set(&self, key: u64, stored: bool) {
        let entry = self.entry(key);
        let acknowledged = if stored {
            entry.sent
        } else {
            entry.acknowledged
        };
        let ended = Entry {
            acknowledged,
            busy: false,
            ..entry
        };
        self.keys[key as usize].store(ended.word(), SeqCst);
    }

    /// What a get sent now may see at the oldest.
    pub fn floor(&self, key: u64) -> Floor {
        let acknowledged = self.entry(key).acknowledged;
        (acknowledged > 0).then_some(acknowledged)
    }

    /// Whether a get that was sent at `floor` may see `version` now.
    pub fn admits(&self, key: u64, floor: Floor, version: u32) -> bool {
        floor.is_none_or(|floor| (floor..=self.entry(key).sent).contains(&version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::tokens::Form;

    #[test]
    fn every_workload_says_beforehand_what_it_makes_and_knows_it_again() {
        let tokens = |form| Workload::Tokens(Tokens::new(form, 0, None, 1));
        for workload in [
            Workload::Random(Pad::new(1, 40..=400)),
            tokens(Form::Plain),
            tokens(Form::Mac),
            tokens(Form::Encrypt),
        ] {
            let (mut key, mut value) = (Vec::new(), Vec::new());
            workload.push_key(5, &mut key);
            workload.push_value(5, 2, &mut value);
            let Shape { flags, bytes } = workload.shape(5, 2);
            assert_eq!((key.len(), value.len()), (workload.key_bytes(), bytes));
            assert_eq!(workload.version_of(5, flags, &value), Some(2));
            assert_eq!(workload.version_of(5, flags + 1, &value), None);
        }
    }

    #[test]
    fn a_get_may_see_what_was_under_way() {
        let ledger = Ledger::new(1);
        assert!(ledger.admits(0, ledger.floor(0), 77));
        assert_eq!(ledger.begin_set(0), Some(1));
        assert_eq!(ledger.begin_set(0), None);
        ledger.end_set(0, true);
        let floor = ledger.floor(0);
        assert!(ledger.admits(0, floor, 1) && !ledger.admits(0, floor, 2));
        assert_eq!(ledger.begin_set(0), Some(2));
        assert!(ledger.admits(0, floor, 1) && ledger.admits(0, floor, 2));
        ledger.end_set(0, true);
        assert!(!ledger.admits(0, ledger.floor(0), 1));
    }

    #[test]
    fn a_set_that_failed_leaves_either_value() {
        let ledger = Ledger::new(1);
        for stored in [true, false] {
            ledger.begin_set(0);
            ledger.end_set(0, stored);
        }
        let floor = ledger.floor(0);
        assert!(ledger.admits(0, floor, 1) && ledger.admits(0, floor, 2));
        assert_eq!(ledger.begin_set(0), Some(3));
    }

    #[test]
    fn of_two_threads_that_set_a_key_one_is_under_way() {
        let ledger = Ledger::new(1);
        let mut begun = std::thread::scope(|scope| {
            let sets = || {
                let begun = (0..10_000).filter_map(|_| {
                    let version = ledger.begin_set(0)?;
                    ledger.end_set(0, true);
                    Some(version)
                });
                begun.collect::<Vec<_>>()
            };
            let threads = [scope.spawn(sets), scope.spawn(sets)];
            threads.map(|thread| thread.join().unwrap()).concat()
        });
        begun.sort_unstable();
        let expected = 1..=begun.len() as u32;
        assert!(begun.iter().copied().eq(expected), "each version once");
    }
}
