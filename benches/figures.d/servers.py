"""Servers under test and the tool that drives them: start, pin, call, stop. Nothing here knows what is measured.

Invariants: servers listen on loopback only; whatever was started here is stopped here, by its process id, also when a
measurement fails; a run of the tool with a wrong value or an error reply is a failure, never a figure.
"""

import contextlib
import copy
import json
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import time

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60


class Failure(Exception):
    """Nothing sensible can be measured; the message is one line for the person who called."""


class LeftOut(Exception):
    """One row cannot be measured here; the message says why."""


def cores():
    """The server's core and the tool's."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise Failure("two processor cores are needed, one for the server and one for the load")
    return usable[0], usable[1]


def found(command):
    """The path of a command or a file, or a Failure that names it."""
    path = shutil.which(command)
    if path is None:
        raise Failure(f"{command} is not there or not executable: build or install it, or name another one (--help)")
    return path


def processor():
    """What the machine's processor calls itself."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def pinned(core, command):
    return [found("taskset"), "-c", str(core), *command]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server's program; `running` starts it."""

    def __init__(self, path):
        self.path = found(path)
        words = subprocess.run([self.path, "-V"], capture_output=True, text=True, timeout=20).stdout.split()
        if len(words) < 2:
            raise Failure(f"{path} -V does not say what it is and its version")
        self.label = " ".join(words[:2])
        # Its HTTP port is of no use here; memcached has none and would refuse the flag.
        self.extra = ["--http", "off"] if words[0] == "tokencached" else []

    def with_flags(self, *flags):
        """The same program, started with more flags."""
        other = copy.copy(self)
        other.extra = [*self.extra, *flags]
        other.label = " ".join([self.label, *flags])
        return other

    def refuses(self):
        """What the program says against its flags, or None if it takes them. For tokencached only."""
        ran = subprocess.run([*self.command(free_port(), 64, 1024), "--print-config"], capture_output=True, text=True, timeout=20)
        said = ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"]
        return said[-1] if ran.returncode != 0 else None

    def command(self, port, memory_mb, connections, threads=1):
        return self.started_at(["-l", "127.0.0.1", "-p", str(port)], memory_mb, connections, threads)

    def command_on_socket(self, path, memory_mb, connections, threads=1):
        return self.started_at(["-s", path], memory_mb, connections, threads)

    def started_at(self, place, memory_mb, connections, threads):
        flags = [*place, "-t", str(threads), "-m", str(memory_mb), "-c", str(connections)]
        if os.geteuid() == 0:
            flags += ["-u", "root"]
        return [self.path, *flags, *self.extra]

    @contextlib.contextmanager
    def running(self, memory_mb=64, connections=1024, under=()):
        """A started server, perhaps under another program; stopped on leaving, its exit awaited."""
        port = free_port()
        command = pinned(cores()[0], [*under, *self.command(port, memory_mb, connections)])
        limits = (lambda: limit_files(connections)) if under else None
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=limits
        )
        try:
            await_listening(process, port, self.label)
            yield Running(process.pid, port, self.label)
        finally:
            stop(process)


class Running:
    """A server that listens. Its process id stays the same under taskset and valgrind, which only `exec`."""

    def __init__(self, pid, port, label):
        self.pid, self.port, self.label = pid, port, label


def limit_files(connections):
    """Lowers the soft limit of open files to just what memcached will ask for: valgrind refuses it any other limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (connections, hard))


def await_listening(process, port, label):
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = process.stderr.read().strip().splitlines() if process.stderr else []
            said = said or ["nothing"]
            raise Failure(f"{label} ended while starting and said: {said[-1][:200]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise Failure(f"{label} did not listen on port {port} within {START_SECONDS_MAX} s")


def stop(process, by=signal.SIGTERM):
    """Ends a process that was started here and waits until it is gone."""
    if process.poll() is None:
        process.send_signal(by)
    try:
        process.communicate(timeout=STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


class Tool:
    """tokencached-tool, the source of load."""

    def __init__(self, path):
        self.path = found(path)

    def load(self, server, *flags, **options):
        """Runs `load` with these flags and options (`value_bytes=100` is `--value-bytes 100`) and gives its report."""
        command = [self.path, "load", "--target", f"127.0.0.1:{server.port}"]
        command += ["--server-pid", str(server.pid), "--json"]
        command += [f"--{flag}" for flag in flags]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        ran = subprocess.run(pinned(cores()[1], command), capture_output=True, text=True)
        if not ran.stdout.startswith("{"):
            said = ran.stderr.strip().splitlines() or [f"nothing, exit status {ran.returncode}"]
            raise Failure(f"the tool failed on {server.label}: {said[-1]}")
        report = json.loads(ran.stdout)
        wrong = [name for name in ("wrong_values", "errors", "failed") if report.get(name)]
        if wrong or ran.returncode != 0:
            raise Failure(f"{server.label} answered wrongly: {report.get('first_error') or wrong}")
        return report
