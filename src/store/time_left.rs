//! How long an item was still to be held when it was last used, in six bits.
//!
//! The ghost keeps it with a key that had to leave for others, and so can tell whoever asks for that key later
//! whether it would be there with more memory, or would have expired meanwhile.
//!
//! Invariant: steps are a quarter of an octave, so that what comes out is within a tenth of what went in, from a
//! second to half a day.

use super::item::NEVER;

/// The time from an item's last use to its expiry, nearly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLeft(u8);

impl TimeLeft {
    /// Bits that it takes.
    pub const BITS: u32 = 6;

    /// That of an item that does not expire.
    pub const ENDLESS: TimeLeft = TimeLeft((1 << TimeLeft::BITS) - 1);

    const STEPS_OF_AN_OCTAVE: f64 = 4.0;

    /// That of an item with this last use and expiry, in seconds of `clock::Now`.
    pub fn of(used_at_seconds: u32, expiry: u32) -> TimeLeft {
        if expiry == NEVER {
            return TimeLeft::ENDLESS;
        }
        let seconds = expiry.saturating_sub(used_at_seconds).max(1);
        let steps = f64::from(seconds).log2() * TimeLeft::STEPS_OF_AN_OCTAVE;
        TimeLeft((steps.round() as u8).min(TimeLeft::ENDLESS.0 - 1))
    }

    /// Whether it was over so many seconds after that use.
    pub fn is_over_after(self, seconds: u32) -> bool {
        let octaves = f64::from(self.0) / TimeLeft::STEPS_OF_AN_OCTAVE;
        self != TimeLeft::ENDLESS && f64::from(seconds) >= octaves.exp2()
    }

    /// As an entry of the ghost has it.
    pub fn bits(self) -> u64 {
        self.0.into()
    }

    /// What an entry of the ghost has in its lowest bits.
    pub fn from_bits(bits: u64) -> TimeLeft {
        TimeLeft(bits as u8 & TimeLeft::ENDLESS.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_it_was_to_be_within_a_tenth() {
        for seconds in (1..100).chain([300, 3_600, 30_000]) {
            let left = TimeLeft::from_bits(TimeLeft::of(1_000, 1_000 + seconds).bits());
            assert!(left.is_over_after(seconds + seconds / 10 + 1), "{seconds}");
            assert!(!left.is_over_after(seconds * 9 / 10), "{seconds}");
        }
        assert!(TimeLeft::of(1_000, 900).is_over_after(1));
    }

    #[test]
    fn what_never_expires_is_never_over() {
        let left = TimeLeft::from_bits(TimeLeft::of(1_000, NEVER).bits());
        assert!(!left.is_over_after(u32::MAX));
        assert!(TimeLeft::of(2, u32::MAX).is_over_after(u32::MAX));
    }
}
