//! What is on the screen: the last answer, what is wrong if the server gave none since, where the user has scrolled.
//!
//! Pure: the loop brings answers, keys and the time of day; [`view`](super::view) draws.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::stats::status::Status;
use crate::tool::units::harmless;
use crate::tool::{Error, Target};

/// What is shown.
#[derive(Debug)]
pub(super) struct Model {
    /// Whom we ask, as it is shown.
    pub target: String,
    /// The last answer.
    pub status: Status,
    /// When it came.
    pub answered_at: String,
    /// Why there was none since.
    pub trouble: Option<Trouble>,
    /// How many services are above those that are shown; drawing bounds it.
    pub scrolled: usize,
    /// How many services were shown at once when they were drawn last.
    pub services_shown: usize,
    /// Whether the keys are shown.
    pub shows_keys: bool,
    /// Whether there are colours.
    pub has_colours: bool,
}

/// A server that does not answer.
#[derive(Debug)]
pub(super) struct Trouble {
    /// When it was first noticed.
    pub since: String,
    /// What the last attempt says.
    pub why: String,
}

/// What the user wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing but to look.
    Stay,
    /// Fresh figures.
    Ask,
    /// The end.
    End,
}

impl Model {
    /// Shows a first answer, which came at this time of day.
    pub fn new(target: &Target, status: Status, now: &str, has_colours: bool) -> Model {
        Model {
            target: harmless(&target.to_string()),
            status,
            answered_at: now.to_owned(),
            trouble: None,
            scrolled: 0,
            services_shown: 0,
            shows_keys: false,
            has_colours,
        }
    }

    /// Takes what came of a question, at this time of day.
    pub fn answered(&mut self, answer: Result<Status, Error>, now: &str) {
        match (answer, &mut self.trouble) {
            (Ok(status), _) => {
                self.status = status;
                self.answered_at = now.to_owned();
                self.trouble = None;
            }
            (Err(error), Some(trouble)) => trouble.why = error.why(),
            (Err(error), none) => {
                *none = Some(Trouble {
                    since: now.to_owned(),
                    why: error.why(),
                });
            }
        }
    }

    /// Does what a key is for.
    pub fn pressed(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Stay;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::End,
                _ => Wish::Stay,
            };
        }
        if self.shows_keys && key.code != KeyCode::Char('q') {
            self.shows_keys = false;
            return Wish::Stay;
        }
        let page = self.services_shown.max(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::End,
            KeyCode::Char('r') => return Wish::Ask,
            KeyCode::Char('?' | 'h') => self.shows_keys = true,
            KeyCode::Down | KeyCode::Char('j') => self.scrolled += 1,
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::PageDown => self.scrolled += page,
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(page),
            KeyCode::Home => self.scrolled = 0,
            KeyCode::End => self.scrolled = self.status.services.len(),
            _ => {}
        }
        Wish::Stay
    }

    /// Notes that so many services can be shown at once, and goes no further than the last.
    pub fn bound_scrolling(&mut self, services_shown: usize) {
        self.services_shown = services_shown;
        let last = self.status.services.len().saturating_sub(services_shown);
        self.scrolled = self.scrolled.min(last);
    }

    /// The line about a server that does not answer.
    pub fn trouble(&self) -> Option<String> {
        let Trouble { since, why } = self.trouble.as_ref()?;
        let why: Vec<_> = why.split(' ').map(harmless).collect();
        let why = why.join(" ");
        Some(format!(
            "no answer from {} since {since}: {why}",
            self.target
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::stats::status::ServiceStatus;

    fn target() -> Target {
        "127.0.0.1:9150".parse().unwrap()
    }

    fn model() -> Model {
        let status = Status {
            services: vec![ServiceStatus::default(); 10],
            ..Status::default()
        };
        Model::new(&target(), status, "12:00:00", false)
    }

    fn refused() -> Result<Status, Error> {
        Err(Error::Unreachable(
            target(),
            io::ErrorKind::ConnectionRefused.into(),
        ))
    }

    fn press(model: &mut Model, code: KeyCode) -> Wish {
        model.pressed(code.into())
    }

    #[test]
    fn trouble_lasts_from_its_first_sign_to_the_next_answer() {
        let mut model = model();
        assert_eq!(model.trouble(), None);
        model.answered(refused(), "12:00:02");
        model.answered(refused(), "12:00:04");
        let told = "no answer from 127.0.0.1:9150 since 12:00:02: connection refused";
        assert_eq!(model.trouble().as_deref(), Some(told));
        assert_eq!(model.status.services.len(), 10, "the last figures stay");
        model.answered(Ok(Status::default()), "12:00:06");
        assert_eq!(model.trouble(), None);
        assert_eq!(model.answered_at, "12:00:06");
    }

    #[test]
    fn keys_end_and_ask() {
        let mut model = model();
        assert_eq!(press(&mut model, KeyCode::Char('q')), Wish::End);
        assert_eq!(press(&mut model, KeyCode::Esc), Wish::End);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(model.pressed(control_c), Wish::End);
        assert_eq!(press(&mut model, KeyCode::Char('r')), Wish::Ask);
        assert_eq!(press(&mut model, KeyCode::Char('x')), Wish::Stay);
    }

    #[test]
    fn scrolling_stays_within_the_services() {
        let mut model = model();
        model.bound_scrolling(4);
        press(&mut model, KeyCode::Up);
        assert_eq!(model.scrolled, 0);
        press(&mut model, KeyCode::Down);
        press(&mut model, KeyCode::PageDown);
        model.bound_scrolling(4);
        assert_eq!(model.scrolled, 5);
        press(&mut model, KeyCode::End);
        model.bound_scrolling(4);
        assert_eq!(model.scrolled, 6);
        model.bound_scrolling(20);
        assert_eq!(model.scrolled, 0, "all fit");
    }

    #[test]
    fn any_key_closes_the_list_of_keys() {
        let mut model = model();
        press(&mut model, KeyCode::Char('?'));
        assert!(model.shows_keys);
        assert_eq!(press(&mut model, KeyCode::Esc), Wish::Stay);
        assert!(!model.shows_keys);
    }
}
