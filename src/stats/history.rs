//! What was served lately: the last minute by seconds, the last day by minutes.
//!
//! The housekeeper notes a [`Sample`] of all that was counted once a second ([`History::note`]); `status` shows it. It is
//! handed on over a restart with the other totals (`inherited`).
//!
//! Invariants:
//! - bounded: [`SECONDS`] and [`MINUTES`] entries, whatever happens;
//! - a span of which nothing was noted counts as nothing served: no number is spread over time.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::services::ServiceSums;
use super::status::Minutes;

/// Seconds that are kept.
pub const SECONDS: u32 = 60;

/// Minutes that are kept: a day, the one that is not over among them.
pub const MINUTES: u32 = 1_440;

const MINUTE_SECONDS: u32 = 60;

/// Steps of memory whose worth is known; see `need`.
pub const STEPS: usize = 5;

/// What was counted of look-ups, at a moment or during a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Look-ups that found a value.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Those of what had been evicted and would still be valid.
    pub evicted: u64,
    /// Storage commands.
    pub sets: u64,
    /// Validations that Keystone was spared: hits of tokens.
    pub validations_avoided: u64,
    /// CPU milliseconds that they would have cost: an estimate.
    pub saved_ms: u64,
    /// Misses that so much more memory would have made hits: each step alone, see [`ClassSums::lacked`].
    ///
    /// [`ClassSums::lacked`]: super::by_class::ClassSums::lacked
    pub lacked: [u64; STEPS],
}

/// What was served during the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// How long it is.
    pub seconds: u32,
    /// How much of that has been watched: less, while the server is young.
    pub watched_seconds: u32,
    /// What was served.
    #[serde(flatten)]
    pub served: Sample,
}

impl Sample {
    /// The sum of what was counted of these services; a validation costs Keystone `cost_ms`.
    pub fn of<'s>(services: impl IntoIterator<Item = &'s ServiceSums>, cost_ms: u64) -> Sample {
        let mut sample = Sample::default();
        for service in services {
            sample.validations_avoided += service.validations_avoided();
            sample.saved_ms += service.saved_ms(cost_ms);
            for class in &service.classes {
                sample.hits += class.hits;
                sample.misses += class.gets() - class.hits;
                sample.evicted += class.missed_evicted;
                sample.sets += class.sets;
                for (sum, lacked) in sample.lacked.iter_mut().zip(class.lacked()) {
                    *sum += lacked;
                }
            }
        }
        sample
    }

    /// Look-ups.
    pub fn gets(&self) -> u64 {
        self.hits + self.misses
    }

    /// The part of the look-ups that found a value; `None` without any.
    pub fn hit_ratio(&self) -> Option<f64> {
        (self.gets() > 0).then(|| self.hits as f64 / self.gets() as f64)
    }

    fn combine(&self, other: &Sample, with: fn(u64, u64) -> u64) -> Sample {
        Sample {
            hits: with(self.hits, other.hits),
            misses: with(self.misses, other.misses),
            evicted: with(self.evicted, other.evicted),
            sets: with(self.sets, other.sets),
            validations_avoided: with(self.validations_avoided, other.validations_avoided),
            saved_ms: with(self.saved_ms, other.saved_ms),
            lacked: std::array::from_fn(|step| with(self.lacked[step], other.lacked[step])),
        }
    }
}

/// What was served, second by second and minute by minute.
#[derive(Debug, Default)]
pub struct History {
    rings: Mutex<Rings>,
}

#[derive(Debug, Default)]
struct Rings {
    /// What was counted in all when it was last noted.
    last: Option<Sample>,
    /// The first second that was noted.
    first: Option<u32>,
    seconds: Ring,
    minutes: Ring,
}

/// Spans of equal length, the newest last.
#[derive(Debug, Default)]
struct Ring {
    /// The number of the newest span since boot.
    newest: u32,
    spans: VecDeque<Sample>,
}

impl Ring {
    /// Adds what was served in a span; spans between it and the newest were idle, and at most `kept` are kept.
    fn add(&mut self, span: u32, served: &Sample, kept: u32) {
        let ahead = match self.spans.is_empty() {
            true => 1,
            false => span.saturating_sub(self.newest).min(kept),
        };
        self.newest = self.newest.max(span);
        self.spans.extend((0..ahead).map(|_| Sample::default()));
        while self.spans.len() > kept as usize {
            self.spans.pop_front();
        }
        if let Some(newest) = self.spans.back_mut() {
            *newest = newest.combine(served, u64::saturating_add);
        }
    }

    /// What the last so many spans have, the newest of them `newest`, and how many of them were watched.
    fn sum(&self, newest: u32, spans: u32) -> (Sample, u32) {
        let over = newest.saturating_sub(self.newest);
        let wanted = spans.saturating_sub(over) as usize;
        let latest = self.spans.iter().rev().take(wanted);
        let watched = latest.len() as u32 + over.min(spans);
        let sum = latest.fold(Sample::default(), |sum, span| {
            sum.combine(span, u64::saturating_add)
        });
        (sum, if self.spans.is_empty() { 0 } else { watched })
    }
}

impl History {
    /// Notes what has been counted in all by a second of `clock::Now`. Called once a second by one thread; what was
    /// counted before the first time belongs to no span.
    pub fn note(&self, now_seconds: u32, total: &Sample) {
        let mut rings = self.rings.lock();
        let served = match rings.last {
            Some(last) => total.combine(&last, u64::saturating_sub),
            None => Sample::default(),
        };
        rings.last = Some(*total);
        rings.first.get_or_insert(now_seconds);
        rings.seconds.add(now_seconds, &served, SECONDS);
        let minute = now_seconds / MINUTE_SECONDS;
        rings.minutes.add(minute, &served, MINUTES);
    }

    /// What was served during the last so many seconds: whole seconds up to [`SECONDS`], beyond that whole minutes and
    /// the one that is not over.
    pub fn window(&self, seconds: u32, now_seconds: u32) -> Window {
        let rings = self.rings.lock();
        let (served, watched_seconds) = if seconds <= SECONDS {
            rings.seconds.sum(now_seconds, seconds)
        } else {
            let minute = now_seconds / MINUTE_SECONDS;
            let (served, watched) = rings.minutes.sum(minute, seconds / MINUTE_SECONDS);
            // The newest is not over.
            let begun = now_seconds % MINUTE_SECONDS + 1;
            (
                served,
                (watched * MINUTE_SECONDS).saturating_sub(MINUTE_SECONDS - begun),
            )
        };
        let first = rings.first.unwrap_or(now_seconds);
        Window {
            seconds,
            watched_seconds: watched_seconds.min(now_seconds.saturating_sub(first)),
            served,
        }
    }

    /// The last day by minutes, up to the one that is not over.
    pub fn minutes(&self, now_seconds: u32) -> Minutes {
        let rings = self.rings.lock();
        let ring = &rings.minutes;
        let idle = (now_seconds / MINUTE_SECONDS)
            .saturating_sub(ring.newest)
            .min(MINUTES) as usize;
        let idle = if ring.spans.is_empty() { 0 } else { idle };
        let column = |count: fn(&Sample) -> u64| {
            let counted = ring.spans.iter().map(count);
            let mut column: Vec<u64> = counted.chain(std::iter::repeat_n(0, idle)).collect();
            column.drain(..column.len().saturating_sub(MINUTES as usize));
            column
        };
        Minutes {
            hits: column(|span| span.hits),
            misses: column(|span| span.misses),
            evicted: column(|span| span.evicted),
        }
    }
}
