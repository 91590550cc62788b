//! Commands in the binary protocol (`doc/protocol-binary.xml`).

use crate::command::{Answer, Ask, Command, Count, Mode, Outcome, Store, Verb};
use crate::frames::{Frame, Header};

pub fn say(command: &Command, ask: Ask<'_>) -> Answer {
    let (opcode, extras, value) = request(command);
    let key = match command.verb {
        Verb::Flush(_) => "",
        _ => command.key(),
    };
    let header = Header {
        unique: command.unique.unwrap_or(0),
        ..Header::asking(opcode, &extras, key.as_bytes(), value)
    };
    let reply = ask(&[&header.bytes()[..], &extras, key.as_bytes(), value].concat());
    let mut rest = &reply[..];
    let answer = Frame::take(&mut rest);
    assert!(rest.is_empty(), "{}", reply.escape_ascii());
    match answer {
        Some(answer) => read(&command.verb, &answer),
        None => Outcome::Untold.without_unique(),
    }
}

/// The opcode, the extras and the value.
fn request(command: &Command) -> (u8, Vec<u8>, &[u8]) {
    let either = |loud, quiet| if command.quiet { quiet } else { loud };
    let (opcode, extras, value) = match &command.verb {
        Verb::Get => (0x00, Vec::new(), &b""[..]),
        Verb::Gat(exptime) => (0x1d, exptime.to_be_bytes().into(), &b""[..]),
        Verb::Touch(exptime) => (0x1c, exptime.to_be_bytes().into(), &b""[..]),
        Verb::Store(store) => {
            let opcode = match store.mode {
                Mode::Set => either(0x01, 0x11),
                Mode::Add => either(0x02, 0x12),
                Mode::Replace => either(0x03, 0x13),
                Mode::Append => either(0x0e, 0x19),
                Mode::Prepend => either(0x0f, 0x1a),
            };
            (opcode, store_extras(store), &store.value[..])
        }
        Verb::Delete => (either(0x04, 0x14), Vec::new(), &b""[..]),
        Verb::Count(count) => {
            let opcode = match count.up {
                true => either(0x05, 0x15),
                false => either(0x06, 0x16),
            };
            (opcode, count_extras(count), &b""[..])
        }
        Verb::Flush(at) => {
            let extras = at.map(|at| at.to_be_bytes().into());
            (either(0x08, 0x18), extras.unwrap_or_default(), &b""[..])
        }
    };
    (opcode, extras, value)
}

fn store_extras(store: &Store) -> Vec<u8> {
    match store.mode {
        Mode::Append | Mode::Prepend => Vec::new(),
        _ => [store.flags.to_be_bytes(), store.exptime.to_be_bytes()].concat(),
    }
}

fn count_extras(count: &Count) -> Vec<u8> {
    let (initial, exptime) = count.made.unwrap_or((0, u32::MAX));
    let numbers = [count.delta.to_be_bytes(), initial.to_be_bytes()].concat();
    [&numbers[..], &exptime.to_be_bytes()].concat()
}

fn read(verb: &Verb, answer: &Frame<'_>) -> Answer {
    let unique = Some(answer.header.unique).filter(|&unique| unique != 0);
    let outcome = match answer.header.status {
        0 => success(verb, answer),
        1 => match verb {
            Verb::Store(store) if store.mode == Mode::Replace => Outcome::NotStored,
            _ => Outcome::Missing,
        },
        2 => match verb {
            Verb::Store(store) if store.mode == Mode::Add => Outcome::NotStored,
            _ => Outcome::Exists,
        },
        5 => Outcome::NotStored,
        6 => Outcome::NotNumeric,
        status => panic!("status {status:#x}"),
    };
    outcome.with_unique(unique)
}

fn success(verb: &Verb, answer: &Frame<'_>) -> Outcome {
    match verb {
        Verb::Get | Verb::Gat(_) => Outcome::Hit {
            flags: u32::from_be_bytes(*answer.extras.first_chunk().expect("a hit has flags")),
            value: answer.value.into(),
        },
        Verb::Touch(_) => Outcome::Touched,
        Verb::Store(_) => Outcome::Stored,
        Verb::Delete => Outcome::Deleted,
        Verb::Count(_) => {
            let number = answer.value.first_chunk();
            Outcome::Number(u64::from_be_bytes(
                *number.expect("a number has eight bytes"),
            ))
        }
        Verb::Flush(_) => Outcome::Flushed,
    }
}
