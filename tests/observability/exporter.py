"""What prometheus/memcached_exporter says of a memcached, from its `stats` and `stats settings`.

Source: pkg/exporter/exporter.go, parseStats and parseStatsSettings. What memcached has per slab class, and for its
crawler, is not here: the server shows none.
"""

# metric: the line of `stats`
PLAIN = {
    "memcached_uptime_seconds": "uptime",
    "memcached_time_seconds": "time",
    "memcached_process_user_cpu_seconds_total": "rusage_user",
    "memcached_process_system_cpu_seconds_total": "rusage_system",
    "memcached_current_bytes": "bytes",
    "memcached_limit_bytes": "limit_maxbytes",
    "memcached_current_items": "curr_items",
    "memcached_items_total": "total_items",
    "memcached_read_bytes_total": "bytes_read",
    "memcached_written_bytes_total": "bytes_written",
    "memcached_current_connections": "curr_connections",
    "memcached_connections_total": "total_connections",
    "memcached_connections_rejected_total": "rejected_connections",
    "memcached_connections_yielded_total": "conn_yields",
    "memcached_connections_listener_disabled_total": "listen_disabled_num",
    "memcached_items_evicted_total": "evictions",
    "memcached_items_reclaimed_total": "reclaimed",
    "memcached_item_too_large_total": "store_too_large",
    "memcached_item_no_memory_total": "store_no_memory",
    "memcached_malloced_bytes": "total_malloced",
    "memcached_accepting_connections": "accepting_conns",
}

# (command, status) of memcached_commands_total: the line of `stats`
COMMANDS = {
    **{(command, "hit"): f"{command}_hits" for command in ["get", "delete", "incr", "decr", "cas", "touch"]},
    **{(command, "miss"): f"{command}_misses" for command in ["get", "delete", "incr", "decr", "cas", "touch"]},
    ("cas", "badval"): "cas_badval",
    ("flush", "hit"): "cmd_flush",
}

NAMES = {*PLAIN, "memcached_up", "memcached_version", "memcached_max_connections", "memcached_commands_total"}


def reports(stats, settings):
    """Values by metric and labels, as a scrape has them."""
    found = {(name, frozenset()): float(stats[line]) for name, line in PLAIN.items()}
    found["memcached_max_connections", frozenset()] = float(settings["maxconns"])
    for (command, status), line in COMMANDS.items():
        found["memcached_commands_total", _labels(command, status)] = float(stats[line])
    # memcached counts a cas among the sets as well.
    cas = sum(float(stats[f"cas_{outcome}"]) for outcome in ["hits", "misses", "badval"])
    found["memcached_commands_total", _labels("set", "hit")] = float(stats["cmd_set"]) - cas
    return found


def _labels(command, status):
    return frozenset({"command": command, "status": status}.items())
