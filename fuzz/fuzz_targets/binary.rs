//! Requests of the binary protocol, in any pieces, at any time: the replies are those to the same bytes in
//! one piece, and a client can read them: every request has the answer that it must have, in order, and
//! nothing else comes.
//!
//! The layout of an input is that of `classic`, but what is sent is described by bytes as `binary/spell.rs`
//! reads them, so that what is mutated stays near to the protocol. Connections may begin with a text
//! command, which decides for the text protocols.

#![no_main]

#[path = "common/agreement.rs"]
mod agreement;
#[path = "common/frames.rs"]
mod frames;
#[path = "binary/look.rs"]
mod look;
#[path = "binary/shape.rs"]
mod shape;
#[path = "binary/spell.rs"]
mod spell;

use std::borrow::Cow;

use frames::{Frame, REPLY_MAGIC};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((&seed, script)) = data.split_first() {
        agreement::agree::<Binary>(seed, script);
    }
});

struct Binary;

impl agreement::Client for Binary {
    fn spell(act: &[u8], sent_bytes: usize) -> Cow<'_, [u8]> {
        spell::spell(act, sent_bytes).into()
    }

    fn parts(replies: &[u8]) -> Vec<&[u8]> {
        match replies.first() {
            Some(&REPLY_MAGIC) => frames_that_agree(replies),
            _ => agreement::lines(replies),
        }
    }

    fn look(sent: &[u8], replies: &[u8], closed: bool) {
        look::look(sent, replies, closed);
    }
}

/// The frames that have to agree, but for those of STAT that differ from one run to the next.
fn frames_that_agree(mut replies: &[u8]) -> Vec<&[u8]> {
    let frames = std::iter::from_fn(|| Frame::take(&mut replies));
    let mut parts: Vec<_> = frames
        .filter(|frame| frame.header.opcode != shape::STAT || agreement::agrees(frame.key))
        .map(|frame| frame.bytes)
        .collect();
    // Whatever is no frame.
    parts.push(replies);
    parts
}
