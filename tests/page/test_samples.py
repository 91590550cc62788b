"""Server and script put the same status in the same words, and these words where they belong.

The server's half is a test of `src/server/page/mod.rs`.
"""

import json

import pytest

from visit import NAMES, sample, words_of


@pytest.mark.parametrize("name", NAMES)
def test_the_script_says_what_the_server_says(name, unit, visit, kept):
    visit = visit(unit, answer=sample(name))
    visit.open()
    told = visit.page.evaluate("status => view(status)", json.loads(sample(name)))
    # To be read, and to take the sample's place, when the words are meant to be others.
    (kept / f"{name}.view.json").write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n")
    assert told == words_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_all_of_it(name, unit, visit):
    visit = visit(unit, answer=sample(name))
    visit.open()
    assert visit.words() == flat(words_of(name))


def test_the_figures_stay_when_the_script_takes_over(start_unit, visit):
    with start_unit() as unit:
        without, with_script = visit(unit, java_script_enabled=False), visit(unit)
        without.open()
        with_script.open()
        # What moves by itself.
        moving = {"time", "server.uptime", "memory.used", "memory.width", "memory.tables"}
        told = [{name: text for name, text in v.words().items() if name not in moving} for v in (without, with_script)]
        assert told[0] == told[1]


def flat(words, path=""):
    """Words by the whole path of their name; lists stay lists."""
    found = {}
    for name, value in words.items():
        if isinstance(value, dict):
            found |= flat(value, f"{path}{name}.")
        else:
            found[path + name] = value
    return found
