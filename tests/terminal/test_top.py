"""`tokencached-tool top` as its user sees it."""

import os
import pwd
import re
import signal
import subprocess

import pytest

USER = pwd.getpwuid(os.geteuid()).pw_name

INTERVAL = ["--interval", "0.2"]


def is_up(shown):
    """Whether the picture is there, and nothing is wrong."""
    return "Hit rate" in shown and "Services" in shown and "no answer" not in shown


@pytest.fixture
def top(tool, server, screen):
    """It runs, and shows the server."""
    screen.run(tool, "top", "--http", server.http, *INTERVAL)
    screen.wait(is_up)
    return screen


def test_the_numbers_of_a_load_appear_and_change_with_more_of_it(server, top):
    top.wait(lambda shown: "No service has asked for anything yet." in shown)
    # What comes before the server watches is in no window.
    top.wait(lambda shown: " 0 requests/s" in shown)
    stored = [f"key-{number}" for number in range(40)]
    server.store(stored)
    server.look_up(stored)
    server.look_up(f"absent-{number}" for number in range(10))
    # Hit rate, look-ups, sets.
    service = rf"^{USER} +80\.0 % +50 +40 "
    headline = r"^Hit rate +80\.0 % last minute +80\.0 % hour +80\.0 % day$"
    shown = top.wait(lambda shown: has(shown, service) and has(shown, headline))
    assert has(shown, r"never seen +10$")
    assert has(shown, r"^40 items of ")

    server.look_up(stored + stored[:10])
    service = rf"^{USER} +90\.0 % +100 +40 "
    headline = r"^Hit rate +90\.0 % last minute +90\.0 % hour +90\.0 % day$"
    top.wait(lambda shown: has(shown, service) and has(shown, headline))


def test_the_admin_socket_shows_the_same(tool, server, screen):
    screen.run(tool, "top", "--admin", server.admin, *INTERVAL)
    screen.wait(is_up)
    server.store(["key"])
    server.look_up(["key"])
    screen.wait(lambda shown: has(shown, rf"^{USER} +100 % +1 +1 "))


def has(shown, line):
    """Whether there is such a line."""
    return re.search(line, shown, re.MULTILINE)


def test_a_terminal_that_is_resized_is_drawn_anew(top):
    top.wait(lambda shown: "Misses" in shown)
    top.resize(60, 20)
    top.wait(lambda shown: is_up(shown) and "Misses:" in shown and "Look-ups/s" not in shown)
    top.resize(39, 11)
    top.wait(lambda shown: "too small" in shown)
    top.resize(40, 12)
    top.wait(lambda shown: "Hit rate" in shown and "q ends" in shown)
    top.resize(120, 40)
    top.wait(lambda shown: is_up(shown) and "Look-ups/s" in shown and "Connections" in shown)


def test_a_server_that_dies_is_told_and_waited_for(server, top):
    server.store(["key"])
    before = top.wait(lambda shown: "1 items" in shown)
    server.kill()
    told = rf"no answer from {server.http} since \d\d:\d\d:\d\d: Connection refused"
    shown = top.wait(lambda shown: re.search(told, shown))
    assert "1 items" in before and "1 items" in shown, "the last figures stay"
    server.start()
    top.wait(lambda shown: is_up(shown) and "0 items" in shown)


def test_keys_are_answered_while_the_server_is_not_answering(server, top):
    server.suspend()
    try:
        top.press("?")
        top.wait(lambda shown: "refresh at once" in shown)
        top.press("?")
        top.wait(lambda shown: "refresh at once" not in shown)
        top.wait(lambda shown: "no answer within 5 s" in shown)
    finally:
        server.resume()
    top.wait(is_up)


@pytest.mark.parametrize("key", ["q", "Escape", "C-c"])
def test_a_key_ends_it_and_the_terminal_is_as_it_was(top, key):
    top.press(key)
    assert_restored(top)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_the_terminal_is_as_it_was(server, top, number):
    # Each test's server has an address of its own.
    found = subprocess.run(["pgrep", "-f", f"top --http {server.http}"], capture_output=True, text=True, check=True)
    (pid,) = found.stdout.split()
    os.kill(int(pid), number)
    assert_restored(top)


def assert_restored(screen):
    """The picture is gone, status 0 is there, and the shell reads lines and echoes them."""
    screen.wait(lambda shown: "status=0" in shown and "Hit rate" not in shown)
    screen.run("stty", "-a")
    shown = screen.wait(lambda shown: "icanon" in shown and "status=0" in shown)
    assert "-icanon" not in shown
    assert "-echo " not in shown
    assert "-isig" not in shown


def test_without_colours_there_are_none(tool, server, screen):
    coloured = re.compile(r"\x1b\[[0-9;]*3([0-7]|8;[0-9;]+)m")
    screen.run(tool, "top", "--http", server.http, *INTERVAL)
    screen.wait(is_up)
    assert coloured.search(screen.shown("-e"))
    screen.press("q")
    screen.wait(lambda shown: "status=0" in shown)
    screen.run(tool, "top", "--http", server.http, *INTERVAL, before="NO_COLOR=1")
    screen.wait(is_up)
    assert not coloured.search(screen.shown("-e"))


def test_a_server_that_is_not_there_is_a_line_and_no_screen(tool, server, screen):
    server.kill()
    screen.resize(200, 30)
    screen.run(tool, "top", "--http", server.http)
    shown = screen.wait(lambda shown: "status=" in shown.replace("status=$?", ""))
    lines = shown.split("\n")
    (line,) = [line for line in lines if line.startswith(f"cannot reach {server.http}: Connection refused")]
    assert "--http" in line
    assert lines[lines.index(line) + 1] == "status=1"


def test_another_server_is_a_line_and_no_screen(tool, server, screen):
    screen.resize(200, 30)
    screen.run(tool, "top", "--http", f"127.0.0.1:{server.port}")
    shown = screen.wait(lambda shown: "status=1" in shown)
    assert "is this a tokencached's --http or admin socket?" in shown


def test_where_there_is_no_terminal_it_says_what_to_use(tool, server):
    line = [tool, "top", "--http", server.http]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"tokencached-tool stats --http {server.http}" in done.stderr
