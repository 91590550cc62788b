//! What a command is answered with, before any protocol has put it into bytes.
//!
//! The engine makes a [`Reply`], an encoder writes it into a [`ReplySink`]. Values stay where the
//! store keeps them until the sink copies or sends them: [`Value`] is all the protocol knows of them.

use super::error::Error;

/// A stored value, in one or more contiguous pieces.
pub trait Value {
    /// Length in bytes.
    fn len(&self) -> usize;

    /// Whether the value has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The longest contiguous piece that begins at `offset`, empty at the end of the value.
    fn piece(&self, offset: usize) -> &[u8];

    /// Bytes that cannot be used for anything else while the value is held.
    fn held_bytes(&self) -> usize {
        self.len()
    }

    /// Hands every piece from `offset` on to `take`, in order.
    fn pieces_from(&self, mut offset: usize, mut take: impl FnMut(&[u8]))
    where
        Self: Sized,
    {
        while offset < self.len() {
            let piece = self.piece(offset);
            take(piece);
            offset += piece.len();
        }
    }
}

impl Value for &[u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn piece(&self, offset: usize) -> &[u8] {
        &self[offset..]
    }
}

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'b, V> {
    /// A `get` found its item.
    Hit(Hit<'b, V>),
    /// A `get` found nothing.
    Miss,
    /// The value was stored.
    Stored,
    /// The mode's condition was not met.
    NotStored,
    /// The item has another CAS unique.
    Exists,
    /// There is no such item.
    NotFound,
    /// The item was removed.
    Deleted,
    /// The item's expiry was renewed.
    Touched,
    /// The new value of an `incr` or `decr`.
    Number(u64),
    /// Done.
    Ok,
    /// The counters are zero now.
    Reset,
    /// The memcached release that is spoken.
    Version,
    /// Names and values, in order.
    Stats(Vec<Stat>),
    /// Counters by key prefix.
    PrefixDump(Vec<PrefixCounts>),
    /// The command could not be carried out.
    Error(Error),
    /// No answer: the connection closes (`quit`, `shutdown`).
    Close,
}

/// A found item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit<'b, V> {
    /// The key as the client asked for it.
    pub key: super::command::Key<'b>,
    /// What the client stored beside the value.
    pub client_flags: u32,
    /// The item's CAS unique, 0 where `-C` has switched them off.
    pub cas_unique: u64,
    /// The value.
    pub value: V,
}

/// One line of `stats`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// memcached's name where it has one.
    pub name: String,
    /// One word.
    pub value: String,
}

impl Stat {
    /// A line from anything that prints as one word.
    pub fn new(name: impl Into<String>, value: impl ToString) -> Stat {
        Stat {
            name: name.into(),
            value: value.to_string(),
        }
    }
}

/// One line of `stats detail dump`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixCounts {
    /// The key's part before the delimiter, as it stands in the keys.
    pub prefix: Vec<u8>,
    /// `get`s of such keys.
    pub gets: u64,
    /// Those that hit.
    pub hits: u64,
    /// Storage commands.
    pub sets: u64,
    /// `delete`s.
    pub deletes: u64,
}

impl PrefixCounts {
    /// A prefix of which nothing has been counted.
    pub fn new(prefix: Vec<u8>) -> PrefixCounts {
        PrefixCounts {
            prefix,
            gets: 0,
            hits: 0,
            sets: 0,
            deletes: 0,
        }
    }
}

/// Where an encoder writes: a buffer that may keep a large value by reference.
pub trait ReplySink<V> {
    /// Adds bytes.
    fn bytes(&mut self, bytes: &[u8]);

    /// Adds a stored value.
    fn value(&mut self, value: V);
}

impl<V: Value> ReplySink<V> for Vec<u8> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn value(&mut self, value: V) {
        value.pieces_from(0, |piece| self.extend_from_slice(piece));
    }
}
