//! Whether another dictionary would pay: values that come in are packed with one on trial too.
//!
//! Called for each token that was packed. Now and then one becomes the *candidate*: the tokens of its
//! catalogue after it are packed with it as dictionary as well, and the sums are compared. So a new dictionary needs no
//! rule of what a catalogue is or when it has changed; it is taken when it has shown what it saves.
//!
//! It is taken at once when two tokens of a catalogue that no dictionary knows come out at half the size
//! or less. Else after [`TRIAL_VALUES`] tokens, if it would have saved a twelfth of
//! all of them. Each trial that gains nothing doubles the number of tokens until the next one, up to
//! [`PERIOD_MAX`]; a token that came out unusually large counts [`SURPRISE`] times, and is tried at once.
//!
//! A candidate has the *heads* of [`HEADS`] tokens in front, what they have before their catalogue: those
//! before it, or, if it is in haste, those that were gathered last. A token tells of its own user, project and roles only, and what
//! the dictionary does not know of another's costs up to 100 bytes: with 16 heads the recorded tokens
//! come out at 392 bytes on the average, without any at 483, and at much the same size whichever token
//! the dictionary happens to be made of.
//!
//! Invariants:
//! - a value of the candidate's own key proves nothing: a herd sets one token many times;
//! - neither candidate nor heads hold a bearer token;
//! - nobody waits: a thread that finds another one busy with the trial leaves it alone.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64};

use parking_lot::Mutex;

use super::codec::{self, Packer};
use super::shelf::Catalogue;
use crate::store::{DICTIONARIES_MAX, DICTIONARY_BYTES_MAX, DictionaryNumber};
use crate::token::value;

/// Tokens that a candidate is tried on.
const TRIAL_VALUES: u32 = 32;

/// Tokens whose heads stand in front of a candidate.
const HEADS: usize = 16;

/// Tokens after which a trial ends, however few were of the candidate's catalogue.
const TRIAL_TOKENS_MAX: u32 = 1024;

/// Tokens of other catalogues that no dictionary knows, after which one of them is tried instead.
const URGENT_TOKENS: u32 = 16;

/// Tokens of an unknown catalogue that come out at half the size before a candidate is taken without further trial.
const HALVED_VALUES: u32 = 2;

/// Tokens from one trial to the next, at the least and at the most.
const PERIOD_MIN: i64 = 16;
const PERIOD_MAX: i64 = 4096;

/// What an unusually large token counts for.
const SURPRISE: i64 = 128;

/// Tokens until the next trial where a dictionary could not be taken.
const PERIOD_DEFERRED: i64 = 1024;

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
    /// The dictionary that it was packed with.
    pub dictionary: Option<DictionaryNumber>,
    /// Whether that is what is usual.
    pub usual: bool,
    /// Whether there is a dictionary of its catalogue.
    pub is_known: bool,
}

impl Observed<'_> {
    /// Whether it wants for a dictionary of its catalogue.
    fn is_urgent(&self) -> bool {
        !self.usual && !self.is_known
    }
}

/// A dictionary that has shown to pay.
pub struct Offer {
    /// The dictionary.
    pub dictionary: Vec<u8>,
    /// The one whose place it takes, if it is of the same catalogue.
    pub supersedes: Option<DictionaryNumber>,
}

/// The trial under way, or the wait for the next.
pub struct Trial {
    /// Tokens until the next one. Outside the lock, since it is all that most tokens touch.
    countdown: AtomicI64,
    on: AtomicBool,
    /// A dictionary that paid could not be taken: until the next trial all tokens count alike.
    deferred: AtomicBool,
    state: Mutex<State>,
}

struct State {
    period: i64,
    phase: Phase,
    /// Those of the last candidate that was not in haste.
    heads: Vec<u8>,
    room: Vec<u8>,
}

enum Phase {
    Waiting,
    /// The heads so far, and how many tokens they are of.
    Gathering(Vec<u8>, usize),
    Trying(Candidate),
}

struct Candidate {
    key: Box<[u8]>,
    catalogue: Option<Catalogue>,
    dictionary: Vec<u8>,
    packer: Packer,
    /// Tokens that have come since, those of other catalogues that no dictionary knows, those that it was
    /// tried on, and those of these that it halved.
    seen: u32,
    urgent: u32,
    values: u32,
    halved: u32,
    bytes_now: usize,
    bytes_with_it: usize,
    /// How many of the tokens each dictionary has packed, by slot, and its number.
    packed_with: [(u32, Option<DictionaryNumber>); DICTIONARIES_MAX],
}

impl Default for Trial {
    fn default() -> Trial {
        Trial {
            countdown: AtomicI64::new(0),
            on: AtomicBool::new(false),
            deferred: AtomicBool::new(false),
            state: Mutex::new(State {
                period: PERIOD_MIN,
                phase: Phase::Waiting,
                heads: Vec::new(),
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
    /// those of a trial some 6 microseconds more, for those that a candidate is made of some 20, and
    /// once a trial some 50 more.
    pub fn observe(&self, token: &Observed<'_>) -> Option<Offer> {
        let counts = if token.usual || self.deferred.load(Relaxed) {
            1
        } else {
            SURPRISE
        };
        if self.countdown.fetch_sub(counts, Relaxed) > counts {
            return None;
        }
        let mut state = self.state.try_lock()?;
        let State {
            period,
            phase,
            heads: last_heads,
            room,
        } = &mut *state;
        if let Phase::Trying(candidate) = phase
            && candidate.is_outdone_by(token)
        {
            *phase = Phase::Waiting;
        }
        let verdict = match phase {
            Phase::Waiting if token.usual => {
                *phase = Phase::Gathering(Vec::new(), 0);
                return None;
            }
            Phase::Gathering(heads, count) if *count < HEADS && !token.is_urgent() => {
                add_head(token, heads);
                *count += 1;
                return None;
            }
            Phase::Trying(candidate) => candidate.compare(token, room)?,
            Phase::Waiting | Phase::Gathering(..) => {
                if let Phase::Gathering(heads, HEADS) = phase {
                    *last_heads = std::mem::take(heads);
                }
                match Candidate::new(token, last_heads.clone()) {
                    Some(candidate) => *phase = Phase::Trying(candidate),
                    None => {
                        *phase = Phase::Waiting;
                        self.countdown.store(*period, Relaxed);
                    }
                }
                self.on.store(matches!(phase, Phase::Trying(_)), Relaxed);
                self.deferred.store(false, Relaxed);
                return None;
            }
        };
        self.on.store(false, Relaxed);
        *period = match verdict {
            Verdict::OtherCatalogue => PERIOD_MIN,
            Verdict::Better | Verdict::NoBetter => (*period * 2).min(PERIOD_MAX),
        };
        self.countdown.store(*period, Relaxed);
        match std::mem::replace(phase, Phase::Waiting) {
            Phase::Trying(tried) if verdict != Verdict::NoBetter => Some(Offer {
                supersedes: tried.superseded().filter(|_| verdict == Verdict::Better),
                dictionary: tried.dictionary,
            }),
            _ => None,
        }
    }

    /// A dictionary that paid could not be taken: the next trial is far off.
    pub fn defer(&self) {
        if let Some(mut state) = self.state.try_lock() {
            state.period = PERIOD_MAX;
        }
        self.deferred.store(true, Relaxed);
        self.countdown.store(PERIOD_DEFERRED, Relaxed);
    }
}

/// Adds what a token has before its catalogue; nothing of one whose bearer token cannot be told.
fn add_head(token: &Observed<'_>, heads: &mut Vec<u8>) {
    if let Some(json) = value::blanked(&token.content[token.json_at..]) {
        let end = value::head_bytes(&json);
        heads.extend_from_slice(&json[..end]);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    OtherCatalogue,
    Better,
    NoBetter,
}

impl Candidate {
    fn new(token: &Observed<'_>, heads: Vec<u8>) -> Option<Candidate> {
        let json = value::blanked(&token.content[token.json_at..])?;
        let mut dictionary = heads;
        // Behind the heads, where zstd reaches the catalogue by the shortest way.
        dictionary.extend_from_slice(&json);
        let excess = dictionary.len().saturating_sub(DICTIONARY_BYTES_MAX);
        dictionary.drain(..excess);
        Some(Candidate {
            key: token.key.into(),
            catalogue: Catalogue::of(&json),
            packer: Packer::new(&dictionary)?,
            dictionary,
            seen: 0,
            urgent: 0,
            values: 0,
            halved: 0,
            bytes_now: 0,
            bytes_with_it: 0,
            packed_with: Default::default(),
        })
    }

    /// Whether a token is one too many of other catalogues that wait for a dictionary.
    fn is_outdone_by(&mut self, token: &Observed<'_>) -> bool {
        if token.is_urgent() && Catalogue::of(token.content) != self.catalogue {
            self.urgent += 1;
        }
        self.urgent >= URGENT_TOKENS
    }

    /// The dictionary of the same catalogue that packed most of the tokens of the trial.
    fn superseded(&self) -> Option<DictionaryNumber> {
        let most = self.packed_with.iter().max_by_key(|(count, _)| *count);
        most.and_then(|&(_, number)| number)
    }

    /// Packs a token with it too. `None` while the trial goes on.
    fn compare(&mut self, token: &Observed<'_>, room: &mut Vec<u8>) -> Option<Verdict> {
        self.seen += 1;
        if Catalogue::of(token.content) != self.catalogue || token.key == &*self.key {
            return (self.seen >= TRIAL_TOKENS_MAX).then_some(Verdict::NoBetter);
        }
        room.clear();
        let packed_bytes = codec::pack(token.content, Some(&self.packer), room)?;
        self.values += 1;
        let halved = !token.is_known && packed_bytes * 2 <= token.packed_bytes;
        self.halved += u32::from(halved);
        if let Some(number) = token.dictionary.filter(|_| token.is_known) {
            let packed_with = &mut self.packed_with[number.slot()];
            *packed_with = (packed_with.0 + 1, Some(number));
        }
        self.bytes_now += token.packed_bytes;
        self.bytes_with_it += packed_bytes;
        if self.halved >= HALVED_VALUES {
            return Some(Verdict::OtherCatalogue);
        }
        let better = self.bytes_with_it * 12 <= self.bytes_now * 11;
        let verdict = if better {
            Verdict::Better
        } else {
            Verdict::NoBetter
        };
        (self.values >= TRIAL_VALUES).then_some(verdict)
    }
}
