//! Time as an argument.
//!
//! Everything below the server takes a [`Now`] and never asks the operating system for the time, so
//! that a test, the simulator and a fuzzer can turn the clock by hand. The server reads [`Clock::now`]
//! once each time a connection becomes readable and hands the result down.
//!
//! Invariants:
//! - `seconds` never runs backwards within one boot of the machine, whatever NTP does to the calendar,
//!   and means the same in every process of that boot: a heap can outlive the process that wrote it;
//! - `seconds` is never 0 nor 1, which the store uses for "no expiry" and "expired at once".

use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// One reading of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Whole seconds since the machine booted, suspended time included, plus [`Now::FIRST_SECOND`].
    pub seconds: u32,
    /// Whole seconds since 1970, for the absolute expiry times of the protocol.
    pub unix_seconds: i64,
    /// Monotonic nanoseconds since boot, for durations.
    pub nanos: u64,
}

impl Now {
    /// What `seconds` reads at boot: keeps 0 and 1 free for the store's special expiry times.
    pub const FIRST_SECOND: u32 = 2;

    /// A reading `seconds` after boot on a machine that booted at Unix time `boot_unix_seconds`.
    pub fn at(seconds: u32, boot_unix_seconds: i64) -> Now {
        Now {
            seconds: seconds + Now::FIRST_SECOND,
            unix_seconds: boot_unix_seconds + i64::from(seconds),
            nanos: u64::from(seconds) * 1_000_000_000,
        }
    }
}

/// Where time comes from: the operating system, or a test that turns it.
#[derive(Debug, Default)]
pub enum Clock {
    /// `CLOCK_BOOTTIME` and `CLOCK_REALTIME`; two vDSO calls a reading, no system call.
    #[default]
    System,
    /// Seconds since a pretended boot in 2026, moved on by [`Clock::advance`].
    Manual(AtomicU64),
}

/// The Unix time at which the machine of a [`Clock::Manual`] booted.
const MANUAL_BOOT_UNIX_SECONDS: i64 = 1_790_000_000;

impl Clock {
    /// A clock that stands still at 1,000 seconds after boot until it is told to move.
    pub fn manual() -> Clock {
        Clock::Manual(AtomicU64::new(1_000))
    }

    /// Reads the clock. Never blocks.
    pub fn now(&self) -> Now {
        match self {
            Clock::System => system_now(),
            Clock::Manual(seconds) => {
                // Relaxed: a test's clock orders nothing else.
                let seconds = seconds.load(Ordering::Relaxed);
                Now::at(seconds as u32, MANUAL_BOOT_UNIX_SECONDS)
            }
        }
    }

    /// Moves a manual clock on; the system's clock cannot be moved and is left alone.
    pub fn advance(&self, seconds: u32) {
        if let Clock::Manual(clock) = self {
            clock.fetch_add(u64::from(seconds), Ordering::Relaxed);
        }
    }
}

fn system_now() -> Now {
    let boot = read(ClockId::CLOCK_BOOTTIME);
    // Behind by a tick of the kernel at most, and a third of the time to read.
    let calendar = read(ClockId::CLOCK_REALTIME_COARSE);
    Now {
        seconds: boot.tv_sec() as u32 + Now::FIRST_SECOND,
        unix_seconds: calendar.tv_sec(),
        nanos: boot.tv_sec() as u64 * 1_000_000_000 + boot.tv_nsec() as u64,
    }
}

fn read(clock: ClockId) -> TimeSpec {
    // All clocks used here exist on every Linux since 2.6.39, and reading one that exists cannot fail.
    clock_gettime(clock).unwrap_or(TimeSpec::new(0, 0))
}

/// How long a piece of work takes, for statistics; nothing else may depend on it.
#[derive(Debug)]
pub struct Stopwatch(u64);

impl Stopwatch {
    /// Starts. One vDSO call.
    pub fn start() -> Stopwatch {
        Stopwatch(monotonic_nanos())
    }

    /// Nanoseconds since the start. One vDSO call.
    pub fn nanos(&self) -> u64 {
        monotonic_nanos().saturating_sub(self.0)
    }
}

fn monotonic_nanos() -> u64 {
    let time = read(ClockId::CLOCK_MONOTONIC);
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual();
        let before = clock.now();
        assert_eq!(clock.now(), before);
        clock.advance(7);
        assert_eq!(clock.now().seconds, before.seconds + 7);
        assert_eq!(clock.now().unix_seconds, before.unix_seconds + 7);
    }

    #[test]
    fn the_system_clock_keeps_the_stores_special_seconds_free() {
        assert!(Clock::System.now().seconds >= Now::FIRST_SECOND);
    }
}
