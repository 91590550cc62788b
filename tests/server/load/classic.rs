//! The classic text commands.

use super::model::{Counted, Item, Mode, Outcome};
use super::wire::{Part, text};
use super::{Knowing, Said};

const NOT_NUMERIC: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";

/// A command for a key, and its answer.
pub fn command(client: &mut Knowing, key: u8) -> Said {
    match client.random.below(12) {
        0..2 => get(client, key),
        2 => get_two(client, key),
        3 => get_and_touch(client, key),
        4 => removed(client, key),
        5 => touched(client, key),
        6 => compared(client, key),
        7 => counted(client, key),
        _ => stored(client, key),
    }
}

/// ` noreply`, or nothing.
fn noreply(client: &mut Knowing) -> &'static str {
    ["", "", " noreply"][client.random.below(3)]
}

/// A command with a line of its own that may be said not to be answered.
fn told(said: String, noreply: &str, answer: &str) -> Said {
    let answer = if noreply.is_empty() { answer } else { "" };
    (said.into(), text(answer))
}

/// The line and the value with which a `get` finds an item, with its CAS unique or without.
fn shown(name: &str, item: Option<&Item>, with_unique: bool) -> Vec<Part> {
    let Some(item) = item else {
        return Vec::new();
    };
    let (flags, length) = (item.flags, item.value.len());
    let head = format!("VALUE {name} {flags} {length}");
    let value = [b"\r\n", &item.value[..], b"\r\n"].concat();
    if with_unique {
        let head = Part::Bytes((head + " ").into());
        vec![head, Part::Digits(item.version), Part::Bytes(value)]
    } else {
        text([head.as_bytes(), &value].concat())
    }
}

fn get(client: &mut Knowing, key: u8) -> Said {
    let (verb, with_unique) = [("get", false), ("gets", true)][client.random.below(2)];
    let name = client.name(key);
    let mut answer = shown(&name, client.model.get(key), with_unique);
    answer.extend(text("END\r\n"));
    (format!("{verb} {name}\r\n").into(), answer)
}

fn get_two(client: &mut Knowing, key: u8) -> Said {
    let other = client.key();
    let names = [client.name(key), client.name(other)];
    let mut answer = shown(&names[0], client.model.get(key), false);
    answer.extend(shown(&names[1], client.model.get(other), false));
    answer.extend(text("END\r\n"));
    (format!("get {} {}\r\n", names[0], names[1]).into(), answer)
}

fn get_and_touch(client: &mut Knowing, key: u8) -> Said {
    let (verb, with_unique) = [("gat", false), ("gats", true)][client.random.below(2)];
    let exptime = client.exptime();
    let name = client.name(key);
    let mut answer = shown(&name, client.model.get(key), with_unique);
    answer.extend(text("END\r\n"));
    (format!("{verb} {exptime} {name}\r\n").into(), answer)
}

fn removed(client: &mut Knowing, key: u8) -> Said {
    let (name, noreply) = (client.name(key), noreply(client));
    let was_there = client.model.remove(key);
    // What is touched with a time that is over is gone too.
    let (said, done) = match client.random.below(3) {
        0 => (format!("touch {name} -1{noreply}\r\n"), "TOUCHED\r\n"),
        _ => (format!("delete {name}{noreply}\r\n"), "DELETED\r\n"),
    };
    told(
        said,
        noreply,
        if was_there { done } else { "NOT_FOUND\r\n" },
    )
}

fn touched(client: &mut Knowing, key: u8) -> Said {
    let (name, noreply, exptime) = (client.name(key), noreply(client), client.exptime());
    let answer = match client.model.get(key) {
        Some(_) => "TOUCHED\r\n",
        None => "NOT_FOUND\r\n",
    };
    told(
        format!("touch {name} {exptime}{noreply}\r\n"),
        noreply,
        answer,
    )
}

fn counted(client: &mut Knowing, key: u8) -> Said {
    let (name, noreply, delta) = (client.name(key), noreply(client), client.delta());
    let (verb, up) = [("incr", true), ("decr", false)][client.random.below(2)];
    let answer = match client.model.count(key, up, delta, None) {
        Counted::Is(number) => format!("{number}\r\n"),
        Counted::NotNumeric => NOT_NUMERIC.to_owned(),
        Counted::NotFound => "NOT_FOUND\r\n".to_owned(),
    };
    told(
        format!("{verb} {name} {delta}{noreply}\r\n"),
        noreply,
        &answer,
    )
}

fn answer_to(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Stored => "STORED\r\n",
        Outcome::NotStored => "NOT_STORED\r\n",
        Outcome::Exists => "EXISTS\r\n",
        Outcome::NotFound => "NOT_FOUND\r\n",
    }
}

fn stored(client: &mut Knowing, key: u8) -> Said {
    let mode = client.mode(key);
    let verb = match mode {
        Mode::Add => "add",
        Mode::Replace => "replace",
        Mode::Append => "append",
        Mode::Prepend => "prepend",
        _ => "set",
    };
    store(client, key, mode, verb, "")
}

fn compared(client: &mut Knowing, key: u8) -> Said {
    let (version, unique) = client.last_seen(key);
    store(
        client,
        key,
        Mode::Compare(version),
        "cas",
        &format!(" {unique}"),
    )
}

fn store(client: &mut Knowing, key: u8, mode: Mode, verb: &str, unique: &str) -> Said {
    let (name, noreply, exptime) = (client.name(key), noreply(client), client.exptime());
    let (value, flags) = client.value(mode);
    let outcome = client.model.store(key, mode, &value, flags);
    let length = value.len();
    let head = format!("{verb} {name} {flags} {exptime} {length}{unique}{noreply}\r\n");
    let (_, answer) = told(String::new(), noreply, answer_to(outcome));
    ([head.as_bytes(), &value, b"\r\n"].concat(), answer)
}
