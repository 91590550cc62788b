"""The page says what happened, and goes on saying it."""

import getpass
import json
import re
import time
import urllib.request

import pytest
from playwright.sync_api import expect

import traffic

LIMIT_S = 30

# Requests of the first load, and what they come to.
HITS, MISSES = 37, 3
RATE = "92.5 %"


@pytest.fixture
def asked(start_unit):
    """A unit that was asked for so many keys."""
    with start_unit("-m", "8") as unit:
        # What was asked before the first second was noted is in no window.
        wait_until(unit, lambda status: status["windows"][-1]["watched_seconds"] > 0)
        load(unit, HITS, MISSES)
        yield unit


def wait_until(unit, is_so):
    """Until the unit's status is so."""
    deadline = time.monotonic() + LIMIT_S
    while not is_so(status(unit)):
        assert time.monotonic() < deadline, status(unit)
        time.sleep(0.1)


def status(unit):
    """What /api/status says."""
    with urllib.request.urlopen(f"http://{unit.http}/api/status", timeout=LIMIT_S) as answer:
        return json.load(answer)


def load(unit, hits, misses):
    """So many look-ups by whoever runs the tests."""
    with unit.connect() as client:
        client.set(traffic.plain_key(0), b"token")
        for _ in range(hits):
            assert client.get(traffic.plain_key(0)) is not None
        for number in range(misses):
            assert client.get(traffic.plain_key(1 + number)) is None


def expect_load(visit):
    """What the first load comes to, all over the page."""
    expect(visit.shown("minute.rate")).to_have_text(RATE)
    expect(visit.shown("day.of")).to_have_text(re.compile("^40 look-ups in "))
    expect(visit.shown("spared.validations")).to_have_text(str(HITS))
    row = visit.row("name", getpass.getuser())
    for name, text in [("gets", "40"), ("rate", RATE), ("validations", str(HITS)), ("sets", "1")]:
        expect(row.locator(f"[data-text='{name}']")).to_have_text(text)
    expect(visit.row("cause", "never seen").locator("[data-text='count']")).to_have_text(str(MISSES))


def test_what_was_asked_is_told_and_what_comes_after_too(asked, visit):
    visit = visit(asked)
    visit.open()
    expect_load(visit)
    load(asked, 60, 0)
    expect(visit.shown("minute.rate")).to_have_text("97.0 %")
    expect(visit.row("name", getpass.getuser()).locator("[data-text='gets']")).to_have_text("100")
    assert visit.requests.count(f"http://{asked.http}/") == 1, "loaded once"


def test_without_scripts_the_figures_are_there(asked, visit):
    visit = visit(asked, java_script_enabled=False)
    wait_until(asked, lambda status: status["windows"][1]["hits"] == HITS)
    visit.open()
    expect_load(visit)
    expect(visit.page.locator("noscript")).to_be_visible()


def test_each_cause_of_misses_is_counted(start_unit, visit):
    with start_unit("-m", "8") as unit:
        traffic.run(unit)
        visit = visit(unit)
        visit.open()
        with unit.connect() as client:
            evictions = int(client.stats()["evictions"])
        expect(visit.shown("memory.evicted")).to_have_text(f"{evictions:,}")
        counts = {row["cause"]: row["count"] for row in visit.words()["misses"]}
        assert set(counts) == {"never seen", "expired", "evicted", "flushed", "deleted"}
        assert "0" not in counts.values(), counts
        expect(visit.row("cause", "evicted")).to_contain_text("Raise -m")


def test_a_server_of_which_nothing_was_asked_says_so(unit, visit):
    visit = visit(unit)
    visit.open()
    expect(visit.shown("minute.of")).to_have_text("no requests yet")
    expect(visit.page.locator("body")).not_to_contain_text("NaN")
    expect(visit.page.locator("body")).not_to_contain_text("undefined")
