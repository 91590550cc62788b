//! Who is at the other end of a connection: the user whose process made the socket.
//!
//! On a unix socket the kernel says it (SO_PEERCRED). On TCP over loopback the kernel's socket table does:
//! one exact SOCK_DIAG_BY_FAMILY question, no dump, for the socket that has our two addresses the
//! other way round. It needs no privilege. `access` asks when a connection is accepted, before a
//! byte of it is read, and only where rules are configured. A peer that is not on loopback has no
//! name here: its socket is in another machine's or another network namespace's table.
//!
//! Invariants:
//! - *alive*: only an ESTABLISHED entry with an inode names a peer. One that was closed has no
//!   process any more, and the table says uid 0 of it: root, of whoever sends and leaves at once;
//! - *ours lived on*: behind the peer's socket our own is looked up, in the same message, and has to
//!   be ESTABLISHED and the very socket that was accepted (by its inode);
//! - *no hanging*: the kernel answers within the sending call; both directions have a timeout.
//!
//! **The race of a port that changes hands.** Between accept and look-up the peer may close, and another
//! user's process take its port and connect. Then the table would name that other user. The second
//! invariant closes this: there is one socket of ours for the two addresses, and while it is ESTABLISHED,
//! no other can be at its far end. A close sends FIN, which takes ours to CLOSE_WAIT, a reset takes it to CLOSE, and
//! neither ever comes back. Should the new process's SYN overtake the reset, it meets our old socket,
//! is answered with a challenge, and resets ours in turn; the process is not ESTABLISHED before the
//! listener has made a new socket for it, and that is another connection, looked up on its own.
//! What takes FIN and RST off the wire (a packet filter, TCP_REPAIR) needs CAP_NET_ADMIN, which can do all
//! this with less effort.
//!
//! A client's socket that is bound to a device (SO_BINDTODEVICE) is not found, as the question names none, and
//! is refused.
//!
//! A socket that its process hands to another (SCM_RIGHTS, fork) keeps the name of who made it: whoever may speak
//! may lend that, as on a unix socket.
//!
//! Source: sock_diag(7); `net/ipv4/inet_diag.c`, `inet_diag_find_one_icsk`.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, Parseable};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_ESTABLISHED};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags,
};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// How long the kernel may take to answer. It takes microseconds, and within the call that asks.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Bytes of a question: a netlink header, and an `inet_diag_req_v2`.
const QUESTION_BYTES: usize = 16 + 56;

/// Answers that are looked at for one question: late ones to earlier questions may come before.
const ANSWERS_MAX: usize = 64;

/// An entry with this type says why there is none (`NLMSG_ERROR`).
const IS_ERROR: u16 = 2;

/// Matches every cookie (`INET_DIAG_NOCOOKIE`).
const ANY_COOKIE: [u8; 8] = [0xff; 8];

/// The two ends of a TCP connection, as the one that was accepted sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client's address.
    pub peer: SocketAddr,
    /// The server's.
    pub local: SocketAddr,
}

impl Ends {
    /// The two, with an IPv4 address that is written as an IPv6 one put right.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Ends {
        let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
        Ends {
            peer: canonical(peer),
            local: canonical(local),
        }
    }

    /// The same connection, seen from the other end.
    fn turned(self) -> Ends {
        Ends {
            peer: self.local,
            local: self.peer,
        }
    }

    fn are_loopback(&self) -> bool {
        self.peer.ip().is_loopback() && self.local.ip().is_loopback()
    }
}

/// Why a peer has no name.
#[derive(Debug)]
pub enum Unnamed {
    /// It is not on loopback, so its socket is not in this machine's table.
    Remote,
    /// It was not, or is no longer, connected.
    Left,
    /// The system did not say.
    Unanswered(io::Error),
}

impl fmt::Display for Unnamed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unnamed::Remote => formatter.write_str("it is not on loopback"),
            Unnamed::Left => formatter.write_str("it has left already"),
            Unnamed::Unanswered(error) => write!(formatter, "the look-up failed: {error}"),
        }
    }
}

/// The user at the other end of a unix socket.
///
/// # Errors
/// Those of getsockopt.
pub fn uid_on_unix(socket: impl AsFd) -> io::Result<u32> {
    // Not rustix: it takes the number of a process that this one's namespace does not show, which is 0, for an error.
    Ok(getsockopt(&socket, PeerCredentials)?.uid())
}

/// A line to the kernel's socket table.
#[derive(Debug)]
pub struct Peers {
    socket: OwnedFd,
    sequence: u32,
}

impl Peers {
    /// Opens the line, and tries it out on a connection to oneself.
    ///
    /// # Errors
    /// If AF_NETLINK is not allowed, or the table does not know that connection.
    pub fn open() -> io::Result<Peers> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WITHIN))?;
        set_socket_timeout(&socket, Timeout::Send, Some(ANSWER_WITHIN))?;
        // Connected to number 0, the kernel, it hears nobody else.
        rustix::net::connect(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        let mut peers = Peers {
            socket,
            sequence: 0,
        };
        peers.try_out()?;
        Ok(peers)
    }

    /// The user at the other end of an accepted socket. Two entries are read; no lock, no privilege.
    ///
    /// # Errors
    /// Why it has no name.
    pub fn uid_on_tcp(&mut self, ends: Ends, accepted: impl AsFd) -> Result<u32, Unnamed> {
        if !ends.are_loopback() {
            return Err(Unnamed::Remote);
        }
        let about = rustix::fs::fstat(accepted);
        let about = about.map_err(|error| Unnamed::Unanswered(error.into()))?;
        // The table has its lower half.
        self.name(ends, Some(about.st_ino as u32))
    }

    /// The same for a connection that was accepted earlier, by its ends alone. Another one cannot have
    /// the same ends while it lasts.
    ///
    /// # Errors
    /// Why it has no name.
    pub fn uid_between(&mut self, ends: Ends) -> Result<u32, Unnamed> {
        if !ends.are_loopback() {
            return Err(Unnamed::Remote);
        }
        self.name(ends, None)
    }

    fn name(&mut self, ends: Ends, inode: Option<u32>) -> Result<u32, Unnamed> {
        let (theirs, ours) = self.look_up(ends).map_err(Unnamed::Unanswered)?;
        name(ends, theirs, ours, inode)
    }

    /// Their entry and ours, in this order: the kernel answers one question after the other.
    fn look_up(&mut self, ends: Ends) -> io::Result<(Option<Entry>, Option<Entry>)> {
        let first = self.sequence;
        self.sequence = first.wrapping_add(2);
        let mut questions = [0; 2 * QUESTION_BYTES];
        let (theirs, ours) = questions.split_at_mut(QUESTION_BYTES);
        ask(ends.turned(), first, theirs);
        ask(ends, first.wrapping_add(1), ours);
        rustix::net::send(&self.socket, &questions, SendFlags::empty())?;
        let mut found = [None, None];
        for _ in 0..ANSWERS_MAX {
            let answer = self.receive()?;
            let number = answer.sequence.wrapping_sub(first) as usize;
            let Some(place) = found.get_mut(number) else {
                continue;
            };
            *place = Some(answer.found?);
            if let [Some(theirs), Some(ours)] = found {
                return Ok((theirs, ours));
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn receive(&self) -> io::Result<Answer> {
        // An entry is 88 bytes, and a few attributes that nobody asked for follow.
        let mut buffer = [0; 2048];
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty())
        });
        let (_, bytes) = received?;
        parse(&buffer[..bytes.min(2048)]).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn try_out(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .or_else(|_| TcpListener::bind((Ipv6Addr::LOCALHOST, 0)))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (accepted, ends) = loop {
            let (accepted, peer) = listener.accept()?;
            // A stranger may have been faster.
            if peer == client.local_addr()? {
                let ends = Ends::new(peer, accepted.local_addr()?);
                break (accepted, ends);
            }
        };
        match self.uid_on_tcp(ends, &accepted) {
            Ok(uid) if uid == rustix::process::geteuid().as_raw() => Ok(()),
            Ok(uid) => Err(io::Error::other(format!(
                "a connection to itself was made by uid {uid}, it says"
            ))),
            Err(Unnamed::Unanswered(error)) => Err(error),
            Err(unnamed) => Err(io::Error::other(format!(
                "a connection to itself: {unnamed}"
            ))),
        }
    }
}

/// What the table has of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    uid: u32,
    inode: u32,
    state: u8,
    ends: Ends,
}

impl Entry {
    /// Whether it is the socket with these ends, connected, and a process has it.
    fn is_open(&self, ends: Ends) -> bool {
        self.state == TCP_ESTABLISHED && self.inode != 0 && self.ends == ends
    }
}

/// One answer of the kernel's.
#[derive(Debug)]
struct Answer {
    sequence: u32,
    found: io::Result<Option<Entry>>,
}

/// The rule by which entries name a peer; `inode` is that of the accepted socket, where it is known.
fn name(
    ends: Ends,
    theirs: Option<Entry>,
    ours: Option<Entry>,
    inode: Option<u32>,
) -> Result<u32, Unnamed> {
    let theirs = theirs.filter(|entry| entry.is_open(ends.turned()));
    let is_the_one = |entry: &Entry| inode.is_none_or(|inode| entry.inode == inode);
    let ours = ours.filter(|entry| entry.is_open(ends) && is_the_one(entry));
    match (theirs, ours) {
        (Some(theirs), Some(_)) => Ok(theirs.uid),
        _ => Err(Unnamed::Left),
    }
}

/// Writes the question for the one socket with these ends into `into`, which has its length.
fn ask(ends: Ends, sequence: u32, into: &mut [u8]) {
    let request = InetRequest {
        family: if ends.local.is_ipv4() {
            AF_INET
        } else {
            AF_INET6
        },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: ends.local.port(),
            destination_port: ends.peer.port(),
            source_address: ends.local.ip(),
            destination_address: ends.peer.ip(),
            interface_id: 0,
            cookie: ANY_COOKIE,
        },
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    message.serialize(into);
}

/// Reads one answer; `None` for what is none. Attributes behind an entry are not looked at.
fn parse(datagram: &[u8]) -> Option<Answer> {
    let message = NetlinkBuffer::new_checked(datagram).ok()?;
    let (sequence, payload) = (message.sequence_number(), message.payload());
    let found = match message.message_type() {
        IS_ERROR => {
            let code = i32::from_ne_bytes(*payload.first_chunk()?);
            let error = io::Error::from_raw_os_error(code.checked_neg()?);
            match error.kind() {
                io::ErrorKind::NotFound => Ok(None),
                _ => Err(error),
            }
        }
        netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY => {
            let entry = InetResponseHeader::parse(payload).ok()?;
            let id = &entry.socket_id;
            let addr = |ip, port| SocketAddr::new(ip, port);
            Ok(Some(Entry {
                uid: entry.uid,
                inode: entry.inode,
                state: entry.state,
                ends: Ends::new(
                    addr(id.destination_address, id.destination_port),
                    addr(id.source_address, id.source_port),
                ),
            }))
        }
        _ => return None,
    };
    Some(Answer { sequence, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded on Linux 6.18: a client of uid 65534 on IPv4.
    const OPEN: &str = "7c0000001400000007000000281a000002010000cc44b54f7f0000010000000000000000000000007f000001000000000000000000000000000000000200000000000000000000000000000000000000feff000049e71b00050008000000000008000f00000000000c00150001000000000000000600160052000000";
    /// The same after it has sent and closed, unread.
    const CLOSED: &str = "7c0000001400000007000000281a000002040100cc44b54f7f0000010000000000000000000000007f000001000000000000000000000000000000000200000000000000cc0000000000000001000000feff000000000000050008000300000008000f00000000000c00150001000000000000000600160052000000";
    /// A client on IPv6.
    const OPEN_V6: &str = "7c0000001400000007000000281a00000a0100008618aa350000000000000000000000000000000100000000000000000000000000000001000000000300000000000000000000000000000000000000feff00004fe71b00050008000000000008000f00000000000c00150001000000000000000600160012000000";
    /// A client of uid 0 on an IPv6 socket, to ::ffff:127.0.0.1.
    const OPEN_MAPPED: &str = "7c0000001400000007000000281a00000a010000bad2b29700000000000000000000ffff7f00000100000000000000000000ffff7f0000010000000004000000000000000000000000000000000000000000000055e71b00050008000000000008000f00000000000c00150001000000000000000600160012000000";
    /// No such socket.
    const ABSENT: &str = "5c0000000200000007000000281a0000feffffff4800000014000100070000000000000002060000ffffffff0001b54f7f0000010000000000000000000000007f00000100000000000000000000000000000000ffffffffffffffff";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    fn entry(hex: &str) -> Option<Entry> {
        let answer = parse(&bytes(hex)).unwrap();
        assert_eq!(answer.sequence, 7);
        answer.found.unwrap()
    }

    /// As the accepted socket sees them.
    fn ends(peer: &str, local: &str) -> Ends {
        Ends::new(peer.parse().unwrap(), local.parse().unwrap())
    }

    #[test]
    fn recorded_entries_are_read() {
        let v4 = ends("127.0.0.1:52292", "127.0.0.1:46415");
        let expected = Entry {
            uid: 65534,
            inode: 0x1b_e749,
            state: TCP_ESTABLISHED,
            ends: v4.turned(),
        };
        assert_eq!(entry(OPEN), Some(expected));
        let v6 = entry(OPEN_V6).unwrap();
        assert_eq!((v6.uid, v6.state), (65534, TCP_ESTABLISHED));
        assert_eq!(v6.ends.turned(), ends("[::1]:34328", "[::1]:43573"));
        let mapped = entry(OPEN_MAPPED).unwrap();
        assert_eq!(mapped.uid, 0);
        let v4 = ends("127.0.0.1:47826", "127.0.0.1:45719");
        assert_eq!(mapped.ends.turned(), v4, "as the listener has them");
        let closed = entry(CLOSED).unwrap();
        assert_eq!((closed.state, closed.inode), (4, 0));
        assert_eq!(entry(ABSENT), None);
    }

    #[test]
    fn an_answer_cut_short_is_none() {
        for whole in [OPEN, OPEN_V6, ABSENT].map(bytes) {
            for length in 0..whole.len() {
                // A message that says it is longer than what came.
                assert!(parse(&whole[..length]).is_none(), "{length}");
            }
            for length in 0..16 + 72_u32 {
                let mut cut = whole.clone();
                cut[..4].copy_from_slice(&length.to_ne_bytes());
                cut.truncate(length as usize);
                let is_refusal = whole[4] == 2 && length >= 20;
                assert_eq!(parse(&cut).is_some(), is_refusal, "{length}");
            }
        }
        let mut other = bytes(OPEN);
        other[4] = 3;
        assert!(parse(&other).is_none(), "another type");
    }

    #[test]
    fn an_error_that_is_not_absence_is_one() {
        let mut refusal = bytes(ABSENT);
        refusal[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        let error = parse(&refusal).unwrap().found.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        refusal[16..20].copy_from_slice(&i32::MIN.to_ne_bytes());
        assert!(parse(&refusal).is_none());
    }

    #[test]
    fn only_two_open_ends_of_one_connection_name_a_peer() {
        let both = ends("127.0.0.1:2", "127.0.0.1:1");
        let theirs = Entry {
            uid: 1001,
            inode: 8,
            state: TCP_ESTABLISHED,
            ends: both.turned(),
        };
        let ours = Entry {
            uid: 0,
            inode: 9,
            state: TCP_ESTABLISHED,
            ends: both,
        };
        let named = |theirs, ours| name(both, theirs, ours, Some(9)).ok();
        assert_eq!(named(Some(theirs), Some(ours)), Some(1001));
        // What older kernels say of a client that has sent and left.
        let left = Entry {
            uid: 0,
            inode: 0,
            ..theirs
        };
        assert_eq!(named(Some(left), Some(ours)), None);
        assert_eq!(named(None, Some(ours)), None);
        assert_eq!(named(Some(theirs), None), None);
        for state in (0..=12).filter(|&state| state != TCP_ESTABLISHED) {
            assert_eq!(named(Some(Entry { state, ..theirs }), Some(ours)), None);
            assert_eq!(named(Some(theirs), Some(Entry { state, ..ours })), None);
        }
        // The port has another owner, and our own place in the table another socket of ours.
        let next = Entry { inode: 10, ..ours };
        assert_eq!(named(Some(theirs), Some(next)), None);
        let elsewhere = ends("127.0.0.1:3", "127.0.0.1:1");
        let other = Entry {
            ends: elsewhere.turned(),
            ..theirs
        };
        assert_eq!(named(Some(other), Some(ours)), None);
    }

    #[test]
    fn a_connection_to_oneself_is_named_and_one_that_has_left_is_not() {
        let mut peers = Peers::open().unwrap();
        let own = rustix::process::geteuid().as_raw();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                println!("left out: no {address} here");
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, peer) = listener.accept().unwrap();
            let ends = Ends::new(peer, accepted.local_addr().unwrap());
            assert_eq!(peers.uid_on_tcp(ends, &accepted).unwrap(), own);
            assert_eq!(peers.uid_between(ends).unwrap(), own);
            drop(client);
            let left = peers.uid_on_tcp(ends, &accepted);
            assert!(matches!(left, Err(Unnamed::Left)), "{left:?}");
        }
    }

    #[test]
    fn what_is_not_on_loopback_is_not_looked_up() {
        let mut peers = Peers::open().unwrap();
        let sequence = peers.sequence;
        let remote = peers.uid_between(ends("10.0.0.9:4", "127.0.0.1:1"));
        assert!(matches!(remote, Err(Unnamed::Remote)));
        assert_eq!(peers.sequence, sequence);
    }

    /// A port that changes hands between accept and look-up: the new owner is never taken for the old.
    #[test]
    fn a_port_that_changes_hands_names_nobody_for_the_old_connection() {
        use socket2::{Domain, Socket, Type};
        let mut peers = Peers::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let connect_from = |port: u16| -> io::Result<Socket> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
            // A close resets, and leaves the port free at once.
            socket.set_linger(Some(Duration::ZERO))?;
            socket.connect(&server.into())?;
            Ok(socket)
        };
        for _ in 0..200 {
            let first = connect_from(0).unwrap();
            let port = first.local_addr().unwrap().as_socket().unwrap().port();
            let (old, peer) = listener.accept().unwrap();
            let ends = Ends::new(peer, server);
            drop(first);
            // "Another user" takes the port.
            let _second = connect_from(port).unwrap();
            let (new, _) = listener.accept().unwrap();
            let named = peers.uid_on_tcp(ends, &old);
            assert!(matches!(named, Err(Unnamed::Left)), "{named:?}");
            assert!(peers.uid_on_tcp(ends, &new).is_ok());
        }
    }
}
