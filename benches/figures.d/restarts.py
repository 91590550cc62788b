"""Servers that are restarted while they are asked: memcached is stopped and started, tokencached gets SIGUSR2.

Nothing here compares the two. Invariant: a restart that did not happen is a failure, never a figure.
"""

import contextlib
import json
import signal
import socket
import subprocess
import tempfile
import time

import servers

ASKED_SECONDS = 1
BEFORE_SECONDS = 0.3


class Restartable:
    """A server at one port, whatever process it is."""

    def __init__(self, program, log):
        self.port, self.label = servers.free_port(), program.label
        self._log = log
        self._command = servers.pinned(servers.cores()[0], program.command(self.port, 64, 1024))
        self._goes_on = program.label.startswith("tokencached")
        self._start()

    @property
    def pid(self):
        return self._process.pid

    def _start(self):
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=self._log, stdin=subprocess.DEVNULL, text=True
        )
        servers.await_listening(self._process, self.port, self.label)

    def restart(self):
        """Returns when it serves again."""
        if not self._goes_on:
            self.stop()
            return self._start()
        starts = self._starts()
        self._process.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + servers.START_SECONDS_MAX
        while self._starts() == starts:
            if time.monotonic() > deadline:
                raise servers.Failure(f"{self.label} does not restart on SIGUSR2")
            time.sleep(0.01)

    def _starts(self):
        """How often it has said where it listens."""
        with open(self._log.name, encoding="utf-8") as log:
            return log.read().count("listening on tcp:")

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
    with tempfile.NamedTemporaryFile("w") as log:
        server = Restartable(program, log)
        try:
            yield server
        finally:
            server.stop()


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
