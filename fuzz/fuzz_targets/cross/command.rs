//! A command as all three protocols can say it, and what comes of it as all three can tell it.

/// The keys that there are; the one of keystonemiddleware's shape is told of failures otherwise, of which
/// there are none here.
pub const KEYS: [&str; 4] = ["a", "bb", "tokens/0123", "n"];

/// Sends a request and gives what comes back.
pub type Ask<'a> = &'a mut dyn FnMut(&[u8]) -> Vec<u8>;

#[derive(Debug)]
pub struct Command {
    pub verb: Verb,
    /// Its place in [`KEYS`].
    pub key: usize,
    /// Only if the item has this CAS unique, which is not 0.
    pub unique: Option<u64>,
    /// The one that it has, if it is there, for a protocol that cannot ask.
    pub held: Option<u64>,
    /// The outcome is not asked for.
    pub quiet: bool,
}

#[derive(Debug)]
pub enum Verb {
    Get,
    Gat(u32),
    Touch(u32),
    Store(Store),
    Delete,
    Count(Count),
    /// Now, or at this time.
    Flush(Option<u32>),
}

#[derive(Debug)]
pub struct Store {
    pub mode: Mode,
    pub value: Vec<u8>,
    pub flags: u32,
    pub exptime: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, arbitrary::Arbitrary)]
pub enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
}

#[derive(Debug)]
pub struct Count {
    pub up: bool,
    pub delta: u64,
    /// With this number and this expiry the item is made if it is not there.
    pub made: Option<(u64, u32)>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub outcome: Outcome,
    /// The item's CAS unique, where that was told.
    pub unique: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Hit {
        flags: u32,
        value: Vec<u8>,
    },
    Missing,
    Stored,
    NotStored,
    /// The item has another CAS unique.
    Exists,
    Deleted,
    Touched,
    Number(u64),
    NotNumeric,
    Flushed,
    /// Not asked for, or not to be asked for in this protocol.
    Untold,
}

impl Command {
    pub fn key(&self) -> &'static str {
        KEYS[self.key]
    }

    /// Whether no CAS unique stands against it.
    pub fn is_met(&self) -> bool {
        match (self.unique, self.held) {
            (Some(unique), Some(held)) => unique == held,
            _ => true,
        }
    }
}

impl Outcome {
    pub fn without_unique(self) -> Answer {
        self.with_unique(None)
    }

    pub fn with_unique(self, unique: Option<u64>) -> Answer {
        Answer {
            outcome: self,
            unique,
        }
    }
}
