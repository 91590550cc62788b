"""dogpile.cache's backends for memcached, one for each client library.

A backend turns an answer into a value or NO_VALUE and drops what a client says beside it, so
these tests assert values, how often a value was created, and what the server counted.
"""

import functools
import time

import dogpile.cache
import pytest
from dogpile.cache import api

from conftest import import_pylibmc

DAY_S = 24 * 60 * 60


def backend_arguments(backend, endpoint, **options):
    """The name of dogpile.cache's backend and its arguments for an endpoint."""
    name, _, protocol = backend.partition("-")
    if name == "pylibmc":
        import_pylibmc()
        options["binary"] = protocol == "binary"
    address = endpoint.address if name == "memcached" else endpoint.plain_address
    arguments = {"url": [address]} | endpoint.credentials | endpoint.tls | options
    return f"dogpile.cache.{name}", arguments


BACKENDS = ("memcached", "bmemcached", "pylibmc-text", "pylibmc-binary", "pymemcache")

# With SASL and TLS only those that have arguments for it.
SECURED = [
    ("bmemcached", "SASL"),
    ("bmemcached", "SASL-unix"),
    ("bmemcached", "TLS"),
    ("pymemcache", "TLS"),
]

WAYS_OF_BACKENDS = [
    *((backend, way) for backend in BACKENDS for way in ("inet", "inet6", "unix")),
    *SECURED,
]

# For tests that wait.
ONE_WAY_EACH = [(backend, "inet") for backend in BACKENDS]


def way_name(backend_and_way):
    """As it stands in a test's name."""
    return "-".join(backend_and_way)


@pytest.fixture
def new_region(request, reach):
    """`new_region(expiration_time=…, **arguments)` makes a region of the backend."""
    backend, way = request.param
    endpoint = reach(way)

    def new_region(expiration_time=DAY_S, **options):
        name, arguments = backend_arguments(backend, endpoint, **options)
        region = dogpile.cache.make_region()
        return region.configure(name, expiration_time=expiration_time, arguments=arguments)

    return new_region


def backends(ways):
    """Runs a test with these backends."""
    return pytest.mark.parametrize("new_region", ways, ids=way_name, indirect=True)


every_backend = backends(WAYS_OF_BACKENDS)


@pytest.fixture
def region(new_region):
    """A region that keeps values for a day."""
    return new_region()


class Creator:
    """Creates values, and counts them."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return f"value {self.calls}"


@every_backend
def test_set_get_and_delete(region):
    """A missing key is NO_VALUE, which None is not."""
    assert region.get("k") is api.NO_VALUE
    region.set("k", {"a": [1, None, "é"]})
    assert region.get("k") == {"a": [1, None, "é"]}
    region.set("none", None)
    assert region.get("none") is None
    region.delete("k")
    region.delete("k")
    assert region.get("k") is api.NO_VALUE


@every_backend
def test_many_keys(region):
    """Answers stand in the order of the keys, NO_VALUE where there is none."""
    items = {f"k{n}": f"value {n}" for n in range(50)}
    region.set_multi(items)
    assert region.get_multi(["missing", *items]) == [api.NO_VALUE, *items.values()]
    region.delete_multi(list(items)[10:])
    assert region.get_multi(list(items)[5:15]) == [
        *(f"value {n}" for n in range(5, 10)),
        *[api.NO_VALUE] * 5,
    ]


@every_backend
def test_a_large_value(region):
    """A list of half a megabyte once it is pickled."""
    value = [f"{n:063}" for n in range(8 * 1024)]
    region.set("k", value)
    assert region.get("k") == value


@every_backend
def test_a_value_is_created_once(region, new_region):
    """Until it is deleted or refreshed, and by whichever region comes first."""
    creator = Creator()
    assert region.get_or_create("k", creator) == "value 1"
    assert region.get_or_create("k", creator) == "value 1"
    assert new_region().get_or_create("k", creator) == "value 1"
    region.delete("k")
    assert new_region().get_or_create("k", creator) == "value 2"


@every_backend
def test_many_values_are_created_once(region):
    """Only those that are missing."""
    asked = []

    def creator(*keys):
        asked.append(sorted(keys))
        return [key.upper() for key in keys]

    assert region.get_or_create_multi(["a", "b"], creator) == ["A", "B"]
    assert region.get_or_create_multi(["b", "c"], creator) == ["B", "C"]
    assert asked == [["a", "b"], ["c"]]


@every_backend
def test_a_decorated_function(region):
    """Called once for each argument; invalidate, set and refresh of its own."""
    calls = []

    @region.cache_on_arguments(namespace="test")
    def double(number):
        calls.append(number)
        return 2 * number

    assert [double(1), double(2), double(1)] == [2, 4, 2]
    assert calls == [1, 2]
    double.invalidate(1)
    assert double(1) == 2
    assert calls == [1, 2, 1]
    double.set("set", 2)
    assert double(2) == "set"
    assert double.refresh(2) == 4
    assert double(2) == 4


@every_backend
def test_invalidation_of_a_region(region):
    """What is older than the invalidation is created anew."""
    creator = Creator()
    region.get_or_create("k", creator)
    region.invalidate(hard=True)
    assert region.get("k") is api.NO_VALUE
    assert region.get_or_create("k", creator) == "value 2"


@every_backend
def test_a_value_older_than_the_region_allows_is_created_anew(region):
    """Its age is kept with the value, in the server."""
    creator = Creator()
    region.get_or_create("k", creator)
    made = {"ct": time.time() - 2 * DAY_S, "v": dogpile.cache.region.value_version}
    region.backend.set("k", api.CachedValue("old", made))
    assert region.get("k") is api.NO_VALUE
    assert region.get("k", ignore_expiration=True) == "old"
    assert region.get_or_create("k", creator) == "value 2"


@backends([(backend, way) for backend, way in ONE_WAY_EACH if backend != "bmemcached"])
def test_the_server_forgets_after_memcached_expire_time(new_region, eventually):
    """The time that the backend sends along with set and set_multi."""
    region = new_region(memcached_expire_time=1)
    region.set("set", "x")
    region.set_multi({"multi-1": "x", "multi-2": "x"})
    keys = ["set", "multi-1", "multi-2"]
    missing = [api.NO_VALUE] * 3
    assert eventually(lambda: region.get_multi(keys, ignore_expiration=True) == missing)


@every_backend
def test_a_distributed_lock_is_held_by_one(new_region):
    """It is a key that is added: whoever comes second waits or goes away."""
    first, second = (
        new_region(distributed_lock=True, lock_timeout=100).backend.get_mutex("k") for _ in range(2)
    )
    assert first.acquire(wait=False)
    assert first.locked() and second.locked()
    assert not second.acquire(wait=False)
    first.release()
    assert not second.locked()
    assert second.acquire(wait=False)
    second.release()


@backends(ONE_WAY_EACH)
def test_a_lock_that_is_not_released_runs_out(new_region, eventually):
    """After lock_timeout the server forgets it."""
    first, second = (
        new_region(distributed_lock=True, lock_timeout=1).backend.get_mutex("k") for _ in range(2)
    )
    assert first.acquire(wait=False)
    assert eventually(functools.partial(second.acquire, wait=False))
    second.release()


@every_backend
def test_with_a_distributed_lock_many_processes_create_a_value_once(new_region, at_once):
    """Each thread has a region of its own, as another process would."""
    free = new_region(distributed_lock=True).backend.get_mutex("free")
    assert free.acquire(wait=False)  # otherwise what follows would wait for ever
    creator = Creator()
    values = at_once(6, lambda _: new_region(distributed_lock=True).get_or_create("k", creator))
    assert values == ["value 1"] * 6
    assert creator.calls == 1
    assert not new_region(distributed_lock=True).backend.get_mutex("k").locked()
