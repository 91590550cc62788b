//! Values of random bytes, the worst case for a server that packs its values: nothing in them
//! repeats.
//!
//! A value is eight hex digits of version, eight of tag, then a piece of a fixed pad of random
//! bytes that starts where the tag says. So a value is checked by comparing slices, without making
//! it again, and values of different keys or versions differ in their head and (but for one in a
//! million) everywhere.
//!
//! [`Workload`](super::workload::Workload) makes its values here unless they are to be tokens.

use super::keys;
use super::random::{mix, push_hex};
use super::workload::Shape;
use std::ops::RangeInclusive;

/// Bytes of version and tag in front of each value; no value is shorter.
pub const HEAD_BYTES: usize = 16;

const PAD_OFFSETS: usize = 1 << 20;

/// Makes and checks values; about 1 MiB.
#[derive(Debug)]
pub struct Pad {
    seed: u64,
    value_bytes: RangeInclusive<usize>,
    pad: Vec<u8>,
}

/// Which piece of the pad a value is, and what stands before it.
struct Cut {
    shape: Shape,
    tag: u32,
    pad_at: usize,
}

impl Pad {
    /// A pad for values whose lengths, in bytes, are spread evenly over `value_bytes`.
    ///
    /// Lengths under [`HEAD_BYTES`] are raised to it. Pads for other lengths have other keys, so
    /// what one left behind in a server is nothing that another can find and take for wrong.
    pub fn new(seed: u64, value_bytes: RangeInclusive<usize>) -> Self {
        let least = (*value_bytes.start()).max(HEAD_BYTES);
        let most = (*value_bytes.end()).max(least);
        let seed = mix(seed ^ mix(least as u64) ^ mix(!(most as u64)));
        let words = (PAD_OFFSETS + most).div_ceil(8) as u64;
        let pad = (0..words)
            .flat_map(|word| mix(seed ^ mix(word)).to_le_bytes())
            .collect();
        Pad {
            seed,
            value_bytes: least..=most,
            pad,
        }
    }

    /// Appends the key of this number.
    pub fn push_key(&self, key: u64, out: &mut Vec<u8>) {
        keys::push_plain(self.seed, key, out);
    }

    /// Flags and length of this version of this key's value.
    pub fn shape(&self, key: u64, version: u32) -> Shape {
        self.cut(key, version).shape
    }

    /// Appends this version of this key's value.
    pub fn push_value(&self, key: u64, version: u32, out: &mut Vec<u8>) {
        let cut = self.cut(key, version);
        push_hex(head(version, cut.tag), out);
        out.extend_from_slice(&self.pad[cut.pad_at..][..cut.shape.bytes - HEAD_BYTES]);
    }

    /// The version of which these are the client flags and the bytes; `None` if they are of none.
    pub fn version_of(&self, key: u64, flags: u32, value: &[u8]) -> Option<u32> {
        let (start, rest) = value.split_at_checked(HEAD_BYTES)?;
        let start = std::str::from_utf8(start).ok()?;
        let head_seen = u64::from_str_radix(start, 16).ok()?;
        let version = (head_seen >> 32) as u32;
        let cut = self.cut(key, version);
        let bytes = value.len();
        let right = cut.shape == Shape { flags, bytes }
            && head(version, cut.tag) == head_seen
            && self.pad[cut.pad_at..][..rest.len()] == *rest;
        right.then_some(version)
    }

    fn cut(&self, key: u64, version: u32) -> Cut {
        let hash = mix(self.seed ^ mix(key) ^ mix(!u64::from(version)));
        let lengths = self.value_bytes.end() - self.value_bytes.start() + 1;
        Cut {
            shape: Shape {
                flags: (hash >> 48) as u32,
                bytes: self.value_bytes.start() + (mix(hash) % lengths as u64) as usize,
            },
            tag: (hash >> 32) as u32,
            pad_at: hash as usize % PAD_OFFSETS,
        }
    }
}

fn head(version: u32, tag: u32) -> u64 {
    u64::from(version) << 32 | u64::from(tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn value(pad: &Pad, key: u64, version: u32) -> Vec<u8> {
        let mut out = Vec::new();
        pad.push_value(key, version, &mut out);
        assert_eq!(out.len(), pad.shape(key, version).bytes);
        out
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (one, two) = (Pad::new(7, 100..=900), Pad::new(7, 100..=900));
        let other = Pad::new(8, 100..=900);
        let longer = Pad::new(7, 100..=901);
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
    fn what_an_earlier_version_of_the_tool_has_set_is_still_right() {
        let pad = Pad::new(1, 64..=200);
        let mut all = Vec::new();
        for key in 0..100 {
            pad.push_key(key, &mut all);
            pad.push_value(key, 3, &mut all);
            all.extend_from_slice(&pad.shape(key, 3).flags.to_le_bytes());
        }
        assert_eq!(crc32fast::hash(&all), 0xe11d_1e68);
    }

    #[test]
    fn a_value_tells_its_version_and_any_changed_byte_is_seen() {
        let pad = Pad::new(1, 16..=200);
        for key in 0..20 {
            let flags = pad.shape(key, 9).flags;
            let mut bytes = value(&pad, key, 9);
            assert_eq!(pad.version_of(key, flags, &bytes), Some(9));
            assert_eq!(pad.version_of(key, flags + 1, &bytes), None);
            assert_eq!(pad.version_of(key + 1, flags, &bytes), None);
            for at in 0..bytes.len() {
                bytes[at] ^= 1;
                assert_eq!(pad.version_of(key, flags, &bytes), None);
                bytes[at] ^= 1;
            }
            bytes.pop();
            assert_eq!(pad.version_of(key, flags, &bytes), None);
        }
    }

    #[test]
    fn lengths_stay_in_their_range_and_cover_it() {
        let pad = Pad::new(5, 1..=20);
        let lengths: BTreeSet<_> = (0..500).map(|key| pad.shape(key, 1).bytes).collect();
        assert_eq!(lengths, (HEAD_BYTES..=20).collect());
    }
}
