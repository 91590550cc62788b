//! The meta commands, with opaques and quiet.

use super::model::{Counted, Mode, Outcome};
use super::wire::{Part, text};
use super::{Knowing, Said};

const NOT_NUMERIC: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";

/// A command for a key, and its answer.
pub fn command(client: &mut Knowing, key: u8) -> Said {
    match client.random.below(8) {
        0..3 => get(client, key),
        3 => delete(client, key),
        4 => arithmetic(client, key),
        5 => (b"mn\r\n".to_vec(), text("MN\r\n")),
        _ => set(client, key),
    }
}

/// An opaque, and whether what is usual goes unsaid.
fn manner(client: &mut Knowing) -> (String, bool) {
    (format!("O{}", client.opaque()), client.random.below(3) == 0)
}

fn quiet_flag(quiet: bool) -> &'static str {
    if quiet { " q" } else { "" }
}

fn get(client: &mut Knowing, key: u8) -> Said {
    let (opaque, quiet) = manner(client);
    let name = client.name(key);
    let (q, exptime) = (quiet_flag(quiet), client.exptime());
    let touch = match client.random.below(2) {
        0 => String::new(),
        _ => format!(" T{exptime}"),
    };
    let said = format!("mg {name} s c v f k {opaque}{q}{touch}\r\n");
    let answer = match client.model.get(key) {
        None if quiet => Vec::new(),
        None => text(format!("EN k{name} {opaque}\r\n")),
        Some(item) => {
            let (length, flags) = (item.value.len(), item.flags);
            let rest = format!(" f{flags} k{name} {opaque}\r\n");
            vec![
                Part::Bytes(format!("VA {length} s{length} c").into()),
                Part::Digits(item.version),
                Part::Bytes([rest.as_bytes(), &item.value, b"\r\n"].concat()),
            ]
        }
    };
    (said.into(), answer)
}

fn delete(client: &mut Knowing, key: u8) -> Said {
    let (opaque, quiet) = manner(client);
    let said = format!("md {} {opaque}{}\r\n", client.name(key), quiet_flag(quiet));
    let status = match client.model.remove(key) {
        true if quiet => return (said.into(), Vec::new()),
        true => "HD",
        false => "NF",
    };
    (said.into(), text(format!("{status} {opaque}\r\n")))
}

fn arithmetic(client: &mut Knowing, key: u8) -> Said {
    let (opaque, quiet) = manner(client);
    let (name, q, delta) = (client.name(key), quiet_flag(quiet), client.delta());
    let (mode, up) = [("MI", true), ("MD", false)][client.random.below(2)];
    let (vivify, initial) = [("", None), (" N0 J50", Some(50))][client.random.below(2)];
    let said = format!("ma {name} v {mode} D{delta} {opaque}{vivify}{q}\r\n");
    let answer = match client.model.count(key, up, delta, initial) {
        Counted::NotNumeric => NOT_NUMERIC.to_owned(),
        Counted::NotFound => format!("NF {opaque}\r\n"),
        Counted::Is(_) if quiet => String::new(),
        Counted::Is(number) => {
            let length = number.to_string().len();
            format!("VA {length} {opaque}\r\n{number}\r\n")
        }
    };
    (said.into(), text(answer))
}

/// A mode with the flag that asks for it.
fn mode(client: &mut Knowing, key: u8) -> (Mode, String) {
    if client.random.below(5) == 0 {
        let (version, unique) = client.last_seen(key);
        return (Mode::Compare(version), format!(" C{unique}"));
    }
    let mode = client.mode(key);
    let flag = match mode {
        Mode::Add => " ME",
        Mode::Replace => " MR",
        Mode::Append => " MA",
        Mode::Prepend => " MP",
        _ => "",
    };
    (mode, flag.to_owned())
}

fn set(client: &mut Knowing, key: u8) -> Said {
    let (opaque, quiet) = manner(client);
    let (name, q, exptime) = (client.name(key), quiet_flag(quiet), client.exptime());
    let (mode, mode_flag) = mode(client, key);
    let (value, flags) = client.value(mode);
    let length = value.len();
    let head = format!("ms {name} {length} T{exptime} F{flags} {opaque} c{q}{mode_flag}\r\n");
    let status = match client.model.store(key, mode, &value, flags) {
        Outcome::Stored => "HD",
        Outcome::NotStored => "NS",
        Outcome::Exists => "EX",
        Outcome::NotFound => "NF",
    };
    let answer = match status {
        "HD" if quiet => Vec::new(),
        "HD" => vec![
            Part::Bytes(format!("HD {opaque} c").into()),
            Part::Digits(client.model.version(key)),
            Part::Bytes(b"\r\n".to_vec()),
        ],
        _ => text(format!("{status} {opaque} c0\r\n")),
    };
    ([head.as_bytes(), &value, b"\r\n"].concat(), answer)
}
