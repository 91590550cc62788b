"""oslo.cache, as OpenStack's services use it: backends by configuration, keys as SHA-1.

The configuration is a file with a [cache] section, as a service has it.
"""

import hashlib
import ssl

import pytest
from oslo_cache import core
from oslo_config import cfg

import secured
from conftest import import_pylibmc

DAY_S = 24 * 60 * 60
NO_VALUE = core.NO_VALUE

POOL = "oslo_cache.memcache_pool"
MEMCACHED = "dogpile.cache.memcached"
PYMEMCACHE = "dogpile.cache.pymemcache"
BMEMCACHED = "dogpile.cache.bmemcached"
PYLIBMC = "dogpile.cache.pylibmc"

BACKENDS = (POOL, MEMCACHED, PYMEMCACHE, BMEMCACHED, PYLIBMC)

WAYS_OF_BACKENDS = [
    *((backend, way) for backend in BACKENDS for way in ("inet", "inet6", "unix")),
    (POOL, "SASL"),
    (POOL, "SASL-unix"),
    (POOL, "TLS"),
    (PYMEMCACHE, "TLS"),
    (BMEMCACHED, "SASL"),
]


def way_name(backend_and_way):
    """As it stands in a test's name."""
    backend, way = backend_and_way
    return f"{backend.rpartition('.')[2]}-{way}"


def cache_options(backend, endpoint):
    """The [cache] options that lead to an endpoint."""
    # python-memcached is below the pool, unless it is with SASL or TLS.
    as_python_memcached = backend in (POOL, MEMCACHED) and not endpoint.credentials | endpoint.tls
    options = {
        "enabled": True,
        "backend": backend,
        "memcache_servers": endpoint.address if as_python_memcached else endpoint.plain_address,
        "socket_timeout": 10,
    }
    if endpoint.credentials:
        options |= {f"memcache_{name}": value for name, value in endpoint.credentials.items()}
        options["memcache_sasl_enabled"] = True
    if endpoint.tls:
        options |= {"tls_enabled": True, "tls_cafile": endpoint.server.certificate}
    return options


@pytest.fixture
def configured(tmp_path):
    """`configured(**options)` reads a file with these [cache] options, and a group `tokens`."""

    def configured(**options):
        lines = [f"{name} = {value}" for name, value in options.items()]
        path = tmp_path / "service.conf"
        path.write_text("\n".join(["[cache]", *lines, "[tokens]", "cache_time = 3600", ""]))
        conf = cfg.ConfigOpts()
        core.configure(conf)
        conf.register_opts([cfg.BoolOpt("caching", default=True)], "tokens")
        conf.register_opts([cfg.IntOpt("cache_time")], "tokens")
        conf([], project="service", default_config_files=[str(path)], default_config_dirs=[])
        return conf

    return configured


@pytest.fixture
def new_region(request, reach, configured):
    """`new_region(**options)` makes a region of the backend, and keeps `endpoint` and `conf`."""
    backend, way = request.param
    if backend == PYLIBMC:
        import_pylibmc()

    def new_region(**options):
        new_region.conf = configured(**cache_options(backend, new_region.endpoint) | options)
        return core.configure_cache_region(new_region.conf, core.create_region())

    new_region.backend = backend
    new_region.endpoint = reach(way)
    return new_region


def backends(*ways):
    """Runs a test with these backends."""
    return pytest.mark.parametrize("new_region", ways, ids=way_name, indirect=True)


every_backend = backends(*WAYS_OF_BACKENDS)
one_way_each = backends(*((backend, "inet") for backend in BACKENDS))


@pytest.fixture
def region(new_region):
    """A region with the options that lead to the endpoint, and no others."""
    return new_region()


@every_backend
def test_set_get_and_delete(region):
    """A missing key is NO_VALUE, which None is not."""
    assert region.get("k") is NO_VALUE
    region.set("k", {"a": [1, None, "é"]})
    assert region.get("k") == {"a": [1, None, "é"]}
    region.set("none", None)
    assert region.get("none") is None
    region.delete("k")
    region.delete("k")
    assert region.get("k") is NO_VALUE


@every_backend
def test_many_keys(region):
    """Answers stand in the order of the keys, NO_VALUE where there is none."""
    items = {f"k{n}": f"value {n}" for n in range(50)}
    region.set_multi(items)
    assert region.get_multi(["missing", *items]) == [NO_VALUE, *items.values()]
    region.delete_multi(list(items)[:40])
    assert region.get_multi(list(items)) == [NO_VALUE] * 40 + [f"value {n}" for n in range(40, 50)]


@every_backend
def test_every_token_comes_back(region, tokens):
    """Tokens as a service caches them, pickled by the client."""
    for token in tokens:
        region.set(token.id, token.body)
    assert all(region.get(token.id) == token.body for token in tokens)


@one_way_each
def test_keys_are_sha1(region, new_region):
    """Whatever a key holds, the server sees 40 hexadecimal digits."""
    client = new_region.endpoint.client()
    for key in ("short", "with spaces\r\nand line ends", "é 鍵", "k" * 1000):
        region.set(key, "x")
        assert client.get(hashlib.sha1(key.encode()).hexdigest()) is not None
        assert region.get(key) == "x"
        assert region.get_multi([key]) == ["x"]
    client.close()


@every_backend
def test_a_decorated_function(region, new_region):
    """Called once for each argument, until its value is invalidated or refreshed."""
    calls = []
    memoize = core.get_memoization_decorator(new_region.conf, region, group="tokens")

    @memoize
    def validate(token):
        calls.append(token)
        return token.upper()

    assert [validate("a"), validate("b"), validate("a")] == ["A", "B", "A"]
    assert calls == ["a", "b"]
    validate.invalidate("a")
    assert validate("a") == "A"
    assert validate.refresh("b") == "B"
    assert calls == ["a", "b", "a", "b"]
    assert memoize.get_expiration_time() == 3600


@every_backend
def test_without_caching_nothing_is_stored(new_region):
    """`enabled = false` leads to no server."""
    region = new_region(enabled=False)
    memoize = core.get_memoization_decorator(new_region.conf, region, group="tokens")
    calls = []

    @memoize
    def validate(token):
        calls.append(token)
        return token

    assert [validate("a"), validate("a")] == ["a", "a"]
    assert calls == ["a", "a"]


@every_backend
def test_invalidation_of_a_region(region):
    """What is older than the invalidation is NO_VALUE, and created anew."""
    region.set("k", "old")
    region.invalidate()
    assert region.get("k") is NO_VALUE
    assert region.get_or_create("k", lambda: "new") == "new"
    assert region.get("k") == "new"


@one_way_each
def test_a_value_beyond_expiration_time_is_created_anew(new_region, eventually):
    """By the age that is kept with the value; another reader with more patience still has it."""
    region, patient = new_region(expiration_time=1), new_region(expiration_time=DAY_S)
    region.set("k", "old")
    assert eventually(lambda: region.get("k") is NO_VALUE)
    assert patient.get("k") == "old"
    assert region.get_or_create("k", lambda: "new") == "new"
    assert patient.get("k") == "new"


@backends(*((backend, "inet") for backend in BACKENDS if backend != BMEMCACHED))
def test_the_server_forgets_after_backend_expiration_time(new_region, eventually):
    """The time that is sent along with each value."""
    region = new_region(expiration_time=1, backend_expiration_time=1)
    region.set("set", "x")
    region.set_multi({"multi-1": "x", "multi-2": "x"})
    keys = ["set", "multi-1", "multi-2"]
    assert eventually(lambda: region.get_multi(keys, ignore_expiration=True) == [NO_VALUE] * 3)


@every_backend
def test_many_threads_share_a_region(region, at_once):
    """Each gets back what it stored, whether the backend pools connections or has one a thread."""

    def work(number):
        items = {f"{number}-{n}": f"{number} {n}" * 100 for n in range(50)}
        for key, value in items.items():
            region.set(key, value)
        return region.get_multi(list(items)) == list(items.values())

    assert all(at_once(8, work))


@backends(*((POOL, way) for way in ("inet", "unix")))
def test_a_small_pool_opens_no_more_connections(new_region, at_once):
    """Eight threads, two connections, which stay open for the next."""
    region = new_region(memcache_pool_maxsize=2)
    with new_region.endpoint.server.counting() as moved:
        assert at_once(8, lambda number: region.set(f"k{number}", number)) == [None] * 8
        assert region.get_multi([f"k{number}" for number in range(8)]) == list(range(8))
    assert moved["total_connections"] <= 2


@backends((POOL, "inet"), (POOL, "unix"))
def test_a_pool_that_flushes_on_reconnect(new_region):
    """The flush that a client sends before the first command of a connection after a failure."""
    region = new_region(memcache_pool_flush_on_reconnect=True, memcache_dead_retry=0)
    region.set("k", "old")
    with region.backend.client_pool.acquire() as client:
        client.servers[0].mark_dead("by the test")
    assert region.get("k") is NO_VALUE
    region.set("k", "new")
    assert region.get("k") == "new"


@backends((PYMEMCACHE, "inet"), (PYMEMCACHE, "TLS"))
def test_pymemcache_with_keepalive_and_retries(new_region):
    """The options that only this backend has."""
    region = new_region(enable_socket_keepalive=True, enable_retry_client=True)
    region.set("k", "x")
    assert region.get("k") == "x"
    assert region.get_multi(["k", "missing"]) == ["x", NO_VALUE]


@backends((POOL, "inet"), (PYMEMCACHE, "inet"), (BMEMCACHED, "inet"))
def test_proxies_and_debugging_change_nothing(new_region):
    """The backend is wrapped."""
    region = new_region(debug_cache_backend=True)
    region.set_multi({"a": 1, "b": 2})
    assert region.get_multi(["a", "b", "c"]) == [1, 2, NO_VALUE]
    region.delete_multi(["a"])
    assert region.get("a") is NO_VALUE


@backends((POOL, "SASL"), (POOL, "SASL-unix"), (BMEMCACHED, "SASL"))
def test_a_wrong_password_is_told(new_region):
    """The service hears of it, and nothing is stored."""
    region = new_region(memcache_password="wrong")
    with pytest.raises(Exception, match="Auth"):
        region.set("k", "x")
    assert new_region().get("k") is NO_VALUE


@backends((POOL, "TLS"), (PYMEMCACHE, "TLS"))
def test_a_server_with_an_unknown_certificate_is_not_used(new_region, tmp_path):
    """Nothing is sent to it."""
    secured.make_certificate(tmp_path)
    region = new_region(tls_cafile=tmp_path / "certificate.pem")
    try:
        region.set("k", "x")
    except ssl.SSLError:
        assert new_region.backend == PYMEMCACHE
    assert new_region().get("k") is NO_VALUE
