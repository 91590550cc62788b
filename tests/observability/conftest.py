"""Starts two units and the Prometheus that asks them, once for all tests.

Everything is written to one temporary folder, which goes when the tests end. A SIGTERM ends the tests like Ctrl-C, so
that what they started is stopped then too.
"""

import contextlib
import itertools
import pathlib
import signal
import tempfile

import pytest

import traffic
from local import find_binary
from monitor import Prometheus, eventually
from unit import Unit


def pytest_configure():
    """Prepares the end by SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def folders():
    """`next(folders)` is a folder that does not exist yet, within one that goes at the end."""
    with tempfile.TemporaryDirectory(prefix="tokencached-observability-") as directory:
        yield (pathlib.Path(directory, str(number)) for number in itertools.count())


@pytest.fixture(scope="session")
def start_unit(folders):
    """`start_unit(flag, ...)` is a context with a server of its own."""
    binary = find_binary()
    if not binary.exists():
        pytest.exit(f"no server at {binary}: cargo build --release, or set TOKENCACHED", 2)
    return lambda *flags: contextlib.closing(Unit(binary, next(folders), *flags))


@pytest.fixture(scope="session")
def watch(folders):
    """`watch(unit, ...)` is a context with a Prometheus that has asked these units often enough for rates."""

    @contextlib.contextmanager
    def watch(*units):
        with contextlib.closing(Prometheus(next(folders), units)) as prometheus:
            asked_often = "count_over_time(memcached_up[5m]) > 2"
            assert eventually(lambda: len(prometheus.query(asked_often)) == len(units)), prometheus.log()
            yield prometheus

    return watch


@pytest.fixture(scope="session")
def unit(start_unit):
    """A small unit on which everything has happened that can be counted."""
    with start_unit("-m", "8") as unit:
        traffic.run(unit)
        yield unit


@pytest.fixture(scope="session")
def second(start_unit):
    """A unit of which nobody asks anything, and few could."""
    with start_unit("-c", "16") as unit:
        yield unit


@pytest.fixture(scope="session")
def prometheus(unit, second, watch):
    """The Prometheus that asks both, and has seen all of it happen once more."""
    with watch(unit, second) as prometheus:
        traffic.run(unit)
        evicted = "increase(memcached_items_evicted_total[5m]) > 0"
        assert eventually(lambda: prometheus.query(evicted)), prometheus.log()
        yield prometheus
