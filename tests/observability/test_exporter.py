"""prometheus/memcached_exporter sees a healthy memcached, with the numbers that the server itself gives."""

import contextlib
import os
import shutil
import subprocess
import urllib.request

import pytest

import exporter
from exposition import Scrape
from local import accepts, free_port
from monitor import eventually

PROGRAM = (
    os.environ.get("MEMCACHED_EXPORTER")
    or shutil.which("memcached_exporter")
    or shutil.which("prometheus-memcached-exporter")
)

# Each look at them is a connection, a command, some bytes and a while later.
MOVING = {
    "memcached_uptime_seconds",
    "memcached_time_seconds",
    "memcached_process_user_cpu_seconds_total",
    "memcached_process_system_cpu_seconds_total",
    "memcached_read_bytes_total",
    "memcached_written_bytes_total",
    "memcached_current_connections",
    "memcached_connections_total",
}


@pytest.fixture(scope="module")
def seen(unit):
    """What an exporter sees of the unit, after commands of all kinds."""
    with unit.connect() as client:
        client.ask("cas nothing 0 0 1 1", b"x")  # counted among the sets by memcached, by an exporter not
        reports = exporter.reports(client.stats(), client.stats("settings"))
    return {(name, labels): value for (name, labels), value in reports.items() if name not in MOVING}


def test_what_an_exporter_makes_of_stats_are_the_native_numbers(unit, seen):
    assert differing(seen, unit.scrape()) == {}


@pytest.mark.skipif(not PROGRAM, reason="no memcached_exporter: set MEMCACHED_EXPORTER")
def test_the_exporter_finds_the_server_up_and_makes_of_stats_what_is_said_here(unit, seen):
    with running_exporter(unit) as scrape:
        assert scrape.value("memcached_up") == 1
        # A release before v0.11 does not have all of them.
        assert differing(seen, scrape, without=exporter.NAMES - scrape.names()) == {}
        assert {"memcached_commands_total", "memcached_current_items"} <= scrape.names()


def differing(seen, scrape, without=frozenset()):
    """What is not in the scrape as it was seen."""
    return {
        (name, labels): (value, scrape[name].get(labels))
        for (name, labels), value in seen.items()
        if name not in without and scrape[name].get(labels) != value
    }


@contextlib.contextmanager
def running_exporter(unit):
    """What it answers, pointed at the unit."""
    port = free_port()
    process = subprocess.Popen(
        [PROGRAM, f"--memcached.address=127.0.0.1:{unit.port}", f"--web.listen-address=127.0.0.1:{port}"],
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually(lambda: accepts(("127.0.0.1", port)))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            yield Scrape(answer.read().decode())
    finally:
        process.terminate()
        process.wait(30)
