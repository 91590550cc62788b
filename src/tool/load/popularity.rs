//! Which key a request names: all equally likely, or some much more than others.
//!
//! Source of the second: Zipf's law, by which the popularity of web objects is usually modelled (Breslau et al.,
//! INFOCOM 1999).

use crate::tool::random::Random;
use rand_distr::{Distribution, Zipf};

/// How requests are spread over keys. Drawing takes the same time for any number of keys.
#[derive(Debug, Clone, Copy)]
pub enum Popularity {
    /// Over so many keys evenly.
    Even(u64),
    /// The most popular one is key 0, then 1, and so on: keys are made from their numbers in a way that leaves no
    /// order in a server.
    Zipf(Zipf<f64>),
}

impl Popularity {
    /// Over `keys` keys, by Zipf's law with an exponent if there is one; `None` for an exponent that is not above 0.
    pub fn new(keys: u64, exponent: Option<f64>) -> Option<Popularity> {
        let Some(exponent) = exponent else {
            return Some(Popularity::Even(keys));
        };
        let sound = exponent > 0.0 && exponent.is_finite();
        let zipf = Zipf::new(keys as f64, exponent).ok().filter(|_| sound);
        zipf.map(Popularity::Zipf)
    }

    /// The key that the next request names.
    pub fn draw(&self, random: &mut Random) -> u64 {
        match self {
            Popularity::Even(keys) => random.below(*keys),
            // Ranks begin with 1.
            Popularity::Zipf(zipf) => zipf.sample(random) as u64 - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(keys: u64, exponent: Option<f64>) -> Vec<f64> {
        let popularity = Popularity::new(keys, exponent).unwrap();
        let mut random = Random::new(1);
        let mut counts = vec![0.0; keys as usize];
        for _ in 0..100_000 {
            counts[popularity.draw(&mut random) as usize] += 1.0 / 100_000.0;
        }
        counts
    }

    #[test]
    fn popular_keys_are_asked_for_as_zipf_says_and_all_are() {
        let harmonic: f64 = (1..=100).map(|rank| 1.0 / f64::from(rank)).sum();
        for (at, share) in shares(100, Some(1.0)).into_iter().enumerate() {
            let expected = 1.0 / (at + 1) as f64 / harmonic;
            assert!((share - expected).abs() < 0.01, "{at}: {share} {expected}");
            assert!(share > 0.0);
        }
    }

    #[test]
    fn without_an_exponent_all_keys_are_alike() {
        assert!(
            shares(100, None)
                .into_iter()
                .all(|share| (share - 0.01).abs() < 0.005)
        );
        assert!(Popularity::new(1, Some(0.99)).is_some());
        for exponent in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Popularity::new(10, Some(exponent)).is_none());
        }
    }
}
