//! What is a token's own: the ids, the bearer token and the time that no other token has.
//!
//! [`Tokens`](super::Tokens) makes these few hundred bytes for every value it makes or checks;
//! [`body`](super::body) says where they go. Their forms are Keystone's: ids of users are UUIDs in
//! hex, audit ids are UUIDs in base64, a bearer token is a Fernet token, which begins with the time
//! it was issued.

use crate::tool::random::{Random, write_hex};
use base64_simd::{AsOut, Base64, URL_SAFE_NO_PAD};

/// Characters of the longest bearer token: that of a trust or an application credential.
pub const BEARER_CHARS_MAX: usize = 204;

/// A Fernet token's first byte.
const FERNET: u8 = 0x80;

/// The hour in which all tokens were issued, as `heads.txt` has it: 2026-11-22T07:00:00Z.
const HOUR_UNIX_SECONDS: u64 = 1_795_330_800;

/// A gap in the JSON of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The user's id.
    User,
    /// The part of the user's name that tells it from others.
    Name,
    /// The audit id of the token.
    Audit,
    /// The audit id of the token that this one was got with.
    Parent,
    /// Minute and second of its issue and expiry.
    Clock,
    /// The bearer token.
    Bearer,
}

/// What goes into the gaps.
#[derive(Debug)]
pub struct Fields {
    user: [u8; 32],
    name: [u8; 8],
    audit: [u8; 22],
    parent: [u8; 22],
    clock: [u8; 5],
    bearer: [u8; BEARER_CHARS_MAX],
    bearer_chars: usize,
}

impl Fields {
    /// Draws them. The audit id begins with `mark`; the bearer token has so many characters, at
    /// most [`BEARER_CHARS_MAX`].
    pub fn new(random: &mut Random, mark: u32, bearer_chars: usize) -> Self {
        let mut audit = random.uuid();
        audit[..4].copy_from_slice(&mark.to_be_bytes());
        let seconds = random.below(3600);
        Fields {
            user: hex(&random.uuid()),
            name: hex(&random.bytes::<4>()),
            audit: encoded(&URL_SAFE_NO_PAD, &audit),
            parent: encoded(&URL_SAFE_NO_PAD, &random.uuid()),
            clock: clock(seconds),
            bearer: bearer(random, HOUR_UNIX_SECONDS + seconds, bearer_chars),
            bearer_chars,
        }
    }

    /// What goes into this gap.
    pub fn text(&self, gap: Gap) -> &[u8] {
        match gap {
            Gap::User => &self.user,
            Gap::Name => &self.name,
            Gap::Audit => &self.audit,
            Gap::Parent => &self.parent,
            Gap::Clock => &self.clock,
            Gap::Bearer => &self.bearer[..self.bearer_chars],
        }
    }
}

/// A bearer token and, if it is a short one, zeros behind it.
fn bearer(random: &mut Random, issued: u64, chars: usize) -> [u8; BEARER_CHARS_MAX] {
    let mut bytes = [0; BEARER_CHARS_MAX / 4 * 3];
    let bytes = &mut bytes[..chars * 3 / 4];
    random.fill(bytes);
    bytes[0] = FERNET;
    bytes[1..9].copy_from_slice(&issued.to_be_bytes());
    encoded(&URL_SAFE_NO_PAD, bytes)
}

/// `MM:SS`.
fn clock(seconds: u64) -> [u8; 5] {
    let digit = |number: u64| b'0' + (number % 10) as u8;
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    [
        digit(minutes / 10),
        digit(minutes),
        b':',
        digit(seconds / 10),
        digit(seconds),
    ]
}

/// Hex digits; `CHARS` is twice the length of `bytes`.
pub fn hex<const CHARS: usize>(bytes: &[u8]) -> [u8; CHARS] {
    let mut digits = [0; CHARS];
    write_hex(bytes, &mut digits);
    digits
}

/// Base64 that `CHARS` has room for; zeros behind it.
pub fn encoded<const CHARS: usize>(base64: &Base64, bytes: &[u8]) -> [u8; CHARS] {
    let mut text = [0; CHARS];
    let _ = base64.encode(bytes, text.as_mut_slice().as_out());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_fernets_and_says_when_it_was_issued() {
        for chars in [183, BEARER_CHARS_MAX] {
            let fields = Fields::new(&mut Random::new(1), 7, chars);
            let bearer = fields.text(Gap::Bearer);
            assert!(bearer.len() == chars && bearer.starts_with(b"gAAAAAB"));
            let bytes = URL_SAFE_NO_PAD.decode_to_vec(bearer).unwrap();
            let issued = u64::from_be_bytes(bytes[1..9].try_into().unwrap());
            assert_eq!(clock(issued - HOUR_UNIX_SECONDS), fields.clock);
        }
    }

    #[test]
    fn clocks_show_minutes_and_seconds() {
        assert_eq!(
            [&clock(0), &clock(754), &clock(3599)],
            [b"00:00", b"12:34", b"59:59"]
        );
    }

    #[test]
    fn an_audit_id_begins_with_the_mark() {
        let fields = Fields::new(&mut Random::new(1), 0x0102_0304, 183);
        let audit = URL_SAFE_NO_PAD
            .decode_to_vec(fields.text(Gap::Audit))
            .unwrap();
        assert_eq!((audit.len(), &audit[..4]), (16, [1, 2, 3, 4].as_slice()));
    }
}
