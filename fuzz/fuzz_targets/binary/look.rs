//! Reads all that came back on a connection as a client does that knows what it sent.
//!
//! Invariants that are looked at:
//! - every request is answered once and in order, but for a quiet one that has nothing to tell, and the
//!   run of STAT, which has an end;
//! - an answer has the opcode and the opaque of its request, one of the statuses that this may have, and
//!   the extras, the key and the words that belong to it;
//! - SET and GET of a key of keystonemiddleware never fail in another way than a store that is empty;
//! - the connection is closed where a header contradicts itself, and nowhere without reason.

use crate::frames::{Frame, HEADER_BYTES, Header, REPLY_MAGIC, REQUEST_MAGIC};
use crate::shape::{Kind, Shape, words};

/// How keys begin whose failures are not told.
const TOKEN_PREFIX: &[u8] = b"tokens/";

pub fn look(sent: &[u8], replies: &[u8], closed: bool) {
    match sent.first() {
        Some(&REQUEST_MAGIC) => look_at_frames(sent, replies, closed),
        _ => assert_ne!(replies.first(), Some(&REPLY_MAGIC)),
    }
}

fn look_at_frames(mut sent: &[u8], mut replies: &[u8], closed: bool) {
    while let Some(request) = Request::take(&mut sent) {
        let answered = request.take_answer(&mut replies);
        assert!(answered || request.may_be_silent(), "{request:?}");
        if request.closes() {
            assert!(closed && replies.is_empty(), "{request:?}");
            return;
        }
    }
    assert!(replies.is_empty(), "no request asked for these");
    let is_wrong = sent.first().is_some_and(|&magic| magic != REQUEST_MAGIC);
    assert_eq!(closed, is_wrong);
}

/// What stands in the stream of what was sent.
#[derive(Debug)]
struct Request<'s> {
    header: Header,
    shape: Shape,
    key: &'s [u8],
    /// All of it was sent.
    whole: bool,
    /// The status with which the connection ends, if its header contradicts itself.
    contradiction: Option<u16>,
}

impl<'s> Request<'s> {
    /// The request whose header stands at the front of `sent`.
    fn take(sent: &mut &'s [u8]) -> Option<Request<'s>> {
        let header = Header::read(sent).filter(|header| header.magic == REQUEST_MAGIC)?;
        let shape = Shape::of(header.opcode);
        let body = &sent[HEADER_BYTES..];
        let behind_extras = body.get(header.extras_bytes.into()..).unwrap_or_default();
        let key = behind_extras.get(..header.key_bytes.into());
        let rest = sent.get(header.frame_bytes()..);
        *sent = rest.unwrap_or_default();
        Some(Request {
            header,
            shape,
            key: key.unwrap_or_default(),
            whole: rest.is_some(),
            contradiction: shape.contradiction(&header),
        })
    }

    /// Takes what answers this from the front of `replies`, if it does.
    fn take_answer(&self, replies: &mut &[u8]) -> bool {
        let mut rest = *replies;
        let mut next = || Frame::take(&mut rest).filter(|answer| self.is_answer(answer));
        let Some(mut answer) = next() else {
            return false;
        };
        if self.shape.kind == Kind::Stat && answer.header.status == 0 {
            while !answer.key.is_empty() {
                answer = next().expect("a run of STAT has an end");
            }
        }
        *replies = rest;
        true
    }

    fn is_answer(&self, answer: &Frame<'_>) -> bool {
        let (asked, header) = (&self.header, &answer.header);
        header.magic == REPLY_MAGIC
            && (header.opcode, header.opaque) == (asked.opcode, asked.opaque)
            && self.may_have(header.status)
            && match header.status {
                0 => self.is_success(answer),
                status => self.is_failure(answer, status),
            }
    }

    fn may_have(&self, status: u16) -> bool {
        if let Some(contradiction) = self.contradiction {
            return status == contradiction;
        }
        let is_told = match self.shape.kind {
            Kind::Get | Kind::Set if self.key.starts_with(TOKEN_PREFIX) => status <= 2,
            _ => true,
        };
        is_told && self.shape.statuses().contains(&status)
    }

    fn is_failure(&self, answer: &Frame<'_>, status: u16) -> bool {
        if self.shape.looks_up() && status == 1 {
            let (key, value) = match self.shape.with_key {
                true => (self.key, &b""[..]),
                false => (&b""[..], words(status)),
            };
            return !self.shape.quiet && (answer.key, answer.value) == (key, value);
        }
        answer.header.unique == 0
            && answer.extras.is_empty()
            && answer.key.is_empty()
            && answer.value == words(status)
    }

    fn is_success(&self, answer: &Frame<'_>) -> bool {
        let (extras, key, value) = (answer.extras, answer.key, answer.value);
        if self.shape.looks_up() {
            let with_value = self.header.opcode != 0x1c;
            let echoed: &[u8] = if self.shape.with_key { self.key } else { b"" };
            return extras.len() == 4
                && key == echoed
                && (with_value || value.is_empty())
                && answer.header.unique != 0;
        }
        let has_unique = answer.header.unique != 0;
        let may_have_unique = match self.shape.kind {
            // A value that was not stored, and is said to be, has none.
            Kind::Set => has_unique || self.key.starts_with(TOKEN_PREFIX),
            Kind::SetIf | Kind::Extend | Kind::Count => has_unique,
            _ => !has_unique,
        };
        let value_fits = match self.shape.kind {
            Kind::Count => value.len() == 8,
            Kind::Version => value.starts_with(b"1.6."),
            Kind::Stat => key.is_empty() <= value.is_empty(),
            _ => value.is_empty(),
        };
        let key_fits = self.shape.kind == Kind::Stat || key.is_empty();
        !self.shape.quiet && extras.is_empty() && key_fits && value_fits && may_have_unique
    }

    /// Whether this may go without an answer: a quiet request, or one that has not come as a whole and
    /// may yet be executed.
    fn may_be_silent(&self) -> bool {
        let is_known = self.shape.kind != Kind::Unknown;
        self.contradiction.is_none() && is_known && (self.shape.quiet || !self.whole)
    }

    fn closes(&self) -> bool {
        self.contradiction.is_some() || self.shape.kind == Kind::Quit
    }
}
