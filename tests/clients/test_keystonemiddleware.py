"""What the server is for: keystonemiddleware's token cache, unmodified, in front of it.

Every test runs for each security strategy, with and without the advanced pool,
over IPv4, IPv6 and a unix socket. A *validation* is a question to Keystone: what
a hit saves. Hits are asserted twice, by the validations that did not happen and
by the server's own counters, since the client turns every error into a miss.
"""

import base64
import itertools
import json
import re

import memcache
import pytest

import conftest
import middleware

STRATEGIES = ("None", "MAC", "ENCRYPT")
POOLS = {"advanced": True, "simple": False}

REQUESTS = 25
THREADS = 16
REQUESTS_PER_THREAD = 10


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    """`memcache_security_strategy`."""
    return request.param


@pytest.fixture(params=POOLS)
def pool(request):
    """`memcache_use_advanced_pool`, by name."""
    return request.param


@pytest.fixture
def keystone(tokens):
    """A Keystone that knows every recorded token and has validated none."""
    return middleware.Keystone(tokens)


def start_api(directory, address, keystone, strategy, pool, **options):
    """A process of an API with these options; the advanced pool is the default."""
    if not POOLS[pool]:
        options["memcache_use_advanced_pool"] = False
    options |= middleware.security(strategy)
    return middleware.Api(directory, address, keystone, **options)


@pytest.fixture
def new_api(endpoint, keystone, strategy, pool, tmp_path):
    """`new_api()` starts one more process of the API."""
    return lambda: start_api(tmp_path, endpoint.address, keystone, strategy, pool)


@pytest.fixture
def api(new_api):
    """One process of the API, with an empty cache."""
    return new_api()


# --- requests through the middleware ----------------------------------------


def test_every_request_after_the_first_is_a_hit(api, endpoint, keystone, scoped):
    """One token, N requests: one validation, N - 1 hits, and every answer the same."""
    with endpoint.server.counting() as moved:
        for _ in range(REQUESTS):
            assert api.request(scoped.id) == scoped.body
    assert keystone.validations == 1
    assert moved["get_misses"] == 1
    assert moved["get_hits"] == REQUESTS - 1
    assert moved["cmd_get"] == REQUESTS
    assert moved["cmd_set"] == 1
    assert moved["total_items"] == 1


def test_processes_share_the_cache(new_api, endpoint, keystone, scoped, unscoped):
    """What one process of the API stored is a hit for the others."""
    first, *others = [new_api() for _ in range(4)]
    for token in (scoped, unscoped):
        first.request(token.id)
    with endpoint.server.counting() as moved:
        for other, token in itertools.product(others, (scoped, unscoped)):
            assert other.request(token.id) == token.body
    assert keystone.validations == 2
    assert moved["get_hits"] == 6
    assert moved["get_misses"] == moved["cmd_set"] == 0


def test_a_herd_validates_once_per_thread_at_most(api, endpoint, keystone, scoped, at_once):
    """Threads that race for a fresh token each ask Keystone once at most, then all hit."""

    def work(_):
        return [api.request(scoped.id) for _ in range(REQUESTS_PER_THREAD)]

    with endpoint.server.counting() as moved:
        answers = at_once(THREADS, work)
    herd = keystone.validations
    assert 1 <= herd <= THREADS
    assert all(answer == scoped.body for some in answers for answer in some)
    assert moved["get_hits"] == THREADS * REQUESTS_PER_THREAD - herd
    assert moved["get_misses"] == moved["cmd_set"] == herd

    with endpoint.server.counting() as moved:
        at_once(THREADS, work)
    assert keystone.validations == herd
    assert moved["get_hits"] == THREADS * REQUESTS_PER_THREAD
    assert moved["get_misses"] == moved["cmd_set"] == 0


def test_threads_get_their_own_tokens(api, keystone, tokens, at_once):
    """Many tokens over one pool at once: no answer ever goes to another token's request."""

    def work(number):
        mine = tokens[number::THREADS][:4]
        for token in mine * 3:
            assert api.request(token.id) == token.body

    at_once(THREADS, work)
    assert keystone.validations == 4 * THREADS


# --- the token cache itself -------------------------------------------------


def test_a_stored_token_is_read_back_equal(api, endpoint, scoped, unscoped):
    """set, then get: equal objects, each from the server."""
    cache = api.token_cache()
    with endpoint.server.counting() as moved:
        for token in (scoped, unscoped):
            cache.set(token.id, token.copy())
            assert cache.get(token.id) == token.body
    assert moved["cmd_set"] == moved["get_hits"] == 2
    assert moved["get_misses"] == 0


def test_a_token_that_was_never_stored_is_a_miss(api, endpoint, scoped):
    """A miss is None, and the server counts it as a miss; nothing is made up."""
    cache = api.token_cache()
    cache.set(scoped.id, scoped.copy())
    with endpoint.server.counting() as moved:
        assert cache.get("gAAAA-never-stored") is None
        assert cache.get(scoped.id[:-1]) is None
    assert moved["get_misses"] == moved["cmd_get"] == 2


def test_a_stored_token_can_be_replaced(api, scoped):
    """A second set wins, also when it is shorter or longer than the first."""
    cache = api.token_cache()
    shorter = scoped.copy()
    del shorter["token"]["catalog"]
    for body in (scoped.copy(), shorter, scoped.copy()):
        cache.set(scoped.id, body)
        assert cache.get(scoped.id) == body


def test_every_recorded_token_round_trips(api, endpoint, tokens):
    """All 400 tokens of the corpus stay cached together and come back equal."""
    cache = api.token_cache()
    for token in tokens:
        cache.set(token.id, token.copy())
    with endpoint.server.counting() as moved:
        assert all(cache.get(token.id) == token.body for token in tokens)
    assert moved["get_hits"] == len(tokens)
    assert endpoint.server.stats()["evictions"] == 0


# A share of their bytes that all 400 tokens take at most, the 30 unscoped ones among them.
PACKED = {"None": 1 / 20, "MAC": 1 / 20, "ENCRYPT": 0.77}


def test_tokens_are_packed_and_come_back_whole(api, endpoint, strategy, tokens):
    """In the server they take a fraction of their bytes; the middleware never knows."""
    cache = api.token_cache()
    with endpoint.server.counting() as moved:
        for token in tokens:
            cache.set(token.id, token.copy())
        assert all(cache.get(token.id) == token.body for token in tokens)
    if not endpoint.server.is_tokencached:
        pytest.skip("memcached packs nothing")
    assert moved["values_packed"] == moved["values_unpacked"] == len(tokens)
    assert moved["packed_into_bytes"] < moved["packed_from_bytes"] * PACKED[strategy]
    assert moved["get_unreadable"] == 0


SIZES = {
    "None": {"scoped": range(12_900, 13_500), "unscoped": range(540, 570)},
    "MAC": {"scoped": range(17_000, 18_000), "unscoped": range(790, 820)},
    "ENCRYPT": {"scoped": range(17_000, 18_000), "unscoped": range(810, 850)},
}

KEYS = {
    "None": r"tokens/[0-9a-f]{64}",
    "MAC": r"tokens/b'[A-Za-z0-9+/]{22}=='",
    "ENCRYPT": r"tokens/b'[A-Za-z0-9+/]{22}=='",
}


def test_what_crosses_the_wire_is_what_was_measured(api, endpoint, strategy, scoped, unscoped):
    """Keys and value sizes are those the server is made for (a bytes literal in the key too)."""
    for name, token in (("scoped", scoped), ("unscoped", unscoped)):
        assert api.request(token.id) == token.body
        key = api.cache_key(token.id)
        assert re.fullmatch(KEYS[strategy], key)
        stored = endpoint.client().get(key)
        assert len(stored) in SIZES[strategy][name]
        assert (stored == json.dumps(token.body).encode()) == (strategy == "None")


@pytest.mark.parametrize("strategy", ["MAC", "ENCRYPT"], indirect=True)
def test_a_damaged_value_is_a_validation_not_an_answer(api, endpoint, keystone, scoped):
    """With MAC and ENCRYPT one changed byte is noticed: proof that hits are intact bytes."""
    api.request(scoped.id)
    key, client = api.cache_key(scoped.id), endpoint.client()
    stored = client.get(key)
    client.set(key, stored[:1000] + bytes([stored[1000] ^ 1]) + stored[1001:])
    assert api.request(scoped.id) == scoped.body
    assert keystone.validations == 2


def test_nothing_of_a_token_is_logged(api, endpoint, scoped, unscoped):
    """Keys and values are credentials: neither reaches what the server writes."""
    for token in (scoped, unscoped) * 2:
        api.request(token.id)
    log = endpoint.server.log()
    for token in (scoped, unscoped):
        assert token.id[:20] not in log
        assert api.cache_key(token.id).removeprefix("tokens/") not in log


# --- token_cache_time -------------------------------------------------------


SHORT_LIFE_S = 2


class ShortLived:
    """One combination's API whose tokens live for `SHORT_LIFE_S`, with one of them stored."""

    def __init__(self, directory, endpoint, token, strategy, pool):
        self.token = token
        self.keystone = middleware.Keystone([token])
        life = {"token_cache_time": SHORT_LIFE_S}
        self.api = start_api(directory, endpoint.address, self.keystone, strategy, pool, **life)
        self.ask()

    def ask(self):
        """One request."""
        assert self.api.request(self.token.id) == self.token.body


@pytest.fixture(scope="module")
def short_lived(binary, tokens, tmp_path_factory):
    """Every combination, filled at one time, so that their lives run out together.

    They have servers of their own, which nothing flushes meanwhile, and a token each.
    """
    directory = tmp_path_factory.mktemp("expiry")
    transports = [name for name in conftest.TRANSPORTS if name != "inet6" or conftest.IPV6]
    with (
        conftest.running(binary, directory / "tcp", "inet") as tcp,
        conftest.running(binary, directory / "unix", "unix") as unix,
    ):
        combinations = itertools.product(transports, STRATEGIES, POOLS)
        yield {
            (transport, strategy, pool): ShortLived(
                directory,
                conftest.Endpoint(unix if transport == "unix" else tcp, transport),
                token,
                strategy,
                pool,
            )
            for (transport, strategy, pool), token in zip(combinations, tokens)
        }


@pytest.mark.parametrize("transport", conftest.TRANSPORTS)
def test_a_token_expires_after_token_cache_time(short_lived, eventually, transport, strategy, pool):
    """Requests hit until the time is over, hits do not prolong it; then one validation again."""
    if transport == "inet6" and not conftest.IPV6:
        pytest.skip("this machine has no ::1")
    one = short_lived[transport, strategy, pool]

    def validated_again():
        one.ask()
        return one.keystone.validations > 1

    assert eventually(validated_again)
    assert one.keystone.validations == 2


def test_a_fresh_token_with_a_short_life_is_cached(
    endpoint, strategy, pool, keystone, scoped, tmp_path
):
    """token_cache_time other than the default: the second request is a hit all the same."""
    life = {"token_cache_time": 60}
    api = start_api(tmp_path, endpoint.address, keystone, strategy, pool, **life)
    api.request(scoped.id)
    api.request(scoped.id)
    assert keystone.validations == 1


# --- the corpus, byte for byte ----------------------------------------------


@pytest.fixture
def raw(endpoint):
    """python-memcached as the pools use it, without keystonemiddleware above."""
    client = memcache.Client([endpoint.address], socket_timeout=10)
    yield client
    client.disconnect_all()


@pytest.mark.parametrize("kind", ["none", "mac", "encrypt"])
def test_recorded_lines_round_trip_byte_for_byte(raw, endpoint, corpus, kind):
    """The very keys, flags and times that were recorded, all of them stored before one is read."""
    lines = corpus[kind]
    for line in lines:
        assert line.flags == 0
        assert raw.set(line.key, line.value, time=line.exptime)
    with endpoint.server.counting() as moved:
        assert all(raw.get(line.key) == line.value for line in lines)
    assert moved["get_hits"] == len(lines)
    assert moved["get_misses"] == 0


@pytest.mark.parametrize("kind", ["MAC", "ENCRYPT"])
def test_recorded_secure_values_are_opened_by_the_real_cache(
    raw, endpoint, corpus, keystone, tmp_path, pool, kind
):
    """Values another middleware signed and encrypted survive: their MACs still hold."""
    cache = start_api(tmp_path, endpoint.address, keystone, kind, pool).token_cache()
    for line in corpus[kind.lower()]:
        assert raw.set(line.key, line.value, time=line.exptime)
    for plain in corpus["none"][:50]:
        recorded = json.loads(plain.value)["token"]
        opened = cache.get(recorded["auth_token"])["token"]
        for field in ("auth_token", "audit_ids", "expires_at", "user"):
            assert opened[field] == recorded[field]


def test_recorded_secure_keys_hold_a_bytes_literal(corpus):
    """The corpus has keys with every awkward character: b'…', +, / and =."""
    keys = [line.key for line in corpus["mac"] + corpus["encrypt"]]
    assert all(re.fullmatch(KEYS["MAC"], key) for key in keys)
    encoded = [key.removeprefix("tokens/b'").removesuffix("'") for key in keys]
    assert all(len(base64.b64decode(text)) == 16 for text in encoded)
    assert any("+" in text for text in encoded) and any("/" in text for text in encoded)
