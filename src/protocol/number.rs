//! Decimal numbers as memcached reads them, each function with the leniency of its place.
//!
//! Leading zeros are fine everywhere, hexadecimal nowhere, spaces around counters only.

/// Reads digits only, as lengths, deltas and CAS uniques are written; `None` above `u64::MAX`.
pub fn unsigned(token: &[u8]) -> Option<u64> {
    if token.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for &byte in token {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// Reads an optionally signed 64-bit number.
pub fn signed(token: &[u8]) -> Option<i64> {
    match token {
        [b'-', digits @ ..] => 0i64.checked_sub_unsigned(unsigned(digits)?),
        [b'+', digits @ ..] => unsigned(digits)?.try_into().ok(),
        digits => unsigned(digits)?.try_into().ok(),
    }
}

/// Reads a number without a `+` that has to fit 32 bits: lengths, and the exptime of `touch`, `gat`
/// and `flush_all`.
pub fn signed_32(token: &[u8]) -> Option<i32> {
    match token {
        [b'+', ..] => None,
        token => signed(token)?.try_into().ok(),
    }
}

/// Reads an unsigned number that has to fit 32 bits.
pub fn unsigned_32(token: &[u8]) -> Option<u32> {
    unsigned(token)?.try_into().ok()
}

/// Reads client flags as `set` takes them: 64 bits with an optional `+`, cut to 32.
pub fn client_flags(token: &[u8]) -> Option<u32> {
    let digits = token.strip_prefix(b"+").unwrap_or(token);
    unsigned(digits).map(|flags| flags as u32)
}

/// Reads an item's value as a counter, as memcached does (`util.c`, `safe_strtoull`): white space in front
/// and a `+` are passed over, and so is what stands behind white space or a zero; `decr` pads with spaces.
pub fn counter(value: &[u8]) -> Option<u64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let begin = value.iter().position(|byte| !is_space(byte))?;
    let text = &value[begin..];
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let ends = text
        .get(digits)
        .is_none_or(|next| is_space(next) || *next == 0);
    if ends {
        unsigned(&text[..digits])
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_numbers_are_digits_within_64_bits() {
        assert_eq!(unsigned(b"007"), Some(7));
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            &b""[..],
            b"-1",
            b"+1",
            b"0x10",
            b"5x",
            b" 5",
            b"18446744073709551616",
        ] {
            assert_eq!(unsigned(bad), None);
        }
    }

    #[test]
    fn signed_numbers_take_a_sign_and_fit_64_bits() {
        assert_eq!(signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(signed(b"+5"), Some(5));
        assert_eq!(signed(b"9223372036854775808"), None);
        assert_eq!(signed(b"-"), None);
        assert_eq!(signed_32(b"2147483648"), None);
    }

    #[test]
    fn client_flags_wrap_at_32_bits_and_refuse_a_minus() {
        assert_eq!(client_flags(b"4294967296"), Some(0));
        assert_eq!(client_flags(b"+5"), Some(5));
        assert_eq!(client_flags(b"-1"), None);
        assert_eq!(client_flags(b"18446744073709551616"), None);
    }

    #[test]
    fn a_counter_is_what_stands_before_white_space_or_a_zero() {
        assert_eq!(counter(b"9 "), Some(9));
        assert_eq!(counter(b" 9"), Some(9));
        assert_eq!(counter(b"000000000000000000000009"), Some(9));
        assert_eq!(counter(b"9 9"), Some(9));
        assert_eq!(counter(b"\t+9\nabc"), Some(9));
        assert_eq!(counter(b"9\0x"), Some(9));
        assert_eq!(counter(b"9x"), None);
        assert_eq!(counter(b"+"), None);
        assert_eq!(counter(b"+-9"), None);
        assert_eq!(counter(b"18446744073709551616"), None);
        assert_eq!(counter(b"  "), None);
        assert_eq!(counter(b""), None);
        assert_eq!(counter(b"-12"), None);
    }
}
