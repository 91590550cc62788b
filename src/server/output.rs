//! Replies on their way out.
//!
//! The encoder writes into an [`Output`]; small values are copied behind their line, so that a batch
//! of replies is one contiguous buffer and one `send`; a packed value is unpacked right there. Larger
//! ones stay in the store and go out by reference between the bytes before and behind them, in one
//! vectored `send`. Copying 8 or 14 KB takes more instructions than that and less time: 1 to 3 % of a
//! request's, since the kernel then takes one piece, out of a near cache. What the kernel does not take at
//! once is copied where the budget allows it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use crate::engine::LENT_BYTES_MAX;
use crate::protocol::reply::{ReplySink, Unreadable, Value};

/// Values up to this are copied into the buffer.
const COPIED_BYTES_MAX: usize = LENT_BYTES_MAX;

/// A connection whose unsent replies exceed this decodes no further request.
pub const UNSENT_BYTES_MAX: usize = 64 << 10;

/// Slices that one `send` takes.
const SLICES_MAX: usize = 32;

/// Values of one batch that are referred to without an allocation.
const HELD_INLINE: usize = 2;

/// Bytes, and values among them that lie in the store.
#[derive(Debug)]
pub struct Output<V> {
    bytes: Vec<u8>,
    /// How much of everything has been sent.
    sent: usize,
    /// In the order of their places.
    held: SmallVec<[Held<V>; HELD_INLINE]>,
    value_bytes: usize,
    /// How much may wait before nothing more is decoded.
    full_at: usize,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    /// Bytes that go out before it.
    at: usize,
}

impl<V: Value> Output<V> {
    /// An empty output that writes into `buffer`.
    pub fn with_buffer(mut buffer: Vec<u8>) -> Output<V> {
        buffer.clear();
        Output::with_unsent(buffer)
    }

    /// One that has these bytes to send.
    pub fn with_unsent(bytes: Vec<u8>) -> Output<V> {
        Output {
            bytes,
            sent: 0,
            held: SmallVec::new(),
            value_bytes: 0,
            full_at: UNSENT_BYTES_MAX,
        }
    }

    /// The buffer, for use by another output.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes the buffer away, for use by another output, and what is in it with it.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Takes everything away.
    pub fn take(&mut self) -> Output<V> {
        std::mem::replace(self, Output::with_unsent(Vec::new()))
    }

    /// Takes the buffer away, for use by another output, and goes on with a copy of just its size.
    pub fn shrink(&mut self) -> Vec<u8> {
        let copy = self.bytes.as_slice().into();
        std::mem::replace(&mut self.bytes, copy)
    }

    /// Whether enough is waiting to be sent before anything more is decoded.
    pub fn is_full(&self) -> bool {
        self.unsent() >= self.full_at
    }

    /// Sets how much may wait before it is full: [`UNSENT_BYTES_MAX`] where nothing else is said.
    pub fn full_at(&mut self, bytes: usize) {
        self.full_at = bytes;
    }

    /// Bytes that have not been sent.
    pub fn unsent(&self) -> usize {
        self.bytes.len() + self.value_bytes - self.sent
    }

    /// Bytes that its own buffer takes.
    pub fn buffer_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Bytes in its own buffer.
    pub fn copied_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the store that its values keep from other use.
    pub fn held_bytes(&self) -> usize {
        self.held.iter().map(|held| held.value.held_bytes()).sum()
    }

    /// Sends as much as the socket takes; ready when all is sent. Gives the bytes sent to `count`.
    ///
    /// # Errors
    /// Those of the socket; `WriteZero` where it takes nothing.
    pub fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        mut count: impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        while self.unsent() > 0 {
            let sent = ready!(self.poll_send_once(stream, context))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
            count(sent);
        }
        self.bytes.clear();
        self.sent = 0;
        self.held.clear();
        self.value_bytes = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_send_once<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(stream);
        if self.held.is_empty() {
            return stream.poll_write(context, &self.bytes[self.sent..]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut used = 0;
        self.each_unsent(|piece| {
            if used < SLICES_MAX {
                slices[used] = IoSlice::new(piece);
                used += 1;
            }
        });
        stream.poll_write_vectored(context, &slices[..used])
    }

    /// Hands on what is unsent, piece by piece.
    fn each_unsent<'a>(&'a self, mut take: impl FnMut(&'a [u8])) {
        let mut skip = self.sent;
        let mut part = |bytes: &'a [u8]| {
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            if skipped < bytes.len() {
                take(&bytes[skipped..]);
            }
        };
        let mut from = 0;
        for held in &self.held {
            part(&self.bytes[from..held.at]);
            from = held.at;
            let mut offset = 0;
            while offset < held.value.len() {
                let piece = held.value.piece(offset);
                part(piece);
                offset += piece.len();
            }
        }
        part(&self.bytes[from..]);
    }

    /// What is unsent, in a buffer of its own of just that size; values in the store are let go.
    pub fn copy_unsent(&self) -> Output<V> {
        let mut bytes = Vec::with_capacity(self.unsent());
        self.each_unsent(|piece| bytes.extend_from_slice(piece));
        Output::with_unsent(bytes)
    }
}

impl<V: Value> ReplySink<V> for Output<V> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    #[inline]
    fn value(&mut self, value: V) -> Result<(), Unreadable> {
        if value.len() <= COPIED_BYTES_MAX || !value.is_in_place() {
            return value.append_to(&mut self.bytes);
        }
        self.value_bytes += value.len();
        self.held.push(Held {
            value,
            at: self.bytes.len(),
        });
        Ok(())
    }

    fn mark(&self) -> usize {
        self.bytes.len()
    }

    fn rewind(&mut self, mark: usize) {
        self.bytes.truncate(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// A socket that takes a few bytes at a time, and then none for a while.
    struct Narrow {
        taken: Vec<u8>,
        turn: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.turn += 1;
            if self.turn.is_multiple_of(3) {
                return Poll::Pending;
            }
            let count = bytes.len().min(7_001);
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn send_all(output: &mut Output<&[u8]>, copy: bool) -> Vec<u8> {
        let mut narrow = Narrow {
            taken: Vec::new(),
            turn: 0,
        };
        let mut context = Context::from_waker(Waker::noop());
        while output
            .poll_send(&mut narrow, &mut context, |_| ())
            .is_pending()
        {
            if copy {
                *output = output.copy_unsent();
                assert_eq!(output.buffer_bytes(), output.unsent());
            }
        }
        narrow.taken
    }

    #[test]
    fn large_values_go_out_between_their_lines_however_they_are_cut() {
        let value: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
        for copy in [false, true] {
            let mut output = Output::with_buffer(Vec::new());
            let mut expected = Vec::new();
            for (line, value) in [
                ("one", &value[..]),
                ("two", b"small"),
                ("three", &value[7..]),
            ] {
                output.bytes(line.as_bytes());
                output.value(value).unwrap();
                output.bytes(b"\r\n");
                expected.extend([line.as_bytes(), value, b"\r\n"].concat());
            }
            assert!(output.is_full());
            assert_eq!(send_all(&mut output, copy), expected);
            assert_eq!(output.unsent(), 0);
        }
    }
}
