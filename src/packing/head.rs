//! What stands in front of a packed value: the length and the checksum of what it was.
//!
//! Two little-endian words of 32 bits. The checksum is CRC-32, which for a token of 13 KB takes a fifth
//! of a microsecond; it tells damage, not forgery.

use super::VALUE_BYTES_MAX;

/// Bytes of a head.
pub const HEAD_BYTES: usize = 8;

/// Length and checksum of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    bytes: u32,
    checksum: u32,
}

impl Head {
    /// Those of a value of at most [`VALUE_BYTES_MAX`].
    pub fn of(value: &[u8]) -> Head {
        Head {
            bytes: value.len() as u32,
            checksum: crc32fast::hash(value),
        }
    }

    /// Fills in the head of a packed value.
    ///
    /// # Panics
    /// If there are fewer than [`HEAD_BYTES`] bytes.
    pub fn write(&self, packed: &mut [u8]) {
        packed[..4].copy_from_slice(&self.bytes.to_le_bytes());
        packed[4..HEAD_BYTES].copy_from_slice(&self.checksum.to_le_bytes());
    }

    /// Reads it; gives what stands behind too. `None` if it is none, or tells of more than is ever
    /// packed.
    pub fn read(packed: &[u8]) -> Option<(Head, &[u8])> {
        let (bytes, rest) = packed.split_first_chunk()?;
        let (checksum, rest) = rest.split_first_chunk()?;
        let head = Head {
            bytes: u32::from_le_bytes(*bytes),
            checksum: u32::from_le_bytes(*checksum),
        };
        (head.value_bytes() <= VALUE_BYTES_MAX).then_some((head, rest))
    }

    /// Length of the value.
    pub fn value_bytes(&self) -> usize {
        self.bytes as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_with_what_stands_behind_it() {
        let mut packed = vec![0; 11];
        packed[8..].copy_from_slice(b"rest"[..3].as_ref());
        Head::of(b"value").write(&mut packed);
        assert_eq!(Head::read(&packed), Some((Head::of(b"value"), &b"res"[..])));
    }

    #[test]
    fn a_head_that_is_cut_or_tells_of_too_much_is_none() {
        let mut packed = vec![0; 8];
        Head::of(b"value").write(&mut packed);
        for length in 0..8 {
            assert_eq!(Head::read(&packed[..length]), None);
        }
        packed[2] = 2;
        assert!(Head::read(&packed).is_none(), "128 KiB and five");
    }
}
