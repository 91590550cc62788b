//! `top`: how a server does, live on a terminal.
//!
//! Three threads send events to one loop ([`run`]), which keeps a model and draws it after each: one asks the
//! server, one reads the terminal, one waits for signals. So a key is answered at once, however slow the server is.
//!
//! Invariants:
//! - the terminal is given back as it was, however it ends;
//! - nothing is drawn before the server has answered once: who asks the wrong one gets a line, not a screen;
//! - a server that does not answer any more leaves its last figures, dimmed, until it answers again.

mod chart;
mod model;
mod panels;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event as terminal;

use self::model::{Model, Wish};
use super::{Error, Target, signals, status};
use crate::stats::status::Status;

/// Whom to watch, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server: its HTTP port or its admin socket.
    pub target: Target,
    /// How long to wait between an answer and the next question.
    pub interval: Duration,
}

/// What there is to react to.
enum Event {
    /// The server answered, or not.
    Answer(Box<Result<Status, Error>>),
    /// A key, another size.
    Terminal(io::Result<terminal::Event>),
    /// A signal asks for the end.
    End,
    /// A thread that the others need is gone.
    Broken,
}

/// Shows a server until somebody wants no more of it: by a key, or by SIGTERM, SIGINT or SIGHUP.
///
/// # Errors
/// [`Error::Options`] where there is no terminal, those of [`status::fetch`] if the server does not answer at the start,
/// [`Error::System`] if the terminal goes.
pub fn run(options: &Options) -> Result<(), Error> {
    let Options { target, interval } = options;
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Error::Options(no_terminal(target)));
    }
    let mut model = Model::new(target, status::fetch(target)?, &clock(), has_colours());
    let (send, events) = channel();
    let (ask_again, asked_again) = channel();
    let asks_for_end = send.clone();
    // Without a receiver all is over anyway.
    signals::each(move || drop(asks_for_end.send(Event::End)))?;
    let mut screen = Screen::take()?;
    {
        let (send, target, interval) = (send.clone(), target.clone(), *interval);
        thread::spawn(move || ask(&target, interval, &send, &asked_again));
    }
    thread::spawn(move || read_terminal(&send));
    loop {
        screen.draw(&mut model)?;
        let Ok(event) = events.recv() else {
            return Ok(());
        };
        match react(&mut model, event)? {
            Wish::Stay => {}
            // Without somebody to ask there is an event that says so.
            Wish::Ask => drop(ask_again.send(())),
            Wish::End => return Ok(()),
        }
    }
}

fn no_terminal(target: &Target) -> String {
    let again = match target {
        Target::Tcp(address) => format!("--http {address}"),
        Target::Unix(path) => format!("--admin {}", path.display()),
    };
    format!("top wants a terminal, and this is none: use tokencached-tool stats {again}")
}

/// Whether the user wants colours; see no-color.org.
fn has_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The time of day where the user is.
fn clock() -> String {
    jiff::ZonedDateTime::now().strftime("%H:%M:%S").to_string()
}

fn react(model: &mut Model, event: Event) -> Result<Wish, Error> {
    match event {
        Event::Answer(answer) => {
            model.answered(*answer, &clock());
            Ok(Wish::Stay)
        }
        Event::Terminal(Ok(terminal::Event::Key(key))) => Ok(model.pressed(key)),
        Event::Terminal(Ok(_)) => Ok(Wish::Stay),
        Event::Terminal(Err(why)) => Err(Error::System("read the terminal", why)),
        Event::End => Ok(Wish::End),
        Event::Broken => {
            let why = io::Error::other("a thread ended");
            Err(Error::System("ask the server any more", why))
        }
    }
}

/// Says so when its thread panics.
struct Needed<'s>(&'s Sender<Event>);

impl Drop for Needed<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // Without a receiver all is over anyway.
            drop(self.0.send(Event::Broken));
        }
    }
}

/// Asks every interval, and at once when told to, until nobody listens.
fn ask(target: &Target, interval: Duration, send: &Sender<Event>, again: &Receiver<()>) {
    let _needed = Needed(send);
    while again.recv_timeout(interval) != Err(RecvTimeoutError::Disconnected) {
        // Several wishes are one.
        while again.try_recv().is_ok() {}
        let answer = Box::new(status::fetch(target));
        if send.send(Event::Answer(answer)).is_err() {
            return;
        }
    }
}

fn read_terminal(send: &Sender<Event>) {
    let _needed = Needed(send);
    loop {
        let event = terminal::read();
        let is_over = event.is_err();
        if send.send(Event::Terminal(event)).is_err() || is_over {
            return;
        }
    }
}

/// The terminal while it is ours. Given back when it is dropped, and before a panic is told.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> Result<Screen, Error> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Screen(terminal)),
            Err(why) => {
                give_back();
                Err(Error::System("draw on the terminal", why))
            }
        }
    }

    fn draw(&mut self, model: &mut Model) -> Result<(), Error> {
        let drawn = self.0.draw(|frame| view::draw(frame, model));
        drawn.map_err(|why| Error::System("draw on the terminal", why))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// A terminal that is gone takes nothing back, and nobody looks at it.
fn give_back() {
    drop(ratatui::try_restore());
}
