//! A client's socket, TCP or unix, as the runtime's reactor waits for it.
//!
//! `acceptor` makes one of each accepted socket without TLS, `connection` reads and writes it. What tokio's own
//! streams do, with the system calls made directly: the C library's `recv` and `send` prepare for a thread that is
//! cancelled within, which costs as much as decoding a request.
//!
//! Invariant: a read or write that the kernel has carried out in part is the last one until the reactor reports the
//! socket again: one system call tells what two would.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream socket that does not block.
#[derive(Debug)]
pub struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    /// Enters a socket, which must not block, in the reactor of the runtime that calls.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn new(socket: OwnedFd) -> io::Result<Stream> {
        // SAFETY: an `OwnedFd` is an open descriptor for as long as it lives, and nobody replaces or closes it within
        // the `AsyncFd`, which lends it only shared.
        let registered = unsafe { AsyncFd::register(socket) };
        Ok(Stream(registered?))
    }

    /// Takes the socket out of the reactor.
    pub fn into_socket(self) -> OwnedFd {
        self.0.into_inner()
    }

    /// Writes once the socket takes something.
    #[inline]
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        length: usize,
        send: impl Fn(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match send(self.0.get_ref()) {
                Ok(sent) => {
                    if sent < length {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            let length = room.len();
            match rustix::net::recv(self.0.get_ref(), room, RecvFlags::empty()) {
                Ok((read, _)) => {
                    // At the end there is nothing to wait for.
                    if read > 0 && read < length {
                        guard.clear_ready();
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, bytes.len(), |socket| {
            rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)
        })
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.poll_send(context, length, |socket| {
            let mut nothing = SendAncillaryBuffer::default();
            rustix::net::sendmsg(socket, slices, &mut nothing, SendFlags::NOSIGNAL)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            rustix::net::shutdown(self.0.get_ref(), Shutdown::Write).map_err(io::Error::from),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pair() -> (Stream, UnixStream) {
        let (own, peer) = UnixStream::pair().unwrap();
        own.set_nonblocking(true).unwrap();
        (Stream::new(own.into()).unwrap(), peer)
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_io().build().unwrap().block_on(test)
    }

    #[test]
    fn what_comes_after_a_short_read_is_read_and_the_end_is_seen() {
        run(async {
            let (mut stream, mut peer) = pair();
            let mut buffer = [0; 16];
            for piece in [&b"one"[..], b"and another", b"16 bytes at once"] {
                peer.write_all(piece).unwrap();
                let read = stream.read(&mut buffer).await.unwrap();
                assert_eq!(&buffer[..read], piece);
            }
            let writer = std::thread::spawn(move || peer.write_all(b"late").unwrap());
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
            writer.join().unwrap();
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
        });
    }

    #[test]
    fn what_is_longer_than_the_buffer_is_read_on_without_another_event() {
        run(async {
            let (mut stream, mut peer) = pair();
            peer.write_all(&[7; 40]).unwrap();
            let mut buffer = [0; 16];
            for expected in [16, 16, 8] {
                assert_eq!(stream.read(&mut buffer).await.unwrap(), expected);
            }
        });
    }

    #[test]
    fn more_than_the_socket_takes_goes_out_as_the_peer_reads() {
        let sent: Vec<u8> = (0..4_000_000u32).map(|number| (number / 3) as u8).collect();
        for vectored in [false, true] {
            let (whole, expected) = (sent.clone(), sent.clone());
            run(async {
                let (mut stream, mut peer) = pair();
                let reader = std::thread::spawn(move || {
                    let mut read = Vec::new();
                    peer.read_to_end(&mut read).unwrap();
                    read
                });
                let mut rest = &whole[..];
                while !rest.is_empty() {
                    let (front, back) = rest.split_at(rest.len() / 2);
                    let written = match vectored {
                        true => {
                            let slices = [IoSlice::new(front), IoSlice::new(back)];
                            stream.write_vectored(&slices).await
                        }
                        false => stream.write(rest).await,
                    };
                    rest = &rest[written.unwrap()..];
                }
                stream.shutdown().await.unwrap();
                assert!(reader.join().unwrap() == expected);
            });
        }
    }

    #[test]
    fn a_peer_that_is_gone_is_an_error_and_no_signal() {
        run(async {
            let (mut stream, peer) = pair();
            drop(peer);
            let error = stream.write_all(b"late").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        });
    }
}
