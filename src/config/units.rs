//! Text to numbers: sizes, counts, ports and access masks.
//!
//! Called by `settings.rs` for every value of every source. These functions
//! know the form of a value and its bounds, not which setting it belongs to or
//! where it was read: they answer with a [`Problem`], and the caller adds the
//! setting's name, the value and its source, so that every message of the
//! program has the same shape.
//!
//! Invariants:
//! - *strict*: where memcached's `atoi` reads `64abc` as 64, the whole text has
//!   to be a number here; only space around it is dropped.
//! - *no overflow*: a number that does not fit is a problem, never a wrapped
//!   value.

/// One KiB in bytes.
pub(super) const KIB: u64 = 1024;
/// One MiB in bytes.
pub(super) const MIB: u64 = 1024 * KIB;
/// One GiB in bytes.
pub(super) const GIB: u64 = 1024 * MIB;

/// Why a value cannot be used, and what would do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// What is wrong with the value, without its name: "not a number".
    pub(super) what: String,
    /// What the operator can write instead.
    pub(super) remedy: String,
}

impl Problem {
    /// A problem with its remedy.
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Problem {
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// A whole number between two bounds, both allowed.
pub(super) fn whole(text: &str, min: u64, max: u64) -> Result<u64, Problem> {
    let remedy = || format!("give a whole number from {min} to {max}");
    match digits(text.trim()) {
        None => Err(Problem::new("not a whole number", remedy())),
        Some(number) if (min..=max).contains(&number) => Ok(number),
        Some(number) if number < min => Err(Problem::new("too small", remedy())),
        Some(_) => Err(Problem::new("too large", remedy())),
    }
}

/// A TCP port, where memcached's `-1` asks the system for a free one.
///
/// `None` stands for that free port; 0 is left to the caller, for which it
/// means "no TCP".
pub(super) fn port(text: &str) -> Result<Option<u16>, Problem> {
    if text.trim() == "-1" {
        return Ok(None);
    }
    whole(text, 0, u64::from(u16::MAX)).map(|port| u16::try_from(port).ok())
}

/// A size in bytes: a number with `k`, `m` or `g`, or a bare number of `unit`.
pub(super) fn size(text: &str, unit: u64) -> Result<u64, Problem> {
    let (number, factor) = split_suffix(text.trim(), unit);
    digits(number)
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| not_a_size(unit))
}

/// Permission bits in octal, as `chmod` takes them.
pub(super) fn octal_mask(text: &str) -> Result<u32, Problem> {
    let text = text.trim();
    let octal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mask| octal && *mask <= 0o777)
        .ok_or_else(|| {
            Problem::new(
                "not an octal access mask",
                "give permission bits from 0 to 0777, such as 0700 or 0770",
            )
        })
}

/// A size for people: the largest unit that leaves a whole number.
pub(super) fn show_size(bytes: u64) -> String {
    let exact = [(GIB, "g"), (MIB, "m"), (KIB, "k")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match exact {
        Some((unit, suffix)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Decimal digits only: `+5`, `-1` and the empty text are no numbers here.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

fn split_suffix(text: &str, unit: u64) -> (&str, u64) {
    for (suffixes, factor) in [(['k', 'K'], KIB), (['m', 'M'], MIB), (['g', 'G'], GIB)] {
        if let Some(number) = text.strip_suffix(suffixes) {
            return (number, factor);
        }
    }
    (text, unit)
}

fn not_a_size(unit: u64) -> Problem {
    let remedy = if unit == 1 {
        "give a number of bytes, or one with k, m or g, such as 512k or 1m"
    } else {
        "give a number of MiB such as 64, or one with k, m or g, such as 512m or 2g"
    };
    Problem::new("not a size", remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_memcacheds_suffixes() {
        for (text, unit, bytes) in [
            ("64", MIB, 64 * MIB),
            (" 64 ", MIB, 64 * MIB),
            ("64m", MIB, 64 * MIB),
            ("1g", MIB, GIB),
            ("65536K", MIB, 64 * MIB),
            ("1024", 1, 1024),
            ("1m", 1, MIB),
            ("512k", 1, 512 * KIB),
            ("0", 1, 0),
        ] {
            assert_eq!(size(text, unit), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_refuse_everything_else() {
        for text in [
            "",
            "m",
            "-1",
            "+1",
            "1.5g",
            "64mb",
            "0x10",
            "6 4",
            "99999999999999999999",
            "18446744073709551615g",
            "64\u{661}",
        ] {
            assert!(size(text, MIB).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_whole_unit() {
        for (bytes, text) in [
            (GIB, "1g"),
            (64 * MIB, "64m"),
            (1536 * MIB, "1536m"),
            (1025, "1025"),
            (2 * KIB, "2k"),
            (0, "0"),
        ] {
            assert_eq!(show_size(bytes), text);
        }
    }

    #[test]
    fn whole_numbers_keep_their_bounds() {
        assert_eq!(whole("7", 1, 10), Ok(7));
        for (text, what) in [
            ("0", "too small"),
            ("11", "too large"),
            ("x", "not a whole number"),
        ] {
            assert_eq!(whole(text, 1, 10).unwrap_err().what, what);
        }
        assert!(whole("1e3", 1, 10_000).is_err());
    }

    #[test]
    fn ports_and_masks() {
        assert_eq!(port("11211"), Ok(Some(11211)));
        assert_eq!(port("-1"), Ok(None));
        assert!(port("65536").is_err());
        assert!(port("-2").is_err());
        assert_eq!(octal_mask("0700"), Ok(0o700));
        assert_eq!(octal_mask("770"), Ok(0o770));
        for text in ["", "800", "1777", "0o700", "+7", "rwx"] {
            assert!(octal_mask(text).is_err(), "{text}");
        }
    }
}
