//! The binary protocol's `GET`, `GETKQ` and `SET`. Source: memcached's `doc/protocol-binary.xml`.
//!
//! A look-up of several keys is as many quiet ones and a `NOOP` that ends them. Each request carries its place in the
//! batch as its opaque, which has to come back.

use super::{Exchange, Shared};
use crate::tool::Error;
use std::ops::Range;

const REQUEST: u8 = 0x80;
const REPLY: u8 = 0x81;
const HEADER_BYTES: usize = 24;
const FLAGS_BYTES: usize = 4;

const SET: u8 = 0x01;
const NOOP: u8 = 0x0a;
const GETK: u8 = 0x0c;
const GETKQ: u8 = 0x0d;

const NOT_FOUND: u16 = 1;

/// What is told of a frame in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    opcode: u8,
    key_bytes: usize,
    extras_bytes: usize,
    status: u16,
    body_bytes: usize,
    opaque: u32,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().ok()?;
        let short = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u32::from(short(at)) << 16 | u32::from(short(at + 2));
        let header = Header {
            opcode: bytes[1],
            key_bytes: usize::from(short(2)),
            extras_bytes: usize::from(bytes[4]),
            status: short(6),
            body_bytes: long(8) as usize,
            opaque: long(12),
        };
        let fits = header.key_bytes + header.extras_bytes <= header.body_bytes;
        (bytes[0] == REPLY && fits && header.body_bytes < 1 << 30).then_some(header)
    }
}

impl Exchange {
    fn push_header(&mut self, opcode: u8, key: usize, extras: usize, value: usize, opaque: usize) {
        let body = (key + extras + value) as u32;
        self.outbox.extend_from_slice(&[REQUEST, opcode]);
        self.outbox.extend_from_slice(&(key as u16).to_be_bytes());
        self.outbox.extend_from_slice(&[extras as u8, 0, 0, 0]);
        self.outbox.extend_from_slice(&body.to_be_bytes());
        self.outbox
            .extend_from_slice(&(opaque as u32).to_be_bytes());
        self.outbox.extend_from_slice(&[0; 8]);
    }

    pub(super) fn push_get_binary(&mut self, shared: &Shared, keys: impl Iterator<Item = u64>) {
        let first = self.asked.len();
        let key_bytes = shared.workload.key_bytes();
        let mut keys = keys.peekable();
        while let Some(key) = keys.next() {
            let place = self.asked.len();
            let alone = place == first && keys.peek().is_none();
            let opcode = if alone { GETK } else { GETKQ };
            self.push_header(opcode, key_bytes, 0, 0, place);
            self.push_asked(shared, key);
        }
        let end = self.asked.len();
        if end - first > 1 {
            self.push_header(NOOP, 0, 0, 0, end);
        }
    }

    pub(super) fn push_set_binary(&mut self, shared: &Shared, key: u64, version: u32) {
        let shape = shared.workload.shape(key, version);
        let key_bytes = shared.workload.key_bytes();
        let place = self.requests.len();
        self.push_header(SET, key_bytes, 8, shape.bytes, place);
        self.outbox.extend_from_slice(&shape.flags.to_be_bytes());
        let exptime = shared.exptime_seconds.to_be_bytes();
        self.outbox.extend_from_slice(&exptime);
        shared.workload.push_key(key, &mut self.outbox);
        shared.workload.push_value(key, version, &mut self.outbox);
    }

    /// Waits for a whole frame, which is left where it is.
    async fn frame(&mut self) -> Result<Header, Error> {
        self.connection.need(HEADER_BYTES).await?;
        let Some(header) = Header::parse(self.connection.peek(HEADER_BYTES)) else {
            return Err(self.connection.garbled(HEADER_BYTES));
        };
        self.connection
            .need(HEADER_BYTES + header.body_bytes)
            .await?;
        Ok(header)
    }

    /// Counts the error of this frame, which is consumed.
    fn refused(&mut self, header: Header) {
        let frame = self.connection.peek(HEADER_BYTES + header.body_bytes);
        let said = String::from_utf8_lossy(&frame[HEADER_BYTES..]).into_owned();
        let line = format!("status {}: {said}", header.status);
        self.counts.error(line.as_bytes());
        self.connection.consume(HEADER_BYTES + header.body_bytes);
    }

    pub(super) async fn read_set_binary(&mut self, place: usize) -> Result<bool, Error> {
        let header = self.frame().await?;
        if header.opcode != SET || header.opaque as usize != place {
            return Err(self.connection.garbled(HEADER_BYTES));
        }
        if header.status == 0 {
            self.connection.consume(HEADER_BYTES + header.body_bytes);
        } else {
            self.refused(header);
        }
        Ok(header.status == 0)
    }

    /// Reads the values, which come in the order of the keys, some left out, up to the answer to the `NOOP`; of one
    /// key, its answer.
    pub(super) async fn read_get_binary(
        &mut self,
        shared: &Shared,
        mut asked: Range<usize>,
    ) -> Result<(), Error> {
        let alone = asked.len() == 1;
        let end = asked.end;
        loop {
            let header = self.frame().await?;
            let whole = HEADER_BYTES + header.body_bytes;
            let place = header.opaque as usize;
            match (header.opcode, header.status) {
                (NOOP, 0) if !alone && place == end => {
                    self.counts.misses += asked.len() as u64;
                    self.connection.consume(whole);
                    return Ok(());
                }
                (GETK, NOT_FOUND) if alone && place == asked.start => {
                    self.counts.misses += 1;
                    self.connection.consume(whole);
                    return Ok(());
                }
                (GETK | GETKQ, 0) => {
                    let Some(at) = self.named(shared, header, &asked) else {
                        return Err(self.connection.garbled(HEADER_BYTES));
                    };
                    self.pass(&mut asked, at);
                    self.judge_frame(shared, header, at);
                    self.connection.consume(whole);
                }
                (GETK | GETKQ, 1..) if asked.contains(&place) => {
                    self.pass(&mut asked, place);
                    self.refused(header);
                }
                _ => return Err(self.connection.garbled(HEADER_BYTES)),
            }
            if alone {
                return Ok(());
            }
        }
    }

    /// Which of the keys asked for a frame with a value answers: that of its opaque, if it names it.
    fn named(&self, shared: &Shared, header: Header, asked: &Range<usize>) -> Option<usize> {
        let at = header.opaque as usize;
        let key_at = HEADER_BYTES + header.extras_bytes;
        let frame = self.connection.peek(HEADER_BYTES + header.body_bytes);
        let key = &frame[key_at..][..header.key_bytes];
        let is_it = asked.contains(&at)
            && header.extras_bytes == FLAGS_BYTES
            && self.find(shared, key, &(at..at + 1)).is_some();
        is_it.then_some(at)
    }

    fn judge_frame(&mut self, shared: &Shared, header: Header, at: usize) {
        let whole = HEADER_BYTES + header.body_bytes;
        let value_at = HEADER_BYTES + FLAGS_BYTES + header.key_bytes;
        let flags = &self.connection.peek(whole)[HEADER_BYTES..][..FLAGS_BYTES];
        let flags = flags
            .iter()
            .fold(0, |flags, byte| flags << 8 | u32::from(*byte));
        self.judge(shared, at, flags, value_at..whole);
    }
}
