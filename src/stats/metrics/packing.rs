//! Packing: what it saves and what it costs.

use super::{Metric, counter, gauge, one, seconds};

const NANOS: u64 = 1_000_000_000;

pub(super) const METRICS: &[Metric] = &[
    counter(
        "tokencached_values_packed_total",
        "Values that were stored packed.",
        "Below the rate of sets, some values do not shrink: encrypted ones, or no tokens.",
        one("values_packed", |m| m.commands.values_packed),
    ),
    counter(
        "tokencached_packed_from_bytes_total",
        "Bytes of the values that were stored packed, as they came.",
        "Over tokencached_packed_into_bytes_total: how many times more tokens fit.",
        one("packed_from_bytes", |m| m.commands.packed_from_bytes),
    ),
    counter(
        "tokencached_packed_into_bytes_total",
        "Bytes that they were packed into.",
        "See tokencached_packed_from_bytes_total.",
        one("packed_into_bytes", |m| m.commands.packed_into_bytes),
    ),
    seconds(
        "tokencached_pack_cpu_seconds_total",
        "Time spent on packing values, and on finding out that it does not pay.",
        "Over tokencached_values_packed_total: time a set, some microseconds.",
        (NANOS, one("pack_cpu_us", |m| m.commands.pack_nanos)),
    ),
    counter(
        "tokencached_values_unpacked_total",
        "Values that were unpacked for a client.",
        "About the rate of hits.",
        one("values_unpacked", |m| m.commands.values_unpacked),
    ),
    seconds(
        "tokencached_unpack_cpu_seconds_total",
        "Time spent on unpacking values, from one of sixteen that is timed.",
        "Over tokencached_values_unpacked_total: time a hit, about a microsecond.",
        (NANOS, one("unpack_cpu_us", |m| m.commands.unpack_nanos)),
    ),
    counter(
        "tokencached_values_unreadable_total",
        "Values that were found damaged and answered as a miss.",
        "Alert on any: memory of this machine is faulty.",
        one("get_unreadable", |m| m.commands.get_unreadable),
    ),
    gauge(
        "tokencached_dictionaries",
        "Dictionaries that values are packed with.",
        "Some are usual; each change of the service catalogue makes one more, and the oldest go.",
        one("dictionaries", |m| m.usage.dictionaries),
    ),
    gauge(
        "tokencached_dictionary_bytes",
        "Bytes of the dictionaries, within the limit.",
        "Part of tokencached_heap_bytes.",
        one("dictionary_bytes", |m| m.usage.dictionary_bytes),
    ),
];
