"""pymemcache as a plain client: every classic command, its answers and its errors.

Other things than tokens live in the same cache (oslo.cache's regions, sessions),
through clients that use the whole classic text protocol. pymemcache raises on any
answer it does not expect, and closes the connection then, so a test that passes
has also checked that the answers stood in order on one connection. Commands
that pymemcache has no method for go through its `raw_command`.
"""

import json
import time

import pymemcache
import pytest
from pymemcache import exceptions, serde

MIB = 1024 * 1024

# What memcached stores under its default item limit of 1 MiB, which counts
# the item's header and key too.
LARGE = MIB - 1024
TOO_LARGE = MIB + 1

AWKWARD_VALUES = {
    "empty": b"",
    "every byte": bytes(range(256)),
    "line ends": b"\r\n",
    "a reply": b"END\r\nVALUE k 0 1\r\nx\r\nEND\r\n",
    "a command": b"\r\nflush_all\r\nset k 0 0 1\r\nx\r\n",
    "zeros": b"\0" * 5000,
    "not utf-8": "é".encode("latin-1") * 100,
}

DAY_S = 24 * 60 * 60


@pytest.fixture
def client(endpoint):
    """A client over each transport; it waits for every reply."""
    client = endpoint.client()
    yield client
    client.close()


# --- storage commands -------------------------------------------------------


def test_set_and_get(client):
    """set stores or overwrites; get of a missing key is the default."""
    assert client.get("k") is None
    assert client.get("k", "default") == "default"
    assert client.set("k", b"one")
    assert client.set("k", b"two")
    assert client.get("k") == b"two"


def test_add_only_stores_what_is_missing(client):
    """add fails on a present key and leaves it; it works again after a delete."""
    assert client.add("k", b"one")
    assert not client.add("k", b"two")
    assert client.get("k") == b"one"
    assert client.delete("k")
    assert client.add("k", b"three")


def test_replace_only_stores_what_is_present(client):
    """replace fails on a missing key and does not make it."""
    assert not client.replace("k", b"one")
    assert client.get("k") is None
    client.set("k", b"one")
    assert client.replace("k", b"two")
    assert client.get("k") == b"two"


def test_append_and_prepend(client):
    """They need the key, join the bytes, and keep the item's own flags."""
    assert not client.append("k", b"x")
    assert not client.prepend("k", b"x")
    client.set("k", b"middle", flags=7)
    assert client.append("k", b" end", flags=9)
    assert client.prepend("k", b"start ", flags=9)
    assert client.raw_command("get k", "END\r\n") == b"VALUE k 7 16\r\nstart middle end\r\n"


def test_cas(client):
    """cas stores only over the version that gets told: else EXISTS, or NOT_FOUND."""
    assert client.cas("k", b"x", 1) is None
    assert client.gets("k") == (None, None)
    client.set("k", b"one")
    value, unique = client.gets("k")
    assert value == b"one"
    assert client.cas("k", b"two", unique) is True
    assert client.cas("k", b"three", unique) is False
    assert client.get("k") == b"two"


@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.set("k", b"1"),
        lambda client: client.append("k", b"0"),
        lambda client: client.prepend("k", b"1"),
        lambda client: client.replace("k", b"1"),
        lambda client: client.incr("k", 1),
        lambda client: client.decr("k", 1),
    ],
    ids=["set", "append", "prepend", "replace", "incr", "decr"],
)
def test_every_change_makes_a_new_cas_unique(client, change):
    """A cas with an older unique is refused after any change, even to the same bytes."""
    client.set("k", b"1")
    _, unique = client.gets("k")
    change(client)
    assert client.gets("k")[1] != unique
    assert client.cas("k", b"mine", unique) is False


def test_touch_keeps_the_cas_unique(client):
    """A new expiry is not a change of the value."""
    client.set("k", b"1")
    _, unique = client.gets("k")
    assert client.touch("k", 100)
    assert client.cas("k", b"mine", unique) is True


def test_cas_after_delete_is_not_found(client):
    """A deleted item is missing for cas, and its unique does not come back with a new one."""
    client.set("k", b"one")
    _, unique = client.gets("k")
    client.delete("k")
    assert client.cas("k", b"x", unique) is None
    client.set("k", b"one")
    assert client.cas("k", b"x", unique) is False


# --- many keys --------------------------------------------------------------


def test_set_many_and_get_many(client):
    """Pipelined sets, one get line with many keys; missing keys are left out."""
    items = {f"key-{n}": b"%d" % n * 10 for n in range(500)}
    assert client.set_many(items) == []
    assert client.get_many([*items, "missing-1", "missing-2"]) == items
    with_uniques = client.gets_many(items)
    assert {key: value for key, (value, _) in with_uniques.items()} == items
    assert len({unique for _, unique in with_uniques.values()}) == len(items)


def test_get_many_of_every_token(client, corpus):
    """A get line of 28 KB and its answer of 5 MB, in the order that was asked."""
    items = {line.key: line.value for line in corpus["none"]}
    assert client.set_many(items) == []
    answer = client.get_many(items)
    assert answer == items
    assert list(answer) == list(items)


def test_get_counts_each_key(endpoint, client):
    """A get with several keys counts as many hits and misses as it has keys."""
    client.set_many({"a": b"1", "b": b"2"})
    with endpoint.server.counting() as moved:
        client.get_many(["a", "b", "missing"])
    assert (moved["cmd_get"], moved["get_hits"], moved["get_misses"]) == (3, 2, 1)


def test_delete_many(client):
    """Pipelined deletes of present and missing keys keep their replies in order."""
    client.set_many({"a": b"1", "b": b"2", "c": b"3"})
    assert client.delete_many(["a", "missing", "b"])
    assert client.get_many(["a", "b", "c"]) == {"c": b"3"}


# --- delete, incr, decr -----------------------------------------------------


def test_delete(client):
    """DELETED once, then NOT_FOUND."""
    client.set("k", b"x")
    assert client.delete("k")
    assert client.get("k") is None
    assert not client.delete("k")


def test_incr_and_decr(client):
    """They give the new value; a missing key is not made."""
    assert client.incr("n", 1) is None
    assert client.decr("n", 1) is None
    assert client.get("n") is None
    client.set("n", b"10")
    assert client.incr("n", 5) == 15
    assert client.decr("n", 6) == 9
    assert int(client.get("n")) == 9


def test_decr_stops_at_zero_and_incr_wraps_at_64_bits(client):
    """The two ends of an unsigned 64-bit number."""
    client.set("n", b"3")
    assert client.decr("n", 10) == 0
    client.set("n", b"18446744073709551615")
    assert client.incr("n", 1) == 0
    client.set("n", b"18446744073709551615")
    assert client.incr("n", 3) == 2


def test_incr_grows_the_value_and_keeps_its_flags(client):
    """99 + 1 has a digit more; flags are the item's own."""
    client.set("n", b"99", flags=5)
    assert client.incr("n", 1) == 100
    assert client.raw_command("get n", "END\r\n") == b"VALUE n 5 3\r\n100\r\n"


@pytest.mark.parametrize("value", [b"text", b"", b"-1", b"1.5", b"18446744073709551616"])
def test_incr_of_what_is_no_number_is_a_client_error(client, value):
    """The value stays as it was."""
    client.set("n", value)
    with pytest.raises(exceptions.MemcacheClientError):
        client.incr("n", 1)
    with pytest.raises(exceptions.MemcacheClientError):
        client.decr("n", 1)
    assert client.get("n") == value


@pytest.mark.parametrize("delta", [-1, 2**64])
def test_a_delta_that_is_no_unsigned_64_bit_number_is_a_client_error(client, delta):
    """The number stays as it was."""
    client.set("n", b"10")
    with pytest.raises(exceptions.MemcacheClientError):
        client.incr("n", delta)
    assert client.get("n") == b"10"


# --- expiry -----------------------------------------------------------------


def test_touch_and_gat_of_a_missing_key(client):
    """Neither makes an item."""
    assert not client.touch("k", 100)
    assert client.raw_command("gat 100 k", "END\r\n") == b""
    assert client.get("k") is None


def test_gat_and_gats_answer_like_get_and_gets(client):
    """Several keys, flags and the cas unique, in the order that was asked."""
    client.set("a", b"one", flags=3)
    client.set("b", b"two")
    assert client.raw_command("gat 100 b a missing", "END\r\n") == (
        b"VALUE b 0 3\r\ntwo\r\nVALUE a 3 3\r\none\r\n"
    )
    _, unique = client.gets("a")
    assert client.raw_command("gats 100 a", "END\r\n") == b"VALUE a 3 3 %s\r\none\r\n" % unique


def test_touch_and_gat_change_the_expiry(client, eventually):
    """Prolonged items outlive those that were left alone or shortened."""
    client.set_many({"touch-short": b"x", "gat-short": b"x"}, expire=DAY_S)
    client.set_many({"untouched": b"x", "touch-long": b"x", "gat-long": b"x"}, expire=3)
    assert client.touch("touch-long", DAY_S)
    assert client.touch("touch-short", 3)
    assert client.raw_command(f"gat {DAY_S} gat-long", "END\r\n")
    assert client.raw_command("gat 3 gat-short", "END\r\n")
    short = ["untouched", "touch-short", "gat-short"]
    assert eventually(lambda: client.get_many(short) == {})
    assert client.get_many(["touch-long", "gat-long"]) == {"touch-long": b"x", "gat-long": b"x"}


@pytest.mark.parametrize("how", ["set", "add", "cas", "touch", "gat"])
def test_a_negative_expiry_is_over_at_once(client, how):
    """Whatever command carries it; the key is free for add again."""
    if how != "add":
        client.set("k", b"x")
    {
        "set": lambda: client.set("k", b"y", expire=-1),
        "add": lambda: client.add("k", b"y", expire=-1),
        "cas": lambda: client.cas("k", b"y", client.gets("k")[1], expire=-1),
        "touch": lambda: client.touch("k", -1),
        "gat": lambda: client.raw_command("gat -1 k", "END\r\n"),
    }[how]()
    assert client.get("k") is None
    assert client.add("k", b"z")


def test_expiry_is_relative_up_to_30_days_then_absolute(client):
    """30 days is a time from now; a second more is a moment in January 1970."""
    now = int(time.time())
    client.set("relative", b"x", expire=30 * DAY_S)
    client.set("1970", b"x", expire=30 * DAY_S + 1)
    client.set("future", b"x", expire=now + DAY_S)
    client.set("past", b"x", expire=now - 100)
    client.set("never", b"x", expire=0)
    answer = client.get_many(["relative", "1970", "future", "past", "never"])
    assert set(answer) == {"relative", "future", "never"}


def test_an_expired_item_is_missing_for_every_command(client, eventually):
    """What is over cannot be replaced, appended to, counted, touched, deleted or matched."""
    keys = ["replace", "append", "incr", "touch", "delete", "cas"]
    client.set_many(dict.fromkeys(keys, b"1"), expire=2)
    _, unique = client.gets("cas")
    assert eventually(lambda: client.get_many(keys) == {})
    assert client.replace("replace", b"x") is False
    assert client.append("append", b"x") is False
    assert client.incr("incr", 1) is None
    assert client.touch("touch", 100) is False
    assert client.delete("delete") is False
    assert client.cas("cas", b"x", unique) is None


# --- flush_all --------------------------------------------------------------


def test_flush_all_empties_the_cache_and_nothing_after_it(client):
    """What stood before is gone; what is stored within the same second stays."""
    client.set_many({"a": b"1", "b": b"2"})
    assert client.flush_all()
    assert client.get_many(["a", "b"]) == {}
    assert client.set("a", b"new")
    assert client.get("a") == b"new"


def test_flush_all_with_a_delay(own_server, eventually):
    """Items live until the moment comes; those that are stored later live on."""
    client = own_server.client()
    client.set("k", b"x")
    assert client.flush_all(delay=DAY_S)
    assert client.get("k") == b"x"
    assert client.flush_all(delay=2)
    assert eventually(lambda: client.get("k") is None)
    assert eventually(lambda: client.set("later", b"y") and client.get("later") == b"y")


# --- values, keys, flags ----------------------------------------------------


@pytest.mark.parametrize("name", AWKWARD_VALUES)
def test_values_are_binary(client, name):
    """No byte of a value has a meaning; its length rules."""
    value = AWKWARD_VALUES[name]
    client.set("k", value)
    assert client.get("k") == value
    client.set_many({"before": value, "k2": value, "after": value})
    assert client.get_many(["before", "k2", "after"]) == dict.fromkeys(
        ["before", "k2", "after"], value
    )


@pytest.mark.parametrize("size", [1, 2047, 2048, 4096, 16_384, 65_536, 524_288, LARGE])
def test_values_of_every_size(client, size):
    """From a byte to nearly the 1 MiB limit, around the sizes at which buffers end."""
    value = (bytes(range(251)) * (size // 251 + 1))[:size]
    assert client.set("k", value)
    assert client.get("k") == value


def test_a_value_that_is_too_large_is_refused_and_the_old_one_gone(client):
    """A server error; the old value must not be served as if it were the new one."""
    client.set("k", b"old")
    with pytest.raises(exceptions.MemcacheServerError, match="too large"):
        client.set("k", b"x" * TOO_LARGE)
    assert client.get("k") is None


def test_too_large_without_a_reply(client):
    """With noreply even this error is silent: the next answer is the next command's."""
    client.set("k", b"old")
    client.set("k", b"x" * TOO_LARGE, noreply=True)
    assert client.get("k") is None
    assert client.set("k", b"new")
    assert client.get("k") == b"new"


def test_append_beyond_the_limit_is_refused(client):
    """The item cannot grow past what set would take; it stays as it was."""
    client.set("k", b"x" * LARGE)
    assert not client.append("k", b"y" * 4096)
    assert client.get("k") == b"x" * LARGE


def test_keys_up_to_250_bytes(client):
    """The longest key works; a longer one is a client error, and no server's memory."""
    key = "k" * 250
    client.set(key, b"x")
    assert client.get(key) == b"x"
    with pytest.raises(exceptions.MemcacheClientError):
        client.raw_command("get " + "k" * 251)
    assert client.get(key) == b"x"


def test_keys_may_hold_any_utf_8(endpoint):
    """Keys are bytes: only spaces and control characters are special."""
    client = endpoint.client(allow_unicode_keys=True)
    items = {"ключ": b"1", "鍵": b"2", "tokens/b'+/=='": b"3", "🔑": b"4"}
    client.set_many(items)
    assert client.get_many(items) == items


def test_keys_that_differ_in_one_byte_are_different(client):
    """No two keys share an item, whatever they hash to."""
    items = {f"{'k' * 200}{n:04}": b"%d" % n for n in range(1000)}
    client.set_many(items)
    assert client.get_many(items) == items


@pytest.mark.parametrize("flags", [0, 1, 0xFFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_flags_have_32_bits(client, flags):
    """Client flags come back as they were sent."""
    client.set("k", b"x", flags=flags)
    assert client.raw_command("get k", "END\r\n") == b"VALUE k %d 1\r\nx\r\n" % flags


def test_flags_that_are_no_number_are_a_client_error(client):
    """Nothing is stored."""
    with pytest.raises(exceptions.MemcacheClientError):
        client.set("k", b"x", flags="-1")
    with pytest.raises(exceptions.MemcacheClientError):
        client.set("k", b"x", flags="text")
    assert client.get("k") is None


PYTHON_VALUES = [b"bytes", "unicode é 鍵", 42, -1, {"a": [1, None]}, "x" * 10_000]


@pytest.mark.parametrize("codec", [serde.pickle_serde, serde.compressed_serde])
@pytest.mark.parametrize("value", PYTHON_VALUES, ids=lambda value: type(value).__name__)
def test_serialized_values_come_back_as_they_were(endpoint, codec, value):
    """A serde's flags and bytes survive, so Python values do."""
    client = endpoint.client(serde=codec)
    client.set("k", value)
    assert client.get("k") == value


class JsonSerde:
    """JSON with flags of one's own, larger than any that a library uses."""

    FLAGS = 0xDEAD_BEEF

    def serialize(self, key, value):
        """Non-ASCII text stays as UTF-8."""
        return json.dumps(value, ensure_ascii=False).encode(), self.FLAGS

    def deserialize(self, key, value, flags):
        """Refuses any flags but those that it wrote."""
        assert flags == self.FLAGS
        return json.loads(value)


def test_a_serde_with_odd_flags(endpoint):
    """Flags and unicode of one's own, over get, gets and get_many."""
    client = endpoint.client(serde=JsonSerde())
    value = {"name": "Ünïcödé 鍵 🔑"}
    client.set("k", value)
    assert client.get("k") == value
    assert client.gets("k")[0] == value
    assert client.get_many(["k"]) == {"k": value}


# --- noreply ----------------------------------------------------------------


def test_every_command_without_a_reply(client):
    """Nothing is answered, in order, and the effects are those of the commands with replies."""
    client.set("set", b"1", noreply=True)
    client.add("add", b"2", noreply=True)
    client.set("replace", b"x", noreply=True)
    client.replace("replace", b"3", noreply=True)
    client.set("join", b"b", noreply=True)
    client.append("join", b"c", noreply=True)
    client.prepend("join", b"a", noreply=True)
    client.set("n", b"10", noreply=True)
    client.incr("n", 5, noreply=True)
    client.decr("n", 2, noreply=True)
    client.set("touched", b"x", noreply=True)
    client.touch("touched", -1, noreply=True)
    client.set("deleted", b"x", noreply=True)
    client.delete("deleted", noreply=True)
    assert client.get_many(
        ["set", "add", "replace", "join", "n", "touched", "deleted"]
    ) == {"set": b"1", "add": b"2", "replace": b"3", "join": b"abc", "n": b"13"}
    _, unique = client.gets("set")
    client.cas("set", b"new", unique, noreply=True)
    assert client.get("set") == b"new"
    client.flush_all(noreply=True)
    assert client.get_many(["set", "add", "n"]) == {}


def test_failures_without_a_reply_are_silent(client):
    """A refusal that is not wanted must not stand where the next answer is read."""
    client.set("k", b"text")
    client.add("k", b"x", noreply=True)
    client.replace("missing", b"x", noreply=True)
    client.append("missing", b"x", noreply=True)
    client.cas("k", b"x", 2**63, noreply=True)
    client.cas("missing", b"x", 1, noreply=True)
    client.delete("missing", noreply=True)
    client.touch("missing", 1, noreply=True)
    client.incr("missing", 1, noreply=True)
    client.incr("k", 1, noreply=True)
    assert client.get("k") == b"text"
    assert client.get("missing") is None


def test_many_sets_without_a_reply(client, corpus):
    """5 MB that nobody acknowledges, then everything is there."""
    items = {line.key: line.value for line in corpus["none"]}
    client.set_many(items, noreply=True)
    assert client.get_many(items) == items


# --- administration ---------------------------------------------------------


def test_version(client):
    """A version that starts with a number, as memcached's does; clients compare it."""
    version = client.version()
    assert version.split(b".")[0].isdigit()


def test_stats(client):
    """What monitoring reads is there, and of the type that it expects."""
    stats = client.stats()
    numbers = (
        "pid uptime time pointer_size curr_connections total_connections cmd_get cmd_set "
        "cmd_flush cmd_touch get_hits get_misses get_expired delete_hits delete_misses "
        "incr_hits incr_misses decr_hits decr_misses cas_hits cas_misses cas_badval "
        "touch_hits touch_misses bytes_read bytes_written limit_maxbytes threads bytes "
        "curr_items total_items evictions"
    ).split()
    assert {name for name in numbers if not isinstance(stats.get(name.encode()), int)} == set()
    assert isinstance(stats[b"version"], bytes)
    assert isinstance(stats[b"rusage_user"], float)
    assert isinstance(stats[b"rusage_system"], float)
    assert stats[b"limit_maxbytes"] == 64 * MIB


def test_stats_count_commands(endpoint, client):
    """Each command moves its own counters and no other's."""
    with endpoint.server.counting() as moved:
        client.set("k", b"1")
        client.cas("k", b"1", client.gets("k")[1])
        client.cas("k", b"1", 2**63)
        client.cas("missing", b"1", 1)
        for key in ("k", "missing"):
            client.incr(key, 1)
            client.decr(key, 1)
            client.touch(key, 100)
            client.delete(key)
    names = ("incr", "decr", "touch", "cas", "delete")
    assert {name: (moved[f"{name}_hits"], moved[f"{name}_misses"]) for name in names} == (
        dict.fromkeys(names, (1, 1))
    )
    assert moved["cas_badval"] == 1
    assert (moved["get_hits"], moved["get_misses"]) == (1, 0)


def test_stats_follow_the_items(own_server, corpus):
    """curr_items and bytes grow with what is stored and shrink when it is deleted."""
    client = own_server.client()
    items = {line.key: line.value for line in corpus["none"][:50]}
    with own_server.counting() as moved:
        client.set_many(items)
    assert moved["curr_items"] == moved["total_items"] == 50
    assert moved["bytes"] > 0
    with own_server.counting() as moved:
        client.delete_many(items)
    assert moved["curr_items"] == -50
    assert moved["bytes"] < 0


def test_stats_settings(client):
    """The flags that the server was started with."""
    settings = client.stats("settings")
    assert settings[b"maxbytes"] == 64 * MIB
    assert settings[b"item_size_max"] == MIB
    assert settings[b"cas_enabled"] == b"yes"


@pytest.mark.parametrize("group", ["items", "slabs", "sizes", "conns"])
def test_stats_of_a_group_can_be_parsed(client, group):
    """STAT lines and END, also with items there."""
    client.set("k", b"x" * 1000)
    assert isinstance(client.stats(group), dict)
    assert client.get("k") is not None


def test_stats_reset(own_server):
    """Counters start anew; the items stay."""
    client = own_server.client()
    client.set("k", b"x")
    client.get_many(["k", "missing"])
    assert client.raw_command("stats reset") == b"RESET"
    stats = own_server.stats()
    for name in ("cmd_get", "cmd_set", "get_hits", "get_misses", "total_items"):
        assert stats[name] == 0
    assert stats["curr_items"] == 1
    assert client.get("k") == b"x"


def test_cache_memlimit(own_server):
    """The memory limit changes while the server runs, and nothing is lost when it grows."""
    client = own_server.client()
    client.set("k", b"x")
    assert client.cache_memlimit(128)
    assert own_server.stats()["limit_maxbytes"] == 128 * MIB
    assert client.get("k") == b"x"


def test_a_memory_limit_that_is_too_small_is_refused(own_server):
    """memcached takes no less than 8 MB."""
    with pytest.raises(exceptions.MemcacheUnknownError, match="MEMLIMIT_TOO_SMALL"):
        own_server.client().cache_memlimit(1)
    assert own_server.stats()["limit_maxbytes"] == 64 * MIB


def test_verbosity(own_server):
    """OK, and nothing else changes."""
    client = own_server.client()
    assert client.raw_command("verbosity 1") == b"OK"
    assert client.raw_command("verbosity 0") == b"OK"
    client.raw_command("version")


def test_shutdown_is_off(client):
    """Without the flag for it a client cannot end the server (the kind of error has changed)."""
    refusals = (exceptions.MemcacheUnknownCommandError, exceptions.MemcacheServerError)
    for graceful in (False, True):
        with pytest.raises(refusals):
            client.shutdown(graceful=graceful)
    assert client.version()


def test_an_unknown_command_is_an_error_and_no_more(client):
    """ERROR, and the connection serves on (raw_command closes it, a socket would not)."""
    with pytest.raises(exceptions.MemcacheUnknownCommandError):
        client.raw_command("frobnicate k")
    assert client.set("k", b"x")


# --- connections ------------------------------------------------------------


def test_quit_closes_the_connection(own_server, eventually):
    """The server ends it, and the client can come back."""
    client = own_server.client()
    client.set("k", b"x")
    before = own_server.stats()["curr_connections"]
    client.quit()
    assert eventually(lambda: own_server.stats()["curr_connections"] == before - 1)
    assert client.get("k") == b"x"


def test_many_connections_stay_open_until_the_client_closes(own_server, eventually):
    """Idle connections are kept, each answers, and closed ones are forgotten."""
    before = own_server.stats()["curr_connections"]
    clients = [own_server.client() for _ in range(200)]
    clients[0].set("k", b"x")
    for _ in range(2):
        assert all(one.get("k") == b"x" for one in clients)
    assert own_server.stats()["curr_connections"] == before + 200
    for one in clients:
        one.close()
    assert eventually(lambda: own_server.stats()["curr_connections"] == before)


def test_incr_is_atomic(endpoint, at_once):
    """Increments from many connections are all counted."""
    endpoint.client().set("n", b"0")

    def work(_):
        client = endpoint.client()
        for _ in range(200):
            client.incr("n", 1)

    at_once(8, work)
    assert int(endpoint.client().get("n")) == 1600


def test_cas_loses_no_update(endpoint, at_once):
    """A loop of gets and cas from many connections: each success counts once."""
    endpoint.client().set("n", b"0")

    def work(_):
        client = endpoint.client()
        for _ in range(50):
            stored = False
            while not stored:
                value, unique = client.gets("n")
                stored = client.cas("n", b"%d" % (int(value) + 1), unique)

    at_once(8, work)
    assert endpoint.client().get("n") == b"400"


def test_add_has_one_winner(endpoint, at_once):
    """Of many adds of one key exactly one stores: locks are made of this."""

    def work(number):
        client = endpoint.client()
        return [client.add(f"lock-{n}", b"%d" % number) for n in range(50)]

    won = at_once(8, work)
    assert all(sum(column) == 1 for column in zip(*won))


def test_readers_never_see_half_a_value(endpoint, at_once):
    """A value that is replaced all the time is always one whole writer's."""
    values = [bytes([65 + n]) * (13_000 + 500 * n) for n in range(4)]
    endpoint.client().set("k", values[0])

    def work(number):
        client = endpoint.client()
        for _ in range(150):
            if number < len(values):
                client.set("k", values[number])
            else:
                assert client.get("k") in values

    at_once(8, work)


def test_a_pooled_client_in_threads(endpoint, at_once):
    """pymemcache's own pool: one object, many threads, every thread its own values."""
    address = str(endpoint.server.path or f"127.0.0.1:{endpoint.server.port}")
    pooled = pymemcache.PooledClient(address, max_pool_size=4 * 8, timeout=10)

    def work(number):
        for n in range(50):
            pooled.set(f"{number}-{n}", b"%d" % n, noreply=False)
            assert pooled.get(f"{number}-{n}") == b"%d" % n

    at_once(8, work)
    pooled.close()
