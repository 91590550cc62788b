"""The server under test, as a mode starts it."""

import os
import pathlib
import signal
import subprocess
import time

from local import accepts, free_port
from manager import ServiceManager
from sockets import established_tcp, established_unix, half_closed_tcp

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
        self.admin_socket = directory / "admin.sock"
        self._process = None
        mode.prepare(directory)

    def close(self):
        """Lets go what outlives its processes."""

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
            line += ["--http", "off", "--admin-socket", str(self.admin_socket)]
            line += ["--config", str(RULES)]
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
            self._process = self._launch(log)
        deadline = time.monotonic() + START_LIMIT_S
        while not accepts(self._path_or_host_and_port()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the server did not start: {self.log_path.read_text()}")
            time.sleep(0.02)

    def _launch(self, log):
        return subprocess.Popen(
            self._command_line(),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

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

    def restart(self):
        """Stops and starts it."""
        status = self.stop()
        if status != 0:
            raise RuntimeError(f"the server ended with {status}: {self.log_path.read_text()}")
        self.start()

    def replace(self):
        """SIGUSR2: it executes its program in its own place. Waits until that serves."""
        before = self._successors()
        self._process.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + START_LIMIT_S
        while self._successors() == before:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not go on: {self.log_path.read_text()}")
            time.sleep(0.02)

    def _successors(self):
        """How many processes have told that they took the items of another."""
        return self.log_path.read_text().count(" items over in ")

    def connections(self):
        """Its clients' connections, by the numbers that the kernel gives the server's sockets.

        Such a number belongs to the connection, whichever process holds the socket.
        """
        if self._mode.transport == "unix":
            return established_unix(self._path)
        return established_tcp(self._port)

    def unnoticed_ends(self):
        """How many TCP connections are closed at its end without their clients knowing yet."""
        return half_closed_tcp(self._port)


class ManagedCache(Cache):
    """The server under a service manager that keeps descriptors."""

    def __init__(self, binary, directory, mode):
        super().__init__(binary, directory, mode)
        self._manager = ServiceManager(directory)

    def _launch(self, log):
        return self._manager.start(self._command_line(), self._environment(), log)

    def crash(self):
        """SIGKILL, after which the manager starts it anew."""
        self._process.kill()
        self._process.wait()
        self.start()

    def close(self):
        """Lets go what outlives its processes."""
        self._manager.close()
