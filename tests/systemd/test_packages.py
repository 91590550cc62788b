"""The packages as files: what lintian says, and that man pages and completions can be read."""

import re
import subprocess

import pytest

from machine import DEBS, deb


@pytest.mark.parametrize("name", ["tokencached", "tokencached-takeover"])
def test_lintian_finds_no_error(name):
    path = DEBS / deb(name).rpartition("/")[2]
    command = ["lintian", "--allow-root", "--fail-on=error", "--no-tag-display-limit", path]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout


def test_man_pages_and_completions_can_be_read(unit):
    unit.run(f"dpkg -i {deb('tokencached')}")
    pages = unit.run("dpkg -L tokencached | grep /usr/share/man/.*gz").split()
    assert len(pages) > 5
    for page in pages:
        done = unit.execute(f"man --warnings -E UTF-8 -l -Tutf8 {page} | head -40")
        # A value's alternatives are one word, however long.
        said = [line for line in done.stderr.splitlines() if not re.search("can('t|not) break line", line)]
        assert not said, (page, said)
        assert "tokencached" in done.stdout, page
    for name in ["tokencached", "tokencached-tool"]:
        loaded = unit.run(f"bash -c '. /usr/share/bash-completion/completions/{name} && complete -p {name}'")
        assert loaded.startswith("complete") and loaded.rstrip().endswith(name), loaded
