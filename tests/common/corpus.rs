//! The recorded values of `tests/corpus`, and as many more tokens like them as a test asks for.

#![allow(dead_code)] // Every program that includes this file uses its own part of it.

use std::fs;
use std::ops::Range;
use std::path::Path;

use serde_json::Value as Json;

/// How keystonemiddleware protected a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Plain,
    Mac,
    Encrypt,
}

/// A value that crossed the wire, byte for byte.
pub struct Recorded {
    pub key: Vec<u8>,
    pub strategy: Strategy,
    pub value: Vec<u8>,
}

/// All recorded values, in the order of the file.
pub fn recorded() -> Vec<Recorded> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/tokens.jsonl.zst");
    let lines = zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
    let lines = lines.split(|&byte| byte == b'\n');
    lines.filter(|line| !line.is_empty()).map(read).collect()
}

fn read(line: &[u8]) -> Recorded {
    let line: Json = serde_json::from_slice(line).unwrap();
    let text = |name: &str| line[name].as_str().unwrap();
    Recorded {
        key: text("key").into(),
        strategy: match text("strategy") {
            "none" => Strategy::Plain,
            "mac" => Strategy::Mac,
            "encrypt" => Strategy::Encrypt,
            other => panic!("no strategy of keystonemiddleware: {other}"),
        },
        value: undo_base64(text("value_b64").as_bytes()),
    }
}

impl Recorded {
    /// The JSON of the token; `None` where it is encrypted.
    pub fn json(&self) -> Option<Vec<u8>> {
        match self.strategy {
            Strategy::Plain => Some(self.value.clone()),
            Strategy::Mac => Some(undo_base64(&self.value[64..])),
            Strategy::Encrypt => None,
        }
    }

    /// Its bearer token; `None` where it is encrypted.
    pub fn bearer(&self) -> Option<Vec<u8>> {
        Some(bearer(&self.json()?).to_vec())
    }

    /// Whether the token is scoped to a project, so that it carries the catalogue.
    pub fn is_scoped(&self) -> bool {
        self.value.len() > 10_000
    }
}

pub fn undo_base64(text: &[u8]) -> Vec<u8> {
    base64_simd::STANDARD.decode_to_vec(text).unwrap()
}

pub fn base64(bytes: &[u8]) -> Vec<u8> {
    base64_simd::STANDARD.encode_to_string(bytes).into_bytes()
}

/// A token as `memcache_security_strategy = MAC` stores it, with any bytes as signature.
pub fn mac(json: &[u8], random: &mut Random) -> Vec<u8> {
    [base64(&random.bytes(48)), base64(json)].concat()
}

/// The bearer token in the JSON of a recorded token.
pub fn bearer(json: &[u8]) -> &[u8] {
    &json[behind(json, b"\"auth_token\": ")]
}

/// Where the text in quotes behind `name` stands.
fn behind(json: &[u8], name: &[u8]) -> Range<usize> {
    let start = find(json, name).unwrap() + name.len();
    let start = start + find(&json[start..], b"\"").unwrap() + 1;
    start..start + find(&json[start..], b"\"").unwrap()
}

/// Where `needle` first stands.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(hay, needle)
}

/// Numbers that are the same in each run: Marsaglia's xorshift.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// Overwrites letters and digits, each by one of `alphabet`.
    fn letters(&mut self, bytes: &mut [u8], alphabet: &[u8]) {
        for byte in bytes.iter_mut().filter(|byte| byte.is_ascii_alphanumeric()) {
            *byte = alphabet[self.below(alphabet.len())];
        }
    }
}

const HEX: &[u8] = b"0123456789abcdef";
const DIGITS: &[u8] = b"0123456789";
const BASE64_URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A cloud of the recorded one's kind, that gives out as many project-scoped tokens as one likes. Its
/// catalogue has the services of the recorded one, with identifiers of its own; catalogue 0 is the
/// recorded one.
pub struct Cloud {
    tokens: Vec<Vec<u8>>,
}

impl Cloud {
    pub fn new(recorded: &[Recorded], catalogue: u64) -> Cloud {
        let plain = recorded
            .iter()
            .filter(|one| one.strategy == Strategy::Plain && one.is_scoped());
        let tokens = plain.map(|one| with_catalogue(&one.value, catalogue));
        Cloud {
            tokens: tokens.collect(),
        }
    }

    /// The cloud once a service has been added to the front of its catalogue.
    pub fn with_service(&self, service: &[u8]) -> Cloud {
        let tokens = self.tokens.iter().map(|json| {
            let at = find(json, b"\"catalog\": [").unwrap() + b"\"catalog\": [".len();
            [&json[..at], service, b", ", &json[at..]].concat()
        });
        Cloud {
            tokens: tokens.collect(),
        }
    }

    /// The JSON of a token of this number: one of the recorded users, with what is new in each token
    /// made anew.
    pub fn token(&self, number: usize) -> Vec<u8> {
        let mut random = Random::new(number as u64 + 1);
        let mut json = self.tokens[number % self.tokens.len()].clone();
        let audit_ids = behind(&json, b"\"audit_ids\": ");
        random.letters(&mut json[audit_ids], BASE64_URL);
        for name in [&b"\"expires_at\": "[..], b"\"issued_at\": "] {
            let minutes = behind(&json, name).start + b"2026-11-22T08:".len();
            random.letters(&mut json[minutes..minutes + 5], DIGITS);
        }
        let bearer = behind(&json, b"\"auth_token\": ");
        random.letters(
            &mut json[bearer.start + b"gAAAAABrAp".len()..bearer.end],
            BASE64_URL,
        );
        json
    }
}

fn with_catalogue(json: &[u8], catalogue: u64) -> Vec<u8> {
    let mut json = json.to_vec();
    if catalogue == 0 {
        return json;
    }
    let mut random = Random::new(catalogue);
    let end = find(&json, b"\"version\": \"v3\"").unwrap();
    let mut at = find(&json, b"\"catalog\": ").unwrap();
    while let Some(next) = find(&json[at..end], b"\"id\": \"") {
        at += next + b"\"id\": \"".len();
        random.letters(&mut json[at..at + 32], HEX);
    }
    json
}
