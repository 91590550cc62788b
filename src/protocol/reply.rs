//! What a command is answered with, before any protocol has put it into bytes.
//!
//! The engine makes a [`Reply`], an encoder writes it into a [`ReplySink`]. Values stay where the
//! store keeps them until the sink copies or sends them: [`Value`] is all the protocol knows of them.

use super::error::Error;

/// A value that was found and cannot be read: it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// A stored value: bytes that lie somewhere in one or more contiguous pieces, or that have yet to be
/// made of what is stored.
pub trait Value {
    /// Length in bytes.
    fn len(&self) -> usize;

    /// Whether the value has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the value's bytes lie ready, so that they can be sent from where they are.
    fn is_in_place(&self) -> bool {
        true
    }

    /// The longest contiguous piece that begins at `offset`, empty at the end of the value. Only for a
    /// value that is in place.
    fn piece(&self, offset: usize) -> &[u8];

    /// Bytes that cannot be used for anything else while the value is held.
    fn held_bytes(&self) -> usize {
        self.len()
    }

    /// Appends the whole value.
    ///
    /// # Errors
    /// If it cannot be read; nothing is appended then.
    fn append_to(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.append_pieces(out);
        Ok(())
    }

    /// Appends the whole value, which is in place.
    fn append_pieces(&self, out: &mut Vec<u8>) {
        let mut offset = 0;
        while offset < self.len() {
            let piece = self.piece(offset);
            out.extend_from_slice(piece);
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
    /// An `mg` found its item.
    Fetched(Hit<'b, V>, State),
    /// An `mg` made the item, which has no value yet; its CAS unique.
    Vivified(u64, State),
    /// A `get`, `mg` or `me` found nothing.
    Miss,
    /// The value was stored.
    Stored(Stored),
    /// The mode's condition was not met.
    NotStored,
    /// The item has another CAS unique.
    Exists,
    /// There is no such item.
    NotFound,
    /// The item was removed.
    Deleted,
    /// The item's expiry was renewed.
    Touched(Touched),
    /// The new value of an `incr`, `decr` or `ma`.
    Number(Number),
    /// What is known of an item.
    Facts(Facts),
    /// `mn`, NOOP
    Nothing,
    /// The SASL mechanisms, a space between them.
    Mechanisms(&'static str),
    /// The client is who it says.
    Authenticated,
    /// The client's next message of SASL is waited for.
    Continue,
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
    /// The certificates could not be read again, and why, in one line.
    NotRefreshed(String),
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

/// What the binary protocol says of an item whose expiry was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// What the client stored beside the value.
    pub client_flags: u32,
    /// The item's CAS unique, 0 where `-C` has switched them off.
    pub cas_unique: u64,
}

/// Seconds that an item has left; `None` for one that does not expire.
pub type Ttl = Option<u32>;

/// An item's remaining time before and after each flag that changes it: flags take effect in their
/// order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ttls {
    /// Before the command.
    pub before: Ttl,
    /// After `T`, where that is asked.
    pub touched: Ttl,
    /// After `N`, where that made the item.
    pub vivified: Option<Ttl>,
}

/// What `mg` tells of an item beside its value, as it was before the command, or as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The time it has left.
    pub ttls: Ttls,
    /// Seconds since it was last read, or else written.
    pub idle_seconds: u32,
    /// It had been read.
    pub fetched: bool,
    /// It is to be made anew.
    pub stale: bool,
    /// A client has been told to make it anew.
    pub token_sent: bool,
    /// This client is told to make it anew.
    pub won: bool,
    /// Its key is shown in base64.
    pub key_is_binary: bool,
}

/// What is told of a value that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its CAS unique.
    pub cas_unique: u64,
    /// Its length; `None` for that of the value that was given.
    pub value_bytes: Option<usize>,
}

/// What is told of a number that was counted up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// The new number.
    pub value: u64,
    /// Its CAS unique.
    pub cas_unique: u64,
    /// The time it has left.
    pub ttls: Ttls,
}

/// What `me` shows of an item (protocol.txt, "Meta Debug").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The time it has left.
    pub ttl: Ttl,
    /// Seconds since it was last read, or else written.
    pub idle_seconds: u32,
    /// Its CAS unique.
    pub cas_unique: u64,
    /// It has been read.
    pub fetched: bool,
    /// Bytes that it takes, its header and key included.
    pub item_bytes: usize,
    /// Its key is shown in base64.
    pub key_is_binary: bool,
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
    ///
    /// # Errors
    /// If it cannot be read; nothing is added then.
    fn value(&mut self, value: V) -> Result<(), Unreadable>;

    /// Where the next bytes go.
    fn mark(&self) -> usize;

    /// Takes back the bytes added since `mark`, among which there is no value.
    fn rewind(&mut self, mark: usize);
}

impl<V: Value> ReplySink<V> for Vec<u8> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn value(&mut self, value: V) -> Result<(), Unreadable> {
        value.append_to(self)
    }

    fn mark(&self) -> usize {
        self.len()
    }

    fn rewind(&mut self, mark: usize) {
        self.truncate(mark);
    }
}
