"""A booted Debian: systemd-nspawn over the base system, what is written kept in memory."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from clients import ASK, HOLD, KNOCK, STAY, STRIKE, Talk

ROOT = pathlib.Path(__file__).resolve().parents[2]
SYSTEM = pathlib.Path(os.environ["SYSTEM"])
DEBS = pathlib.Path(os.environ["DEBS"])
CHARM = (ROOT / "tests/config/memcached.conf").read_text()


def eventually(condition, limit_s=60):
    """Polls, and gives whether the condition came true."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def deb(name, revision=1):
    """The path, in the machine, of a package."""
    (found,) = DEBS.glob(f"{name}_*-{revision}_*.deb")
    return f"/packages/{found.name}"


class Machine:
    """What tests do with it; `with` boots and ends it."""

    def __enter__(self):
        # A name of its own, so that several can run at a time.
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="tokencached-"))
        self._log = open(self._folder / "console", "w")
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--volatile=overlay"]
        command += [f"--directory={SYSTEM}", f"--machine=tokencached-{os.urandom(4).hex()}", "--private-network"]
        # Without it nothing in the machine may lock memory, whatever its units say.
        command += ["--capability=CAP_IPC_LOCK"]
        command += [f"--bind-ro={DEBS}:/packages", "--console=pipe"]
        self._nspawn = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            assert eventually(self._has_booted), self.console()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        leader = self._leader()
        if leader:
            # What it wrote goes with it, so there is nothing to shut down.
            os.kill(leader, 9)
        else:
            self._nspawn.terminate()
        self._nspawn.wait(60)
        self._log.close()
        shutil.rmtree(self._folder)

    def console(self):
        return (self._folder / "console").read_text(errors="replace")

    def _leader(self):
        """The process that is the machine's number 1."""
        number = self._nspawn.pid
        try:
            children = pathlib.Path(f"/proc/{number}/task/{number}/children").read_text().split()
            names = {int(child): pathlib.Path(f"/proc/{child}/comm").read_text() for child in children}
        except OSError:
            return None
        return next((child for child, name in names.items() if name == "systemd\n"), None)

    def _has_booted(self):
        assert self._nspawn.poll() is None, self.console()
        return self._leader() and self.run("systemctl is-system-running", check=False).strip() == "running"

    def _enter(self, *kinds):
        return ["nsenter", f"--target={self._leader()}", *kinds]

    def execute(self, command, **options):
        """Runs a shell's command as root; gives what became of it."""
        return subprocess.run(
            [*self._enter("--all"), "/bin/sh", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
            **options,
        )

    def run(self, command, check=True):
        """Runs it, and gives what it said; it has to end well."""
        done = self.execute(command)
        if check:
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def path(self, path):
        """A path of the machine, seen from outside."""
        return pathlib.Path(f"/proc/{self._leader()}/root") / path.lstrip("/")

    def write(self, path, text):
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def _client(self, script, user="root", host="::1", port=11211, unix=None):
        """A command that runs a script as a user of the machine."""
        numbers = self.run(f"id -u {user}; id -g {user}").split()
        place = [str(self.path(unix))] if unix else [host, str(port)]
        return [*self._enter("--net"), sys.executable, "-c", script, *numbers, *place]

    def ask(self, request, **who_and_where):
        """What a server says to this; nothing if none listens, or it closes the connection."""
        done = subprocess.run(
            self._client(ASK, **who_and_where),
            input=request.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=30,
        )
        # Nobody listens, or answers: of all that can go wrong, what these tests ask for.
        is_told = any(error in done.stderr for error in [b"ConnectionRefusedError", b"TimeoutError"])
        assert done.returncode == 0 or is_told, done.stderr.decode()
        return done.stdout.decode()

    def strike(self, **who_and_where):
        """Sends and leaves at once, a thousand times."""
        subprocess.run(self._client(STRIKE, **who_and_where), check=True, timeout=120)

    def stay(self, **who_and_where):
        """A client that stays; its output ends with `closed` once it is."""
        stays = subprocess.Popen(self._client(STAY, **who_and_where), stdout=subprocess.PIPE, text=True)
        assert stays.stdout.readline().startswith("VERSION ")
        return stays

    def knock(self, **who_and_where):
        """A client that connects all the time; `knocks` ends it."""
        knocking = subprocess.Popen(
            self._client(KNOCK, **who_and_where), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert knocking.stdout.readline() == "knocking\n"
        return knocking

    def knocks(self, knocking):
        """How many were served, refused and cut off, and the longest time without service in milliseconds."""
        said, _ = knocking.communicate("", timeout=60)
        return dict(zip(["served", "refused", "cut", "longest_ms"], map(int, said.split())))

    def talk(self, count, **who_and_where):
        """A client that talks over so many connections."""
        return Talk(count, lambda script: self._client(script, **who_and_where))

    def stats(self, **place):
        lines = [line.split(" ", 2) for line in self.ask("stats\r\n", **place).split("\r\n")]
        return {line[1]: line[2] for line in lines if line[0] == "STAT"}

    def metrics(self):
        """What a scrape gets."""
        address = "http://127.0.0.1:9150/metrics"
        script = f"import urllib.request as http; print(http.urlopen('{address}', timeout=10).read().decode())"
        return subprocess.check_output([*self._enter("--net"), sys.executable, "-c", script], text=True, timeout=30)

    def hold(self, host, port):
        """Has somebody else listen there."""
        holder = subprocess.Popen(
            [*self._enter("--net"), sys.executable, "-c", HOLD, host, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout.readline() == b"held\n"
        return holder

    def show(self, unit, *names):
        """Properties of a unit."""
        text = self.run(f"systemctl show {unit} --property={','.join(names)}")
        return dict(line.split("=", 1) for line in text.splitlines())

    def can_lock_memory(self):
        """Whether systemd in it can raise the limit of locked memory (CAP_SYS_RESOURCE)."""
        capabilities = self.run("grep CapEff /proc/1/status").split()[1]
        return int(capabilities, 16) >> 24 & 1

    def main_process(self, unit):
        return int(self.show(unit, "MainPID")["MainPID"])

    def program(self, unit):
        """What the unit runs."""
        return self.run(f"readlink /proc/{self.main_process(unit)}/exe").strip()

    def status(self, unit):
        """The lines of /proc/PID/status."""
        text = self.run(f"cat /proc/{self.main_process(unit)}/status")
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def journal(self, unit):
        """What tokencached has said in this unit since the machine was booted."""
        return self.run(f"journalctl --sync; journalctl -u {unit} -t tokencached -o cat").splitlines()

    def refusals(self, unit):
        """The lines with which it did not start."""
        return [line for line in self.journal(unit) if line.startswith("tokencached: ")]
