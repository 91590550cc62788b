"""Which service asked, and why it was not answered: real users, and each cause of a miss by itself."""

import os
import random
import subprocess

import pytest

import traffic

# Runs as another user: a token that is stored and read, and one that is not there, by keystonemiddleware's own client.
ASK = """
import memcache, sys
client = memcache.Client(["127.0.0.1:" + sys.argv[1]])
key = "tokens/" + sys.argv[2] * 64
assert client.set(key, b'{"token": {}}', time=300)
assert client.get(key) is not None
assert client.get("tokens/" + "f" * 64) is None
"""

# Users that every Debian has, as those of two services, and how often each asks.
SERVICES = {"daemon": 1, "www-data": 2}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_services_are_the_users_at_the_other_end(start_unit):
    with start_unit() as unit:
        for number, (user, times) in enumerate(SERVICES.items()):
            ask = ["runuser", "-u", user, "--", "/usr/bin/python3", "-c", ASK, str(unit.port), str(number)]
            for _ in range(times):
                subprocess.run(ask, cwd="/", check=True, timeout=60)
        scrape = unit.scrape()
    for user, times in SERVICES.items():
        token = {"service": user, "class": "token"}
        assert scrape.value("tokencached_requests_total", **token, command="get") == 2 * times
        assert scrape.value("tokencached_requests_total", **token, command="set") == times
        assert scrape.value("tokencached_hits_total", **token) == times
        assert scrape.value("tokencached_misses_total", **token, cause="never_seen") == times
        assert scrape.value("tokencached_validations_avoided_total", service=user) == times


def test_no_label_is_made_of_a_key_or_a_value(unit):
    text = unit.scrape().text
    assert "tokens/" not in text
    assert traffic.DOGPILE_KEY not in text
    assert "catalog" not in text


class Misses:
    """What a unit counts of them, by cause."""

    def __init__(self, unit):
        self._unit = unit
        self._before = self._counted()

    def _counted(self):
        counted = {}
        for labels, value in self._unit.scrape()["tokencached_misses_total"].items():
            cause = dict(labels)["cause"]
            counted[cause] = counted.get(cause, 0) + value
        return counted

    def since(self):
        """Those that were counted since."""
        before, self._before = self._before, self._counted()
        grown = {cause: value - before.get(cause, 0) for cause, value in self._before.items()}
        return {cause: count for cause, count in grown.items() if count}


def test_each_cause_of_a_miss_is_counted_as_itself(start_unit):
    chance = random.Random(3)
    key = traffic.plain_key(1)
    with start_unit("-m", "8") as unit, unit.connect() as client:
        assert client.get(key) is None
        misses = Misses(unit)

        assert client.get(traffic.plain_key(2)) is None
        assert misses.since() == {"never_seen": 1}

        client.set(key, traffic.token(chance))
        client.ask(f"delete {key}")
        assert client.get(key) is None
        assert misses.since() == {"deleted": 1}

        client.set(key, traffic.token(chance))
        client.ask("flush_all")
        assert client.get(key) is None
        assert misses.since() == {"flushed": 1}

        traffic.expire(client, key, chance)
        assert misses.since() == {"expired": 1}

        # Of a key that was not there before: one that comes back is kept for longer.
        key = traffic.plain_key(3)
        client.set(key, traffic.encrypted(chance))
        for number in range(traffic.ENCRYPTED):
            client.set(traffic.hidden_key(number), traffic.encrypted(chance))
        assert client.get(key) is None
        assert misses.since() == {"evicted": 1}
