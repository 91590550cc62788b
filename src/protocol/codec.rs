//! Which protocol a connection speaks, and with that how its bytes are read and its answers written.
//!
//! A listener may leave it to the client: the first byte decides, as every binary request begins with
//! one that no text command has (`doc/protocol-binary.xml`, "Header format").

use serde::{Deserialize, Serialize};

use super::binary;
use super::classic::{Classic, Lookup};
use super::command::{Decoded, Envelope, Form};
use super::error::Error;
use super::meta::{self, KeyRoom};
use super::reply::{Reply, ReplySink, Unreadable, Value};

/// What a listener lets its clients speak (`-B`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What the first byte says.
    #[default]
    Auto,
    /// The classic and meta commands.
    Text,
    /// The binary protocol.
    Binary,
}

/// One connection's protocol, once it is known, and its state between two commands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub enum Codec {
    /// The first byte has not come.
    #[default]
    Undecided,
    /// The classic and meta commands.
    Text(Classic),
    /// The binary protocol.
    Binary,
}

impl Codec {
    /// That of a connection on which nothing has come.
    pub fn new(protocol: Protocol) -> Codec {
        match protocol {
            Protocol::Auto => Codec::Undecided,
            Protocol::Text => Codec::Text(Classic::default()),
            Protocol::Binary => Codec::Binary,
        }
    }

    /// Lets the first byte decide, where nothing has yet.
    pub fn decide(&mut self, input: &[u8]) {
        if let (Codec::Undecided, Some(&first)) = (&self, input.first()) {
            *self = match first {
                binary::REQUEST_MAGIC => Codec::Binary,
                _ => Codec::Text(Classic::default()),
            };
        }
    }

    /// The ordinary look-up at the front of `buffer`, if it is one: see [`Classic::lookup`].
    #[inline]
    pub fn lookup<'b>(&mut self, buffer: &'b [u8]) -> Option<Lookup<'b>> {
        match self {
            Codec::Text(classic) => classic.lookup(buffer),
            Codec::Undecided | Codec::Binary => None,
        }
    }

    /// Decodes the request at the front of `buffer`, which is not empty: see [`Classic::decode`] and
    /// [`binary::decode`].
    pub fn decode<'b>(
        &mut self,
        buffer: &'b [u8],
        room: &'b KeyRoom,
        binary_strict: bool,
    ) -> Decoded<'b> {
        self.decide(buffer);
        match self {
            Codec::Text(classic) => classic.decode(buffer, room),
            _ => binary::decode(buffer, binary_strict),
        }
    }

    /// Whether a multiget is not at its end.
    pub fn in_run(&self) -> bool {
        matches!(self, Codec::Text(classic) if classic.in_run())
    }

    /// Whether a buffer that begins like this can be gone on with: see [`Classic::goes_on_with`].
    pub fn goes_on_with(&self, buffer: &[u8]) -> bool {
        match self {
            Codec::Text(classic) => classic.goes_on_with(buffer),
            Codec::Undecided | Codec::Binary => true,
        }
    }
}

/// Writes the answer to a request into `sink`, as its envelope wants it.
///
/// # Errors
/// If the value that was found cannot be read; a miss has been written then.
#[inline]
pub fn encode<V: Value>(
    envelope: &Envelope<'_>,
    reply: Reply<'_, V>,
    sink: &mut impl ReplySink<V>,
) -> Result<(), Unreadable> {
    match &envelope.form {
        Form::Classic => Classic::encode(envelope, reply, sink),
        Form::Meta(asked) => meta::encode(asked, reply, sink),
        Form::Binary(frame) => binary::encode(frame, reply, sink),
    }
}

/// Writes an error.
pub fn encode_error<V: Value>(form: &Form<'_>, error: Error, sink: &mut impl ReplySink<V>) {
    match form {
        Form::Binary(frame) => binary::encode_error(frame, error, sink),
        Form::Classic | Form::Meta(_) => Classic::encode_error(error, sink),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::Command;

    fn is_version(decoded: &Decoded<'_>) -> bool {
        matches!(decoded, Decoded::Request(request) if request.command == Command::Version)
    }

    #[test]
    fn the_first_byte_decides_for_good() {
        let mut frame = [0; 24];
        (frame[0], frame[1]) = (binary::REQUEST_MAGIC, 0x0b);
        let room = KeyRoom::default();
        for (first, second) in [(&b"version\r\n"[..], &frame[..]), (&frame, b"version\r\n")] {
            let mut codec = Codec::new(Protocol::Auto);
            assert!(is_version(&codec.decode(first, &room, false)));
            assert!(matches!(
                codec.decode(second, &room, false),
                Decoded::Bad(_)
            ));
        }
    }

    #[test]
    fn a_listener_may_have_decided() {
        let room = KeyRoom::default();
        let decode = |protocol, input| Codec::new(protocol).decode(input, &room, false);
        assert!(is_version(&decode(Protocol::Text, b"version\r\n")));
        assert!(matches!(decode(Protocol::Text, b"\x80"), Decoded::Bad(_)));
        assert!(matches!(decode(Protocol::Binary, b"v"), Decoded::Bad(_)));
        assert_eq!(decode(Protocol::Binary, b"\x80"), Decoded::NeedMore);
    }
}
