//! A complete check of the store's own bookkeeping, for tests and fuzzers.
//!
//! Walks every segment and asks the index for every item in it: slow, and only meaningful while
//! nobody writes.

use std::sync::atomic::Ordering::Relaxed;

use super::Store;
use super::geometry::{DICTIONARIES_MAX, SegmentId};
use super::item::Life;
use super::segment::Kind;
use super::superblock::Superblock;

/// What the walk counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Items that the index knows.
    pub items: u64,
    /// Their bytes.
    pub item_bytes: u64,
    /// Items whose checksum is wrong.
    pub damaged: u64,
    /// Items that need the dictionary of each slot.
    pub packed: [u32; DICTIONARIES_MAX],
}

impl Store {
    /// Counts all items by walking the heap.
    ///
    /// # Errors
    /// The first contradiction found: between a segment's count and its items, between the heap and
    /// the index, between a dictionary's count and the items that need it, or between the memory in use and the limit.
    pub fn audit(&self) -> Result<Audit, String> {
        let mut log = self.log.lock();
        log.clear_limbo(self.segments());
        let mut sum = Audit {
            items: 0,
            item_bytes: 0,
            damaged: 0,
            packed: [0; DICTIONARIES_MAX],
        };
        let mut in_use = 0;
        for segment in 0..Superblock::of(&self.heap).fresh() {
            match self.segments().header(segment).kind() {
                Some(Kind::Open | Kind::Sealed) => {
                    in_use += 1;
                    self.audit_segment(segment, usize::MAX, &mut sum)?;
                }
                Some(Kind::Head) => {
                    in_use += self.segments().parts(segment).count() as u32;
                    self.audit_segment(segment, 1, &mut sum)?;
                }
                Some(Kind::Free | Kind::Part) => {}
                None => return Err(format!("segment {segment} is of no kind")),
            }
        }
        if in_use != log.in_use {
            return Err(format!(
                "{in_use} segments are in use, {} are counted",
                log.in_use
            ));
        }
        let chained: u32 = log.chains.iter().map(|chain| chain.segments).sum();
        if chained != in_use {
            return Err(format!(
                "{in_use} segments are in use, the chains count {chained}"
            ));
        }
        drop(log);
        self.audit_tables(&sum)?;
        self.audit_dictionaries(&sum.packed)?;
        Ok(sum)
    }

    fn audit_segment(
        &self,
        segment: SegmentId,
        items_max: usize,
        sum: &mut Audit,
    ) -> Result<(), String> {
        let (mut items, mut bytes) = (0, 0);
        for item in self.segments().items(segment).take(items_max) {
            let hash = self.hash(item.key());
            let known = self.shard(hash).read().contains(hash, item.position());
            if known != (item.life() == Some(Life::Live)) {
                let life = item.life();
                return Err(format!(
                    "an item is {life:?}, the index knowing it: {known}"
                ));
            }
            if known {
                items += 1;
                bytes += self.segments().item_bytes(&item) as u64;
                if let Some(number) = item.packing().dictionary() {
                    sum.packed[number.slot()] += 1;
                }
                sum.damaged += u64::from(self.checksum_of(&item) != item.checksum());
            }
        }
        let state = &self.states[segment as usize];
        let counted = (
            state.live_items.load(Relaxed),
            state.live_bytes.load(Relaxed),
        );
        if counted != (items, bytes) {
            return Err(format!(
                "segment {segment} holds {items} items of {bytes} bytes and counts {counted:?}"
            ));
        }
        sum.items += u64::from(items);
        sum.item_bytes += bytes;
        Ok(())
    }

    fn audit_tables(&self, sum: &Audit) -> Result<(), String> {
        let shards = || self.shards.iter().map(|shard| shard.read());
        let items: u64 = shards().map(|shard| shard.items() as u64).sum();
        let shard_bytes: u64 = shards().map(|shard| shard.bytes() as u64).sum();
        let bytes = shard_bytes + self.dictionaries.bytes();
        if items != sum.items {
            return Err(format!(
                "the index knows {items} items, the heap holds {}",
                sum.items
            ));
        }
        if bytes != self.table_bytes() {
            let counted = self.table_bytes();
            return Err(format!(
                "the tables take {bytes} bytes and are counted as {counted}"
            ));
        }
        let usage = self.usage();
        let segment_limit = usage.limit_bytes.saturating_sub(usage.table_bytes)
            / self.geometry.segment_bytes
            * self.geometry.segment_bytes;
        // An index that has just grown takes the room of at most one segment more, which the next
        // set makes good.
        if usage.segment_bytes > segment_limit + self.geometry.segment_bytes {
            return Err(format!("{usage:?} exceeds the limit"));
        }
        Ok(())
    }
}
