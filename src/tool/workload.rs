//! Keys and values, made from numbers: the same seed gives the same bytes in every run and in every
//! process.
//!
//! A key looks like keystonemiddleware's, `tokens/` and 64 hex digits. A value is made from the
//! key's number and a version: eight hex digits of version, eight of tag, then a piece of a fixed
//! pad of random bytes that starts where the tag says. So a value is checked by comparing slices,
//! without making it again, and values of different keys or versions differ in their head and (but
//! for one in a million) everywhere. The pad does not compress; it is the worst case for a server
//! that packs its values.
//!
//! The [`Ledger`] knows which versions of a key a get may see.
//!
//! Invariants: *one set at a time* is under way for a key, so the order of its versions is known;
//! *no version is forgotten early*: a get accepts what was acknowledged before it was sent and all
//! that was sent until its reply was read.

use std::ops::RangeInclusive;

/// Bytes of version and tag in front of each value; no value is shorter.
pub const HEAD_BYTES: usize = 16;

/// Bytes of a key: `tokens/` and 64 hex digits.
pub const KEY_BYTES: usize = 71;

const PAD_OFFSETS: usize = 1 << 20;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Makes and checks keys and values; about 1 MiB, shared by all connections.
#[derive(Debug)]
pub struct Workload {
    seed: u64,
    value_bytes: RangeInclusive<usize>,
    pad: Vec<u8>,
}

/// What is to be known about a value without making it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Client flags, checked like the bytes.
    pub flags: u32,
    /// Length of the value in bytes.
    pub bytes: usize,
    tag: u32,
    pad_at: usize,
}

impl Workload {
    /// A workload of values whose lengths, in bytes, are spread evenly over `value_bytes`.
    ///
    /// Lengths under [`HEAD_BYTES`] are raised to it. Workloads of other lengths have other keys,
    /// so what one left behind in a server is nothing that another can find and take for wrong.
    pub fn new(seed: u64, value_bytes: RangeInclusive<usize>) -> Self {
        let least = (*value_bytes.start()).max(HEAD_BYTES);
        let most = (*value_bytes.end()).max(least);
        let seed = mix(seed ^ mix(least as u64) ^ mix(!(most as u64)));
        let words = (PAD_OFFSETS + most).div_ceil(8) as u64;
        let pad = (0..words)
            .flat_map(|word| mix(seed ^ mix(word)).to_le_bytes())
            .collect();
        Workload {
            seed,
            value_bytes: least..=most,
            pad,
        }
    }

    /// Appends the key of this number: [`KEY_BYTES`] bytes.
    pub fn push_key(&self, key: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"tokens/");
        for part in 0..4 {
            push_hex(
                mix(self.seed ^ mix(key.wrapping_mul(4).wrapping_add(part))),
                out,
            );
        }
    }

    /// The shape of this version of this key's value.
    pub fn shape(&self, key: u64, version: u32) -> Shape {
        let hash = mix(self.seed ^ mix(key) ^ mix(!u64::from(version)));
        let lengths = self.value_bytes.end() - self.value_bytes.start() + 1;
        Shape {
            flags: (hash >> 48) as u32,
            bytes: self.value_bytes.start() + (mix(hash) % lengths as u64) as usize,
            tag: (hash >> 32) as u32,
            pad_at: hash as usize % PAD_OFFSETS,
        }
    }

    /// Appends this version of this key's value.
    pub fn push_value(&self, shape: Shape, version: u32, out: &mut Vec<u8>) {
        push_hex(head(version, shape.tag), out);
        out.extend_from_slice(&self.pad[shape.pad_at..][..shape.bytes - HEAD_BYTES]);
    }

    /// The version of which `flags` and `value` are exactly the client flags and the bytes; `None`
    /// if they are of none.
    pub fn version_of(&self, key: u64, flags: u32, value: &[u8]) -> Option<u32> {
        let (start, rest) = value.split_at_checked(HEAD_BYTES)?;
        let start = std::str::from_utf8(start).ok()?;
        let head_seen = u64::from_str_radix(start, 16).ok()?;
        let version = (head_seen >> 32) as u32;
        let shape = self.shape(key, version);
        let right = shape.flags == flags
            && shape.bytes == value.len()
            && head(version, shape.tag) == head_seen
            && self.pad[shape.pad_at..][..rest.len()] == *rest;
        right.then_some(version)
    }
}

fn head(version: u32, tag: u32) -> u64 {
    u64::from(version) << 32 | u64::from(tag)
}

/// Appends 16 hex digits.
fn push_hex(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 16];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    out.extend_from_slice(&digits);
}

/// Spreads a number over 64 bits (the finalizer of splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Which versions of each key may be seen; 12 bytes a key.
#[derive(Debug)]
pub struct Ledger {
    keys: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    acknowledged: u32,
    sent: u32,
    busy: bool,
    known: bool,
}

/// The oldest version that a get sent now may see; `None` means any, because this run has not set
/// the key.
pub type Floor = Option<u32>;

impl Ledger {
    /// A ledger of `keys` keys of which nothing is known: an earlier run may have left any version
    /// of them.
    pub fn new(keys: u64) -> Self {
        Ledger {
            keys: vec![Entry::default(); keys as usize],
        }
    }

    /// Begins a set: gives the version to send, or `None` while another set of this key is under
    /// way.
    pub fn begin_set(&mut self, key: u64) -> Option<u32> {
        let entry = &mut self.keys[key as usize];
        if entry.busy {
            return None;
        }
        entry.busy = true;
        entry.sent = entry.sent.wrapping_add(1);
        Some(entry.sent)
    }

    /// Ends the set under way. One that was not stored may or may not have changed the value.
    pub fn end_set(&mut self, key: u64, stored: bool) {
        let entry = &mut self.keys[key as usize];
        entry.busy = false;
        if stored {
            entry.known = true;
            entry.acknowledged = entry.sent;
        }
    }

    /// What a get sent now may see at the oldest.
    pub fn floor(&self, key: u64) -> Floor {
        let entry = &self.keys[key as usize];
        entry.known.then_some(entry.acknowledged)
    }

    /// Whether a get that was sent at `floor` may see `version` now.
    pub fn admits(&self, key: u64, floor: Floor, version: u32) -> bool {
        floor.is_none_or(|floor| (floor..=self.keys[key as usize].sent).contains(&version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(workload: &Workload, key: u64, version: u32) -> (u32, Vec<u8>) {
        let mut out = Vec::new();
        let shape = workload.shape(key, version);
        workload.push_value(shape, version, &mut out);
        assert_eq!(out.len(), shape.bytes);
        (shape.flags, out)
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (one, two) = (Workload::new(7, 100..=900), Workload::new(7, 100..=900));
        let other = Workload::new(8, 100..=900);
        let longer = Workload::new(7, 100..=901);
        for key in 0..50 {
            assert_eq!(value(&one, key, 3), value(&two, key, 3));
            assert_ne!(value(&one, key, 3), value(&other, key, 3));
            let mut keys = [Vec::new(), Vec::new()];
            one.push_key(key, &mut keys[0]);
            longer.push_key(key, &mut keys[1]);
            assert_ne!(keys[0], keys[1]);
            assert_ne!(value(&one, key, 3), value(&one, key, 4));
            assert_ne!(value(&one, key, 3), value(&one, key + 1, 3));
        }
    }

    #[test]
    fn keys_look_like_keystonemiddlewares_and_differ() {
        let workload = Workload::new(1, 64..=64);
        let mut keys = std::collections::HashSet::new();
        for number in 0..1000 {
            let mut key = Vec::new();
            workload.push_key(number, &mut key);
            assert_eq!(key.len(), KEY_BYTES);
            let digits = key.strip_prefix(b"tokens/").unwrap();
            assert!(digits.iter().all(|digit| HEX.contains(digit)));
            assert!(keys.insert(key));
        }
    }

    #[test]
    fn a_value_tells_its_version_and_any_changed_byte_is_seen() {
        let workload = Workload::new(1, 16..=200);
        for key in 0..20 {
            let (flags, mut bytes) = value(&workload, key, 9);
            assert_eq!(workload.version_of(key, flags, &bytes), Some(9));
            assert_eq!(workload.version_of(key, flags + 1, &bytes), None);
            assert_eq!(workload.version_of(key + 1, flags, &bytes), None);
            for at in 0..bytes.len() {
                bytes[at] ^= 1;
                assert_eq!(workload.version_of(key, flags, &bytes), None);
                bytes[at] ^= 1;
            }
            bytes.pop();
            assert_eq!(workload.version_of(key, flags, &bytes), None);
        }
    }

    #[test]
    fn lengths_stay_in_their_range_and_cover_it() {
        let workload = Workload::new(5, 1..=20);
        let lengths: std::collections::BTreeSet<_> =
            (0..500).map(|key| workload.shape(key, 1).bytes).collect();
        assert_eq!(lengths, (HEAD_BYTES..=20).collect());
    }

    #[test]
    fn a_get_may_see_what_was_under_way() {
        let mut ledger = Ledger::new(1);
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
        let mut ledger = Ledger::new(1);
        for stored in [true, false] {
            ledger.begin_set(0);
            ledger.end_set(0, stored);
        }
        let floor = ledger.floor(0);
        assert!(ledger.admits(0, floor, 1) && ledger.admits(0, floor, 2));
        assert_eq!(ledger.begin_set(0), Some(3));
    }
}
