//! The parts of the picture, each into the place that it is given.
//!
//! [`view`](super::view) plans; here is what they say. They share their words and numbers with `stats --http`.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style as Look};
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Block, Borders, Cell, LineGauge, Paragraph, RenderDirection, Row, Sparkline, Table, Wrap,
};

use super::chart::{Columns, columns};
use super::model::Model;
use crate::stats::status::ServiceStatus;
use crate::tool::status;
use crate::tool::units::{self, harmless};

/// Below this width, words are short.
const SHORT: u16 = 60;

/// From this width on, there is room for more of them.
const LONG: u16 = 90;

/// Columns of a chart that name its highest and its lowest value.
const SCALE_WIDTH: u16 = 8;

/// Colours of the terminal's own sixteen, which its user can read; or none.
#[derive(Clone, Copy)]
pub(super) struct Style {
    has_colours: bool,
}

impl Style {
    pub fn new(model: &Model) -> Style {
        Style {
            has_colours: model.has_colours,
        }
    }

    fn colour(self, colour: Color) -> Look {
        match self.has_colours {
            true => Look::new().fg(colour),
            false => Look::new(),
        }
    }

    fn hits(self) -> Look {
        self.colour(Color::Green)
    }

    fn load(self) -> Look {
        self.colour(Color::Cyan)
    }

    fn memory(self) -> Look {
        self.colour(Color::Cyan)
    }

    /// Of what is wrong.
    pub fn bad(self) -> Look {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }
}

/// A line above a part, with its name.
pub(super) fn heading(name: &str) -> Block<'static> {
    let name = Span::styled(format!("{name} "), Modifier::BOLD);
    Block::new()
        .borders(Borders::TOP)
        .border_style(Modifier::DIM)
        .title(name)
}

fn bold(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Modifier::BOLD)
}

fn dim(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Modifier::DIM)
}

/// Which server, since when, and of when the figures are.
pub(super) fn title(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let server = &model.status.server;
    let up = units::time(server.uptime_seconds.into());
    let host = match &*server.host {
        "" => String::new(),
        host => format!(" on {}", harmless(host)),
    };
    let left = format!("tokencached {}{host}", harmless(&server.version));
    let left = match area.width < SHORT {
        true => Line::from(vec![bold(left), dim(format!("  up {up}"))]),
        false => Line::from(vec![
            bold(left),
            dim(format!("  {}  up {up}", model.target)),
        ]),
    };
    frame.render_widget(left, area);
    let right = Line::from(dim(format!(" {}", model.answered_at)));
    let width = (right.width() as u16).min(area.width);
    let corner = Rect {
        x: area.right() - width,
        width,
        ..area
    };
    frame.render_widget(right, corner);
}

/// Hit rates, the load, and what it saves.
pub(super) fn headline(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let is_short = area.width < SHORT;
    let lines = vec![
        hit_rates(model, is_short),
        load(model, is_short),
        saved(model, area.width),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

fn hit_rates(model: &Model, is_short: bool) -> Line<'static> {
    let names = match is_short {
        true => ["min", "h", "day"],
        false => ["last minute", "hour", "day"],
    };
    let mut spans = vec![label("Hit rate", is_short)];
    // The first window is of the load.
    let windows = model.status.windows.iter().skip(1);
    for (window, name) in windows.zip(names) {
        let ratio = units::percent(window.served.hit_ratio());
        spans.push(bold(ratio).patch_style(Style::new(model).hits()));
        spans.push(Span::raw(match is_short {
            true => format!(" {name} "),
            false => format!(" {name}   "),
        }));
    }
    Line::from(spans)
}

fn load(model: &Model, is_short: bool) -> Line<'static> {
    let now = model.status.windows.first().copied().unwrap_or_default();
    let rate = |count| bold(units::rate(count, now.watched_seconds));
    let requests = status::requests(&now.served);
    let mut spans = vec![
        label("Now", is_short),
        rate(requests).patch_style(Style::new(model).load()),
    ];
    let avoided = rate(now.served.validations_avoided);
    spans.extend(match is_short {
        true => [Span::raw(" req/s  "), avoided, Span::raw(" avoided/s")],
        false => [
            Span::raw(" requests/s   "),
            avoided,
            Span::raw(" validations avoided/s"),
        ],
    });
    Line::from(spans)
}

fn saved(model: &Model, width: u16) -> Line<'static> {
    let day = model.status.windows.get(3).copied().unwrap_or_default();
    let all = units::milliseconds(model.status.total.saved_ms);
    let saved = bold(status::about(day.served.saved_ms));
    let words = match width {
        0..SHORT => " of CPU, last day".to_owned(),
        SHORT..LONG => " of Keystone's CPU in the last day".to_owned(),
        LONG.. => format!(" of Keystone's CPU in the last day, {all} in all"),
    };
    Line::from(vec![label("Saved", width < SHORT), saved, Span::raw(words)])
}

fn label(name: &str, is_short: bool) -> Span<'static> {
    match is_short {
        true => dim(format!("{name} ")),
        false => dim(format!("{name:<10}")),
    }
}

/// The part of the look-ups that found a value, over the last hours.
pub(super) fn hit_rate_chart(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let columns = chart_columns(model, area);
    let name = ("Hit rate", columns.minutes);
    let bars = Sparkline::default()
        .data(columns.hits_of_thousand)
        .max(1_000)
        .style(Style::new(model).hits());
    chart(frame, area, name, "100 %", bars);
}

/// Look-ups, over the last hours.
pub(super) fn look_ups_chart(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let columns = chart_columns(model, area);
    let name = ("Look-ups/s", columns.minutes);
    let most = columns.gets_a_minute.iter().max().copied().unwrap_or(0);
    let bars = Sparkline::default()
        .data(columns.gets_a_minute)
        .max(most.max(1))
        .style(Style::new(model).load());
    chart(frame, area, name, &units::rate(most, 60), bars);
}

fn chart_columns(model: &Model, area: Rect) -> Columns {
    let room = area.width.saturating_sub(SCALE_WIDTH);
    columns(&model.status.history, room.into())
}

fn covered(minutes: usize) -> String {
    match minutes {
        0 => String::new(),
        minutes => format!(", last {}", units::time(minutes as u64 * 60)),
    }
}

fn chart(
    frame: &mut Frame<'_>,
    area: Rect,
    (name, minutes): (&str, usize),
    most: &str,
    bars: Sparkline<'_>,
) {
    let block = heading(&format!("{name}{}", covered(minutes)));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [scale, inside] =
        Layout::horizontal([Constraint::Length(SCALE_WIDTH), Constraint::Fill(1)]).areas(inside);
    let width = usize::from(SCALE_WIDTH - 1);
    for (y, value) in [(scale.top(), most), (scale.bottom().saturating_sub(1), "0")] {
        let value = dim(format!("{value:>width$}"));
        let line = Rect {
            y,
            height: 1,
            ..scale
        };
        frame.render_widget(value, line.intersection(scale));
    }
    if minutes == 0 {
        let words = dim("after the first whole minute");
        frame.render_widget(words, inside);
        return;
    }
    let bars = bars
        .direction(RenderDirection::RightToLeft)
        .absent_value_symbol(" ");
    frame.render_widget(bars, inside);
}

/// How full the memory is.
pub(super) fn gauge(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let memory = &model.status.memory;
    let full = units::part(memory.used_bytes, memory.limit_bytes).unwrap_or(0.0);
    let used = match area.width < SHORT {
        true => status::used(memory),
        false => format!("{} in use", status::used(memory)),
    };
    let gauge = LineGauge::default()
        .label(bold(used))
        .ratio(full.clamp(0.0, 1.0))
        .filled_symbol("\u{2588}")
        .unfilled_symbol("\u{2591}")
        .filled_style(Style::new(model).memory())
        .unfilled_style(Modifier::DIM);
    frame.render_widget(gauge, area);
}

/// What is in it.
pub(super) fn held(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let held = status::held(&model.status.memory);
    frame.render_widget(Span::raw(held), area);
}

/// What more memory would be worth.
pub(super) fn verdict(model: &Model) -> String {
    status::verdict(&model.status.memory)
}

/// As much of the verdict as fits.
pub(super) fn verdict_text(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let verdict = Paragraph::new(verdict(model)).wrap(Wrap { trim: true });
    frame.render_widget(verdict, area);
}

/// Misses by cause.
pub(super) fn misses(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let misses = model.status.misses.iter();
    let rows = misses.map(|missed| (status::cause(&missed.cause), units::count(missed.count)));
    list(frame, rows.collect(), area);
}

/// Who is connected.
pub(super) fn connections(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let connections = &model.status.connections;
    let count = units::count;
    let (open, max) = (count(connections.open), count(connections.max));
    let rows = [
        ("open", format!("{open} of {max}")),
        ("accepted", count(connections.accepted)),
        ("turned away", count(connections.rejected)),
        ("refused", count(connections.refused)),
    ];
    let rows = rows.map(|(name, value)| (name.to_owned(), value));
    list(frame, rows.into(), area);
}

/// Names to the left, values to the right.
fn list(frame: &mut Frame<'_>, rows: Vec<(String, String)>, area: Rect) {
    let rows = rows.into_iter().map(|(name, value)| {
        Row::new([
            Cell::from(name),
            Cell::from(Line::from(value).right_aligned()),
        ])
    });
    let table = Table::new(rows, [Constraint::Fill(1), Constraint::Fill(1)]);
    frame.render_widget(table, area);
}

/// Connections and misses where there is little room.
pub(super) fn tail(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let connections = &model.status.connections;
    let (open, max) = (connections.open, connections.max);
    let open = format!("{} of {}", units::count(open), units::count(max));
    let away = connections.rejected.saturating_add(connections.refused);
    let lines = vec![
        Line::from(vec![
            label("Connections", true),
            bold(open),
            Span::raw(format!(" open, {} turned away", units::count(away))),
        ]),
        Line::from(whole_parts(status::misses(&model.status), area.width)),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

/// As many parts of a list as fit.
fn whole_parts(mut list: String, width: u16) -> String {
    while list.chars().count() > width.into()
        && let Some((fits, _)) = list.rsplit_once(", ")
    {
        list.truncate(fits.len());
    }
    list
}

/// Which services are shown, if not all.
pub(super) fn services_shown(model: &Model) -> Option<String> {
    let (all, shown) = (model.status.services.len(), model.services_shown);
    let last = (model.scrolled + shown).min(all);
    let first = model.scrolled + 1;
    (all > shown).then(|| format!("services {first}-{last} of {all}"))
}

/// A column of the table of services.
struct Column {
    name: &'static str,
    /// The higher it is, the sooner it is left out.
    rank: u8,
    value: fn(&ServiceStatus) -> String,
}

fn gets(service: &ServiceStatus) -> u64 {
    service.hits.saturating_add(service.misses)
}

const fn column(name: &'static str, rank: u8, value: fn(&ServiceStatus) -> String) -> Column {
    Column { name, rank, value }
}

#[rustfmt::skip]
const COLUMNS: [Column; 8] = [
    column("service", 0, |service| harmless(&service.service)),
    column("hit rate", 1, |service| units::percent(units::part(service.hits, gets(service)))),
    column("look-ups", 2, |service| units::count(gets(service))),
    column("sets", 6, |service| units::count(service.sets)),
    column("avoided", 3, |service| units::count(service.validations_avoided)),
    column("CPU saved", 4, |service| units::milliseconds(service.saved_ms)),
    column("revalidated", 7, |service| units::count(service.revalidations)),
    column("clients", 5, |service| units::count(service.connections)),
];

/// The services, as many columns of them as fit.
pub(super) fn services(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let services = &model.status.services;
    if services.is_empty() {
        let words = "No service has asked for anything yet.";
        frame.render_widget(Span::raw(words), area);
        return;
    }
    let columns = fitting(services, area.width);
    let header = columns.iter().enumerate();
    let header = header.map(|(at, (column, _))| aligned(at, column.name.to_owned()));
    let header = Row::new(header).style(Modifier::DIM);
    let shown = services.iter().skip(model.scrolled);
    let rows = shown.take(area.height.into()).map(|service| {
        let cells = columns.iter().enumerate();
        Row::new(cells.map(|(at, (column, _))| aligned(at, (column.value)(service))))
    });
    let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
    let table = Table::new(rows, widths).header(header).column_spacing(2);
    frame.render_widget(table, area);
}

fn aligned(column: usize, text: String) -> Cell<'static> {
    match column {
        0 => Cell::from(text),
        _ => Cell::from(Line::from(text).right_aligned()),
    }
}

/// The columns that fit, with their widths; a long name is cut before a column is left out for it.
fn fitting(services: &[ServiceStatus], room: u16) -> Vec<(&'static Column, u16)> {
    let widest = |column: &Column| {
        let values = services
            .iter()
            .map(|service| Span::raw((column.value)(service)).width());
        let widest = values.chain([column.name.len()]).max().unwrap_or(0);
        if column.rank == 0 {
            widest.min(20) as u16
        } else {
            widest as u16
        }
    };
    let mut ranked: Vec<_> = COLUMNS
        .iter()
        .map(|column| (column, widest(column)))
        .collect();
    ranked.sort_by_key(|(column, _)| column.rank);
    let mut used = 0;
    ranked.retain(|(_, width)| {
        used += width + 2;
        used <= room + 2
    });
    let kept = |column: &Column| ranked.iter().find(|(kept, _)| kept.name == column.name);
    COLUMNS
        .iter()
        .filter_map(|column| kept(column).copied())
        .collect()
}
