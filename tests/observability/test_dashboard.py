"""The Grafana dashboard: a real Prometheus that asks real servers answers each of its queries."""

import itertools
import math
import re

import pytest

import dashboard

BY_TITLE = {panel["title"]: panel for panel in dashboard.panels()}


def test_panels_are_told_apart_and_do_not_overlap():
    everything = dashboard.DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len(BY_TITLE) == len(dashboard.panels())
    places = [
        (place["x"] + dx, place["y"] + dy)
        for place in (panel["gridPos"] for panel in everything)
        for dx, dy in itertools.product(range(place["w"]), range(place["h"]))
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24


def test_every_query_is_of_the_units_that_were_chosen():
    for panel in dashboard.panels():
        for target in panel["targets"]:
            metrics = len(re.findall(r"\b(?:up|(?:(?:mem|token)cached|process)_\w+)\{", target["expr"]))
            assert metrics > 0
            assert target["expr"].count('job=~"$job",instance=~"$instance"') == metrics, target["expr"]


@pytest.mark.parametrize("title", BY_TITLE)
def test_prometheus_answers_a_panel(prometheus, title):
    for query, labels in dashboard.queries(BY_TITLE[title]).items():
        assert "$" not in query
        samples = prometheus.query(query)
        assert not all(math.isnan(value) for _, value in samples), query
        for label in labels:
            assert all(label in names for names, _ in samples), f"{label}: {query}"


def test_prometheus_understands_the_marks_on_the_time_line(prometheus):
    for mark in dashboard.marks():
        prometheus.query(dashboard.filled_in(mark["expr"]))
