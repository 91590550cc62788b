//! Connections: how many, who was turned away or closed, and why.

use std::sync::atomic::Ordering::Relaxed;

use super::{Metric, Samples, counter, gauge, one, seconds, unlisted, unlisted_sample};

const MICROS: u64 = 1_000_000;

pub(super) const METRICS: &[Metric] = &[
    gauge(
        "memcached_current_connections",
        "Open client connections.",
        "Alert when it nears memcached_max_connections.",
        one("curr_connections", |m| {
            m.stats.server.curr_connections.load(Relaxed)
        }),
    ),
    gauge(
        "memcached_max_connections",
        "Most connections that may be open (-c).",
        "Raise -c where memcached_current_connections comes near: each API worker keeps some.",
        one("max_connections", |m| m.process.connections_max as u64),
    ),
    counter(
        "memcached_connections_total",
        "Connections accepted.",
        "A rate of more than some a second says that clients do not keep their connections.",
        one("total_connections", |m| {
            m.stats.server.total_connections.load(Relaxed)
        }),
    ),
    counter(
        "memcached_connections_rejected_total",
        "Connections turned away over the maximum.",
        "Should not rise: raise -c.",
        one("rejected_connections", |m| {
            m.stats.server.rejected_connections.load(Relaxed)
        }),
    ),
    gauge(
        "memcached_accepting_connections",
        "Whether connections are accepted: 1.",
        "For what was made for memcached; pauses are in memcached_connections_listener_disabled_total.",
        one("accepting_conns", |_| 1),
    ),
    counter(
        "memcached_connections_listener_disabled_total",
        "Times that accepting had to pause for lack of file descriptors or memory.",
        "Should not rise: raise LimitNOFILE= of the service.",
        one("listen_disabled_num", |m| {
            m.stats.server.listen_disabled_num.load(Relaxed)
        }),
    ),
    seconds(
        "tokencached_listener_disabled_seconds_total",
        "Time in which accepting paused for that reason.",
        "How long clients had to wait for a connection.",
        (
            MICROS,
            one("time_in_listen_disabled_us", |m| {
                m.stats.server.time_in_listen_disabled_us.load(Relaxed)
            }),
        ),
    ),
    gauge(
        "tokencached_watchers",
        "Those that watch or record over the admin socket: four at most.",
        "0 unless somebody is looking for something; who, only root and the server's user can be.",
        unlisted(|m| m.stats.events.watchers() as u64),
    ),
    counter(
        "tokencached_connections_refused_total",
        "Connections refused: full: over -c; access: by the access rules; unnamed: by the rules, as the peer could not be named.",
        "Alert on access and unnamed: a service is missing from the rules, or somebody tries; the log names the peer.",
        Samples::Each(
            &["cause"],
            &[
                unlisted_sample(&["full"], |m| {
                    m.stats.server.rejected_connections.load(Relaxed)
                }),
                unlisted_sample(&["access"], |m| {
                    let unnamed = m.stats.server.access_unnamed.load(Relaxed);
                    let refused = m.stats.server.access_refused.load(Relaxed);
                    refused.saturating_sub(unnamed)
                }),
                unlisted_sample(&["unnamed"], |m| {
                    m.stats.server.access_unnamed.load(Relaxed)
                }),
            ],
        ),
    ),
    counter(
        "tokencached_access_closed_total",
        "Connections closed since access rules that came later refuse them.",
        "Rises with a reload of rules; see the log for whom.",
        one("access_closed", |m| {
            m.stats.server.access_closed.load(Relaxed)
        }),
    ),
    counter(
        "tokencached_idle_connections_closed_total",
        "Connections closed since they were silent for idle_timeout.",
        "Should be 0: a closed connection costs keystonemiddleware its cache; leave idle_timeout out.",
        one("idle_kicks", |m| m.commands.idle_kicks),
    ),
    counter(
        "tokencached_buffer_connections_closed_total",
        "Connections closed as their buffers would have exceeded buffer_memory.",
        "Should not rise: clients are cut off; look at tokencached_slow_clients, raise buffer_memory.",
        one("closed_for_memory", |m| m.commands.closed_for_memory),
    ),
    gauge(
        "tokencached_buffer_bytes",
        "Bytes of requests half received and of replies not taken.",
        "Near buffer_memory, connections are closed: find the clients that do not read.",
        one("buffer_bytes", |m| {
            let server = &m.stats.server;
            let requests = server.request_buffer_bytes.load(Relaxed);
            requests + server.reply_buffer_bytes.load(Relaxed)
        }),
    ),
    gauge(
        "tokencached_slow_clients",
        "Connections that have not taken their replies for a second.",
        "Alert when it stays above 0: a client hangs; tokencached_connections says of which service (conn_mwrite), stats conns at which port.",
        unlisted(|m| m.stats.connections.slow(m.now.seconds) as u64),
    ),
    counter(
        "tokencached_peer_lookups_total",
        "Times the kernel was asked who is at the other end of a connection.",
        "At most some for each connection.",
        one("peer_lookups", |m| {
            m.stats.server.peer_lookups.load(Relaxed)
        }),
    ),
    counter(
        "tokencached_peer_lookup_failures_total",
        "Those that the kernel did not answer.",
        "Where it rises under access rules, services are refused: see the log.",
        one("peer_lookup_failures", |m| {
            m.stats.server.peer_lookup_failures.load(Relaxed)
        }),
    ),
    counter(
        "tokencached_tls_new_sessions_total",
        "TLS handshakes that were made in full, and not by taking an earlier session up.",
        "With memcached_connections_total, how many connections are spared a full handshake.",
        one("ssl_new_sessions", |m| {
            m.stats.server.ssl_new_sessions.load(Relaxed)
        }),
    ),
    counter(
        "tokencached_tls_handshake_errors_total",
        "Clients of a TLS listener whose handshake failed or took too long.",
        "Alert on a rate: certificates have expired, or a client speaks plainly; the log says which.",
        one("ssl_handshake_errors", |m| {
            m.stats.server.ssl_handshake_errors.load(Relaxed)
        }),
    ),
    counter(
        "tokencached_tls_protocol_errors_total",
        "Connections that ended since what came after their handshake was no TLS.",
        "Should not rise: something between client and server changes what they say.",
        one("ssl_proto_errors", |m| {
            m.stats.server.ssl_proto_errors.load(Relaxed)
        }),
    ),
];
