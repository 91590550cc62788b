"""A service manager that keeps descriptors over a restart, as systemd's FileDescriptorStoreMax=.

What a service sends to `NOTIFY_SOCKET` (sd_notify(3)) is kept by its name, and handed to the
next process from number 3 on (sd_listen_fds(3)).
"""

import os
import socket
import subprocess
import sys
import threading

START_LIMIT_S = 10

# Far more than a server has addresses.
STORED_MAX = 64

# Lays the descriptors out and becomes the service. It takes a program, since `LISTEN_PID` is the
# number of the process that is to have them.
LAUNCHER = """
import fcntl, os, sys
names, numbers, command = sys.argv[1], sys.argv[2].split(), sys.argv[3:]
above = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 400) for number in numbers]
for number, descriptor in enumerate(above, 3):
    os.dup2(descriptor, number)
os.closerange(3 + len(above), 1000)
if above:
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(above))
    os.environ["LISTEN_FDNAMES"] = names
os.execv(command[0], command)
"""


class ServiceManager:
    """The manager of one service."""

    def __init__(self, directory):
        self._address = str(directory / "notify.socket")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._address)
        self._stored = []  # (name, descriptor)
        self._is_ready = threading.Event()
        self._receiver = threading.Thread(target=self._receive)
        self._receiver.start()

    def start(self, command, environment, log):
        """A process of the service, once it has said that it serves."""
        self._is_ready.clear()
        # All that the last process sent has been received: what it sent as it started came before its
        # READY=1, and for the rest it waited with BARRIER=1 before it ended.
        names, numbers = zip(*self._stored) if self._stored else ((), ())
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER]
        process = subprocess.Popen(
            [*launcher, ":".join(names), " ".join(map(str, numbers)), *command],
            env=environment | {"NOTIFY_SOCKET": self._address},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=numbers,
        )
        if not self._is_ready.wait(START_LIMIT_S):
            process.kill()
            process.wait()
            raise RuntimeError("the service did not say that it is ready")
        return process

    def close(self):
        """Lets everything go. No process of the service may run any more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._receiver.join()
        self._socket.close()
        self._forget(lambda name: True)

    def _receive(self):
        while True:
            message, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 8)
            if not message:
                return
            self._note(message.decode().splitlines(), descriptors)

    def _note(self, lines, descriptors):
        """Does what a message says; closes what is not kept, which is the answer to BARRIER=1."""
        fields = dict(line.split("=", 1) for line in lines)
        name = fields.get("FDNAME", "stored")
        if "FDSTOREREMOVE" in fields:
            self._forget(lambda stored: stored == name)
        for descriptor in descriptors:
            if "FDSTORE" in fields and self._takes(descriptor):
                self._stored.append((name, descriptor))
            else:
                os.close(descriptor)
        if "READY" in fields:
            self._is_ready.set()

    def _takes(self, descriptor):
        """Whether there is room for it, and it is not there already, whatever its name was."""
        is_there = any(os.path.sameopenfile(descriptor, stored) for _, stored in self._stored)
        return not is_there and len(self._stored) < STORED_MAX

    def _forget(self, is_meant):
        for name, descriptor in self._stored:
            if is_meant(name):
                os.close(descriptor)
        self._stored = [entry for entry in self._stored if not is_meant(entry[0])]
