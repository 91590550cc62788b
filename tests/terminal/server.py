"""A server that can be killed, stopped and started again at the same addresses."""

import os
import signal
import socket
import subprocess
import time

from local import accepts, find_binary, free_port

START_LIMIT_S = 10
STOP_LIMIT_S = 20


class Server:
    """A process with an HTTP port, and clients for it."""

    def __init__(self, folder):
        self.port = free_port()
        self.http = f"127.0.0.1:{free_port()}"
        self.admin = folder / "admin.sock"
        self._log_path = folder / "server.log"
        self.start()

    def start(self):
        """Starts it, and waits until it listens."""
        line = [find_binary(), "-p", str(self.port), "-l", "127.0.0.1", "--http", self.http]
        line += ["--admin-socket", str(self.admin)]
        if os.geteuid() == 0:
            line += ["-u", "root"]
        with open(self._log_path, "ab") as log:
            self._process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        host, port = self.http.split(":")
        deadline = time.monotonic() + START_LIMIT_S
        while not (accepts(("127.0.0.1", self.port)) and accepts((host, int(port)))):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not start: {self._log_path.read_text()}")
            time.sleep(0.02)

    def kill(self):
        """Ends it without a word."""
        self._process.kill()
        self._process.wait(STOP_LIMIT_S)

    def suspend(self):
        """It accepts, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        """It goes on."""
        self._process.send_signal(signal.SIGCONT)

    def store(self, keys):
        """Sets these."""
        self._ask([f"set {key} 0 300 5\r\nvalue" for key in keys], "STORED")

    def look_up(self, keys):
        """Gets these, found or not."""
        self._ask([f"get {key}" for key in keys], "END")

    def _ask(self, requests, end):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as peer, peer.makefile("rb") as answers:
            for request in requests:
                peer.sendall(request.encode() + b"\r\n")
                while (line := answers.readline()) != f"{end}\r\n".encode():
                    assert line, "the server closed"
