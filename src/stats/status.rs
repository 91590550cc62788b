//! What a person is shown of the server: the numbers of the status page, of `tokencached-tool top` and of `/api/status`.
//!
//! The engine makes a [`Status`] from a [`Moment`] when somebody asks; the server sends it as JSON, and the tool reads
//! it back with the same types.
//!
//! Invariants:
//! - look-ups are counted as `services` counts them, so that the parts add up to the whole;
//! - a field keeps its name and meaning as long as [`FORMAT`] stays; a reader leaves what it does not know.

use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::history::{History, Sample, Window};
use super::moment::Moment;
use super::need::{Need, need};
use super::services::ServiceSums;
use crate::protocol::MEMCACHED_VERSION;
use crate::store::Cause;

/// The format that is written. Another one is another meaning of a field.
pub const FORMAT: u32 = 1;

/// The windows that are shown, in seconds: now, the last minute, hour and day.
pub const WINDOWS: [u32; 4] = [10, 60, 3_600, 86_400];

/// Where the server stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was made, in seconds since 1970.
    pub unix_seconds: i64,
    /// The process.
    #[serde(default)]
    pub server: Server,
    /// What was served since the start, of the first process if others have handed on theirs.
    #[serde(default)]
    pub total: Sample,
    /// What was served lately: one for each of [`WINDOWS`].
    #[serde(default)]
    pub windows: Vec<Window>,
    /// The last day by minutes.
    #[serde(default)]
    pub history: Minutes,
    /// Look-ups that found nothing since the start, by cause.
    #[serde(default)]
    pub misses: Vec<Missed>,
    /// Who asked, the busiest first.
    #[serde(default)]
    pub services: Vec<ServiceStatus>,
    /// What the items take.
    #[serde(default)]
    pub memory: Memory,
    /// Who is connected.
    #[serde(default)]
    pub connections: Connections,
    /// Names and values of what is configured, as `stats settings` shows them; where it shows a file, only that there is
    /// one: that is not everybody's business.
    #[serde(default)]
    pub settings: Vec<(String, String)>,
}

/// The process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// The machine's name; empty where it has none.
    pub host: String,
    /// Its release.
    pub version: String,
    /// The memcached release that it speaks.
    pub memcached_version: String,
    /// Its number.
    pub pid: u32,
    /// Seconds since the start, of the first process if others have handed on.
    pub uptime_seconds: u32,
    /// Threads that serve clients.
    pub threads: usize,
    /// Those that watch over the admin socket.
    pub watchers: usize,
}

/// Look-ups by minute, the oldest first; all columns are of one length. The last minute is not over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Minutes {
    /// Those that found a value.
    pub hits: Vec<u64>,
    /// Those that did not.
    pub misses: Vec<u64>,
    /// Misses of what had been evicted.
    pub evicted: Vec<u64>,
}

/// Misses of one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Missed {
    /// `never_seen`, `expired`, `evicted`, `flushed`, `deleted`.
    pub cause: String,
    /// How many since the start.
    pub count: u64,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceStatus {
    /// Its user's name; `other`, `unknown`.
    pub service: String,
    /// Its open connections.
    pub connections: u64,
    /// Look-ups that found a value.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Storage commands.
    pub sets: u64,
    /// Validations that Keystone was spared.
    pub validations_avoided: u64,
    /// CPU milliseconds that they would have cost: an estimate.
    pub saved_ms: u64,
    /// Tokens validated again since they had been evicted.
    pub revalidations: u64,
}

/// What the items take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The limit (`-m`).
    pub limit_bytes: u64,
    /// Bytes of it in use: segments and tables.
    pub used_bytes: u64,
    /// Index, ghost and dictionaries among them.
    pub table_bytes: u64,
    /// Items held.
    pub items: u64,
    /// Their bytes, headers included.
    pub item_bytes: u64,
    /// Items that were evicted since the start.
    pub evictions: u64,
    /// Bytes of the values that were packed, as they came.
    pub packed_from_bytes: u64,
    /// Bytes that they were packed into.
    pub packed_into_bytes: u64,
    /// What other limits would have been worth; `None` before there was anything to go by.
    pub need: Option<Need>,
}

/// Who is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    /// Open ones.
    pub open: u64,
    /// Most that may be (`-c`).
    pub max: u64,
    /// Accepted since the start.
    pub accepted: u64,
    /// Turned away over `-c`, since the start.
    pub rejected: u64,
    /// Refused by the access rules, since the start.
    pub refused: u64,
}

impl Status {
    /// Makes it from what was counted since the start. Costs about as much as a scrape of metrics; takes short locks.
    pub fn new(moment: &Moment<'_>, history: &History) -> Status {
        let windows = WINDOWS.map(|seconds| history.window(seconds, moment.now.seconds));
        let [.., day] = &windows;
        let need = need(day, moment.usage.limit_bytes, moment.usage.items);
        Status {
            format: FORMAT,
            unix_seconds: moment.now.unix_seconds,
            server: server(moment),
            total: Sample {
                evictions: moment.counts.removed(Cause::Evicted),
                ..Sample::of(moment.services.values(), moment.validation_cost_ms)
            },
            windows: windows.into(),
            history: history.minutes(moment.now.seconds),
            misses: misses(moment),
            services: services(moment),
            memory: memory(moment, need),
            connections: connections(moment),
            settings: settings(moment),
        }
    }
}

/// Settings whose values are paths.
const FILES: [&str; 5] = [
    "auth_enabled_ascii",
    "domain_socket",
    "ssl_ca_cert",
    "ssl_chain_cert",
    "ssl_key",
];

/// What `stats settings` says where there is none of them.
const NO_FILE: [&str; 4] = ["", "no", "NULL", "(null)"];

fn settings(moment: &Moment<'_>) -> Vec<(String, String)> {
    let shown = |(name, value): &(String, String)| {
        let is_file = FILES.contains(&&**name) || value.contains('/');
        let value = match is_file && !NO_FILE.contains(&&**value) {
            true => "set",
            false => value,
        };
        (name.clone(), value.to_owned())
    };
    moment.settings.iter().map(shown).collect()
}

fn server(moment: &Moment<'_>) -> Server {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    Server {
        host: host.unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        memcached_version: MEMCACHED_VERSION.to_owned(),
        pid: std::process::id(),
        uptime_seconds: moment.uptime_seconds(),
        threads: moment.process.threads,
        watchers: moment.stats.events.watchers(),
    }
}

fn misses(moment: &Moment<'_>) -> Vec<Missed> {
    let mut misses: Vec<Missed> = Vec::new();
    let classes = moment.services.values().flat_map(|sums| &sums.classes);
    for (cause, count) in classes.flat_map(|sums| sums.missed()) {
        match misses.iter_mut().find(|missed| missed.cause == cause) {
            Some(missed) => missed.count = missed.count.saturating_add(count),
            None => misses.push(Missed {
                cause: cause.to_owned(),
                count,
            }),
        }
    }
    misses
}

/// Those that have done something, or are connected.
fn services(moment: &Moment<'_>) -> Vec<ServiceStatus> {
    let open = moment.stats.open_connections();
    let cost_ms = moment.validation_cost_ms;
    let all = moment.services.iter().map(|(label, sums)| {
        let own = open.iter().filter(|((service, _), _)| service == label);
        let connections = own.map(|(_, count)| count).sum();
        service(label, sums, connections, cost_ms)
    });
    let mut services: Vec<ServiceStatus> = all
        .filter(|s| [s.connections, s.hits, s.misses, s.sets] != [0; 4])
        .collect();
    services.sort_by_key(|s| std::cmp::Reverse(s.hits.saturating_add(s.misses)));
    services
}

fn service(label: &str, sums: &ServiceSums, connections: u64, cost_ms: u64) -> ServiceStatus {
    let sample = Sample::of([sums], cost_ms);
    let [(_, revalidations), ..] = sums.revalidations();
    ServiceStatus {
        service: label.to_owned(),
        connections,
        hits: sample.hits,
        misses: sample.misses,
        sets: sample.sets,
        validations_avoided: sample.validations_avoided,
        saved_ms: sample.saved_ms,
        revalidations,
    }
}

fn memory(moment: &Moment<'_>, need: Option<Need>) -> Memory {
    let usage = &moment.usage;
    Memory {
        limit_bytes: usage.limit_bytes,
        used_bytes: usage.segment_bytes + usage.table_bytes,
        table_bytes: usage.table_bytes,
        items: usage.items,
        item_bytes: usage.item_bytes,
        evictions: moment.counts.removed(Cause::Evicted),
        packed_from_bytes: moment.commands.packed_from_bytes,
        packed_into_bytes: moment.commands.packed_into_bytes,
        need,
    }
}

fn connections(moment: &Moment<'_>) -> Connections {
    let server = &moment.stats.server;
    Connections {
        open: server.curr_connections.load(Relaxed),
        max: moment.process.connections_max as u64,
        accepted: server.total_connections.load(Relaxed),
        rejected: server.rejected_connections.load(Relaxed),
        refused: server.access_refused.load(Relaxed),
    }
}
