"""What a restart of the unit costs whoever asks meanwhile, beside memcached: `tests/systemd/run -s test_load.py` shows it."""

import json
import statistics

import pytest

from machine import deb

USER = "nova"
KEYS = 100_000
CONNECTIONS = 200
RESTARTS = 7
LOAD = f"runuser -u {USER} -- tokencached-tool load --target '[::1]:11211' --values tokens --keys {KEYS} --json"
UNDER_LOAD = f"{LOAD} --connections {CONNECTIONS} --seconds 2 --reconnect"


def ask_over_a_restart(machine):
    """What the tool says of two seconds in which the service was restarted."""
    command = f"{UNDER_LOAD} >/tmp/report & sleep 0.5; systemctl restart memcached && wait && cat /tmp/report"
    report = json.loads(machine.run(command))
    assert (report["wrong_values"], report["errors"]) == (0, 0)
    return report


def restarts(machine):
    """Fills the cache, restarts it under load, and gives what the tool said, and the items before and after."""
    machine.run(f"useradd --system {USER}")
    machine.run(f"{LOAD} --hold")
    items = [int(machine.stats()["curr_items"])]
    reports = [ask_over_a_restart(machine) for _ in range(RESTARTS)]
    items.append(int(machine.stats()["curr_items"]))
    waits = sorted(report["latency_max_us"] / 1000 for report in reports)
    print(
        f"\n{machine.program('memcached')}: {RESTARTS} restarts, {items[0]} items, then {items[1]};",
        f"{sum(report['connections_lost'] for report in reports)} connections broke;",
        f"longest wait of a restart {statistics.median(waits):.0f} ms (median), {waits[-1]:.0f} ms (worst)",
    )
    return reports, items


def test_a_restart_under_load_breaks_nothing_and_misses_nothing(taken):
    reports, items = restarts(taken)
    assert items == [KEYS, KEYS]
    assert [report["connections_lost"] for report in reports] == [0] * RESTARTS
    assert [report["misses"] for report in reports] == [0] * RESTARTS


def test_memcached_under_the_same_load_loses_all(unit):
    # Debian's unit gives up after five starts in ten seconds.
    unit.write("/etc/systemd/system/memcached.service.d/60-test.conf", "[Unit]\nStartLimitIntervalSec=0\n")
    unit.run(f"systemctl daemon-reload && dpkg -i {deb('tokencached')}")
    reports, items = restarts(unit)
    assert items[0] > 0 and items[1] == 0
    # Some break twice.
    assert all(report["connections_lost"] >= CONNECTIONS for report in reports)
