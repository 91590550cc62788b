//! Frames of the binary protocol, which are laid out alike in both directions: a header, extras, a key and
//! a value.
//!
//! Source: memcached's `doc/protocol-binary.xml`, "Packet Structure". Nothing of the server is used here.

#![allow(dead_code)] // Every program that includes this file uses its own part of it.

pub const REQUEST_MAGIC: u8 = 0x80;
pub const REPLY_MAGIC: u8 = 0x81;
pub const HEADER_BYTES: usize = 24;

/// A header as it stands; of its lengths nothing is known to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub magic: u8,
    pub opcode: u8,
    pub key_bytes: u16,
    pub extras_bytes: u8,
    /// Of a request, its virtual bucket.
    pub status: u16,
    pub body_bytes: u32,
    pub opaque: u32,
    pub unique: u64,
}

impl Header {
    /// Reads what stands at the front; `None` if that is no whole header.
    pub fn read(bytes: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let number = |from: usize, to: usize| {
            let digits = bytes[from..to].iter();
            digits.fold(0, |number, &byte| number << 8 | u64::from(byte))
        };
        Some(Header {
            magic: bytes[0],
            opcode: bytes[1],
            key_bytes: number(2, 4) as u16,
            extras_bytes: bytes[4],
            status: number(6, 8) as u16,
            body_bytes: number(8, 12) as u32,
            opaque: number(12, 16) as u32,
            unique: number(16, 24),
        })
    }

    /// The header of a request with this body.
    pub fn asking(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Header {
        Header {
            magic: REQUEST_MAGIC,
            opcode,
            key_bytes: key.len() as u16,
            extras_bytes: extras.len() as u8,
            status: 0,
            body_bytes: (extras.len() + key.len() + value.len()) as u32,
            opaque: 0,
            unique: 0,
        }
    }

    pub fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        (bytes[0], bytes[1]) = (self.magic, self.opcode);
        bytes[2..4].copy_from_slice(&self.key_bytes.to_be_bytes());
        bytes[4] = self.extras_bytes;
        bytes[6..8].copy_from_slice(&self.status.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.body_bytes.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.opaque.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.unique.to_be_bytes());
        bytes
    }

    /// What the body has beside extras and key; `None` if it is shorter than those.
    pub fn value_bytes(&self) -> Option<u32> {
        let head = u32::from(self.extras_bytes) + u32::from(self.key_bytes);
        self.body_bytes.checked_sub(head)
    }

    /// How long the whole frame is.
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }
}

/// A whole frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub header: Header,
    pub extras: &'a [u8],
    pub key: &'a [u8],
    pub value: &'a [u8],
    /// All of its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes the frame at the front of `bytes`; `None` if it is not whole, or contradicts itself.
    pub fn take(bytes: &mut &'a [u8]) -> Option<Frame<'a>> {
        let header = Header::read(bytes)?;
        header.value_bytes()?;
        let (whole, rest) = bytes.split_at_checked(header.frame_bytes())?;
        let (extras, behind) = whole[HEADER_BYTES..].split_at(header.extras_bytes.into());
        let (key, value) = behind.split_at(header.key_bytes.into());
        *bytes = rest;
        Some(Frame {
            header,
            extras,
            key,
            value,
            bytes: whole,
        })
    }
}
