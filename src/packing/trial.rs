//! Whether another dictionary would pay: values that come in are packed with one on trial too.
//!
//! Called for each token that was packed. Now and then one becomes the *candidate*: the tokens after it
//! are packed with it as dictionary as well, and the sums are compared. So a new dictionary needs no
//! rule of what a catalogue is or when it has changed; it is taken when it has shown what it saves.
//!
//! It is taken at once when two tokens come out at half the size or less: they belong to a catalogue
//! that no dictionary knows. Else after [`TRIAL_VALUES`] tokens, if it would have saved a twentieth of
//! all of them: the catalogue has changed a little, or the dictionary in use was made of an odd token. Each trial
//! that gains nothing doubles the number of tokens until the next one, up to [`PERIOD_MAX`]; a token
//! that came out unusually large counts [`SURPRISE`] times.
//!
//! Invariants:
//! - a value of the candidate's own key proves nothing: a herd sets one token many times;
//! - the candidate holds no bearer token;
//! - nobody waits: a thread that finds another one busy with the trial leaves it alone.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64};

use parking_lot::Mutex;

use super::codec::{self, Packer};
use crate::token::value;

/// Tokens that a candidate is tried on.
const TRIAL_VALUES: u32 = 32;

/// Tokens that come out at half the size before a candidate is taken without further trial.
const HALVED_VALUES: u32 = 2;

/// Tokens from one trial to the next, at the least and at the most.
const PERIOD_MIN: i64 = 16;
const PERIOD_MAX: i64 = 4096;

/// What an unusually large token counts for.
const SURPRISE: i64 = 128;

/// Longest periods until the next trial where a dictionary could not be taken.
const DEFERRED: i64 = 32;

/// A token that has been packed.
pub struct Observed<'v> {
    /// Its key.
    pub key: &'v [u8],
    /// What was packed: its JSON, perhaps behind a signature.
    pub content: &'v [u8],
    /// Where the JSON begins.
    pub json_at: usize,
    /// Bytes that it was packed into.
    pub packed_bytes: usize,
    /// Whether that is what is usual.
    pub usual: bool,
}

/// The trial under way, or the wait for the next.
pub struct Trial {
    /// Tokens until the next one. Outside the lock, since it is all that most tokens touch.
    countdown: AtomicI64,
    on: AtomicBool,
    state: Mutex<State>,
}

struct State {
    period: i64,
    candidate: Option<Candidate>,
    room: Vec<u8>,
}

struct Candidate {
    key: Box<[u8]>,
    dictionary: Vec<u8>,
    packer: Packer,
    values: u32,
    halved: u32,
    bytes_now: usize,
    bytes_with_it: usize,
}

impl Default for Trial {
    fn default() -> Trial {
        Trial {
            countdown: AtomicI64::new(0),
            on: AtomicBool::new(false),
            state: Mutex::new(State {
                period: PERIOD_MIN,
                candidate: None,
                room: Vec::new(),
            }),
        }
    }
}

impl Trial {
    /// Whether there is a candidate.
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Notes a token; gives a dictionary that has shown to pay. One atomic addition for most tokens, for
    /// those of a trial some 6 microseconds more, for one that begins a trial some 150.
    pub fn observe(&self, token: &Observed<'_>) -> Option<Vec<u8>> {
        let counts = if token.usual { 1 } else { SURPRISE };
        if self.countdown.fetch_sub(counts, Relaxed) > counts {
            return None;
        }
        let mut state = self.state.try_lock()?;
        let State {
            period,
            candidate,
            room,
        } = &mut *state;
        let Some(tried) = candidate else {
            *candidate = Candidate::new(token);
            self.on.store(candidate.is_some(), Relaxed);
            if candidate.is_none() {
                self.countdown.store(*period, Relaxed);
            }
            return None;
        };
        let verdict = tried.compare(token, room)?;
        let tried = candidate.take()?;
        self.on.store(false, Relaxed);
        match verdict {
            Verdict::OtherCatalogue => *period = PERIOD_MIN,
            Verdict::Better | Verdict::NoBetter => *period = (*period * 2).min(PERIOD_MAX),
        }
        self.countdown.store(*period, Relaxed);
        (verdict != Verdict::NoBetter).then_some(tried.dictionary)
    }
}

impl Trial {
    /// A dictionary that paid could not be taken: the next trial is far off.
    pub fn defer(&self) {
        self.state.lock().period = PERIOD_MAX;
        self.countdown.store(PERIOD_MAX * DEFERRED, Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    OtherCatalogue,
    Better,
    NoBetter,
}

impl Candidate {
    fn new(token: &Observed<'_>) -> Option<Candidate> {
        let dictionary = value::blanked(&token.content[token.json_at..])?;
        Some(Candidate {
            key: token.key.into(),
            packer: Packer::new(&dictionary)?,
            dictionary,
            values: 0,
            halved: 0,
            bytes_now: 0,
            bytes_with_it: 0,
        })
    }

    /// Packs a token with it too. `None` while the trial goes on.
    fn compare(&mut self, token: &Observed<'_>, room: &mut Vec<u8>) -> Option<Verdict> {
        if token.key == &*self.key {
            return None;
        }
        room.clear();
        let packed_bytes = codec::pack(token.content, Some(&self.packer), room)?;
        self.values += 1;
        self.halved += u32::from(packed_bytes * 2 <= token.packed_bytes);
        self.bytes_now += token.packed_bytes;
        self.bytes_with_it += packed_bytes;
        if self.halved >= HALVED_VALUES {
            return Some(Verdict::OtherCatalogue);
        }
        let better = self.bytes_with_it * 20 <= self.bytes_now * 19;
        let verdict = if better {
            Verdict::Better
        } else {
            Verdict::NoBetter
        };
        (self.values >= TRIAL_VALUES).then_some(verdict)
    }
}
