//! Requests and answers of the binary protocol, for tests that talk to a running daemon.

#![allow(dead_code)] // Every test binary that includes this file uses its own part of it.

use std::io::Read;

/// A request; its lengths are what they should be unless a test says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Request {
    opcode: u8,
    extras: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
    /// Another length of the body than it has.
    body_bytes: Option<u32>,
}

impl Request {
    pub fn new(opcode: u8) -> Request {
        Request {
            opcode,
            ..Request::default()
        }
    }

    pub fn extras(mut self, extras: impl AsRef<[u8]>) -> Request {
        self.extras = extras.as_ref().to_vec();
        self
    }

    pub fn key(mut self, key: impl AsRef<[u8]>) -> Request {
        self.key = key.as_ref().to_vec();
        self
    }

    pub fn value(mut self, value: impl AsRef<[u8]>) -> Request {
        self.value = value.as_ref().to_vec();
        self
    }

    pub fn announcing(mut self, body_bytes: u32) -> Request {
        self.body_bytes = Some(body_bytes);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let body = self.extras.len() + self.key.len() + self.value.len();
        let body = self.body_bytes.unwrap_or(u32::try_from(body).unwrap());
        let mut bytes = vec![0; 24];
        (bytes[0], bytes[1]) = (0x80, self.opcode);
        bytes[2..4].copy_from_slice(&u16::try_from(self.key.len()).unwrap().to_be_bytes());
        bytes[4] = u8::try_from(self.extras.len()).unwrap();
        bytes[8..12].copy_from_slice(&body.to_be_bytes());
        for part in [&self.extras, &self.key, &self.value] {
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub opcode: u8,
    pub status: u16,
    pub unique: u64,
    pub extras: Vec<u8>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Answer {
    /// Waits for one.
    pub fn read(stream: &mut impl Read) -> Answer {
        let mut header = [0; 24];
        stream.read_exact(&mut header).unwrap();
        assert_eq!(header[0], 0x81, "the magic byte of answers");
        let length = u32::from_be_bytes(header[8..12].try_into().unwrap());
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).unwrap();
        let key_bytes = u16::from_be_bytes([header[2], header[3]]);
        let mut rest = body.split_off(header[4].into());
        let value = rest.split_off(key_bytes.into());
        Answer {
            opcode: header[1],
            status: u16::from_be_bytes([header[6], header[7]]),
            unique: u64::from_be_bytes(header[16..24].try_into().unwrap()),
            extras: body,
            key: rest,
            value,
        }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.value).unwrap()
    }
}
