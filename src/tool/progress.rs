//! How far a long command is, on standard error while that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that goes when it is dropped.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar, or, if `quiet` or without a terminal, nothing.
    pub fn new(quiet: bool) -> Progress {
        let bar = if quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(0)
        };
        let style = ProgressStyle::with_template("{msg:28} {wide_bar} {percent:>3} %  {eta} left");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Progress(bar)
    }

    /// Begins a part of so much work.
    pub fn begin(&self, what: &str, work: u64) {
        self.0.reset();
        self.0.set_length(work);
        self.0.set_message(what.to_owned());
    }

    /// Says how it goes.
    pub fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// Notes work done. From any thread.
    pub fn advance(&self, work: u64) {
        self.0.inc(work);
    }

    /// Notes all the work that was done so far.
    pub fn reach(&self, work: u64) {
        self.0.set_position(work);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
