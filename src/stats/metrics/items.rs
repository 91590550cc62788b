//! Items: how many, how they left, and what memory they take.

use super::{Metric, Samples, counter, gauge, histogram, one, unlisted_sample};
use crate::store::Cause;

/// The ways out that there are so far.
const LEAVING: [Cause; 5] = [
    Cause::Evicted,
    Cause::Expired,
    Cause::Replaced,
    Cause::Flushed,
    Cause::Deleted,
];

pub(super) const METRICS: &[Metric] = &[
    gauge(
        "memcached_current_items",
        "Items held.",
        "About the tokens in use; falls to 0 with an empty start or a flush.",
        one("curr_items", |m| m.usage.items),
    ),
    gauge(
        "memcached_current_bytes",
        "Bytes of the items held, headers included.",
        "Below memcached_limit_bytes by what tables and half-filled segments take; see tokencached_heap_bytes.",
        one("bytes", |m| m.usage.item_bytes),
    ),
    gauge(
        "memcached_limit_bytes",
        "Most bytes that items and all that grows with them may take (-m).",
        "Raise -m where items are evicted before their time is over.",
        one("limit_maxbytes", |m| m.usage.limit_bytes),
    ),
    gauge(
        "memcached_malloced_bytes",
        "Bytes of the segments in use.",
        "Compare with memcached_limit_bytes: while it is well below, nothing is evicted.",
        one("total_malloced", |m| m.usage.segment_bytes),
    ),
    counter(
        "memcached_items_total",
        "Items stored.",
        "Its rate is about that of validations by Keystone.",
        one("total_items", |m| m.counts.stored),
    ),
    counter(
        "memcached_items_evicted_total",
        "Live items that left for others.",
        "Alert when it rises together with misses: the cache is too small; raise -m.",
        one("evictions", |m| m.counts.removed(Cause::Evicted)),
    ),
    counter(
        "memcached_items_reclaimed_total",
        "Items that left after they had expired.",
        "How items should leave; its rate follows that of memcached_items_total.",
        one("reclaimed", |m| m.counts.removed(Cause::Expired)),
    ),
    gauge(
        "tokencached_heap_bytes",
        "The memory limit by use: items; unused: dead items and unfilled rest of segments in use; tables: index and ghost; dictionaries; free.",
        "While free is more than some segments, nothing is evicted; tables grow with the number of items.",
        Samples::Each(
            &["use"],
            &[
                unlisted_sample(&["items"], |m| m.usage.item_bytes),
                unlisted_sample(&["unused"], |m| {
                    m.usage.segment_bytes.saturating_sub(m.usage.item_bytes)
                }),
                unlisted_sample(&["tables"], |m| {
                    m.usage.table_bytes.saturating_sub(m.usage.dictionary_bytes)
                }),
                unlisted_sample(&["dictionaries"], |m| m.usage.dictionary_bytes),
                unlisted_sample(&["free"], |m| {
                    let taken = m.usage.segment_bytes + m.usage.table_bytes;
                    m.usage.limit_bytes.saturating_sub(taken)
                }),
            ],
        ),
    ),
    gauge(
        "tokencached_segments",
        "Segments in use by chain: probation: new items; main: items that proved themselves; other: being emptied or filled by large values.",
        "Main grows with tokens that are used again; if it stays near 0, most tokens are used once.",
        Samples::Each(
            &["chain"],
            &[
                unlisted_sample(&["probation"], |m| m.usage.probation_segments.into()),
                unlisted_sample(&["main"], |m| m.usage.main_segments.into()),
                unlisted_sample(&["other"], |m| m.usage.other_segments.into()),
            ],
        ),
    ),
    histogram(
        "tokencached_item_bytes",
        "Lengths of values that were stored, as they came.",
        "Shows how large the cloud's tokens are; compare with tokencached_packed_bytes.",
        Samples::Family(&[], |m, visit| {
            visit(&[], (&m.stats.histograms.item_bytes).into())
        }),
    ),
    histogram(
        "tokencached_packed_bytes",
        "Lengths of the same values as they are stored.",
        "Where it nears tokencached_item_bytes, packing does not pay: encrypted values, or --no-packing.",
        Samples::Family(&[], |m, visit| {
            visit(&[], (&m.stats.histograms.packed_bytes).into())
        }),
    ),
    histogram(
        "tokencached_item_held_seconds",
        "How long values could be read, by why they left.",
        "Those that were evicted early are why a larger -m would help; expired ones show the TTL that clients give.",
        Samples::Family(&["cause"], |m, visit| {
            for cause in LEAVING {
                visit(&[cause.name()], m.departures.held_seconds(cause).into());
            }
        }),
    ),
    histogram(
        "tokencached_item_hits",
        "How often values were read, up to 63 times each, by why they left.",
        "Evicted after no hit: tokens used once, which cost nothing; evicted after many: the cache is too small.",
        Samples::Family(&["cause"], |m, visit| {
            for cause in LEAVING {
                visit(&[cause.name()], m.departures.reads(cause).into());
            }
        }),
    ),
    histogram(
        "tokencached_evicted_ttl_ratio",
        "Of items that were evicted and were to expire, the share of that time for which they were held.",
        "Most at 0.9 and above: -m is about right; most below 0.5: tokens are validated twice and more.",
        Samples::Family(&[], |m, visit| {
            visit(&[], (&m.departures.evicted_ttl_percent).into())
        }),
    ),
];
