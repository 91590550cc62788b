//! Counts by key prefix: `stats detail on|off|dump`, and `-D`.
//!
//! Off unless asked for. Only keys that contain the delimiter count, under the part before it: a key
//! of keystonemiddleware's has none, so no token's key is ever shown.
//!
//! Invariant: bounded at [`PREFIXES_MAX`] prefixes; further ones are not counted.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use crate::protocol::reply::PrefixCounts;

const PREFIXES_MAX: usize = 1_000;

/// What memcached divides a key at where `-D` names nothing else.
const DELIMITER: u8 = b':';

/// What was done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Looked up, and found.
    Hit,
    /// Looked up, and not found.
    Miss,
    /// Stored.
    Set,
    /// Deleted.
    Delete,
}

/// The counts of all prefixes.
#[derive(Debug, Default)]
pub struct Detail {
    on: AtomicBool,
    prefixes: Mutex<BTreeMap<Vec<u8>, PrefixCounts>>,
    delimiter: Mutex<Option<u8>>,
}

impl Detail {
    /// Divides keys at another byte.
    pub fn set_delimiter(&self, delimiter: u8) {
        *self.delimiter.lock() = Some(delimiter);
    }

    /// Begins or ends counting; what was counted stays.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Relaxed);
    }

    /// Whether it is counting.
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Counts an access, where counting is on. One load where it is off.
    pub fn count(&self, key: &[u8], access: Access) {
        if self.is_on() {
            self.count_prefix(key, access);
        }
    }

    fn count_prefix(&self, key: &[u8], access: Access) {
        let delimiter = self.delimiter.lock().unwrap_or(DELIMITER);
        let Some(end) = key.iter().position(|&byte| byte == delimiter) else {
            return;
        };
        let prefix = &key[..end];
        let mut prefixes = self.prefixes.lock();
        if prefixes.len() >= PREFIXES_MAX && !prefixes.contains_key(prefix) {
            return;
        }
        let counts = prefixes
            .entry(prefix.to_vec())
            .or_insert_with(|| PrefixCounts::new(prefix.to_vec()));
        match access {
            Access::Hit => (counts.gets, counts.hits) = (counts.gets + 1, counts.hits + 1),
            Access::Miss => counts.gets += 1,
            Access::Set => counts.sets += 1,
            Access::Delete => counts.deletes += 1,
        }
    }

    /// All counts, in the order of the prefixes.
    pub fn dump(&self) -> Vec<PrefixCounts> {
        self.prefixes.lock().values().cloned().collect()
    }

    /// Forgets all counts.
    pub fn clear(&self) {
        self.prefixes.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_with_a_delimiter_are_counted_and_only_while_on() {
        let detail = Detail::default();
        detail.count(b"horizon:1", Access::Hit);
        detail.switch(true);
        detail.count(b"horizon:1", Access::Hit);
        detail.count(b"horizon:2", Access::Miss);
        detail.count(b"tokens/abc", Access::Hit);
        let dump = detail.dump();
        assert_eq!(dump.len(), 1);
        assert_eq!((dump[0].gets, dump[0].hits), (2, 1));
    }

    #[test]
    fn the_number_of_prefixes_is_bounded() {
        let detail = Detail::default();
        detail.switch(true);
        for number in 0..5_000 {
            detail.count(format!("{number}:x").as_bytes(), Access::Set);
        }
        assert_eq!(detail.dump().len(), PREFIXES_MAX);
    }
}
