//! Keys in the two forms that keystonemiddleware gives them.
//!
//! A token that is cached plainly has the key `tokens/` and 64 hex digits; one that is signed or
//! encrypted has `tokens/b'`, 24 characters of base64 and `'`. (The second is how Python prints
//! bytes; keystonemiddleware puts it into the key as it stands.) Both are made from a number here;
//! a seed has keys of its own.

use super::random::{Random, mix, push_hex};
use base64_simd::{AsOut, STANDARD};

/// Bytes of a plain token's key.
pub const PLAIN_BYTES: usize = 71;

/// Bytes of the key of a signed or encrypted token.
pub const PROTECTED_BYTES: usize = 34;

/// Appends the key that the token of this number has when it is cached plainly.
pub fn push_plain(seed: u64, number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"tokens/");
    for part in 0..4 {
        push_hex(
            mix(seed ^ mix(number.wrapping_mul(4).wrapping_add(part))),
            out,
        );
    }
}

/// Appends the key that the token of this number has when it is signed or encrypted.
pub fn push_protected(seed: u64, number: u64, out: &mut Vec<u8>) {
    let hash: [u8; 16] = Random::new(seed ^ mix(!number)).bytes();
    let mut text = [0; 24];
    out.extend_from_slice(b"tokens/b'");
    out.extend_from_slice(STANDARD.encode(&hash, text.as_mut_slice().as_out()));
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn keys(push: fn(u64, u64, &mut Vec<u8>)) -> HashSet<Vec<u8>> {
        let made = (0..1000).map(|number| {
            let mut key = Vec::new();
            push(1, number, &mut key);
            key
        });
        made.collect()
    }

    #[test]
    fn plain_keys_are_64_hex_digits_and_differ() {
        let keys = keys(push_plain);
        assert_eq!(keys.len(), 1000);
        for key in keys {
            let digits = key.strip_prefix(b"tokens/").unwrap();
            let lower = |digit: &u8| b"0123456789abcdef".contains(digit);
            assert!(key.len() == PLAIN_BYTES && digits.iter().all(lower));
        }
    }

    #[test]
    fn protected_keys_are_16_bytes_as_python_prints_their_base64_and_differ() {
        let keys = keys(push_protected);
        assert_eq!(keys.len(), 1000);
        for key in keys {
            let text = key.strip_prefix(b"tokens/b'").unwrap();
            let hash = STANDARD.decode_to_vec(text.strip_suffix(b"'").unwrap());
            assert_eq!((hash.unwrap().len(), key.len()), (16, PROTECTED_BYTES));
        }
    }
}
