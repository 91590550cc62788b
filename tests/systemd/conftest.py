"""Each test has a machine of its own, as a charm leaves an API unit."""

import pytest

from machine import CHARM, Machine, deb, eventually


@pytest.fixture
def unit():
    """Debian's memcached runs, with the charm's configuration."""
    with Machine() as machine:
        machine.write("/etc/memcached.conf", CHARM)
        machine.run("systemctl restart memcached")
        # systemd does not wait until it serves.
        assert eventually(machine.stats)
        yield machine


@pytest.fixture
def taken(unit):
    """tokencached has taken its place."""
    unit.run(f"dpkg -i {deb('tokencached')} {deb('tokencached-takeover')}")
    assert unit.program("memcached") == "/usr/bin/tokencached"
    return unit


@pytest.fixture
def own(unit):
    """tokencached is installed, memcached stopped."""
    unit.run(f"systemctl disable --now memcached && dpkg -i {deb('tokencached')}")
    return unit


@pytest.fixture
def upgrade():
    """Installs the next revision of both packages, and answers no questions."""

    def install(machine):
        machine.run(f"dpkg -i {deb('tokencached', 2)} {deb('tokencached-takeover', 2)} </dev/null")

    return install
