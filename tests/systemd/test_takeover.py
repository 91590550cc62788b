"""What the package tokencached-takeover makes of memcached.service on an API unit."""

import json

import pytest

from machine import CHARM, deb, eventually

SET = "set k 0 0 5\r\nvalue\r\n"


def has_taken_over(machine):
    assert machine.program("memcached") == "/usr/bin/tokencached"
    stats = machine.stats()
    assert stats["limit_maxbytes"] == str(64 << 20)
    assert "tokencached_version" in stats
    return stats


def is_memcached(machine):
    # systemd does not wait until it serves.
    assert eventually(lambda: machine.program("memcached") == "/usr/bin/memcached")
    assert eventually(machine.stats)
    stats = machine.stats()
    assert stats and "tokencached_version" not in stats


def test_installing_takes_memcached_over(unit):
    is_memcached(unit)
    unit.run(f"dpkg -i {deb('tokencached')} {deb('tokencached-takeover')}")
    has_taken_over(unit)
    # As the charm does whenever it writes the file.
    unit.run("systemctl restart memcached")
    stats = has_taken_over(unit)
    assert stats["pid"] == str(unit.main_process("memcached"))
    assert unit.ask("get k\r\n", host="127.0.0.1") == "", "only where -l says"
    status = unit.status("memcached")
    memcache = unit.run("id -u memcache").strip()
    assert status["Uid"].split() == [memcache] * 4
    assert int(status["CapEff"], 16) == 0
    assert status["Groups"].split() == unit.run("id -G memcache").split()
    shown = unit.show("memcached", "Type", "WatchdogUSec", "NRestarts", "UnitFileState")
    assert shown == {"Type": "notify", "WatchdogUSec": "30s", "NRestarts": "0", "UnitFileState": "enabled"}
    assert unit.run("systemctl --failed --no-legend") == ""


def test_the_admin_socket_is_in_memcacheds_folder(taken):
    assert taken.run("stat -c '%U %a' /run/memcached/admin.sock").strip() == "memcache 600"
    taken.ask(SET)
    assert json.loads(taken.run("tokencached-tool stats --admin --json"))["total"]["sets"] == 1
    taken.run("dpkg --remove tokencached-takeover && test ! -e /run/memcached/admin.sock")


def test_it_reloads(taken):
    process = taken.main_process("memcached")
    taken.ask(SET)
    taken.run("systemctl reload memcached")
    assert taken.main_process("memcached") == process
    assert taken.show("memcached", "ActiveState")["ActiveState"] == "active"
    assert "value" in taken.ask("get k\r\n")


def test_an_upgrade_restarts_it(taken):
    before = taken.main_process("memcached")
    taken.run(f"dpkg -i {deb('tokencached', 2)}")
    alone = taken.main_process("memcached")
    assert alone != before, "the program alone"
    taken.run(f"dpkg -i {deb('tokencached', 2)} {deb('tokencached-takeover', 2)}")
    assert taken.main_process("memcached") != alone
    has_taken_over(taken)
    assert taken.show("memcached", "NRestarts")["NRestarts"] == "0"


def test_removal_gives_memcached_back(taken):
    taken.run("dpkg --remove tokencached-takeover")
    is_memcached(taken)
    taken.run("dpkg --purge tokencached-takeover tokencached")
    is_memcached(taken)
    taken.run("systemctl restart memcached")
    is_memcached(taken)
    assert taken.run("find /etc /usr /lib -xdev -path '*/tokencached*' -not -path '/usr/share/doc*'") == ""


def test_installing_starts_nothing_that_did_not_run(unit):
    unit.run("systemctl stop memcached")
    unit.run(f"dpkg -i {deb('tokencached')} {deb('tokencached-takeover')}")
    for name in ["memcached", "tokencached.service", "tokencached.socket"]:
        assert unit.show(name, "ActiveState")["ActiveState"] == "inactive"
    unit.run("systemctl start memcached")
    has_taken_over(unit)


def test_the_watchdog_ends_what_hangs_and_nothing_else(taken):
    taken.write("/etc/systemd/system/memcached.service.d/60-test.conf", "[Service]\nWatchdogSec=1\n")
    taken.run("systemctl daemon-reload && systemctl restart memcached && sleep 3")
    assert taken.show("memcached", "NRestarts")["NRestarts"] == "0", "it is fed"
    hanging = taken.main_process("memcached")
    taken.run(f"kill -STOP {hanging}")
    assert eventually(lambda: taken.show("memcached", "NRestarts")["NRestarts"] == "1")
    assert eventually(lambda: taken.stats())
    assert taken.main_process("memcached") != hanging
    has_taken_over(taken)


def test_an_exporter_on_port_9150_is_no_obstacle(unit):
    exporter = unit.hold("127.0.0.1", 9150)
    unit.run(f"dpkg -i {deb('tokencached')} {deb('tokencached-takeover')}")
    has_taken_over(unit)
    assert exporter.poll() is None
    exporter.kill()
    exporter.wait()
    (line,) = [line for line in unit.journal("memcached") if "9150" in line]
    assert "no metrics" in line


def test_the_configuration_of_debians_own_package_works(taken):
    # With a pid file in a folder of memcache's.
    taken.run("cp /usr/share/memcached/memcached.conf.default /etc/memcached.conf && systemctl restart memcached")
    assert taken.program("memcached") == "/usr/bin/tokencached"
    assert taken.run("cat /run/memcached/memcached.pid").strip() == str(taken.main_process("memcached"))


def test_a_unix_socket_in_memcacheds_folder_works(taken):
    taken.write("/etc/memcached.conf", CHARM + "-s /run/memcached/socket\n-a 0770\n")
    taken.run("systemctl restart memcached")
    assert taken.run("stat -c '%U %a' /run/memcached/socket").strip() == "memcache 770"


def test_locked_memory_works(taken):
    if not taken.can_lock_memory():
        pytest.skip("the limit of locked memory cannot be raised here")
    taken.write("/etc/memcached.conf", CHARM + "-k\n")
    taken.run("systemctl restart memcached")
    assert taken.status("memcached")["VmLck"].split()[0] != "0"


UNUSABLE = {
    "missing": "rm /etc/memcached.conf",
    "unreadable": "chmod 000 /etc/memcached.conf",
    "nonsense": "echo '-m lots' >>/etc/memcached.conf",
    "no text": "printf '\\377\\376' >>/etc/memcached.conf",
}


@pytest.mark.parametrize("how", UNUSABLE)
def test_an_unusable_file_is_one_line_and_no_loop(taken, how):
    # At a start: a restart goes on with the last good one (test_restart.py).
    taken.run("systemctl stop memcached")
    taken.run(UNUSABLE[how])
    assert taken.execute("systemctl start memcached").returncode != 0
    taken.run("sleep 1")
    shown = taken.show("memcached", "ExecMainStatus", "NRestarts", "ActiveState")
    assert shown == {"ExecMainStatus": "78", "NRestarts": "0", "ActiveState": "failed"}
    (line,) = taken.refusals("memcached")
    assert "/etc/memcached.conf" in line
    taken.run("chmod 644 /etc/memcached.conf", check=False)
    taken.write("/etc/memcached.conf", CHARM)
    taken.run("systemctl restart memcached")
    has_taken_over(taken)


@pytest.mark.parametrize("how", ["missing", "nonsense", "unreadable"])
def test_what_runs_goes_on_where_the_file_is_unusable_at_the_installation(unit, how):
    before = unit.main_process("memcached")
    unit.run(UNUSABLE[how])
    done = unit.execute(f"dpkg -i {deb('tokencached')} {deb('tokencached-takeover')}")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("tokencached")]
    assert line.startswith("tokencached-takeover: memcached.service goes on as it is and will not start again: ")
    assert "/etc/memcached.conf" in line
    assert unit.main_process("memcached") == before
    is_memcached(unit)
    unit.run("dpkg --remove tokencached-takeover")


def test_removal_gives_memcached_back_after_a_failure_too(taken):
    taken.write("/etc/memcached.conf", CHARM + "-l 0.0.0.0\n")
    assert taken.execute("systemctl stop memcached && systemctl start memcached").returncode != 0
    taken.run("dpkg --remove tokencached-takeover")
    is_memcached(taken)


def test_a_port_that_somebody_has_is_waited_for(taken):
    # Whoever is faster than the service at a restart.
    taken.run("systemctl stop memcached")
    holder = taken.hold("::1", 11211)
    assert taken.execute("systemctl start memcached").returncode != 0
    restarts = lambda: int(taken.show("memcached", "NRestarts")["NRestarts"])
    assert eventually(lambda: restarts() >= 2)
    shown = taken.show("memcached", "ExecMainStatus")
    assert shown["ExecMainStatus"] in ("0", "71")
    holder.kill()
    holder.wait()
    assert eventually(lambda: taken.show("memcached", "ActiveState")["ActiveState"] == "active")
    has_taken_over(taken)
    # Every try takes a second or more.
    assert restarts() < 60


def test_a_program_that_is_not_there_is_no_loop_of_starts(unit):
    done = unit.execute(f"dpkg -i {deb('tokencached-takeover')}")
    assert done.returncode != 0 and "depends on tokencached" in done.stderr
    unit.run("systemctl daemon-reload")
    assert unit.execute("systemctl restart memcached").returncode != 0
    unit.run("sleep 1")
    assert unit.show("memcached", "NRestarts", "ExecMainStatus") == {"NRestarts": "0", "ExecMainStatus": "203"}
    unit.run(f"dpkg -i {deb('tokencached')} && dpkg --configure -a && systemctl restart memcached")
    has_taken_over(unit)
