//! Commands: what was asked for, what came of it, how long it took.

use super::{Metric, Samples, counter, histogram, one, sample, unlisted_sample};
use crate::stats::Snapshot;

/// The exporter's `command` and `status`.
const BY_STATUS: Samples = Samples::Each(
    &["command", "status"],
    &[
        sample(&["get", "hit"], "get_hits", |m| m.commands.get_hits),
        sample(&["get", "miss"], "get_misses", |m| m.commands.get_misses),
        unlisted_sample(&["set", "hit"], |m| sets(&m.commands)),
        sample(&["touch", "hit"], "touch_hits", |m| m.commands.touch_hits),
        sample(&["touch", "miss"], "touch_misses", |m| {
            m.commands.touch_misses
        }),
        sample(&["delete", "hit"], "delete_hits", |m| {
            m.commands.delete_hits
        }),
        sample(&["delete", "miss"], "delete_misses", |m| {
            m.commands.delete_misses
        }),
        sample(&["incr", "hit"], "incr_hits", |m| m.commands.incr_hits),
        sample(&["incr", "miss"], "incr_misses", |m| m.commands.incr_misses),
        sample(&["decr", "hit"], "decr_hits", |m| m.commands.decr_hits),
        sample(&["decr", "miss"], "decr_misses", |m| m.commands.decr_misses),
        sample(&["cas", "hit"], "cas_hits", |m| m.commands.cas_hits),
        sample(&["cas", "miss"], "cas_misses", |m| m.commands.cas_misses),
        sample(&["cas", "badval"], "cas_badval", |m| m.commands.cas_badval),
        sample(&["flush", "hit"], "cmd_flush", |m| m.commands.cmd_flush),
    ],
);

/// As the exporter has it: a `cas` is no `set`, though `cmd_set` counts both.
fn sets(sums: &Snapshot) -> u64 {
    let cas = sums.cas_hits + sums.cas_misses + sums.cas_badval;
    sums.cmd_set.saturating_sub(cas)
}

pub(super) const METRICS: &[Metric] = &[
    counter(
        "memcached_commands_total",
        "Commands by what was asked for and what came of it.",
        "The hit rate is get hits over all gets; alert when it falls against its own last day.",
        BY_STATUS,
    ),
    histogram(
        "tokencached_serve_seconds",
        "Time from having read requests to having given their replies to the kernel, or as many as it took; one turn of a connection in 64 is timed.",
        "Its upper quantiles in milliseconds mean that the machine is short of CPU: clients wait beside the cache, too.",
        Samples::Family(&[], |m, visit| {
            visit(&[], (&m.stats.histograms.serve_nanos).into())
        }),
    ),
    counter(
        "memcached_read_bytes_total",
        "Bytes read from clients.",
        "Its rate is about that of sets times the length of a token.",
        one("bytes_read", |m| m.commands.bytes_read),
    ),
    counter(
        "memcached_written_bytes_total",
        "Bytes written to clients.",
        "Its rate is about that of hits times the length of a token.",
        one("bytes_written", |m| m.commands.bytes_written),
    ),
    counter(
        "memcached_item_too_large_total",
        "Values refused as they are larger than item_size_max (-I).",
        "Where it rises, catalogues have outgrown -I: those tokens are validated each time; raise -I.",
        one("store_too_large", |m| m.commands.store_too_large),
    ),
    counter(
        "memcached_item_no_memory_total",
        "Values refused as no room could be made for them.",
        "Should not rise: raise -m, or leave -M out.",
        one("store_no_memory", |m| m.commands.store_no_memory),
    ),
    counter(
        "memcached_slab_items_outofmemory_total",
        "The same as memcached_item_no_memory_total, under the name that the memcached mixin's alert reads; there are no slab classes.",
        "Leave it to the mixin's MemcachedOutOfMemoryErrors.",
        Samples::Each(
            &["slab"],
            &[unlisted_sample(&["all"], |m| m.commands.store_no_memory)],
        ),
    ),
    counter(
        "memcached_connections_yielded_total",
        "Times a connection stepped back for others after -R commands in a row.",
        "Rises with clients that send many commands at once; no harm by itself.",
        one("conn_yields", |m| m.commands.conn_yields),
    ),
    counter(
        "tokencached_authentications_total",
        "Users and passwords that were looked at.",
        "About one a connection where users are asked for.",
        one("auth_cmds", |m| m.commands.auth_cmds),
    ),
    counter(
        "tokencached_authentication_errors_total",
        "Users and passwords that do not belong together.",
        "Alert on a rate: a client has an old password, or somebody is guessing; the log names the peer.",
        one("auth_errors", |m| m.commands.auth_errors),
    ),
    counter(
        "tokencached_access_writes_refused_total",
        "Commands refused as their client may only read.",
        "Should not rise: who may only read tries to write; the log names the peer.",
        one("access_write_refused", |m| m.commands.access_write_refused),
    ),
    counter(
        "tokencached_failures_untold_total",
        "Failures in the binary protocol that keystonemiddleware was told as a success or a miss.",
        "Look at what else rises: values too large, refused writes, lack of memory.",
        one("failures_untold", |m| m.commands.failures_untold),
    ),
];
