//! Numbers that look random and are the same in every run and in every process.
//!
//! Everything made up under `tool/` is drawn from here: keys and values, and which of them a
//! request names. Nothing depends on what was drawn elsewhere, so any value can be made again by
//! itself.

use rand_core::TryRng;
use std::convert::Infallible;

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Spreads a number over 64 bits (the finalizer of splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(GAMMA);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A sequence of numbers, given by its start (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence that starts there.
    pub fn new(start: u64) -> Self {
        Random(start)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number below `bound`, all equally likely.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// So many bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// Fills all of `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&self.draw().to_le_bytes()[..word.len()]);
        }
    }

    /// A random UUID, as OpenStack makes its ids from (RFC 9562, version 4).
    pub fn uuid(&mut self) -> [u8; 16] {
        let mut uuid: [u8; 16] = self.bytes();
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }
}

/// What `rand_distr` draws from.
impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.draw() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.draw())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.fill(bytes);
        Ok(())
    }
}

/// Writes two hex digits a byte; `digits` has room for exactly those.
pub fn write_hex(bytes: &[u8], digits: &mut [u8]) {
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
}

/// Appends 16 hex digits.
pub fn push_hex(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 16];
    write_hex(&number.to_be_bytes(), &mut digits);
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_stay_below_their_bound_and_repeat() {
        let mut one = Random::new(9);
        let drawn: Vec<_> = (0..1000).map(|_| one.below(10)).collect();
        let mut two = Random::new(9);
        assert!(
            drawn
                .iter()
                .all(|number| *number < 10 && *number == two.below(10))
        );
        assert!((0..10).all(|number| drawn.contains(&number)));
    }

    #[test]
    fn bytes_fill_every_length() {
        let eight: [u8; 8] = Random::new(1).bytes();
        let eleven: [u8; 11] = Random::new(1).bytes();
        assert_eq!(eleven[..8], eight);
        assert!(eleven[8..].iter().any(|byte| *byte != 0));
    }

    #[test]
    fn uuids_say_that_they_are_random() {
        let mut digits = [0; 32];
        write_hex(&Random::new(3).uuid(), &mut digits);
        assert_eq!(digits[12], b'4');
        assert!(b"89ab".contains(&digits[16]));
    }
}
