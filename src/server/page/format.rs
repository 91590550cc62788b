//! How the status page writes numbers.
//!
//! `script.js` writes them with functions of the same names, in the same arithmetic of doubles, so that a figure looks
//! alike whoever shows it; the samples of `tests/page` hold both to it.

/// What stands where there is no number.
pub const NOTHING: &str = "–";

const KIB: f64 = 1024.0;
const MIB: u64 = 1 << 20;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Rounded to tenths, halves up.
pub fn tenths(number: f64) -> f64 {
    (number * 10.0 + 0.5).floor() / 10.0
}

/// `97.2 %`; nothing of nothing is `–`.
pub fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => NOTHING.to_owned(),
        _ => format!("{:.1} %", tenths(part as f64 * 100.0 / whole as f64)),
    }
}

/// `12,345,678`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with what is counted, `1 item`, `2 items`.
pub fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

/// So many in so many seconds, by the second: with one decimal below ten.
pub fn rate(number: u64, seconds: u64) -> String {
    decimal_below_ten(number as f64 / seconds.max(1) as f64)
}

/// `8 MB`, `2.8 MB`, in units of 1,024, up to terabytes.
pub fn bytes(bytes: u64) -> String {
    let mut number = bytes as f64;
    let mut units = ["B", "KB", "MB", "GB", "TB"].iter();
    let mut unit = units.next();
    // What would be rounded to 1,024 is one of the next.
    while number >= KIB - 0.5
        && let Some(next) = units.next()
    {
        number /= KIB;
        unit = Some(next);
    }
    format!(
        "{} {}",
        decimal_below_ten(number),
        unit.copied().unwrap_or_default()
    )
}

/// As a limit is given with `-m`.
pub fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(MIB))
}

/// `45 s`, `12 min`, `4 h 12 min`, `3 d 4 h`: whole units, the two greatest from an hour on.
pub fn duration(seconds: u64) -> String {
    let (whole, unit, rest, small) = match seconds {
        0..MINUTE => return format!("{seconds} s"),
        MINUTE..HOUR => return format!("{} min", seconds / MINUTE),
        HOUR..DAY => (seconds / HOUR, "h", seconds % HOUR / MINUTE, "min"),
        _ => (seconds / DAY, "d", seconds % DAY / HOUR, "h"),
    };
    match rest {
        0 => format!("{} {unit}", count(whole)),
        _ => format!("{} {unit} {rest} {small}", count(whole)),
    }
}

/// The time of day in UTC, `14:05:09`, of seconds since 1970.
pub fn time_of_day(unix_seconds: i64) -> String {
    let second = unix_seconds.rem_euclid(DAY as i64);
    let (hour, minute) = (second / HOUR as i64, second / MINUTE as i64 % 60);
    format!("{hour:02}:{minute:02}:{:02}", second % 60)
}

fn decimal_below_ten(number: f64) -> String {
    match tenths(number) {
        tenths if tenths < 10.0 => tenths.to_string(),
        _ => count((number + 0.5).floor() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_grouped() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [(1, 16), (2, 3), (5, 5)].map(|(p, w)| percent(p, w)),
            ["6.3 %", "66.7 %", "100.0 %"]
        );
        assert_eq!(
            [(0, 0), (5, 2), (99, 10), (100, 10), (12_345, 1)].map(|(n, s)| rate(n, s)),
            ["0", "2.5", "9.9", "10", "12,345"]
        );
        assert_eq!(
            [counted(1, "item"), counted(0, "item")],
            ["1 item", "0 items"]
        );
    }

    #[test]
    fn bytes_are_in_the_unit_that_fits() {
        let sizes = [
            0,
            1_023,
            1_024,
            1_536,
            8 << 20,
            2_889_480,
            (1 << 30) - 1,
            3 << 29,
            5 << 50,
        ];
        let expected = [
            "0 B", "1,023 B", "1 KB", "1.5 KB", "8 MB", "2.8 MB", "1 GB", "1.5 GB", "5,120 TB",
        ];
        assert_eq!(sizes.map(bytes), expected);
        assert_eq!([8 << 20, (8 << 20) + 1].map(megabytes), ["8 MB", "9 MB"]);
    }

    #[test]
    fn durations_have_their_two_greatest_units() {
        let seconds = [0, 59, 60, 3_599, 3_600, 15_120, 86_400, 273_600];
        let expected = [
            "0 s",
            "59 s",
            "1 min",
            "59 min",
            "1 h",
            "4 h 12 min",
            "1 d",
            "3 d 4 h",
        ];
        assert_eq!(seconds.map(duration), expected);
        assert_eq!(
            [0, 1_795_745_146].map(time_of_day),
            ["00:00:00", "02:05:46"]
        );
    }
}
