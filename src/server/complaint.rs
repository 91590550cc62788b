//! Warnings that clients bring about, few enough that nobody can fill a log: of a kind one a minute
//! ([`Complaint`]); of refusals, which name whom they refuse, ten in ten seconds ([`Quota`]).
//!
//! A wrong password or certificate leaves an API service without its cache, and its own log says nothing of
//! it: the server's has to.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::stats::connections::Address;

/// Seconds between two warnings of a kind.
const INTERVAL_SECONDS: u32 = 60;

/// One kind of warning.
#[derive(Debug, Default)]
pub struct Complaint {
    /// The second after which the next may be given; 0 before the first.
    next: AtomicU32,
    /// How often there was reason for one since the last.
    unsaid: AtomicU64,
}

impl Complaint {
    /// Whether to warn now: gives how often there was reason to since the last warning, this time
    /// included. Never blocks; of several callers at once, one warns.
    pub fn is_due(&self, now_seconds: u32) -> Option<u64> {
        self.unsaid.fetch_add(1, Relaxed);
        let next = self.next.load(Relaxed);
        let later = now_seconds.saturating_add(INTERVAL_SECONDS).max(1);
        let is_due = now_seconds >= next
            && self
                .next
                .compare_exchange(next, later, Relaxed, Relaxed)
                .is_ok();
        is_due.then(|| self.unsaid.swap(0, Relaxed))
    }
}

/// All kinds.
#[derive(Debug, Default)]
pub struct Complaints {
    /// A client showed a wrong user or password.
    pub password: Complaint,
    /// A client's TLS handshake failed.
    pub handshake: Complaint,
}

impl Complaints {
    /// Warns of a wrong user or password.
    pub fn of_password(&self, peer: &Address, now_seconds: u32) {
        tracing::debug!("{peer} showed a wrong user or password");
        if let Some(times) = self.password.is_due(now_seconds) {
            tracing::warn!(
                "a wrong user or password from {peer} ({times} since the last such line): that client has no cache; \
                 compare its settings with the file of -Y"
            );
        }
    }

    /// Warns of a handshake that failed.
    pub fn of_handshake(&self, peer: &Address, why: &std::io::Error, now_seconds: u32) {
        tracing::debug!("the TLS handshake with {peer} failed: {why}");
        if let Some(times) = self.handshake.is_due(now_seconds) {
            tracing::warn!(
                "the TLS handshake with {peer} failed: {why} ({times} since the last such line); that client has no \
                 cache: does it speak TLS, and does each side trust the other's certificate?"
            );
        }
    }
}

/// Lines that name somebody in a stretch of time.
const QUOTA_MAX: u32 = 10;

/// How long such a stretch is.
const QUOTA_SECONDS: u32 = 10;

/// How many lines may still be logged in this stretch of time.
#[derive(Debug, Default)]
pub struct Quota {
    since_seconds: u32,
    said: u32,
    left_out: u64,
}

impl Quota {
    /// Takes a line, if one is left; gives how many were left out before it.
    pub fn take(&mut self, now_seconds: u32) -> Option<u64> {
        if now_seconds.saturating_sub(self.since_seconds) >= QUOTA_SECONDS {
            (self.since_seconds, self.said) = (now_seconds, 0);
        }
        if self.said >= QUOTA_MAX {
            self.left_out += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_one_warning_and_the_next_tells_what_came_between() {
        let complaint = Complaint::default();
        assert_eq!(complaint.is_due(0), Some(1));
        assert_eq!(complaint.is_due(0), None);
        assert_eq!(complaint.is_due(59), None);
        assert_eq!(complaint.is_due(60), Some(3));
        assert_eq!(complaint.is_due(61), None);
    }

    #[test]
    fn a_flood_of_lines_is_counted_in_those_that_are_left() {
        let mut quota = Quota::default();
        let said = (0..1_000).filter_map(|_| quota.take(100)).count();
        assert_eq!(said, QUOTA_MAX as usize);
        assert_eq!(quota.take(109), None);
        assert_eq!(quota.take(110), Some(1_001 - u64::from(QUOTA_MAX)));
        assert_eq!(quota.take(110), Some(0));
    }
}
