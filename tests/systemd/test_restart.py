"""What outlives a restart of the unit, planned or not: items, addresses, and a configuration that works."""

import re
import time

import pytest

from machine import CHARM, deb, eventually

CONF = "/etc/memcached.conf"
SOCKET = "/run/memcached/socket"
SET = "set k 0 0 5\r\nvalue\r\n"
FOUND = "VALUE k 0 5\r\nvalue\r\nEND\r\n"
MISSED = "END\r\n"


@pytest.fixture
def filled(taken):
    """tokencached has memcached's place, and an item."""
    assert taken.ask(SET) == "STORED\r\n"
    # So many descriptors: heap, address, configuration.
    assert eventually(lambda: stored(taken) == 3)
    return taken


def stored(machine):
    return int(machine.show("memcached", "NFileDescriptorStore")["NFileDescriptorStore"])


def value(machine, **place):
    return machine.ask("get k\r\n", **place)


def last_good(machine):
    return [line for line in machine.journal("memcached") if "goes on with the last good configuration" in line]


def test_items_outlive_a_restart(filled):
    before = filled.main_process("memcached")
    filled.run("systemctl restart memcached")
    assert filled.main_process("memcached") != before
    assert value(filled) == FOUND
    assert stored(filled) == 3
    (line,) = [line for line in filled.journal("memcached") if " items over in " in line]
    assert re.match(r"took 1 items over in [0-9.]+ ms; dropped: 0 damaged, 0 unfinished, 0 too large", line), line


def test_items_outlive_a_restart_with_another_limit(filled):
    filled.write(CONF, CHARM.replace("-m 64", "-m 32"))
    filled.run("systemctl restart memcached")
    assert value(filled) == FOUND
    assert filled.stats()["limit_maxbytes"] == str(32 << 20)


def test_items_outlive_an_upgrade(filled, upgrade):
    before = filled.main_process("memcached")
    upgrade(filled)
    assert filled.main_process("memcached") != before
    assert value(filled) == FOUND


CRASHES = {
    "kill": "kill -KILL {}",
    # The first, which no access to memory has brought about, is taken for a mistake.
    "segv": "kill -SEGV {0}; sleep 0.2; kill -SEGV {0}",
    # The watchdog finds that it does not answer.
    "watchdog": "kill -STOP {}",
}


@pytest.mark.parametrize("how", CRASHES)
def test_items_outlive_a_crash(filled, how):
    filled.write("/etc/systemd/system/memcached.service.d/60-test.conf", "[Service]\nWatchdogSec=2\n")
    filled.run("systemctl daemon-reload && systemctl restart memcached")
    clients = filled.talk(20)
    crashed = filled.main_process("memcached")
    filled.run(CRASHES[how].format(crashed))
    assert eventually(lambda: filled.show("memcached", "NRestarts")["NRestarts"] == "1")
    assert eventually(lambda: filled.main_process("memcached") not in (0, crashed))
    assert value(filled) == FOUND
    assert stored(filled) == 3
    told = clients.end()
    assert told["right"] > 0 and (told["wrong"], told["broken"]) == (0, 20), told
    new = filled.talk(20).end()
    assert new["right"] > 0 and (new["wrong"], new["broken"]) == (0, 0), new


def test_many_restarts_in_a_row_are_no_reason_to_give_up(filled):
    for command in ["true", "systemctl daemon-reload", "systemctl daemon-reexec"]:
        filled.run(f"for number in $(seq 20); do systemctl restart memcached || exit 1; done && {command}")
        assert value(filled) == FOUND
    assert stored(filled) == 3
    assert filled.show("memcached", "NRestarts")["NRestarts"] == "0"


def test_a_program_that_ends_whenever_it_is_started_is_given_up(filled):
    drop_in = "/etc/systemd/system/memcached.service.d/60-test.conf"
    filled.write(drop_in, "[Service]\nExecStart=\nExecStart=/bin/false\n")
    filled.run("systemctl daemon-reload && systemctl restart memcached", check=False)
    assert eventually(lambda: filled.show("memcached", "ActiveState")["ActiveState"] == "failed")
    filled.run(f"rm {drop_in} && systemctl daemon-reload && systemctl reset-failed memcached")
    filled.run("systemctl restart memcached")
    assert filled.ask(SET) == "STORED\r\n"


def test_nobody_is_refused_during_a_restart(filled):
    filled.write(CONF, CHARM + f"-s {SOCKET}\n-a 0777\n")
    filled.run("systemctl restart memcached")
    for place in [{}, {"unix": SOCKET}]:
        knocking = filled.knock(**place)
        for number in range(5):
            filled.run("systemctl restart memcached")
            filled.run("kill -KILL $(systemctl show memcached --property=MainPID --value)")
            # What is killed at once, and again, is not trusted with the heap.
            assert eventually(lambda: filled.show("memcached", "NRestarts")["NRestarts"] == "1")
            assert eventually(lambda: filled.show("memcached", "ActiveState")["ActiveState"] == "active")
            time.sleep(0.2)
        told = filled.knocks(knocking)
        print(place, told)
        assert told["served"] > 0 and told["refused"] == 0, told
    assert value(filled) == FOUND


UNUSABLE = {
    "missing": "rm /etc/memcached.conf",
    "unreadable": "chmod 000 /etc/memcached.conf",
    "nonsense": "echo '-m lots' >>/etc/memcached.conf",
    "no text": "printf '\\377\\376' >>/etc/memcached.conf",
    "taken": "echo '-s /etc/passwd' >>/etc/memcached.conf && echo '-p 11211' >>/etc/memcached.conf",
}


@pytest.mark.parametrize("how", UNUSABLE)
def test_an_unusable_file_gives_way_to_the_last_good_one(filled, how):
    filled.run(UNUSABLE[how])
    for restarts in [1, 2]:
        filled.run("systemctl restart memcached")
        assert value(filled) == FOUND
        assert len(last_good(filled)) == restarts
        refusals = filled.refusals("memcached")
        assert len(refusals) == restarts
        assert "/etc/memcached.conf" in refusals[0]
    filled.run("chmod 644 /etc/memcached.conf", check=False)
    filled.write(CONF, CHARM.replace("-m 64", "-m 48"))
    filled.run("systemctl restart memcached")
    assert filled.stats()["limit_maxbytes"] == str(48 << 20)
    assert value(filled) == FOUND
    assert len(last_good(filled)) == 2


def test_a_stop_forgets_everything(filled):
    filled.run("systemctl stop memcached && systemctl start memcached")
    assert value(filled) == MISSED
    assert stored(filled) == 3


def test_a_privileged_port_stays_though_nobody_may_bind_it(filled):
    # Debian's unit leaves no right to bind one; whoever has bound it once keeps it.
    drop_in = "[Service]\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"
    filled.write("/etc/systemd/system/memcached.service.d/60-test.conf", drop_in)
    filled.write(CONF, CHARM.replace("-p 11211", "-p 211"))
    filled.run("systemctl daemon-reload && systemctl restart memcached")
    assert value(filled, port=211) == FOUND
    filled.run("rm /etc/systemd/system/memcached.service.d/60-test.conf && systemctl daemon-reload")
    filled.run("systemctl restart memcached")
    assert value(filled, port=211) == FOUND
    assert not last_good(filled)


def test_sigusr2_restarts_it_as_the_same_process(filled):
    process = filled.main_process("memcached")
    filled.run("systemctl kill --signal=SIGUSR2 --kill-who=main memcached")
    lines = lambda: [line for line in filled.journal("memcached") if line.startswith("listening on ")]
    assert eventually(lambda: len(lines()) == 2)
    assert value(filled) == FOUND
    assert filled.main_process("memcached") == process
    shown = filled.show("memcached", "ActiveState", "NRestarts")
    assert shown == {"ActiveState": "active", "NRestarts": "0"}
    assert stored(filled) == 3
    filled.run("systemctl restart memcached")
    assert value(filled) == FOUND


def test_memcached_inherits_nothing(filled):
    clients = filled.talk(20)
    clients.wait()
    filled.run("dpkg --remove tokencached-takeover")
    assert eventually(lambda: filled.program("memcached") == "/usr/bin/memcached")
    assert eventually(filled.stats)
    own = filled.main_process("memcached")
    assert stored(filled) == 0
    clients.go_on()
    assert clients.end()["broken"] == 20
    descriptors = filled.run(f"ls -l /proc/{own}/fd")
    assert "memfd" not in descriptors, descriptors
    assert "LISTEN_FDS" not in filled.run(f"tr '\\0' '\\n' </proc/{own}/environ")
    # No more sockets than it has when nobody was there before it.
    filled.run("systemctl stop memcached && systemctl start memcached")
    assert eventually(filled.stats)
    alone = filled.run(f"ls -l /proc/{filled.main_process('memcached')}/fd")
    assert descriptors.count("socket:") == alone.count("socket:"), descriptors
