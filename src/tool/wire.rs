//! The tool's end of a connection: bytes out, lines and bodies in, from one buffer that is used
//! again and again.
//!
//! [`exchange`](super::exchange) puts requests in and takes replies out; nothing here knows a
//! command. A connection that has read nothing owns no buffer, so ten thousand silent ones are
//! cheap. Who calls sees to time limits.
//!
//! Invariant: `inbox[start..end]` is what was received and not yet consumed.

use super::{Error, Target, shown};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Bytes of the buffer that a connection reads into at first: ten thousand connections have one each.
const INBOX_BYTES_MIN: usize = 4 << 10;

/// What it grows to where reads fill it; further only if one reply is larger.
const INBOX_BYTES_MAX: usize = 64 << 10;

/// Bytes of the longest line a server may send.
const LINE_BYTES_MAX: usize = 2048;

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into).await,
            Stream::Unix(stream) => stream.read(into).await,
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes).await,
            Stream::Unix(stream) => stream.write_all(bytes).await,
        }
    }
}

/// One connection to a server.
pub struct Connection {
    target: Target,
    stream: Stream,
    inbox: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    /// Opens a connection; with TCP, without Nagle's delay.
    pub async fn open(target: &Target) -> Result<Self, Error> {
        let opened = match target {
            Target::Tcp(address) => TcpStream::connect(address).await.and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }),
            Target::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        };
        Ok(Connection {
            target: target.clone(),
            stream: opened.map_err(|why| Error::Connect(target.clone(), why))?,
            inbox: Vec::new(),
            start: 0,
            end: 0,
        })
    }

    /// Sends all of `bytes`; waits while the socket is full.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream
            .write_all(bytes)
            .await
            .map_err(|why| Error::Lost(self.target.clone(), why))
    }

    /// Waits for a whole line and gives its length, `\r\n` included; [`Connection::peek`] shows it.
    pub async fn line(&mut self) -> Result<usize, Error> {
        let mut seen = 0;
        loop {
            let received = &self.inbox[self.start..self.end];
            if let Some(at) = memchr::memchr(b'\n', &received[seen..]) {
                return Ok(seen + at + 1);
            }
            seen = received.len();
            if seen > LINE_BYTES_MAX {
                return Err(self.garbled(seen));
            }
            self.receive(seen + 1).await?;
        }
    }

    /// Waits until `bytes` bytes are there to be [peeked](Connection::peek) at.
    pub async fn need(&mut self, bytes: usize) -> Result<(), Error> {
        while self.end - self.start < bytes {
            self.receive(bytes).await?;
        }
        Ok(())
    }

    /// The next `bytes` bytes, which [`line`](Connection::line) or [`need`](Connection::need) have
    /// waited for.
    pub fn peek(&self, bytes: usize) -> &[u8] {
        &self.inbox[self.start..][..bytes]
    }

    /// Lets go of the next `bytes` bytes.
    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        debug_assert!(self.start <= self.end);
    }

    /// Lets go of the buffer; only for a connection that will stay silent.
    pub fn rest(&mut self) {
        debug_assert_eq!(self.start, self.end);
        (self.inbox, self.start, self.end) = (Vec::new(), 0, 0);
    }

    /// The process at the other end, which a unix socket tells.
    pub fn peer_pid(&self) -> Option<u32> {
        match &self.stream {
            Stream::Tcp(_) => None,
            Stream::Unix(stream) => stream.peer_cred().ok()?.pid()?.try_into().ok(),
        }
    }

    /// The error for a server that sent the next `bytes` bytes where they make no sense.
    pub fn garbled(&self, bytes: usize) -> Error {
        Error::Garbled(self.target.clone(), shown(self.peek(bytes)))
    }

    /// Makes room for `wanted` unconsumed bytes and reads once.
    async fn receive(&mut self, wanted: usize) -> Result<(), Error> {
        if self.start + wanted > self.inbox.len() || self.start == self.end {
            self.inbox.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if wanted > self.inbox.len() {
            self.inbox.resize(wanted.max(INBOX_BYTES_MIN), 0);
        }
        let read = self.stream.read(&mut self.inbox[self.end..]).await;
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                self.end += bytes;
                let length = self.inbox.len();
                if self.end == length && length < INBOX_BYTES_MAX {
                    self.inbox.resize(2 * length, 0);
                }
                Ok(())
            }
            Err(why) => Err(why),
        }
        .map_err(|why| Error::Lost(self.target.clone(), why))
    }
}
