//! The meta commands: `mg`, `ms`, `md`, `ma`, `me` and `mn`.
//!
//! `classic` finds the line and hands it on by its name; [`decode`] makes a command of it, [`encode()`]
//! writes the answer. A line is a key (behind it, for `ms`, the length of its data block) and flags of
//! one letter, some with a token: `flags` reads them for all commands alike, as memcached does, so that
//! a flag which means nothing to a command is passed over by it. `key` undoes base64.
//!
//! Invariants:
//! - a line is understood whole before anything of it is done;
//! - flags are answered in the order they were asked in, so the answer is made from the line itself;
//! - an error is always answered, whatever the line says of quiet;
//! - an error behind a readable length skips the data block, one with an unreadable length does not.
//!
//! Sources: protocol.txt, "Meta Commands", and memcached 1.6.45 where protocol.txt is silent.

mod encode;
mod flags;
mod key;

use super::classic::{VALUE_BYTES_MAX, with_block};
use super::command::{
    Asked, Command, Data, Decoded, Direction, Envelope, Exptime, Form, Key, Mode, Store, Terms,
};
use super::error::Error;
use super::line::Line;
use super::number;
use flags::Flags;

pub use encode::encode;
pub use key::KeyRoom;

/// Decodes a line whose name is that of a meta command; `None` if it is not.
pub fn decode<'b>(line: Line<'b>, room: &'b KeyRoom) -> Option<Decoded<'b>> {
    Some(match line.name() {
        b"mg" => get(line, room),
        b"ms" => store(line, room),
        b"md" => delete(line, room),
        b"ma" => arithmetic(line, room),
        b"me" => inspect(line, room),
        b"mn" => line.request_in(Command::Nothing, asked_nothing(Key(&[]), false)),
        _ => return None,
    })
}

/// `mg <key> <flags>*` (protocol.txt, "Meta Get")
fn get<'b>(line: Line<'b>, room: &'b KeyRoom) -> Decoded<'b> {
    let flags = match key_and_flags(line).map(|(key, flags)| Flags::read(key, flags, 2, room)) {
        None => return line.error(Error::BadFormat),
        Some(Err(error)) => return line.error(error),
        Some(Ok(flags)) => flags,
    };
    if flags.opaque_is_too_long {
        return line.error(Error::OpaqueTooLong);
    }
    let envelope = Envelope {
        form: Form::Meta(Asked {
            known_unique: flags.terms.unique,
            ..flags.asked
        }),
        ..Envelope::default()
    };
    let command = Command::Get {
        key: flags.asked.key,
        touch: flags.terms.touch,
        terms: Some(flags.terms),
    };
    line.request_in(command, envelope)
}

/// `ms <key> <bytes> <flags>*`, then the data block (protocol.txt, "Meta Set").
fn store<'b>(line: Line<'b>, room: &'b KeyRoom) -> Decoded<'b> {
    let mut words = line.words();
    let (Some(key), Some(length)) = (words.next(), words.next()) else {
        return line.error(Error::BadFormat);
    };
    let given = behind(line, length);
    let value_bytes = match number::signed_32(length) {
        Some(length @ 0..=VALUE_BYTES_MAX) if flags::are_letters(given, 3) => length as u32,
        _ => return line.error(Error::BadFormat),
    };
    let refuse = |error| line.error_skipping(error, u64::from(value_bytes) + 2);
    let flags = match Flags::read(key, given, 3, room) {
        Ok(flags) => flags,
        Err(error) => return refuse(error),
    };
    let Some(mode) = mode_of(&flags) else {
        return refuse(Error::BadStoreMode);
    };
    if flags.opaque_is_too_long {
        return refuse(Error::OpaqueTooLong);
    }
    let store = Store {
        mode,
        key: flags.asked.key,
        client_flags: flags.terms.client_flags,
        exptime: flags.terms.touch.unwrap_or(Exptime::Never),
        value: Data(&[]),
        terms: Some(flags.terms),
    };
    let envelope = Envelope {
        form: Form::Meta(Asked {
            given_bytes: Some(value_bytes),
            ..flags.asked
        }),
        ..Envelope::default()
    };
    with_block(line, store, envelope, value_bytes)
}

/// The storage mode; a CAS unique makes one of `set` and `replace`, and means nothing to `add`.
fn mode_of(flags: &Flags<'_>) -> Option<Mode> {
    let mode = match flags.mode {
        None | Some(b'S') => Mode::Set,
        Some(b'E') => Mode::Add,
        Some(b'A') => Mode::Append,
        Some(b'P') => Mode::Prepend,
        Some(b'R') => Mode::Replace,
        Some(_) => return None,
    };
    Some(match (mode, flags.terms.unique) {
        (Mode::Set | Mode::Replace, Some(unique)) => Mode::Cas(unique),
        (mode, _) => mode,
    })
}

/// `md <key> <flags>*` (protocol.txt, "Meta Delete")
fn delete<'b>(line: Line<'b>, room: &'b KeyRoom) -> Decoded<'b> {
    let flags = match key_and_flags(line).map(|(key, flags)| Flags::read(key, flags, 2, room)) {
        None => return line.error(Error::BadFormat),
        Some(Err(error)) => return line.error(error),
        Some(Ok(flags)) => flags,
    };
    if flags.opaque_is_too_long {
        return line.error(Error::OpaqueTooLong);
    }
    let command = Command::Delete {
        key: flags.asked.key,
        terms: Some(flags.terms),
    };
    line.request_in(command, flags.envelope())
}

/// `ma <key> <flags>*` (protocol.txt, "Meta Arithmetic")
fn arithmetic<'b>(line: Line<'b>, room: &'b KeyRoom) -> Decoded<'b> {
    let flags = match key_and_flags(line).map(|(key, flags)| Flags::read(key, flags, 2, room)) {
        None => return line.error(Error::BadFormat),
        Some(Err(_)) => return line.error(Error::BadArithmeticFlag),
        Some(Ok(flags)) => flags,
    };
    let direction = match flags.mode {
        None | Some(b'I' | b'+') => Direction::Up,
        Some(b'D' | b'-') => Direction::Down,
        Some(_) => return line.error(Error::BadArithmeticMode),
    };
    if flags.opaque_is_too_long {
        return line.error(Error::OpaqueTooLong);
    }
    let command = Command::Arithmetic {
        key: flags.asked.key,
        direction,
        delta: flags.delta,
        terms: Some(Terms {
            // memcached compares with no unique where it is 0.
            unique: flags.terms.unique.filter(|&unique| unique != 0),
            ..flags.terms
        }),
    };
    line.request_in(command, flags.envelope())
}

/// `me <key> [b]` (protocol.txt, "Meta Debug"). Differs from memcached 1.6.45, which asks for one more
/// word before it takes the `b`.
fn inspect<'b>(line: Line<'b>, room: &'b KeyRoom) -> Decoded<'b> {
    let Some((key, flags)) = key_and_flags(line) else {
        return line.error(Error::BadFormat);
    };
    let key_is_binary = flags::words(flags).next() == Some(b"b");
    let key = match room.read(key, key_is_binary) {
        Ok(key) => key,
        Err(_) => return line.error(Error::BadFormat),
    };
    let command = Command::Inspect { key, key_is_binary };
    line.request_in(command, asked_nothing(key, key_is_binary))
}

fn asked_nothing(key: Key<'_>, key_is_binary: bool) -> Envelope<'_> {
    Envelope {
        form: Form::Meta(Asked::of(key, key_is_binary, &[])),
        ..Envelope::default()
    }
}

/// The key's word and all behind it; `None` for a line that memcached's tokenizer refuses.
fn key_and_flags(line: Line<'_>) -> Option<(&[u8], &[u8])> {
    let key = line.words().next()?;
    let flags = behind(line, key);
    flags::are_letters(flags, 2).then_some((key, flags))
}

fn behind<'b>(line: Line<'b>, word: &'b [u8]) -> &'b [u8] {
    &line.text[line.position_of(word) + word.len()..]
}
