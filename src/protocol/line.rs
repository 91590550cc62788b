//! A command line of the text protocols: its name, its words, its keys.
//!
//! Used by `classic` and `meta`. Words are cut at single or repeated spaces.

use super::KEY_BYTES_MAX;
use super::command::{Bad, Command, Decoded, Envelope, Form, Recovery, Request};
use super::error::Error;
use super::graphic::graphic_prefix;

/// A complete command line.
#[derive(Clone, Copy)]
pub struct Line<'b> {
    /// Everything at hand, the line first.
    pub buffer: &'b [u8],
    /// The line without its end.
    pub text: &'b [u8],
    /// Its length with its end.
    pub bytes: usize,
}

impl<'b> Line<'b> {
    /// The line that takes the first `bytes` of `buffer`, its end included.
    pub fn new(buffer: &'b [u8], bytes: usize) -> Line<'b> {
        let text = &buffer[..bytes - 1];
        Line {
            buffer,
            text: text.strip_suffix(b"\r").unwrap_or(text),
            bytes,
        }
    }

    /// The command's name: all before the first space, nothing where the line begins with one.
    pub fn name(&self) -> &'b [u8] {
        let end = self.text.iter().position(|&byte| byte == b' ');
        &self.text[..end.unwrap_or(self.text.len())]
    }

    /// The words behind the name.
    pub fn words(&self) -> impl Iterator<Item = &'b [u8]> + Clone + use<'b> {
        words_of(&self.text[self.name().len()..])
    }

    /// Where a word of this line begins.
    pub fn position_of(&self, word: &'b [u8]) -> usize {
        word.as_ptr().addr() - self.buffer.as_ptr().addr()
    }

    /// Whether the last word is `noreply`.
    pub fn noreply(&self) -> bool {
        self.text.trim_ascii_end().ends_with(b" noreply")
    }

    /// A command of this line, silent where the line says `noreply`.
    pub fn command(&self, command: Command<'b>) -> Decoded<'b> {
        self.request(command, self.noreply())
    }

    /// A command that does not know `noreply`.
    pub fn answered(&self, command: Command<'b>) -> Decoded<'b> {
        self.request(command, false)
    }

    fn request(&self, command: Command<'b>, noreply: bool) -> Decoded<'b> {
        let envelope = Envelope {
            noreply,
            ..Envelope::default()
        };
        self.request_in(command, envelope)
    }

    /// A command of this line in its envelope.
    pub fn request_in(&self, command: Command<'b>, envelope: Envelope<'b>) -> Decoded<'b> {
        Decoded::Request(Request {
            command,
            envelope,
            consumed: self.bytes,
        })
    }

    /// An error after which the next line is the next command.
    pub fn error(&self, error: Error) -> Decoded<'b> {
        self.error_skipping(error, 0)
    }

    /// An error on a line that announced a data block: the block goes with it.
    pub fn error_skipping(&self, error: Error, block_bytes: u64) -> Decoded<'b> {
        Decoded::Bad(Bad {
            reply: Some(error),
            form: Form::Classic,
            recovery: Recovery::Skip(self.bytes as u64 + block_bytes),
        })
    }

    /// An error on a command that was understood, which `noreply` silences.
    pub fn quiet_error(&self, error: Error, block_bytes: u64) -> Decoded<'b> {
        Decoded::Bad(Bad {
            reply: (!self.noreply()).then_some(error),
            form: Form::Classic,
            recovery: Recovery::Skip(self.bytes as u64 + block_bytes),
        })
    }
}

pub fn words_of(text: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    text.split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
}

/// How many spaces come first.
pub fn blanks(text: &[u8]) -> usize {
    text.iter().take_while(|&&byte| byte == b' ').count()
}

/// Whether these are keys, at least one, with spaces between them and behind.
pub fn are_keys(text: &[u8]) -> bool {
    let mut next = 0;
    while next < text.len() {
        let key_bytes = graphic_prefix(&text[next..]);
        let ends = matches!(text.get(next + key_bytes), None | Some(b' '));
        if !(1..=KEY_BYTES_MAX).contains(&key_bytes) || !ends {
            return false;
        }
        next += key_bytes + blanks(&text[next + key_bytes..]);
    }
    next > 0
}

/// Whether this may be a key. Differs from memcached: control bytes are refused, as protocol.txt
/// ("Keys") asks of clients, so that a key can never be taken for a line end.
pub fn is_key(word: &[u8]) -> bool {
    (1..=KEY_BYTES_MAX).contains(&word.len()) && graphic_prefix(word) == word.len()
}
