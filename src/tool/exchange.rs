//! Requests out, replies in: one batch of pipelined requests in the classic text protocol, and the
//! judgement of each reply.
//!
//! The loops of [`load`](super::load), [`hold`](super::hold) and [`idle`](super::idle) push
//! requests and call [`Exchange::run`]; it sends them in one piece and reads exactly their replies.
//! Source: memcached's `protocol.txt`, "Storage commands" and "Retrieval command".
//!
//! Invariants: *every byte of a hit is checked*, client flags and key too; a wrong one is counted,
//! never passed over. *In step*: when `run` returns, no reply is outstanding. A line that fits no
//! request ends the run with an error, since whatever follows it would be misread; an error line of
//! the server is counted and ends only its own request.

use super::wire::Connection;
use super::workload::{Floor, Ledger, Workload};
use super::{Error, shown};
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::ops::{AddAssign, Range};

/// What came back. One request is one command line, however many keys it names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were answered, well or not.
    pub requests: u64,
    /// Keys found, with the right value.
    pub hits: u64,
    /// Bytes of those values, keys not counted.
    pub hit_bytes: u64,
    /// Keys not found.
    pub misses: u64,
    /// Sets that were acknowledged.
    pub stored: u64,
    /// Keys found with a wrong value, wrong client flags, or a value older than an acknowledged
    /// set.
    pub wrong_values: u64,
    /// Requests answered by an error line, or sets not stored.
    pub errors: u64,
    /// The first of the error lines.
    pub first_error: Option<String>,
    /// Connections that broke and were opened anew.
    pub connections_lost: u64,
}

impl Counts {
    fn error(&mut self, line: &[u8]) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| shown(line));
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.requests += other.requests;
        self.hits += other.hits;
        self.hit_bytes += other.hit_bytes;
        self.misses += other.misses;
        self.stored += other.stored;
        self.wrong_values += other.wrong_values;
        self.errors += other.errors;
        self.connections_lost += other.connections_lost;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// What all connections of a run share; one thread, so a cell is enough.
pub struct Shared {
    /// Keys and values.
    pub workload: Workload,
    /// Versions under way.
    pub ledger: RefCell<Ledger>,
    /// The exptime of every set, as the protocol has it (0: never).
    pub exptime_seconds: u32,
    /// Replies read so far over all connections; standing still, it shows that the server does.
    pub answered: Cell<u64>,
}

struct Asked {
    key: u64,
    floor: Floor,
    /// Where the key's text is in the outbox.
    text_at: usize,
}

enum Request {
    Get(Range<usize>),
    Set(u64),
}

/// One connection and the batch that is being put together for it.
pub struct Exchange {
    connection: Connection,
    outbox: Vec<u8>,
    asked: Vec<Asked>,
    requests: Vec<Request>,
    /// What came back over this connection so far.
    pub counts: Counts,
}

impl Exchange {
    /// Takes over a connection on which no reply is outstanding.
    pub fn new(connection: Connection) -> Self {
        Exchange {
            connection,
            outbox: Vec::new(),
            asked: Vec::new(),
            requests: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Gives the connection back, with what was counted.
    pub fn into_parts(self) -> (Connection, Counts) {
        (self.connection, self.counts)
    }

    /// Adds one `get` of all these keys to the batch.
    pub fn push_get(&mut self, shared: &Shared, keys: impl Iterator<Item = u64>) {
        let ledger = shared.ledger.borrow();
        let first = self.asked.len();
        self.outbox.extend_from_slice(b"get");
        for key in keys {
            self.outbox.push(b' ');
            self.asked.push(Asked {
                key,
                floor: ledger.floor(key),
                text_at: self.outbox.len(),
            });
            shared.workload.push_key(key, &mut self.outbox);
        }
        self.outbox.extend_from_slice(b"\r\n");
        self.requests.push(Request::Get(first..self.asked.len()));
    }

    /// Adds a `set` of this key's next version to the batch; false, and nothing added, while a set
    /// of it is under way.
    pub fn push_set(&mut self, shared: &Shared, key: u64) -> bool {
        let Some(version) = shared.ledger.borrow_mut().begin_set(key) else {
            return false;
        };
        let shape = shared.workload.shape(key, version);
        self.outbox.extend_from_slice(b"set ");
        shared.workload.push_key(key, &mut self.outbox);
        let (flags, exptime, bytes) = (shape.flags, shared.exptime_seconds, shape.bytes);
        write!(self.outbox, " {flags} {exptime} {bytes}\r\n").expect("a Vec takes all writes");
        shared.workload.push_value(key, version, &mut self.outbox);
        self.outbox.extend_from_slice(b"\r\n");
        self.requests.push(Request::Set(key));
        true
    }

    /// Sends the batch, reads and judges all its replies, and empties it. Waits as long as the
    /// server takes. After an error the batch is what it was.
    pub async fn run(&mut self, shared: &Shared) -> Result<(), Error> {
        self.connection.send(&self.outbox).await?;
        let requests = std::mem::take(&mut self.requests);
        let read = self.read_all(shared, &requests).await;
        self.requests = requests;
        read?;
        self.requests.clear();
        self.asked.clear();
        self.outbox.clear();
        Ok(())
    }

    /// Puts another connection in the place of one that broke.
    pub fn go_on_over(&mut self, connection: Connection) {
        self.connection = connection;
        self.counts.connections_lost += 1;
    }

    async fn read_all(&mut self, shared: &Shared, requests: &[Request]) -> Result<(), Error> {
        for request in requests {
            match request {
                Request::Get(asked) => self.read_get(shared, asked.clone()).await?,
                Request::Set(key) => self.read_set(shared, *key).await?,
            }
            self.counts.requests += 1;
            shared.answered.set(shared.answered.get() + 1);
        }
        Ok(())
    }

    async fn read_set(&mut self, shared: &Shared, key: u64) -> Result<(), Error> {
        let length = self.connection.line().await?;
        let line = self.connection.peek(length);
        let stored = line == b"STORED\r\n";
        if stored {
            self.counts.stored += 1;
        } else if line == b"NOT_STORED\r\n" || is_error(line) {
            self.counts.error(line);
        } else {
            return Err(self.connection.garbled(length));
        }
        shared.ledger.borrow_mut().end_set(key, stored);
        self.connection.consume(length);
        Ok(())
    }

    /// Reads the `VALUE`s of one get, which come in the order of the keys, some left out, up to its
    /// `END`.
    async fn read_get(&mut self, shared: &Shared, mut asked: Range<usize>) -> Result<(), Error> {
        loop {
            let length = self.connection.line().await?;
            let line = self.connection.peek(length);
            if line == b"END\r\n" {
                self.counts.misses += asked.len() as u64;
                self.connection.consume(length);
                return Ok(());
            }
            if is_error(line) {
                self.counts.error(line);
                self.connection.consume(length);
                return Ok(());
            }
            let key_bytes = shared.workload.key_bytes();
            let Some((header, at)) = Header::parse(line, key_bytes)
                .and_then(|header| Some((header, self.find(line, key_bytes, &asked)?)))
            else {
                return Err(self.connection.garbled(length));
            };
            self.counts.misses += (at - asked.start) as u64;
            asked.start = at + 1;
            self.read_value(shared, at, header, length).await?;
        }
    }

    /// Which of the keys asked for this line names.
    fn find(&self, line: &[u8], key_bytes: usize, asked: &Range<usize>) -> Option<usize> {
        let named = line.get(6..6 + key_bytes)?;
        asked.clone().find(|at| {
            let text_at = self.asked[*at].text_at;
            self.outbox[text_at..][..key_bytes] == *named
        })
    }

    async fn read_value(
        &mut self,
        shared: &Shared,
        at: usize,
        header: Header,
        line_bytes: usize,
    ) -> Result<(), Error> {
        let whole = line_bytes + header.bytes + 2;
        self.connection.need(whole).await?;
        let body = &self.connection.peek(whole)[line_bytes..];
        let Some(value) = body.strip_suffix(b"\r\n") else {
            return Err(self.connection.garbled(line_bytes));
        };
        let Asked { key, floor, .. } = self.asked[at];
        let version = shared.workload.version_of(key, header.flags, value);
        if version.is_some_and(|version| shared.ledger.borrow().admits(key, floor, version)) {
            self.counts.hits += 1;
            self.counts.hit_bytes += value.len() as u64;
        } else {
            self.counts.wrong_values += 1;
        }
        self.connection.consume(whole);
        Ok(())
    }
}

/// What follows the key in `VALUE <key> <flags> <bytes>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) flags: u32,
    pub(super) bytes: usize,
}

impl Header {
    pub(super) fn parse(line: &[u8], key_bytes: usize) -> Option<Header> {
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

pub(super) fn is_error(line: &[u8]) -> bool {
    line == b"ERROR\r\n" || line.starts_with(b"SERVER_ERROR ") || line.starts_with(b"CLIENT_ERROR ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Target;
    use crate::tool::pad::Pad;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn shared() -> Shared {
        Shared {
            workload: Workload::Random(Pad::new(1, 40..=40)),
            ledger: RefCell::new(Ledger::new(10)),
            exptime_seconds: 0,
            answered: Cell::new(0),
        }
    }

    /// The `VALUE` of a key in its given version, as a right server would send it.
    fn value(shared: &Shared, key: u64, version: u32) -> Vec<u8> {
        let shape = shared.workload.shape(key, version);
        let mut out = b"VALUE ".to_vec();
        shared.workload.push_key(key, &mut out);
        write!(out, " {} {}\r\n", shape.flags, shape.bytes).unwrap();
        shared.workload.push_value(key, version, &mut out);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// Runs a batch against a server that reads a little and then sends `reply`, in pieces of
    /// `piece` bytes.
    fn answered(
        shared: &Shared,
        reply: Vec<u8>,
        piece: usize,
        push: impl FnOnce(&mut Exchange),
    ) -> Result<Counts, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = Target::Tcp(listener.local_addr().unwrap());
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                for part in reply.chunks(piece) {
                    stream.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let mut exchange = Exchange::new(Connection::open(&target).await?);
            push(&mut exchange);
            let outcome = exchange.run(shared).await;
            server.await.unwrap();
            outcome.map(|()| exchange.counts)
        })
    }

    #[test]
    fn hits_and_misses_of_a_multiget_are_told_apart() {
        let shared = shared();
        let reply = [
            value(&shared, 2, 1),
            value(&shared, 4, 1),
            b"END\r\n".into(),
        ]
        .concat();
        for piece in [1, 7, 1000] {
            let counts = answered(&shared, reply.clone(), piece, |exchange| {
                exchange.push_get(&shared, 1..6)
            });
            let counts = counts.unwrap();
            assert_eq!((counts.requests, counts.hits, counts.misses), (1, 2, 3));
            assert_eq!(counts.wrong_values, 0);
        }
    }

    #[test]
    fn a_wrong_byte_is_counted() {
        let shared = shared();
        let mut reply = [value(&shared, 2, 1), b"END\r\n".into()].concat();
        let last = reply.len() - 10;
        reply[last] ^= 1;
        let counts = answered(&shared, reply, 1000, |exchange| {
            exchange.push_get(&shared, 2..3)
        });
        let counts = counts.unwrap();
        assert_eq!((counts.hits, counts.wrong_values), (0, 1));
    }

    #[test]
    fn a_value_of_another_key_is_no_answer() {
        let shared = shared();
        let reply = [value(&shared, 3, 1), b"END\r\n".into()].concat();
        let outcome = answered(&shared, reply, 1000, |exchange| {
            exchange.push_get(&shared, 2..3)
        });
        assert!(matches!(outcome, Err(Error::Garbled(..))));
    }

    #[test]
    fn an_older_value_than_acknowledged_is_wrong() {
        let shared = shared();
        let reply = [
            b"STORED\r\nSTORED\r\n".to_vec(),
            value(&shared, 2, 1),
            b"END\r\n".into(),
        ];
        let mut ledger = shared.ledger.borrow_mut();
        ledger.begin_set(2);
        ledger.end_set(2, true);
        ledger.begin_set(2);
        ledger.end_set(2, true);
        drop(ledger);
        let counts = answered(&shared, reply.concat(), 1000, |exchange| {
            assert!(exchange.push_set(&shared, 3));
            assert!(exchange.push_set(&shared, 4));
            assert!(!exchange.push_set(&shared, 4));
            exchange.push_get(&shared, 2..3);
        });
        let counts = counts.unwrap();
        assert_eq!((counts.stored, counts.hits, counts.wrong_values), (2, 0, 1));
    }

    #[test]
    fn error_lines_end_their_request_only() {
        let shared = shared();
        let reply = b"SERVER_ERROR out of memory\r\nEND\r\n".to_vec();
        let counts = answered(&shared, reply, 3, |exchange| {
            exchange.push_set(&shared, 1);
            exchange.push_get(&shared, 1..2);
        });
        let counts = counts.unwrap();
        assert_eq!((counts.requests, counts.errors, counts.misses), (2, 1, 1));
        assert_eq!(
            counts.first_error.as_deref(),
            Some("SERVER_ERROR out of memory")
        );
    }
}
