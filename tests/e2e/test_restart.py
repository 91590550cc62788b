"""A restart of the cache as keystonemiddleware's clients meet it, beside memcached's.

A text client that finds its connection closed takes the server for dead, and its process validates
every token at Keystone for 300 s. Where connections and items outlive the restart it validates none.
"""

import concurrent.futures
import dataclasses
import functools
import itertools
import pathlib
import threading
import time

import pytest
import requests

from apache import PROCESSES
from cache import Cache, ManagedCache
from conftest import eventually
from modes import MODES

MEMCACHED = pathlib.Path("/usr/bin/memcached")

TOKENS = 30
RESTARTS = 3

# Requests while it restarts: so many threads, and so many answers before the next restart.
ASKING = 4
ANSWERS_BETWEEN = 20

# No entry ends of its age here, and no connection for having been idle, however slow the machine is.
# How long a server that was gone is left alone is the default.
LASTING = {
    "token_cache_time": 3600,
    "memcache_pool_unused_timeout": 3600,
    "memcache_pool_dead_retry": 300,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A mode, and what happens to the server in it."""

    mode: str
    way: str
    kind: type
    restart: object  # a method of that kind
    options: dict = dataclasses.field(default_factory=dict)

    def __repr__(self):
        return f"{self.mode}-{self.way}"

    def lasting_mode(self):
        """The mode of that name, with the options above."""
        (mode,) = (mode for mode in MODES if mode.name == self.mode)
        options = mode.options | LASTING | self.options
        return dataclasses.replace(mode, name=repr(self), options=options)


managed = functools.partial(Case, way="manager", kind=ManagedCache, restart=ManagedCache.restart)
replaced = functools.partial(Case, way="SIGUSR2", kind=Cache, restart=Cache.replace)
crashed = functools.partial(Case, way="kill", kind=ManagedCache, restart=ManagedCache.crash)
memcached = functools.partial(Case, way="memcached", kind=Cache, restart=Cache.restart)


class Traffic:
    """Requests with these tokens, one after another from each of some threads, until it is left."""

    def __init__(self, api, tokens):
        self.statuses = []
        self._api = api
        self._tokens = tokens
        self._ends = threading.Event()
        self._pool = concurrent.futures.ThreadPoolExecutor(ASKING)

    def __enter__(self):
        self._asking = [self._pool.submit(self._ask, first) for first in range(ASKING)]
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._pool.shutdown()
        for one in self._asking:
            one.result()  # A request without an answer is raised here.

    def _ask(self, first):
        with requests.Session() as session:
            for token in itertools.islice(itertools.cycle(self._tokens), first, None):
                if self._ends.is_set():
                    return
                self.statuses.append(self._api.ask(token, session).status_code)

    def wait_for_more(self):
        """Waits for some answers that are not there yet."""
        before = len(self.statuses)
        assert eventually(lambda: len(self.statuses) >= before + ANSWERS_BETWEEN)


@pytest.fixture
def stack(request, binary, start_stack):
    """The stack of a case."""
    case = request.param
    if case.way == "memcached":
        binary = MEMCACHED
        if not binary.exists():
            pytest.skip(f"nothing to compare with: no {binary}")
    elif not binary.name.startswith("tokencached"):
        pytest.skip(f"{binary.name} restarts as it does")
    with start_stack(case.lasting_mode(), binary, case.kind) as stack:
        yield stack


@pytest.fixture
def restart(request, stack):
    """Restarts the server in the way of the case."""
    return functools.partial(request.node.callspec.params["stack"].restart, stack.cache)


@pytest.fixture
def tokens(stack):
    """Tokens that are in the cache, and that every process has asked for on its own connections."""
    tokens = [stack.keystone.issue() for _ in range(TOKENS)]
    stack.ask_everywhere(tokens)
    return tokens


def restart_under_traffic(stack, tokens, restart, times=RESTARTS):
    """Restarts while requests go on, all of which are served; gives how many these were."""
    with Traffic(stack.api, tokens) as traffic:
        for _ in range(times):
            traffic.wait_for_more()
            restart()
        traffic.wait_for_more()
    assert set(traffic.statuses) == {200}
    return len(traffic.statuses)


def cases(*chosen):
    """Runs a test in each of these."""
    return pytest.mark.parametrize("stack", chosen, indirect=True, ids=repr)


@cases(
    managed("plain"),
    replaced("plain"),
    managed("simple-pool"),
    managed("unix"),
    replaced("MAC"),
    managed("SASL"),
)
def test_nobody_notices_a_restart(stack, tokens, restart, counting):
    """No token is validated again, no process takes the server for dead, no connection ends."""
    connections = stack.cache.connections()
    assert len(connections) >= PROCESSES

    def work():
        during = restart_under_traffic(stack, tokens, restart)
        return during + stack.ask_everywhere(tokens)

    count, validations = counting(work)
    assert validations == 0
    assert stack.api.dead_until() == []
    assert connections <= stack.cache.connections()
    stack.note("restarts", RESTARTS)
    stack.note("connections kept", len(connections))
    stack.note("validations", f"{validations} of {count}")


@cases(memcached("plain"))
def test_every_entry_is_validated_again_after_memcached_restarts(stack, tokens, restart, counting):
    """It begins empty, and every process takes it for dead: what the test above would see."""
    connections = stack.cache.connections()
    assert len(connections) >= PROCESSES
    restart_under_traffic(stack, tokens, restart)
    stack.visit_every_process()

    _, validations = counting(lambda: stack.ask_each(tokens))
    assert validations >= len(tokens)
    dead_until = stack.api.dead_until()
    assert len(dead_until) >= PROCESSES
    assert not connections & stack.cache.connections()
    stack.note("restarts", RESTARTS)
    stack.note("validations", f"{validations} of {len(tokens)}")
    stack.note("so for s more", round(max(dead_until) - time.time()))


# So that its clients come back within the test.
@cases(crashed("plain", options={"memcache_pool_dead_retry": 2}))
def test_entries_outlive_a_crash(stack, tokens, restart, counting):
    """Broken connections cost validations; on new ones the clients find all that was there before."""
    asked, unasked = tokens[: TOKENS // 2], tokens[TOKENS // 2 :]
    connections = stack.cache.connections()
    assert len(connections) >= PROCESSES

    def all_connected_again():
        _, validations = counting(lambda: stack.ask_each(asked * 4))
        return validations == 0 and stack.cache.unnoticed_ends() == 0

    def work():
        restart_under_traffic(stack, asked, restart, times=1)
        assert eventually(all_connected_again, limit_s=120)

    _, cost = counting(work)
    _, validations = counting(lambda: stack.ask_everywhere(unasked))
    assert validations == 0
    stack.note("connections broken", len(connections - stack.cache.connections()))
    stack.note("validations until all are new", cost)
    stack.note("then", validations)


@cases(managed("TLS"))
def test_a_restart_costs_a_validation_for_each_tls_connection(stack, tokens, restart, counting):
    """The server closes these; the client misses once on each, and finds entries on a new one."""
    asked, unasked = tokens[: TOKENS // 2], tokens[TOKENS // 2 :]
    connections = stack.cache.connections()
    assert len(connections) >= PROCESSES

    # There is one for each client of a pool and thread, and the last may not have its turn for long.
    def most_connected_again():
        stack.ask_each(asked * 4)
        return stack.cache.unnoticed_ends() < len(unasked) / 2

    def work():
        restart_under_traffic(stack, asked, restart, times=1)
        assert eventually(most_connected_again, limit_s=120)

    _, cost = counting(work)
    left = stack.cache.unnoticed_ends()
    _, validations = counting(lambda: stack.ask_everywhere(unasked))
    assert validations <= left
    stack.note("connections broken", len(connections - stack.cache.connections()))
    stack.note("validations until most are new", cost)
    stack.note("then", f"{validations} with {left} left")
