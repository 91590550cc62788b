//! Keys that come in base64, so that they may be of any bytes (protocol.txt, "Meta Get", flag b).
//!
//! Reads base64 as memcached does: other characters are passed over, what is left has to come in
//! fours, and what follows a padding is not looked at.

use std::cell::OnceCell;

use crate::protocol::KEY_BYTES_MAX;
use crate::protocol::command::Key;
use crate::protocol::error::Error;
use crate::protocol::line::is_key;

/// Bytes that the longest key in base64 decodes to, and those of an unfinished three.
const DECODED_BYTES_MAX: usize = KEY_BYTES_MAX / 4 * 3 + 3;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Room for the key of one command, decoded; made and dropped around its execution. Costs nothing until
/// a key needs it.
#[derive(Default)]
pub struct KeyRoom(OnceCell<(usize, [u8; DECODED_BYTES_MAX])>);

impl KeyRoom {
    /// The key that a word means.
    ///
    /// # Errors
    /// `BadFormat` if it can be none, `BadKeyEncoding` if it is no base64.
    pub(super) fn read<'b>(&'b self, word: &'b [u8], is_binary: bool) -> Result<Key<'b>, Error> {
        if !is_key(word) {
            return Err(Error::BadFormat);
        }
        if !is_binary {
            return Ok(Key(word));
        }
        let (length, bytes) = self.0.get_or_init(|| decode(word));
        match length {
            0 => Err(Error::BadKeyEncoding),
            &length => Ok(Key(&bytes[..length])),
        }
    }
}

impl std::fmt::Debug for KeyRoom {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("KeyRoom")
    }
}

/// Decodes at most 250 characters; gives the length, 0 if they cannot be decoded.
fn decode(word: &[u8]) -> (usize, [u8; DECODED_BYTES_MAX]) {
    let mut decoded = [0; DECODED_BYTES_MAX];
    let mut length = 0;
    let mut four = [0; 4];
    let (mut filled, mut padding) = (0, 0);
    if !word.iter().filter_map(digit).count().is_multiple_of(4) {
        return (0, decoded);
    }
    for byte in word {
        let Some(digit) = digit(byte) else {
            continue;
        };
        padding += usize::from(*byte == b'=');
        four[filled] = digit;
        filled += 1;
        if filled < 4 {
            continue;
        }
        filled = 0;
        decoded[length] = four[0] << 2 | four[1] >> 4;
        decoded[length + 1] = four[1] << 4 | four[2] >> 2;
        decoded[length + 2] = four[2] << 6 | four[3];
        length += 3;
        match padding {
            0 => {}
            1 | 2 => return (length - padding, decoded),
            _ => return (0, decoded),
        }
    }
    (length, decoded)
}

/// What a character stands for; `=` for 0, and others for nothing.
fn digit(byte: &u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        b'=' => Some(0),
        _ => None,
    }
}

/// Encodes a key, four characters at a time.
pub(super) fn encode(key: &[u8], mut write: impl FnMut(&[u8])) {
    for three in key.chunks(3) {
        let at = |index: usize| three.get(index).copied().unwrap_or(0);
        let digits = [
            at(0) >> 2,
            at(0) << 4 | at(1) >> 4,
            at(1) << 2 | at(2) >> 6,
            at(2),
        ];
        let mut four = digits.map(|digit| ALPHABET[usize::from(digit & 63)]);
        four[three.len() + 1..].fill(b'=');
        write(&four);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(word: &[u8]) -> Option<Vec<u8>> {
        let (length, bytes) = decode(word);
        (length > 0).then(|| bytes[..length].to_vec())
    }

    #[test]
    fn every_key_is_read_as_it_was_written() {
        let bytes: Vec<u8> = (0..187).map(|byte: u8| byte.wrapping_mul(37)).collect();
        for length in 1..=bytes.len() {
            let mut word = Vec::new();
            encode(&bytes[..length], |four| word.extend_from_slice(four));
            assert!(word.len() <= KEY_BYTES_MAX + 2);
            assert_eq!(decoded(&word).as_deref(), Some(&bytes[..length]));
        }
    }

    #[test]
    fn base64_is_read_as_leniently_as_memcached_does() {
        assert_eq!(decoded(b"Zm9v"), Some(b"foo".to_vec()));
        assert_eq!(decoded(b"Z!m9v"), Some(b"foo".to_vec()));
        assert_eq!(decoded(b"Zg==Zm9v"), Some(b"f".to_vec()));
        for bad in [&b"Zg"[..], b"Zm9", b"!!!!", b"====", b"Z===", b"Zm9vZ"] {
            assert_eq!(decoded(bad), None);
        }
        let longest = [b'/'; KEY_BYTES_MAX];
        assert_eq!(decoded(&longest[..248]), Some(vec![0xff; 186]));
    }

    #[test]
    fn debug_shows_no_key() {
        let room = KeyRoom::default();
        assert!(room.read(b"Zm9v", true).is_ok());
        assert_eq!(format!("{room:?}"), "KeyRoom");
    }
}
