//! The flags of a meta command: one letter each, some with a token behind it.
//!
//! All commands take all flags that any of them has; what does not concern a command it passes over.
//! Flags are read from left to right. One that is there twice or unknown ends the reading, so it is
//! what the client is told; of tokens that cannot be read the last is.

use super::key::KeyRoom;
use crate::protocol::command::{Asked, Envelope, Exptime, Form, Key, Terms};
use crate::protocol::error::Error;
use crate::protocol::line::words_of;
use crate::protocol::number;

/// Most words on a line, its name and key among them.
const WORDS_MAX: usize = 20;

/// So many words memcached looks at; those behind them make no difference.
const WORDS_SEEN: usize = 23;

/// Longest opaque, its `O` counted.
const OPAQUE_BYTES_MAX: usize = 32;

/// The flags of one line.
pub struct Flags<'b> {
    /// What the command is to do.
    pub terms: Terms,
    /// How it is to be answered.
    pub asked: Asked<'b>,
    /// The first letter of the token of `M`; 0 without one.
    pub mode: Option<u8>,
    /// The token of `D`, or 1.
    pub delta: u64,
    /// The opaque is too long for an answer, which memcached finds out late: other errors come first.
    pub opaque_is_too_long: bool,
}

impl<'b> Flags<'b> {
    /// Reads the flags of a line, and its key as they say. `words_before` counts the words in front of
    /// the flags.
    pub fn read(
        key: &'b [u8],
        flags: &'b [u8],
        words_before: usize,
        room: &'b KeyRoom,
    ) -> Result<Flags<'b>, Error> {
        let key = room.read(key, false)?;
        if words_before + words(flags).count() > WORDS_MAX {
            return Err(Error::TooManyFlags);
        }
        let mut read = Flags {
            terms: Terms {
                by_meta: true,
                drops_old: true,
                ..Terms::default()
            },
            asked: Asked::of(key, false, flags),
            mode: None,
            delta: 1,
            opaque_is_too_long: false,
        };
        let mut seen = 0u128;
        let mut unread = None;
        for word in words(flags) {
            let Some((&letter, token)) = word.split_first() else {
                continue;
            };
            let bit = 1 << (letter & 0x7f);
            if seen & bit != 0 {
                return Err(Error::DuplicateFlag);
            }
            seen |= bit;
            match read.take(letter, token, room) {
                Ok(()) => {}
                Err(Error::InvalidFlag) => return Err(Error::InvalidFlag),
                // What was wrong before is told rather than a bad `F`.
                Err(Error::BadFormat) => unread = unread.or(Some(Error::BadFormat)),
                Err(error) => unread = Some(error),
            }
        }
        match unread {
            None => Ok(read),
            Some(error) => Err(error),
        }
    }

    fn take(&mut self, letter: u8, token: &'b [u8], room: &'b KeyRoom) -> Result<(), Error> {
        let terms = &mut self.terms;
        match letter {
            b'b' => {
                self.asked.key = room.read(self.asked.key.0, true)?;
                self.asked.key_is_binary = true;
                terms.key_is_binary = true;
            }
            b'q' => self.asked.quiet = true,
            b'v' => self.asked.value = true,
            b'u' => terms.unnoticed = true,
            b'x' => terms.drop_value = true,
            b'I' => terms.invalidate = true,
            b'T' => {
                terms.touch = Some(exptime(token)?);
                terms.touch_after_vivify = terms.vivify.is_some();
                terms.touch_before_recache = terms.recache.is_none();
            }
            b'N' => terms.vivify = Some(exptime(token)?),
            b'R' => terms.recache = Some(exptime(token)?),
            b'C' => terms.unique = Some(number::unsigned(token).ok_or(Error::BadFlagToken)?),
            b'E' => terms.new_unique = Some(number::unsigned(token).ok_or(Error::BadFlagToken)?),
            b'F' => terms.client_flags = number::unsigned_32(token).ok_or(Error::BadFormat)?,
            b'J' => terms.initial = number::unsigned(token).ok_or(Error::BadInitial)?,
            b'D' => self.delta = number::unsigned(token).ok_or(Error::BadDeltaFlag)?,
            b'M' => self.mode = Some(token.first().copied().unwrap_or(0)),
            b'O' => self.opaque_is_too_long = 1 + token.len() > OPAQUE_BYTES_MAX,
            b'P' | b'L' | b'k' | b's' | b't' | b'c' | b'f' | b'l' | b'h' => {}
            _ => return Err(Error::InvalidFlag),
        }
        Ok(())
    }

    /// The envelope of a command that is answered by its flags alone.
    pub fn envelope(&self) -> Envelope<'b> {
        Envelope {
            form: Form::Meta(self.asked),
            ..Envelope::default()
        }
    }
}

impl<'b> Asked<'b> {
    /// A line that asks for nothing but these flags.
    pub(super) fn of(key: Key<'b>, key_is_binary: bool, flags: &'b [u8]) -> Asked<'b> {
        Asked {
            flags,
            key,
            key_is_binary,
            quiet: false,
            value: false,
            known_unique: None,
            given_bytes: None,
        }
    }
}

fn exptime(token: &[u8]) -> Result<Exptime, Error> {
    let seconds = number::signed_32(token).ok_or(Error::BadFlagToken)?;
    Ok(Exptime::new(seconds))
}

/// The words of a line behind its key or length.
pub fn words(flags: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    words_of(flags)
}

/// Whether every flag begins like one. memcached's tokenizer refuses a line otherwise, before it looks
/// at anything else; the bytes it takes are `A` to `z`, and digits.
pub fn are_letters(flags: &[u8], words_before: usize) -> bool {
    words(flags)
        .take(WORDS_SEEN - words_before)
        .all(|word| matches!(word.first(), Some(b'A'..=b'z' | b'0'..=b'9')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &str) -> Result<Terms, Error> {
        let room = KeyRoom::default();
        Flags::read(b"Zm9v", flags.as_bytes(), 2, &room).map(|flags| flags.terms)
    }

    #[test]
    fn what_is_told_first() {
        for (flags, error) in [
            ("v v", Error::DuplicateFlag),
            ("Tx S S", Error::InvalidFlag),
            ("Tx k k S", Error::DuplicateFlag),
            ("Tx Jx", Error::BadInitial),
            ("Tx Fx", Error::BadFlagToken),
            ("Fx Dx", Error::BadDeltaFlag),
            ("Fx", Error::BadFormat),
            ("F4294967296", Error::BadFormat),
            ("C-1", Error::BadFlagToken),
            ("T2147483648", Error::BadFlagToken),
            ("T", Error::BadFlagToken),
            ("a b c d e f g h i j k l m n o p q r s", Error::TooManyFlags),
        ] {
            assert_eq!(read(flags), Err(error), "{flags}");
        }
        assert!(read("O P L k s t c f v h u q x l").is_ok());
    }

    #[test]
    fn the_order_of_flags_that_set_a_time_is_kept() {
        let order = |flags| {
            let terms = read(flags).unwrap();
            (terms.touch_after_vivify, terms.touch_before_recache)
        };
        assert_eq!(order("N1 T2 R3"), (true, true));
        assert_eq!(order("R3 T2 N1"), (false, false));
        assert_eq!(order("N1 R3"), (false, false));
    }
}
