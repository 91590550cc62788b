//! A chart as SVG: axes with the ticks it is given, and curves.
//!
//! The only file that names `plotters`. Which charts there are, and their scales, is decided by
//! [`curves`](super::curves).
//!
//! `plotters` counts in whole pixels and draws no dashes in SVG. So it draws all `SCALE` times as
//! large, into a picture that is shown at its proper size; and it draws each curve in a colour that
//! stands for its place, which `restyled` then replaces by its colour and dashes.
//!
//! Invariant: nothing in a chart is mistaken for such a colour. Its texts are numbers, units, and the
//! axes' titles, and none of its colours has the placeholders' blue.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use std::error::Error;
use std::f64::consts::TAU;
use std::ops::Range;

use super::palette::{Marker, Style};
use super::scale::Scale;

/// How much larger all is drawn than it is shown.
const SCALE: u32 = 4;

const GRID: RGBColor = RGBColor(228, 228, 228);
const AXES: RGBColor = RGBColor(150, 150, 150);
const TEXT: RGBColor = RGBColor(70, 70, 70);

/// `plotters` divides a font's size by this to have SVG's.
const FONT_FACTOR: f64 = 1.24;

impl Ranged for &Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let part = (value - self.from) / (self.to - self.from);
        start + (f64::from(end - start) * part).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for &Scale {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| tick == value);
        tick.map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

/// A policy's line.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// How it looks.
    pub style: Style,
    /// Its points, from left to right, all of them numbers.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    fn marked(&self) -> &[(f64, f64)] {
        match self.style.marker {
            Marker::Nothing => &[],
            _ => &self.points,
        }
    }
}

/// A picture with axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What is across.
    pub x: Scale,
    /// What is up.
    pub y: Scale,
    /// What stands under the x axis.
    pub x_title: &'static str,
    /// The curves, the lowest first: later ones are drawn over it.
    pub curves: Vec<Curve>,
}

impl Chart {
    /// The chart as an SVG element of so many pixels, with what it shows as its `label`, which is
    /// escaped for an attribute.
    pub fn svg(&self, size: (u32, u32), label: &str) -> String {
        let drawn = picture(size, |area| self.draw(&area));
        let styles = self.curves.iter().map(|curve| curve.style);
        let attributes = format!(r#"role="img" aria-label="{label}""#);
        restyled(&drawn, size, styles, &attributes)
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
        let mut chart = ChartBuilder::on(area)
            .margin_top(8 * SCALE)
            .margin_right(22 * SCALE)
            .x_label_area_size(40 * SCALE)
            .y_label_area_size(44 * SCALE)
            .build_cartesian_2d(&self.x, &self.y)?;
        chart
            .configure_mesh()
            .bold_line_style(GRID.stroke_width(SCALE))
            .light_line_style(TRANSPARENT)
            .axis_style(AXES.stroke_width(SCALE))
            .label_style(font(11))
            .axis_desc_style(font(11))
            .set_all_tick_mark_size(4 * SCALE)
            .x_desc(self.x_title)
            .draw()?;
        for (place, curve) in self.curves.iter().enumerate() {
            let colour = placeholder(place);
            let line = colour.stroke_width(curve.style.width_quarters * SCALE / 4);
            chart.draw_series(LineSeries::new(curve.points.iter().copied(), line))?;
            let corners = corners(&curve.style);
            let marker = |at: &_| EmptyElement::at(*at) + Polygon::new(corners.clone(), colour);
            chart.draw_series(curve.marked().iter().map(marker))?;
        }
        Ok(())
    }
}

/// A piece of a line and its marker, as a legend has them.
pub fn sample(style: Style) -> String {
    const SIZE: (u32, u32) = (38, 14);
    let (middle, ends) = ((19, 7), [(1, 7), (37, 7)]);
    let scaled = |(x, y): (u32, u32)| ((x * SCALE) as i32, (y * SCALE) as i32);
    let drawn = picture(SIZE, |area| {
        let line = placeholder(0).stroke_width(style.width_quarters * SCALE / 4);
        area.draw(&PathElement::new(ends.map(scaled).to_vec(), line))?;
        if style.marker != Marker::Nothing {
            let marker = Polygon::new(corners(&style), placeholder(0));
            area.draw(&(EmptyElement::at(scaled(middle)) + marker))?;
        }
        Ok(())
    });
    restyled(&drawn, SIZE, [style], r#"aria-hidden="true""#)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What `draw` draws, [`SCALE`] times as large as `size`.
fn picture(size: (u32, u32), draw: impl Fn(Area<'_>) -> Result<(), Box<dyn Error>>) -> String {
    let mut svg = String::new();
    let scaled = (size.0 * SCALE, size.1 * SCALE);
    let area = SVGBackend::with_string(&mut svg, scaled).into_drawing_area();
    draw(area).expect("a string takes whatever is drawn");
    svg
}

fn font(pixels: u32) -> TextStyle<'static> {
    let size = f64::from(pixels * SCALE) * FONT_FACTOR;
    ("sans-serif", size).into_font().color(&TEXT)
}

/// The colour that stands for the curve at a place. Nothing else that is drawn has 1 as its blue.
fn placeholder(place: usize) -> RGBColor {
    RGBColor((place >> 8) as u8, place as u8, 1)
}

/// The picture in its proper size, with the placeholders replaced by the styles of their places.
fn restyled(
    drawn: &str,
    (width, height): (u32, u32),
    styles: impl IntoIterator<Item = Style>,
    attributes: &str,
) -> String {
    let (head, body) = drawn.split_once('>').unwrap_or_default();
    let view = head.find("viewBox").map_or("", |at| &head[at..]);
    let mut body = body.to_owned();
    for (place, style) in styles.into_iter().enumerate() {
        let RGBColor(r, g, b) = placeholder(place);
        let colour = format!("\"#{r:02X}{g:02X}{b:02X}\"");
        let dashes = style
            .dashes
            .iter()
            .map(|length| (length * SCALE).to_string());
        let dashes = dashes.collect::<Vec<_>>().join(" ");
        let stroke = format!("stroke=\"{}\" stroke-dasharray=\"{dashes}\"", style.colour);
        body = body.replace(&format!("stroke={colour}"), &stroke).replace(
            &format!("fill={colour}"),
            &format!("fill=\"{}\"", style.colour),
        );
    }
    format!("<svg width=\"{width}\" height=\"{height}\" {attributes} {view}>{body}")
}

/// A marker's corners, around its middle.
fn corners(style: &Style) -> Vec<(i32, i32)> {
    let is_thick = style.width_quarters > 10;
    let radius = f64::from(SCALE) * if is_thick { 5.0 } else { 3.75 };
    match style.marker {
        Marker::Nothing => Vec::new(),
        Marker::Disc => star(24, 0.0, radius * 0.95, 1.0),
        Marker::Square => star(4, 0.125, radius * 1.15, 1.0),
        Marker::Diamond => star(4, 0.0, radius * 1.2, 1.0),
        Marker::Triangle => star(3, 0.75, radius * 1.25, 1.0),
        Marker::TriangleDown => star(3, 0.25, radius * 1.25, 1.0),
        Marker::Plus => star(4, 0.0, radius * 1.35, 0.3),
        Marker::Cross => star(4, 0.125, radius * 1.35, 0.3),
    }
}

/// The corners of a star of so many points. The first is `turn` turns from the right;
/// between two points, the radius shrinks to `waist` of a regular polygon's.
fn star(points: u32, turn: f64, radius: f64, waist: f64) -> Vec<(i32, i32)> {
    let inner = radius * waist * (TAU / f64::from(2 * points)).cos();
    let corner = |nth: u32| {
        let angle = TAU * (turn + f64::from(nth) / f64::from(2 * points));
        let radius = if nth.is_multiple_of(2) { radius } else { inner };
        let (y, x) = angle.sin_cos();
        ((radius * x).round() as i32, (radius * y).round() as i32)
    };
    (0..2 * points).map(corner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::simulate::report::palette::styles;

    fn scale(from: f64, to: f64) -> Scale {
        Scale {
            from,
            to,
            ticks: vec![(from, "low".to_owned()), (to, "high".to_owned())],
        }
    }

    fn chart() -> Chart {
        let curves = styles(&["tokencached", "lru", "infinite"]).into_iter();
        Chart {
            x: scale(0.0, 4.0),
            y: scale(0.0, 100.0),
            x_title: "across",
            curves: curves
                .map(|style| Curve {
                    style,
                    points: vec![(0.0, 50.0), (4.0, 100.0)],
                })
                .collect(),
        }
    }

    #[test]
    fn each_curve_is_drawn_in_its_style() {
        let chart = chart();
        let svg = chart.svg((400, 200), "what it shows");
        for Curve { style, .. } in &chart.curves {
            let stroke = format!("stroke=\"{}\" stroke-dasharray", style.colour);
            assert_eq!(svg.matches(&stroke).count(), 1, "{svg}");
            let markers = if style.marker == Marker::Nothing {
                0
            } else {
                2
            };
            let fill = format!("fill=\"{}\"", style.colour);
            assert_eq!(svg.matches(&fill).count(), markers);
        }
        assert!(!svg.contains("01\""), "no placeholder is left: {svg}");
    }

    #[test]
    fn the_picture_has_its_proper_size_its_label_and_its_ticks() {
        let svg = chart().svg((400, 200), "what it shows");
        let head = "<svg width=\"400\" height=\"200\" role=\"img\" aria-label=\"what it shows\" \
                    viewBox=\"0 0 1600 800\" xmlns=\"http://www.w3.org/2000/svg\">";
        assert!(svg.starts_with(head), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("\nlow\n").count(), 2);
        assert_eq!(svg.matches("\nhigh\n").count(), 2);
        assert_eq!(svg.matches("\nacross\n").count(), 1);
    }

    #[test]
    fn a_sample_is_a_line_with_its_marker() {
        let svg = sample(styles(&["lru"])[0]);
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert_eq!(svg.matches("<polygon").count(), 1);
    }
}
