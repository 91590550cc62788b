//! The text protocol's `mg` and `ms`. Source: memcached's `protocol.txt`, "Meta Commands".
//!
//! A look-up of several keys is as many quiet `mg`s and an `mn` that ends them.

use super::classic::is_error;
use super::{Exchange, Shared};
use crate::tool::Error;
use std::io::Write;
use std::ops::Range;

impl Exchange {
    pub(super) fn push_get_meta(&mut self, shared: &Shared, keys: impl Iterator<Item = u64>) {
        let first = self.asked.len();
        let mut keys = keys.peekable();
        while let Some(key) = keys.next() {
            let alone = self.asked.len() == first && keys.peek().is_none();
            self.outbox.extend_from_slice(b"mg ");
            self.push_asked(shared, key);
            let flags: &[u8] = if alone {
                b" f k v\r\n"
            } else {
                b" f k v q\r\n"
            };
            self.outbox.extend_from_slice(flags);
        }
        if self.asked.len() - first > 1 {
            self.outbox.extend_from_slice(b"mn\r\n");
        }
    }

    pub(super) fn push_set_meta(&mut self, shared: &Shared, key: u64, version: u32) {
        let shape = shared.workload.shape(key, version);
        self.outbox.extend_from_slice(b"ms ");
        shared.workload.push_key(key, &mut self.outbox);
        let (flags, exptime, bytes) = (shape.flags, shared.exptime_seconds, shape.bytes);
        write!(self.outbox, " {bytes} F{flags} T{exptime}\r\n").expect("a Vec takes all writes");
        shared.workload.push_value(key, version, &mut self.outbox);
        self.outbox.extend_from_slice(b"\r\n");
    }

    pub(super) async fn read_set_meta(&mut self) -> Result<bool, Error> {
        let length = self.connection.line().await?;
        let line = self.connection.peek(length);
        if line == b"HD\r\n" {
            self.connection.consume(length);
            Ok(true)
        } else if line == b"NS\r\n" || is_error(line) {
            self.error(length);
            Ok(false)
        } else {
            Err(self.connection.garbled(length))
        }
    }

    /// Reads the `VA`s, which come in the order of the keys, some left out, up to `MN`; of one key, its `VA` or `EN`.
    pub(super) async fn read_get_meta(
        &mut self,
        shared: &Shared,
        mut asked: Range<usize>,
    ) -> Result<(), Error> {
        let alone = asked.len() == 1;
        loop {
            let length = self.connection.line().await?;
            let line = self.connection.peek(length);
            let is_end = match alone {
                true => self.is_miss(shared, line, &asked),
                false => line == b"MN\r\n",
            };
            if is_end {
                self.counts.misses += asked.len() as u64;
                self.connection.consume(length);
                return Ok(());
            }
            if is_error(line) && !asked.is_empty() {
                // It does not say for which key, but for one of those not passed yet.
                self.error(length);
                asked.start += 1;
                if alone {
                    return Ok(());
                }
                continue;
            }
            let Some((header, at)) = Header::parse(line)
                .and_then(|header| Some((header, self.find(shared, header.key, &asked)?)))
            else {
                return Err(self.connection.garbled(length));
            };
            let (flags, bytes) = (header.flags, header.bytes);
            self.pass(&mut asked, at);
            self.read_value(shared, (at, flags), length, bytes).await?;
            if alone {
                return Ok(());
            }
        }
    }

    /// Whether a line is `EN`, with the key behind it or without: memcached names it since it was asked to.
    fn is_miss(&self, shared: &Shared, line: &[u8], asked: &Range<usize>) -> bool {
        let named = line.strip_prefix(b"EN k");
        let key = named.and_then(|named| named.strip_suffix(b"\r\n"));
        line == b"EN\r\n" || key.is_some_and(|key| self.find(shared, key, asked).is_some())
    }
}

/// `VA <bytes> f<flags> k<key>`.
#[derive(Clone, Copy)]
struct Header<'l> {
    bytes: usize,
    flags: u32,
    key: &'l [u8],
}

impl<'l> Header<'l> {
    fn parse(line: &'l [u8]) -> Option<Header<'l>> {
        let mut words = line
            .strip_prefix(b"VA ")?
            .strip_suffix(b"\r\n")?
            .split(|byte| *byte == b' ');
        let mut number = |mark: &[u8]| {
            let digits = words.next()?.strip_prefix(mark)?;
            std::str::from_utf8(digits).ok()?.parse::<u32>().ok()
        };
        let (bytes, flags) = (number(b"")?, number(b"f")?);
        let key = words.next()?.strip_prefix(b"k")?;
        let ends = words.next().is_none() && bytes < 1 << 30;
        ends.then_some(Header {
            bytes: bytes as usize,
            flags,
            key,
        })
    }
}
