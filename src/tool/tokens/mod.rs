//! What keystonemiddleware caches: a value for each of any number of distinct project-scoped
//! tokens, in the three forms that `memcache_security_strategy` gives it.
//!
//! [`body`] has the JSON of a token with gaps where tokens differ, [`catalogue`] the service
//! catalogue that fills most of it, [`fields`] what goes into the gaps. Here they become values.
//! [`Workload`](super::workload::Workload) takes its values from here when they are to be tokens;
//! tests and benchmarks may too.
//!
//! `heads.txt` and `catalogue.txt` are the data: 64 of the scoped tokens of
//! `tests/corpus/tokens.jsonl.zst`, evenly from all of its kinds, without what is a token's own,
//! and the one catalogue of all of them. They were recorded from a Keystone 30.0.0 that was set up
//! to be thrown away and is gone; nothing in them is worth anything.
//!
//! A value is made from the key's number and a version, which also stands in it: in the first four
//! bytes of the audit id of a plain token, or of the signature of a protected one, spread so that
//! it looks as random as the rest. Another version of a key has the same length.
//!
//! Invariants: *the form is keystonemiddleware's*, byte for byte, lengths and key included; *no two
//! alike*, each token has a bearer token, user and audit id of its own; *a check is cheap*, nothing
//! but the few bytes that are a token's own is made again (and the whole, once, where it is
//! signed), so that the one who asks stays faster than the one who is asked.

pub mod body;
pub mod catalogue;
pub mod fields;

use super::keys;
use super::random::{Random, mix};
use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use body::Body;
use catalogue::Catalogue;
use std::str::FromStr;

/// Client flags of every value, as python-memcached sets them for bytes.
pub const FLAGS: u32 = 0;

/// Characters of the signature in front of a protected value: 48 bytes, base64.
const SIGNATURE_CHARS: usize = 64;

/// Bytes in front of an encrypted token that AES-CBC takes to begin with.
const IV_BYTES: usize = 16;

/// Bytes that AES encrypts at once; it is given whole blocks.
const BLOCK_BYTES: usize = 16;

/// Where in the pad an encrypted value may begin, in groups of four characters.
const PAD_GROUPS: usize = 1 << 18;

/// What `memcache_security_strategy` makes of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The JSON as it is; no strategy.
    Plain,
    /// `MAC`: a signature and the JSON, both in base64.
    Mac,
    /// `ENCRYPT`: a signature and what nobody can read, both in base64.
    Encrypt,
}

impl FromStr for Form {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "tokens" => Ok(Form::Plain),
            "mac" => Ok(Form::Mac),
            "encrypt" => Ok(Form::Encrypt),
            _ => Err(()),
        }
    }
}

impl Form {
    /// What no value is longer than, when its catalogue was asked to have so many bytes.
    pub fn value_bytes_at_most(self, catalogue_bytes: Option<usize>) -> usize {
        let json = body::HEAD_BYTES_MAX + catalogue::bytes_at_most(catalogue_bytes);
        self.value_bytes(json)
    }

    fn value_bytes(self, json_bytes: usize) -> usize {
        match self {
            Form::Plain => json_bytes,
            Form::Mac => SIGNATURE_CHARS + STANDARD.encoded_length(json_bytes),
            Form::Encrypt => SIGNATURE_CHARS + STANDARD.encoded_length(encrypted(json_bytes)),
        }
    }
}

/// Bytes that so many bytes have when they are encrypted: padded to whole blocks, by at least one
/// byte.
fn encrypted(bytes: usize) -> usize {
    IV_BYTES + (bytes / BLOCK_BYTES + 1) * BLOCK_BYTES
}

/// Makes and checks the tokens of one cloud; about 250 KB, and 1 MiB more for
/// [`Form::Encrypt`].
#[derive(Debug)]
pub struct Tokens {
    form: Form,
    seed: u64,
    bodies: Vec<Body>,
    /// Base64 of random bytes; empty unless values are encrypted.
    pad: Vec<u8>,
}

impl Tokens {
    /// Tokens with the catalogue of this number: 0 is the recorded one, another has other ids, URLs
    /// and names throughout.
    ///
    /// With `catalogue_bytes`, it has at least so many and as few services as that takes. Tokens of
    /// another form, catalogue or seed have other keys, so what one left behind in a server is
    /// nothing that another can find and take for wrong.
    pub fn new(
        form: Form,
        catalogue_number: u64,
        catalogue_bytes: Option<usize>,
        seed: u64,
    ) -> Self {
        let catalogue = Catalogue::new(catalogue_number, catalogue_bytes);
        let sized = catalogue_bytes.map_or(u64::MAX, |bytes| bytes as u64);
        let seed = [form as u64, catalogue_number, sized]
            .into_iter()
            .fold(mix(seed), |seed, number| mix(seed ^ mix(number)));
        let bodies = body::recorded(&catalogue);
        let most = bodies.iter().map(Body::bytes).max().unwrap_or(0);
        let pad = match form {
            Form::Encrypt => pad(seed, PAD_GROUPS + encrypted(most) / 3),
            Form::Plain | Form::Mac => Vec::new(),
        };
        Tokens {
            form,
            seed,
            bodies,
            pad,
        }
    }

    /// Bytes of every key.
    pub fn key_bytes(&self) -> usize {
        match self.form {
            Form::Plain => keys::PLAIN_BYTES,
            Form::Mac | Form::Encrypt => keys::PROTECTED_BYTES,
        }
    }

    /// Appends the key of this number.
    pub fn push_key(&self, key: u64, out: &mut Vec<u8>) {
        match self.form {
            Form::Plain => keys::push_plain(self.seed, key, out),
            Form::Mac | Form::Encrypt => keys::push_protected(self.seed, key, out),
        }
    }

    /// Bytes of each version of this key's value.
    pub fn value_bytes(&self, key: u64) -> usize {
        self.form.value_bytes(self.body(key).bytes())
    }

    /// This version of this key's value.
    pub fn value(&self, key: u64, version: u32) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.value_bytes(key));
        self.push_value(key, version, &mut value);
        value
    }

    /// Appends this version of this key's value.
    pub fn push_value(&self, key: u64, version: u32, out: &mut Vec<u8>) {
        self.each_piece(key, version, |piece| out.extend_from_slice(piece));
    }

    /// The version of which `value` is exactly the bytes; `None` if it is of none.
    pub fn version_of(&self, key: u64, value: &[u8]) -> Option<u32> {
        let version = self.spread_version(key, self.mark_seen(key, value)?);
        let mut rest = Some(value);
        self.each_piece(key, version, |piece| {
            rest = rest.and_then(|rest| rest.strip_prefix(piece));
        });
        rest.is_some_and(<[u8]>::is_empty).then_some(version)
    }

    /// The pieces of a value, in their order.
    fn each_piece(&self, key: u64, version: u32, mut piece: impl FnMut(&[u8])) {
        let mark = self.spread_version(key, version);
        let mut random = Random::new(mix(self.seed ^ mix(key)) ^ mix(!u64::from(version)));
        let body = self.body(key);
        if self.form != Form::Plain {
            piece(&signature(&mut random, mark));
        }
        match self.form {
            Form::Plain => body.each_piece(&mut random, mark, piece),
            Form::Mac => {
                let mut json = Vec::with_capacity(body.bytes());
                body.each_piece(&mut random, mark, |part| json.extend_from_slice(part));
                piece(STANDARD.encode_to_string(&json).as_bytes());
            }
            Form::Encrypt => {
                let bytes = encrypted(body.bytes());
                let at = random.below(PAD_GROUPS as u64) as usize * 4;
                piece(&self.pad[at..][..bytes / 3 * 4]);
                let last: [u8; 2] = random.bytes();
                piece(STANDARD.encode_to_string(&last[..bytes % 3]).as_bytes());
            }
        }
    }

    fn body(&self, key: u64) -> &Body {
        let at = mix(self.seed ^ mix(!key)) % self.bodies.len() as u64;
        &self.bodies[at as usize]
    }

    /// A version as it stands in a value, and back.
    fn spread_version(&self, key: u64, version: u32) -> u32 {
        version ^ mix(self.seed ^ mix(key)) as u32
    }

    /// The mark in a value, which may not be one of ours.
    fn mark_seen(&self, key: u64, value: &[u8]) -> Option<u32> {
        let (alphabet, at) = match self.form {
            Form::Plain => (URL_SAFE_NO_PAD, self.body(key).audit_at()),
            Form::Mac | Form::Encrypt => (STANDARD, 0),
        };
        // Eight characters are six bytes; the mark is the first four of them.
        let start = alphabet.decode_to_vec(value.get(at..at + 8)?).ok()?;
        Some(u32::from_be_bytes(*start.first_chunk()?))
    }
}

/// Base64 of `groups` times three random bytes.
fn pad(seed: u64, groups: usize) -> Vec<u8> {
    let mut random = vec![0; groups * 3];
    Random::new(mix(seed)).fill(&mut random);
    STANDARD.encode_to_string(&random).into_bytes()
}

/// 48 random bytes that begin with `mark`, in base64.
fn signature(random: &mut Random, mark: u32) -> [u8; SIGNATURE_CHARS] {
    let mut bytes: [u8; 48] = random.bytes();
    bytes[..4].copy_from_slice(&mark.to_be_bytes());
    fields::encoded(&STANDARD, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::HashSet;

    const FORMS: [Form; 3] = [Form::Plain, Form::Mac, Form::Encrypt];

    fn plain() -> Tokens {
        Tokens::new(Form::Plain, 0, None, 1)
    }

    fn key(tokens: &Tokens, number: u64) -> Vec<u8> {
        let mut key = Vec::new();
        tokens.push_key(number, &mut key);
        assert_eq!(key.len(), tokens.key_bytes());
        key
    }

    fn token(json: &[u8]) -> Value {
        let mut value: Value = serde_json::from_slice(json).unwrap();
        value["token"].take()
    }

    /// The recorded scoped tokens that were cached with this strategy: key and value.
    fn recorded(strategy: &str) -> Vec<(String, Vec<u8>)> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/tokens.jsonl.zst");
        let lines = zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap();
        let lines = std::str::from_utf8(&lines).unwrap().lines();
        let values = lines.filter_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = line["value_b64"].as_str().unwrap();
            let value = STANDARD.decode_to_vec(text).unwrap();
            (line["strategy"] == strategy && value.len() > 10_000)
                .then(|| (line["key"].as_str().unwrap().to_owned(), value))
        });
        values.collect()
    }

    /// Python's JSON, which is the recorded form, of a made or recorded token with everything of
    /// its own blotted out.
    fn outline(json: &[u8]) -> String {
        let token = token(json);
        let mut text = String::from_utf8(json.to_vec()).unwrap();
        let own = |value: &Value| value.as_str().map(str::to_owned);
        let audits = token["audit_ids"].as_array().unwrap().iter();
        let user = &token["user"];
        let all = [&token["auth_token"], &user["id"], &token["expires_at"]];
        for value in all.into_iter().chain([&token["issued_at"]]).chain(audits) {
            text = text.replace(&own(value).unwrap(), "_");
        }
        let name = own(&user["name"]).unwrap();
        let kind = name.split(['-', '@']).next().unwrap();
        text.replacen(&format!(r#""{name}""#), kind, 1)
    }

    fn recorded_outlines() -> HashSet<String> {
        let recorded = recorded("none");
        recorded.iter().map(|(_, json)| outline(json)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_other_keys() {
        for form in FORMS {
            let [one, two] = [(); 2].map(|()| Tokens::new(form, 0, None, 7));
            let others = [
                Tokens::new(form, 0, None, 8),
                Tokens::new(form, 1, None, 7),
                Tokens::new(form, 0, Some(12_072), 7),
            ];
            for number in 0..20 {
                assert_eq!(one.value(number, 3), two.value(number, 3));
                assert_eq!(key(&one, number), key(&two, number));
                for other in &others {
                    assert_ne!(key(&one, number), key(other, number));
                    assert_ne!(one.value(number, 3), other.value(number, 3));
                }
            }
        }
    }

    #[test]
    fn a_value_tells_its_version_and_any_changed_byte_is_seen() {
        for form in FORMS {
            let tokens = Tokens::new(form, 0, Some(2_000), 1);
            for number in 0..8 {
                let mut value = tokens.value(number, 9);
                assert_eq!(value.len(), tokens.value_bytes(number));
                assert_eq!(tokens.version_of(number, &value), Some(9));
                assert_eq!(tokens.version_of(number + 1, &value), None);
                for at in 0..value.len() {
                    value[at] ^= 1;
                    assert_eq!(tokens.version_of(number, &value), None, "{form:?} {at}");
                    value[at] ^= 1;
                }
                let longer = [&value[..], b"}"].concat();
                assert_eq!(tokens.version_of(number, &longer), None);
                value.pop();
                assert_eq!(tokens.version_of(number, &value), None);
                assert_eq!(tokens.version_of(number, b""), None);
            }
        }
    }

    #[test]
    fn versions_are_told_apart() {
        for form in FORMS {
            let tokens = Tokens::new(form, 0, None, 1);
            for version in [0, 1, 2, 1 << 16, u32::MAX] {
                let value = tokens.value(3, version);
                assert_eq!(tokens.version_of(3, &value), Some(version));
            }
        }
    }

    #[test]
    fn plain_tokens_are_recorded_ones_but_for_what_is_their_own() {
        let outlines = recorded_outlines();
        let (tokens, mut seen) = (plain(), HashSet::new());
        for number in 0..1000 {
            let made = outline(&tokens.value(number, 1));
            assert!(outlines.contains(&made), "{}", &made[..500]);
            seen.insert(made);
        }
        assert!(seen.len() > 50, "{}", seen.len());
    }

    #[test]
    fn every_plain_token_has_an_identity_of_its_own() {
        let (tokens, mut seen) = (plain(), HashSet::new());
        for number in 0..1000 {
            let token = token(&tokens.value(number, 1));
            let user = &token["user"];
            for own in [&token["auth_token"], &user["id"], &user["name"]] {
                assert!(seen.insert(own.to_string()), "{own}");
            }
            for audit in token["audit_ids"].as_array().unwrap() {
                assert!(seen.insert(audit.to_string()), "{audit}");
            }
        }
    }

    #[test]
    fn the_project_stands_in_the_catalogue_where_keystone_puts_it() {
        let tokens = plain();
        for number in 0..100 {
            let token = token(&tokens.value(number, 1));
            let project = token["project"]["id"].as_str().unwrap();
            let catalogue = token["catalog"].to_string();
            assert_eq!(catalogue.matches(project).count(), 15);
        }
    }

    #[test]
    fn sizes_are_those_of_recorded_tokens_and_follow_the_catalogue() {
        let longer = Tokens::new(Form::Plain, 0, Some(39_000), 1);
        for number in 0..200 {
            assert!((12_900..13_500).contains(&plain().value_bytes(number)));
            assert!((39_000..42_000).contains(&longer.value(number, 1).len()));
        }
        assert_eq!(token(&longer.value(1, 1))["version"], "v3");
        for form in FORMS {
            for bytes in [None, Some(0), Some(39_000)] {
                let tokens = Tokens::new(form, u64::MAX, bytes, 1);
                let most = (0..200).map(|number| tokens.value_bytes(number)).max();
                assert!(most.unwrap() <= form.value_bytes_at_most(bytes));
            }
        }
    }

    #[test]
    fn a_mac_is_48_bytes_and_then_the_token() {
        let tokens = Tokens::new(Form::Mac, 0, None, 1);
        let outlines = recorded_outlines();
        for number in 0..50 {
            let value = tokens.value(number, 2);
            let (signature, json) = value.split_at(SIGNATURE_CHARS);
            assert_eq!(STANDARD.decode_to_vec(signature).unwrap().len(), 48);
            let json = STANDARD.decode_to_vec(json).unwrap();
            assert!(outlines.contains(&outline(&json)));
        }
    }

    #[test]
    fn an_encrypted_value_is_canonical_base64_of_whole_blocks() {
        let tokens = Tokens::new(Form::Encrypt, 0, None, 1);
        let mut pads = HashSet::new();
        for number in 0..50 {
            let value = tokens.value(number, 2);
            let bytes = STANDARD.decode_to_vec(&value).unwrap();
            assert_eq!(STANDARD.encode_to_string(&bytes).as_bytes(), value);
            assert_eq!((bytes.len() - 48) % BLOCK_BYTES, 0);
            pads.insert(value.iter().filter(|char| **char == b'=').count());
        }
        assert!(pads.len() > 1, "lengths differ in how they end: {pads:?}");
    }

    #[test]
    fn protected_tokens_have_the_lengths_that_recorded_ones_have() {
        let plain: Vec<_> = recorded("none").into_iter().take(50).collect();
        for (form, strategy) in [(Form::Mac, "mac"), (Form::Encrypt, "encrypt")] {
            let tokens = Tokens::new(form, 0, None, 1);
            for ((_, json), (name, value)) in plain.iter().zip(recorded(strategy)) {
                assert_eq!(form.value_bytes(json.len()), value.len());
                assert_eq!(name.len(), tokens.key_bytes());
            }
        }
    }
}
