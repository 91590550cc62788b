"""Starts the stack: Keystone once, then for each mode the server and the API that uses it.

Everything is written to one temporary folder, which goes when the tests end. A SIGTERM
ends the tests like Ctrl-C, so that what they started is stopped then too.
"""

import concurrent.futures
import contextlib
import pathlib
import re
import signal
import tempfile
import time

import pytest

import apache
from api import Api
from cache import Cache
from identity import Keystone, Token
from local import IPV6, find_binary
from modes import MODES

FIGURES = pytest.StashKey()

BINARY = find_binary()


class Stack:
    """What a test works with: Keystone, the API and the server of one mode."""

    def __init__(self, mode, keystone, api, cache, figures):
        self.mode = mode
        self.keystone = keystone
        self.api = api
        self.cache = cache
        self._figures = figures

    def note(self, what, figure):
        """Shows a figure when all tests are done."""
        self._figures.setdefault(self.mode.name, {})[what] = figure

    def visit_every_process(self):
        """One request alone to each process of the API."""
        token, visited = self.keystone.issue(), set()

        def visited_all():
            visited.add(self.api.ask(token).json()["process"])
            return len(visited) == apache.PROCESSES

        assert eventually(visited_all)

    def ask_everywhere(self, tokens):
        """Asks until every process has answered each token; gives how many requests that took."""
        processes = {token: set() for token in tokens}
        requests = 0

        def asked_everywhere():
            nonlocal requests
            asked = [token for token in tokens if len(processes[token]) < apache.PROCESSES]
            for token, answer in zip(asked, self.ask_each(asked)):
                processes[token].add(answer.json()["process"])
            requests += len(asked)
            return not asked

        assert eventually(asked_everywhere)
        return requests

    def ask_each(self, tokens):
        """The answers to one request for each token, as many at once as there are threads."""
        with concurrent.futures.ThreadPoolExecutor(apache.PROCESSES * apache.THREADS) as pool:
            answers = list(pool.map(self.api.ask, tokens))
        assert {answer.status_code for answer in answers} <= {200}
        return answers


def eventually(condition, limit_s=60):
    """Polls, and gives whether the condition came true."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def pytest_configure(config):
    """Prepares the figures and the end by SIGTERM."""
    config.stash[FIGURES] = {}
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter, config):
    """The figures that the tests noted, a line for each mode."""
    for mode, figures in config.stash[FIGURES].items():
        line = ", ".join(f"{what} {figure}" for what, figure in figures.items())
        terminalreporter.write_line(f"{mode}: {line}")


@pytest.fixture(scope="session")
def binary():
    """The server under test."""
    if not BINARY.exists():
        pytest.exit(f"no server at {BINARY}: cargo build --release, or set TOKENCACHED", 2)
    return BINARY


@pytest.fixture(scope="session")
def directory():
    """A temporary folder that Apache's user may read."""
    with tempfile.TemporaryDirectory(prefix="tokencached-e2e-") as path:
        apache.hand_over(pathlib.Path(path))
        yield pathlib.Path(path)


@pytest.fixture(scope="session")
def python_home(directory):
    """The virtualenv in which Apache runs the services."""
    return apache.readable_venv(directory)


@pytest.fixture(scope="session")
def keystone(directory, python_home):
    """A running Keystone."""
    folder = directory / "keystone"
    folder.mkdir()
    keystone = Keystone(folder, python_home)
    yield keystone
    assert keystone.stop() == 0


@pytest.fixture(scope="session")
def start_stack(request, directory, python_home, keystone):
    """`start_stack(mode, binary, kind)` is a context with all of it, started anew."""

    @contextlib.contextmanager
    def start_stack(mode, binary, kind=Cache):
        if mode.transport == "inet6" and not IPV6:
            pytest.skip("this machine has no ::1")
        folder = directory / mode.name
        folder.mkdir()
        apache.hand_over(folder)
        with contextlib.closing(kind(binary, folder, mode)) as cache:
            cache.start()
            try:
                api = Api(folder, python_home, keystone, cache.address, mode.options)
                try:
                    stack = Stack(mode, keystone, api, cache, request.config.stash[FIGURES])
                    if mode.one_request_first:
                        stack.visit_every_process()
                    yield stack
                finally:
                    api_status = api.stop()
            finally:
                cache_status = cache.stop()
        assert (api_status, cache_status) == (0, 0)

    return start_stack


@pytest.fixture(scope="module", params=MODES, ids=repr)
def stack(request, binary, start_stack):
    """Each mode in turn, started anew."""
    with start_stack(request.param, binary) as stack:
        yield stack


@pytest.fixture
def api(stack):
    """The API of this mode."""
    return stack.api


@pytest.fixture
def token(stack):
    """A token that nobody has used yet."""
    return stack.keystone.issue()


@pytest.fixture
def nonsense():
    """What is no token."""
    return Token("nonsense")


@pytest.fixture
def counting(stack):
    """`counting(work)` gives what work() returns and how many validations it cost."""

    def counting(work):
        before = stack.keystone.validations()
        result = work()
        return result, stack.keystone.validations() - before

    return counting


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the services' logs to the report of a failure, tokens blanked."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and stack:
        logs = {
            "Keystone's log": stack.keystone.apache.error_log(),
            "the API's log": stack.api.apache.error_log(),
            "the server's log": stack.cache.log_path.read_text(errors="replace"),
        }
        for name, text in logs.items():
            tail = "\n".join(text.splitlines()[-40:])
            report.sections.append((name, re.sub(r"gAAAA[\w=-]+", "<token>", tail)))
    return report
