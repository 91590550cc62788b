//! Whole pictures, drawn on a terminal that only remembers.

use std::io;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyCode;
use ratatui::style::{Color, Modifier};

use super::model::Model;
use super::view;
use crate::stats::history::{Sample, Window};
use crate::stats::need::Need;
use crate::stats::status::{
    Connections, FORMAT, Memory, Minutes, Missed, Server, ServiceStatus, Status, WINDOWS,
};
use crate::tool::{Error, Target};

fn target() -> Target {
    "127.0.0.1:9150".parse().unwrap()
}

fn showing(status: Status) -> Model {
    Model::new(&target(), status, "12:03:04", true)
}

fn drawn(model: &mut Model, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, model)).unwrap();
    terminal.backend().buffer().clone()
}

fn picture(model: &mut Model, width: u16, height: u16) -> String {
    let buffer = drawn(model, width, height);
    let rows = buffer.content.chunks(width.into()).map(|row| {
        let row: String = row.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", row.trim_end())
    });
    rows.collect()
}

fn assert_same(drawn: &str, expected: &str) {
    assert!(drawn == expected, "drawn:\n{drawn}\nexpected:\n{expected}");
}

/// A unit that has served for three days, with too little memory.
fn busy() -> Status {
    let served = |seconds: u64| Sample {
        hits: seconds * 935,
        misses: seconds * 65,
        evicted: seconds * 20,
        sets: seconds * 60,
        validations_avoided: seconds * 900,
        saved_ms: seconds * 90_000,
        ..Sample::default()
    };
    let windows = WINDOWS.map(|seconds| Window {
        seconds,
        watched_seconds: seconds,
        served: served(seconds.into()),
    });
    let wave = |minute: u64| 30_000 + 1_000 * (minute % 45).abs_diff(20);
    Status {
        format: FORMAT,
        server: Server {
            version: "0.1.0".to_owned(),
            uptime_seconds: 273_600,
            ..Server::default()
        },
        total: served(273_600),
        windows: windows.into(),
        history: Minutes {
            hits: (0..181).map(wave).collect(),
            misses: (0..181).map(|minute| wave(minute * 7) / 4).collect(),
            evicted: vec![0; 181],
        },
        misses: ["never_seen", "expired", "evicted", "flushed", "deleted"]
            .into_iter()
            .zip([1_234_567, 80_000, 5_472, 0, 1])
            .map(|(cause, count)| Missed {
                cause: cause.to_owned(),
                count,
            })
            .collect(),
        services: services(&[
            "nova-api", "neutron", "glance", "cinder", "keystone", "other",
        ]),
        memory: Memory {
            limit_bytes: 64 << 20,
            used_bytes: 63 << 20,
            table_bytes: 1 << 20,
            items: 40_000,
            item_bytes: 60_000_000,
            evictions: 123_456,
            packed_from_bytes: 1_000_000,
            packed_into_bytes: 32_000,
            need: Some(Need {
                verdict: "At 64 MB, 2.0 % of the look-ups of the last day missed what had been \
                          evicted; 96 MB would have kept it."
                    .to_owned(),
                ..Need::default()
            }),
        },
        connections: Connections {
            open: 120,
            max: 4_096,
            accepted: 98_765,
            rejected: 0,
            refused: 3,
        },
        ..Status::default()
    }
}

fn services(names: &[&str]) -> Vec<ServiceStatus> {
    let service = |(name, count): (&&str, u64)| ServiceStatus {
        service: (*name).to_owned(),
        connections: count,
        hits: count * 1_000_000,
        misses: count * 70_000,
        sets: count * 65_000,
        validations_avoided: count * 900_000,
        saved_ms: count * 90_000_000,
        revalidations: count * 12,
    };
    let counts = (1..=names.len() as u64).rev();
    names.iter().zip(counts).map(service).collect()
}

fn refused() -> Result<Status, Error> {
    Err(Error::Unreachable(
        target(),
        io::ErrorKind::ConnectionRefused.into(),
    ))
}

#[test]
fn a_large_terminal_shows_everything() {
    let drawn = picture(&mut showing(busy()), 100, 30);
    assert_same(&drawn, include_str!("pictures/100x30.txt"));
}

#[test]
fn a_small_terminal_shows_what_matters_first() {
    let drawn = picture(&mut showing(busy()), 60, 20);
    assert_same(&drawn, include_str!("pictures/60x20.txt"));
    let drawn = picture(&mut showing(busy()), 40, 12);
    assert_same(&drawn, include_str!("pictures/40x12.txt"));
}

#[test]
fn a_server_that_nobody_has_asked_says_so() {
    let drawn = picture(&mut showing(Status::default()), 100, 30);
    for said in [
        "Hit rate",
        "No service has asked for anything yet.",
        "Too few look-ups yet",
        "0 bytes of 0 bytes in use",
    ] {
        assert!(drawn.contains(said), "{said}: {drawn}");
    }
}

#[test]
fn every_size_is_drawn_whatever_there_is_to_draw() {
    for (width, height) in (1..=130).flat_map(|width| (1..=40).map(move |height| (width, height))) {
        for status in [busy(), Status::default()] {
            let mut model = showing(status);
            model.answered(refused(), "12:03:06");
            model.pressed(KeyCode::Char('?').into());
            let drawn = picture(&mut model, width, height);
            let is_shown = drawn.contains("Hit rate");
            assert_eq!(is_shown, width >= 40 && height >= 12, "{width}x{height}");
        }
    }
    let drawn = picture(&mut showing(busy()), 39, 12);
    assert!(drawn.starts_with("too small: top wants 40x12\n"), "{drawn}");
}

#[test]
fn a_server_that_does_not_answer_leaves_its_last_figures_dimmed() {
    let mut model = showing(busy());
    let before = picture(&mut model, 100, 30);
    model.answered(refused(), "12:03:06");
    let buffer = drawn(&mut model, 100, 30);
    let after = picture(&mut model, 100, 30);
    let told = "no answer from 127.0.0.1:9150 since 12:03:06: connection refused";
    assert_eq!(after.lines().last(), Some(told));
    let rows = before.lines().zip(after.lines()).take(29);
    assert!(rows.into_iter().all(|(before, after)| before == after));
    let (body, foot) = buffer.content.split_at(29 * 100);
    assert!(
        body.iter()
            .all(|cell| cell.modifier.contains(Modifier::DIM))
    );
    assert!(!foot[0].modifier.contains(Modifier::DIM));
    model.answered(Ok(busy()), "12:03:04");
    assert_same(&picture(&mut model, 100, 30), &before);
}

#[test]
fn why_there_is_no_answer_is_told_whole_on_a_small_terminal() {
    let mut model = showing(busy());
    model.answered(refused(), "12:03:06");
    let drawn = picture(&mut model, 40, 12);
    let told: Vec<_> = drawn.lines().rev().take(2).collect();
    assert_eq!(told[1], "no answer from 127.0.0.1:9150 since");
    assert_eq!(told[0], "12:03:06: connection refused");
}

#[test]
fn services_that_do_not_fit_are_scrolled_to() {
    let mut model = showing(busy());
    let drawn = picture(&mut model, 60, 20);
    assert!(drawn.contains("nova-api") && !drawn.contains("other"));
    model.pressed(KeyCode::End.into());
    let drawn = picture(&mut model, 60, 20);
    assert!(!drawn.contains("nova-api") && drawn.contains("other"));
    assert!(drawn.contains("of 6"), "{drawn}");
}

#[test]
fn the_keys_are_shown_over_the_figures() {
    let mut model = showing(busy());
    model.pressed(KeyCode::Char('?').into());
    for (width, height) in [(100, 30), (40, 12)] {
        let drawn = picture(&mut model, width, height);
        assert!(drawn.contains("refresh at once"), "{drawn}");
    }
}

#[test]
fn names_that_would_do_something_to_a_terminal_are_shown_harmlessly() {
    let hostile = "\x1b[2J\x07evil\u{202e}\r\n\u{9b}31m";
    let mut status = busy();
    status.services = services(&[hostile, &"long".repeat(50)]);
    status.server.version = hostile.to_owned();
    status.misses[0].cause = hostile.to_owned();
    if let Some(need) = &mut status.memory.need {
        need.verdict = hostile.to_owned();
    }
    for (width, height) in [(100, 30), (60, 20), (40, 12)] {
        let mut model = showing(status.clone());
        model.answered(
            Err(Error::Answer(target(), format!("said {hostile}"))),
            "12:03:06",
        );
        let drawn = picture(&mut model, width, height);
        assert!(drawn.contains("?[2J?evil?"), "{drawn}");
        let harmful = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!drawn.contains(harmful), "{drawn:?}");
        assert!(
            drawn.contains("hit rate"),
            "a long name leaves room: {drawn}"
        );
    }
}

#[test]
fn colours_are_the_terminals_own_and_none_where_none_are_wanted() {
    for has_colours in [true, false] {
        let mut model = Model::new(&target(), busy(), "12:03:04", has_colours);
        model.answered(refused(), "12:03:06");
        let buffer = drawn(&mut model, 100, 30);
        let own = [Color::Reset, Color::Green, Color::Cyan, Color::Red];
        let allowed = if has_colours { &own[..] } else { &own[..1] };
        for cell in &buffer.content {
            assert!(allowed.contains(&cell.fg), "{:?}", cell.fg);
            assert_eq!(cell.bg, Color::Reset);
        }
        let used = own
            .iter()
            .filter(|own| buffer.content.iter().any(|c| c.fg == **own));
        assert_eq!(used.count(), allowed.len());
    }
}
