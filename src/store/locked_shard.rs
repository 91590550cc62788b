//! A shard of the index under its exclusive lock: the one way by which items leave.
//!
//! Made by [`Store::lock`](super::Store); what is removed is marked dead, counted, and left to the ghost here.
//!
//! Invariants:
//! - an item leaves for one cause, and is counted once;
//! - when the lock is let go, the account of the tables' bytes is right.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::RwLockWriteGuard;

use super::departures::Removal;
use super::index::Shard;
use super::item::{Header, Life};
use super::{Cause, Store};

/// A shard under its exclusive lock, which keeps the account of the tables' bytes.
pub struct LockedShard<'s> {
    /// The shard itself.
    pub shard: RwLockWriteGuard<'s, Shard>,
    bytes_before: usize,
    table_bytes: &'s AtomicI64,
}

impl std::ops::Deref for LockedShard<'_> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl<'s> LockedShard<'s> {
    /// A shard that has just been locked; its account is kept in `table_bytes`.
    pub fn new(shard: RwLockWriteGuard<'s, Shard>, table_bytes: &'s AtomicI64) -> LockedShard<'s> {
        LockedShard {
            bytes_before: shard.bytes(),
            table_bytes,
            shard,
        }
    }

    /// Takes an item out of the index: the one way by which items leave.
    pub fn remove(
        &mut self,
        store: &Store,
        hash: u64,
        item: &Header<'_>,
        cause: Cause,
        now_seconds: u32,
    ) {
        let known = self.shard.remove(hash, item.position());
        debug_assert!(known, "only items that the index knows are removed");
        item.set_life(Life::Dead);
        store
            .state_of(item)
            .subtract(store.segments().item_bytes(item));
        store.dictionaries.release(item.packing());
        let removal = Removal::of(item, cause, now_seconds);
        self.remember(store, hash, item, &removal, now_seconds);
        store.counters.count(&removal);
        store.departures.count(&removal);
    }

    /// Leaves the key of an item that was removed to the ghost.
    fn remember(
        &mut self,
        store: &Store,
        hash: u64,
        item: &Header<'_>,
        removal: &Removal,
        now_seconds: u32,
    ) {
        let share = store.options.eviction.ghost_percent as usize;
        let ghost_keys = self.shard.items() * share / 100;
        let cause = removal.cause;
        let ghost = &mut self.shard.ghost;
        match cause {
            // A newer value is there.
            Cause::Replaced => {}
            Cause::Expired if !removal.fetched => ghost.note(hash, cause, now_seconds, ghost_keys),
            Cause::Evicted | Cause::Expired => {
                let chain = store.chain_of(item);
                let departure = store.returns.departure(chain, cause, item);
                ghost.insert(hash, departure, ghost_keys);
            }
            Cause::Deleted | Cause::Flushed | Cause::Revoked => {
                ghost.note(hash, cause, now_seconds, ghost_keys);
            }
        }
    }
}

impl Drop for LockedShard<'_> {
    fn drop(&mut self) {
        let change = self.shard.bytes() as i64 - self.bytes_before as i64;
        if change != 0 {
            self.table_bytes.fetch_add(change, Relaxed);
        }
    }
}
