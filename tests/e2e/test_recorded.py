"""A recording of real traffic: what `tokencached-tool` makes of what keystonemiddleware asks the server.

The API's processes use the server through keystonemiddleware; a recording of that, replayed in virtual time, has to come
to the hit rate that the server counted itself.
"""

import dataclasses
import json
import random
import signal
import subprocess
import time

import pytest

from api import TOKEN_CACHE_TIME_S
from conftest import eventually
from modes import MODES

TOKENS = 10

# Long enough for each token to expire and be validated again.
TRAFFIC_S = 2.5 * TOKEN_CACHE_TIME_S

OFF_MAX_POINTS = 0.5

CHOSEN = [
    dataclasses.replace(mode, name=f"recorded-{mode.name}")
    for mode in MODES
    if mode.name in ("plain", "MAC")
]


@pytest.fixture(params=CHOSEN, ids=repr)
def stack(request, binary, start_stack):
    """A mode, started anew."""
    with start_stack(request.param, binary) as stack:
        yield stack


class Tool:
    """`tokencached-tool`, with the server's admin socket."""

    def __init__(self, binary, socket):
        self._program = binary.with_name("tokencached-tool")
        self._socket = socket

    def run(self, *words):
        """What it prints."""
        line = [str(self._program), *map(str, words)]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout

    def status(self):
        """The server's status."""
        return json.loads(self.run("stats", "--admin", self._socket, "--json"))

    def record(self, path):
        """Starts a recording, and waits until it is under way."""
        line = [self._program, "record", "--admin", self._socket, "-o", path]
        recording = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
        assert eventually(lambda: self.status()["server"]["watchers"] == 1)
        return recording


def use(stack, tokens, seconds):
    """Requests in turn, some tokens more often than others."""
    often = random.Random(1)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        token = tokens[int(TOKENS * often.random() ** 2)]
        assert stack.api.ask(token).status_code == 200


def test_a_recording_is_replayed_to_the_hit_rate_of_the_server(stack, binary, tmp_path):
    """Within half a point, what was cached before the recording began taken into account."""
    tool = Tool(binary, stack.cache.admin_socket)
    tokens = [stack.keystone.issue() for _ in range(TOKENS)]
    use(stack, tokens, TOKEN_CACHE_TIME_S / 2)

    trace = tmp_path / "trace"
    recording = tool.record(trace)
    try:
        before = tool.status()["total"]
        use(stack, tokens, TRAFFIC_S)
        after = tool.status()["total"]
        recording.send_signal(signal.SIGINT)
        _, said = recording.communicate(timeout=30)
    finally:
        recording.kill()
    assert recording.returncode == 0, said

    hits = after["hits"] - before["hits"]
    look_ups = hits + after["misses"] - before["misses"]
    assert f"{look_ups:,} look-ups of {TOKENS} keys" in said
    # Each token was validated again at least twice.
    assert look_ups - hits >= 2 * TOKENS
    written = trace.read_bytes()
    assert not any(token.id.encode() in written for token in tokens)

    policy = ["--memory", "64", "--policies", "tokencached", "--format", "json"]
    rows = json.loads(tool.run("simulate", "--trace", trace, *policy))["rows"]
    counted, simulated = 100 * hits / look_ups, rows[0]["hit_percent"]
    stack.note("hit % counted", round(counted, 2))
    stack.note("hit % simulated", round(simulated, 2))
    assert abs(simulated - counted) <= OFF_MAX_POINTS
