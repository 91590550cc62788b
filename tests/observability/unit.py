"""A unit's server: its process, what it is asked in the text protocol, and what it says of itself."""

import os
import socket
import subprocess
import time
import urllib.request

from exposition import Scrape
from local import accepts, free_port

START_LIMIT_S = 10
STOP_LIMIT_S = 20

# Whoever asks for metrics within a tenth of a second of somebody else is given the same answer.
OTHERS_ANSWER_S = 0.15

# Who is refused, and may be anybody that the machine has.
STRANGER = "nobody"
RULES = f"""
access.default = "allow"
access.deny = ["{STRANGER}"]
"""


class Unit:
    """A running server with its metrics port."""

    def __init__(self, binary, folder, *flags):
        folder.mkdir()
        rules = folder / "rules.toml"
        rules.write_text(RULES)
        self.port = free_port()
        self.http_port = free_port()
        self.http = f"127.0.0.1:{self.http_port}"
        self.log_path = folder / "log"
        self._command = [binary, "-p", str(self.port), "-l", "127.0.0.1", "--http", self.http, "--config", rules, *flags]
        if os.geteuid() == 0:
            self._command += ["-u", "root"]
        self.start()

    def start(self):
        """Once more, after it was closed, on the ports it had."""
        with open(self.log_path, "wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_LIMIT_S
        while not all(accepts(("127.0.0.1", port)) for port in (self.port, self.http_port)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"the server did not start: {self.log_path.read_text()}")
            time.sleep(0.02)

    def close(self):
        """SIGTERM; kills a process that does not end."""
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def connect(self):
        """A client."""
        return Client(socket.create_connection(("127.0.0.1", self.port), timeout=10))

    def scrape(self):
        """What it answers on its metrics port, with all that has been asked of it so far."""
        time.sleep(OTHERS_ANSWER_S)
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=10) as answer:
            return Scrape(answer.read().decode())


class Client:
    """A client of the text protocol."""

    def __init__(self, peer):
        self._peer = peer
        self._answers = peer.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._answers.close()
        self._peer.close()

    def ask(self, line, value=None):
        """Sends a command, with its value if it has one, and gives the first line of the answer."""
        self._peer.sendall(line.encode() + b"\r\n" + (b"" if value is None else value + b"\r\n"))
        return self._line()

    def set(self, key, value, ttl=300):
        """Stores, and gives the answer."""
        return self.ask(f"set {key} 0 {ttl} {len(value)}", value)

    def get(self, key):
        """The value, or None."""
        head = self.ask(f"get {key}")
        if head == "END":
            return None
        value = self._answers.read(int(head.split()[3]) + 2)[:-2]
        assert self._line() == "END"
        return value

    def stats(self, *argument):
        """`stats` as a dict."""
        stats, line = {}, self.ask(" ".join(["stats", *argument]))
        while line != "END":
            _, name, value = line.split(" ", 2)
            stats[name] = value
            line = self._line()
        return stats

    def _line(self):
        line = self._answers.readline()
        assert line.endswith(b"\r\n"), f"closed after {line!r}"
        return line[:-2].decode()
