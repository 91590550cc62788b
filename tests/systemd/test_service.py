"""tokencached.service, tokencached.socket, and how much the units expose."""

import json
import re

import pytest

from machine import deb

CONFIG = "/etc/tokencached/tokencached.toml"
SET = "set k 0 0 5\r\nvalue\r\n"


def append(machine, text):
    machine.write(CONFIG, machine.path(CONFIG).read_text() + text)


@pytest.mark.parametrize(("name", "most"), [("tokencached", 1.5), ("memcached", 2.2)])
def test_units_expose_little(taken, name, most):
    text = taken.run(f"systemd-analyze security --offline=true --no-pager {name}.service")
    exposure = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)[1])
    assert exposure <= most, text


def test_units_are_sound(taken):
    done = taken.execute("systemd-analyze verify tokencached.service tokencached.socket memcached.service")
    said = [line for line in done.stderr.splitlines() if "tokencached" in line]
    assert done.returncode == 0 and not said, done.stderr


def test_the_service_runs_as_its_own_user(own):
    assert own.show("tokencached", "ActiveState", "UnitFileState") == {
        "ActiveState": "inactive",
        "UnitFileState": "disabled",
    }
    own.run("systemctl enable --now tokencached")
    assert own.program("tokencached") == "/usr/bin/tokencached"
    status = own.status("tokencached")
    assert status["Uid"].split() == own.run("id -u tokencached").split() * 4
    assert int(status["CapBnd"], 16) == 0
    for host in ["127.0.0.1", "::1"]:
        assert "tokencached_version" in own.stats(host=host)
    process = own.main_process("tokencached")
    own.run("systemctl reload tokencached")
    assert own.main_process("tokencached") == process


def test_what_a_site_monitors_with_is_in_the_package(own):
    documents = own.run("dpkg --listfiles tokencached").splitlines()
    for name in ["docs/metrics.md", "docs/runbook.md", "observability/alerts.yaml", "observability/dashboard.json"]:
        assert f"/usr/share/doc/tokencached/{name}" in documents


def test_a_unix_socket_has_its_place(own):
    append(own, 'unix_socket = "/run/tokencached/socket"\nunix_mask = "0777"\nport = 11211\n')
    own.run("systemctl start tokencached")
    assert own.run("stat -c '%U %a' /run/tokencached/socket").strip() == "tokencached 777"
    assert own.stats()


def test_the_admin_socket_is_for_root_and_the_server(own):
    own.run("systemctl start tokencached && useradd --create-home visitor")
    assert own.run("stat -c '%U %a' /run/tokencached/admin.sock").strip() == "tokencached 600"
    own.ask(SET)
    for who in ["root", "tokencached"]:
        told = own.run(f"runuser -u {who} -- tokencached-tool stats --admin --json")
        assert json.loads(told)["total"]["sets"] == 1
    refused = own.execute("runuser -u visitor -- tokencached-tool watch")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1, refused.stderr
    own.run("systemctl restart tokencached && tokencached-tool stats --admin")
    own.run("systemctl stop tokencached && test ! -e /run/tokencached")


def test_locked_memory_works(own):
    if not own.can_lock_memory():
        pytest.skip("the limit of locked memory cannot be raised here")
    append(own, "lock_memory = true\n")
    own.run("systemctl start tokencached")
    assert own.status("tokencached")["VmLck"].split()[0] != "0"


def test_a_configuration_that_was_changed_survives_an_upgrade(own):
    append(own, "memory_limit = 32\n")
    own.run("systemctl start tokencached")
    before = own.main_process("tokencached")
    own.run(f"dpkg -i {deb('tokencached', 2)} </dev/null")
    assert own.main_process("tokencached") != before
    assert own.stats()["limit_maxbytes"] == str(32 << 20)


def test_a_configuration_that_both_sides_changed_is_kept(own):
    append(own, "memory_limit = 32\n")
    own.run("systemctl start tokencached")
    before = own.main_process("tokencached")
    # The next release, with a file of its own.
    own.run(
        f"dpkg-deb -R {deb('tokencached', 2)} /tmp/next && echo '# new' >>/tmp/next{CONFIG} &&"
        " dpkg-deb -b /tmp/next /tmp/next.deb && dpkg --force-confold -i /tmp/next.deb"
    )
    assert own.main_process("tokencached") != before
    assert own.stats()["limit_maxbytes"] == str(32 << 20)
    assert "# new" in own.path(CONFIG + ".dpkg-dist").read_text()


def test_what_runs_goes_on_where_the_configuration_is_unusable_at_an_upgrade(own):
    own.run("systemctl start tokencached")
    own.ask(SET)
    append(own, "memory_limt = 32\n")
    done = own.execute(f"dpkg -i {deb('tokencached', 2)}")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("tokencached")]
    assert line.startswith("tokencached: tokencached.service goes on as it is and will not start again: ")
    assert "memory_limit" in line
    assert "value" in own.ask("get k\r\n")
    own.run("systemctl restart tokencached")
    assert "value" in own.ask("get k\r\n"), "with the last good one"
    assert own.execute("systemctl stop tokencached && systemctl start tokencached").returncode != 0
    own.run("sleep 1")
    shown = own.show("tokencached", "ExecMainStatus", "NRestarts")
    assert shown == {"ExecMainStatus": "78", "NRestarts": "0"}


def test_removal_stops_the_service(own):
    own.run("systemctl enable --now tokencached")
    own.run("dpkg --remove tokencached")
    assert own.show("tokencached", "ActiveState")["ActiveState"] in ("inactive", "failed")
    assert own.ask("version\r\n") == ""
    own.run("dpkg --purge tokencached")
    assert own.run("find /etc -path '*tokencached*' -not -path '*/doc/*'") == ""


def test_a_socket_unit_starts_the_service_for_its_first_client(own):
    own.run("systemctl start tokencached.socket")
    assert own.show("tokencached", "ActiveState")["ActiveState"] == "inactive"
    assert own.ask("version\r\n") == "VERSION 1.6.45\r\n"
    assert own.show("tokencached", "ActiveState")["ActiveState"] == "active"
    assert own.ask("version\r\n", host="127.0.0.1") == "VERSION 1.6.45\r\n"
    own.run("systemctl restart tokencached")
    assert own.ask("version\r\n") == "VERSION 1.6.45\r\n"


def test_a_socket_unit_that_contradicts_the_configuration_is_one_line_and_no_loop(own):
    append(own, 'listen = "127.0.0.1:11300"\n')
    own.run("systemctl start tokencached.socket")
    assert own.execute("systemctl start tokencached").returncode != 0
    own.run("sleep 1")
    shown = own.show("tokencached", "ExecMainStatus", "NRestarts")
    assert shown == {"ExecMainStatus": "78", "NRestarts": "0"}
    (line,) = own.refusals("tokencached")
    assert "listen = " in line and "name the same addresses" in line
    # A client wakes it a few times, in vain.
    own.ask("version\r\n")
    own.run("sleep 3")
    assert len(own.refusals("tokencached")) <= 5
