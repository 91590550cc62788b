//! How a report is written: a list of named figures, once as a table for people and once as JSON
//! for scripts.
//!
//! [`load`](super::load), [`hold`](super::hold) and [`idle`](super::idle) each declare their
//! figures once, as a [`Figures`]; both views come from it, under the same names. Units are the
//! last word of a name.

use std::fmt;

/// One value of a report.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// A whole number.
    Count(u64),
    /// A number with a fraction; not finite means unknown.
    Real(f64),
    /// Words.
    Text(String),
    /// Could not be found out.
    Unknown,
}

impl From<u64> for Figure {
    fn from(count: u64) -> Self {
        Figure::Count(count)
    }
}

impl From<f64> for Figure {
    fn from(real: f64) -> Self {
        Figure::Real(real)
    }
}

impl From<&str> for Figure {
    fn from(text: &str) -> Self {
        Figure::Text(text.to_owned())
    }
}

impl<T: Into<Figure>> From<Option<T>> for Figure {
    fn from(known: Option<T>) -> Self {
        known.map_or(Figure::Unknown, Into::into)
    }
}

/// The figures of a report, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures(Vec<(&'static str, Figure)>);

impl Figures {
    /// Adds a figure.
    pub fn add(&mut self, name: &'static str, figure: impl Into<Figure>) -> &mut Self {
        self.0.push((name, figure.into()));
        self
    }

    /// One line of JSON: an object of numbers, strings and, for what is unknown, nulls.
    pub fn to_json(&self) -> String {
        let fields: Vec<_> = self
            .0
            .iter()
            .map(|(name, figure)| format!("{}:{}", quoted(name), json(figure)))
            .collect();
        format!("{{{}}}", fields.join(","))
    }
}

/// A table of two columns; unknown figures are left out.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = || {
            self.0
                .iter()
                .filter(|(_, figure)| json(figure) != "null")
                .map(|(name, figure)| (name.replace('_', " "), text(figure)))
        };
        table(f, known)
    }
}

/// Writes names and values as two aligned columns, one line each.
pub fn table<I>(f: &mut fmt::Formatter<'_>, rows: impl Fn() -> I) -> fmt::Result
where
    I: Iterator<Item = (String, String)>,
{
    let width = rows().map(|(name, _)| name.chars().count()).max();
    for (name, value) in rows() {
        writeln!(f, "{name:<width$}  {value}", width = width.unwrap_or(0))?;
    }
    Ok(())
}

fn json(figure: &Figure) -> String {
    match figure {
        Figure::Count(count) => count.to_string(),
        Figure::Real(real) if real.is_finite() => format!("{real:.6}"),
        Figure::Text(text) => quoted(text),
        Figure::Real(_) | Figure::Unknown => "null".to_owned(),
    }
}

fn text(figure: &Figure) -> String {
    match figure {
        Figure::Count(count) => count.to_string(),
        Figure::Real(real) if real.abs() >= 1000.0 => format!("{real:.0}"),
        Figure::Real(real) => format!("{real:.3}"),
        Figure::Text(text) => text.replace(char::is_control, "?"),
        Figure::Unknown => "unknown".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let mut figures = Figures::default();
        figures
            .add("requests", 12)
            .add("elapsed_seconds", 0.25)
            .add("rate", f64::NAN)
            .add("pid", None::<u64>)
            .add("first_error", "a \"b\"\n");
        figures
    }

    #[test]
    fn json_keeps_every_figure() {
        assert_eq!(
            figures().to_json(),
            r#"{"requests":12,"elapsed_seconds":0.250000,"rate":null,"pid":null,"first_error":"a \"b\"\u000a"}"#
        );
    }

    #[test]
    fn the_table_is_aligned_and_leaves_out_the_unknown() {
        let table = figures().to_string();
        assert!(table.starts_with("requests         12\nelapsed seconds  0.250\n"));
        assert_eq!(table.lines().count(), 3);
    }
}
