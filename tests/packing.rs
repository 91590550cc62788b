//! What packing promises, on the recorded values and on bad ones.

#[path = "common/corpus.rs"]
mod corpus;
#[path = "common/keeper.rs"]
mod keeper;

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};

use corpus::{Cloud, Random, Recorded, Strategy, base64, find, mac};
use keeper::{Keeper, Stored, number};
use proptest::prelude::*;
use tokencached::packing::{
    Damaged, Digest, Packing, Room, VALUE_BYTES_MAX, VALUE_BYTES_MIN, Value,
};
use tokencached::store;
use tokencached::tool::tokens::{Form, Tokens};

/// A value, and what is stored of it.
type Sample = (Vec<u8>, Stored);

static RECORDED: LazyLock<Vec<Recorded>> = LazyLock::new(corpus::recorded);
static CLOUD: LazyLock<Cloud> = LazyLock::new(|| Cloud::new(&RECORDED, 0));

/// Bytes that stand in a buffer already when a value is unpacked into it.
const FRONT: &[u8] = b"front";

fn recorded(strategy: Strategy) -> impl Iterator<Item = &'static Recorded> {
    RECORDED.iter().filter(move |one| one.strategy == strategy)
}

fn value<'v>(key: &'v [u8], bytes: &'v [u8]) -> Value<'v> {
    Value {
        key,
        bytes,
        client_flags: 0,
    }
}

/// Packs a value under a key of its own; it comes back.
fn pack(keeper: &Keeper, bytes: &[u8], room: &mut Room) -> Stored {
    let key = crc32fast::hash(bytes).to_le_bytes();
    let stored = keeper.pack(&value(&key, bytes), room);
    assert!(keeper.read(&stored).as_deref() == Ok(bytes), "it came back");
    stored
}

/// A keeper that has found its dictionary on the recorded cloud.
fn settled(room: &mut Room) -> Keeper {
    let keeper = Keeper::default();
    for number in 0..200 {
        pack(&keeper, &CLOUD.token(number), room);
    }
    // The first, made in haste, and one with the heads of several tokens.
    assert_eq!(keeper.offered().len(), 2);
    keeper
}

fn mean(bytes: &[usize]) -> f64 {
    bytes.iter().sum::<usize>() as f64 / bytes.len() as f64
}

/// Unpacks what may be damaged: it says so, or gives just the right bytes.
fn damaged_or_right(packing: &Packing, how: store::Packing, stored: &[u8], right: &[u8]) -> bool {
    let mut out = FRONT.to_vec();
    let result = packing.unpack(how, stored, &mut out);
    assert!(out.capacity() <= FRONT.len() + VALUE_BYTES_MAX + 64);
    let (front, behind) = out.split_at(FRONT.len());
    assert_eq!(front, FRONT);
    match result {
        Ok(()) => assert!(behind == right, "other bytes came out than went in"),
        Err(Damaged) => assert!(behind.is_empty(), "a damaged value leaves nothing"),
    }
    result.is_ok()
}

/// A text that packs well without any dictionary.
fn text(bytes: usize) -> Vec<u8> {
    let line = |number: usize| format!("<port id='{number:08}' state='ACTIVE'/>\n").into_bytes();
    let mut text: Vec<u8> = (0..bytes / 20).flat_map(line).collect();
    text.truncate(bytes);
    text
}

/// Short values of every form there is, packed: with a dictionary and without, base64 or not.
fn forms(keeper: &Keeper, room: &mut Room) -> Vec<Sample> {
    let mut random = Random::new(7);
    let values = [
        CLOUD.token(1_000),
        mac(&CLOUD.token(1_001), &mut random),
        base64(&random.bytes(600)),
        text(2_000),
        base64(&text(2_000)),
    ];
    let packed: Vec<Sample> = values
        .into_iter()
        .map(|value| {
            let stored = pack(keeper, &value, room);
            (value, stored)
        })
        .collect();
    let mut forms: Vec<_> = packed
        .iter()
        .map(|(_, stored)| (stored.how.form(), stored.how.dictionary().is_some()))
        .collect();
    forms.sort();
    forms.dedup();
    assert_eq!(forms.len(), 5, "each of another form: {forms:?}");
    assert!(packed.iter().all(|(_, stored)| stored.is_packed()));
    packed
}

#[test]
fn every_recorded_value_comes_back_byte_for_byte() {
    let keeper = Keeper::default();
    let mut room = Room::default();
    let stored: Vec<Stored> = RECORDED
        .iter()
        .map(|one| keeper.pack(&value(&one.key, &one.value), &mut room))
        .collect();
    for (one, stored) in RECORDED.iter().zip(&stored) {
        assert!(stored.is_packed());
        let bytes = Packing::value_bytes(&stored.bytes);
        assert_eq!(bytes, Some(one.value.len()));
        assert!(damaged_or_right(
            &keeper.packing,
            stored.how,
            &stored.bytes,
            &one.value
        ));
    }
    assert!(!keeper.offered().is_empty());
}

#[test]
fn recorded_values_take_few_bytes_once_there_is_a_dictionary() {
    let most_bytes = [(Strategy::Plain, 520.0), (Strategy::Mac, 570.0)];
    for (strategy, most_bytes) in most_bytes {
        let keeper = Keeper::default();
        let mut room = Room::default();
        let mut packed = Vec::new();
        for one in recorded(strategy) {
            let stored = keeper.pack(&value(&one.key, &one.value), &mut room);
            if stored.how.dictionary().is_some() && one.is_scoped() {
                packed.push(stored.bytes.len());
            }
        }
        assert!(packed.len() >= recorded(strategy).count() / 2);
        let mean = mean(&packed);
        assert!(mean <= most_bytes, "{strategy:?}: {mean} bytes");
    }
    let keeper = Keeper::default();
    for one in recorded(Strategy::Encrypt) {
        let stored = pack(&keeper, &one.value, &mut Room::default());
        let part = stored.bytes.len() as f64 / one.value.len() as f64;
        assert!(part <= 0.77, "{part} of an encrypted value");
    }
}

#[test]
fn nothing_is_packed_that_does_not_save_an_eighth() {
    let keeper = Keeper::default();
    let mut room = Room::default();
    let mut random = Random::new(3);
    // Texts that shrink less and less, and base64 of them.
    for part in 0..=64 {
        let bytes = [
            text(2_048 * part / 64),
            random.bytes(2_048 * (64 - part) / 64),
        ]
        .concat();
        for bytes in [base64(&bytes), bytes] {
            let stored = pack(&keeper, &bytes, &mut room);
            if stored.is_packed() {
                assert!(stored.bytes.len() * 8 <= bytes.len() * 7);
            } else {
                assert_eq!(stored.bytes, bytes);
            }
        }
    }
}

/// Recorded values one after another, so that each in its turn may become a dictionary.
#[test]
fn no_dictionary_holds_any_part_of_a_bearer_token() {
    const PART_BYTES: usize = 16;
    let bearers: Vec<Vec<u8>> = RECORDED.iter().filter_map(Recorded::bearer).collect();
    assert_eq!(bearers.len(), 450);
    let parts: HashSet<&[u8]> = bearers
        .iter()
        .flat_map(|bearer| bearer.windows(PART_BYTES))
        .collect();
    let mut room = Room::default();
    let mut checked = 0;
    for first in 0..RECORDED.len() {
        let keeper = Keeper::default();
        for one in RECORDED.iter().cycle().skip(first).take(40) {
            keeper.pack(&value(&one.key, &one.value), &mut room);
            if !keeper.offered().is_empty() {
                break;
            }
        }
        for dictionary in keeper.offered() {
            assert!(
                bearers
                    .iter()
                    .all(|bearer| find(&dictionary, bearer).is_none())
            );
            let part = dictionary
                .windows(PART_BYTES)
                .find(|part| parts.contains(part));
            assert!(part.is_none(), "of value {first}: {part:?}");
            checked += 1;
        }
    }
    assert!(checked > 400, "{checked} dictionaries");
}

#[test]
fn short_long_and_random_values_are_stored_as_they_came() {
    let keeper = Keeper::default();
    let mut room = Room::default();
    let mut random = Random::new(1);
    for length in 0..VALUE_BYTES_MIN {
        let token = &CLOUD.token(length)[..length];
        for bytes in [text(length), base64(&text(length / 4 * 3)), token.to_vec()] {
            assert!(!pack(&keeper, &bytes, &mut room).is_packed());
        }
    }
    for length in [VALUE_BYTES_MIN, 1_000, 13_000, VALUE_BYTES_MAX] {
        for _ in 0..20 {
            assert!(!pack(&keeper, &random.bytes(length), &mut room).is_packed());
        }
        assert!(pack(&keeper, &text(length), &mut room).is_packed());
    }
    assert!(!pack(&keeper, &text(VALUE_BYTES_MAX + 1), &mut room).is_packed());
    assert!(keeper.offered().is_empty());
}

#[test]
fn what_its_client_has_compressed_is_stored_as_it_came() {
    let keeper = Keeper::default();
    let mut room = Room::default();
    for number in 0..300 {
        // As dense as zlib's, behind a head of zlib's.
        let dense = zstd::bulk::compress(&CLOUD.token(number), 19).unwrap();
        let bytes = [b"\x78\x9c", &dense[16..]].concat();
        let compressed = Value {
            key: &number.to_le_bytes(),
            bytes: &bytes,
            client_flags: 24,
        };
        assert!(!keeper.pack(&compressed, &mut room).is_packed());
    }
    assert!(pack(&keeper, &CLOUD.token(0), &mut room).is_packed());
}

#[test]
fn a_class_that_does_not_shrink_is_not_tried_again_for_long() {
    let keeper = Keeper::default();
    let mut room = Room::default();
    let mut random = Random::new(2);
    let mut packs = |bytes: &[u8]| {
        let flagged = Value {
            key: b"key",
            bytes,
            client_flags: 24,
        };
        keeper.pack(&flagged, &mut room).is_packed()
    };
    let shrinks = text(1_000);
    assert!(packs(&shrinks));
    for _ in 0..64 {
        let mut dense = random.bytes(1_000);
        dense[0] = shrinks[0];
        assert!(!packs(&dense));
    }
    assert!(!packs(&shrinks), "its class is given up");
    let missed = (0..10_000).take_while(|_| !packs(&shrinks)).count();
    assert!((100..1_000).contains(&missed), "{missed} until it is tried");
    assert!(packs(&shrinks), "and is back");
}

/// A value that begins as a token does, `number` of its kind, and whether it tells beyond doubt where
/// its bearer token is.
fn look_alikes(number: usize) -> Vec<(&'static str, Vec<u8>, bool)> {
    let mut random = Random::new(number as u64);
    let token = CLOUD.token(number);
    let random_text = String::from_utf8(base64(&random.bytes(90))).unwrap();
    let secret = format!("gAAAAAB{}", random_text.replace('/', "_"));
    let cut = token[..VALUE_BYTES_MIN + random.below(token.len() - VALUE_BYTES_MIN)].to_vec();
    let garbage = [b"{\"token\": {".to_vec(), random.bytes(2_000)].concat();
    let mut wrong_byte = token.clone();
    let at = find(&token, b"\"catalog\"").unwrap() + 3;
    wrong_byte[at] = 0xff;
    let front = r#"{"token": {"methods": ["password"], "#;
    let padding = " ".repeat(600);
    let json = |text: String| text.into_bytes();
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        json(format!(
            r#"{front}"deep": {open}{close}, "auth_token": "{secret}"}}}}{padding}"#
        ))
    };
    let escaped = secret.replacen('B', "\\u0042", 1);
    let not_ours =
        |name: &str, rest: &str| json(format!(r#"{front}"{name}": {rest}}}}}{padding}"#));
    let quoted = format!("\"{secret}\"");
    vec![
        ("cut", cut, false),
        ("garbage", garbage, false),
        ("a byte that is no UTF-8", wrong_byte, false),
        ("lengthened", [&token[..], b"}"].concat(), false),
        ("nested", nested(50), true),
        ("nested beyond all measure", nested(5_000), true),
        (
            "not closed",
            json(format!("{front}{}", "[".repeat(9_000))),
            false,
        ),
        (
            "two bearer tokens",
            not_ours(
                "auth_token",
                &format!(r#"{quoted}, "auth_token": "gAAAAAother{number}""#),
            ),
            false,
        ),
        (
            "two bearer tokens, apart",
            not_ours(
                "auth_token",
                &format!(r#""gAAAAAother{number}", "trust": {{"auth_token": {quoted}}}"#),
            ),
            false,
        ),
        (
            "an escaped bearer token",
            not_ours("auth_token", &format!("\"{escaped}\"")),
            true,
        ),
        (
            "an escaped name",
            not_ours("auth\\u005ftoken", &quoted),
            true,
        ),
        ("no bearer token", not_ours("id", &quoted), false),
        (
            "a bearer token that is no text",
            not_ours("auth_token", &format!("[{quoted}]")),
            false,
        ),
        (
            "a bearer token of nothing",
            not_ours("auth_token", &format!(r#""", "id": {quoted}"#)),
            false,
        ),
        (
            "an empty object",
            json(format!("{{\"token\": {{}}}}{padding}{number}")),
            false,
        ),
        (
            "no object",
            json(format!("{{\"token\": null}}{padding}{number}")),
            false,
        ),
        (
            "only spaces",
            json(format!("{{\"token\": {padding}{number}")),
            false,
        ),
    ]
}

#[test]
fn what_looks_like_a_token_and_is_none_comes_back_and_makes_no_dictionary() {
    let mut room = Room::default();
    let (kinds, mixed) = (look_alikes(0).len(), Keeper::default());
    for kind in 0..kinds {
        let keeper = Keeper::default();
        for number in 0..200 {
            let (name, bytes, tells) = look_alikes(number).swap_remove(kind);
            pack(&keeper, &bytes, &mut room);
            assert!(tells || keeper.offered().is_empty(), "of {name}");
            // Base64 of it, and signed.
            pack(&keeper, &base64(&bytes), &mut room);
            pack(
                &keeper,
                &mac(&bytes, &mut Random::new(number as u64)),
                &mut room,
            );
            assert!(tells || keeper.offered().is_empty(), "of {name} in base64");
            pack(&mixed, &bytes, &mut room);
        }
    }
}

#[test]
fn base64_with_one_wrong_character_comes_back_as_it_was() {
    let mut room = Room::default();
    let keeper = settled(&mut room);
    let good = &recorded(Strategy::Mac).next().unwrap().value;
    pack(&keeper, good, &mut room);
    for at in 0..good.len() {
        let mut bad = good.clone();
        let wrong = [b'-', b' ', b'\n', b'=', b'A', 0, 0xff][at % 7];
        bad[at] = if bad[at] == wrong { b'B' } else { wrong };
        pack(&keeper, &bad, &mut room);
    }
    // Digits in front of the padding that stand for the same bytes and that nobody would write.
    let last = good.len() - 3;
    assert_eq!(good[last + 1..], *b"==");
    for digit in b'A'..=b'Z' {
        let mut bad = good.clone();
        bad[last] = digit;
        pack(&keeper, &bad, &mut room);
    }
    for length in good.len() - 100..good.len() {
        pack(&keeper, &good[..length], &mut room);
        pack(
            &keeper,
            &[&good[..], &good[..good.len() - length]].concat(),
            &mut room,
        );
    }
}

#[test]
fn one_wrong_bit_anywhere_is_damage_or_does_not_matter() {
    let mut room = Room::default();
    let keeper = settled(&mut room);
    for (value, stored) in forms(&keeper, &mut room) {
        let mut matters = 0;
        for bit in 0..stored.bytes.len() * 8 {
            let mut bad = stored.bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let right = damaged_or_right(&keeper.packing, stored.how, &bad, &value);
            matters += usize::from(!right);
        }
        assert!(matters > stored.bytes.len() * 7);
    }
}

#[test]
fn a_value_cut_or_lengthened_is_damage_or_does_not_matter() {
    let mut room = Room::default();
    let keeper = settled(&mut room);
    let mut random = Random::new(9);
    for (value, stored) in forms(&keeper, &mut room) {
        for length in 0..stored.bytes.len() {
            let cut = &stored.bytes[..length];
            assert!(!damaged_or_right(&keeper.packing, stored.how, cut, &value));
        }
        for more in 1..300 {
            for more in [
                vec![0; more],
                random.bytes(more),
                stored.bytes[8..].to_vec(),
            ] {
                let long = [&stored.bytes[..], &more].concat();
                damaged_or_right(&keeper.packing, stored.how, &long, &value);
            }
        }
    }
}

#[test]
fn a_value_read_in_another_form_is_damage_or_does_not_matter() {
    let mut room = Room::default();
    let keeper = settled(&mut room);
    for (value, stored) in forms(&keeper, &mut room) {
        for form in 0..4 {
            for dictionary in [None, Some(number(0)), Some(number(1)), Some(number(8))] {
                let how = store::Packing::new(form, dictionary);
                let right = damaged_or_right(&keeper.packing, how, &stored.bytes, &value);
                assert!(right || how != stored.how);
            }
        }
    }
}

#[test]
fn a_damaged_or_missing_dictionary_never_gives_other_bytes() {
    let mut room = Room::default();
    let keeper = settled(&mut room);
    let dictionary = keeper.offered().remove(1);
    let forms = forms(&keeper, &mut room);
    let with_dictionary = || {
        let needs = |stored: &Stored| stored.how.dictionary().is_some();
        forms.iter().filter(move |(_, stored)| needs(stored))
    };
    assert_eq!(with_dictionary().count(), 2);
    let read_with = |packing: &Packing| {
        with_dictionary()
            .filter(|(value, stored)| damaged_or_right(packing, stored.how, &stored.bytes, value))
            .count()
    };
    let packing = Packing::default();
    assert_eq!(read_with(&packing), 0, "no dictionary");
    let add = |bytes: &[u8]| packing.add(number(1), Digest::new(bytes).unwrap(), 0);
    add(&dictionary);
    assert_eq!(read_with(&packing), 2);
    let mut wrong = 0;
    for at in 0..dictionary.len() {
        let mut bad = dictionary.clone();
        bad[at] ^= 1 << (at % 8);
        add(&bad);
        wrong += 2 - read_with(&packing);
    }
    // Those of the catalogue; of the heads in front of it few.
    assert!(wrong > dictionary.len() / 2, "{wrong}");
    for length in (1..dictionary.len()).step_by(97) {
        add(&dictionary[..length]);
        read_with(&packing);
        add(&dictionary[length..]);
        read_with(&packing);
    }
    let other_catalogue = Cloud::new(&RECORDED, 1).token(0);
    add(&other_catalogue);
    assert_eq!(read_with(&packing), 0, "another one's");
    packing.remove(number(0));
    assert_eq!(read_with(&packing), 0, "it has gone");
    packing.add(number(8), Digest::new(&dictionary).unwrap(), 0);
    assert_eq!(read_with(&packing), 0, "of another number in the same slot");
}

/// The head of a packed value: length and checksum of what it was.
fn head(bytes: u32, value: &[u8]) -> Vec<u8> {
    [bytes.to_le_bytes(), crc32fast::hash(value).to_le_bytes()].concat()
}

/// The head of a zstd frame that announces so many bytes, in as many as are named, and a window of
/// 128 MiB.
fn frame_head(announced: &[u8]) -> Vec<u8> {
    let flag = match announced.len() {
        0 => 0,
        2 => 1,
        4 => 2,
        8 => 3,
        _ => panic!("zstd has no such length of a length"),
    };
    [&b"\x28\xb5\x2f\xfd"[..], &[flag << 6, 17 << 3], announced].concat()
}

/// What stands behind the head of a frame.
fn blocks(frame: &[u8]) -> &[u8] {
    let descriptor = frame[4];
    let single_segment = usize::from(descriptor >> 5 & 1);
    let announced = [single_segment, 2, 4, 8][usize::from(descriptor >> 6)];
    assert_eq!(
        descriptor & 0b1_1111,
        0,
        "no checksum, no dictionary's number"
    );
    &frame[5 + 1 - single_segment + announced..]
}

#[test]
fn nothing_is_unpacked_beyond_its_recorded_length() {
    const BOMB_BYTES: usize = 64 << 20;
    let mut room = Room::default();
    let keeper = settled(&mut room);
    let forms = forms(&keeper, &mut room);
    let bomb = zstd::bulk::compress(&vec![0; BOMB_BYTES], 1).unwrap();
    assert!(bomb.len() < 20_000);
    for (_, stored) in forms.iter().filter(|(_, stored)| stored.bytes.len() < 600) {
        // A frame holds what the base64 stands for, where there is any.
        let is_base64 = stored.how.form() & forms[2].1.how.form() != 0;
        for held in [300usize, 9_000, 90_000] {
            let zeros = vec![0; held];
            let value = if is_base64 {
                base64(&zeros)
            } else {
                zeros.clone()
            };
            let announced = (held as u32).to_le_bytes();
            let right = zstd::bulk::compress(&zeros, 1).unwrap();
            let more = zstd::bulk::compress(&[0; 10], 1).unwrap();
            let frames = [
                (
                    "more than it announces",
                    [&frame_head(&announced), blocks(&bomb)].concat(),
                ),
                ("more than recorded", bomb.clone()),
                (
                    "it does not say what",
                    [&frame_head(&[]), blocks(&bomb)].concat(),
                ),
                ("another frame", [&right[..], &bomb].concat()),
                ("another frame, short", [&right[..], &more].concat()),
                (
                    "less than it announces",
                    [&frame_head(&announced), blocks(&more)].concat(),
                ),
            ];
            let refused = |name: &str, packed: &[u8]| {
                let mut out = Vec::new();
                let result = keeper.packing.unpack(stored.how, packed, &mut out);
                assert_eq!(result, Err(Damaged), "{name}");
                assert!(
                    out.capacity() <= value.len() + 64,
                    "{name}: {}",
                    out.capacity()
                );
            };
            for (name, frame) in &frames {
                let recorded = value.len() as u32;
                refused(name, &[&head(recorded, &value), &frame[..]].concat());
                for recorded in [BOMB_BYTES as u32, u32::MAX] {
                    let packed = [&head(recorded, &value), &frame[..]].concat();
                    refused("more than is ever packed", &packed);
                    assert_eq!(Packing::value_bytes(&packed), None);
                }
            }
            // The frame that is right, so that what is refused is the bomb.
            let packed = [&head(value.len() as u32, &value), &right[..]].concat();
            assert!(damaged_or_right(
                &keeper.packing,
                stored.how,
                &packed,
                &value
            ));
        }
    }
}

#[test]
fn a_changed_catalogue_gets_a_dictionary_within_a_few_dozen_tokens() {
    for tokens_before in [50, 1_000, 12_000] {
        let keeper = Keeper::default();
        let mut room = Room::default();
        let mut before = Vec::new();
        for number in 0..tokens_before {
            let token = CLOUD.token(number);
            let stored = pack(&keeper, &token, &mut room);
            if number % 50 == 49 {
                before.push((token, stored));
            }
        }
        let dictionaries = keeper.offered().len();
        let changed = Cloud::new(&RECORDED, 1);
        let mut number = 0;
        while keeper.offered().len() == dictionaries {
            pack(&keeper, &changed.token(number), &mut room);
            number += 1;
            assert!(number <= 48, "after {tokens_before} of the old catalogue");
        }
        let packed: Vec<usize> = (number..number + 300)
            .map(|number| pack(&keeper, &changed.token(number), &mut room))
            .map(|stored| stored.bytes.len())
            .collect();
        assert!(mean(&packed) <= 520.0, "{} bytes", mean(&packed));
        for (token, stored) in &before {
            assert!(damaged_or_right(
                &keeper.packing,
                stored.how,
                &stored.bytes,
                token
            ));
        }
    }
}

#[test]
fn a_herd_that_sets_one_token_many_times_makes_no_dictionary() {
    let mut room = Room::default();
    let keeper = Keeper::default();
    let herd = |keeper: &Keeper, token: &[u8], room: &mut Room| {
        for _ in 0..10_000 {
            keeper.pack(&value(b"the herd's", token), room);
        }
    };
    herd(&keeper, &CLOUD.token(0), &mut room);
    assert!(keeper.offered().is_empty());
    let keeper = settled(&mut room);
    herd(&keeper, &CLOUD.token(1_000), &mut room);
    assert_eq!(keeper.offered().len(), 2);
    herd(&keeper, &Cloud::new(&RECORDED, 1).token(0), &mut room);
    assert_eq!(keeper.offered().len(), 2);
}

/// Feeds tokens; gives how many dictionaries were offered, and the mean size of the last tokens.
fn feed(keeper: &Keeper, tokens: impl Iterator<Item = Vec<u8>>) -> (usize, f64) {
    let mut room = Room::default();
    let packed: Vec<usize> = tokens
        .map(|token| pack(keeper, &token, &mut room).bytes.len())
        .collect();
    (keeper.offered().len(), mean(&packed[packed.len() / 2..]))
}

#[test]
fn tokens_of_several_catalogues_in_turn_settle_on_a_dictionary_each() {
    let clouds: Vec<Cloud> = (0..4)
        .map(|catalogue| Cloud::new(&RECORDED, catalogue))
        .collect();
    for (catalogues, run) in [(1, 1), (2, 1), (2, 50), (4, 1), (4, 30)] {
        let keeper = Keeper::default();
        let token = |number: usize| clouds[number / run % catalogues].token(number);
        let first = feed(&keeper, (0..2_000).map(token));
        assert!(
            (catalogues..=3 * catalogues).contains(&first.0),
            "in runs of {run}"
        );
        let (dictionaries, bytes) = feed(&keeper, (2_000..8_000).map(token));
        assert!(
            dictionaries <= 3 * catalogues,
            "{dictionaries} in runs of {run}"
        );
        assert!(bytes <= 520.0, "{catalogues} catalogues: {bytes} bytes");
    }
}

#[test]
fn a_service_more_in_the_catalogue_gets_a_dictionary_too() {
    let keeper = Keeper::default();
    feed(&keeper, (0..10_000).map(|number| CLOUD.token(number)));
    let before = keeper.offered().len();
    assert!(before <= 3, "{before}");
    let longer = CLOUD.with_service(SERVICE);
    let tokens = |numbers: std::ops::Range<usize>| numbers.map(|number| longer.token(number));
    feed(&keeper, tokens(0..5_000));
    assert!(
        keeper.offered().len() > before,
        "the old one has stopped paying"
    );
    let (_, bytes) = feed(&keeper, tokens(5_000..6_000));
    assert!(bytes <= 520.0, "{bytes} bytes");
}

const SERVICE: &[u8] = br#"{"endpoints": [
    {"id": "3fa1b94f17084541b4ee9da3199f1234", "interface": "public", "region_id": "RegionOne",
     "url": "https://blazar.example.internal:1234/v1", "region": "RegionOne"},
    {"id": "0123635f17084541b4ee9da3199f1299", "interface": "internal", "region_id": "RegionOne",
     "url": "https://blazar-internal.example.internal:1234/v1", "region": "RegionOne"}
    ], "id": "90c387be4854d708bb8f7c0dc7923f41", "type": "reservation", "name": "blazar"}"#;

#[test]
fn threads_that_pack_and_unpack_at_once_get_their_own_bytes() {
    let clouds: Vec<Cloud> = (0..3)
        .map(|catalogue| Cloud::new(&RECORDED, catalogue))
        .collect();
    let keeper = Keeper::default();
    let exchange: Mutex<Vec<Sample>> = Mutex::default();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (clouds, keeper, exchange) = (&clouds, &keeper, &exchange);
            scope.spawn(move || {
                let mut room = Room::default();
                let mut random = Random::new(thread);
                for number in 0..600 {
                    // A catalogue more every 200 tokens.
                    let cloud = &clouds[random.below(number / 200 + 1)];
                    let token = cloud.token(thread as usize * 1_000 + number);
                    let token = match number % 3 {
                        0 => mac(&token, &mut random),
                        _ => token,
                    };
                    let stored = pack(keeper, &token, &mut room);
                    let mut exchange = exchange.lock().unwrap();
                    exchange.push((token, stored));
                    let (token, stored) = exchange[random.below(exchange.len())].clone();
                    drop(exchange);
                    assert!(keeper.read(&stored).as_deref() == Ok(&token[..]));
                }
            });
        }
    });
    assert!(keeper.offered().len() >= 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn many_wrong_bytes_are_damage_or_do_not_matter(
        form in 0usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        near_the_front in any::<bool>(),
    ) {
        static FORMS: LazyLock<(Keeper, Vec<Sample>)> = LazyLock::new(|| {
            let mut room = Room::default();
            let keeper = settled(&mut room);
            let forms = forms(&keeper, &mut room);
            (keeper, forms)
        });
        let (keeper, forms) = &*FORMS;
        let (value, stored) = &forms[form];
        let mut bad = stored.bytes.clone();
        for (at, byte) in changes {
            let places = if near_the_front { 24 } else { bad.len() };
            bad[at.index(places)] = byte;
        }
        if let Some(cut) = cut {
            bad.truncate(cut.index(stored.bytes.len()));
        }
        damaged_or_right(&keeper.packing, stored.how, &bad, value);
    }
}

#[test]
fn a_frame_may_announce_any_length() {
    let mut room = Room::default();
    let keeper = settled(&mut room);
    for (value, stored) in forms(&keeper, &mut room) {
        let recorded = value.len() as u64;
        for announced in [
            0,
            1,
            recorded + 1,
            u64::from(u32::MAX),
            1 << 40,
            1 << 62,
            // As base64 it is the recorded length and 2^64.
            (3 << 62) + recorded / 4 * 3,
            u64::MAX - 3,
            u64::MAX - 2,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let frame = frame_head(&announced.to_le_bytes());
            let packed = [head(value.len() as u32, &value), frame, vec![1, 0, 0]].concat();
            let mut out = Vec::new();
            let result = keeper.packing.unpack(stored.how, &packed, &mut out);
            assert_eq!(result, Err(Damaged), "{announced:#x} bytes");
            assert!(out.capacity() <= value.len() + 64);
        }
    }
}

/// One bit of the frame's descriptor turns a length of two bytes into one of eight.
#[test]
fn one_wrong_bit_in_any_signed_value_is_damage_or_does_not_matter() {
    let mut room = Room::default();
    let keeper = settled(&mut room);
    for one in recorded(Strategy::Mac) {
        let stored = pack(&keeper, &one.value, &mut room);
        for bit in 0..24 * 8 {
            let mut bad = stored.bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            damaged_or_right(&keeper.packing, stored.how, &bad, &one.value);
        }
    }
}

fn hides(name: &str, make: impl Fn(&str, &str) -> String) {
    let mut room = Room::default();
    let keeper = Keeper::default();
    let mut secrets = Vec::new();
    let padding = " ".repeat(600);
    for number in 0..200 {
        let mut random = Random::new(number);
        let mut secret = || {
            let text = String::from_utf8(base64(&random.bytes(90)))
                .unwrap()
                .replace('/', "_");
            format!("gAAAAAB{text}")
        };
        let (one, two) = (secret(), secret());
        let json = format!("{}{padding}", make(&one, &two));
        pack(&keeper, json.as_bytes(), &mut room);
        secrets.extend([one, two]);
    }
    for dictionary in keeper.offered() {
        for secret in &secrets {
            // All but what an escape may stand for.
            assert!(
                find(&dictionary, &secret.as_bytes()[8..]).is_none(),
                "{name}: {secret} is in a dictionary"
            );
        }
    }
}

#[test]
fn a_name_written_with_escapes_hides_no_second_bearer_token() {
    hides("first", |one, two| {
        format!(r#"{{"token": {{"auth\u005ftoken": "{one}", "auth_token": "{two}"}}}}"#)
    });
    hides("last", |one, two| {
        format!(r#"{{"token": {{"auth_token": "{one}", "auth\u005ftoken": "{two}"}}}}"#)
    });
}

#[test]
fn a_bearer_token_written_again_with_escapes_is_in_no_dictionary() {
    hides("again", |one, _| {
        let escaped = one.replacen('B', "\\u0042", 1);
        format!(r#"{{"token": {{"auth_token": "{one}", "id": "{escaped}"}}}}"#)
    });
}

/// Two tokens of another catalogue bring its dictionary; then the first catalogue's have one already.
#[test]
fn a_new_dictionary_does_not_push_the_old_one_out() {
    let mut room = Room::default();
    let keeper = settled(&mut room);
    let other = Cloud::new(&RECORDED, 1);
    for number in 0..3 {
        pack(&keeper, &other.token(number), &mut room);
    }
    assert_eq!(keeper.offered().len(), 3);
    let (dictionaries, bytes) = feed(&keeper, (200..600).map(|number| CLOUD.token(number)));
    assert!(dictionaries <= 4, "{dictionaries}");
    assert!(bytes < 520.0, "{bytes} bytes a token");
}

#[test]
fn a_catalogue_seen_seldom_has_its_dictionary_too() {
    let clouds: Vec<Cloud> = (0..2)
        .map(|catalogue| Cloud::new(&RECORDED, catalogue))
        .collect();
    // Which of the two comes first should make no difference.
    for (one_in, seldom_at) in [5, 10, 20, 100]
        .into_iter()
        .flat_map(|one_in| [(one_in, 0), (one_in, 1)])
    {
        let keeper = Keeper::default();
        let token = |number: usize| clouds[usize::from(number % one_in == seldom_at)].token(number);
        feed(&keeper, (0..2_000).map(token));
        let (dictionaries, bytes) = feed(&keeper, (2_000..12_000).map(token));
        // Some of them in the place of others.
        assert!(dictionaries <= 6, "one in {one_in}: {dictionaries}");
        assert!(bytes < 520.0, "one in {one_in}: {bytes} bytes");
    }
}

/// Once the catalogue has one service more: the dictionary made of it, and perhaps one better made.
#[test]
fn a_service_more_in_the_catalogue_settles_on_a_dictionary() {
    let keeper = Keeper::default();
    feed(&keeper, (0..10_000).map(|number| CLOUD.token(number)));
    let longer = CLOUD.with_service(SERVICE);
    let (dictionaries, bytes) = feed(&keeper, (0..30_000).map(|number| longer.token(number)));
    assert!(
        dictionaries <= 3,
        "{dictionaries} dictionaries, {bytes} bytes a token"
    );
}

#[test]
fn garbage_that_begins_like_a_token_does_not_keep_tokens_from_being_packed() {
    let mut room = Room::default();
    let keeper = settled(&mut room);
    for number in 0..100 {
        let garbage = [b"{\"token\": {", &Random::new(number).bytes(3_000)[..]].concat();
        pack(&keeper, &garbage, &mut room);
    }
    let tokens = (0..300).map(|number| CLOUD.token(number));
    for token in tokens {
        assert!(pack(&keeper, &token, &mut room).is_packed());
    }
}

/// Whose tokens differ so much that some come out at half the size of others.
#[test]
fn a_long_catalogue_settles_on_a_dictionary_too() {
    let keeper = Keeper::default();
    let tokens = Tokens::new(Form::Plain, 0, Some(39_000), 1);
    let (dictionaries, bytes) = feed(&keeper, (0..4_000).map(|key| tokens.value(key, 1)));
    assert!(dictionaries <= 3, "{dictionaries}");
    assert!(bytes < 600.0, "{bytes} bytes");
}
