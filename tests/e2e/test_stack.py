"""What an operator gets: Keystone asked once for a token, an API that never fails for its cache.

A *validation* is `GET /v3/auth/tokens` in Keystone's access log. Every test runs in each
mode, against several processes of the API that share one cache.
"""

import time


from apache import PROCESSES, THREADS
from api import TOKEN_CACHE_TIME_S
from conftest import eventually
from identity import INTERFACES, SERVICES

REQUESTS = 50
HERD = 40
THREADS_OF_ALL = PROCESSES * THREADS


def statuses(answers):
    """The distinct status codes."""
    return {answer.status_code for answer in answers}


def test_a_validation_has_the_usual_size(stack, token):
    """19 services of 3 endpoints: more than 10 KB for each token."""
    body = stack.keystone.validate(token)
    assert len(body) > 10_000
    assert body.count(b'"interface"') == len(SERVICES) * len(INTERFACES)


def test_one_validation_serves_all_requests(stack, api, token, counting):
    """The first request costs one validation, the others none."""
    answer, validations = counting(lambda: api.ask(token))
    assert answer.status_code == 200
    assert answer.json() | {"process": 0} == {
        "status": "Confirmed",
        "user": "someone",
        "project": "shop",
        "services": len(SERVICES),
        "process": 0,
    }
    assert validations == 1
    stack.note("first request", validations)

    began = time.monotonic()
    answers, validations = counting(lambda: api.ask_in_turn(token, REQUESTS))
    # On a machine so slow that the entry ends meanwhile there is one for each life.
    lives = int((time.monotonic() - began) // TOKEN_CACHE_TIME_S)
    assert statuses(answers) == {200}
    assert [answer.json()["user"] for answer in answers] == ["someone"] * REQUESTS
    assert validations <= lives
    stack.note(f"{REQUESTS} more", validations)


def test_an_entry_ends_after_token_cache_time(stack, api, token, counting):
    """Then it takes one validation again, although the token was in use all the time."""

    def use_until_validated():
        began = stack.keystone.validations()
        assert eventually(
            lambda: api.ask(token).status_code == 200 and stack.keystone.validations() > began
        )

    api.ask(token)
    began = time.monotonic()
    _, validations = counting(use_until_validated)
    assert validations == 1
    # Whole seconds, so the entry may end up to one early.
    assert time.monotonic() - began > TOKEN_CACHE_TIME_S - 2


def test_many_requests_at_once(stack, api, token, counting):
    """Those that come before the first answer is stored ask Keystone too; nobody gets an error."""
    answers, validations = counting(lambda: api.ask_at_once(token, HERD))
    assert statuses(answers) == {200}
    assert 1 <= validations <= THREADS_OF_ALL
    assert len({answer.json()["process"] for answer in answers}) > 1
    stack.note(f"{HERD} at once", validations)


def test_the_cache_stops_and_starts_again(stack, api, token, counting):
    """The API does without, then finds its way back."""
    api.ask_at_once(token, THREADS_OF_ALL)
    assert stack.cache.stop() == 0
    answers = api.ask_in_turn(token, 3) + api.ask_at_once(token, THREADS_OF_ALL)
    stack.cache.start()
    assert statuses(answers) == {200}

    # Each connection finds out for itself that its server was gone, and holds it for dead from
    # then on. So most requests hit long before all do.
    def caching_again():
        fresh = stack.keystone.issue()
        first = api.ask(fresh)
        others, validations = counting(lambda: api.ask_at_once(fresh, THREADS_OF_ALL))
        assert statuses([first, *others]) == {200}
        return validations < len(others) / 2

    began = time.monotonic()
    assert eventually(caching_again, limit_s=120)
    stack.note("caching again after s", round(time.monotonic() - began))


def test_nonsense_is_refused(api, nonsense):
    """A token that Keystone does not know is 401, however often it comes."""
    assert statuses(api.ask_in_turn(nonsense, 3)) == {401}
