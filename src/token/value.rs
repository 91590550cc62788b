//! The values that keystonemiddleware stores, and the bearer token in them.
//!
//! A plain value is the JSON of one validated token, and holds the bearer token that was validated.
//! With `memcache_security_strategy = MAC` it is 64 base64 characters of signature in front of the
//! base64 of that JSON; with ENCRYPT the signature in front of the base64 of cipher text.
//!
//! Source: keystonemiddleware `auth_token/_cache.py` (`TokenCache.set`, `SecureTokenCache`) and
//! `auth_token/_memcache_crypt.py` (`protect_data`).

use memchr::memmem;
use serde_json::Value;

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
/// or does not say beyond doubt where its bearer token is. Parses the JSON: some 50 microseconds.
pub fn blanked(json: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(json).ok()?;
    let bearer = value.get("token")?.get("auth_token")?.as_str()?.as_bytes();
    if bearer.len() <= BEARER_KEPT {
        return None;
    }
    let places: Vec<usize> = memmem::find_iter(json, bearer).collect();
    // A second name would hide a second bearer token; one written with escapes is not found at all.
    if places.is_empty() || memmem::find_iter(json, b"auth_token").count() != 1 {
        return None;
    }
    let mut blanked = json.to_vec();
    for place in places {
        blanked[place + BEARER_KEPT..place + bearer.len()].fill(BLANK);
    }
    Some(blanked)
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
    fn a_bearer_token_is_blanked_wherever_it_stands() {
        let json = br#"{"token": {"auth_token": "gAAAAABsecret", "id": "gAAAAABsecret"}}"#;
        let text = String::from_utf8(blanked(json).unwrap()).unwrap();
        assert!(!text.contains("Bsecret"));
    }

    #[test]
    fn what_does_not_say_where_its_bearer_token_is_gives_nothing() {
        let twice = br#"{"token": {"auth_token": "gAAAAAone-", "auth_token": "gAAAAAtwo-"}}"#;
        let escaped = br#"{"token": {"auth_token": "gAAAAAB\u0073ecret"}}"#;
        let nothing = br#"{"token": {"version": "v3"}}"#;
        let number = br#"{"token": {"auth_token": 12345678}}"#;
        let cut = br#"{"token": {"auth_token": "gAAAAABsecret""#;
        for json in [&twice[..], escaped, nothing, number, cut, b"", b"[]"] {
            assert_eq!(blanked(json), None);
        }
    }
}
