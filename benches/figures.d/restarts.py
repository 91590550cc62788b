"""Servers that are restarted while they are asked.

memcached is stopped and started; tokencached too, by a service manager that keeps its descriptors as systemd does
(that of `tests/e2e`), since it is nothing without one. Nothing here compares the two.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import servers

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/e2e"))

from manager import ServiceManager  # noqa: E402

ASKED_SECONDS = 1
BEFORE_SECONDS = 0.3


class ByHand:
    """Starts a program, and starts it again."""

    def start(self, command, label, port):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        servers.await_listening(process, port, label)
        return process

    def close(self):
        """There is nothing to let go."""


class ByManager:
    """The same, by a service manager."""

    def __init__(self, folder):
        self._manager = ServiceManager(Path(folder))
        self._log = open(Path(folder) / "log", "w", encoding="utf-8")

    def start(self, command, label, port):
        # What the launcher executes has to be a path.
        return self._manager.start(command, dict(os.environ), self._log)

    def close(self):
        self._manager.close()
        self._log.close()


class Restartable:
    """A server at one port, whatever process it is."""

    def __init__(self, program, means):
        self.port, self.label = servers.free_port(), program.label
        self._means = means
        self._command = servers.pinned(servers.cores()[0], program.command(self.port, 64, 1024))
        self._start()

    @property
    def pid(self):
        return self._process.pid

    def _start(self):
        self._process = self._means.start(self._command, self.label, self.port)

    def restart(self):
        self.stop()
        self._start()

    def stop(self):
        servers.stop(self._process)

    def items(self):
        """How many it has."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as peer:
            peer.sendall(b"stats\r\nquit\r\n")
            lines = peer.makefile("rb").read().split(b"\r\n")
        (count,) = (line.split()[2] for line in lines if line.startswith(b"STAT curr_items "))
        return int(count)


@contextlib.contextmanager
def restartable(program):
    """A started server; stopped on leaving."""
    with tempfile.TemporaryDirectory() as folder:
        means = ByManager(folder) if program.label.startswith("tokencached") else ByHand()
        try:
            server = Restartable(program, means)
            try:
                yield server
            finally:
                server.stop()
        finally:
            means.close()


def asked_over_a_restart(tool, server, **options):
    """The tool's report of a second in which the server was restarted."""
    command = [tool.path, "load", "--target", f"127.0.0.1:{server.port}", "--reconnect", "--json"]
    command += ["--seconds", str(ASKED_SECONDS)]
    for name, value in options.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    asking = subprocess.Popen(
        servers.pinned(servers.cores()[1], command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        time.sleep(BEFORE_SECONDS)
        server.restart()
        said, complaint = asking.communicate(timeout=60)
    finally:
        asking.kill()
    report = json.loads(said) if said.startswith("{") else {}
    if asking.returncode != 0 or report.get("wrong_values") or report.get("errors"):
        raise servers.Failure(f"{server.label} answered wrongly: {report.get('first_error') or complaint[-200:]}")
    return report
