"""Starts one browser for all tests, and a unit where a test needs one of its own.

Everything is written to one temporary folder, which goes when the tests end. A SIGTERM ends the tests like Ctrl-C, so
that what they started is stopped then too.
"""

import contextlib
import itertools
import os
import pathlib
import shutil
import signal
import tempfile

import pytest
from playwright.sync_api import expect, sync_playwright

from local import ROOT, find_binary
from unit import Unit
from visit import Visit

# Much more than the page ever needs, for machines that are busy.
LIMIT_MS = 30_000


def pytest_configure():
    """Prepares the end by SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    expect.set_options(timeout=LIMIT_MS)


@pytest.fixture(scope="session")
def kept():
    """The folder where the page's pictures are kept, and what the script says of the samples."""
    folder = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "page"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def start_unit():
    """`start_unit(flag, ...)` is a context with a server of its own."""
    binary = find_binary()
    if not binary.exists():
        pytest.exit(f"no server at {binary}: cargo build --release, or set TOKENCACHED", 2)
    with tempfile.TemporaryDirectory(prefix="tokencached-page-") as directory:
        folders = (pathlib.Path(directory, str(number)) for number in itertools.count())
        yield lambda *flags: contextlib.closing(Unit(binary, next(folders), *flags))


@pytest.fixture(scope="session")
def unit(start_unit):
    """A unit of which nobody has asked anything."""
    with start_unit() as unit:
        yield unit


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium. As root it cannot have its sandbox; it sees nothing but the page."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """`visit(unit, option=...)` opens a unit's page; what it must never do is looked at when the test ends."""
    with contextlib.ExitStack() as visits:

        def visit(unit, **options):
            return visits.enter_context(Visit(browser, unit, LIMIT_MS, **options))

        yield visit
