//! The state that a server hands on: its connections without their sockets, and its totals.
//!
//! Written piece by piece while connections are parked ([`Writer`]) and read piece by piece while they are
//! gone on with ([`State`]), so that on neither side more than one connection's buffers lie in memory beside
//! the file.
//!
//! ```text
//! 0   magic              16  bytes of the buffers    32  the buffers: of each connection its input,
//! 8   format version     24  bytes of the head           then what is unsent
//! 12  checksum                                        .. the head: the rest, as JSON
//! ```
//!
//! Numbers are little-endian. The checksum is a CRC-32 over the buffers, the head, and bytes 16 to 32. The
//! file's header is written last, so a file that begins with it was finished. Fields of the head that are
//! not known are passed over; what an older release could not do without takes a new version.
//!
//! Invariant: no length is believed before it is held against the file's own.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::memory_file;
use crate::server::connection::ParkedConnection;
use crate::server::session;
use crate::stats::Totals;
use crate::stats::connections::{self, Address};

const MAGIC: [u8; 8] = *b"tokstate";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: u64 = 32;

/// Some 100,000 connections.
const HEAD_BYTES_MAX: u64 = 64 << 20;

/// How much of the buffers is looked at in one go.
const CHECKED_BYTES: usize = 64 << 10;

/// Whose connection it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The listener it came in on, as `stats conns` names it.
    pub listener: String,
    /// The peer on TCP; a unix socket has none.
    pub peer: Option<SocketAddr>,
    /// The peer's user, where that is known.
    pub uid: Option<u32>,
    /// The peer may only read.
    pub read_only: bool,
    /// The second of the last command, of the clock that all processes share.
    pub last_command: u32,
}

impl Client {
    /// What the register knows of a connection.
    pub fn of(info: &connections::Connection) -> Client {
        Client {
            listener: info.local.as_deref().unwrap_or_default().to_owned(),
            peer: info.peer.tcp(),
            uid: info.uid.get().copied(),
            read_only: info.read_only.load(Relaxed),
            last_command: info.last_command.load(Relaxed),
        }
    }

    /// The same for the register, on a listener of this name.
    pub fn enter(&self, listener: &Arc<str>) -> connections::Connection {
        let peer = match self.peer {
            Some(peer) => Address::Tcp(peer),
            None => Address::Named(Arc::clone(listener)),
        };
        let info = connections::Connection::new(
            peer,
            Some(Arc::clone(listener)),
            connections::State::Read,
            self.last_command,
        );
        info.read_only.store(self.read_only, Relaxed);
        if let Some(uid) = self.uid {
            // Nobody has set it before.
            let _ = info.uid.set(uid);
        }
        info
    }
}

/// All of a connection but its buffers.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    client: Client,
    session: session::Parked,
    closing: bool,
    paused: bool,
    input_bytes: u64,
    unsent_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    connections: Vec<Entry>,
    totals: Totals,
}

/// A state under way.
#[derive(Debug)]
pub struct Writer {
    file: File,
    sum: crc32fast::Hasher,
    buffers_bytes: u64,
    entries: Vec<Entry>,
}

impl Writer {
    /// Begins a state in a memory file of its own.
    ///
    /// # Errors
    /// Those of memfd_create.
    pub fn new() -> io::Result<Writer> {
        Ok(Writer {
            file: memory_file::empty("tokencached-state")?,
            sum: crc32fast::Hasher::new(),
            buffers_bytes: 0,
            entries: Vec::new(),
        })
    }

    /// Adds a connection; gives its number, counted from 0 in the order of adding. Writes its buffers.
    ///
    /// # Errors
    /// Those of writing; the state is as it was before then.
    pub fn add(&mut self, client: Client, connection: &ParkedConnection) -> io::Result<usize> {
        let ParkedConnection {
            session,
            input,
            unsent,
            closing,
            paused,
        } = connection;
        let at = HEADER_BYTES + self.buffers_bytes;
        let (input_bytes, unsent_bytes) = (input.len() as u64, unsent.len() as u64);
        self.file.write_all_at(input, at)?;
        self.file.write_all_at(unsent, at + input_bytes)?;
        self.sum.update(input);
        self.sum.update(unsent);
        self.buffers_bytes += input_bytes + unsent_bytes;
        self.entries.push(Entry {
            client,
            session: session.clone(),
            closing: *closing,
            paused: *paused,
            input_bytes,
            unsent_bytes,
        });
        Ok(self.entries.len() - 1)
    }

    /// Ends the state with what was counted, and gives its file, which cannot be changed any more.
    ///
    /// # Errors
    /// Those of writing and sealing.
    pub fn finish(mut self, totals: Totals) -> io::Result<File> {
        let head = serde_json::to_vec(&Head {
            connections: self.entries,
            totals,
        })?;
        let at = HEADER_BYTES + self.buffers_bytes;
        self.file.write_all_at(&head, at)?;
        // A connection that could not be added may have left something behind.
        self.file.set_len(at + head.len() as u64)?;
        let lengths = Lengths {
            buffers: self.buffers_bytes,
            head: head.len() as u64,
        };
        self.sum.update(&head);
        self.file.write_all_at(&header(self.sum, &lengths), 0)?;
        memory_file::close(&self.file)?;
        Ok(self.file)
    }
}

/// What the header says of the parts behind it.
struct Lengths {
    buffers: u64,
    head: u64,
}

impl Lengths {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.buffers.to_le_bytes());
        bytes[8..].copy_from_slice(&self.head.to_le_bytes());
        bytes
    }
}

/// The file's header, of the checksum so far of all that is behind it.
fn header(mut sum: crc32fast::Hasher, lengths: &Lengths) -> [u8; HEADER_BYTES as usize] {
    let lengths = lengths.bytes();
    sum.update(&lengths);
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&sum.finalize().to_le_bytes());
    header[16..].copy_from_slice(&lengths);
    header
}

/// Why a state cannot be used, in one line.
#[derive(Debug)]
pub enum Unreadable {
    /// It ends before its end.
    CutShort,
    /// Another release has written it, in this version of the format.
    Version(u32),
    /// It is not what was written, for this reason.
    Damaged(String),
    /// Its file cannot be read.
    File(io::Error),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the state that was handed over ")?;
        match self {
            Unreadable::CutShort => formatter.write_str("is cut short"),
            Unreadable::Version(version) => write!(
                formatter,
                "has format {version}, this release reads {FORMAT_VERSION}"
            ),
            Unreadable::Damaged(why) => write!(formatter, "is damaged: {why}"),
            Unreadable::File(error) => write!(formatter, "cannot be read: {error}"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl Unreadable {
    fn damaged(why: &str) -> Unreadable {
        Unreadable::Damaged(why.to_owned())
    }
}

/// A state that was handed over, complete and undamaged; its buffers are still in the file.
#[derive(Debug)]
pub struct State {
    file: File,
    connections: Vec<Entry>,
    /// Where each connection's buffers begin.
    places: Vec<u64>,
    totals: Totals,
}

/// Reads a state, up to the connections' buffers, which are looked through.
///
/// # Errors
/// Why it cannot be used; none of it can then.
pub fn read(file: File) -> Result<State, Unreadable> {
    let bytes = file.metadata().map_err(Unreadable::File)?.len();
    if bytes < HEADER_BYTES {
        return Err(Unreadable::CutShort);
    }
    let mut found = [0; HEADER_BYTES as usize];
    file.read_exact_at(&mut found, 0)
        .map_err(Unreadable::File)?;
    let lengths = lengths_of(&found, bytes - HEADER_BYTES)?;
    let mut sum = crc32fast::Hasher::new();
    add_to_sum(&mut sum, &file, lengths.buffers).map_err(Unreadable::File)?;
    // Not longer than the file, and bounded.
    let mut head = vec![0; lengths.head as usize];
    file.read_exact_at(&mut head, HEADER_BYTES + lengths.buffers)
        .map_err(Unreadable::File)?;
    sum.update(&head);
    if header(sum, &lengths) != found {
        return Err(Unreadable::damaged("its checksum is another"));
    }
    let head: Head = serde_json::from_slice(&head)
        .map_err(|error| Unreadable::Damaged(format!("its head cannot be read: {error}")))?;
    let places = places_of(&head.connections, lengths.buffers)
        .ok_or_else(|| Unreadable::damaged("its buffers have other lengths than its head says"))?;
    Ok(State {
        file,
        connections: head.connections,
        places,
        totals: head.totals,
    })
}

/// The lengths in a header behind which there are so many bytes.
fn lengths_of(header: &[u8; HEADER_BYTES as usize], bytes: u64) -> Result<Lengths, Unreadable> {
    if header[..8] != MAGIC {
        return Err(Unreadable::damaged("it does not begin like one"));
    }
    let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if version != FORMAT_VERSION {
        return Err(Unreadable::Version(version));
    }
    let long = |at| {
        let mut long = [0; 8];
        long.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(long)
    };
    let lengths = Lengths {
        buffers: long(16),
        head: long(24),
    };
    match lengths.buffers.checked_add(lengths.head) {
        Some(sum) if sum < bytes => Err(Unreadable::damaged("it goes on behind its end")),
        Some(sum) if sum == bytes && lengths.head <= HEAD_BYTES_MAX => Ok(lengths),
        Some(sum) if sum == bytes => Err(Unreadable::damaged("its head is too long")),
        _ => Err(Unreadable::CutShort),
    }
}

fn add_to_sum(sum: &mut crc32fast::Hasher, file: &File, bytes: u64) -> io::Result<()> {
    let mut piece = vec![0; CHECKED_BYTES];
    let mut done = 0;
    while done < bytes {
        let length = (bytes - done).min(CHECKED_BYTES as u64);
        let piece = &mut piece[..length as usize];
        file.read_exact_at(piece, HEADER_BYTES + done)?;
        sum.update(piece);
        done += length;
    }
    Ok(())
}

/// Where the buffers begin, if together they take just so many bytes.
fn places_of(connections: &[Entry], buffers_bytes: u64) -> Option<Vec<u64>> {
    let mut places = Vec::with_capacity(connections.len());
    let mut next = 0u64;
    for entry in connections {
        places.push(HEADER_BYTES + next);
        let bytes = entry.input_bytes.checked_add(entry.unsent_bytes)?;
        next = next.checked_add(bytes)?;
    }
    (next == buffers_bytes).then_some(places)
}

impl State {
    /// The connections' clients, in the order in which they were added.
    pub fn clients(&self) -> impl ExactSizeIterator<Item = &Client> {
        self.connections.iter().map(|entry| &entry.client)
    }

    /// What was counted.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The connection of this number. Reads its buffers.
    ///
    /// # Errors
    /// Those of reading; `NotFound` if there is none.
    pub fn connection(&self, number: usize) -> io::Result<ParkedConnection> {
        let (Some(entry), Some(&place)) = (self.connections.get(number), self.places.get(number))
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let buffer = |place, bytes: u64| {
            // Not longer than the file.
            let mut buffer = vec![0; bytes as usize];
            self.file.read_exact_at(&mut buffer, place)?;
            io::Result::Ok(buffer)
        };
        Ok(ParkedConnection {
            session: entry.session.clone(),
            input: buffer(place, entry.input_bytes)?,
            unsent: buffer(place + entry.input_bytes, entry.unsent_bytes)?,
            closing: entry.closing,
            paused: entry.paused,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::engine::{self, Engine};
    use crate::server::session::{Rules, Session};
    use crate::stats::memcached::Process;
    use crate::store::{self, Store};

    fn engine() -> Engine {
        let process = Process {
            started: Clock::manual().now(),
            connections_max: 1,
            threads: 1,
        };
        let store = Store::new(&store::Options::default()).unwrap();
        Engine::new(store, engine::Options::default(), process)
    }

    fn client(peer: Option<SocketAddr>) -> Client {
        Client {
            listener: "tcp:127.0.0.1:11211".to_owned(),
            peer,
            uid: peer.map(|_| 1_000),
            read_only: peer.is_none(),
            last_command: 77,
        }
    }

    fn parked(engine: &Engine, input: &[u8], unsent: &[u8]) -> ParkedConnection {
        let mut input = input.to_vec();
        ParkedConnection {
            session: Session::new(engine, Rules::default()).park(&mut input),
            input,
            unsent: unsent.to_vec(),
            closing: unsent.is_empty(),
            paused: !unsent.is_empty(),
        }
    }

    /// A state of two connections, as it lies in its file.
    fn written() -> Vec<u8> {
        let engine = engine();
        engine.stats().register_worker().get_hits.add(5);
        let mut writer = Writer::new().unwrap();
        let peer = "127.0.0.1:40000".parse().unwrap();
        let one = parked(&engine, b"get k", b"END\r\n");
        assert_eq!(writer.add(client(Some(peer)), &one).unwrap(), 0);
        let two = parked(&engine, b"", b"");
        assert_eq!(writer.add(client(None), &two).unwrap(), 1);
        contents(&writer.finish(engine.totals()).unwrap())
    }

    fn contents(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<State, Unreadable> {
        let file = memory_file::empty("state").unwrap();
        file.write_all_at(bytes, 0).unwrap();
        read(file)
    }

    /// The same state, written once more.
    fn rewritten(state: &State) -> Vec<u8> {
        let mut writer = Writer::new().unwrap();
        for (number, client) in state.clients().enumerate() {
            let connection = state.connection(number).unwrap();
            writer.add(client.clone(), &connection).unwrap();
        }
        contents(&writer.finish(state.totals().clone()).unwrap())
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = written();
        let state = read_bytes(&bytes).unwrap();
        assert_eq!(rewritten(&state), bytes);
        let peer = "127.0.0.1:40000".parse().unwrap();
        let clients: Vec<&Client> = state.clients().collect();
        assert_eq!(clients, [&client(Some(peer)), &client(None)]);
        let one = state.connection(0).unwrap();
        assert_eq!(
            (&one.input[..], &one.unsent[..]),
            (&b"get k"[..], &b"END\r\n"[..])
        );
        assert!(!one.closing && one.paused);
        let two = state.connection(1).unwrap();
        assert!(two.closing && !two.paused && two.session.is_as_new());
        assert!(state.connection(2).is_err());
    }

    #[test]
    fn whose_connection_it_is_comes_back_to_the_register() {
        let listener: Arc<str> = "tcp:127.0.0.1:11211".into();
        let peer = "127.0.0.1:40000".parse().unwrap();
        for client in [client(Some(peer)), client(None)] {
            let info = client.enter(&listener);
            assert_eq!(Client::of(&info), client);
        }
    }

    #[test]
    fn a_state_cut_at_any_length_is_told() {
        let bytes = written();
        for length in 0..bytes.len() {
            let read = read_bytes(&bytes[..length]);
            assert!(matches!(read, Err(Unreadable::CutShort)), "{length}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(matches!(read_bytes(&longer), Err(Unreadable::Damaged(_))));
    }

    #[test]
    fn a_state_damaged_at_any_byte_is_told() {
        let bytes = written();
        for at in 0..bytes.len() {
            for flipped in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flipped;
                let error = read_bytes(&damaged).expect_err("it is damaged");
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }

    #[test]
    fn a_newer_state_is_told_from_a_damaged_one() {
        let mut bytes = written();
        bytes[8] += 1;
        let error = read_bytes(&bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the state that was handed over has format 2, this release reads 1"
        );
    }

    #[test]
    fn what_a_later_release_says_beside_is_passed_over() {
        let bytes = written();
        let lengths = lengths_of(
            bytes.first_chunk().unwrap(),
            bytes.len() as u64 - HEADER_BYTES,
        );
        let (buffers, head) =
            bytes[HEADER_BYTES as usize..].split_at(lengths.unwrap().buffers as usize);
        let head = String::from_utf8(head.to_vec()).unwrap();
        let head = head.replace(r#""closing""#, r#""later":[{}],"closing""#);
        let head = head.replace(r#""skip""#, r#""later":1,"skip""#);
        let head = head.replace(r#""uid""#, r#""later":"","uid""#);
        let lengths = Lengths {
            buffers: buffers.len() as u64,
            head: head.len() as u64,
        };
        let mut sum = crc32fast::Hasher::new();
        sum.update(buffers);
        sum.update(head.as_bytes());
        let later = [&header(sum, &lengths), buffers, head.as_bytes()].concat();
        assert_eq!(rewritten(&read_bytes(&later).unwrap()), bytes);
    }

    #[test]
    fn debug_shows_no_byte_of_a_client() {
        let parked = parked(&engine(), b"get secret", b"VALUE bearer");
        let shown = format!("{parked:?}");
        assert!(!shown.contains("secret") && !shown.contains("115, 101"));
        assert!(!shown.contains("bearer") && !shown.contains("98, 101"));
    }
}
