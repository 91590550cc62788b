//! The picture: which part gets which place, by what a terminal has room for.
//!
//! [`draw`] plans, and lets [`panels`](super::panels) fill in. What matters most comes first and stays longest: the hit
//! rates and what they save, memory and its verdict, the services; then connections and misses, then the charts.
//!
//! Invariant: nothing is drawn outside the terminal, whatever its size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Modifier;
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Clear, Padding, Paragraph, Wrap};

use super::model::Model;
use super::panels::{self, Style};

/// The least that can be drawn on, in columns and lines.
const LEAST: (u16, u16) = (40, 12);

/// From here on, things stand side by side, and sections have headings.
const WIDE: (u16, u16) = (80, 24);

/// Columns of the lists of misses and connections.
const MISSES_WIDTH: u16 = 26;

/// Lines of a list of services that is worth its place: heading, names of columns, three services.
const SERVICES_LEAST: u16 = 5;

const KEYS: &str = "q ends  r refreshes  \u{2191}\u{2193} scrolls  ? keys";
const KEYS_SHORT: &str = "q ends  ? keys";

const ALL_KEYS: [&str; 6] = [
    "q, Esc, Ctrl-C       end",
    "r                    refresh at once",
    "\u{2191} \u{2193}, k j             scroll the services",
    "Page up, Page down   by pages",
    "Home, End            to the first, the last",
    "?                    these keys",
];

/// Draws all of it; learns how many services fit.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let (width, height) = LEAST;
        let words = format!("too small: top wants {width}x{height}");
        frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), area);
        return;
    }
    let trouble = model.trouble();
    let footer = trouble.as_ref().map_or(1, |told| lines(told, area.width));
    let [body, foot] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(footer)]).areas(area);
    if area.width >= WIDE.0 && area.height >= WIDE.1 {
        wide(frame, model, body);
    } else {
        narrow(frame, model, body);
    }
    match trouble {
        Some(told) => {
            frame.buffer_mut().set_style(body, Modifier::DIM);
            let style = Style::new(model).bad();
            let told = Paragraph::new(told).wrap(Wrap { trim: true });
            frame.render_widget(told.style(style), foot);
        }
        None => footer_line(frame, model, foot),
    }
    if model.shows_keys {
        show_keys(frame, area);
    }
}

fn wide(frame: &mut Frame<'_>, model: &mut Model, area: Rect) {
    let verdict = lines(&panels::verdict(model), area.width);
    let [title, head, _, charts, memory, lower] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Length((area.height / 4).clamp(6, 12)),
        Constraint::Length(3 + verdict),
        Constraint::Fill(1),
    ])
    .areas(area);
    let [hits, gets] = Layout::horizontal([Constraint::Fill(1); 2])
        .spacing(2)
        .areas(charts);
    let [services, misses] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(MISSES_WIDTH)])
            .spacing(2)
            .areas(lower);
    panels::title(frame, model, title);
    panels::headline(frame, model, head);
    panels::hit_rate_chart(frame, model, hits);
    panels::look_ups_chart(frame, model, gets);
    let memory = section(frame, "Memory", memory);
    let [gauge, held, verdict] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
    ])
    .areas(memory);
    panels::gauge(frame, model, gauge);
    panels::held(frame, model, held);
    panels::verdict_text(frame, model, verdict);
    services_section(frame, model, services);
    let causes = model.status.misses.len().min(8) as u16;
    let [misses, connections] =
        Layout::vertical([Constraint::Length(causes + 1), Constraint::Fill(1)]).areas(misses);
    let misses = section(frame, "Misses", misses);
    panels::misses(frame, model, misses);
    if connections.height > 1 {
        let connections = section(frame, "Connections", connections);
        panels::connections(frame, model, connections);
    }
}

/// One below the other; what there is no room for is left out, the least important first.
fn narrow(frame: &mut Frame<'_>, model: &mut Model, area: Rect) {
    let verdict = lines(&panels::verdict(model), area.width).min(3);
    let spare = area
        .height
        .saturating_sub(1 + 3 + 1 + verdict + SERVICES_LEAST);
    let (tail, chart) = match spare {
        0..2 => (0, 0),
        2..7 => (2, 0),
        _ => (2, 5),
    };
    let [title, head, gauge, verdict, tail, chart, services] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Length(verdict),
        Constraint::Length(tail),
        Constraint::Length(chart),
        Constraint::Fill(1),
    ])
    .areas(area);
    panels::title(frame, model, title);
    panels::headline(frame, model, head);
    panels::gauge(frame, model, gauge);
    panels::verdict_text(frame, model, verdict);
    panels::tail(frame, model, tail);
    if chart.height > 0 {
        panels::hit_rate_chart(frame, model, chart);
    }
    services_section(frame, model, services);
}

/// With a heading if there is room for three services at least.
fn services_section(frame: &mut Frame<'_>, model: &mut Model, area: Rect) {
    let inside = match area.height < SERVICES_LEAST {
        true => area,
        false => section(frame, "Services", area),
    };
    let names_of_columns = 1;
    model.bound_scrolling(inside.height.saturating_sub(names_of_columns).into());
    panels::services(frame, model, inside);
}

/// The keys, and which services are shown if not all are.
fn footer_line(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let keys = if area.width < 60 { KEYS_SHORT } else { KEYS };
    frame.render_widget(Line::styled(keys, Modifier::DIM), area);
    if let Some(shown) = panels::services_shown(model) {
        let shown = Line::from(shown).right_aligned();
        frame.render_widget(shown, area);
    }
}

/// A part under its heading; gives what is inside.
fn section(frame: &mut Frame<'_>, heading: &str, area: Rect) -> Rect {
    let block = panels::heading(heading);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    inside
}

fn show_keys(frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = (40.min(area.width), ALL_KEYS.len() as u16 + 2);
    let keys = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let block = Block::new()
        .borders(Borders::ALL)
        .title(" Keys ")
        .padding(Padding::horizontal(1));
    frame.render_widget(Clear, keys);
    frame.render_widget(Paragraph::new(ALL_KEYS.join("\n")).block(block), keys);
}

/// How many lines a text takes in a width, or some more.
fn lines(text: &str, width: u16) -> u16 {
    let width = usize::from(width.max(1));
    let mut lines = 1;
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines += 1;
            used = 0;
        }
        used += length + usize::from(used > 0);
        lines += (used.saturating_sub(1)) / width;
        used = (used.saturating_sub(1)) % width + 1;
    }
    u16::try_from(lines).unwrap_or(u16::MAX).min(5)
}
