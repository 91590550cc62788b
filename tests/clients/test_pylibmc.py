"""pylibmc, and with it libmemcached, the client below most other languages' clients.

Everything is asked over each transport, in the text and in the binary protocol; and with
SASL, which libmemcached has in the binary protocol over TCP only.
"""

import os

import pytest

from conftest import import_pylibmc

pylibmc = import_pylibmc()

KIB = 1024
MIB = 1024 * KIB
DAY_S = 24 * 60 * 60

MODES = [(way, binary) for way in ("inet", "inet6", "unix") for binary in (False, True)]
MODES += [("SASL", True)]


def mode_name(mode):
    """As it stands in a test's name."""
    way, binary = mode
    return f"{way}-{'binary' if binary else 'text'}"


@pytest.fixture(params=MODES, ids=mode_name)
def new_client(request, reach):
    """`new_client(**options)` makes a client in each mode."""
    way, binary = request.param
    endpoint = reach(way)
    clients = []

    def new_client(**options):
        options = {"binary": binary} | endpoint.credentials | options
        clients.append(pylibmc.Client([endpoint.plain_address], **options))
        return clients[-1]

    yield new_client
    for client in clients:
        client.disconnect_all()


@pytest.fixture
def client(new_client):
    """A client with cas, which is a behavior."""
    return new_client(behaviors={"cas": True})


# --- commands -----------------------------------------------------------------


def test_set_and_get(client):
    """set stores or overwrites; get of a missing key is the default."""
    assert client.get("k") is None
    assert client.get("k", "default") == "default"
    assert client.set("k", "one")
    assert client.set("k", "two")
    assert client.get("k") == "two"


def test_add(client):
    """add fails on a present key and leaves it."""
    assert client.add("k", "one")
    assert not client.add("k", "x")
    assert client.get("k") == "one"


def test_replace_append_and_prepend(client):
    """They need the key; libmemcached tells a miss of replace by protocol."""
    try:
        assert not client.replace("k", "x")
    except pylibmc.NotFound:
        assert client.binary
    assert not client.append("k", "x")
    assert not client.prepend("k", "x")
    assert client.get("k") is None
    client.set("k", "x")
    assert client.replace("k", "middle")
    assert client.append("k", " end")
    assert client.prepend("k", "start ")
    assert client.get("k") == "start middle end"


def test_cas(client):
    """cas stores only over the version that gets told."""
    assert client.gets("k") == (None, None)
    with pytest.raises(pylibmc.NotFound):
        client.cas("k", "x", 1)
    client.set("k", "one")
    value, unique = client.gets("k")
    assert value == "one" and unique
    assert client.cas("k", "two", unique)
    assert not client.cas("k", "three", unique)
    assert client.get("k") == "two"


def test_delete(client):
    """What was there, and what was not."""
    client.set("k", "x")
    assert client.delete("k")
    assert client.get("k") is None
    assert not client.delete("k")


def test_incr_and_decr(client):
    """They give the new value; a missing key is not made; decr stops at 0."""
    for change in (client.incr, client.decr):
        with pytest.raises(pylibmc.NotFound):
            change("n")
    assert client.get("n") is None
    client.set("n", 10)
    assert client.incr("n", 90) == 100
    assert client.incr("n") == 101
    assert client.decr("n", 2) == 99
    assert client.get("n") == 99
    assert client.decr("n", 1000) == 0


def test_incr_multi(client):
    """Pipelined, with a prefix; a missing one is told."""
    client.set_multi({"a": 1, "b": 2}, key_prefix="n-")
    client.incr_multi(["a", "b"], key_prefix="n-", delta=10)
    assert client.get_multi(["a", "b"], key_prefix="n-") == {"a": 11, "b": 12}
    with pytest.raises(pylibmc.NotFound):
        client.incr_multi(["a", "missing"], key_prefix="n-")


def test_incr_of_what_is_no_number(client):
    """An error; the value stays as it was, and the connection serves on."""
    client.set("k", "text")
    with pytest.raises(pylibmc.Error):
        client.incr("k")
    assert client.get("k") == "text"


def test_touch(client, eventually):
    """Prolonged items outlive those that were shortened."""
    assert not client.touch("missing", 100)
    client.set("long", "x", time=3)
    client.set("short", "x", time=DAY_S)
    assert client.touch("long", DAY_S)
    assert client.touch("short", 3)
    assert eventually(lambda: client.get("short") is None)
    assert client.get("long") == "x"


def test_expiry(client, eventually):
    """A time with set, add, and set_multi."""
    client.set("set", "x", time=1)
    client.add("add", "x", time=1)
    client.set_multi({"multi": "x"}, time=1)
    client.set("long", "x", time=DAY_S)
    assert eventually(lambda: client.get_multi(["set", "add", "multi"]) == {})
    assert client.get("long") == "x"


def test_flush_all(client):
    """Everything is gone, and what comes next is kept."""
    client.set("k", "old")
    assert client.flush_all()
    assert client.get("k") is None
    client.set("k", "new")
    assert client.get("k") == "new"


def test_get_stats(client):
    """The general ones, as libmemcached knows them."""
    client.set("k", "x")
    ((_, stats),) = client.get_stats()
    assert int(stats["curr_items"]) >= 1
    assert int(stats["limit_maxbytes"]) == 64 * MIB


def test_the_mapping_interface(client):
    """`in`, `[]` and `del`, which are get, set and delete."""
    client["k"] = "x"
    assert "k" in client and client["k"] == "x"
    del client["k"]
    assert "k" not in client
    with pytest.raises(KeyError):
        client["k"]


# --- many keys ----------------------------------------------------------------


def test_set_multi_get_multi_and_delete_multi(client):
    """Missing keys are left out; a prefix; delete_multi tells whether all were there."""
    items = {f"key-{n}": f"{n}" * 10 for n in range(500)}
    assert client.set_multi(items, key_prefix="p-") == []
    assert client.get_multi([*items, "missing"], key_prefix="p-") == items
    assert client.get("p-key-7") == items["key-7"]
    assert client.delete_multi(list(items), key_prefix="p-")
    assert client.get_multi(list(items), key_prefix="p-") == {}
    assert not client.delete_multi(["missing"])


def test_add_multi(client):
    """It tells which keys were there already."""
    client.set("a", "old")
    assert client.add_multi({"a": "new", "b": "new"}) == ["a"]
    assert client.get_multi(["a", "b"]) == {"a": "old", "b": "new"}


def test_get_multi_of_every_token(client, corpus):
    """A get of 400 keys and its answer of 5 MB."""
    items = {line.key: line.value for line in corpus["none"]}
    assert client.set_multi(items) == []
    assert client.get_multi(list(items)) == items


# --- values and keys ----------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [b"bytes", b"", "", "text é 鍵", 42, -1, 2**40, {"a": [1, None]}, b"\r\nEND\r\n" * 500],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize("min_compress_len", [0, 100])
def test_values_keep_their_type(client, value, min_compress_len):
    """The client marks types and zlib in the flags."""
    assert client.set("k", value, min_compress_len=min_compress_len)
    got = client.get("k")
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize("size", [1, 4 * KIB, 64 * KIB, 512 * KIB, MIB - KIB])
def test_values_of_every_size(client, size):
    """Up to nearly the limit."""
    value = os.urandom(size)
    assert client.set("k", value)
    assert client.get("k") == value


def test_a_value_that_is_too_large_is_refused(client):
    """An error of its own; the old value is gone, and the client serves on."""
    client.set("k", "old")
    with pytest.raises(pylibmc.TooBig):
        client.set("k", os.urandom(MIB + 1))
    assert client.get("k") is None
    assert client.set("k", "new")
    assert client.get("k") == "new"


def test_keys(client):
    """Up to 250 bytes, in any alphabet."""
    items = {"k" * 250: "1", "ключ": "2", "鍵": "3", "tokens/b'+/=='": "4"}
    assert client.set_multi(items) == []
    assert client.get_multi(list(items)) == items
    assert client.get("ключ") == "2"


# --- behaviors ----------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviors",
    [
        {"tcp_nodelay": True},
        {"no_block": True},
        {"ketama": True},
        {"ketama_weighted": True, "hash": "md5"},
        {"cas": True, "tcp_nodelay": True, "no_block": True, "ketama": True},
        {"_noreply": True},
    ],
    ids=lambda behaviors: "+".join(behaviors),
)
def test_behaviors(new_client, behaviors):
    """However the client buffers, hashes and waits, in the end the items are there."""
    client = new_client(behaviors=behaviors)
    items = {f"k{n}": os.urandom(2000) for n in range(100)}
    for key, value in items.items():
        client.set(key, value)
    client.delete("k0")
    client.set("n", 5)
    assert client.get("n") == 5
    assert client.get_multi(list(items)) == {key: items[key] for key in items if key != "k0"}


@pytest.mark.parametrize("protocol", ["text", "binary"])
@pytest.mark.parametrize("distribution", ["modula", "consistent", "consistent ketama"])
def test_keys_spread_over_two_servers(server, own_server, protocol, distribution):
    """Every key is reached, part of them on each."""
    addresses = [f"127.0.0.1:{server.port}", f"127.0.0.1:{own_server.port}"]
    behaviors = {"distribution": distribution}
    client = pylibmc.Client(addresses, behaviors, binary=protocol == "binary")
    items = {f"k{n}": f"{n}" for n in range(200)}
    with server.counting() as one, own_server.counting() as other:
        assert client.set_multi(items) == []
    assert client.get_multi(list(items)) == items
    assert one["cmd_set"] and other["cmd_set"]
    assert one["cmd_set"] + other["cmd_set"] == len(items)
    client.disconnect_all()


# --- connections --------------------------------------------------------------


def test_text_and_binary_clients_see_the_same_items(endpoint):
    """Flags, bytes and uniques are one and the same in both protocols."""
    text, binary = (
        pylibmc.Client([endpoint.plain_address], binary=binary, behaviors={"cas": True})
        for binary in (False, True)
    )
    assert text.set("k", {"a": 1})
    assert binary.get("k") == {"a": 1}
    assert binary.gets("k") == text.gets("k")
    assert binary.cas("k", "two", text.gets("k")[1])
    assert text.get("k") == "two"


def test_a_pool_of_clients(client, at_once):
    """Clones of one client in several threads get back what they stored."""
    pool = pylibmc.ThreadMappedPool(client)

    def work(number):
        with pool.reserve() as mine:
            items = {f"{number}-{n}": os.urandom(3000) for n in range(50)}
            assert mine.set_multi(items) == []
            return mine.get_multi(list(items)) == items

    assert all(at_once(8, work))


def test_a_reconnect_authenticates_again(client):
    """After the connection is gone, the next command opens another."""
    client.set("k", "x")
    client.disconnect_all()
    assert client.get("k") == "x"


@pytest.mark.parametrize("wrong", ["username", "password"])
def test_wrong_credentials_are_refused(reach, wrong):
    """The first command raises, and nothing is stored; the right ones still work."""
    endpoint = reach("SASL")
    options = endpoint.credentials | {wrong: "wrong"}
    with pytest.raises(pylibmc.Error, match="AUTHENTICATION FAILURE"):
        pylibmc.Client([endpoint.plain_address], binary=True, **options).set("k", "x")
    right = pylibmc.Client([endpoint.plain_address], binary=True, **endpoint.credentials)
    assert right.get("k") is None
    assert right.set("k", "x")


def test_without_credentials_nothing_is_stored(reach):
    """The server asks who it is."""
    endpoint = reach("SASL")
    with pytest.raises(pylibmc.Error):
        pylibmc.Client([endpoint.plain_address], binary=True).set("k", "x")
    right = pylibmc.Client([endpoint.plain_address], binary=True, **endpoint.credentials)
    assert right.get("k") is None
