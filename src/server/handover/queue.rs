//! The queue in which connections wait for a successor: a pair of SOCK_SEQPACKET sockets, whose receiving end
//! is handed on. A descriptor of its own for each connection would cost the service manager quadratic time.
//!
//! Each message carries up to [`SOCKETS_MAX`] sockets (SCM_RIGHTS, unix(7)) and a byte for each: what can be
//! done with it by a successor that cannot read the state. Their order is that of the state's connections.
//!
//! Invariants:
//! - sockets come out in the order in which they went in, and one that is lost on the way (the successor may
//!   open no more files) leaves its place empty;
//! - nothing waits: a queue that takes no more is an error, and what is not in it is closed by its owner.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Most sockets that one message carries (`SCM_MAX_FD` of the kernel).
const SOCKETS_MAX: usize = 253;

/// Bytes that the queue should take; the system may allow less, which is enough for thousands.
const QUEUE_BYTES: usize = 8 << 20;

/// A socket in the queue, by what is between two reads of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rest {
    /// Something: without the state nobody can go on with it.
    Busy = 0,
    /// Nothing: a conversation that begins anew goes on with it.
    Idle = 1,
}

/// Both ends of a queue.
#[derive(Debug)]
pub struct Queue {
    sender: OwnedFd,
    receiver: OwnedFd,
}

impl Queue {
    /// An empty one.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn new() -> io::Result<Queue> {
        let (sender, receiver) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        // Beyond what the system allows it takes what it may.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&sender, QUEUE_BYTES);
        Ok(Queue { sender, receiver })
    }

    /// Puts sockets into it, in this order. They stay the caller's too.
    ///
    /// # Errors
    /// `WouldBlock` if it takes no more, and the system's (`ETOOMANYREFS`: more descriptors under way than
    /// one may open); with how many went in.
    pub fn put(&self, sockets: &[(BorrowedFd<'_>, Rest)]) -> Result<(), (usize, io::Error)> {
        for (number, message) in sockets.chunks(SOCKETS_MAX).enumerate() {
            self.send(message)
                .map_err(|error| (number * SOCKETS_MAX, error))?;
        }
        Ok(())
    }

    fn send(&self, message: &[(BorrowedFd<'_>, Rest)]) -> io::Result<()> {
        let sockets: Vec<_> = message.iter().map(|(socket, _)| *socket).collect();
        let rests: Vec<u8> = message.iter().map(|(_, rest)| *rest as u8).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL;
        rustix::net::sendmsg(&self.sender, &[IoSlice::new(&rests)], &mut control, flags)?;
        Ok(())
    }

    /// The end to hand on.
    pub fn into_receiver(self) -> OwnedFd {
        self.receiver
    }
}

/// Takes everything out of a queue whose receiving end was handed on; `None` stands for a socket that was lost.
///
/// # Errors
/// Those of recvmsg, for an end that is none.
pub fn take_all(receiver: impl AsFd) -> io::Result<Vec<(Option<OwnedFd>, Rest)>> {
    let mut all = Vec::new();
    loop {
        match receive(receiver.as_fd(), &mut all) {
            Ok(true) => {}
            Ok(false) => return Ok(all),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
            Err(error) => return Err(error),
        }
    }
}

/// Takes a message; says whether there was one.
fn receive(receiver: BorrowedFd<'_>, all: &mut Vec<(Option<OwnedFd>, Rest)>) -> io::Result<bool> {
    let mut rests = [0; SOCKETS_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut payload = [IoSliceMut::new(&mut rests)];
    let received = rustix::net::recvmsg(receiver, &mut payload, &mut control, flags)?;
    if received.bytes == 0 {
        return Ok(false);
    }
    let mut sockets = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => sockets.collect(),
        _ => Vec::new(),
    });
    for rest in &rests[..received.bytes.min(SOCKETS_MAX)] {
        let rest = match rest {
            1 => Rest::Idle,
            _ => Rest::Busy,
        };
        all.push((sockets.next(), rest));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn sockets_come_out_as_they_went_in() {
        let pairs: Vec<_> = (0..600).map(|_| UnixStream::pair().unwrap()).collect();
        let rest = |number| [Rest::Busy, Rest::Idle][number % 2];
        let queue = Queue::new().unwrap();
        let sockets: Vec<_> = pairs
            .iter()
            .enumerate()
            .map(|(number, pair)| (pair.0.as_fd(), rest(number)))
            .collect();
        queue.put(&sockets).unwrap();
        let taken = take_all(queue.into_receiver()).unwrap();
        assert_eq!(taken.len(), 600);
        for (number, ((socket, came), (_, peer))) in taken.into_iter().zip(&pairs).enumerate() {
            assert_eq!(came, rest(number));
            let mut socket = UnixStream::from(socket.unwrap());
            socket.write_all(&[number as u8]).unwrap();
            let mut byte = [0];
            let mut peer = peer;
            peer.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number as u8]);
        }
    }

    #[test]
    fn what_is_no_queue_is_an_error_and_an_empty_one_is_empty() {
        assert!(
            take_all(Queue::new().unwrap().into_receiver())
                .unwrap()
                .is_empty()
        );
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(take_all(file).is_err());
    }
}
