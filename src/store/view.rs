//! A found item as it is seen where it lies, under its shard's lock.
//!
//! [`Store::look`](super::Store::look) lends one. What is short is copied at once; what is not is pinned, and read
//! when the lock is gone ([`ItemRef`]).
//!
//! Invariant: nothing that is lent of the item outlives the lock.

use super::item::Header;
use super::packing::Packing;
use super::{ItemRef, Miss, Store};

/// A found item under its shard's lock, shared.
pub struct View<'s> {
    store: &'s Store,
    item: Header<'s>,
}

impl<'s> View<'s> {
    pub(super) fn new(store: &'s Store, item: Header<'s>) -> View<'s> {
        View { store, item }
    }

    /// Length of the value as it is stored.
    #[inline]
    pub fn value_bytes(&self) -> usize {
        self.item.value_bytes()
    }

    /// Opaque to the store.
    #[inline]
    pub fn client_flags(&self) -> u32 {
        self.item.client_flags()
    }

    /// What `cas` compares.
    #[inline]
    pub fn cas_unique(&self) -> u64 {
        self.item.cas_unique()
    }

    /// How the value is packed.
    #[inline]
    pub fn packing(&self) -> Packing {
        self.item.packing()
    }

    /// What its caller took it for when it was stored.
    #[inline]
    pub fn class(&self) -> u8 {
        self.item.class()
    }

    /// The value as it is stored, if it is no longer than this; `bytes_max` is less than what makes an item large
    /// ([`Store::is_large`]), so that it lies in one piece.
    #[inline]
    pub fn short(&self, bytes_max: usize) -> Option<&[u8]> {
        let bytes = self.value_bytes();
        let position = self.item.value_position();
        (bytes <= bytes_max).then(|| self.store.heap.bytes(position, bytes))
    }

    /// Keeps the value readable beyond the lock.
    pub fn pin(&self) -> ItemRef<'s> {
        self.store.pin(&self.item)
    }
}

impl Store {
    /// Looks a key up and lets `see` see the item under the shard's lock, shared. So `see` has to be quick; a short
    /// value is copied there in less time than a pin costs. Allocates nothing.
    ///
    /// # Errors
    /// Why there is nothing to see.
    #[inline(always)]
    pub fn look<'s, T>(
        &'s self,
        key: &[u8],
        now_seconds: u32,
        see: impl FnOnce(&View<'s>) -> T,
    ) -> Result<T, Miss> {
        self.settle(now_seconds);
        let hash = self.hash(key);
        let shard = self.shard(hash).read();
        let item = self.find_valid(&shard, hash, key, now_seconds)?;
        item.access(now_seconds, self.options.eviction.proves_after_seconds);
        Ok(see(&View::new(self, item)))
    }
}
