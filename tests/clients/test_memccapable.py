"""memccapable, libmemcached's test of a server's capabilities: nothing of it fails.

It has memcached's documents for its measure, byte by byte. One run for each protocol asks
everything; each of its tests is one here.
"""

import re
import shutil
import subprocess

import pytest

PROGRAM = shutil.which("memccapable")

if not PROGRAM:
    pytest.skip("left out: install libmemcached-tools", allow_module_level=True)

TEXT = """
version quit verbosity set set-noreply get gets mget flush flush-noreply add add-noreply replace
replace-noreply cas cas-noreply delete delete-noreply incr incr-noreply decr decr-noreply append
append-noreply prepend prepend-noreply stat
""".split()
BINARY = """
noop quit quitq set setq flush flushq add addq replace replaceq delete deleteq get getq getk getkq
incr incrq decr decrq version append appendq prepend prependq stat
""".split()


class Report:
    """What one run wrote: the tests it passed, everything for a failure, and its status."""

    def __init__(self, server, option):
        line = [PROGRAM, "-h", "127.0.0.1", "-p", str(server.port), "-t", "10", "-v", option]
        run = subprocess.run(
            line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
        )
        self.text = run.stdout
        self.status = run.returncode
        self.passed = {
            name.strip().split(maxsplit=1)[1].replace(" ", "-")
            for name in re.findall(r"((?:ascii|binary) .+?)\s*\[pass\]", self.text)
        }


@pytest.fixture(scope="module")
def text_report(servers):
    """The run in the text protocol."""
    return Report(servers["inet"], "-a")


@pytest.fixture(scope="module")
def binary_report(servers):
    """The run in the binary protocol."""
    return Report(servers["inet"], "-b")


@pytest.mark.parametrize("name", TEXT)
def test_text(text_report, name):
    """One command in the text protocol."""
    assert name in text_report.passed, text_report.text


@pytest.mark.parametrize("name", BINARY)
def test_binary(binary_report, name):
    """One command in the binary protocol."""
    assert name in binary_report.passed, binary_report.text


@pytest.mark.parametrize("protocol", ["text", "binary"])
def test_nothing_else_failed(request, protocol):
    """No test that is not named here, and it says so itself."""
    report = request.getfixturevalue(f"{protocol}_report")
    assert report.passed == set({"text": TEXT, "binary": BINARY}[protocol]), report.text
    assert "All tests passed" in report.text
    assert report.status == 0
