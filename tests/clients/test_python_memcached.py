"""python-memcached where it differs from other clients: it is the one below keystonemiddleware.

Its command lines end in a space before the line end wherever nothing follows (`set
k 0 0 1 \\r\\n`), it turns every error into a miss and a dead mark on the server, and
it keeps its connection after an error. So these tests assert values and that
the connection is still the same one.
"""

import datetime

import memcache
import pytest

import conftest

MIB = 1024 * 1024


@pytest.fixture
def new_client(endpoint):
    """`new_client(**options)` makes a client over each transport."""
    clients = []

    def new_client(**options):
        clients.append(memcache.Client([endpoint.address], socket_timeout=10, **options))
        return clients[-1]

    yield new_client
    for client in clients:
        client.disconnect_all()


@pytest.fixture
def client(new_client):
    """A client with default options; it must have kept its first connection to the end."""
    client = new_client()
    client.set("connect", b"")
    (host,) = client.servers
    first = host.socket
    yield client
    assert host.deaduntil == 0
    assert host.socket is first


def test_the_set_line_ends_in_a_space(client):
    """As this client really writes it: the space is no argument and no error."""
    line = client._encode_cmd("set", b"k", "0 300 5", False, b"\r\n", b"value")
    assert line == b"set k 0 300 5 \r\nvalue"
    assert client.set("k", b"value", time=300)
    assert client.get("k") == b"value"


def test_every_storage_command(client):
    """Each with its space at the end, stored and refused."""
    assert client.add("k", b"b") and not client.add("k", b"x")
    assert client.replace("k", b"B") and not client.replace("missing", b"x")
    assert client.append("k", b"c") and not client.append("missing", b"x")
    assert client.prepend("k", b"a") and not client.prepend("missing", b"x")
    assert client.get("k") == b"aBc"
    assert client.get("missing") is None


def test_noreply_before_the_space(client):
    """`noreply` is understood although a space follows it."""
    line = client._encode_cmd("set", b"k", "0 0 1", True, b"\r\n", b"x")
    assert line == b"set k 0 0 1 noreply \r\nx"
    client.set("k", b"b", noreply=True)
    client.add("k", b"x", noreply=True)
    client.append("k", b"c", noreply=True)
    client.prepend("k", b"a", noreply=True)
    client.replace("missing", b"x", noreply=True)
    assert client.get("k") == b"abc"
    client.set("n", b"5", noreply=True)
    client.incr("n", noreply=True)
    client.decr("n", 2, noreply=True)
    client.touch("n", 100, noreply=True)
    assert client.get("n") == b"4"
    client.delete("n", noreply=True)
    client.delete("n", noreply=True)
    assert client.get("n") is None


def test_incr_and_decr(client):
    """The default step of 1, from a str and from an int value, and a missing key."""
    client.set("text", "20")
    assert client.incr("text") == 21
    client.set("int", 20)
    assert client.incr("int", 5) == 25
    assert client.get("int") == 25
    assert client.decr("int") == 24
    assert client.decr("int", 100) == 0
    assert client.incr("missing") is None
    assert client.decr("missing") is None


def test_cas_with_uniques_kept_by_the_client(new_client):
    """gets remembers the unique; a cas after somebody else's set is refused."""
    mine, theirs = new_client(cache_cas=True), new_client()
    theirs.set("k", b"one")
    assert mine.gets("k") == b"one"
    assert mine.cas("k", b"two")
    mine.gets("k")
    theirs.set("k", b"theirs")
    assert not mine.cas("k", b"three")
    assert theirs.get("k") == b"theirs"


def test_touch_and_delete(client):
    """Nonzero for what was there, zero for what was not."""
    client.set("k", b"x")
    assert client.touch("k", 100)
    assert client.get("k") == b"x"
    assert client.touch("k", -1)
    assert client.get("k") is None
    assert not client.touch("k", 100)
    client.set("k", b"x")
    assert client.delete("k")
    assert not client.delete("k")


def test_a_timedelta_is_a_relative_time(client):
    """It is sent as seconds."""
    assert client.set("k", b"x", time=datetime.timedelta(minutes=5))
    assert client.get("k") == b"x"


@pytest.mark.parametrize(
    "value",
    [b"bytes", b"", "text é 鍵", 42, 2**70, {"a": [1, 2.5, None]}, b"\r\nEND\r\n" * 500],
    ids=["bytes", "empty", "text", "int", "large int", "pickle", "line ends"],
)
@pytest.mark.parametrize("min_compress_len", [0, 100])
def test_values_keep_their_type(client, value, min_compress_len):
    """The client marks types and zlib in the flags: 1, 2, 8 and 16."""
    assert client.set("k", value, min_compress_len=min_compress_len)
    got = client.get("k")
    assert got == value and type(got) is type(value)


def test_set_multi_and_get_multi(client):
    """Pipelined sets, one get line; a prefix; keys that are numbers; missing ones left out."""
    assert client.set_multi({"a": b"1", "b": "two", "c": 3}) == []
    assert client.get_multi(["a", "b", "c", "missing"]) == {"a": b"1", "b": "two", "c": 3}
    assert client.set_multi({42: b"x", 46: b"y"}, key_prefix="numbers-") == []
    assert client.get_multi([46, 42, 1], key_prefix="numbers-") == {42: b"x", 46: b"y"}
    assert client.get("numbers-42") == b"x"


def test_get_multi_of_every_token(client, endpoint, corpus):
    """A get line of 28 KB and an answer of 5 MB over one connection."""
    items = {line.key: line.value for line in corpus["none"]}
    assert client.set_multi(items, time=300) == []
    with endpoint.server.counting() as moved:
        assert client.get_multi(items) == items
    assert moved["get_hits"] == len(items)


def test_set_multi_without_replies(client):
    """Nothing is answered, and everything is there."""
    items = {f"k{n}": b"%d" % n for n in range(300)}
    assert client.set_multi(items, noreply=True) == []
    assert client.get_multi(items) == items


@pytest.mark.parametrize("time", [None, 0], ids=["no time", "time 0"])
@pytest.mark.parametrize("noreply", [False, True])
def test_delete_multi(client, time, noreply):
    """`delete k \\r\\n` and the old form with a time of 0 both delete; replies keep their order."""
    client.set_multi({"a": b"1", "b": b"2", "c": b"3"})
    assert client.delete_multi(["a", "missing", "b"], time=time, noreply=noreply)
    assert client.get_multi(["a", "b", "c"]) == {"c": b"3"}


def test_a_value_that_is_too_large_keeps_the_connection(new_client, endpoint):
    """The server answers, swallows the bytes, drops the old value and serves on."""
    client = new_client(server_max_value_length=0)
    client.set("k", b"old")
    (host,) = client.servers
    first = host.socket
    assert not client.set("k", b"x" * (MIB + 1))
    assert client.get("k") is None
    assert client.set("k", b"new")
    assert client.get("k") == b"new"
    assert host.socket is first


def test_an_error_keeps_the_connection(client):
    """A refused incr and an unknown command leave everything else as it was."""
    client.set("k", b"text")
    with pytest.raises(ValueError, match="CLIENT_ERROR"):
        client.incr("k")
    (host,) = client.servers
    host.send_cmd("frobnicate k")
    assert host.readline() == b"ERROR"
    assert client.get("k") == b"text"


def test_keys_with_a_bytes_literal(client):
    """The keys of MAC and ENCRYPT, beside the key they would be without b'…'."""
    keys = {"tokens/b'e7PSPGeLAJdlFybzQtwZWQ=='": b"1", "tokens/b'+/+/+/+/+/+/+/+/+/+/+w=='": b"2"}
    for key, value in keys.items():
        assert client.set(key, value)
        assert client.get(key) == value
    assert client.get("tokens/e7PSPGeLAJdlFybzQtwZWQ==") is None
    assert client.get_multi(keys) == keys


def test_get_stats(client):
    """Pairs of text, whatever the group."""
    ((_, stats),) = client.get_stats()
    assert int(stats["curr_items"]) >= 1
    assert int(stats["limit_maxbytes"]) == 64 * MIB
    ((_, settings),) = client.get_stats("settings")
    assert int(settings["item_size_max"]) == MIB


def test_get_slab_stats(client):
    """Monitoring calls this: lines of the form `STAT 1:name n`, and two totals."""
    client.set("k", b"x")
    ((_, slabs),) = client.get_slab_stats()
    assert {"active_slabs", "total_malloced"} <= set(slabs)


def test_flush_all(client):
    """Everything is gone, and what comes next is kept."""
    client.set("k", b"old")
    client.flush_all()
    assert client.get("k") is None
    client.set("k", b"new")
    assert client.get("k") == b"new"


def test_flush_on_reconnect(new_client):
    """The flush that a client sends before the first command of a new connection works."""
    client = new_client(flush_on_reconnect=1, dead_retry=0)
    client.set("k", b"old")
    client.servers[0].mark_dead("by the test")
    assert client.get("k") is None
    assert client.set("k", b"new") and client.get("k") == b"new"


def test_quit_is_answered_by_a_close(new_client):
    """The client waits for the server's end of stream; without it this would time out."""
    client = new_client()
    client.set("k", b"x")
    client.quit_all()
    assert client.servers[0].socket is None
    assert client.get("k") == b"x"


@pytest.mark.parametrize("transport", ["inet", "unix"])
def test_a_restarted_server_serves_the_same_address_at_once(binary, tmp_path, transport):
    """Stopped with clients connected, it ends in order, and its address is free for the next.

    The client finds its connection closed and opens another by itself: a miss, no more.
    """
    with conftest.running(binary, tmp_path, transport) as first:
        address = conftest.Endpoint(first, transport).address
        clients = [memcache.Client([address], dead_retry=0) for _ in range(10)]
        assert all(client.set("k", b"x") for client in clients)
    with conftest.running(binary, tmp_path, transport, port=first.port):
        assert [client.get("k") for client in clients] == [None] * 10
        assert all(client.set("k", b"y") for client in clients)
        assert all(client.get("k") == b"y" for client in clients)


def test_the_socket_of_a_killed_server_is_taken_over(binary, tmp_path):
    """A socket file that a crash left behind does not keep the next server from starting."""
    crashed = conftest.Server(binary, tmp_path, "unix")
    crashed.process.kill()
    crashed.process.wait()
    assert crashed.path.exists()
    with conftest.running(binary, tmp_path, "unix") as server:
        client = memcache.Client([conftest.Endpoint(server, "unix").address])
        assert client.set("k", b"x")
        assert client.get("k") == b"x"
