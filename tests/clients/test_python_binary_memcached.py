"""python-binary-memcached: the binary protocol, with SASL and TLS, as the middleware uses it.

The client takes a closed connection for a miss and opens another. So most tests
assert in the end that the connection is still the first one: then every
answer stood where it belongs.
"""

import bz2
import json
import os
import ssl

import bmemcached
import pytest
from bmemcached.exceptions import MemcachedException

import secured

KIB = 1024
MIB = 1024 * KIB
DAY_S = 24 * 60 * 60

TOO_LARGE = 0x0003
NOT_A_NUMBER = 0x0006
AUTH_ERROR = 0x0020


@pytest.fixture
def make_client():
    """`make_client(endpoint, **options)`, with its user and TLS unless told otherwise."""
    clients = []

    def make_client(endpoint, **options):
        options = {"socket_timeout": 10} | endpoint.credentials | endpoint.tls | options
        clients.append(bmemcached.Client([endpoint.plain_address], **options))
        return clients[-1]

    yield make_client
    for client in clients:
        client.disconnect_all()


@pytest.fixture
def new_client(any_endpoint, make_client):
    """`new_client(**options)` makes a client over each transport, each with SASL and TLS too."""
    return lambda **options: make_client(any_endpoint, **options)


@pytest.fixture
def pipelines(any_endpoint):
    """For pipelines of several KB."""
    if any_endpoint.tls and not any_endpoint.server.is_tokencached:
        pytest.skip("memcached 1.6.18 leaves the rest of a pipeline in its TLS layer")


@pytest.fixture
def client(new_client):
    """A client with default options; it must have kept its first connection to the end."""
    client = new_client()
    client.get("connect")
    (host,) = client.servers
    first = host.connection
    assert first
    yield client
    assert host.connection is first


# --- commands -----------------------------------------------------------------


def test_set_and_get(client):
    """set stores or overwrites; get of a missing key is the default."""
    assert client.get("k") is None
    assert client.get("k", "default") == "default"
    assert client.set("k", "one")
    assert client.set("k", "two")
    assert client.get("k") == "two"


def test_add_and_replace(client):
    """One needs the key to be missing, the other to be there."""
    assert not client.replace("k", "x")
    assert client.get("k") is None
    assert client.add("k", "one")
    assert not client.add("k", "x")
    assert client.replace("k", "two")
    assert client.get("k") == "two"


def test_cas(client):
    """cas stores only over the version that gets told, and with None only what is missing."""
    assert client.gets("k") == (None, None)
    assert client.cas("k", "x", 1) is False
    assert client.cas("k", "one", None) is True
    assert client.cas("k", "x", None) is False
    value, unique = client.gets("k")
    assert value == "one" and unique
    assert client.cas("k", "two", unique) is True
    assert client.cas("k", "three", unique) is False
    assert client.get("k") == "two"


def test_a_store_answers_with_the_unique_that_gets_tells(client):
    """The reply to a set, an add, a replace and a cas carries the new unique."""
    for store in (
        lambda: client.add("k", "1", get_cas=True),
        lambda: client.set("k", "2", get_cas=True),
        lambda: client.replace("k", "3", get_cas=True),
        lambda: client.cas("k", "4", client.gets("k")[1], get_cas=True),
    ):
        stored, unique = store()
        assert stored and unique == client.gets("k")[1]
    assert client.add("k", "x", get_cas=True) == (False, None)
    assert client.get("k", get_cas=True) == ("4", unique)


def test_delete(client):
    """What was there and what was not; with a unique only that version."""
    assert client.delete("missing")
    client.set("k", "x")
    _, unique = client.gets("k")
    assert not client.delete("k", cas=unique + 1)
    assert client.get("k") == "x"
    assert client.delete("k", cas=unique)
    assert client.get("k") is None


def test_incr_and_decr(client):
    """They make a missing key from the initial value, and stop or wrap at the ends of 64 bits."""
    assert client.incr("n", 5, default=10) == 10
    assert client.incr("n", 5) == 15
    assert client.decr("n", 6) == 9
    assert int(client.get("n")) == 9
    assert client.decr("n", 10) == 0
    assert client.decr("m", 1) == 0
    assert client.incr("max", 1, default=2**64 - 1) == 2**64 - 1
    assert client.incr("max", 3) == 2


def test_incr_of_a_number_that_was_set(client):
    """A number set by the client stays one: its flags are the item's own."""
    client.set("n", 99)
    assert client.incr("n", 1) == 100
    assert client.get("n") == 100


def test_incr_of_a_missing_key_without_an_initial_value(client):
    """An expiry of all ones says that the key is not to be made."""
    with pytest.raises(MemcachedException) as refused:
        client.incr("n", 1, time=-1 % 2**32)
    assert refused.value.code == 0x0001
    assert client.get("n") is None


def test_incr_of_what_is_no_number(client):
    """An error of its own; the value stays as it was."""
    client.set("k", "text")
    for change in (client.incr, client.decr):
        with pytest.raises(MemcachedException) as refused:
            change("k", 1)
        assert refused.value.code == NOT_A_NUMBER
    assert client.get("k") == "text"


def test_expiry(client, eventually):
    """A relative time passes, a day does not."""
    client.set("short", "x", time=1)
    client.set("long", "x", time=DAY_S)
    client.set_multi({"short-2": "x"}, time=1)
    assert eventually(lambda: client.get_multi(["short", "short-2"]) == {})
    assert client.get("long") == "x"


def test_flush_all(client):
    """Everything is gone, and what comes next is kept."""
    client.set("k", "old")
    assert client.flush_all()
    assert client.get("k") is None
    client.set("k", "new")
    assert client.get("k") == "new"


def test_stats(client):
    """A reply for each line, ended by an empty one; also for a group."""
    client.set("k", "x")
    (stats,) = client.stats().values()
    assert int(stats["curr_items"]) >= 1
    assert int(stats["limit_maxbytes"]) == 64 * MIB
    (settings,) = client.stats("settings").values()
    assert int(settings["item_size_max"]) == MIB


# --- many keys ----------------------------------------------------------------


def test_set_multi_get_multi_and_delete_multi(client):
    """Quiet commands answer nothing when all is well; a miss among quiet gets is silent."""
    items = {f"key-{n}": f"{n}" * 10 for n in range(500)}
    assert client.set_multi(items) == []
    assert client.get_multi([*items, "missing"]) == items
    assert client.get_multi(["missing", *items]) == items
    assert client.delete_multi(items)
    assert client.get_multi(items) == {}
    assert not client.delete_multi(["missing"])


def test_set_multi_tells_what_was_not_stored(client):
    """A quiet command that fails is answered: a key that is there, a unique that is over."""
    client.set_multi({"there": "x", "changed": "x"})
    _, unique = client.gets("changed")
    client.set("changed", "y")
    failed = client.set_multi({("there", 0): "z", ("changed", unique): "z", "fine": "z"})
    assert sorted(key[0] if isinstance(key, tuple) else key for key in failed) == [
        "changed",
        "there",
    ]
    assert client.get_multi(["there", "changed", "fine"]) == {
        "there": "x",
        "changed": "y",
        "fine": "z",
    }


def test_uniques_of_many_keys(client):
    """The uniques of pipelined sets are those that a pipelined get tells."""
    uniques = client.set_multi_cas({f"k{n}": "x" for n in range(50)})
    got = client.get_multi(list(uniques), get_cas=True)
    assert {key: unique for key, (_, unique) in got.items()} == uniques
    assert len(set(uniques.values())) == len(uniques)


@pytest.mark.usefixtures("pipelines")
def test_get_multi_of_every_token(client, corpus):
    """A pipeline of 400 gets and its answer of 5 MB."""
    items = {line.key: line.value for line in corpus["none"]}
    assert client.set_multi(items, compress_level=0) == []
    assert client.get_multi(list(items)) == items


# --- values and keys ----------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [b"bytes", b"", "", "text é 鍵", 42, -1, 2**70, True, {"a": [1, 2.5, None]}, b"\r\n" * 500],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize("compress_level", [-1, 0, 9])
def test_values_keep_their_type(client, value, compress_level):
    """The client marks types and compression in the flags."""
    assert client.set("k", value, compress_level=compress_level)
    got = client.get("k")
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize("size", [127, 4 * KIB, 64 * KIB, 512 * KIB, MIB - KIB])
def test_values_of_every_size(client, size):
    """Up to nearly the limit, incompressible."""
    value = os.urandom(size)
    assert client.set("k", value)
    assert client.get("k") == value


def test_a_large_value_that_was_compressed(client):
    """What fits only in compressed form."""
    value = "0123456789abcdef" * (4 * MIB // 16)
    assert client.set("k", value)
    assert client.get("k") == value


def test_another_compression(new_client):
    """The value is what bz2 made of it."""
    client = new_client(compression=bz2)
    assert client.set("k", "text" * 1000)
    assert client.get("k") == "text" * 1000


def test_raw_data_and_a_pickler(new_client):
    """Flags of 0, and a serialization of the caller's own."""

    class Json:
        def __init__(self, file, protocol=None):
            self.file = file

        def dump(self, value):
            self.file.write(json.dumps(value).encode())

        def load(self):
            return json.load(self.file)

    client = new_client(pickler=Json, unpickler=Json)
    assert client.set("k", {"a": 1}, compress_level=0)
    assert client.get("k") == {"a": 1}
    raw = new_client(raw_data=True)
    assert raw.get("k") == b'{"a": 1}'
    assert raw.set("k", b"x" * 1000)
    assert raw.get("k") == b"x" * 1000


def test_a_value_that_is_too_large_is_refused_and_the_connection_serves_on(client):
    """An error of its own, and the old value must not be served as if it were the new one."""
    client.set("k", "old")
    with pytest.raises(MemcachedException) as refused:
        client.set("k", os.urandom(MIB + 1))
    assert refused.value.code == TOO_LARGE
    assert client.get("k") is None
    assert client.set("k", "new")
    assert client.get("k") == "new"


def test_keys(client):
    """Up to 250 bytes, in any alphabet."""
    items = {"k" * 250: "1", "ключ": "2", "鍵": "3", "tokens/b'+/=='": "4"}
    assert client.set_multi(items) == []
    assert client.get_multi(list(items)) == items
    assert client.get("ключ") == "2"


# --- connections --------------------------------------------------------------


def test_text_and_binary_clients_see_the_same_items(endpoint, make_client):
    """Flags, bytes and uniques are one and the same in both protocols."""
    binary, text = make_client(endpoint), endpoint.client()
    assert binary.set("k", b"binary")
    value, unique = text.gets("k")
    assert value == b"binary"
    assert text.raw_command("get k", "END\r\n") == b"VALUE k 16 6\r\nbinary\r\n"
    assert binary.gets("k") == (b"binary", int(unique))
    assert text.set("k", b"text")
    assert binary.cas("k", b"x", int(unique)) is False
    assert binary.get("k") == "text"


@pytest.mark.usefixtures("pipelines")
def test_many_clients_at_once(any_endpoint, make_client, at_once):
    """Each thread with a connection of its own gets back what it stored."""

    def work(number):
        client = make_client(any_endpoint)
        items = {f"{number}-{n}": os.urandom(3000) for n in range(50)}
        assert client.set_multi(items) == []
        return client.get_multi(list(items)) == items

    assert all(at_once(8, work))


def test_keys_spread_over_two_servers(servers):
    """The client with a ring reaches every key, half of them over the unix socket."""
    addresses = [f"127.0.0.1:{servers['inet'].port}", str(servers["unix"].path)]
    client = bmemcached.DistributedClient(addresses)
    items = {f"k{n}": f"{n}" for n in range(200)}
    with servers["inet"].counting() as tcp, servers["unix"].counting() as unix:
        assert not any(client.set_multi(items))
    assert client.get_multi(list(items)) == items
    assert tcp["cmd_set"] and unix["cmd_set"]
    assert tcp["cmd_set"] + unix["cmd_set"] == len(items)
    client.disconnect_all()


def test_a_reconnect_authenticates_again(new_client):
    """After the connection is gone, the next command opens another, with user and TLS."""
    client = new_client()
    client.set("k", "x")
    client.disconnect_all()
    assert client.get("k") == "x"


# --- SASL and TLS -------------------------------------------------------------


@pytest.mark.parametrize("way", ["SASL", "SASL-unix"])
@pytest.mark.parametrize("wrong", ["username", "password"])
def test_wrong_credentials_are_refused(reach, make_client, way, wrong):
    """The first command raises, and nothing is stored; the right ones still work."""
    endpoint = reach(way)
    client = make_client(endpoint, **{wrong: "wrong"})
    with pytest.raises(MemcachedException) as refused:
        client.set("k", "x")
    assert refused.value.code == AUTH_ERROR
    right = make_client(endpoint)
    assert right.get("k") is None
    assert right.set("k", "x")


@pytest.mark.parametrize("way", ["SASL", "SASL-unix"])
def test_without_credentials_nothing_is_read_or_written(reach, make_client, way):
    """Neither a set nor a get nor a flush of somebody unknown has an effect."""
    endpoint = reach(way)
    right = make_client(endpoint)
    right.set("k", "secret")
    for command in (
        lambda client: client.set("k", "x"),
        lambda client: client.get("k"),
        lambda client: client.delete("k"),
        lambda client: client.incr("n", 1),
        lambda client: client.flush_all(),
    ):
        with pytest.raises(MemcachedException) as refused:
            command(make_client(endpoint, username=None, password=None))
        assert refused.value.code == AUTH_ERROR
    assert right.get("k") == "secret"
    assert right.get("n") is None


def test_a_user_is_no_matter_where_the_server_asks_for_none(endpoint, make_client):
    """A client with a name and a password is served by a server without SASL."""
    client = make_client(endpoint, username="api", password="any")
    assert client.set("k", "x")
    assert client.get("k") == "x"


def test_authenticate_changes_the_user(reach, make_client):
    """The client opens a connection for the new credentials; wrong ones raise."""
    endpoint = reach("SASL")
    client = make_client(endpoint, username=None, password=None)
    (host,) = client.servers
    with pytest.raises(MemcachedException):
        host.authenticate(endpoint.server.username, "wrong")
    assert host.authenticate(endpoint.server.username, endpoint.server.password)
    assert client.set("k", "x")
    assert client.get("k") == "x"


def test_a_client_with_other_authorities_trusts_no_such_server(reach, make_client, tmp_path):
    """Nothing is sent to a server whose certificate is not known."""
    endpoint = reach("TLS")
    secured.make_certificate(tmp_path)
    stranger = ssl.create_default_context(cafile=tmp_path / "certificate.pem")
    client = make_client(endpoint, tls_context=stranger)
    assert not client.set("k", "x")
    (host,) = client.servers
    assert host.connection is None
    assert make_client(endpoint).get("k") is None


def test_a_client_without_tls_is_not_served(reach, make_client):
    """A plain command on a TLS port ends the connection and stores nothing."""
    endpoint = reach("TLS")
    assert not make_client(endpoint, tls_context=None).set("k", "x")
    assert make_client(endpoint).get("k") is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str)
def test_tls_versions(reach, make_client, version):
    """Clients that speak only one of the two."""
    endpoint = reach("TLS")
    context = ssl.create_default_context(cafile=endpoint.server.certificate)
    context.minimum_version = context.maximum_version = version
    client = make_client(endpoint, tls_context=context)
    value = os.urandom(512 * KIB)
    assert client.set("k", value)
    assert client.get("k") == value
    (host,) = client.servers
    assert host.connection.version() == version.name.replace("_", ".")
