"""Who may talk to the cache of a unit that was taken over: the rules as shipped and changed ones, between users."""

import concurrent.futures
import re

import pytest

from machine import CHARM, eventually

RULES = "/etc/tokencached/takeover.toml"
SOCKET = "/run/memcached/socket"
SET = "set tokens/k 0 0 5\r\nvalue\r\n"
GET = "get tokens/k\r\n"
STORED = "STORED\r\n"
FOUND = "VALUE tokens/k 0 5\r\nvalue\r\nEND\r\n"

# alice has a login; nova is as a package makes it, glance as Debian numbers it.
USERS = (
    "useradd --create-home alice && useradd --system nova && useradd --no-create-home --uid 64062 glance &&"
    " groupadd operators && useradd --create-home --groups operators bob"
)


@pytest.fixture
def peopled(taken):
    taken.run(USERS)
    return taken


def rules(machine, text):
    machine.write(RULES, f"[access]\n{text}\n")


def refusals(machine, user):
    return [line for line in machine.journal("memcached") if f"({user})" in line]


def serve_on_unix(machine):
    machine.write("/etc/memcached.conf", f"{CHARM}-s {SOCKET}\n-a 0777\n")
    machine.run("systemctl restart memcached")


def test_services_are_served_and_people_are_not(peopled):
    assert peopled.ask(SET, user="nova") == STORED
    for user in ["root", "nova", "glance", "memcache", "www-data"]:
        assert peopled.ask(GET, user=user) == FOUND, user
    for user in ["alice", "bob", "nobody"]:
        assert peopled.ask(GET, user=user) == "", user
        assert peopled.ask("delete tokens/k\r\n", user=user) == "", user
    assert peopled.ask(GET, user="nova") == FOUND
    uid = peopled.run("id -u alice").strip()
    (line, _) = refusals(peopled, "alice")
    assert line.endswith(f"refused uid {uid} (alice) on tcp:[::1]:11211: not in [access] connect")
    assert peopled.stats()["access_refused"] == "6"


def test_metrics_name_the_services_of_the_unit(peopled):
    for user in ["nova", "glance"]:
        peopled.ask(SET, user=user)

    def services():
        accepted = r'tokencached_connections_accepted_total{service="(.*)"} ([0-9]+)'
        return {service: int(count) for service, count in re.findall(accepted, peopled.metrics())}

    expected = {"nova": 1, "glance": 1}
    assert eventually(lambda: services().items() >= expected.items()), services()
    peopled.run("systemctl restart memcached")
    assert services().items() >= expected.items()


def test_the_same_holds_on_a_unix_socket(peopled):
    serve_on_unix(peopled)
    for user in ["root", "nova", "glance", "memcache"]:
        assert peopled.ask(SET + GET, user=user, unix=SOCKET) == STORED + FOUND, user
    for user in ["alice", "bob"]:
        assert peopled.ask(GET, user=user, unix=SOCKET) == "", user
    (line,) = refusals(peopled, "alice")
    assert f"on unix:{SOCKET}: not in [access] connect" in line


@pytest.mark.parametrize("unix", [None, SOCKET])
def test_whoever_sends_and_leaves_at_once_plants_nothing(peopled, unix):
    if unix:
        serve_on_unix(peopled)
    peopled.ask(SET, unix=unix)
    peopled.strike(user="alice", unix=unix)
    # Behind them in the queue of what is to be accepted.
    assert peopled.ask(GET, unix=unix) == FOUND
    stats = peopled.stats(unix=unix)
    assert (stats["curr_items"], stats["total_items"]) == ("1", "1")
    # Some that were reset are never accepted.
    assert int(stats["access_refused"]) >= 500
    lines = [line for line in peopled.journal("memcached") if "refused" in line]
    assert 0 < len(lines) < 200, "a flood leaves few lines"


def test_a_service_that_sends_and_leaves_at_once_is_no_harm(peopled):
    peopled.strike(user="nova")
    assert peopled.ask(SET + GET, user="nova") == STORED + FOUND


def test_rules_name_users_and_groups_and_who_may_only_read(peopled):
    rules(peopled, 'connect = ["root", "nova"]\nread_only = ["%operators"]\ndeny = ["glance"]')
    peopled.run("systemctl restart memcached")
    assert peopled.ask(SET + GET, user="nova") == STORED + FOUND
    assert peopled.ask(SET + GET, user="bob") == "CLIENT_ERROR writing not allowed\r\n" + FOUND
    for user in ["alice", "glance", "memcache"]:
        assert peopled.ask(GET, user=user) == "", user


def test_a_reload_closes_whom_new_rules_refuse(peopled):
    process = peopled.main_process("memcached")
    nova, glance = peopled.stay(user="nova"), peopled.stay(user="glance")
    rules(peopled, 'connect = ["root", "@system"]\ndeny = ["nova"]')
    peopled.run("systemctl reload memcached")
    assert nova.communicate(timeout=60)[0].strip() == "closed"
    assert peopled.ask(GET, user="nova") == ""
    assert glance.poll() is None
    assert peopled.ask(SET, user="glance") == STORED
    assert peopled.main_process("memcached") == process
    glance.kill()
    glance.communicate()


def test_a_reload_of_what_cannot_be_used_is_one_line_and_changes_nothing(peopled):
    rules(peopled, 'connect = ["no-such-user"]')
    peopled.run("systemctl reload memcached")
    lines = lambda: [line for line in peopled.journal("memcached") if "no-such-user" in line]
    assert eventually(lines)
    (line,) = lines()
    assert RULES in line and "there is no such user" in line and "nothing has changed" in line
    assert peopled.ask(SET + GET, user="nova") == STORED + FOUND
    assert peopled.ask(GET, user="alice") == ""


def test_an_unknown_user_is_one_line_and_the_last_good_rules_stay(peopled):
    rules(peopled, 'read_only = ["no-such-user"]')
    peopled.run("systemctl restart memcached")
    (line,) = peopled.refusals("memcached")
    assert RULES in line and "no-such-user" in line
    assert peopled.ask(SET, user="nova") == STORED
    assert peopled.ask(GET, user="alice") == ""
    assert peopled.execute("systemctl stop memcached && systemctl start memcached").returncode != 0
    shown = peopled.show("memcached", "ExecMainStatus", "NRestarts")
    assert shown == {"ExecMainStatus": "78", "NRestarts": "0"}


def test_rules_that_cannot_be_kept_end_a_start(peopled):
    families = "[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n"
    peopled.write("/etc/systemd/system/memcached.service.d/60-test.conf", families)
    assert peopled.execute("systemctl daemon-reload && systemctl restart memcached").returncode != 0
    line, again = peopled.refusals("memcached")
    assert "AF_NETLINK" in line
    assert again.endswith("it is wrong with the last good configuration too")
    assert peopled.show("memcached", "ExecMainStatus")["ExecMainStatus"] == "78"


def test_changed_rules_survive_an_upgrade(peopled, upgrade):
    rules(peopled, 'connect = ["root", "alice"]')
    upgrade(peopled)
    assert peopled.ask(SET, user="alice") == STORED
    assert peopled.ask(GET, user="nova") == ""


def test_who_waits_for_the_user_database_is_decided_on_after_a_restart(peopled):
    rules(peopled, 'connect = ["root", "@server", "%operators"]')
    peopled.run("systemctl restart memcached")
    process = peopled.main_process("memcached")
    # In its own view of the file system, reading the groups does not end.
    peopled.run(f"mkfifo /run/never && nsenter --target={process} --mount mount --bind /run/never /etc/group")
    sockets = lambda: peopled.run(f"ls -l /proc/{process}/fd").count("socket:")
    before = sockets()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        staying = pool.submit(peopled.stay, user="bob")
        assert eventually(lambda: sockets() > before)
        assert not staying.done()
        peopled.run("systemctl restart memcached")
        bob = staying.result()
    assert eventually(lambda: peopled.stats()["curr_connections"] == "2")
    assert refusals(peopled, "bob") == []
    peopled.run("systemctl stop memcached")
    assert bob.stdout.read() == "closed\n"
