//! `load --idle N`: what connections cost a server that is asked nothing. Opens them, lets each get
//! once if wanted, and looks at the server's memory before and after, and at its wake-ups while
//! nothing happens.
//!
//! Takes the target, seed and value size of [`load::Options`](super::load::Options); its `duration`
//! is how long to watch. A client library keeps its connections open for hours, so memory and
//! wake-ups of silent ones are what a server mostly costs.
//!
//! Invariants: *all accepted*, the last connection has had a reply before memory is looked at;
//! *warm*, one set and one get have gone over a connection before the first look, so what a server
//! allocates once is not counted per connection.

use super::Error;
use super::exchange::{Exchange, Shared};
use super::load::{Options, block_on};
use super::open_files;
use super::process::{Sample, Usage};
use super::report::Figures;
use super::wire::Connection;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Time for a server to finish with what it was asked last.
const SETTLE: Duration = Duration::from_millis(500);

/// What idle connections cost.
#[derive(Debug, Clone)]
pub struct Report {
    /// Connections that were open.
    pub connections: u64,
    /// Resident memory before they were opened.
    pub rss_bytes_before: u64,
    /// Resident memory with all of them open.
    pub rss_bytes: u64,
    /// How long the server was watched, and what it used meanwhile; `None` if it was not watched.
    pub watched: Option<(Duration, Usage)>,
    /// Gets answered wrongly or with an error.
    pub failed: u64,
}

impl Report {
    /// Bytes of resident memory each connection added; less than 0 if the server shrank.
    pub fn bytes_per_connection(&self) -> f64 {
        (self.rss_bytes as f64 - self.rss_bytes_before as f64) / self.connections as f64
    }

    /// Whether every get was answered with the right value.
    pub fn is_clean(&self) -> bool {
        self.failed == 0
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        self.figures().to_json()
    }

    fn figures(&self) -> Figures {
        let watched = self.watched.as_ref();
        let seconds = watched.map(|(time, _)| time.as_secs_f64());
        let wake_ups = watched.map(|(_, usage)| usage.voluntary_switches);
        let per_second = wake_ups
            .zip(seconds)
            .map(|(count, time)| count as f64 / time);
        let mut figures = Figures::default();
        figures
            .add("connections", self.connections)
            .add("failed", self.failed)
            .add("server_rss_bytes_before", self.rss_bytes_before)
            .add("server_rss_bytes", self.rss_bytes)
            .add("server_bytes_per_connection", self.bytes_per_connection())
            .add("watched_seconds", seconds)
            .add("server_wake_ups", wake_ups)
            .add("server_wake_ups_per_second", per_second)
            .add(
                "server_cpu_seconds",
                watched.map(|(_, usage)| usage.cpu_seconds),
            );
        figures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.figures().fmt(f)
    }
}

/// Opens `connections` connections, each of which gets one value first if `get_first`, keeps them
/// silent for `options.duration` (none: no watching), then closes them. Blocks until it is done.
///
/// # Errors
/// As [`load::run`](super::load::run); [`Error::Options`] if the server's process is not known;
/// [`Error::System`] if the hard limit of open files is too low.
pub fn run(options: &Options, connections: usize, get_first: bool) -> Result<Report, Error> {
    options.check()?;
    if connections == 0 {
        return Err(Error::Options("at least 1 idle connection".to_owned()));
    }
    open_files::allow(connections as u64)?;
    let shared = options.shared();
    let watch = options.duration.unwrap_or_default();
    block_on(&options.target, &shared, async {
        let pid = options.server().await.ok_or_else(|| {
            Error::Options(
                "the server's process is not known: name it by its process id".to_owned(),
            )
        })?;
        let warm = warm_up(options, &shared).await?;
        tokio::time::sleep(SETTLE).await;
        let before = Sample::of(pid)?;
        let (silent, failed) = open(options, &shared, connections, get_first).await?;
        tokio::time::sleep(SETTLE).await;
        let opened = Sample::of(pid)?;
        let watched = look(pid, &opened, watch, &shared).await?;
        drop((warm, silent));
        Ok(Report {
            connections: connections as u64,
            rss_bytes_before: before.rss_bytes,
            rss_bytes: opened.rss_bytes,
            watched,
            failed,
        })
    })
}

async fn warm_up(options: &Options, shared: &Shared) -> Result<Exchange, Error> {
    let mut exchange = Exchange::new(Connection::open(&options.target).await?);
    exchange.push_set(shared, 0);
    exchange.push_get(shared, 0..1);
    exchange.run(shared).await?;
    Ok(exchange)
}

/// Opens the connections one after another; the last one always gets, to know that all were
/// accepted.
async fn open(
    options: &Options,
    shared: &Shared,
    connections: usize,
    get_first: bool,
) -> Result<(Vec<Connection>, u64), Error> {
    let mut silent = Vec::with_capacity(connections);
    let mut failed = 0;
    for number in 1..=connections {
        let mut connection = Connection::open(&options.target).await?;
        if get_first || number == connections {
            let mut exchange = Exchange::new(connection);
            exchange.push_get(shared, 0..1);
            exchange.run(shared).await?;
            let (returned, counts) = exchange.into_parts();
            failed += 1 - counts.hits;
            connection = returned;
            connection.rest();
        }
        silent.push(connection);
    }
    Ok((silent, failed))
}

/// What the server uses while nothing is asked of it for the time of `watch`, and the time it
/// really took.
async fn look(
    pid: u32,
    before: &Sample,
    watch: Duration,
    shared: &Shared,
) -> Result<Option<(Duration, Usage)>, Error> {
    if watch.is_zero() {
        return Ok(None);
    }
    let begun = Instant::now();
    while let Some(rest) = watch.checked_sub(begun.elapsed()) {
        tokio::time::sleep(rest.min(Duration::from_secs(1))).await;
        // Silence is what is wanted here: it does not mean that the server is stuck.
        shared.answered.fetch_add(1, Relaxed);
    }
    let usage = Sample::of(pid)?.since(before);
    Ok(Some((begun.elapsed(), usage)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_per_connection() {
        let report = Report {
            connections: 100,
            rss_bytes_before: 5_000,
            rss_bytes: 55_000,
            watched: Some((
                Duration::from_secs(2),
                Usage {
                    voluntary_switches: 3,
                    ..Usage::default()
                },
            )),
            failed: 0,
        };
        assert_eq!(report.bytes_per_connection(), 500.0);
        let json = report.to_json();
        assert!(
            json.contains(r#""server_wake_ups_per_second":1.500000"#),
            "{json}"
        );
        assert!(report.is_clean());
    }
}
