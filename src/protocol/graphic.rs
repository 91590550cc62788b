//! How far a key goes: the search that every request of the text protocols begins with.
//!
//! Used by `line` and `classic::lookup`, sixteen bytes at a time, since that is most of what decoding a `get` costs.

use wide::u8x16;

/// How many bytes come before the first space or control byte.
#[inline]
pub fn graphic_prefix(text: &[u8]) -> usize {
    let (chunks, rest) = text.as_chunks::<16>();
    for (number, chunk) in chunks.iter().enumerate() {
        let found = not_graphic(chunk);
        if found != 0 {
            return 16 * number + found.trailing_zeros() as usize;
        }
    }
    let Some(last) = text.last_chunk::<16>() else {
        let is_graphic = |&&byte: &&u8| byte > b' ' && byte != 0x7f;
        return text.iter().take_while(is_graphic).count();
    };
    // What comes before the rest has been looked at.
    let found = not_graphic(last) >> (16 - rest.len());
    match found {
        0 => text.len(),
        _ => text.len() - rest.len() + found.trailing_zeros() as usize,
    }
}

/// A bit for each of the bytes that is a space or a control byte, the lowest for the first.
#[inline]
fn not_graphic(bytes: &[u8; 16]) -> u32 {
    let bytes = u8x16::new(*bytes);
    let up_to_space = bytes.simd_le(u8x16::splat(b' '));
    let delete = bytes.simd_eq(u8x16::splat(0x7f));
    (up_to_space | delete).to_bitmask()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graphic_prefix_ends_at_every_byte_up_to_the_space_and_at_delete() {
        for bad in 0..=u8::MAX {
            for at in 0..40 {
                let mut text = [b'~'; 40];
                text[at] = bad;
                text[39] = b'\n';
                let is_graphic = bad > b' ' && bad != 0x7f && at < 39;
                let expected = if is_graphic { 39 } else { at };
                assert_eq!(graphic_prefix(&text), expected, "{bad:#x} at {at}");
                assert_eq!(graphic_prefix(&text[..at]), at, "without any");
                assert_eq!(
                    graphic_prefix(&text[..=at]),
                    expected.min(at + 1),
                    "at the end"
                );
            }
        }
    }

    #[test]
    fn high_bytes_are_part_of_a_key() {
        assert_eq!(graphic_prefix("schlüssel-für-später \r\n".as_bytes()), 23);
    }
}
