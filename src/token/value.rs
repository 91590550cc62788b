//! The values that keystonemiddleware stores, and the bearer token in them.
//!
//! A plain value is the JSON of one validated token, and holds the bearer token that was validated.
//! With `memcache_security_strategy = MAC` it is 64 base64 characters of signature in front of the
//! base64 of that JSON; with ENCRYPT the signature in front of the base64 of cipher text.
//!
//! Source: keystonemiddleware `auth_token/_cache.py` (`TokenCache.set`, `SecureTokenCache`) and
//! `auth_token/_memcache_crypt.py` (`protect_data`).

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;
use serde::de::IgnoredAny;

/// Bytes of the signature (HMAC-SHA384) once its base64 is undone.
pub const SIGNATURE_BYTES: usize = 48;

/// How the JSON of a validated token begins.
const TOKEN_JSON: &[u8] = b"{\"token\":";

/// What of a bearer token is not blanked: as much as all Fernet tokens share (version, and the first
/// bytes of a 64-bit time), so that it says nothing.
const BEARER_KEPT: usize = 6;

const BLANK: u8 = b'x';

/// Where the JSON of a token begins in a value whose base64 has been undone if it had any: at the
/// front, or behind a signature. `None` for anything else. Looks at a few bytes only, so what is found
/// may still be no JSON.
pub fn token_json_at(content: &[u8]) -> Option<usize> {
    let begins_at = |at: usize| {
        content
            .get(at..)
            .is_some_and(|rest| rest.starts_with(TOKEN_JSON))
    };
    [0, SIGNATURE_BYTES].into_iter().find(|&at| begins_at(at))
}

/// The JSON of a token with the bearer token in it blanked, its length kept; `None` if it is not that,
/// or names a bearer token twice. Reads the JSON twice: some 30 microseconds.
pub fn blanked(json: &[u8]) -> Option<Vec<u8>> {
    serde_json::from_str::<IgnoredAny>(std::str::from_utf8(json).ok()?).ok()?;
    let bearer = bearer_token(json)?;
    if bearer.len() <= BEARER_KEPT {
        return None;
    }
    let finder = memmem::Finder::new(&*bearer);
    let mut blanked = json.to_vec();
    for place in strings(json) {
        let string = unescaped(&json[place.clone()])?;
        if finder.find(&string).is_none() {
            continue;
        }
        let written_out = matches!(string, Cow::Borrowed(_)) && string.len() == bearer.len();
        let kept = if written_out { BEARER_KEPT } else { 0 };
        blanked[place.start + kept..place.end].fill(BLANK);
    }
    Some(blanked)
}

/// The bearer token that a JSON text names; `None` if it names none, or more than one, which would
/// leave it open which of them it is.
fn bearer_token(json: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut bearer = None;
    let mut places = strings(json);
    while let Some(name) = places.next() {
        if *unescaped(&json[name.clone()])? != *b"auth_token" {
            continue;
        }
        let value = places.next()?;
        let between = &json[name.end + 1..value.start - 1];
        let is_its_value = between.trim_ascii() == b":";
        if !is_its_value || bearer.is_some() {
            return None;
        }
        bearer = Some(unescaped(&json[value])?);
    }
    bearer
}

/// How a token's catalogue begins: what tells one catalogue from another, since it has the id of the
/// first endpoint. `None` for a token without one.
pub fn catalogue_begin(json: &[u8]) -> Option<&[u8]> {
    const BYTES: usize = 64;
    let name = b"\"catalog\"";
    let rest = &json[memmem::find(json, name)? + name.len()..];
    let begin = &rest[..rest.len().min(BYTES)];
    // Behind an empty catalogue stands what is the token's own.
    let end = memchr::memchr(b']', begin).unwrap_or(begin.len());
    Some(&begin[..end])
}

/// How much of a token's JSON stands before its catalogue.
pub fn head_bytes(json: &[u8]) -> usize {
    memmem::find(json, b"\"catalog\"").unwrap_or(json.len())
}

/// Where the strings of a JSON text lie, names among them, without their quotation marks.
fn strings(json: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let begin = next + memchr::memchr(b'"', &json[next..])? + 1;
        let mut end = begin;
        loop {
            end += memchr::memchr2(b'"', b'\\', &json[end..])?;
            if json[end] == b'"' {
                break;
            }
            // Whatever is escaped does not end the string.
            end += 2;
        }
        next = end + 1;
        Some(begin..end)
    })
}

/// What a string of a JSON text stands for.
fn unescaped(string: &[u8]) -> Option<Cow<'_, [u8]>> {
    if memchr::memchr(b'\\', string).is_none() {
        return Some(Cow::Borrowed(string));
    }
    let quoted = [b"\"", string, b"\""].concat();
    let text: String = serde_json::from_slice(&quoted).ok()?;
    Some(Cow::Owned(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(bearer: &str) -> Vec<u8> {
        format!(
            r#"{{"token": {{"methods": ["password"], "auth_token": "{bearer}", "version": "v3"}}}}"#
        )
        .into_bytes()
    }

    #[test]
    fn a_token_is_known_by_its_beginning_with_and_without_a_signature() {
        let json = token("gAAAAABsecret");
        assert_eq!(token_json_at(&json), Some(0));
        let signed = [&[7; SIGNATURE_BYTES], &json[..]].concat();
        assert_eq!(token_json_at(&signed), Some(SIGNATURE_BYTES));
        for other in [&b"{\"tokens\": 1}"[..], b"", b"{\"token\"", &signed[1..]] {
            assert_eq!(token_json_at(other), None);
        }
    }

    #[test]
    fn nothing_of_the_bearer_token_but_what_all_share_is_left() {
        let json = token("gAAAAABsecretsecret");
        let blanked = blanked(&json).unwrap();
        assert_eq!(blanked.len(), json.len());
        let text = String::from_utf8(blanked).unwrap();
        assert!(
            text.contains(r#""auth_token": "gAAAAAxxxxxxxxxxxxx""#),
            "{text}"
        );
        assert!(text.contains(r#""version": "v3""#));
    }

    #[test]
    fn a_catalogue_is_told_by_its_first_endpoint() {
        let token = |id: &str, user: &str| {
            format!(
                r#"{{"token": {{"user": "{user}", "catalog": [{{"endpoints": [{{"id": "{id}", "url": "{user}"}}]}}]}}}}"#
            )
        };
        let (one, two) = (
            "5a56597e1df946ceb3b1b6f75990413a",
            "01961ef411a14de0b5cdf3ad8df9deae",
        );
        let begin = |json: &str| catalogue_begin(json.as_bytes()).map(<[u8]>::to_vec);
        assert_eq!(begin(&token(one, "a")), begin(&token(one, "bb")));
        assert_ne!(begin(&token(one, "a")), begin(&token(two, "a")));
        assert_eq!(
            begin(r#"{"token": {"catalog": [], "id": "1"}}"#),
            Some(b": [".to_vec())
        );
        assert_eq!(begin(r#"{"token": {}}"#), None);
        assert_eq!(begin(r#"{"token": {"catalog""#), Some(Vec::new()));
    }

    #[test]
    fn a_bearer_token_is_blanked_wherever_it_stands() {
        let json = br#"{"token": {"auth_token": "gAAAAABsecret", "id": "gAAAAABsecret"}}"#;
        let text = String::from_utf8(blanked(json).unwrap()).unwrap();
        assert!(!text.contains("Bsecret"));
    }

    #[test]
    fn a_bearer_token_written_with_escapes_is_blanked_too() {
        for json in [
            &br#"{"token": {"auth_token": "gAAAAABsecret", "id": "gAAAAA\u0042secret"}}"#[..],
            br#"{"token": {"auth_token": "gAAAAA\u0042secret", "id": "\\gAAAAABsecret\""}}"#,
        ] {
            let text = String::from_utf8(blanked(json).unwrap()).unwrap();
            assert!(!text.contains("secret"), "{text}");
            assert!(text.ends_with("\"}}") && text.contains("\"id\""), "{text}");
        }
    }

    #[test]
    fn names_in_other_scripts_do_not_matter() {
        let json =
            br#"{"token": {"user": {"name": "J\u00fcrgen \"\\"}, "auth_token": "gAAAAABsecret"}}"#;
        let text = String::from_utf8(blanked(json).unwrap()).unwrap();
        assert!(text.contains(r#""J\u00fcrgen \"\\""#) && !text.contains("secret"));
    }

    #[test]
    fn what_does_not_say_which_its_bearer_token_is_gives_nothing() {
        let twice = br#"{"token": {"auth_token": "gAAAAAone-", "auth_token": "gAAAAAtwo-"}}"#;
        let hidden = br#"{"token": {"auth\u005ftoken": "gAAAAAone-", "auth_token": "gAAAAAtwo-"}}"#;
        let nothing = br#"{"token": {"version": "v3"}}"#;
        let number = br#"{"token": {"auth_token": 12345678}}"#;
        let short = br#"{"token": {"auth_token": "gAAAAA"}}"#;
        let cut = br#"{"token": {"auth_token": "gAAAAABsecret""#;
        for json in [&twice[..], hidden, nothing, number, short, cut, b"", b"[]"] {
            assert_eq!(blanked(json), None);
        }
    }
}
