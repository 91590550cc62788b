//! The scales of a chart's axes: what they reach from and to, and their ticks.
//!
//! Called by [`curves`](super::curves); [`chart`](super::chart) maps values onto them.
//!
//! Invariant: a scale has a height, and its ticks are round numbers within it, from the least to the
//! greatest.

/// Points under the bound from which on a policy is drawn at the bound: what two decimals show.
pub const LOST_MIN: f64 = 0.01;

/// An axis: which of its values are shown, and what is written at which.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// The lowest value shown.
    pub from: f64,
    /// The highest value shown, above the lowest.
    pub to: f64,
    /// Values with a line of the grid, and their labels.
    pub ticks: Vec<(f64, String)>,
}

/// A percentage's scale: at least a point high, and nothing beyond 0 and 100.
pub fn percent(lowest: f64, highest: f64) -> Scale {
    let lacking = (1.0 - (highest - lowest)).max(0.0) / 2.0;
    let margin = (highest - lowest) / 40.0 + lacking;
    linear((lowest - margin).max(0.0), (highest + margin).min(100.0))
}

/// From a round number to a round number, with some five ticks between.
pub fn linear(lowest: f64, highest: f64) -> Scale {
    let rough = (highest - lowest) / 5.0;
    let power = rough.log10().floor();
    let steps = [(1.0, 0), (2.0, 0), (2.5, 1), (5.0, 0), (10.0, -1)];
    let fits = |(step, _): &&(f64, i32)| step * 10f64.powf(power) >= rough * 0.999;
    let (step, decimals) = steps.iter().find(fits).unwrap_or(&steps[4]);
    let step = step * 10f64.powf(power);
    let decimals = (decimals - power as i32).max(0) as usize;
    let (first, last) = (lowest / step, highest / step);
    let ticks = (first.floor() as i64)..=(last.ceil() as i64);
    let at = |nth: i64| nth as f64 * step;
    Scale {
        from: at(*ticks.start()),
        to: at(*ticks.end()),
        ticks: ticks
            .map(|nth| (at(nth), format!("{:.decimals$}", at(nth))))
            .collect(),
    }
}

/// Of points lost, given by their decimal logarithm: from what two decimals show up.
pub fn logarithmic(highest: f64) -> Scale {
    const TICKS: [(f64, &str); 9] = [
        (LOST_MIN, "≤ 0.01"),
        (0.03, "0.03"),
        (0.1, "0.1"),
        (0.3, "0.3"),
        (1.0, "1"),
        (3.0, "3"),
        (10.0, "10"),
        (30.0, "30"),
        (100.0, "100"),
    ];
    let needed = TICKS
        .iter()
        .position(|(points, _)| points.log10() >= highest);
    let last = needed.unwrap_or(TICKS.len() - 1).max(2);
    let ticks = TICKS[..=last].iter();
    Scale {
        from: LOST_MIN.log10() - 0.06,
        to: TICKS[last].0.log10(),
        ticks: ticks
            .map(|(points, label)| (points.log10(), (*label).to_owned()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale
            .ticks
            .iter()
            .map(|(_, label)| label.as_str())
            .collect()
    }

    #[test]
    fn scales_have_round_ticks() {
        let near = percent(73.0, 84.1);
        assert_eq!(
            labels(&near),
            ["72.5", "75.0", "77.5", "80.0", "82.5", "85.0"]
        );
        let same = percent(84.1, 84.1);
        assert_eq!(
            labels(&same),
            ["83.4", "83.6", "83.8", "84.0", "84.2", "84.4", "84.6"]
        );
        assert_eq!(labels(&percent(99.9, 100.0)).last(), Some(&"100.0"));
        assert_eq!(
            labels(&linear(0.0, 113.0)),
            ["0", "25", "50", "75", "100", "125"]
        );
        assert_eq!(
            labels(&linear(0.0, 0.1)),
            ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]
        );
        assert_eq!(labels(&logarithmic(0.5_f64.log10())).last(), Some(&"1"));
        assert_eq!(labels(&logarithmic(-2.0)), ["≤ 0.01", "0.03", "0.1"]);
    }
}
