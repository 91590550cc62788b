//! Any bytes, in any pieces, at any time: the replies are those to the same bytes in one piece.
//!
//! The layout of an input: the first byte seeds the pieces, byte 0x00 lets seconds pass and opens a
//! new connection if the next byte is odd, and everything else is what the client sends.

#![no_main]

#[path = "common/agreement.rs"]
mod agreement;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((&seed, script)) = data.split_first() {
        agreement::agree::<Classic>(seed, script);
    }
});

struct Classic;

impl agreement::Client for Classic {}
