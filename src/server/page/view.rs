//! What the status page says: a [`Status`] in words.
//!
//! `index.html` is filled from a [`View`] when the page is made. After that `script.js` makes the same of the JSON of
//! `/api/status`, once a second, with functions of the same names; the samples of `tests/page` hold both to it.

use serde::Serialize;

use super::chart::{Chart, chart};
use super::format::{
    NOTHING, bytes, count, counted, duration, megabytes, percent, rate, tenths, time_of_day,
};
use crate::stats::history::Window;
use crate::stats::need::Need;
use crate::stats::status::{self, Missed, ServiceStatus, Status, WINDOWS};

const NAME: &str = "tokencached";
const NO_REQUESTS: &str = "no requests yet";
const NO_VERDICT: &str = "Too little has been asked so far to say what memory is needed.";

/// Each field is shown by the element of the page that names it.
#[derive(Debug, Serialize)]
pub struct View {
    title: String,
    host: String,
    time: String,
    /// Whether nothing has been asked yet.
    is_new: bool,
    minute: HitRate,
    hour: HitRate,
    day: HitRate,
    spared: Spared,
    chart: Chart,
    memory: Memory,
    services: Vec<Service>,
    misses: Vec<Miss>,
    connections: Connections,
    settings: Vec<Setting>,
    server: Server,
}

#[derive(Debug, Serialize)]
struct HitRate {
    rate: String,
    /// Of what it is the rate.
    of: String,
}

/// What Keystone was spared.
#[derive(Debug, Serialize)]
struct Spared {
    validations: String,
    now: String,
    cpu: String,
}

#[derive(Debug, Serialize)]
struct Memory {
    used: String,
    /// The part in use, as a width.
    width: String,
    tables: String,
    items: String,
    packed: String,
    evicted: String,
    verdict: String,
    /// Whether more memory would find more.
    is_short: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    limit: String,
    rate: String,
}

#[derive(Debug, Serialize)]
struct Service {
    name: String,
    rate: String,
    gets: String,
    sets: String,
    validations: String,
    cpu: String,
    again: String,
    connections: String,
}

#[derive(Debug, Serialize)]
struct Miss {
    cause: String,
    count: String,
    share: String,
    /// The share as a width.
    width: String,
    /// What to do about it.
    advice: &'static str,
}

#[derive(Debug, Serialize)]
struct Connections {
    open: String,
    accepted: String,
    rejected: String,
    refused: String,
}

#[derive(Debug, Serialize)]
struct Setting {
    name: String,
    value: String,
}

#[derive(Debug, Serialize)]
struct Server {
    version: String,
    uptime: String,
    pid: String,
    threads: String,
}

impl View {
    /// Puts a status in words.
    pub fn new(status: &Status) -> View {
        let is_new = status.total.gets() == 0;
        let [now, minute, hour, day] = windows(status);
        let [minute, hour, day] = [minute, hour, day].map(|window| hit_rate(&window, is_new));
        View {
            title: title(&minute, &status.server.host),
            host: status.server.host.clone(),
            time: format!("{} UTC", time_of_day(status.unix_seconds)),
            is_new,
            minute,
            hour,
            day,
            spared: spared(status, &now),
            chart: chart(&status.history, status.unix_seconds),
            memory: memory(&status.memory),
            services: status.services.iter().map(service).collect(),
            misses: misses(&status.misses),
            connections: connections(&status.connections),
            settings: status.settings.iter().map(setting).collect(),
            server: server(&status.server),
        }
    }
}

/// Of a browser's tab.
fn title(minute: &HitRate, host: &str) -> String {
    let name = if host.is_empty() { NAME } else { host };
    match minute.rate.as_str() {
        NOTHING => name.to_owned(),
        rate => format!("{rate} · {name}"),
    }
}

/// The windows that are shown; an empty one for what a status lacks.
fn windows(status: &Status) -> [Window; 4] {
    WINDOWS.map(|seconds| {
        let window = status
            .windows
            .iter()
            .find(|window| window.seconds == seconds);
        window.copied().unwrap_or_default()
    })
}

fn hit_rate(window: &Window, is_new: bool) -> HitRate {
    HitRate {
        rate: percent(window.served.hits, window.served.gets()),
        of: hit_rate_of(window, is_new),
    }
}

fn hit_rate_of(window: &Window, is_new: bool) -> String {
    let of = match (is_new, window.served.gets()) {
        (true, _) => return NO_REQUESTS.to_owned(),
        (false, 0) => return "no look-ups".to_owned(),
        (false, gets) => counted(gets, "look-up"),
    };
    // A young server has not seen all of it; a small difference is of no interest.
    let watched = u64::from(window.watched_seconds);
    match watched * 20 < u64::from(window.seconds) * 19 {
        true => format!("{of} in {}", duration(watched)),
        false => of,
    }
}

fn spared(status: &Status, now: &Window) -> Spared {
    let by_now = rate(now.served.validations_avoided, now.watched_seconds.into());
    Spared {
        validations: count(status.total.validations_avoided),
        now: format!("{by_now} a second now"),
        cpu: duration(status.total.saved_ms / 1_000),
    }
}

fn memory(memory: &status::Memory) -> Memory {
    let steps = memory.need.as_ref().map(|need| steps(need, memory));
    let steps = steps.unwrap_or_default();
    Memory {
        used: format!(
            "{} of {}",
            bytes(memory.used_bytes),
            bytes(memory.limit_bytes)
        ),
        width: width(memory.used_bytes, memory.limit_bytes),
        tables: bytes(memory.table_bytes),
        items: format!("{} in {}", count(memory.items), bytes(memory.item_bytes)),
        packed: packed(memory.packed_from_bytes, memory.packed_into_bytes),
        evicted: count(memory.evictions),
        verdict: match &memory.need {
            Some(need) => need.verdict.clone(),
            None => NO_VERDICT.to_owned(),
        },
        is_short: steps.iter().any(|step| step.rate != steps[0].rate),
        steps,
    }
}

/// The limit there is, and those that there might be.
fn steps(need: &Need, memory: &status::Memory) -> Vec<Step> {
    let step = |limit: String, hits| Step {
        limit,
        rate: percent(hits, need.gets),
    };
    let now = step(format!("{} now", megabytes(memory.limit_bytes)), need.hits);
    let others = need.steps.iter();
    let others = others.map(|other| step(megabytes(other.limit_bytes), other.hits));
    std::iter::once(now).chain(others).collect()
}

fn packed(from: u64, into: u64) -> String {
    match into {
        0 => NOTHING.to_owned(),
        _ => format!("{} to 1", tenths(from as f64 / into as f64)),
    }
}

fn service(service: &ServiceStatus) -> Service {
    let gets = service.hits + service.misses;
    Service {
        name: service.service.clone(),
        rate: percent(service.hits, gets),
        gets: count(gets),
        sets: count(service.sets),
        validations: count(service.validations_avoided),
        cpu: duration(service.saved_ms / 1_000),
        again: count(service.revalidations),
        connections: count(service.connections),
    }
}

fn misses(misses: &[Missed]) -> Vec<Miss> {
    let all = misses.iter().map(|missed| missed.count).sum();
    let miss = |missed: &Missed| Miss {
        cause: missed.cause.replace('_', " "),
        count: count(missed.count),
        share: percent(missed.count, all),
        width: width(missed.count, all),
        advice: match missed.count {
            0 => "",
            _ => advice(&missed.cause),
        },
    };
    misses.iter().map(miss).collect()
}

fn advice(cause: &str) -> &'static str {
    match cause {
        "never_seen" => "New tokens, or gone for longer than is remembered.",
        "expired" => "Raise token_cache_time to keep tokens longer.",
        "evicted" => "Raise -m to keep more of them.",
        "flushed" => "Somebody flushes: find out who sends flush_all.",
        _ => "",
    }
}

fn connections(connections: &status::Connections) -> Connections {
    Connections {
        open: format!("{} of {}", count(connections.open), count(connections.max)),
        accepted: count(connections.accepted),
        rejected: count(connections.rejected),
        refused: count(connections.refused),
    }
}

fn setting((name, value): &(String, String)) -> Setting {
    Setting {
        name: name.clone(),
        value: value.clone(),
    }
}

fn server(server: &status::Server) -> Server {
    Server {
        version: format!(
            "{}, speaks memcached {}",
            server.version, server.memcached_version
        ),
        uptime: duration(server.uptime_seconds.into()),
        pid: server.pid.to_string(),
        threads: counted(server.threads as u64, "thread"),
    }
}

/// A part of a whole as the width of a bar.
fn width(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    format!("{}%", tenths(percent.min(100.0)))
}
