//! What each opcode's requests and answers look like, as a client knows it: `protocol_binary.h`, and
//! `proto_bin.c` of memcached 1.6.45 for the statuses. Nothing of the server is used here.

use crate::frames::Header;

pub const STAT: u8 = 0x10;

/// Longest key.
const KEY_BYTES_MAX: u16 = 250;

/// Longest body that is announced in earnest.
const BODY_BYTES_MAX: u32 = 1 << 30;

/// What an opcode asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Get,
    Touch,
    Set,
    /// ADD and REPLACE.
    SetIf,
    Extend,
    Delete,
    Count,
    Flush,
    /// NOOP and VERBOSITY.
    Nothing,
    Version,
    Stat,
    Quit,
    /// SASL START and STEP; LIST MECHANISMS has no key.
    Sasl,
    Mechanisms,
    Unknown,
}

/// An opcode.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub kind: Kind,
    /// What is but well is not answered; a miss is not, for those that look up.
    pub quiet: bool,
    /// The key comes back.
    pub with_key: bool,
    /// How long extras are; FLUSH may be without.
    pub extras_bytes: u8,
}

impl Shape {
    pub fn of(opcode: u8) -> Shape {
        let (kind, extras_bytes) = match opcode {
            0x00 | 0x09 | 0x0c | 0x0d => (Kind::Get, 0),
            0x1c..=0x1e | 0x23 | 0x24 => (Kind::Touch, 4),
            0x01 | 0x11 => (Kind::Set, 8),
            0x02 | 0x03 | 0x12 | 0x13 => (Kind::SetIf, 8),
            0x0e | 0x0f | 0x19 | 0x1a => (Kind::Extend, 0),
            0x04 | 0x14 => (Kind::Delete, 0),
            0x05 | 0x06 | 0x15 | 0x16 => (Kind::Count, 20),
            0x08 | 0x18 => (Kind::Flush, 4),
            0x0a => (Kind::Nothing, 0),
            0x1b => (Kind::Nothing, 4),
            0x0b => (Kind::Version, 0),
            STAT => (Kind::Stat, 0),
            0x07 | 0x17 => (Kind::Quit, 0),
            0x20 => (Kind::Mechanisms, 0),
            0x21 | 0x22 => (Kind::Sasl, 0),
            _ => (Kind::Unknown, 0),
        };
        Shape {
            kind,
            quiet: matches!(opcode, 0x09 | 0x0d | 0x11..=0x1a | 0x1e | 0x24),
            with_key: matches!(opcode, 0x0c | 0x0d | 0x23 | 0x24),
            extras_bytes,
        }
    }

    pub fn has_key(self) -> bool {
        use Kind::{Count, Delete, Extend, Get, Sasl, Set, SetIf, Touch};
        matches!(
            self.kind,
            Get | Touch | Set | SetIf | Extend | Delete | Count | Sasl
        )
    }

    pub fn has_value(self) -> bool {
        use Kind::{Extend, Sasl, Set, SetIf};
        matches!(self.kind, Set | SetIf | Extend | Sasl)
    }

    pub fn looks_up(self) -> bool {
        matches!(self.kind, Kind::Get | Kind::Touch)
    }

    /// The status with which a request of this header is the connection's last, if it is.
    pub fn contradiction(self, header: &Header) -> Option<u16> {
        let Some(value_bytes) = header.value_bytes() else {
            return Some(0x81);
        };
        let too_long = header.key_bytes > KEY_BYTES_MAX || header.body_bytes > BODY_BYTES_MAX;
        let fits = self.kind == Kind::Unknown
            || self.extras_fit(header.extras_bytes)
                && self.key_fits(header.key_bytes)
                && (self.has_value() || value_bytes == 0);
        (too_long || !fits).then_some(0x04)
    }

    fn extras_fit(self, bytes: u8) -> bool {
        bytes == self.extras_bytes || self.kind == Kind::Flush && bytes == 0
    }

    fn key_fits(self, bytes: u16) -> bool {
        self.kind == Kind::Stat || (bytes > 0) == self.has_key()
    }

    /// The statuses that it may be answered.
    pub fn statuses(self) -> &'static [u16] {
        match self.kind {
            Kind::Get | Kind::Touch | Kind::Stat => &[0, 1],
            Kind::Set | Kind::SetIf => &[0, 1, 2, 3, 0x82],
            Kind::Extend => &[0, 2, 3, 5, 0x82],
            Kind::Delete => &[0, 1, 2],
            Kind::Count => &[0, 1, 2, 6, 0x82],
            Kind::Flush | Kind::Nothing | Kind::Version | Kind::Quit => &[0],
            Kind::Sasl => &[4, 0x81],
            Kind::Mechanisms | Kind::Unknown => &[0x81],
        }
    }
}

/// The words of a status that is not success.
pub fn words(status: u16) -> &'static [u8] {
    match status {
        0x01 => b"Not found",
        0x02 => b"Data exists for key.",
        0x03 => b"Too large.",
        0x04 => b"Invalid arguments",
        0x05 => b"Not stored.",
        0x06 => b"Non-numeric server-side value for incr or decr",
        0x81 => b"Unknown command",
        0x82 => b"Out of memory",
        _ => panic!("no request is answered {status:#x} here"),
    }
}
