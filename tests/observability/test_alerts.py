"""The alert rules: when they fire by promtool, and that a real Prometheus comes to the same from a real server."""

import os
import pathlib
import subprocess

import pytest
import yaml

from monitor import OBSERVABILITY, eventually
from unit import STRANGER

HERE = pathlib.Path(__file__).parent
RULES = OBSERVABILITY / "alerts.yaml"
CASES = sorted(HERE.glob("*.test.yaml"))


def promtool(*arguments, **options):
    """What promtool says, if it is content."""
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_and_configuration_are_valid():
    promtool("check", "rules", RULES)
    promtool("check", "config", OBSERVABILITY / "prometheus.yml")


def test_alerts_fire_when_they_should_and_only_then():
    promtool("test", "rules", *CASES)


def test_each_alert_is_shown_firing_and_silent():
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    tests = [test for file in CASES for test in yaml.safe_load(file.read_text())["tests"]]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    firing = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert (firing, silent) == (alerts, alerts)


def test_a_real_prometheus_evaluates_each_rule(prometheus):
    def all_evaluated():
        return all(rule["health"] != "unknown" for rule in prometheus.rules())

    assert eventually(all_evaluated)
    assert {rule["name"]: rule["lastError"] for rule in prometheus.rules() if rule["health"] != "ok"} == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_peer_that_is_refused_raises_an_alert_for_its_unit_alone(prometheus, second):
    connect = f"import socket; socket.create_connection(('127.0.0.1', {second.port})).recv(1)"
    as_stranger = ["runuser", "-u", STRANGER, "--", "/usr/bin/python3", "-c", connect]
    subprocess.run(as_stranger, cwd="/", check=True, timeout=60)

    def refused():
        return {instance for name, instance, _ in prometheus.alerts() if name == "TokencachedRefusedPeers"}

    assert eventually(refused)
    assert refused() == {second.http}


def test_a_server_that_ends_is_on_its_way_to_an_alert(start_unit, watch):
    with start_unit() as unit, watch(unit) as prometheus:
        assert prometheus.alerts() == set()
        unit.close()
        assert eventually(lambda: ("TokencachedDown", unit.http, "pending") in prometheus.alerts())
