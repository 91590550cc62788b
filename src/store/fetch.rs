//! Finding an item with all that is known of it, and changing what is noted of it in place.
//!
//! What memcached's meta commands need beyond `get`: whether and when an item was read before, whether it
//! is stale, and which client is told to make it anew. A plain [`Store::get`] asks for none of that.
//!
//! Invariant: of all clients that find an item to be made anew, one is told so, until it is written or
//! invalidated again.

use super::counts::Cause;
use super::item::{Header, Marks, NEVER};
use super::{ItemRef, Miss, Store};

/// How to look an item up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// Its new expiry.
    pub expiry: Option<u32>,
    /// An item that expires before this second is to be made anew.
    pub recache_before: Option<u32>,
    /// `recache_before` looks at the new expiry, not at the one that the item had.
    pub recache_after_touch: bool,
    /// The look-up does not count as a read.
    pub unnoticed: bool,
    /// This client is never the one that is told to make an item anew.
    pub only_reads: bool,
}

/// What was known of an item when it was found, before the look-up changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it was to expire.
    pub expiry: u32,
    /// When it was last read, or else written, in seconds.
    pub accessed_at: u32,
    /// What was noted of it.
    pub marks: Marks,
    /// This look-up is the one that is told to make it anew.
    pub won: bool,
    /// Its position in the order of all writes.
    pub sequence: u64,
    /// Bytes it takes in the heap.
    pub item_bytes: usize,
}

/// How to make an item stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Invalidation {
    /// Only if its CAS unique is this one.
    pub unique: Option<u64>,
    /// Its new expiry.
    pub expiry: Option<u32>,
    /// Its new CAS unique; `None` for one that no item has had.
    pub cas_unique: Option<u64>,
}

/// Why an item was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// There is none.
    NotFound,
    /// It has another CAS unique.
    Exists,
}

impl Store {
    /// Looks a key up, pins its value and tells what is known of it. Takes the shard's lock, shared
    /// unless the expiry changes; allocates nothing.
    ///
    /// # Errors
    /// Why there is nothing to return.
    pub fn fetch(
        &self,
        key: &[u8],
        fetch: &Fetch,
        now_seconds: u32,
    ) -> Result<(ItemRef<'_>, Seen), Miss> {
        self.settle(now_seconds);
        let hash = self.hash(key);
        if fetch.expiry.is_some() {
            let shard = self.shard(hash).write();
            let item = self.find_valid(&shard, hash, key, now_seconds)?;
            Ok(self.see(&item, fetch, now_seconds))
        } else {
            let shard = self.shard(hash).read();
            let item = self.find_valid(&shard, hash, key, now_seconds)?;
            Ok(self.see(&item, fetch, now_seconds))
        }
    }

    /// Notes and pins a found item. The caller holds its shard's lock, exclusively to change the expiry.
    fn see(&self, item: &Header<'_>, fetch: &Fetch, now_seconds: u32) -> (ItemRef<'_>, Seen) {
        let mut seen = Seen {
            expiry: item.expiry(),
            accessed_at: item.accessed_at(),
            marks: item.marks(),
            won: false,
            sequence: item.sequence(),
            item_bytes: self.segments().item_bytes(item),
        };
        let expiry = match fetch.expiry {
            Some(expiry) if fetch.recache_after_touch => expiry,
            _ => seen.expiry,
        };
        let is_due = |before: u32| expiry != NEVER && expiry < before;
        let wanted = seen.marks.stale || fetch.recache_before.is_some_and(is_due);
        if wanted && !seen.marks.token_sent && !fetch.only_reads {
            seen.won = item.send_token();
            // Another may have been told since its marks were read.
            seen.marks.token_sent = !seen.won;
        }
        if !fetch.unnoticed {
            item.access(now_seconds, self.options.eviction.proves_after_seconds);
        }
        if let Some(expiry) = fetch.expiry {
            item.set_expiry(expiry);
            self.state_of(item).expires(expiry);
        }
        (self.pin(item), seen)
    }

    /// Removes an item; with `unique`, only if that is its CAS unique.
    ///
    /// # Errors
    /// Why nothing was removed.
    pub fn delete_if(
        &self,
        key: &[u8],
        unique: Option<u64>,
        now_seconds: u32,
    ) -> Result<(), Unmet> {
        self.settle(now_seconds);
        let hash = self.hash(key);
        let mut shard = self.lock(hash);
        let item = self.find_valid(&shard, hash, key, now_seconds);
        let item = item.map_err(|_| Unmet::NotFound)?;
        is_unique(&item, unique)?;
        shard.remove(self, hash, &item, Cause::Deleted, now_seconds);
        Ok(())
    }

    /// Makes an item stale, in place. Takes the shard's lock.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn invalidate(
        &self,
        key: &[u8],
        invalidation: &Invalidation,
        now_seconds: u32,
    ) -> Result<(), Unmet> {
        self.settle(now_seconds);
        let hash = self.hash(key);
        let shard = self.shard(hash).write();
        let item = self.find_valid(&shard, hash, key, now_seconds);
        let item = item.map_err(|_| Unmet::NotFound)?;
        is_unique(&item, invalidation.unique)?;
        if let Some(expiry) = invalidation.expiry {
            item.set_expiry(expiry);
            self.state_of(&item).expires(expiry);
        }
        let cas_unique = invalidation.cas_unique;
        item.invalidate(cas_unique.unwrap_or_else(|| self.next_sequence()));
        Ok(())
    }
}

fn is_unique(item: &Header<'_>, unique: Option<u64>) -> Result<(), Unmet> {
    match unique {
        Some(unique) if item.cas_unique() != unique => Err(Unmet::Exists),
        _ => Ok(()),
    }
}
