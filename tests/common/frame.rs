//! Frames of the binary protocol as golden transcripts write them.
//!
//! ```text
//! > SET key=k value=v flags=1 exptime=0 opaque=7 cas={u}
//! < SET opaque=7 cas={u:u64}
//! < GET status=1 value="Not found"
//! <* STAT key=pid value={_:u64}
//! > GET key=k bodylen=0 datatype=1 vbucket=2
//! ```
//!
//! An opcode is a name or a number; numbers are decimal or `0x` hexadecimal, and may be captured (`{u:u64}`), forgotten
//! (`{_:u64}`) and recalled (`{u}`). `key=` and `value=` are texts, in quotes where there are spaces. `flags=`,
//! `exptime=`, `expiration=` (32 bits), `delta=` and `initial=` (64 bits) are extras, laid out in the order named;
//! `extras=` are bytes. `number=` is a value of 64 bits.
//!
//! The fields of the header are `magic opcode keylen extlen datatype status bodylen opaque cas`; `vbucket` is the name
//! of `status` in a request. Lengths are those of what is there, everything else is 0, unless it is named.
//!
//! Invariant: an expectation says all of a frame: what it does not name must be 0 or empty.

use std::fmt::Write;
use std::ops::Range;

use super::text::{Captures, Clock, Progress, Text, escape, find_unescaped};

const HEADER_BYTES: usize = 24;
const REQUEST: u8 = 0x80;
const RESPONSE: u8 = 0x81;

/// The fields of a header, and where they are.
const FIELDS: [(&str, Range<usize>); 10] = [
    ("magic", 0..1),
    ("opcode", 1..2),
    ("keylen", 2..4),
    ("extlen", 4..5),
    ("datatype", 5..6),
    ("status", 6..8),
    ("vbucket", 6..8),
    ("bodylen", 8..12),
    ("opaque", 12..16),
    ("cas", 16..24),
];

/// The extras by name, and how many bytes they have.
const EXTRAS: [(&str, usize); 5] = [
    ("flags", 4),
    ("exptime", 4),
    ("expiration", 4),
    ("delta", 8),
    ("initial", 8),
];

const OPCODES: [(&str, u8); 36] = [
    ("GET", 0x00),
    ("SET", 0x01),
    ("ADD", 0x02),
    ("REPLACE", 0x03),
    ("DELETE", 0x04),
    ("INCREMENT", 0x05),
    ("DECREMENT", 0x06),
    ("QUIT", 0x07),
    ("FLUSH", 0x08),
    ("GETQ", 0x09),
    ("NOOP", 0x0a),
    ("VERSION", 0x0b),
    ("GETK", 0x0c),
    ("GETKQ", 0x0d),
    ("APPEND", 0x0e),
    ("PREPEND", 0x0f),
    ("STAT", 0x10),
    ("SETQ", 0x11),
    ("ADDQ", 0x12),
    ("REPLACEQ", 0x13),
    ("DELETEQ", 0x14),
    ("INCREMENTQ", 0x15),
    ("DECREMENTQ", 0x16),
    ("QUITQ", 0x17),
    ("FLUSHQ", 0x18),
    ("APPENDQ", 0x19),
    ("PREPENDQ", 0x1a),
    ("VERBOSITY", 0x1b),
    ("TOUCH", 0x1c),
    ("GAT", 0x1d),
    ("GATQ", 0x1e),
    ("SASL_LIST_MECHS", 0x20),
    ("SASL_AUTH", 0x21),
    ("SASL_STEP", 0x22),
    ("GATK", 0x23),
    ("GATKQ", 0x24),
];

/// A frame to send or to expect.
#[derive(Debug, Default)]
pub struct Frame {
    opcode: u8,
    /// Fields of the header that are named.
    fields: Vec<(Range<usize>, Number)>,
    extras: Vec<Piece>,
    key: Text,
    value: Value,
}

/// A number somewhere in a frame.
#[derive(Debug)]
enum Number {
    Fixed(u64),
    Captured(String),
    Recalled(String),
}

/// A part of the extras.
#[derive(Debug)]
enum Piece {
    Number(usize, Number),
    Bytes(Text),
}

#[derive(Debug)]
enum Value {
    Text(Text),
    /// 64 bits.
    Number(Number),
}

impl Default for Value {
    fn default() -> Self {
        Value::Text(Text::default())
    }
}

impl Frame {
    /// Parses `OPCODE name=value ...`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (opcode, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut frame = Frame {
            opcode: parse_opcode(opcode)?,
            ..Frame::default()
        };
        let mut rest = rest.trim_start();
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=').ok_or("a word without =")?;
            let (value, after) = split_value(after)?;
            frame.name(name, value)?;
            rest = after.trim_start();
        }
        Ok(frame)
    }

    /// The bytes to send. Panics where the script recalls what it has not captured.
    pub fn render(&self, captures: &Captures) -> Vec<u8> {
        let extras = self.extras(captures);
        let key = self.key.render(captures);
        let value = match &self.value {
            Value::Text(text) => text.render(captures),
            Value::Number(number) => number.value(captures).to_be_bytes().to_vec(),
        };
        let lengths = [extras.len(), key.len(), value.len()];
        let mut bytes = self.header(REQUEST, lengths, captures).to_vec();
        bytes.extend([extras, key, value].concat());
        bytes
    }

    /// How far `received`, of which more may come, follows this frame. Numbers are captured along the way.
    pub fn follow(&self, received: &[u8], captures: &mut Captures, clock: Clock) -> Progress {
        if received.first().is_some_and(|&magic| magic != RESPONSE) {
            return Progress::Mismatch;
        }
        let Some(consumed) = length(received) else {
            return Progress::Incomplete;
        };
        match self.is(&received[..consumed], captures, clock) {
            true => Progress::Complete { consumed },
            false => Progress::Mismatch,
        }
    }

    /// The frame as it is received where it is expected; captures that are not yet made stand as 0 or in braces.
    pub fn describe(&self, captures: &Captures) -> String {
        let value = match &self.value {
            Value::Text(text) => text.describe(captures),
            Value::Number(number) => escape(&number.value(captures).to_be_bytes()),
        };
        let extras = self.extras(captures);
        let key = self.key.render(captures);
        let header = self.header(RESPONSE, [extras.len(), key.len(), 0], captures);
        let captured = self
            .fields
            .iter()
            .any(|(_, number)| matches!(number, Number::Captured(_)));
        let note = if captured {
            " (one number is free)"
        } else {
            ""
        };
        format!("{}{note}", describe_parts(&header, &extras, &key, &value))
    }

    fn name(&mut self, name: &str, value: &str) -> Result<(), String> {
        if let Some((_, range)) = FIELDS.iter().find(|(field, _)| *field == name) {
            let number = Number::parse(value, range.len())?;
            self.fields.push((range.clone(), number));
        } else if let Some((_, bytes)) = EXTRAS.iter().find(|(extra, _)| *extra == name) {
            let number = Number::parse(value, *bytes)?;
            self.extras.push(Piece::Number(*bytes, number));
        } else {
            match name {
                "extras" => self.extras.push(Piece::Bytes(Text::parse(value)?)),
                "key" => self.key = Text::parse(value)?,
                "value" => self.value = Value::Text(Text::parse(value)?),
                "number" => self.value = Value::Number(Number::parse(value, 8)?),
                _ => return Err(format!("a frame has no {name:?}")),
            }
        }
        Ok(())
    }

    /// Whether a complete frame is the one expected.
    fn is(&self, received: &[u8], captures: &mut Captures, clock: Clock) -> bool {
        let extras = self.extras(captures);
        let key = self.key.render(captures);
        let before_value = HEADER_BYTES + extras.len() + key.len();
        let Some(value) = received.get(before_value..) else {
            return false;
        };
        let lengths = [extras.len(), key.len(), value.len()];
        let mut expected = self.header(RESPONSE, lengths, captures).to_vec();
        for (range, number) in &self.fields {
            if let Number::Captured(name) = number {
                let got = &received[range.clone()];
                expected[range.clone()].copy_from_slice(got);
                captures.insert(name.clone(), read(got).to_string().into_bytes());
            }
        }
        expected.extend([extras, key].concat());
        let value_is = match &self.value {
            Value::Text(text) => text.is(value, captures, clock),
            Value::Number(Number::Captured(name)) => {
                captures.insert(name.clone(), read(value).to_string().into_bytes());
                value.len() == 8
            }
            Value::Number(number) => value == number.value(captures).to_be_bytes(),
        };
        expected == received[..before_value] && value_is
    }

    fn extras(&self, captures: &Captures) -> Vec<u8> {
        let bytes = |piece: &Piece| match piece {
            Piece::Number(bytes, number) => {
                number.value(captures).to_be_bytes()[8 - bytes..].to_vec()
            }
            Piece::Bytes(text) => text.render(captures),
        };
        self.extras.iter().flat_map(bytes).collect()
    }

    /// The header of a frame whose extras, key and value have these lengths, unless other ones are named.
    fn header(&self, magic: u8, lengths: [usize; 3], captures: &Captures) -> [u8; HEADER_BYTES] {
        let [extras, key, value] = lengths;
        let mut header = [0; HEADER_BYTES];
        let mut put = |range: Range<usize>, number: u64| {
            let bytes = number.to_be_bytes();
            header[range.clone()].copy_from_slice(&bytes[8 - range.len()..]);
        };
        put(0..1, u64::from(magic));
        put(1..2, u64::from(self.opcode));
        put(2..4, key as u64);
        put(4..5, extras as u64);
        put(8..12, (extras + key + value) as u64);
        for (range, number) in &self.fields {
            put(range.clone(), number.value(captures));
        }
        header
    }
}

impl Number {
    /// Parses a number that must fit this many bytes.
    fn parse(text: &str, bytes: usize) -> Result<Self, String> {
        if let Some(inner) = text.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            return Ok(match inner.strip_suffix(":u64") {
                Some(name) => Number::Captured(name.to_string()),
                None => Number::Recalled(inner.to_string()),
            });
        }
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        let fitting = number.ok().filter(|number| {
            let bits_over = 64 - 8 * bytes as u32;
            number.leading_zeros() >= bits_over
        });
        let number = fitting.ok_or_else(|| format!("{text:?} is no number of {bytes} bytes"))?;
        Ok(Number::Fixed(number))
    }

    /// The number; one that is yet to be captured is 0. Panics on a name nothing was captured under.
    fn value(&self, captures: &Captures) -> u64 {
        match self {
            Number::Fixed(number) => *number,
            Number::Captured(_) => 0,
            Number::Recalled(name) => {
                let digits = captures.get(name);
                let digits = digits
                    .unwrap_or_else(|| panic!("the script recalls {{{name}}} before capturing it"));
                let digits = String::from_utf8_lossy(digits);
                digits.parse().expect("what was captured is a number")
            }
        }
    }
}

/// The length of the frame that `bytes` begin with, if it is there to its end.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER_BYTES)?;
    let length = HEADER_BYTES + read(&header[8..12]) as usize;
    (length <= bytes.len()).then_some(length)
}

/// Cuts replies into frames; where there is none, into lines.
pub fn split(mut replies: &[u8]) -> Vec<&[u8]> {
    let mut units = Vec::new();
    while !replies.is_empty() {
        let length = match replies[0] {
            RESPONSE => length(replies),
            _ => replies
                .iter()
                .position(|&byte| byte == b'\n')
                .map(|at| at + 1),
        };
        let (unit, rest) = replies.split_at(length.unwrap_or(replies.len()));
        units.push(unit);
        replies = rest;
    }
    units
}

/// What came where a frame was expected.
pub fn describe_received(bytes: &[u8]) -> String {
    let Some(length) = length(bytes).filter(|_| bytes[0] == RESPONSE) else {
        return escape(bytes);
    };
    let (header, body) = bytes[..length].split_at(HEADER_BYTES);
    let extras = usize::from(header[4]).min(body.len());
    let (extras, body) = body.split_at(extras);
    let key = (read(&header[2..4]) as usize).min(body.len());
    let (key, value) = body.split_at(key);
    describe_parts(header, extras, key, &escape(value))
}

fn describe_parts(header: &[u8], extras: &[u8], key: &[u8], value: &str) -> String {
    let opcode = OPCODES.iter().find(|(_, opcode)| *opcode == header[1]);
    let mut text = match opcode {
        Some((name, _)) => name.to_string(),
        None => format!("{:#04x}", header[1]),
    };
    for name in ["datatype", "status", "opaque", "cas"] {
        let (_, range) = FIELDS.iter().find(|(field, _)| *field == name).unwrap();
        let number = read(&header[range.clone()]);
        if number != 0 {
            write!(text, " {name}={number:#x}").expect("a String takes all");
        }
    }
    let (extras, key) = (escape(extras), escape(key));
    for (name, part) in [("extras", &*extras), ("key", &*key), ("value", value)] {
        if !part.is_empty() {
            write!(text, " {name}=\"{part}\"").expect("a String takes all");
        }
    }
    text
}

fn parse_opcode(text: &str) -> Result<u8, String> {
    if let Some((_, opcode)) = OPCODES.iter().find(|(name, _)| *name == text) {
        return Ok(*opcode);
    }
    let digits = text.strip_prefix("0x");
    let opcode = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
    opcode.ok_or_else(|| format!("no opcode is named {text:?}"))
}

/// Splits what stands behind a `=` from the rest: up to the closing quote, or up to the next space.
fn split_value(text: &str) -> Result<(&str, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        return Ok(text.split_once(' ').unwrap_or((text, "")));
    };
    let end = find_unescaped(quoted, '"').ok_or("a quote is not closed")?;
    Ok((&quoted[..end], &quoted[end + 1..]))
}

/// The number that up to eight bytes are, the first the most significant.
fn read(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}
