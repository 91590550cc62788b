//! How advice is laid out: columns, and the numbers in them. Pure.

use std::fmt;

use crate::tool::simulate::report::words::three_digits;
use crate::tool::status::{Row, write_table};

/// Writes a heading, rows of as many cells, and an empty line.
pub fn write<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    heading: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> fmt::Result {
    let heading: Row = heading.map(str::to_owned).into();
    let rows: Vec<Row> = [heading].into_iter().chain(rows.map(Row::from)).collect();
    write_table(f, &rows)?;
    writeln!(f)
}

/// Writes each sentence in a line of its own.
pub fn write_sentences(f: &mut fmt::Formatter<'_>, sentences: &[String]) -> fmt::Result {
    sentences.iter().try_for_each(|line| writeln!(f, "{line}"))
}

/// A percentage, exact enough to tell a tenth of a point.
pub fn percent(percent: f64) -> String {
    format!("{percent:.2} %")
}

/// A difference with its sign; none of nothing.
pub fn change(difference: f64) -> String {
    let digits = three_digits(difference.abs());
    match digits.chars().all(|c| matches!(c, '0' | '.')) {
        true => "0".to_owned(),
        false if difference < 0.0 => format!("-{digits}"),
        false => format!("+{digits}"),
    }
}

/// A label, with a word for the one that there is now.
pub fn label(text: &str, is_present: bool) -> String {
    match is_present {
        true => format!("{text} (present)"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_a_sign_unless_it_is_none() {
        let said = [1.234, -12.3, 0.004, -0.004, 0.0, 1_234.5].map(change);
        assert_eq!(said, ["+1.23", "-12.3", "0", "0", "0", "+1234"]);
    }
}
