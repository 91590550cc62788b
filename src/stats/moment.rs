//! What all views are made from: everything that is counted, read once.
//!
//! The engine makes a [`Moment`] when somebody asks: since the last `stats reset` for `stats`, since the start for
//! metrics. Declarations (`metrics`) take their values out of it.
//!
//! Invariant: reading blocks no worker beyond the short locks of [`Store::usage`], whatever the store holds.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use super::memcached::Process;
use super::services::ServiceSums;
use super::{Snapshot, Stats};
use crate::clock::Now;
use crate::store::{Counts, Departures, Store, Usage};

/// Everything that is counted, at one moment.
#[derive(Debug)]
pub struct Moment<'s> {
    /// When that was.
    pub now: Now,
    /// Counters that are read where they are, and the open connections.
    pub stats: &'s Stats,
    /// What was set at the start.
    pub process: &'s Process,
    /// What `stats settings` shows, as configured.
    pub settings: &'s [(String, String)],
    /// CPU time of this process, user and system.
    pub cpu: [Duration; 2],
    /// What the workers have counted.
    pub commands: Snapshot,
    /// The same of each service, by its label.
    pub services: BTreeMap<String, ServiceSums>,
    /// What Keystone's validation of a token costs, in milliseconds of CPU.
    pub validation_cost_ms: u64,
    /// What the store has counted.
    pub counts: Counts,
    /// What items were worth that left it.
    pub departures: &'s Departures,
    /// What the store holds.
    pub usage: Usage,
}

/// What a moment is made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'s> {
    /// The counters.
    pub stats: &'s Stats,
    /// Whose counts and contents are shown.
    pub store: &'s Store,
    /// What was set at the start.
    pub process: &'s Process,
    /// What `stats settings` shows, as configured.
    pub settings: &'s [(String, String)],
    /// What Keystone's validation of a token costs, in milliseconds of CPU.
    pub validation_cost_ms: u32,
}

impl<'s> Moment<'s> {
    /// Counts since the start, of the first process if others have handed on theirs.
    pub fn since_start(sources: Sources<'s>, now: Now) -> Moment<'s> {
        let Sources { stats, store, .. } = sources;
        Moment::of(sources, now, stats.total(), stats.store_total(store))
    }

    /// Counts since the last `stats reset`.
    pub fn since_reset(sources: Sources<'s>, now: Now) -> Moment<'s> {
        let Sources { stats, store, .. } = sources;
        Moment::of(sources, now, stats.snapshot(), stats.store_counts(store))
    }

    fn of(sources: Sources<'s>, now: Now, commands: Snapshot, counts: Counts) -> Moment<'s> {
        Moment {
            now,
            stats: sources.stats,
            process: sources.process,
            settings: sources.settings,
            cpu: cpu_times(),
            commands,
            services: sources.stats.services(),
            validation_cost_ms: sources.validation_cost_ms.into(),
            departures: sources.store.departures(),
            counts,
            usage: sources.store.usage(),
        }
    }

    /// Seconds since the start, of the first process if there were others.
    pub fn uptime_seconds(&self) -> u32 {
        let started = self.stats.started_seconds(self.process);
        self.now.seconds.saturating_sub(started)
    }

    /// A setting as configured; empty where there is none of this name.
    pub fn setting(&self, name: &str) -> &'s str {
        let found = self.settings.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// The CPU time that this process has used, user and system.
fn cpu_times() -> [Duration; 2] {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return [Duration::ZERO; 2];
    };
    [usage.user_time(), usage.system_time()]
        .map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1_000))
}
