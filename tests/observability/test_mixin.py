"""The memcached mixin's alerts and dashboard work on the native names."""

import contextlib
import itertools

import yaml

from monitor import MIXIN, eventually

ALERTS = {rule["alert"]: rule["expr"] for rule in yaml.safe_load(MIXIN.read_text())["groups"][0]["rules"]}

# What its dashboard draws. Source: memcached-mixin/dashboards.libsonnet.
DRAWN = {
    "memcached_commands_total",
    "memcached_items_evicted_total",
    "memcached_items_total",
    "memcached_current_bytes",
    "memcached_current_items",
    "memcached_connections_total",
    "memcached_read_bytes_total",
    "memcached_written_bytes_total",
    "memcached_version",
    "memcached_uptime_seconds",
}


def test_its_dashboard_has_what_it_draws(unit):
    assert DRAWN - unit.scrape().names() == set()


def test_its_alerts_are_about_each_unit_and_hold_for_none_that_is_well(prometheus):
    for alert, expression in ALERTS.items():
        compared = expression.replace("==", "== bool").replace("> ", "> bool ")
        assert [value for _, value in prometheus.query(compared)] == [0, 0], alert


def test_it_warns_of_connections_near_the_limit(prometheus, second):
    expression = ALERTS["MemcachedConnectionLimitApproaching"]
    assert prometheus.query(expression) == []
    with contextlib.ExitStack() as clients:
        for _ in range(14):
            clients.enter_context(second.connect())
        assert eventually(lambda: [labels["instance"] for labels, _ in prometheus.query(expression)] == [second.http])


def test_it_warns_of_values_that_find_no_room(start_unit, watch):
    expression = ALERTS["MemcachedOutOfMemoryErrors"]
    with start_unit("-m", "8", "-M") as unit, watch(unit) as prometheus, unit.connect() as client:
        assert prometheus.query(expression) == []

        answers = (client.set(f"key{number}", bytes(500_000)) for number in itertools.count())
        assert any(answer.startswith("SERVER_ERROR out of memory") for answer in itertools.islice(answers, 100))

        def warned():
            return next(answers) and prometheus.query(expression)

        assert eventually(warned)
