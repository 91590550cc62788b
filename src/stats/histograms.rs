//! The histograms that the engine and the connections count into, and their bounds.
//!
//! One of each for all workers: what is counted here is counted once a set, or once in many requests.

use std::collections::BTreeMap;

use crate::histogram::{Distribution, Histogram};

const KIB: u64 = 1 << 10;

/// Bytes: a token as it comes is 2 to 16 KiB.
const ITEM_BYTES: [u64; 10] = [
    256,
    KIB,
    2 * KIB,
    4 * KIB,
    8 * KIB,
    16 * KIB,
    32 * KIB,
    64 * KIB,
    256 * KIB,
    1024 * KIB,
];

/// Bytes: a token as it is stored is about 450.
const PACKED_BYTES: [u64; 10] = [
    128,
    256,
    512,
    KIB,
    2 * KIB,
    4 * KIB,
    8 * KIB,
    16 * KIB,
    64 * KIB,
    1024 * KIB,
];

/// Nanoseconds: a get takes some microseconds, a client gives up after three seconds.
const SERVE_NANOS: [u64; 12] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    25_000_000,
    100_000_000,
    500_000_000,
    3_000_000_000,
];

/// The histograms of the process.
#[derive(Debug)]
pub struct Histograms {
    /// Bytes of values that were stored, as they came.
    pub item_bytes: Histogram<10>,
    /// Bytes of the same values as they are stored.
    pub packed_bytes: Histogram<10>,
    /// Nanoseconds from having read requests to having sent their replies, of one turn in
    /// [`Histograms::SERVES_A_SAMPLE`].
    pub serve_nanos: Histogram<12>,
}

impl Default for Histograms {
    fn default() -> Histograms {
        Histograms {
            item_bytes: Histogram::new(&ITEM_BYTES, 1),
            packed_bytes: Histogram::new(&PACKED_BYTES, 1),
            serve_nanos: Histogram::new(&SERVE_NANOS, 1_000_000_000),
        }
    }
}

impl Histograms {
    /// Turns of a worker of which one is timed, so that timing costs nothing.
    pub const SERVES_A_SAMPLE: u32 = 64;

    /// All counts, by name, to be handed on.
    pub(super) fn totals(&self) -> BTreeMap<String, Distribution> {
        [
            ("item_bytes", self.item_bytes.read()),
            ("packed_bytes", self.packed_bytes.read()),
            ("serve_nanos", self.serve_nanos.read()),
        ]
        .map(|(name, counted)| (name.to_owned(), counted))
        .into()
    }

    /// Goes on from what others have counted.
    pub(super) fn inherit(&self, totals: &BTreeMap<String, Distribution>) {
        let of = |name| totals.get(name).cloned().unwrap_or_default();
        self.item_bytes.add(&of("item_bytes"));
        self.packed_bytes.add(&of("packed_bytes"));
        self.serve_nanos.add(&of("serve_nanos"));
    }
}
