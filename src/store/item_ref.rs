//! A found item, pinned: how a value is read without a lock and without a copy.

use std::sync::atomic::Ordering::Release;

use super::geometry::SegmentId;
use super::item::Header;
use super::packing::Packing;
use super::{Store, item};

/// A found item: its value stays readable, and its segment unused by others, until this is dropped.
/// Hold it no longer than one send.
pub struct ItemRef<'s> {
    pub(super) store: &'s Store,
    pub(super) segment: SegmentId,
    pub(super) value_position: u64,
    pub(super) key_bytes: u8,
    pub(super) value_bytes: usize,
    pub(super) client_flags: u32,
    pub(super) cas_unique: u64,
    pub(super) packing: Packing,
    pub(super) class: u8,
}

impl ItemRef<'_> {
    /// Length of the value as it is stored.
    pub fn len(&self) -> usize {
        self.value_bytes
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.value_bytes == 0
    }

    /// Bytes that stay as they are while this lives: the whole segments that the item lies in.
    pub fn pinned_bytes(&self) -> usize {
        let geometry = &self.store.geometry;
        let footprint = item::footprint(0, self.value_bytes);
        let segments = if geometry.is_large(footprint) {
            u64::from(geometry.segments_for(footprint))
        } else {
            1
        };
        (segments * geometry.segment_bytes) as usize
    }

    /// Opaque to the store.
    pub fn client_flags(&self) -> u32 {
        self.client_flags
    }

    /// What `cas` compares.
    pub fn cas_unique(&self) -> u64 {
        self.cas_unique
    }

    /// How the value is packed: what is here may not be what was given to be stored.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// What its caller took it for when it was stored; opaque to the store.
    pub fn class(&self) -> u8 {
        self.class
    }

    /// When the item was written, in seconds.
    pub fn written_at(&self) -> u32 {
        self.header().written_at()
    }

    /// When the item expires as it is now, in seconds.
    pub fn expiry(&self) -> u32 {
        self.header().expiry()
    }

    /// Stays this item's while it is pinned: nothing is written over it.
    fn header(&self) -> Header<'_> {
        let key_position = self.value_position - u64::from(self.key_bytes);
        let position = key_position - item::HEADER_BYTES as u64;
        Header::at(&self.store.heap, position)
    }

    /// The longest contiguous piece of the value that begins at `offset`.
    pub fn piece(&self, offset: usize) -> &[u8] {
        let store = self.store;
        let (position, in_segment) = store.segments().value_piece(self.value_position, offset);
        let length = in_segment.min(self.value_bytes.saturating_sub(offset));
        store.heap.bytes(position, length)
    }
}

impl Drop for ItemRef<'_> {
    fn drop(&mut self) {
        let state = &self.store.states[self.segment as usize];
        // Release: what was read was read before the segment may be written again.
        state.pins.fetch_sub(1, Release);
    }
}

impl std::fmt::Debug for ItemRef<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ItemRef({} bytes)", self.value_bytes)
    }
}
