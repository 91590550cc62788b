//! The first page of the heap: what a process that takes it over has to know before anything else.
//!
//! ```text
//! 0   magic                 16  segments             32  pending flush, second
//! 8   format version        24  flush sequence       36  starts that have yet to prove themselves
//! 12  segment bytes         20  segments ever used   40  bound of the write sequence
//! ```
//!
//! Invariants:
//! - every write sequence in use lies below the bound, which moves on in blocks, so that a
//!   process which takes the heap over never gives out a CAS unique twice;
//! - a process that takes the heap over is counted before it reads an item, and until it has proved
//!   that the heap does not end it.

use std::sync::atomic::Ordering::Relaxed;

use super::geometry::Geometry;
use super::heap::Heap;
use super::item::SEQUENCE_BITS;

const MAGIC: u64 = u64::from_le_bytes(*b"tokcache");
const FORMAT_VERSION: u32 = 6;
const SEQUENCE_BLOCK: u64 = 1 << 20;

/// What a header has room for.
const SEQUENCES: u64 = 1 << SEQUENCE_BITS;

/// The heap's first page.
#[derive(Clone, Copy, Debug)]
pub struct Superblock<'h> {
    heap: &'h Heap,
}

impl<'h> Superblock<'h> {
    /// That of a heap.
    pub fn of(heap: &'h Heap) -> Superblock<'h> {
        Superblock { heap }
    }

    /// Writes the superblock of a new heap.
    pub fn format(&self, geometry: &Geometry) {
        self.heap.word(8).store(FORMAT_VERSION, Relaxed);
        self.heap
            .word(12)
            .store(geometry.segment_bytes as u32, Relaxed);
        self.heap.word(16).store(geometry.segments, Relaxed);
        self.heap.word(20).store(0, Relaxed);
        self.heap.long(24).store(0, Relaxed);
        self.heap.word(32).store(0, Relaxed);
        self.heap.word(36).store(0, Relaxed);
        self.heap.long(40).store(1, Relaxed);
        // Last: a heap with this number in front is complete.
        self.heap.long(0).store(MAGIC, Relaxed);
    }

    /// How the heap is cut; an error says what is wrong with a heap that cannot be read.
    ///
    /// # Errors
    /// One line for the log.
    pub fn geometry(&self) -> Result<Geometry, String> {
        if self.heap.long(0).load(Relaxed) != MAGIC {
            return Err("it does not begin like a heap of tokencached's".to_owned());
        }
        let version = self.heap.word(8).load(Relaxed);
        if version != FORMAT_VERSION {
            return Err(format!(
                "its format is {version}, this release reads {FORMAT_VERSION}"
            ));
        }
        let geometry = Geometry {
            segment_bytes: u64::from(self.heap.word(12).load(Relaxed)),
            segments: self.heap.word(16).load(Relaxed),
        };
        let fits = geometry.segment_bytes.is_power_of_two()
            && (64 << 10..=1 << 20).contains(&geometry.segment_bytes)
            && geometry.segments > 0
            && geometry.heap_bytes() <= self.heap.len();
        if !fits {
            return Err("its segments do not fit its length".to_owned());
        }
        let bound = self.take_over_sequence();
        let counts = (1..=SEQUENCES - SEQUENCE_BLOCK).contains(&bound)
            && self.flush_sequence() < bound
            && self.fresh() <= geometry.segments;
        if !counts {
            return Err("its write sequence or its count of segments makes no sense".to_owned());
        }
        Ok(geometry)
    }

    /// Segments from this one on were never used.
    pub fn fresh(&self) -> u32 {
        self.heap.word(20).load(Relaxed)
    }

    /// Notes that segments below this one have been used.
    pub fn set_fresh(&self, fresh: u32) {
        self.heap.word(20).store(fresh, Relaxed);
    }

    /// Items up to this write sequence are flushed.
    pub fn flush_sequence(&self) -> u64 {
        self.heap.long(24).load(Relaxed)
    }

    /// Flushes all items up to this write sequence.
    pub fn set_flush_sequence(&self, sequence: u64) {
        self.heap.long(24).store(sequence, Relaxed);
    }

    /// The second of a delayed flush, 0 without one.
    pub fn flush_at(&self) -> u32 {
        self.heap.word(32).load(Relaxed)
    }

    /// Sets the second of a delayed flush.
    pub fn set_flush_at(&self, second: u32) {
        self.heap.word(32).store(second, Relaxed);
    }

    /// Processes that have taken the heap over since one last proved itself.
    pub fn starts(&self) -> u32 {
        self.heap.word(36).load(Relaxed)
    }

    /// Sets the count of such processes.
    pub fn set_starts(&self, starts: u32) {
        self.heap.word(36).store(starts, Relaxed);
    }

    /// Where the write sequence goes on: above all that were ever given out.
    pub fn take_over_sequence(&self) -> u64 {
        self.heap.long(40).load(Relaxed)
    }

    /// Moves the bound on before `sequence` is used.
    pub fn cover(&self, sequence: u64) {
        let bound = self.heap.long(40);
        if bound.load(Relaxed) <= sequence {
            bound.fetch_max(sequence + SEQUENCE_BLOCK, Relaxed);
        }
    }
}
