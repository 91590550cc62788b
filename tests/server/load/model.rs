//! What a client knows of its own items: what each command makes of them, whatever protocol says it.

use std::collections::HashMap;
use std::sync::Arc;

/// So many items has each client.
pub const ITEMS: u8 = 8;

/// An item, as it has to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub value: Arc<[u8]>,
    pub flags: u32,
    /// Which of all that the client has written.
    pub version: u64,
}

/// When a value is stored, and what becomes of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    /// Only over this version.
    Compare(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Stored,
    NotStored,
    Exists,
    NotFound,
}

/// What became of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Is(u64),
    NotNumeric,
    NotFound,
}

#[derive(Default)]
pub struct Model {
    pub items: HashMap<u8, Item>,
    last_version: u64,
}

impl Model {
    pub fn get(&self, key: u8) -> Option<&Item> {
        self.items.get(&key)
    }

    /// The version of what is there now; 0 where nothing is.
    pub fn version(&self, key: u8) -> u64 {
        self.get(key).map_or(0, |item| item.version)
    }

    fn put(&mut self, key: u8, value: Vec<u8>, flags: u32) {
        self.last_version += 1;
        let item = Item {
            value: value.into(),
            flags,
            version: self.last_version,
        };
        self.items.insert(key, item);
    }

    pub fn store(&mut self, key: u8, mode: Mode, value: &[u8], flags: u32) -> Outcome {
        let old = self.get(key).cloned();
        let (value, flags) = match (mode, old) {
            (Mode::Set | Mode::Add, None) | (Mode::Set | Mode::Replace, Some(_)) => {
                (value.to_vec(), flags)
            }
            (Mode::Append, Some(old)) => ([&old.value, value].concat(), old.flags),
            (Mode::Prepend, Some(old)) => ([value, &old.value].concat(), old.flags),
            (Mode::Compare(version), Some(old)) if version == old.version => {
                (value.to_vec(), flags)
            }
            (Mode::Compare(_), Some(_)) => return Outcome::Exists,
            (Mode::Compare(_), None) => return Outcome::NotFound,
            _ => return Outcome::NotStored,
        };
        self.put(key, value, flags);
        Outcome::Stored
    }

    /// Says whether there was an item.
    pub fn remove(&mut self, key: u8) -> bool {
        self.items.remove(&key).is_some()
    }

    /// Adds to a number, or takes from it; `initial` is what a missing one becomes.
    pub fn count(&mut self, key: u8, up: bool, delta: u64, initial: Option<u64>) -> Counted {
        let Some(old) = self.get(key).cloned() else {
            let Some(initial) = initial else {
                return Counted::NotFound;
            };
            self.put(key, initial.to_string().into(), 0);
            return Counted::Is(initial);
        };
        let Some(number) = number(&old.value) else {
            return Counted::NotNumeric;
        };
        let number = if up {
            number.wrapping_add(delta)
        } else {
            number.saturating_sub(delta)
        };
        let mut digits = number.to_string().into_bytes();
        // Spaces take the place of all that is lost.
        digits.resize(digits.len().max(old.value.len()), b' ');
        self.put(key, digits, old.flags);
        Counted::Is(number)
    }
}

/// The number that a value is; digits alone, or with spaces behind them.
fn number(value: &[u8]) -> Option<u64> {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    let (digits, rest) = value.split_at(digits.count());
    let ends = rest.first().is_none_or(|&next| next == b' ');
    std::str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .filter(|_| ends)
}
