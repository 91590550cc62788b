//! Requests out, replies in: one batch of pipelined requests, and the judgement of each reply.
//!
//! The loops of [`load`](super::load), [`hold`](super::hold) and [`idle`](super::idle) push
//! requests and call [`Exchange::run`]; it sends them in one piece and reads exactly their replies.
//! How they are written in each of memcached's protocols is up to `classic`, `meta` and `binary`.
//!
//! Invariants: *every byte of a hit is checked*, client flags and key too; a wrong one is counted,
//! never passed over. *In step*: when `run` returns, no reply is outstanding. A reply that fits no
//! request ends the run with an error, since whatever follows it would be misread; an error that the
//! server answers is counted and ends only its own request.

mod binary;
pub mod classic;
mod meta;
#[cfg(test)]
mod tests;

use super::wire::Connection;
use super::workload::{Floor, Ledger, Workload};
use super::{Error, shown};
use std::ops::{AddAssign, Range};
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Which of memcached's protocols is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The text protocol's `get` and `set`.
    #[default]
    Classic,
    /// The text protocol's `mg` and `ms`.
    Meta,
    /// The binary protocol.
    Binary,
}

impl Protocol {
    /// Its one word.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Classic => "classic",
            Protocol::Meta => "meta",
            Protocol::Binary => "binary",
        }
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Protocol::Classic, Protocol::Meta, Protocol::Binary];
        let named = all.into_iter().find(|protocol| protocol.name() == text);
        named.ok_or_else(|| {
            Error::Options(format!(
                "{text:?} is no protocol: give classic, meta or binary"
            ))
        })
    }
}

/// What came back. One request is one command, however many keys it names.
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
    /// Requests answered by an error, or sets not stored.
    pub errors: u64,
    /// The first of the errors.
    pub first_error: Option<String>,
    /// Connections that broke and were opened anew.
    pub connections_lost: u64,
}

impl Counts {
    /// Whether every request was answered and every byte was right.
    pub fn are_clean(&self) -> bool {
        self.errors == 0 && self.wrong_values == 0
    }

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

/// What all connections of a run share, on whatever threads.
#[derive(Debug)]
pub struct Shared {
    /// Keys and values.
    pub workload: Workload,
    /// Versions under way.
    pub ledger: Ledger,
    /// How requests are written.
    pub protocol: Protocol,
    /// The exptime of every set, as the protocol has it (0: never).
    pub exptime_seconds: u32,
    /// Requests answered so far over all connections; standing still, it shows that the server does.
    pub answered: AtomicU64,
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

    /// Bytes of the batch so far.
    pub fn batch_bytes(&self) -> usize {
        self.outbox.len()
    }

    /// Adds one look-up of all these keys to the batch.
    pub fn push_get(&mut self, shared: &Shared, keys: impl Iterator<Item = u64>) {
        let first = self.asked.len();
        match shared.protocol {
            Protocol::Classic => self.push_get_classic(shared, keys),
            Protocol::Meta => self.push_get_meta(shared, keys),
            Protocol::Binary => self.push_get_binary(shared, keys),
        }
        self.requests.push(Request::Get(first..self.asked.len()));
    }

    /// Writes a key that is looked up and notes what its answer may be.
    fn push_asked(&mut self, shared: &Shared, key: u64) {
        self.asked.push(Asked {
            key,
            floor: shared.ledger.floor(key),
            text_at: self.outbox.len(),
        });
        shared.workload.push_key(key, &mut self.outbox);
    }

    /// Adds a set of this key's next version to the batch; false, and nothing added, while a set
    /// of it is under way.
    pub fn push_set(&mut self, shared: &Shared, key: u64) -> bool {
        let Some(version) = shared.ledger.begin_set(key) else {
            return false;
        };
        match shared.protocol {
            Protocol::Classic => self.push_set_classic(shared, key, version),
            Protocol::Meta => self.push_set_meta(shared, key, version),
            Protocol::Binary => self.push_set_binary(shared, key, version),
        }
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
        for (place, request) in requests.iter().enumerate() {
            match request {
                Request::Get(asked) => self.read_get(shared, asked.clone()).await?,
                Request::Set(key) => self.read_set(shared, place, *key).await?,
            }
            self.counts.requests += 1;
        }
        let answered = requests.len() as u64;
        shared.answered.fetch_add(answered, Relaxed);
        Ok(())
    }

    async fn read_get(&mut self, shared: &Shared, asked: Range<usize>) -> Result<(), Error> {
        match shared.protocol {
            Protocol::Classic => self.read_get_classic(shared, asked).await,
            Protocol::Meta => self.read_get_meta(shared, asked).await,
            Protocol::Binary => self.read_get_binary(shared, asked).await,
        }
    }

    async fn read_set(&mut self, shared: &Shared, place: usize, key: u64) -> Result<(), Error> {
        let stored = match shared.protocol {
            Protocol::Classic => self.read_set_classic().await?,
            Protocol::Meta => self.read_set_meta().await?,
            Protocol::Binary => self.read_set_binary(place).await?,
        };
        self.counts.stored += u64::from(stored);
        shared.ledger.end_set(key, stored);
        Ok(())
    }

    /// Which of the keys asked for this is. They are answered in their order, some left out.
    fn find(&self, shared: &Shared, named: &[u8], asked: &Range<usize>) -> Option<usize> {
        let key_bytes = shared.workload.key_bytes();
        asked.clone().find(|at| {
            let text_at = self.asked[*at].text_at;
            self.outbox[text_at..][..key_bytes] == *named
        })
    }

    /// Notes that the key at `at` was answered, and those before it were not.
    fn pass(&mut self, asked: &mut Range<usize>, at: usize) {
        self.counts.misses += (at - asked.start) as u64;
        asked.start = at + 1;
    }

    /// Judges a value that stands at `value` of what was received and is not consumed.
    fn judge(&mut self, shared: &Shared, at: usize, flags: u32, value: Range<usize>) {
        let value = &self.connection.peek(value.end)[value];
        let Asked { key, floor, .. } = self.asked[at];
        let version = shared.workload.version_of(key, flags, value);
        if version.is_some_and(|version| shared.ledger.admits(key, floor, version)) {
            self.counts.hits += 1;
            self.counts.hit_bytes += value.len() as u64;
        } else {
            self.counts.wrong_values += 1;
        }
    }

    /// Counts the error of this line, which is consumed.
    fn error(&mut self, line_bytes: usize) {
        self.counts.error(self.connection.peek(line_bytes));
        self.connection.consume(line_bytes);
    }
}
