//! zstd: frames with and without a dictionary.
//!
//! The only file that names the zstd library. Contexts are a thread's own and kept between values,
//! some 200 KB a thread; digested dictionaries are shared.
//!
//! The level follows from the dictionary's length ([`level_for`]). At level -3 a token of 13 KB is packed
//! into 410 bytes in 4.0 microseconds, against 406 in 4.3 at level -1 and 373 in 7.4 at level 1, which takes thrice
//! as long to unpack. But the fastest levels keep the fewest places of their dictionary, and lose a
//! catalogue that is too long for them: of 39 KB it takes 3,188 bytes at level -3, 471 at level 1; of
//! 100 KB 7,143 bytes at level 1, 706 at level 3.
//!
//! Invariants:
//! - nothing is unpacked whose frame does not announce just the length that is recorded beside it, and
//!   never more than that many bytes are kept.

use std::cell::RefCell;
use std::io::Cursor;

use zstd_safe::{CCtx, CDict, DCtx, DDict};

/// The level for what has no dictionary, or a short one.
const LEVEL: i32 = -3;

/// The level at which a dictionary of this length is known to the end.
fn level_for(dictionary_bytes: usize) -> i32 {
    match dictionary_bytes {
        0..=0x8000 => LEVEL,
        0x8001..=0x14000 => 1,
        _ => 3,
    }
}

struct Contexts {
    compress: CCtx<'static>,
    decompress: DCtx<'static>,
}

thread_local! {
    static CONTEXTS: RefCell<Option<Contexts>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's contexts; `None` without memory for them.
fn with_contexts<R>(work: impl FnOnce(&mut Contexts) -> Option<R>) -> Option<R> {
    CONTEXTS.with_borrow_mut(|contexts| {
        if contexts.is_none() {
            *contexts = Some(Contexts {
                compress: CCtx::try_create()?,
                decompress: DCtx::try_create()?,
            });
        }
        contexts.as_mut().and_then(work)
    })
}

/// A dictionary digested for packing.
pub struct Packer(CDict<'static>);

impl Packer {
    /// Digests a dictionary: some 50 microseconds. `None` without memory.
    pub fn new(dictionary: &[u8]) -> Option<Packer> {
        CDict::try_create(dictionary, level_for(dictionary.len())).map(Packer)
    }

    /// Bytes that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.0.sizeof()
    }
}

/// A dictionary digested for unpacking.
pub struct Unpacker(DDict<'static>);

impl Unpacker {
    /// Digests a dictionary: some microseconds. `None` without memory.
    pub fn new(dictionary: &[u8]) -> Option<Unpacker> {
        DDict::try_create(dictionary).map(Unpacker)
    }

    /// Bytes that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.0.sizeof()
    }
}

/// Appends a frame of `content`; gives its length. `None` if zstd fails, which only a lack of memory
/// makes it do.
pub fn pack(content: &[u8], dictionary: Option<&Packer>, frame: &mut Vec<u8>) -> Option<usize> {
    let begin = frame.len();
    frame.reserve(zstd_safe::compress_bound(content.len()));
    with_contexts(|contexts| {
        let mut end = Cursor::new(&mut *frame);
        end.set_position(begin as u64);
        let context = &mut contexts.compress;
        match dictionary {
            Some(Packer(dictionary)) => context.compress_using_cdict(&mut end, content, dictionary),
            None => context.compress(&mut end, content, LEVEL),
        }
        .ok()
    })
}

/// Length of the content that a frame announces.
pub fn announced(frame: &[u8]) -> Option<usize> {
    let announced = zstd_safe::get_frame_content_size(frame).ok()??;
    usize::try_from(announced).ok()
}

/// Appends the `length` bytes of content that a frame holds; says whether it holds just as many. What
/// it appends may be wrong where frame or dictionary are damaged.
#[must_use]
pub fn unpack(
    frame: &[u8],
    dictionary: Option<&Unpacker>,
    length: usize,
    content: &mut Vec<u8>,
) -> bool {
    if announced(frame) != Some(length) {
        return false;
    }
    let begin = content.len();
    content.reserve(length);
    let unpacked = with_contexts(|contexts| {
        let mut end = Cursor::new(&mut *content);
        end.set_position(begin as u64);
        let context = &mut contexts.decompress;
        match dictionary {
            Some(Unpacker(dictionary)) => {
                context.decompress_using_ddict(&mut end, frame, dictionary)
            }
            None => context.decompress(&mut end, frame),
        }
        .ok()
    });
    content.truncate(begin + length);
    unpacked == Some(length) && content.len() == begin + length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seed: u32, bytes: usize) -> Vec<u8> {
        let words = [
            "endpoint", "region", "public", "internal", "url", "https://",
        ];
        let mut state = seed;
        let mut text = Vec::new();
        while text.len() < bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.extend_from_slice(words[state as usize >> 8 & 3].as_bytes());
            text.extend_from_slice(&state.to_le_bytes());
        }
        text.truncate(bytes);
        text
    }

    #[test]
    fn content_comes_back_with_and_without_a_dictionary_behind_what_was_there() {
        let dictionary = text(1, 9_000);
        let packer = Packer::new(&dictionary).unwrap();
        let unpacker = Unpacker::new(&dictionary).unwrap();
        for bytes in [0, 1, 300, 13_000, 128 << 10] {
            let content = text(2, bytes);
            for digests in [None, Some((&packer, &unpacker))] {
                let mut frame = b"front".to_vec();
                let length = pack(&content, digests.map(|both| both.0), &mut frame).unwrap();
                assert_eq!(frame.len(), 5 + length);
                let mut out = b"front".to_vec();
                assert!(unpack(
                    &frame[5..],
                    digests.map(|both| both.1),
                    bytes,
                    &mut out
                ));
                assert_eq!(out[..5], *b"front");
                assert_eq!(out[5..], content);
            }
        }
    }

    #[test]
    fn a_frame_of_another_length_than_recorded_is_refused_before_it_is_unpacked() {
        // A bomb: 100 MB in 3 KB.
        let mut frame = Vec::new();
        pack(&vec![0; 100 << 20], None, &mut frame).unwrap();
        assert!(frame.len() < 20_000);
        let mut out = Vec::new();
        assert!(!unpack(&frame, None, 13_000, &mut out));
        assert_eq!(out.capacity(), 0);
        // The same with the length in its head forged.
        let mut small = Vec::new();
        pack(&vec![0; 13_000], None, &mut small).unwrap();
        for at in 0..frame.len().min(14) {
            let mut forged = frame.clone();
            forged[at] = small[at.min(small.len() - 1)];
            assert!(!unpack(&forged, None, 13_000, &mut out));
            assert!(out.capacity() <= 13_000 + 64);
        }
    }

    #[test]
    fn a_frame_without_its_dictionary_never_gives_more_than_was_asked() {
        let dictionary = text(1, 9_000);
        let packer = Packer::new(&dictionary).unwrap();
        let mut frame = Vec::new();
        pack(&text(1, 8_000), Some(&packer), &mut frame).unwrap();
        let mut out = Vec::new();
        let _ = unpack(&frame, None, 8_000, &mut out);
        assert!(out.len() <= 8_000);
    }
}
