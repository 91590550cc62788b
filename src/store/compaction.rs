//! Room under `-M`, where nothing that can be read may leave.
//!
//! What is alive in the sparsest segments moves together, and the space that replaced, deleted and
//! expired items took is won back; the evacuation itself is `eviction`'s, with nothing chosen. Called by
//! `eviction` under the heap lock.
//!
//! Invariant: a set compacts a bounded number of segments that win nothing.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::eviction::RESERVE;
use super::geometry::SegmentId;
use super::segment::{Kind, Log};
use super::{Refusal, Store};

/// Segments that one set compacts at most under `-M`.
const COMPACTED_MAX: u32 = 8;

impl Store {
    /// `-M`: wins dead space back by moving what is alive together. Keeps [`RESERVE`] segments more
    /// than are wanted, to move into, and stops when [`COMPACTED_MAX`] segments have won nothing.
    pub(super) fn make_room_by_compacting(
        &self,
        log: &mut Log,
        wanted: u32,
        now_seconds: u32,
    ) -> Result<(), Refusal> {
        if wanted == 0 {
            return Ok(());
        }
        let wanted = i64::from(wanted) + RESERVE;
        while self.free_segments(log) < wanted && self.sweep(log, now_seconds) {}
        for _ in 0..COMPACTED_MAX {
            if self.free_segments(log) >= wanted {
                return Ok(());
            }
            if log.evacuation.is_none() {
                let sparsest = self.sparsest(log).ok_or(Refusal::OutOfMemory)?;
                self.set_evacuation(log, Some(sparsest));
            }
            while log.evacuation.is_some() {
                self.evacuate_step(log, true, now_seconds)
                    .ok_or(Refusal::OutOfMemory)?;
            }
        }
        Err(Refusal::OutOfMemory)
    }

    /// Takes the sealed segment with the fewest live bytes out of its chain, if moving them wins at
    /// least an eighth of a segment.
    fn sparsest(&self, log: &mut Log) -> Option<SegmentId> {
        let segments = self.segments();
        let live_bytes = |segment: SegmentId| segments.state(segment).live_bytes.load(Relaxed);
        let is_candidate = |segment: &SegmentId| {
            segments.header(*segment).kind() == Some(Kind::Sealed)
                && segments.state(*segment).writers.load(Acquire) == 0
                && live_bytes(*segment) <= self.geometry.segment_bytes / 8 * 7
        };
        let sealed = log
            .chains
            .iter()
            .flat_map(|chain| chain.sealed.iter().copied());
        let sparsest = sealed
            .filter(is_candidate)
            .min_by_key(|&segment| live_bytes(segment))?;
        for chain in &mut log.chains {
            chain.sealed.retain(|&segment| segment != sparsest);
        }
        Some(sparsest)
    }
}
