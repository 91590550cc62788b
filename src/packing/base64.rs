//! Base64 undone and done again.
//!
//! The only file that names the base64 library. MAC and ENCRYPT values are base64 from end to end: the
//! signature's 64 characters, which need no padding, and behind them that of the token.
//!
//! Invariant: what [`undo`] accepts, [`redo`] turns into the same characters; anything else is left as
//! it is.

use base64_simd::{Out, STANDARD};

/// Shortest text that is looked at.
const TEXT_BYTES_MIN: usize = 64;

/// Undoes the base64 of `text` into `bytes`, if it is the standard one, padded, in one piece and just as
/// it would be written again. Says whether. Some 3 microseconds for a token; for anything else a look
/// at the first characters.
pub fn undo(text: &[u8], bytes: &mut Vec<u8>) -> bool {
    bytes.clear();
    let Some(front) = text.get(..TEXT_BYTES_MIN) else {
        return false;
    };
    if !text.len().is_multiple_of(4) || !front.iter().all(is_digit) {
        return false;
    }
    bytes.resize(STANDARD.estimated_decoded_length(text.len()), 0);
    let Ok(decoded) = STANDARD.decode(text, Out::from_slice(bytes)) else {
        return false;
    };
    let length = decoded.len();
    bytes.truncate(length);
    is_written_as(bytes, text)
}

fn is_digit(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// Whether the base64 of `bytes` is `text`. In pieces, so that it needs no room of its own.
fn is_written_as(bytes: &[u8], text: &[u8]) -> bool {
    const PIECE: usize = 3 * 256;
    let mut room = [0; PIECE / 3 * 4];
    let mut rest = text;
    for piece in bytes.chunks(PIECE) {
        let written = STANDARD.encode(piece, Out::from_slice(&mut room));
        match rest.strip_prefix(&*written) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.is_empty()
}

/// Length of the base64 of so many bytes.
pub fn length(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Appends the base64 of `bytes`. Some 1.2 microseconds for a token.
pub fn redo(bytes: &[u8], text: &mut Vec<u8>) {
    STANDARD.encode_append(bytes, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        redo(bytes, &mut text);
        assert_eq!(text.len(), length(bytes.len()));
        text
    }

    #[test]
    fn base64_of_every_length_comes_back() {
        let bytes: Vec<u8> = (0..2_000u32)
            .map(|number| ((number * 31) >> 3) as u8)
            .collect();
        let mut undone = Vec::new();
        for length in 48..bytes.len() {
            assert!(undo(&text(&bytes[..length]), &mut undone), "{length} bytes");
            assert_eq!(undone, bytes[..length]);
        }
    }

    #[test]
    fn one_wrong_character_anywhere_leaves_it_as_it_is() {
        let good = text(&[0x5a; 1_000]);
        let mut undone = Vec::new();
        for at in 0..good.len() {
            for wrong in [b'-', b'_', b' ', b'\n', b'=', 0, 0xff] {
                let mut bad = good.clone();
                if bad[at] == wrong {
                    continue;
                }
                bad[at] = wrong;
                assert!(!undo(&bad, &mut undone), "{wrong:?} at {at}");
            }
        }
    }

    #[test]
    fn bits_that_nobody_would_write_leave_it_as_it_is() {
        let mut bad = text(&[0x5a; 1_000]);
        let at = bad.len() - 3;
        assert_eq!(bad[at + 1..], *b"==");
        bad[at] += 1;
        assert!(!undo(&bad, &mut Vec::new()));
    }

    #[test]
    fn other_forms_are_left_as_they_are() {
        let good = text(&[9; 1_000]);
        let short = text(&[9; 30]);
        let cut = &good[..good.len() - 2];
        let in_lines = [&good[..76], b"\r\n\r\n", &good[76..]].concat();
        for other in [&short[..], cut, &in_lines, b"{\"token\": {}}"] {
            assert!(!undo(other, &mut Vec::new()));
        }
    }
}
