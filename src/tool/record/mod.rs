//! A running server's accesses, recorded into a trace that `simulate` and `advise` replay.
//!
//! Asks the admin socket, as `watch` does. Keys become numbers in the order in which they come; what was cached before
//! the recording began, and is hit, is put at the head of the trace, as old as it was (its warm-up).
//!
//! Invariants:
//! - nothing in a trace leads back to a token: not even the hashes of keys that the server sends are in it;
//! - bounded in time and in bytes; the file is whole or not there.

mod recorder;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::trace::{Recorded, file};
use super::units::{count, part, percent};
use super::watch::Lines;
use super::{Error, Target, files, status};
use crate::stats::watch_line::Line;
use recorder::Recorder;

/// How often it is looked whether the end is asked for.
const LOOK: Duration = Duration::from_millis(200);

/// How long it still listens when the end is asked for: for what was done by then and is on its way.
const GRACE: Duration = Duration::from_secs(1);

/// What to record, and how much of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server's admin socket.
    pub target: Target,
    /// The file to write.
    pub output: PathBuf,
    /// How long.
    pub time: Duration,
    /// Bytes of the file, at most.
    pub bytes_max: u64,
}

/// What was recorded.
#[derive(Debug)]
pub struct Report {
    path: PathBuf,
    recorded: Recorded,
    tokens: usize,
    millis: u32,
    is_full: bool,
    /// Why the server ended it, if it did.
    broke: Option<String>,
}

/// Records until the time is over, the file is full, or `ends` says so; then writes the file.
///
/// # Errors
/// Those of [`Lines::begin`]; a server that ends earlier ends the recording, and what there is is written.
/// [`Error::File`] if it cannot be, [`Error::Options`] if nobody has asked for anything.
pub fn run(options: &Options, ends: &AtomicBool) -> Result<Report, Error> {
    files::check(&options.output)?;
    let status = status::fetch(&options.target)?;
    let mut lines = Lines::begin(&options.target)?;
    let mut recorder = Recorder::default();
    let begun = Instant::now();
    let mut time = options.time;
    let (mut is_ending, mut is_full) = (false, false);
    let mut broke = None;
    while begun.elapsed() < time && !is_full {
        if ends.load(Relaxed) && !is_ending {
            is_ending = true;
            time = time.min(begun.elapsed() + GRACE);
        }
        let left = time.saturating_sub(begun.elapsed());
        match lines.within(left.min(LOOK)) {
            None => {}
            Some(Ok((_, Line::Event(event)))) => recorder.note(&event),
            Some(Ok((_, Line::Lost { count }))) => recorder.lose(count),
            Some(Ok((_, Line::Begun(begun)))) => recorder.begin(begun.second_ms),
            Some(Err(Error::Lost(_, why))) => {
                broke = Some(why.to_string());
                break;
            }
            Some(Err(error)) => return Err(error),
        }
        is_full = recorder.bytes() >= options.bytes_max;
    }
    let millis = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
    let trace = recorder.trace(millis, status.memory.limit_bytes);
    let Some(recorded) = trace.about.recorded.filter(|_| !trace.requests.is_empty()) else {
        let what = "nobody looked anything up that was ever stored: nothing is recorded; record for longer, while the services are at work";
        return Err(Error::Options(what.to_owned()));
    };
    file::write(&options.output, &trace)?;
    Ok(Report {
        path: options.output.clone(),
        recorded,
        tokens: trace.tokens.len(),
        millis,
        is_full,
        broke,
    })
}

impl Report {
    /// Whether it was recorded for as long as was asked, and not ended by the server.
    pub fn is_whole(&self) -> bool {
        self.broke.is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recorded {
            look_ups,
            hits,
            left_out,
            lost,
            ..
        } = self.recorded;
        let path = self.path.display();
        let (all, tokens) = (count(look_ups), count(self.tokens as u64));
        let ratio = percent(part(hits, look_ups));
        let seconds = f64::from(self.millis) / 1_000.0;
        writeln!(
            f,
            "{path}: {all} look-ups of {tokens} keys in {seconds:.1} s; {ratio} of them hit"
        )?;
        if let Some(why) = &self.broke {
            writeln!(
                f,
                "it ends there since the connection to the server was lost: {why}"
            )?;
        }
        if self.is_full {
            writeln!(
                f,
                "it has reached its size and ends there; --size allows more"
            )?;
        }
        if left_out > 0 {
            let left_out = count(left_out);
            writeln!(f, "left out: {left_out} look-ups of what was never stored")?;
        }
        if lost > 0 {
            let lost = count(lost);
            writeln!(
                f,
                "lost: {lost} events, which came faster than they were taken; what is replayed differs by as much"
            )?;
        }
        Ok(())
    }
}
