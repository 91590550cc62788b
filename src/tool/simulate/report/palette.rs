//! How each policy's curve looks: the same all over a page.
//!
//! The colours are those of Okabe and Ito, which the colour-blind can tell apart, without the yellow,
//! that is too light for a line on white. Dashes and markers tell them apart once more, so that a page
//! printed in black and white can be read, and a line under another one shows.
//!
//! Invariants: blue is the project's own store and no other's; grey is a bound; of twelve other
//! policies, no two have the same colour and dashes.

use super::grid::{base, is_bound};

/// The policy that is the project's own store.
pub const OWN: &str = "tokencached";

const OWN_COLOUR: &str = "#0072B2";
const BOUND_COLOUR: &str = "#8A8A8A";
const COLOURS: [&str; 6] = [
    "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#222222", "#56B4E9",
];

/// Lengths in pixels, in turn drawn and not drawn; the first is a whole line.
const DASHES: [&[u32]; 4] = [&[], &[7, 3], &[3, 2], &[9, 3, 2, 3]];

const MARKERS: [Marker; 6] = [
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::Cross,
    Marker::TriangleDown,
    Marker::Plus,
];

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// As HTML has it.
    pub colour: &'static str,
    /// Lengths in pixels, in turn drawn and not drawn; empty for a whole line.
    pub dashes: &'static [u32],
    /// Of the line, in quarters of a pixel.
    pub width_quarters: u32,
    /// What stands at each point.
    pub marker: Marker,
}

/// What stands at a curve's points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// A bound's points are not marked.
    Nothing,
    /// The project's own store.
    Disc,
    /// Upright.
    Square,
    /// Its point up.
    Triangle,
    /// A square on its corner.
    Diamond,
    /// A plus on its corner.
    Cross,
    /// Its point down.
    TriangleDown,
    /// Upright.
    Plus,
}

/// The styles of policies, in their order.
pub fn styles(policies: &[&str]) -> Vec<Style> {
    let (mut own, mut bounds, mut others) = (0, 0, 0);
    let styles = policies.iter().map(|policy| {
        let (style, count): (fn(usize) -> Style, _) = match *policy {
            bound if is_bound(bound) => (bound_style, &mut bounds),
            store if base(store) == OWN => (own_style, &mut own),
            _ => (other_style, &mut others),
        };
        *count += 1;
        style(*count - 1)
    });
    styles.collect()
}

/// The store as it is, and thinner its variants.
fn own_style(nth: usize) -> Style {
    Style {
        colour: OWN_COLOUR,
        dashes: DASHES[nth % DASHES.len()],
        width_quarters: if nth == 0 { 15 } else { 8 },
        marker: Marker::Disc,
    }
}

fn bound_style(nth: usize) -> Style {
    Style {
        colour: BOUND_COLOUR,
        dashes: DASHES[1 + nth % 2],
        width_quarters: 6,
        marker: Marker::Nothing,
    }
}

fn other_style(nth: usize) -> Style {
    Style {
        colour: COLOURS[nth % COLOURS.len()],
        dashes: DASHES[(nth + nth / COLOURS.len()) % DASHES.len()],
        width_quarters: 6,
        marker: MARKERS[(nth + nth / COLOURS.len()) % MARKERS.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_emphasised_and_bounds_are_grey() {
        let styles = styles(&[
            "infinite",
            "tokencached",
            "lru",
            "tokencached:probation-min=30",
        ]);
        assert_eq!(styles[0].colour, BOUND_COLOUR);
        assert!(!styles[0].dashes.is_empty());
        assert!(styles[1].width_quarters > 2 * styles[2].width_quarters);
        assert!(styles[1].dashes.is_empty());
        assert_eq!(styles[1].colour, styles[3].colour);
        assert_ne!(styles[1].dashes, styles[3].dashes);
    }

    #[test]
    fn twelve_policies_are_told_apart() {
        let names: Vec<_> = (0..12).map(|nth| format!("p{nth}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let styles = styles(&names);
        for (nth, style) in styles.iter().enumerate() {
            for other in &styles[..nth] {
                assert!((style.colour, style.dashes) != (other.colour, other.dashes));
                assert!((style.colour, style.marker) != (other.colour, other.marker));
            }
        }
    }
}
