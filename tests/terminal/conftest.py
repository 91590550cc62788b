"""A server and a terminal for each test, in a temporary folder that goes with it."""

import contextlib
import pathlib
import signal
import tempfile

import pytest

from local import find_binary
from screen import Screen
from server import Server


def pytest_configure():
    """Prepares the end by SIGTERM, which then ends what the tests started like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def tool():
    """The tool's path."""
    binary = find_binary().with_name("tokencached-tool")
    if not binary.exists():
        pytest.exit(f"no tool at {binary}: cargo build --release, or set TOKENCACHED", 2)
    return binary


@pytest.fixture
def folder():
    """One that is empty, with a path that is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="tokencached-terminal-") as directory:
        yield pathlib.Path(directory)


@pytest.fixture
def server(folder):
    """A server of which nobody has asked anything."""
    server = Server(folder)
    yield server
    server.kill()


@pytest.fixture
def screen(folder):
    """A terminal of 100 columns and 30 lines."""
    with contextlib.closing(Screen(folder)) as screen:
        yield screen
