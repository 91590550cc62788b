//! The text protocol's `get` and `set`. Source: memcached's `protocol.txt`, "Storage commands" and "Retrieval
//! command".

use super::{Exchange, Shared};
use crate::tool::Error;
use std::io::Write;
use std::ops::Range;

impl Exchange {
    pub(super) fn push_get_classic(&mut self, shared: &Shared, keys: impl Iterator<Item = u64>) {
        self.outbox.extend_from_slice(b"get");
        for key in keys {
            self.outbox.push(b' ');
            self.push_asked(shared, key);
        }
        self.outbox.extend_from_slice(b"\r\n");
    }

    pub(super) fn push_set_classic(&mut self, shared: &Shared, key: u64, version: u32) {
        let shape = shared.workload.shape(key, version);
        self.outbox.extend_from_slice(b"set ");
        shared.workload.push_key(key, &mut self.outbox);
        let (flags, exptime, bytes) = (shape.flags, shared.exptime_seconds, shape.bytes);
        write!(self.outbox, " {flags} {exptime} {bytes}\r\n").expect("a Vec takes all writes");
        shared.workload.push_value(key, version, &mut self.outbox);
        self.outbox.extend_from_slice(b"\r\n");
    }

    pub(super) async fn read_set_classic(&mut self) -> Result<bool, Error> {
        let length = self.connection.line().await?;
        let line = self.connection.peek(length);
        if line == b"STORED\r\n" {
            self.connection.consume(length);
            Ok(true)
        } else if line == b"NOT_STORED\r\n" || is_error(line) {
            self.error(length);
            Ok(false)
        } else {
            Err(self.connection.garbled(length))
        }
    }

    /// Reads the `VALUE`s of one get, which come in the order of the keys, some left out, up to its
    /// `END`.
    pub(super) async fn read_get_classic(
        &mut self,
        shared: &Shared,
        mut asked: Range<usize>,
    ) -> Result<(), Error> {
        let key_bytes = shared.workload.key_bytes();
        loop {
            let length = self.connection.line().await?;
            let line = self.connection.peek(length);
            if line == b"END\r\n" {
                self.counts.misses += asked.len() as u64;
                self.connection.consume(length);
                return Ok(());
            }
            if is_error(line) {
                self.error(length);
                return Ok(());
            }
            let named = || line.get(6..6 + key_bytes);
            let Some((header, at)) = Header::parse(line, key_bytes)
                .and_then(|header| Some((header, self.find(shared, named()?, &asked)?)))
            else {
                return Err(self.connection.garbled(length));
            };
            self.pass(&mut asked, at);
            self.read_value(shared, (at, header.flags), length, header.bytes)
                .await?;
        }
    }

    /// Reads and judges a value of a text protocol behind its line, and consumes both.
    pub(super) async fn read_value(
        &mut self,
        shared: &Shared,
        (at, flags): (usize, u32),
        line_bytes: usize,
        value_bytes: usize,
    ) -> Result<(), Error> {
        let whole = line_bytes + value_bytes + 2;
        self.connection.need(whole).await?;
        if !self.connection.peek(whole).ends_with(b"\r\n") {
            return Err(self.connection.garbled(line_bytes));
        }
        self.judge(shared, at, flags, line_bytes..line_bytes + value_bytes);
        self.connection.consume(whole);
        Ok(())
    }
}

/// What follows the key in `VALUE <key> <flags> <bytes>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Client flags.
    pub flags: u32,
    /// Length of the value.
    pub bytes: usize,
}

impl Header {
    /// Reads a line, its end included; `None` for any other.
    pub fn parse(line: &[u8], key_bytes: usize) -> Option<Header> {
        let numbers = line
            .strip_prefix(b"VALUE ")?
            .get(key_bytes..)?
            .strip_prefix(b" ")?
            .strip_suffix(b"\r\n")?;
        let (flags, bytes) = std::str::from_utf8(numbers).ok()?.split_once(' ')?;
        Some(Header {
            flags: flags.parse().ok()?,
            bytes: bytes.parse().ok().filter(|bytes| *bytes < 1 << 30)?,
        })
    }
}

/// Whether a line of a text protocol tells of an error.
pub fn is_error(line: &[u8]) -> bool {
    line == b"ERROR\r\n" || line.starts_with(b"SERVER_ERROR ") || line.starts_with(b"CLIENT_ERROR ")
}
