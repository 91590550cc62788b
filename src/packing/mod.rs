//! Floor 2: the same value in fewer bytes.
//!
//! Called by the engine with a value that is to be stored, under no lock, and with a packed one that
//! was found. A project-scoped token has 13 KB, of which 12 KB are the catalogue that all tokens of a
//! cloud share; packed with earlier tokens as dictionary it has some 410 bytes. What packs well is packed
//! always: unpacking a token takes hardly longer than copying it from memory that no cache holds.
//!
//! # How a value is packed
//!
//! 1. Base64 is undone where it can be done again exactly (`base64`): MAC and ENCRYPT values.
//! 2. What then holds the JSON of a token is packed by zstd with a dictionary made from earlier ones
//!    (`shelf`, `codec`); anything else by zstd alone, unless values of its class did not shrink (`class`).
//! 3. If an eighth is saved by both, that is stored: length and checksum of the value (`head`), then the
//!    frame, or the bytes that the base64 stood for. Else the value is stored as it came.
//!
//! Dictionaries are made of tokens alone, with the bearer token blanked ([`crate::token::value::blanked`]):
//! they outlive the values they come from. When one is worth making, `trial` finds out; the engine gives
//! it to the store and then to [`Packing::add`].
//!
//! Invariants:
//! - what comes out of [`Packing::unpack`] is what went in, by its checksum, or nothing;
//! - nothing is unpacked beyond [`VALUE_BYTES_MAX`], whatever a damaged head says;
//! - contents are never logged or shown.

pub(crate) mod base64;
mod class;
mod codec;
mod head;
mod shelf;
mod trial;

use std::cell::RefCell;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;

use crate::store::{DICTIONARIES_MAX, DictionaryNumber, Packing as Packed};
use crate::token::value;
use class::{Class, Classes};
use head::{HEAD_BYTES, Head};
use shelf::{Catalogue, Dictionary, Shelf};
use trial::{Observed, Trial};

pub use shelf::{Digest, Spare};
pub use trial::Offer;

/// Values shorter than this are never packed.
pub const VALUE_BYTES_MIN: usize = 256;

/// Values longer than this are never packed; as long as the longest dictionary.
pub const VALUE_BYTES_MAX: usize = crate::store::DICTIONARY_BYTES_MAX;

/// A dictionary that has packed and unpacked nothing for so many seconds makes room for another one, if
/// there are as many as there may be.
const UNUSED_SECONDS: u32 = 60;

/// One token of so many is packed with every dictionary.
const THOROUGH_EVERY: u32 = 16;

/// What the store calls the form of a packed value: two bits.
const BASE64: u8 = 0b01;
const ZSTD: u8 = 0b10;

/// Working memory of one thread, kept between values.
#[derive(Default)]
pub struct Room {
    content: Vec<u8>,
    packed: Vec<u8>,
    other: Vec<u8>,
}

/// A value that may be packed.
#[derive(Clone, Copy)]
pub struct Value<'v> {
    /// Its key.
    pub key: &'v [u8],
    /// The value as it came.
    pub bytes: &'v [u8],
    /// Its client flags.
    pub client_flags: u32,
}

/// What became of a value.
#[derive(Default)]
pub struct Outcome<'r> {
    /// How it is packed, and the bytes; `None` if it is to be stored as it came.
    pub packed: Option<(Packed, &'r [u8])>,
    /// A dictionary that would pay, for the store.
    pub offer: Option<Offer>,
}

/// A packed value that could not be unpacked into what it was: it is damaged, or its dictionary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// What packs and unpacks: the dictionaries, and what is known of values. Shared by all threads; none
/// waits for another.
#[derive(Default)]
pub struct Packing {
    shelf: Shelf,
    classes: Classes,
    trial: Trial,
    /// Tokens packed so far.
    tokens: AtomicU32,
}

impl std::fmt::Debug for Packing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Packing").finish_non_exhaustive()
    }
}

/// A frame behind the head in [`Room::packed`].
struct Frame {
    bytes: usize,
    dictionary: Option<DictionaryNumber>,
    /// Whether it is as long as those of other tokens.
    usual: bool,
    /// Whether there is a dictionary of its catalogue.
    is_known: bool,
}

thread_local! {
    /// What base64 has to be made of.
    static CONTENT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Packing {
    /// Packs a value, if that saves an eighth of it. Some 6 microseconds for a token of 13 KB.
    pub fn pack<'r>(&self, value: &Value<'_>, now_seconds: u32, room: &'r mut Room) -> Outcome<'r> {
        if !(VALUE_BYTES_MIN..=VALUE_BYTES_MAX).contains(&value.bytes.len()) {
            return Outcome::default();
        }
        let Room {
            content,
            packed,
            other,
        } = room;
        let was_base64 = base64::undo(value.bytes, content);
        let content = if was_base64 { content } else { value.bytes };
        let json_at = value::token_json_at(content);
        let class = Class::of(content, was_base64, value.client_flags);
        // Tokens are what all of this is for: whatever else looks like one costs a try.
        let (frame, offer) = if json_at.is_some() || self.classes.worth_trying(class) {
            let frame = match json_at {
                Some(_) => self.pack_token(content, now_seconds, packed, other),
                None => pack_alone(content, packed),
            };
            let offer = json_at.and_then(|at| self.observe(value, content, at, &frame));
            let frame = frame.filter(|frame| saves(HEAD_BYTES + frame.bytes, content.len()));
            if json_at.is_none() {
                self.classes.note(class, frame.is_some());
            }
            (frame, offer)
        } else {
            (None, None)
        };
        let how = match frame {
            Some(frame) => Packed::new(ZSTD | (u8::from(was_base64) * BASE64), frame.dictionary),
            None if was_base64 => {
                begin(packed);
                packed.extend_from_slice(content);
                Packed::new(BASE64, None)
            }
            None => Packed::NONE,
        };
        if how == Packed::NONE || !saves(packed.len(), value.bytes.len()) {
            return Outcome {
                packed: None,
                offer,
            };
        }
        Head::of(value.bytes).write(packed);
        Outcome {
            packed: Some((how, packed)),
            offer,
        }
    }

    /// Packs a token with a dictionary of its catalogue; with the last one used, or none, where there is
    /// none of it. Now and then, and while one is on trial, all that may do are tried: one that suits may
    /// not be the best.
    fn pack_token(
        &self,
        content: &[u8],
        now_seconds: u32,
        packed: &mut Vec<u8>,
        other: &mut Vec<u8>,
    ) -> Option<Frame> {
        let number = self.tokens.fetch_add(1, Relaxed);
        let thorough = self.trial.is_on() || number.is_multiple_of(THOROUGH_EVERY);
        let catalogue = Catalogue::of(content);
        self.shelf.with_open(catalogue, |dictionaries, is_known| {
            let mut tried: SmallVec<[(usize, &Dictionary); DICTIONARIES_MAX]> = SmallVec::new();
            let mut least = usize::MAX;
            for &dictionary in dictionaries {
                begin(other);
                let packer = Some(&dictionary.digest.packer);
                let Some(bytes) = codec::pack(content, packer, other) else {
                    continue;
                };
                // One that has packed the last value is changed for an eighth, so that few are needed.
                if tried.is_empty() || saves(bytes, least) {
                    least = bytes;
                    std::mem::swap(packed, other);
                }
                tried.push((bytes, dictionary));
                if !thorough && (dictionary.suits(bytes) || !is_known) {
                    break;
                }
            }
            let Some(&(bytes, best)) = tried.iter().find(|(bytes, _)| *bytes == least) else {
                return pack_alone(content, packed);
            };
            let usual = best.expects(bytes);
            best.note_won(content.len(), bytes, now_seconds);
            let others = tried
                .iter()
                .filter(|(_, other)| other.number != best.number);
            others.for_each(|(_, other)| other.note_lost(bytes));
            self.shelf.prefer(best.number);
            Some(Frame {
                bytes,
                dictionary: Some(best.number),
                usual,
                is_known,
            })
        })
    }

    fn observe(
        &self,
        value: &Value<'_>,
        content: &[u8],
        json_at: usize,
        frame: &Option<Frame>,
    ) -> Option<Offer> {
        let frame = frame.as_ref()?;
        self.trial.observe(&Observed {
            key: value.key,
            content,
            json_at,
            packed_bytes: frame.bytes,
            dictionary: frame.dictionary,
            usual: frame.usual,
            is_known: frame.is_known,
        })
    }

    /// Length of the value that a packed one stands for; `None` if it is damaged.
    pub fn value_bytes(stored: &[u8]) -> Option<usize> {
        Head::read(stored).map(|(head, _)| head.value_bytes())
    }

    /// Appends the value that a packed one stands for. Some 0.9 microseconds for a token of 13 KB; no
    /// lock, and no allocation where `value` has the room.
    ///
    /// # Errors
    /// If it, or its dictionary, is damaged; nothing is appended then.
    pub fn unpack(&self, how: Packed, stored: &[u8], value: &mut Vec<u8>) -> Result<(), Damaged> {
        let begin = value.len();
        let unpacked = Head::read(stored).is_some_and(|(head, body)| {
            let bytes = head.value_bytes();
            let done = match how.form() {
                BASE64 if base64::length(body.len()) == bytes => {
                    base64::redo(body, value);
                    true
                }
                form if form & ZSTD != 0 => self.unpack_frame(how, body, bytes, value),
                _ => false,
            };
            done && Head::of(&value[begin..]) == head
        });
        if unpacked {
            return Ok(());
        }
        value.truncate(begin);
        Err(Damaged)
    }

    fn unpack_frame(&self, how: Packed, frame: &[u8], bytes: usize, value: &mut Vec<u8>) -> bool {
        let mut read = |dictionary: Option<&Dictionary>| {
            let dictionary = dictionary.map(|dictionary| &dictionary.digest.unpacker);
            if how.form() & BASE64 == 0 {
                return codec::unpack(frame, dictionary, bytes, value);
            }
            let announced = codec::announced(frame).filter(|&bytes| bytes <= VALUE_BYTES_MAX);
            let Some(announced) = announced else {
                return false;
            };
            base64::length(announced) == bytes
                && CONTENT.with_borrow_mut(|content| {
                    content.clear();
                    let unpacked = codec::unpack(frame, dictionary, announced, content);
                    base64::redo(content, value);
                    unpacked
                })
        };
        match how.dictionary() {
            Some(number) => self.shelf.with(number, |dictionary| {
                dictionary.is_some_and(|dictionary| {
                    dictionary.note_read();
                    read(Some(dictionary))
                })
            }),
            None => read(None),
        }
    }

    /// Packs new values with a dictionary that the store has taken, and reads with it.
    pub fn add(&self, number: DictionaryNumber, digest: Digest, now_seconds: u32) {
        self.shelf.add(number, digest, now_seconds);
    }

    /// Packs nothing more with a dictionary whose place another one has taken.
    pub fn supersede(&self, number: DictionaryNumber) {
        self.shelf.supersede(number);
    }

    /// The store could not take a dictionary. Where items may leave, one that has been of no use for a
    /// minute has to go, and the items that need it, so that another one is taken later; one at a time.
    pub fn turn_down(&self, items_may_leave: bool, now_seconds: u32) {
        self.trial.defer();
        if !items_may_leave || self.shelf.any_leaves() {
            return;
        }
        if let Some(unused) = self.shelf.unused_for(UNUSED_SECONDS, now_seconds) {
            self.shelf.dismiss(unused);
        }
    }

    /// Dictionaries take more than they may, since the limit has been lowered: the one that has packed
    /// nothing for the longest time has to go, unless it packed the last value.
    pub fn shed(&self, now_seconds: u32) {
        if self.shelf.any_leaves() {
            return;
        }
        if let Some(unused) = self.shelf.least_used(now_seconds) {
            self.shelf.dismiss(unused);
        }
    }

    /// The dictionaries that may go once no item needs them, since they pack nothing for good or were of
    /// no use for a minute, and those that have to. For a background thread.
    pub fn spare_dictionaries(&self, now_seconds: u32) -> Vec<Spare> {
        self.shelf.note_reads(now_seconds);
        self.shelf.spare(UNUSED_SECONDS, now_seconds)
    }

    /// Forgets a dictionary that the store has freed.
    pub fn remove(&self, number: DictionaryNumber) {
        self.shelf.remove(number);
    }
}

/// Empties a buffer but for the room of the head.
fn begin(packed: &mut Vec<u8>) {
    packed.clear();
    packed.resize(HEAD_BYTES, 0);
}

fn pack_alone(content: &[u8], packed: &mut Vec<u8>) -> Option<Frame> {
    begin(packed);
    codec::pack(content, None, packed).map(|bytes| Frame {
        bytes,
        dictionary: None,
        usual: false,
        is_known: false,
    })
}

/// Whether it is worth the unpacking: an eighth less.
fn saves(packed_bytes: usize, bytes: usize) -> bool {
    packed_bytes * 8 <= bytes * 7
}
