//! What a client keeps in the cache, told by the shapes of keys and values: for statistics alone.
//!
//! The engine asks [`Class::of`] when a value is stored and keeps the answer with the item, so that a hit costs
//! nothing; of a key that is not there, [`Class::of_missing`] tells what the key does. A few bytes are
//! looked at; nothing is decoded.
//!
//! Invariant: a value that its client has compressed looks like nothing, so a protected token
//! is then taken for an encrypted one.
//!
//! Source: keystonemiddleware `auth_token/_cache.py` (`TokenCache`, `SecureTokenCache`) and
//! `auth_token/_memcache_crypt.py`; dogpile.cache `cache/region.py` and `cache/util.py`
//! (`sha1_mangle_key`, which oslo.cache applies).

use memchr::memmem;
use serde::{Deserialize, Serialize};

/// A kind of items. Written and read by its [`name`](Class::name).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Class {
    /// Anything else.
    #[default]
    Other,
    /// A validated token as plain JSON.
    Token,
    /// One that is signed (`memcache_security_strategy = MAC`).
    TokenMac,
    /// One that is encrypted (`ENCRYPT`).
    TokenEncrypt,
    /// What dogpile.cache stores, oslo.cache with it.
    Dogpile,
}

impl Class {
    /// All classes, in the order of their numbers.
    pub const ALL: [Class; 5] = [
        Class::Other,
        Class::Token,
        Class::TokenMac,
        Class::TokenEncrypt,
        Class::Dogpile,
    ];

    /// Its one word.
    pub fn name(self) -> &'static str {
        match self {
            Class::Other => "other",
            Class::Token => "token",
            Class::TokenMac => "token_mac",
            Class::TokenEncrypt => "token_encrypt",
            Class::Dogpile => "dogpile",
        }
    }

    /// The class of this number, which is its `as u8`; [`Class::Other`] for a number that is none.
    pub fn from_number(number: u8) -> Class {
        Class::ALL
            .get(usize::from(number))
            .copied()
            .unwrap_or_default()
    }

    /// Whether a hit spares Keystone a validation.
    pub fn is_token(self) -> bool {
        matches!(self, Class::Token | Class::TokenMac | Class::TokenEncrypt)
    }

    /// The class of a value as its client gave it; of one whose bytes are not at hand, what its key tells.
    pub fn of(key: &[u8], value: &[u8]) -> Class {
        match Shape::of(key) {
            Shape::Known(class) => class,
            Shape::Protected if is_mac(value) => Class::TokenMac,
            Shape::Protected => Class::TokenEncrypt,
            Shape::Any if is_dogpile(value) => Class::Dogpile,
            Shape::Any => Class::Other,
        }
    }

    /// The class of a key that is not there. Signed and encrypted tokens have keys of the same shape: they
    /// are taken for `protected`, the class of the last such value that was seen.
    pub fn of_missing(key: &[u8], protected: Class) -> Class {
        match Shape::of(key) {
            Shape::Known(class) => class,
            Shape::Protected => protected,
            Shape::Any => Class::Other,
        }
    }

    /// Whether [`Class::of_missing`] needs to be told of it.
    pub fn is_protected(self) -> bool {
        matches!(self, Class::TokenMac | Class::TokenEncrypt)
    }
}

/// What a key alone tells.
enum Shape {
    Known(Class),
    /// A token, signed or encrypted.
    Protected,
    Any,
}

impl Shape {
    fn of(key: &[u8]) -> Shape {
        const SHA256_DIGITS: usize = 64;
        const SHA1_DIGITS: usize = 40;
        match key.strip_prefix(b"tokens/") {
            Some(hash) if is_hex(hash, SHA256_DIGITS) => Shape::Known(Class::Token),
            Some(hash) if is_derived(hash) => Shape::Protected,
            None if is_hex(key, SHA1_DIGITS) => Shape::Known(Class::Dogpile),
            _ => Shape::Any,
        }
    }
}

fn is_hex(text: &[u8], digits: usize) -> bool {
    text.len() == digits
        && text
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it is the base64 of 16 bytes, as text or, as keystonemiddleware writes it, as Python shows bytes.
fn is_derived(hash: &[u8]) -> bool {
    let shown = hash
        .strip_prefix(b"b'")
        .and_then(|rest| rest.strip_suffix(b"'"));
    let base64 = shown.unwrap_or(hash);
    let in_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    base64.len() == 24 && base64.ends_with(b"==") && base64[..22].iter().all(in_base64)
}

/// Whether the JSON of a token, in base64, stands behind a signature.
fn is_mac(value: &[u8]) -> bool {
    const SIGNATURE_BASE64_BYTES: usize = 64;
    /// `{"token":`
    const TOKEN_JSON_BASE64: &[u8] = b"eyJ0b2tlbiI6";
    let signed = value.get(SIGNATURE_BASE64_BYTES..);
    signed.is_some_and(|json| json.starts_with(TOKEN_JSON_BASE64))
}

/// Whether a value begins like a pickled `CachedValue`, in any protocol, or like the metadata that
/// dogpile.cache writes in front of what was made bytes already.
fn is_dogpile(value: &[u8]) -> bool {
    const LOOKED_AT: usize = 64;
    let begin = &value[..value.len().min(LOOKED_AT)];
    begin.starts_with(b"{\"ct\": ") || memmem::find(begin, b"dogpile.cache.api").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: &[u8] = b"179c37d1cedb6c37c62743c5cc480e223fafd611";

    #[test]
    fn keys_tell_what_they_can() {
        let sha256 = [b"tokens/".as_slice(), &[b'7'; 64]].concat();
        let upper = [b"tokens/".as_slice(), &[b'A'; 64]].concat();
        for (key, value, class) in [
            (&*sha256, &b""[..], Class::Token),
            (&*sha256, b"x\x9c", Class::Token),
            (SHA1, b"x\x9c", Class::Dogpile),
            (&upper, b"", Class::Other),
            (&sha256[..70], b"", Class::Other),
            (&sha256[7..], b"", Class::Other),
            (b"tokens/", b"", Class::Other),
            (b"tokens/b'e7PSPGeLAJdlFybzQtwZ!Q=='", b"", Class::Other),
            (b"k", b"{\"token\": {}}", Class::Other),
        ] {
            assert_eq!(Class::of(key, value), class, "{}", key.escape_ascii());
            let missing = Class::of_missing(key, Class::TokenMac);
            assert_eq!(missing, class, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_protected_token_is_signed_or_else_encrypted() {
        let signed = [&[b'S'; 64], &b"eyJ0b2tlbiI6IHsi"[..]].concat();
        for key in [
            &b"tokens/b'e7PSPGeLAJdlFybzQtwZWQ=='"[..],
            b"tokens/e7PSPGeL+/dlFybzQtwZWQ==",
        ] {
            assert_eq!(Class::of(key, &signed), Class::TokenMac);
            for other in [&signed[1..], &signed[..70], b"", b"x\x9c"] {
                assert_eq!(Class::of(key, other), Class::TokenEncrypt);
            }
            for last in [Class::TokenMac, Class::TokenEncrypt] {
                assert_eq!(Class::of_missing(key, last), last);
            }
        }
    }

    #[test]
    fn what_dogpile_writes_is_known_under_any_key() {
        let protocol_4 = b"\x80\x04\x95\x84\0\0\0\0\0\0\0\x8c\x11dogpile.cache.api\x94";
        for value in [
            &b"ccopy_reg\n_reconstructor\np0\n(cdogpile.cache.api\nCachedValue\np1\n"[..],
            protocol_4,
            b"{\"ct\": 1763971200.5, \"v\": 1}|\x80\x04",
        ] {
            assert_eq!(Class::of(b"k", value), Class::Dogpile);
        }
        let far = [&[b' '; 64], &b"dogpile.cache.api"[..]].concat();
        assert_eq!(Class::of(b"k", &far), Class::Other);
    }

    #[test]
    fn a_class_comes_back_from_its_number() {
        for class in Class::ALL {
            assert_eq!(Class::from_number(class as u8), class);
        }
        assert_eq!(Class::from_number(7), Class::Other);
    }
}
