//! What was served lately: the last minute by seconds, the last day by minutes.
//!
//! The housekeeper notes a [`Sample`] of all that was counted once a second ([`History::note`]); `status` shows it. It is
//! handed on over a restart with the other totals (`inherited`).
//!
//! Invariants:
//! - bounded: [`SECONDS`] and [`MINUTES`] entries, whatever happens;
//! - a span of which nothing was noted counts as nothing served: no number is spread over time.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::by_class::ClassSums;
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
    /// Those of what had expired.
    pub expired: u64,
    /// Items that had to leave for others.
    pub evictions: u64,
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
        let none = Sample::default();
        services.into_iter().fold(none, |sum, service| {
            let of_service = Sample {
                validations_avoided: service.validations_avoided(),
                saved_ms: service.saved_ms(cost_ms),
                ..Sample::default()
            };
            let classes = service.classes.iter().map(Sample::of_class);
            let parts = classes.chain([of_service]);
            parts.fold(sum, |sum, part| sum.combine(&part, u64::saturating_add))
        })
    }

    fn of_class(class: &ClassSums) -> Sample {
        Sample {
            hits: class.hits,
            misses: class.gets().saturating_sub(class.hits),
            evicted: class.missed_evicted,
            expired: class.missed_expired,
            sets: class.sets,
            lacked: class.lacked(),
            ..Sample::default()
        }
    }

    /// Look-ups.
    pub fn gets(&self) -> u64 {
        self.hits.saturating_add(self.misses)
    }

    /// The part of the look-ups that found a value; `None` without any.
    pub fn hit_ratio(&self) -> Option<f64> {
        (self.gets() > 0).then(|| self.hits as f64 / self.gets() as f64)
    }

    /// Every count by its name.
    fn named(&mut self) -> impl Iterator<Item = (&'static str, &mut u64)> {
        const LACKED: [&str; STEPS] = ["eighth", "quarter", "half", "double", "triple"];
        let counts = [
            ("hits", &mut self.hits),
            ("misses", &mut self.misses),
            ("evicted", &mut self.evicted),
            ("expired", &mut self.expired),
            ("evictions", &mut self.evictions),
            ("sets", &mut self.sets),
            ("validations_avoided", &mut self.validations_avoided),
            ("saved_ms", &mut self.saved_ms),
        ];
        counts
            .into_iter()
            .chain(LACKED.into_iter().zip(&mut self.lacked))
    }

    fn combine(&self, other: &Sample, with: fn(u64, u64) -> u64) -> Sample {
        Sample {
            hits: with(self.hits, other.hits),
            misses: with(self.misses, other.misses),
            evicted: with(self.evicted, other.evicted),
            expired: with(self.expired, other.expired),
            evictions: with(self.evictions, other.evictions),
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

/// The history as it is handed on: the minutes, by the names of what they count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handed {
    first: Option<u32>,
    newest_minute: u32,
    minutes: usize,
    counts: BTreeMap<String, Vec<u64>>,
    last: BTreeMap<String, u64>,
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
        if self.newest > span && self.newest - span > kept {
            // Another process's that knew another time.
            *self = Ring::default();
        }
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

    /// What a successor goes on from: all but the single seconds.
    pub(super) fn hand_on(&self) -> Handed {
        let rings = self.rings.lock();
        let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for mut span in rings.minutes.spans.iter().copied() {
            for (name, count) in span.named() {
                counts.entry(name.to_owned()).or_default().push(*count);
            }
        }
        let mut last = rings.last.unwrap_or_default();
        Handed {
            first: rings.first,
            newest_minute: rings.minutes.newest,
            minutes: rings.minutes.spans.len(),
            counts,
            last: last
                .named()
                .map(|(name, count)| (name.to_owned(), *count))
                .collect(),
        }
    }

    /// Goes on from what a process before this one has noted. Called once, before anything is noted.
    pub(super) fn inherit(&self, handed: &Handed) {
        let span = |at: usize| {
            let mut span = Sample::default();
            for (name, count) in span.named() {
                let column = handed.counts.get(name);
                *count = column
                    .and_then(|column| column.get(at))
                    .copied()
                    .unwrap_or(0);
            }
            span
        };
        let mut last = Sample::default();
        for (name, count) in last.named() {
            *count = handed.last.get(name).copied().unwrap_or(0);
        }
        let mut rings = self.rings.lock();
        rings.first = handed.first;
        rings.last = handed.first.map(|_| last);
        rings.minutes = Ring {
            newest: handed.newest_minute,
            spans: (0..handed.minutes.min(MINUTES as usize))
                .map(span)
                .collect(),
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A second that begins a minute.
    const BEGIN: u32 = 6_000;

    fn counted(hits: u64) -> Sample {
        Sample {
            hits,
            misses: hits / 10,
            lacked: [0, hits / 100, 0, 0, 0],
            ..Sample::default()
        }
    }

    /// A history of ten hits a second, noted for so many seconds.
    fn noted(seconds: u32) -> History {
        let history = History::default();
        (0..=seconds).for_each(|second| {
            history.note(BEGIN + second, &counted(1_000 + 10 * u64::from(second)));
        });
        history
    }

    #[test]
    fn a_window_shows_what_was_served_in_it_and_how_much_of_it_was_watched() {
        let history = noted(600);
        let now = BEGIN + 600;
        let shown = |seconds| {
            let window = history.window(seconds, now);
            (window.served.hits, window.watched_seconds)
        };
        assert_eq!(shown(10), (100, 10));
        assert_eq!(shown(60), (600, 60));
        assert_eq!(
            shown(3_600),
            (6_000, 600),
            "as long as there is any history"
        );
        let served = history.window(60, now).served;
        assert_eq!((served.misses, served.lacked[1]), (60, 6));
    }

    #[test]
    fn what_was_counted_before_it_was_watched_is_in_no_window() {
        let history = History::default();
        assert_eq!(
            history.window(60, BEGIN),
            Window {
                seconds: 60,
                ..Window::default()
            }
        );
        assert_eq!(history.minutes(BEGIN), Minutes::default());
        history.note(BEGIN, &counted(1_000));
        assert_eq!(history.window(60, BEGIN).served, Sample::default());
        history.note(BEGIN + 1, &counted(1_010));
        let window = history.window(10, BEGIN + 1);
        assert_eq!((window.served.hits, window.watched_seconds), (10, 1));
    }

    #[test]
    fn a_time_in_which_nothing_was_noted_is_idle() {
        let history = noted(90);
        let later = BEGIN + 90 + 180;
        assert_eq!(history.window(60, later).served.hits, 0);
        assert_eq!(history.minutes(later).hits, [600 - 10, 310, 0, 0, 0]);
        history.note(later, &counted(1_905));
        assert_eq!(history.minutes(later).hits, [590, 310, 0, 0, 5]);
        assert_eq!(history.window(10, later).served.hits, 5);
        assert_eq!(history.window(86_400, later).watched_seconds, 270);
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let history = History::default();
        for minute in 0..3_000_u32 {
            history.note(BEGIN + minute * 60, &counted(u64::from(minute) * 7));
        }
        let now = BEGIN + 2_999 * 60 + 59;
        let minutes = history.minutes(now);
        assert_eq!(minutes.hits, [7; MINUTES as usize]);
        assert_eq!(history.window(86_400, now).watched_seconds, 86_400);
        assert_eq!(
            history.minutes(now + 10 * 86_400).hits,
            [0; MINUTES as usize]
        );
        history.note(now + 10 * 86_400, &counted(30_000));
        assert_eq!(
            history.minutes(now + 10 * 86_400).hits.len(),
            MINUTES as usize
        );
    }

    #[test]
    fn counts_and_clocks_that_run_backwards_take_nothing_back() {
        let history = noted(61);
        history.note(BEGIN + 30, &counted(100));
        assert_eq!(history.window(60, BEGIN + 61).served.hits, 600);
        assert_eq!(history.minutes(BEGIN + 61).hits, [590, 20]);
    }

    #[test]
    fn a_successor_goes_on_with_the_minutes_and_with_what_came_between() {
        let handed = noted(90).hand_on();
        let written = serde_json::to_string(&handed).unwrap();
        let next = History::default();
        next.inherit(&serde_json::from_str(&written).unwrap());
        assert_eq!(next.minutes(BEGIN + 90).hits, [590, 310]);
        // Five more were served between the last note and the first of this process.
        next.note(BEGIN + 92, &counted(1_905));
        assert_eq!(next.minutes(BEGIN + 92).hits, [590, 315]);
        assert_eq!(next.window(86_400, BEGIN + 92).watched_seconds, 92);
        assert_eq!(next.hand_on().minutes, 2);
    }

    #[test]
    fn what_another_release_hands_on_is_taken_as_far_as_it_is_known() {
        let written = r#"{"first": 6000, "newest_minute": 101, "minutes": 4000000000,
            "counts": {"hits": [1, 2], "later": [3]}, "last": {"hits": 18446744073709551615}}"#;
        let history = History::default();
        history.inherit(&serde_json::from_str(written).unwrap());
        let minutes = history.minutes(BEGIN + 60);
        assert_eq!(minutes.hits.len(), MINUTES as usize);
        assert_eq!(minutes.hits[..3], [1, 2, 0]);
        history.note(BEGIN + 61, &counted(10));
        assert_eq!(history.window(60, BEGIN + 61).served.hits, 0);
    }
}
