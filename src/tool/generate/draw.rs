//! Drawing from the distributions that arrivals and pauses have.

use crate::tool::random::Random;

/// A number from 0 up to, not including, 1.
pub fn uniform(random: &mut Random) -> f64 {
    (random.draw() >> 11) as f64 / (1u64 << 53) as f64
}

/// A pause of a Poisson process: exponentially distributed.
pub fn exponential(random: &mut Random, mean: f64) -> f64 {
    -mean * (1.0 - uniform(random)).ln()
}

/// A count of at least 1, geometrically distributed.
pub fn geometric(random: &mut Random, mean: f64) -> u32 {
    if mean <= 1.0 {
        return 1;
    }
    let goes_on = 1.0 - 1.0 / mean;
    1 + ((1.0 - uniform(random)).ln() / goes_on.ln()) as u32
}

/// A factor around 1, log-normally distributed with mean 1: how some do much more than most.
pub fn spread(random: &mut Random, sigma: f64) -> f64 {
    (sigma * normal(random) - sigma * sigma / 2.0).exp()
}

/// Box and Muller's.
fn normal(random: &mut Random) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(random)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(random)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mut draw: impl FnMut(&mut Random) -> f64) -> f64 {
        let mut random = Random::new(5);
        (0..100_000).map(|_| draw(&mut random)).sum::<f64>() / 100_000.0
    }

    #[test]
    fn every_distribution_has_the_mean_it_was_asked_for() {
        assert!((mean(|random| exponential(random, 30.0)) - 30.0).abs() < 0.5);
        assert!((mean(|random| f64::from(geometric(random, 4.0))) - 4.0).abs() < 0.1);
        assert!((mean(|random| spread(random, 1.0)) - 1.0).abs() < 0.05);
        assert_eq!(mean(|random| f64::from(geometric(random, 1.0))), 1.0);
    }
}
