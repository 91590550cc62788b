//! `stats --http` and `stats --admin`: asks a server how it does, and says it once.
//!
//! [`fetch`] reads what [`crate::stats::status`] defines and the server sends as JSON; [`Text`] lays it out for people.
//! `top` shows the same, live.
//!
//! Invariant: *one format*, what a server of another one says is not guessed at.

use std::fmt;

use serde::Deserialize;

use super::units::{self, harmless};
use super::{Error, Target, http};
use crate::stats::history::Sample;
use crate::stats::status::{FORMAT, Memory, Status};

const PATH: &str = "/api/status";

/// Asks a server, over its HTTP port or its admin socket. Blocks for at most five seconds.
///
/// # Errors
/// Those of [`http::get`]; [`Error::Answer`] for what is no status, or one of another format.
pub fn fetch(target: &Target) -> Result<Status, Error> {
    parse(&http::get(target, PATH)?).map_err(|what| Error::Answer(target.clone(), what))
}

/// What stays the same whatever the format.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

fn parse(answer: &[u8]) -> Result<Status, String> {
    let no_status =
        |why| format!("answered {PATH} with no status: does a tokencached listen there? ({why})");
    let Head { format } = serde_json::from_slice(answer).map_err(no_status)?;
    if format != FORMAT {
        return Err(format!(
            "speaks format {format} of its status, this tool {FORMAT}: use the tool of the server's release"
        ));
    }
    serde_json::from_slice(answer).map_err(no_status)
}

/// The status as indented JSON.
pub fn json(status: &Status) -> String {
    serde_json::to_string_pretty(status).expect("objects whose keys are text")
}

/// The status for people.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a Status);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        let server = &status.server;
        writeln!(
            f,
            "tokencached {} (memcached {}) on {}, pid {}, {} threads, up {}\n",
            harmless(&server.version),
            harmless(&server.memcached_version),
            match &*server.host {
                "" => units::NONE.to_owned(),
                host => harmless(host),
            },
            server.pid,
            server.threads,
            units::time(server.uptime_seconds.into())
        )?;
        write_table(f, &served(status))?;
        writeln!(f)?;
        write_table(f, &services(status))?;
        writeln!(f, "\n{}\n", misses(status))?;
        for line in memory(&status.memory) {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "{}", connections(status))
    }
}

/// The cells of a row.
pub(super) type Row = Vec<String>;

fn row<const N: usize>(cells: [&str; N]) -> Row {
    cells.map(str::to_owned).into()
}

/// Rows of equal length: the first column to the left, the others to the right.
pub(super) fn write_table(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len))
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => write!(f, "{cell:<width$}")?,
                _ => write!(f, "  {cell:>width$}")?,
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

fn served(status: &Status) -> Vec<Row> {
    let head = [
        "Served",
        "hit rate",
        "look-ups",
        "sets",
        "requests/s",
        "validations avoided",
        "Keystone CPU saved",
    ];
    let lately = status.windows.iter().map(|window| {
        let name = format!("last {}", units::time(window.seconds.into()));
        served_row(name, &window.served, window.watched_seconds)
    });
    let all = served_row(
        "in all".to_owned(),
        &status.total,
        status.server.uptime_seconds,
    );
    [row(head)].into_iter().chain(lately).chain([all]).collect()
}

fn served_row(name: String, served: &Sample, seconds: u32) -> Row {
    vec![
        name,
        units::percent(served.hit_ratio()),
        units::count(served.gets()),
        units::count(served.sets),
        units::rate(requests(served), seconds),
        units::count(served.validations_avoided),
        about(served.saved_ms),
    ]
}

/// Look-ups and storage commands.
pub fn requests(served: &Sample) -> u64 {
    served.gets() + served.sets
}

/// An estimate is said as one.
pub fn about(saved_ms: u64) -> String {
    match saved_ms {
        0 => "0 s".to_owned(),
        _ => format!("about {}", units::milliseconds(saved_ms)),
    }
}

fn services(status: &Status) -> Vec<Row> {
    let head = [
        "Service",
        "hit rate",
        "look-ups",
        "sets",
        "avoided",
        "CPU saved",
        "validated again",
        "connections",
    ];
    let rows = status.services.iter().map(|service| {
        let gets = service.hits + service.misses;
        vec![
            harmless(&service.service),
            units::percent(units::part(service.hits, gets)),
            units::count(gets),
            units::count(service.sets),
            units::count(service.validations_avoided),
            about(service.saved_ms),
            units::count(service.revalidations),
            units::count(service.connections),
        ]
    });
    [row(head)].into_iter().chain(rows).collect()
}

/// What a cause is called.
pub fn cause(name: &str) -> String {
    harmless(&name.replace('_', " "))
}

/// The misses by cause, in a line.
pub fn misses(status: &Status) -> String {
    let causes = status.misses.iter().filter(|missed| missed.count > 0);
    let causes = causes.map(|m| format!("{} {}", units::count(m.count), cause(&m.cause)));
    match causes.collect::<Vec<_>>() {
        none if none.is_empty() => "Misses: none".to_owned(),
        causes => format!("Misses: {}", causes.join(", ")),
    }
}

/// What is in use, what is held, and what more memory would be worth.
pub fn memory(memory: &Memory) -> [String; 3] {
    [
        format!(
            "Memory: {} in use, {} of them tables",
            used(memory),
            units::bytes(memory.table_bytes)
        ),
        held(memory),
        verdict(memory),
    ]
}

/// Bytes in use, of how many.
pub fn used(memory: &Memory) -> String {
    let (used, limit) = (memory.used_bytes, memory.limit_bytes);
    format!("{} of {}", units::bytes(used), units::bytes(limit))
}

/// Items, and what packing makes of values.
pub fn held(memory: &Memory) -> String {
    let mut held = format!("{} items", units::count(memory.items));
    if let Some(mean) = memory.item_bytes.checked_div(memory.items) {
        held += &format!(" of {} on average", units::bytes(mean));
    }
    held += &format!(", {} evicted", units::count(memory.evictions));
    let packed = units::part(memory.packed_into_bytes, memory.packed_from_bytes);
    if packed.is_some() {
        held += &format!("; what packs takes {} of its bytes", units::percent(packed));
    }
    held
}

/// What more memory would be worth.
pub fn verdict(memory: &Memory) -> String {
    match &memory.need {
        Some(need) => harmless_sentence(&need.verdict),
        None => "Too few look-ups yet to say whether it is enough.".to_owned(),
    }
}

fn harmless_sentence(text: &str) -> String {
    text.split(' ').map(harmless).collect::<Vec<_>>().join(" ")
}

/// Who is connected, in a line.
pub fn connections(status: &Status) -> String {
    let connections = &status.connections;
    format!(
        "Connections: {} of {} open, {} accepted, {} turned away over -c, {} refused by the access rules",
        units::count(connections.open),
        units::count(connections.max),
        units::count(connections.accepted),
        units::count(connections.rejected),
        units::count(connections.refused)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::status::{Missed, ServiceStatus};

    #[test]
    fn a_status_is_read_as_the_server_writes_it() {
        let mut status = Status {
            format: FORMAT,
            unix_seconds: 5,
            ..Status::default()
        };
        status.services.push(ServiceStatus::default());
        let written = serde_json::to_vec(&status).unwrap();
        assert_eq!(parse(&written).unwrap(), status);
        assert_eq!(parse(json(&status).as_bytes()).unwrap(), status);
    }

    #[test]
    fn another_format_is_not_guessed_at() {
        let what = parse(br#"{"format":2,"unix_seconds":"a word"}"#).unwrap_err();
        assert!(what.contains("format 2"), "{what}");
        assert!(what.contains("this tool 1"), "{what}");
    }

    #[test]
    fn what_is_no_status_is_told_in_one_line() {
        for answer in [
            "",
            "ok\n",
            "<html>",
            "{}",
            "[]",
            r#"{"format":"1"}"#,
            r#"{"format":1}"#,
        ] {
            let what = parse(answer.as_bytes()).unwrap_err();
            assert!(what.contains("no status"), "{answer}: {what}");
            assert!(!what.contains('\n'), "{what}");
        }
    }

    #[test]
    fn the_text_has_the_numbers_and_does_nothing_to_a_terminal() {
        let mut status = Status::default();
        status.total.hits = 1_234;
        status.services.push(ServiceStatus {
            service: "no\x1b[2Jva".to_owned(),
            hits: 935,
            misses: 65,
            ..ServiceStatus::default()
        });
        status.misses.push(Missed {
            cause: "never_seen".to_owned(),
            count: 4_321,
        });
        let text = Text(&status).to_string();
        for said in [
            "1,234",
            "no?[2Jva    93.5 %     1,000",
            "Misses: 4,321 never seen",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains('\x1b'));
    }
}
