"""Every metric that the dashboard, the rules, the mixin and the exporter name is one that the server has."""

import subprocess

import yaml

import dashboard
import exporter
from exposition import names_in
from monitor import MIXIN, OBSERVABILITY

# prometheus/memcached_exporter calls it so, and it is a counter there.
TOLERATED = 'memcached_uptime_seconds counter metrics should have "_total" suffix'


def queries():
    """All that Prometheus is asked."""
    for rules in [OBSERVABILITY / "alerts.yaml", MIXIN]:
        yield from (rule["expr"] for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"])
    yield from dashboard.all_queries()


def test_every_name_is_a_metric_of_a_running_server(unit):
    named = {name for query in queries() for name in names_in(query)} | exporter.NAMES
    assert named - unit.scrape().names() == set()


def test_promtool_finds_nothing_wrong_with_a_scrape(unit):
    check = ["promtool", "check", "metrics"]
    done = subprocess.run(check, input=unit.scrape().text, capture_output=True, text=True)
    # 3 is what it ends with if it has something to say.
    assert done.returncode in (0, 3), done.stderr
    assert [line for line in done.stderr.splitlines() if line != TOLERATED] == []
