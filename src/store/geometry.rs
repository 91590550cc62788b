//! How the heap is cut into segments: sizes, counts, positions.
//!
//! Pure arithmetic, used by everything that computes a place in the heap. What a segment begins with
//! is in `segment`; that a heap which another process made is cut soundly, `superblock` checks.

use super::heap::SUPERBLOCK_BYTES;

/// Dictionaries alive at once.
pub const DICTIONARIES_MAX: usize = 8;

/// Longest dictionary.
pub const DICTIONARY_BYTES_MAX: usize = 128 << 10;

/// Room for a dictionary, behind a page that tells of it.
const DICTIONARY_SLOT_BYTES: u64 = 4096 + DICTIONARY_BYTES_MAX as u64;

/// Bytes in front of the first segment: the superblock and the dictionaries, which take memory only
/// where there are any.
const FRONT_BYTES: u64 = SUPERBLOCK_BYTES + DICTIONARIES_MAX as u64 * DICTIONARY_SLOT_BYTES;

/// Where the slot of a dictionary begins.
pub fn dictionary_start(slot: usize) -> u64 {
    SUPERBLOCK_BYTES + slot as u64 * DICTIONARY_SLOT_BYTES
}

/// Bytes in front of a segment's first item.
pub const SEGMENT_HEADER_BYTES: u64 = 64;

/// Number of a segment, counted from the start of the heap.
pub type SegmentId = u32;

/// How the heap is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of one segment, its header included; a power of two.
    pub segment_bytes: u64,
    /// Segments up to the ceiling.
    pub segments: u32,
}

impl Geometry {
    const SEGMENT_BYTES_MIN: u64 = 64 << 10;
    const SEGMENT_BYTES_MAX: u64 = 1 << 20;

    /// Segments of the wanted length, or of a 256th of the limit, from 64 KiB to 1 MiB; and as many
    /// as the ceiling holds.
    pub fn new(limit_bytes: u64, ceiling_bytes: u64, wanted_bytes: Option<u64>) -> Geometry {
        let by_limit = || {
            (limit_bytes / 256)
                .next_power_of_two()
                .clamp(Self::SEGMENT_BYTES_MIN, Self::SEGMENT_BYTES_MAX)
        };
        let segment_bytes = wanted_bytes.map_or_else(by_limit, u64::next_power_of_two);
        let segments = ceiling_bytes.max(limit_bytes).div_ceil(segment_bytes);
        Geometry {
            segment_bytes,
            segments: segments.min(u64::from(u32::MAX)) as u32,
        }
    }

    /// Bytes of the whole heap.
    pub fn heap_bytes(&self) -> u64 {
        FRONT_BYTES + u64::from(self.segments) * self.segment_bytes
    }

    /// Bytes of all segments: the most that a memory limit can be.
    pub fn ceiling_bytes(&self) -> u64 {
        u64::from(self.segments) * self.segment_bytes
    }

    /// Bytes of one segment that items can take.
    pub fn data_bytes(&self) -> usize {
        (self.segment_bytes - SEGMENT_HEADER_BYTES) as usize
    }

    /// Where a segment begins.
    pub fn start(&self, segment: SegmentId) -> u64 {
        FRONT_BYTES + u64::from(segment) * self.segment_bytes
    }

    /// Where a segment's first item begins.
    pub fn data_start(&self, segment: SegmentId) -> u64 {
        self.start(segment) + SEGMENT_HEADER_BYTES
    }

    /// The segment that a position lies in.
    #[inline]
    pub fn segment_of(&self, position: u64) -> SegmentId {
        // A shift where a division would cost as much as the rest of a look-up.
        ((position - FRONT_BYTES) >> self.segment_bytes.trailing_zeros()) as SegmentId
    }

    /// Whether an item of this footprint owns whole segments.
    pub fn is_large(&self, footprint: usize) -> bool {
        footprint > self.data_bytes() / 2
    }

    /// Segments that a large item of this footprint owns.
    pub fn segments_for(&self, footprint: usize) -> u32 {
        footprint.div_ceil(self.data_bytes()) as u32
    }
}
