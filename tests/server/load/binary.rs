//! The binary protocol, quiet forms among it.

use super::model::{Counted, Item, Mode, Outcome};
use super::wire::Part;
use super::{Knowing, Said};
use crate::binary_client::Request;

/// What a request says beside its body.
#[derive(Clone, Copy)]
struct Head {
    opcode: u8,
    opaque: u32,
}

/// A command for a key, and its answer.
pub fn command(client: &mut Knowing, key: u8) -> Said {
    match client.random.below(10) {
        0..3 => get(client, key),
        3 => get_and_touch(client, key),
        4 => delete(client, key),
        5 => arithmetic(client, key),
        6 => extend(client, key),
        7 => noop(client),
        _ => set(client, key),
    }
}

/// One of two opcodes, and whether it is the second, the quiet one.
fn head(client: &mut Knowing, opcodes: [u8; 2]) -> (Head, bool) {
    let form = client.random.below(2);
    let opcode = opcodes[form];
    let opaque = client.opaque();
    (Head { opcode, opaque }, form == 1)
}

impl Head {
    fn request(self, unique: u64, extras: &[u8], key: &str, value: &[u8]) -> Vec<u8> {
        let request = Request::new(self.opcode).extras(extras).key(key);
        let mut bytes = request.value(value).bytes();
        bytes[12..16].copy_from_slice(&self.opaque.to_be_bytes());
        bytes[16..24].copy_from_slice(&unique.to_be_bytes());
        bytes
    }

    /// An answer; with a version, its CAS unique is that one's.
    fn answer(
        self,
        status: u16,
        version: Option<u64>,
        extras: &[u8],
        key: &str,
        value: &[u8],
    ) -> Vec<Part> {
        let body = (extras.len() + key.len() + value.len()) as u32;
        let mut head = vec![0x81, self.opcode, 0, key.len() as u8, extras.len() as u8, 0];
        head.extend(status.to_be_bytes());
        head.extend(body.to_be_bytes());
        head.extend(self.opaque.to_be_bytes());
        let unique = match version {
            Some(version) => Part::Long(version),
            None => Part::Bytes(vec![0; 8]),
        };
        let body = [extras, key.as_bytes(), value].concat();
        vec![Part::Bytes(head), unique, Part::Bytes(body)]
    }

    fn success(self, version: Option<u64>, value: &[u8]) -> Vec<Part> {
        self.answer(0, version, &[], "", value)
    }

    fn failure(self, status: u16) -> Vec<Part> {
        let words = match status {
            0x01 => "Not found",
            0x02 => "Data exists for key.",
            0x05 => "Not stored.",
            _ => "Non-numeric server-side value for incr or decr",
        };
        self.answer(status, None, &[], "", words.as_bytes())
    }

    fn hit(self, item: &Item, key: &str, value: &[u8]) -> Vec<Part> {
        self.answer(0, Some(item.version), &item.flags.to_be_bytes(), key, value)
    }
}

fn noop(client: &mut Knowing) -> Said {
    let (head, _) = head(client, [0x0a, 0x0a]);
    (head.request(0, &[], "", &[]), head.success(None, &[]))
}

fn get(client: &mut Knowing, key: u8) -> Said {
    let with_key = client.random.below(2) == 0;
    let (head, quiet) = head(client, if with_key { [0x0c, 0x0d] } else { [0x00, 0x09] });
    let name = client.name(key);
    let shown = if with_key { &name } else { "" };
    let answer = match client.model.get(key) {
        Some(item) => head.hit(item, shown, &item.value),
        None if quiet => Vec::new(),
        None if with_key => head.answer(0x01, None, &[], shown, &[]),
        None => head.failure(0x01),
    };
    (head.request(0, &[], &name, &[]), answer)
}

fn get_and_touch(client: &mut Knowing, key: u8) -> Said {
    let touch_only = client.random.below(2) == 0;
    let opcodes = if touch_only {
        [0x1c, 0x1c]
    } else {
        [0x1d, 0x1e]
    };
    let (head, quiet) = head(client, opcodes);
    let (name, exptime) = (client.name(key), client.exptime());
    let answer = match client.model.get(key) {
        Some(item) if touch_only => head.hit(item, "", &[]),
        Some(item) => head.hit(item, "", &item.value),
        None if quiet && !touch_only => Vec::new(),
        None => head.failure(0x01),
    };
    (head.request(0, &exptime.to_be_bytes(), &name, &[]), answer)
}

fn delete(client: &mut Knowing, key: u8) -> Said {
    let (head, quiet) = head(client, [0x04, 0x14]);
    let said = head.request(0, &[], &client.name(key), &[]);
    let answer = match client.model.remove(key) {
        false => head.failure(0x01),
        true if quiet => Vec::new(),
        true => head.success(None, &[]),
    };
    (said, answer)
}

fn arithmetic(client: &mut Knowing, key: u8) -> Said {
    let up = client.random.below(2) == 0;
    let (head, quiet) = head(client, if up { [0x05, 0x15] } else { [0x06, 0x16] });
    let delta = client.delta();
    let (initial, exptime) = [(None, u32::MAX), (Some(50), 0)][client.random.below(2)];
    let extras = [
        &delta.to_be_bytes()[..],
        &initial.unwrap_or(0_u64).to_be_bytes(),
        &exptime.to_be_bytes(),
    ]
    .concat();
    let answer = match client.model.count(key, up, delta, initial) {
        Counted::NotNumeric => head.failure(0x06),
        Counted::NotFound => head.failure(0x01),
        Counted::Is(_) if quiet => Vec::new(),
        Counted::Is(number) => {
            let version = client.model.version(key);
            head.success(Some(version), &number.to_be_bytes())
        }
    };
    (head.request(0, &extras, &client.name(key), &[]), answer)
}

/// The answer to a storage command; `not_stored` is what a condition is called that was not met.
fn stored(
    client: &Knowing,
    key: u8,
    head: Head,
    quiet: bool,
    outcome: Outcome,
    not_stored: u16,
) -> Vec<Part> {
    match outcome {
        Outcome::Stored if quiet => Vec::new(),
        Outcome::Stored => head.success(Some(client.model.version(key)), &[]),
        Outcome::NotStored => head.failure(not_stored),
        Outcome::Exists => head.failure(0x02),
        Outcome::NotFound => head.failure(0x01),
    }
}

fn extend(client: &mut Knowing, key: u8) -> Said {
    let mode = client.mode(key);
    let opcodes = match mode {
        Mode::Append => [0x0e, 0x19],
        Mode::Prepend => [0x0f, 0x1a],
        _ => return set(client, key),
    };
    let (head, quiet) = head(client, opcodes);
    let (value, flags) = client.value(mode);
    let outcome = client.model.store(key, mode, &value, flags);
    let answer = stored(client, key, head, quiet, outcome, 0x05);
    (head.request(0, &[], &client.name(key), &value), answer)
}

fn set(client: &mut Knowing, key: u8) -> Said {
    let modes = [
        (Mode::Set, [0x01, 0x11], 0x05),
        (Mode::Add, [0x02, 0x12], 0x02),
        (Mode::Replace, [0x03, 0x13], 0x01),
    ];
    let (mut mode, opcodes, not_stored) = modes[client.random.below(3)];
    let mut unique = 0;
    if mode == Mode::Set && client.random.below(3) == 0 {
        let seen = client.last_seen(key);
        (mode, unique) = (Mode::Compare(seen.0), seen.1);
    }
    let (head, quiet) = head(client, opcodes);
    let exptime = client.exptime();
    let (value, flags) = client.value(mode);
    let outcome = client.model.store(key, mode, &value, flags);
    let answer = stored(client, key, head, quiet, outcome, not_stored);
    let extras = [flags.to_be_bytes(), exptime.to_be_bytes()].concat();
    (
        head.request(unique, &extras, &client.name(key), &value),
        answer,
    )
}
