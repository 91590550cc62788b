//! What a client of the binary protocol sends, from bytes that choose it.
//!
//! A byte below 0xe0 begins a request, and the five behind it choose its key, extras, value, CAS unique,
//! and what is wrong with its header, if anything is; a byte behind the end chooses the first of each.
//! From 0xe0 on it is a command of the text protocols, from 0xf0 on some bytes as they stand.
//!
//! Invariant: the opaques of a connection's requests rise.

use crate::frames::Header;
use crate::shape::{Kind, Shape};

/// Opcodes from here on are not chosen: five beyond the last that is known.
const OPCODES: u8 = 0x2a;

/// No more is made of one act, so that an input does not take long.
const SPELT_BYTES_MAX: usize = 3 << 20;

#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "get a b\r\n", "set a 5 0 2\r\nxy\r\n", "mg a v c\r\n", "version\r\n", "\r\n", "gets tokens/0\r\n",
    "incr a 1\r\n", "flush_all\r\n",
];

#[rustfmt::skip]
const KEYS: &[&str] = &["a", "b", "tokens/0", "tokens/1", "c", "tokens/", "token", "a b", ""];

#[rustfmt::skip]
const STATS: &[&str] = &[
    "", "settings", "items", "slabs", "sizes", "conns", "detail on", "detail dump", "detail off",
    "reset", "nothing",
];

#[rustfmt::skip]
const EXPTIMES: &[u32] = &[0, 1, 5, 100, 2_592_000, 2_592_001, 1_790_001_050, u32::MAX];

const NUMBERS: &[u64] = &[1, 0, 9, u64::MAX];

/// What is sent for an act, on a connection on which so much has been sent.
pub fn spell(mut act: &[u8], sent_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Half of what may stand first on a connection begins with a text command.
    if let (0, [first, ..]) = (sent_bytes, act)
        && first % 2 == 1
    {
        bytes.extend_from_slice(chosen(TEXTS, first / 2).as_bytes());
    }
    while bytes.len() < SPELT_BYTES_MAX {
        let Some(first) = next(&mut act) else {
            break;
        };
        match first {
            0xf0.. => {
                let length = usize::from(first - 0xef).min(act.len());
                bytes.extend_from_slice(&act[..length]);
                act = &act[length..];
            }
            0xe0.. => bytes.extend_from_slice(chosen(TEXTS, first).as_bytes()),
            _ => {
                let opaque = sent_bytes + bytes.len();
                request(first % OPCODES, &mut act, opaque as u32, &mut bytes);
            }
        }
    }
    bytes
}

fn request(opcode: u8, act: &mut &[u8], opaque: u32, bytes: &mut Vec<u8>) {
    let shape = Shape::of(opcode);
    let mut choice = || next(act).unwrap_or_default();
    let key = key(shape, choice());
    let extras = extras(shape, choice());
    let value = value(shape, choice());
    let unique = match choice() {
        // Uniques count up from 1, so these are often right.
        few @ 1..0x40 => few.into(),
        0xff => u64::MAX,
        _ => 0,
    };
    let header = Header {
        opaque,
        unique,
        ..Header::asking(opcode, &extras, &key, &value)
    };
    bytes.extend_from_slice(&bent(header, choice()).bytes());
    for part in [extras, key, value] {
        bytes.extend_from_slice(&part);
    }
}

fn key(shape: Shape, choice: u8) -> Vec<u8> {
    match (shape.kind, choice) {
        (Kind::Stat, _) => chosen(STATS, choice).into(),
        (_, 0xfe) => vec![b'k'; 250],
        (_, 0xff) => vec![b'k'; 251],
        (Kind::Sasl, _) => [&b"PLAIN"[..], &vec![b'x'; choice.into()]].concat(),
        _ if shape.has_key() => chosen(KEYS, choice).into(),
        (_, 0xf0..) => b"a".into(),
        _ => Vec::new(),
    }
}

fn extras(shape: Shape, choice: u8) -> Vec<u8> {
    let exptime = chosen(EXPTIMES, choice).to_be_bytes();
    let other = choice / 8;
    match shape.kind {
        Kind::Touch => exptime.into(),
        Kind::Set | Kind::SetIf => [u32::from(other).to_be_bytes(), exptime].concat(),
        Kind::Count => {
            let (delta, initial) = (chosen(NUMBERS, other), chosen(NUMBERS, other / 4));
            let numbers = [delta.to_be_bytes(), initial.to_be_bytes()].concat();
            [&numbers[..], &exptime].concat()
        }
        Kind::Flush if other % 2 == 1 => exptime.into(),
        Kind::Nothing if shape.extras_bytes > 0 => u32::from(other).to_be_bytes().into(),
        Kind::Unknown => vec![choice; usize::from(choice % 8)],
        _ => Vec::new(),
    }
}

fn value(shape: Shape, choice: u8) -> Vec<u8> {
    if !shape.has_value() && shape.kind != Kind::Unknown {
        let length = usize::from(choice.saturating_sub(0xf0));
        return vec![b'v'; length];
    }
    match choice {
        0x00..0x40 => choice.to_string().into_bytes(),
        0x40 => b"18446744073709551615".into(),
        0x41 => b" 9 ".into(),
        0x42..0x80 => vec![choice; usize::from(choice - 0x42)],
        0x80..0xc0 => {
            let role = format!("{{\"id\": \"{choice:032x}\", \"name\": \"member\"}}, ");
            role.repeat(usize::from(choice - 0x7f)).into_bytes()
        }
        0xc0..0xf8 => vec![choice; 40 * usize::from(choice)],
        // Larger than what is waited for in a buffer, and larger than an item may be.
        0xf8..0xfd => vec![choice; 66_000 + usize::from(choice)],
        0xfd.. => vec![choice; (1 << 20) - 200 + usize::from(choice & 2) * 200],
    }
}

/// A header that is not true, for one choice of eight.
fn bent(mut header: Header, choice: u8) -> Header {
    if choice < 0xe0 {
        return header;
    }
    match choice % 12 {
        0 => header.key_bytes = header.key_bytes.wrapping_add(1),
        1 => header.key_bytes = header.key_bytes.wrapping_sub(1),
        2 => header.key_bytes = 251,
        3 => header.extras_bytes = header.extras_bytes.wrapping_add(1),
        4 => header.extras_bytes = header.extras_bytes.wrapping_sub(1),
        5 => header.body_bytes = header.body_bytes.wrapping_add(1),
        6 => header.body_bytes = header.body_bytes.wrapping_sub(1),
        7 => header.body_bytes += 2 << 20,
        8 => header.body_bytes |= 1 << 30,
        9 => header.opcode ^= 0x40,
        10 => header.status = 7,
        _ => header.magic = 0x81,
    }
    header
}

fn next(act: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = act.split_first()?;
    *act = rest;
    Some(first)
}

fn chosen<T: Copy>(choices: &[T], choice: u8) -> T {
    choices[usize::from(choice) % choices.len()]
}
