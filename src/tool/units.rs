//! How a person is shown a number: grouped, rounded, with its unit. What is exact is in the JSON.
//!
//! [`status`](super::status) and [`top`](super::top) write with these, so that both say the same. Pure.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What stands for a number that there is not.
pub const NONE: &str = "-";

/// A count with its thousands apart; in millions from a hundred of them.
pub fn count(count: u64) -> String {
    match count {
        0..100_000_000 => grouped(count),
        _ => format!("{} M", grouped(count / 1_000_000)),
    }
}

fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let is_first = |at: usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if is_first(at) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// So many in so many seconds, for one second; with a decimal below ten. None of no time.
pub fn rate(count: u64, seconds: u32) -> String {
    if seconds == 0 {
        return NONE.to_owned();
    }
    match count as f64 / f64::from(seconds) {
        rate if count == 0 || rate >= 9.95 => self::count(rate.round() as u64),
        rate => format!("{rate:.1}"),
    }
}

/// A part of one in percent. What is not all is not 100 %, what is not nothing is not 0 %.
pub fn percent(part: Option<f64>) -> String {
    match part {
        None => NONE.to_owned(),
        Some(0.0) => "0 %".to_owned(),
        Some(1.0) => "100 %".to_owned(),
        Some(part) => format!("{:.1} %", (part * 100.0).clamp(0.1, 99.9)),
    }
}

/// The part of a whole; none of nothing.
pub fn part(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Bytes in the unit that fits: KB, MB and GB are those of `-m`, 1024 of the one before.
pub fn bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..KIB => return format!("{bytes} bytes"),
        KIB..MIB => (KIB, "KB"),
        MIB..GIB => (MIB, "MB"),
        _ => (GIB, "GB"),
    };
    let whole = bytes as f64 / unit as f64;
    match bytes.is_multiple_of(unit) || whole >= 99.95 {
        true => format!("{whole:.0} {name}"),
        false => format!("{whole:.1} {name}"),
    }
}

/// A time in its two largest units.
pub fn time(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let of = |count: u64, unit: &str, rest: u64, smaller: &str| match rest {
        0 => format!("{count} {unit}"),
        _ => format!("{count} {unit} {rest} {smaller}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => of(minutes, "min", seconds % 60, "s"),
        3_600..86_400 => of(hours, "h", minutes % 60, "min"),
        _ => of(days, "d", hours % 24, "h"),
    }
}

/// A time that was added up in milliseconds; below a minute with a decimal.
pub fn milliseconds(milliseconds: u64) -> String {
    match milliseconds {
        0 => "0 s".to_owned(),
        1..60_000 => format!("{:.1} s", (milliseconds as f64 / 1_000.0).max(0.1)),
        _ => time(milliseconds / 1_000),
    }
}

/// What somebody else named, fit to be shown: at most 80 characters, and none that does something to a terminal or to
/// the order of the others.
pub fn harmless(text: &str) -> String {
    let marks = |c: char| matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let shown = |c: char| if c.is_control() || marks(c) { '?' } else { c };
    text.chars().take(80).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_apart() {
        let said = [0, 999, 1_000, 12_345_678, 123_456_789, u64::MAX].map(count);
        let expected = ["0", "999", "1,000", "12,345,678", "123 M"];
        assert_eq!(said[..5], expected);
        assert_eq!(said[5], "18,446,744,073,709 M");
    }

    #[test]
    fn rates_are_of_the_time_that_was_watched() {
        let said = [(0, 10), (7, 10), (99, 10), (123_456, 10), (5, 0)].map(|(n, s)| rate(n, s));
        assert_eq!(said, ["0", "0.7", "9.9", "12,346", "-"]);
    }

    #[test]
    fn all_and_nothing_are_said_of_nothing_else() {
        let parts = [
            None,
            Some(0.0),
            Some(0.000_1),
            Some(0.5),
            Some(0.999_9),
            Some(1.0),
        ];
        let said = parts.map(percent);
        assert_eq!(said, ["-", "0 %", "0.1 %", "50.0 %", "99.9 %", "100 %"]);
    }

    #[test]
    fn bytes_are_said_in_the_unit_that_fits() {
        let said = [5, 6_963, 64 * MIB, 2_889_480, 150 * MIB + 1, 3 * GIB / 2].map(bytes);
        let expected = ["5 bytes", "6.8 KB", "64 MB", "2.8 MB", "150 MB", "1.5 GB"];
        assert_eq!(said, expected);
    }

    #[test]
    fn times_are_said_in_two_units() {
        let said = [0, 59, 60, 61, 3_600, 11_520, 86_400, 273_600].map(time);
        let expected = [
            "0 s",
            "59 s",
            "1 min",
            "1 min 1 s",
            "1 h",
            "3 h 12 min",
            "1 d",
            "3 d 4 h",
        ];
        assert_eq!(said, expected);
        let said = [0, 40, 59_900, 60_000].map(milliseconds);
        assert_eq!(said, ["0 s", "0.1 s", "59.9 s", "1 min"]);
    }

    #[test]
    fn names_do_nothing_to_a_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\nc\u{202e}d\u{9b}é"), "a?[2Jb?c?d?é");
        assert_eq!(harmless(&"x".repeat(500)).len(), 80);
    }
}
