//! Values are packed, with dictionaries as they are offered, and each comes back. Then one of them, or
//! its dictionary, is damaged: it is refused, or it comes back all the same.
//!
//! The layout of an input: the damage in [`DAMAGE_BYTES`] bytes, and values, each ended by byte 0x00.
//! The first byte of a value says what is made of the others ([`Form`]).

#![no_main]

#[path = "../../tests/common/keeper.rs"]
mod keeper;

use arbitrary::{Arbitrary, Unstructured};
use keeper::{Keeper, Stored, number};
use libfuzzer_sys::fuzz_target;
use memchr::memmem;
use tokencached::packing::{Damaged, Digest, Packing, Room, VALUE_BYTES_MAX, Value};
use tokencached::store::{self, DICTIONARIES_MAX};

const DAMAGE_BYTES: usize = 20;

/// Values beyond these only take longer.
const VALUES_MAX: usize = 64;

/// Bytes in front of a packed value: its length and its checksum.
const HEAD_BYTES: usize = 8;
/// Those and the head of a frame.
const FRONT_BYTES: usize = HEAD_BYTES + 18;

const CHECKSUM: std::ops::Range<usize> = 4..HEAD_BYTES;

/// What is done to a packed value before it is read again.
#[derive(Arbitrary, Debug)]
struct Damage {
    value: u8,
    kind: u8,
    changes: [(u16, u8); 6],
}

/// What is made of the bytes of a value.
#[derive(Clone, Copy)]
struct Form(u8);

impl Form {
    /// Whether the bytes stand in a token of this target's making.
    fn in_token(self) -> bool {
        self.0 & 1 != 0
    }

    fn catalogue(self) -> u32 {
        u32::from(self.0 >> 1 & 3)
    }

    /// How often it is packed, with other keys, and in tokens with other bearer tokens.
    fn times(self) -> usize {
        [1, 3, 4, 40][usize::from(self.0 >> 3 & 3)]
    }

    fn is_signed(self) -> bool {
        self.0 & 0x20 != 0
    }

    fn is_base64(self) -> bool {
        self.is_signed() || self.0 & 0x40 != 0
    }

    fn client_flags(self) -> u32 {
        u32::from(self.0 >> 7) * 24
    }
}

struct Packed {
    value: Vec<u8>,
    stored: Stored,
}

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    if input.len() < DAMAGE_BYTES {
        return;
    }
    let Ok(damage) = Damage::arbitrary(&mut input) else {
        return;
    };
    let keeper = Keeper::default();
    let mut room = Room::default();
    let mut bearers = Vec::new();
    let mut packed = Vec::new();
    for piece in input.take_rest().split(|&byte| byte == 0) {
        let Some((&form, bytes)) = piece.split_first() else {
            continue;
        };
        let form = Form(form);
        for _ in 0..form.times() {
            if packed.len() < VALUES_MAX {
                let number = packed.len() as u32;
                let value = make(form, bytes, number, &mut bearers);
                packed.push(pack(&keeper, form, number, value, &mut room));
            }
        }
    }
    let dictionaries = keeper.offered();
    for dictionary in &dictionaries {
        let holds = |bearer: &Vec<u8>| memmem::find(dictionary, bearer).is_some();
        assert!(!bearers.iter().any(holds), "a bearer token in a dictionary");
    }
    // What was packed before a dictionary came is read after it too.
    for one in &packed {
        assert_eq!(keeper.read(&one.stored).as_ref(), Ok(&one.value));
    }
    packed.retain(|one| one.stored.is_packed());
    if !packed.is_empty() {
        read_damaged(&keeper, &dictionaries, &packed, &damage);
    }
});

fn pack(keeper: &Keeper, form: Form, number: u32, value: Vec<u8>, room: &mut Room) -> Packed {
    let stored = keeper.pack(
        &Value {
            key: &number.to_le_bytes(),
            bytes: &value,
            client_flags: form.client_flags(),
        },
        room,
    );
    assert_eq!(keeper.read(&stored).as_ref(), Ok(&value));
    if stored.is_packed() {
        assert!(stored.bytes.len() * 8 <= value.len() * 7);
        assert_eq!(Packing::value_bytes(&stored.bytes), Some(value.len()));
    }
    Packed { value, stored }
}

fn make(form: Form, bytes: &[u8], number: u32, bearers: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let json = if form.in_token() {
        let bearer = letters(number, 120);
        let json = token(form.catalogue(), bytes, &bearer);
        bearers.push(bearer);
        json
    } else {
        bytes.to_vec()
    };
    let base64 = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes).into_bytes();
    match (form.is_signed(), form.is_base64()) {
        (true, _) => [base64(&letters(number, 48)), base64(&json)].concat(),
        (false, true) => base64(&json),
        (false, false) => json,
    }
}

fn token(catalogue: u32, bytes: &[u8], bearer: &[u8]) -> Vec<u8> {
    let endpoint = |number: u32| {
        let id = letters(catalogue << 8 | number, 32);
        [
            &b"{\"id\": \""[..],
            &id,
            b"\", \"interface\": \"public\"}, ",
        ]
        .concat()
    };
    let endpoints: Vec<u8> = (0..16).flat_map(endpoint).collect();
    [
        &b"{\"token\": {\"methods\": [\"password\"], \"catalog\": [{\"endpoints\": ["[..],
        &endpoints,
        b"{}]}], \"name\": \"",
        bytes,
        b"\", \"auth_token\": \"",
        bearer,
        b"\"}}",
    ]
    .concat()
}

/// Letters that tell nothing; none of them is what bearer tokens are blanked with.
fn letters(seed: u32, length: usize) -> Vec<u8> {
    // Marsaglia's xorshift.
    let mut state = seed.wrapping_mul(0x9e37_79b1) | 1;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[(state >> 8) as usize % 32]
    };
    (0..length).map(letter).collect()
}

fn read_damaged(keeper: &Keeper, dictionaries: &[Vec<u8>], packed: &[Packed], damage: &Damage) {
    let at = usize::from(damage.value) % packed.len();
    let one = &packed[at];
    let mut stored = one.stored.clone();
    let (first, byte) = damage.changes[0];
    let first = usize::from(first);
    match damage.kind & 0x7f {
        8 => announce(&mut stored.bytes, damage),
        1 => stored.bytes.truncate(first % stored.bytes.len()),
        2 => {
            let more = damage
                .changes
                .iter()
                .flat_map(|&(at, byte)| [at as u8, byte]);
            stored.bytes.extend(more.take(1 + first % 12));
        }
        3 => stored.how = store::Packing::new(byte % 4, stored.how.dictionary()),
        4 => {
            let other = number(first % (2 * DICTIONARIES_MAX));
            stored.how = store::Packing::new(stored.how.form(), Some(other));
        }
        5 => stored.how = store::Packing::new(stored.how.form(), None),
        6 => {
            // The head of one, the rest of another.
            let other = &packed[first % packed.len()].stored;
            stored.bytes.truncate(HEAD_BYTES);
            stored.bytes.extend_from_slice(&other.bytes[HEAD_BYTES..]);
            if byte % 2 == 1 {
                stored.how = other.how;
            }
        }
        7 => {
            let number = stored.how.dictionary();
            let Some(slot) = number.map(store::DictionaryNumber::slot) else {
                return;
            };
            let mut dictionary = dictionaries[slot].clone();
            change(&mut dictionary, damage);
            dictionary.truncate(match byte % 4 {
                0 => 1 + first % dictionary.len(),
                _ => dictionary.len(),
            });
            let packing = Packing::default();
            packing.add(keeper::number(slot), Digest::new(&dictionary).unwrap(), 0);
            return damaged_or_right(&packing, &stored, &one.value);
        }
        _ => change(&mut stored.bytes, damage),
    }
    damaged_or_right(&keeper.packing, &stored, &one.value);
    // It has left nothing that another one would meet.
    for one in packed.iter().take(3) {
        assert_eq!(keeper.read(&one.stored).as_ref(), Ok(&one.value));
    }
}

/// Has the frame announce another length, in eight bytes.
fn announce(bytes: &mut [u8], damage: &Damage) {
    const DESCRIPTOR: usize = HEAD_BYTES + 4;
    if let Some(frame) = bytes.get_mut(DESCRIPTOR..DESCRIPTOR + 9) {
        frame[0] |= 0b11 << 6;
        let length = damage.changes[1..5].iter();
        let length = length.flat_map(|&(at, byte)| [at as u8, byte]);
        frame[1..]
            .iter_mut()
            .zip(length)
            .for_each(|(at, byte)| *at = byte);
    }
}

/// Changes some bytes. The checksum alone or the rest of it: who changes both may forge a value.
fn change(bytes: &mut [u8], damage: &Damage) {
    let places = match damage.kind & 0x80 {
        0 => bytes.len(),
        // The head of the frame says how everything behind it is read.
        _ => bytes.len().min(FRONT_BYTES),
    };
    let place = |at: u16| usize::from(at) % places;
    let mut changes: Vec<_> = damage.changes.map(|(at, byte)| (place(at), byte)).into();
    if changes.iter().any(|(at, _)| CHECKSUM.contains(at)) {
        changes.retain(|(at, _)| CHECKSUM.contains(at));
    }
    for (at, byte) in changes {
        bytes[at] ^= byte;
    }
}

fn damaged_or_right(packing: &Packing, stored: &Stored, right: &[u8]) {
    let mut out = Vec::new();
    match packing.unpack(stored.how, &stored.bytes, &mut out) {
        Ok(()) => assert_eq!(out, right, "other bytes came out than went in"),
        Err(Damaged) => assert!(out.is_empty()),
    }
    assert!(out.capacity() <= VALUE_BYTES_MAX + 64);
}
