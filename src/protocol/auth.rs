//! How clients say who they are: the first `set` of the text protocol, and SASL PLAIN of the binary one.
//!
//! Pure functions over bytes; who is let in, `server::auth` knows.
//!
//! Sources: protocol.txt, "Authentication"; `proto_text.c` (`try_read_command_asciiauth`) of memcached
//! 1.6.45; RFC 4616 for PLAIN.

use std::fmt;

use super::binary;
use super::error::Error;
use super::line::Line;
use super::number;

/// The one mechanism of SASL that is spoken.
pub const PLAIN: &str = "PLAIN";

/// A line with more before its end closes the connection.
const LINE_BYTES_MAX: usize = 2048;

/// A line with less before its end closes the connection, as in memcached.
const LINE_BYTES_MIN: usize = 6;

/// Longest user and password.
const CREDENTIALS_BYTES_MAX: u32 = 16 << 10;

/// A user and a password, as the client wrote them. Its `Debug` shows neither.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'b> {
    /// The user's name.
    pub user: &'b [u8],
    /// The password.
    pub password: &'b [u8],
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials")
    }
}

/// What stands at the front of a text connection that has not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt<'b> {
    /// Nothing complete yet.
    NeedMore,
    /// This user and password, and how many bytes they took.
    Given(Credentials<'b>, usize),
    /// Something else: what it is answered, and how many bytes it took.
    Refused(Error, usize),
    /// Nothing that a client says.
    Close,
}

/// Reads `set <any key> <any flags> <any exptime> <bytes>`, and behind it `<user> <password>`.
pub fn decode(buffer: &[u8]) -> Attempt<'_> {
    // A client of the binary protocol would wait for ever for the end of a line.
    if buffer.first() == Some(&binary::REQUEST_MAGIC) {
        return Attempt::Close;
    }
    let searched = &buffer[..buffer.len().min(LINE_BYTES_MAX + 1)];
    let Some(end) = memchr::memchr(b'\n', searched) else {
        return match buffer.len() {
            ..=LINE_BYTES_MAX => Attempt::NeedMore,
            _ => Attempt::Close,
        };
    };
    if end < LINE_BYTES_MIN {
        return Attempt::Close;
    }
    let line = Line::new(buffer, end + 1);
    let length = line.words().nth(3).and_then(number::unsigned_32);
    let Some(length) = length.filter(|_| line.name().starts_with(b"set")) else {
        return Attempt::Refused(Error::Unauthenticated, line.bytes);
    };
    if length > CREDENTIALS_BYTES_MAX {
        return Attempt::Refused(Error::AuthenticationTooLong, line.bytes);
    }
    let block_end = line.bytes + length as usize + 2;
    let Some(block) = buffer.get(line.bytes..block_end) else {
        return Attempt::NeedMore;
    };
    let Some(said) = block.strip_suffix(b"\r\n") else {
        return Attempt::Refused(Error::BadAuthenticationEnd, block_end);
    };
    match split_at_byte(said, b' ') {
        Some((user, password)) => Attempt::Given(Credentials { user, password }, block_end),
        None => Attempt::Refused(Error::BadAuthentication, block_end),
    }
}

/// Reads the message of PLAIN: whom to act for, user and password, with a zero between them. `None` where
/// it is something else, or asks to act for somebody else.
pub fn plain(message: &[u8]) -> Option<Credentials<'_>> {
    let (acts_for, rest) = split_at_byte(message, 0)?;
    let (user, password) = split_at_byte(rest, 0)?;
    let is_complete = !user.is_empty() && !password.is_empty() && !password.contains(&0);
    let is_oneself = acts_for.is_empty() || acts_for == user;
    (is_complete && is_oneself).then_some(Credentials { user, password })
}

fn split_at_byte(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(byte, bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(attempt: Attempt<'_>) -> (&[u8], &[u8], usize) {
        match attempt {
            Attempt::Given(Credentials { user, password }, bytes) => (user, password, bytes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_password_may_have_spaces() {
        let attempt = decode(b"set k 0 0 13\r\nalice my pass\r\nget k\r\n");
        assert_eq!(given(attempt), (&b"alice"[..], &b"my pass"[..], 29));
    }

    #[test]
    fn nothing_but_a_set_is_understood() {
        let refused = |error, bytes| Attempt::Refused(error, bytes);
        assert_eq!(decode(b"get key\r\n"), refused(Error::Unauthenticated, 9));
        assert_eq!(
            decode(b"set k 0 0 x\r\n"),
            refused(Error::Unauthenticated, 13)
        );
        assert_eq!(decode(b"get a"), Attempt::NeedMore);
        assert_eq!(decode(b"get\r\n"), Attempt::Close);
        assert_eq!(decode(b"\x80"), Attempt::Close);
        assert_eq!(decode(&[b'a'; 2048]), Attempt::NeedMore);
        assert_eq!(decode(&[b'a'; 2049]), Attempt::Close);
    }

    #[test]
    fn plain_has_two_zeros() {
        assert!(plain(b"\0alice\0secret").is_some());
        assert!(plain(b"alice\0alice\0secret").is_some());
        for bad in [
            &b""[..],
            b"alice",
            b"\0alice",
            b"\0alice\0",
            b"\0\0secret",
            b"\0a\0b\0c",
            b"bob\0alice\0secret",
        ] {
            assert_eq!(plain(bad), None);
        }
    }

    #[test]
    fn debug_shows_neither_user_nor_password() {
        let shown = format!("{:?}", decode(b"set k 0 0 12\r\nalice secret\r\n"));
        assert!(
            !shown.contains("alice") && !shown.contains("97, 108"),
            "{shown}"
        );
    }
}
