"""The server under test, as a mode starts it."""

import os
import pathlib
import subprocess
import time

from local import accepts, free_port

START_LIMIT_S = 10
STOP_LIMIT_S = 20

# The access rules that the packages ship: Apache runs as a user of the system's.
RULES = pathlib.Path(__file__).resolve().parents[2] / "systemd/takeover.toml"


class Cache:
    """The server at an address of its own; it can be stopped and started there again."""

    def __init__(self, binary, directory, mode):
        self.log_path = directory / "cache.log"
        self._binary = binary
        self._mode = mode
        self._folder = directory
        self._port = free_port()
        self._path = directory / "cache.socket"
        self._process = None
        mode.prepare(directory)

    @property
    def address(self):
        """As it is written in `memcached_servers`."""
        return {
            "inet": f"127.0.0.1:{self._port}",
            "inet6": f"inet6:[::1]:{self._port}",
            "unix": f"unix:{self._path}",
        }[self._mode.transport]

    def _command_line(self):
        line = [str(self._binary), "-m", "64", "-U", "0"]
        if self._mode.transport == "unix":
            line += ["-s", str(self._path), "-a", "0777"]
        else:
            line += ["-p", str(self._port), "-l", self._host()]
        if os.geteuid() == 0:
            line += ["-u", "root"]
        if self._binary.name.startswith("tokencached"):
            line += ["--http", "off", "--config", str(RULES)]
        return line + [self._filled_in(flag) for flag in self._mode.server_flags]

    def _environment(self):
        own = self._mode.server_environment
        return os.environ | {name: self._filled_in(value) for name, value in own.items()}

    def _filled_in(self, text):
        return text.replace("{folder}", str(self._folder))

    def _host(self):
        return "::1" if self._mode.transport == "inet6" else "127.0.0.1"

    def start(self):
        """Starts the process and waits until it accepts connections."""
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                self._command_line(),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_LIMIT_S
        while not accepts(self._path_or_host_and_port()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the server did not start: {self.log_path.read_text()}")
            time.sleep(0.02)

    def _path_or_host_and_port(self):
        return self._path if self._mode.transport == "unix" else (self._host(), self._port)

    def stop(self):
        """SIGTERM, if it runs; gives the exit status, and kills a process that does not end."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"still running {STOP_LIMIT_S} s after SIGTERM"
