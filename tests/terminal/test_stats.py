"""`tokencached-tool stats --http`: what `top` shows, once."""

import json
import subprocess


def ask(tool, *line):
    """What it prints."""
    done = subprocess.run([tool, "stats", *line], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_numbers_are_those_of_the_load(tool, server):
    server.store(["key"])
    server.look_up(["key", "key", "key", "absent"])
    text = ask(tool, "--http", server.http)
    assert "tokencached 0." in text
    assert "Misses: 1 never seen" in text
    (all_of_it,) = [line.split() for line in text.splitlines() if line.startswith("in all")]
    assert all_of_it[2:6] == ["75.0", "%", "4", "1"]


def test_the_admin_socket_tells_the_same(tool, server):
    server.store(["key"])
    assert json.loads(ask(tool, "--admin", server.admin, "--json"))["total"]["sets"] == 1


def test_json_is_the_servers_own(tool, server):
    server.store(["key"])
    server.look_up(["key"])
    status = json.loads(ask(tool, "--http", server.http, "--json"))
    assert status["format"] == 1
    assert (status["total"]["hits"], status["total"]["sets"]) == (1, 1)


def test_memcacheds_statistics_are_json_too(tool, server):
    server.store(["key"])
    stats = json.loads(ask(tool, "--target", f"127.0.0.1:{server.port}", "--json"))
    assert stats["cmd_set"] == "1"
    settings = json.loads(ask(tool, "--target", f"127.0.0.1:{server.port}", "settings", "--json"))
    assert settings["tcpport"] == str(server.port)
