"""Apache with mod_wsgi for one application, apart from the machine's own Apache.

As OpenStack's services run: several processes of several threads. Everything that
Apache reads and writes is in one folder. As root it needs a user to change to, who
must be able to read that folder and the virtualenv.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from local import free_port

PROGRAM = "/usr/sbin/apache2"
MODULES = "/usr/lib/apache2/modules"
USER = "www-data"

PROCESSES = 4
THREADS = 4

START_LIMIT_S = 60
STOP_LIMIT_S = 20

CONFIG = """\
ServerRoot {directory}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
{user}
PidFile {directory}/apache.pid
Mutex file:{directory} default
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
ErrorLog {directory}/error.log
LogFormat "%m %U %>s" request
CustomLog {directory}/access.log request
WSGISocketPrefix {directory}/wsgi
WSGIDaemonProcess application processes={processes} threads={threads} \\
    home={directory} python-home={python_home} lang=C.UTF-8 locale=C.UTF-8
WSGIScriptAlias / {directory}/application.py \\
    process-group=application application-group=%{{GLOBAL}}
<Directory {directory}>
    Require all granted
</Directory>
"""


def runs_as_root():
    """Whether Apache has to change to another user."""
    return os.geteuid() == 0


def hand_over(directory):
    """Gives a folder and all in it to the user as whom Apache's processes run."""
    if runs_as_root():
        for path in [directory, *directory.rglob("*")]:
            shutil.chown(path, USER, USER)


def readable_venv(directory):
    """This virtualenv, or a copy in `directory` if it is where Apache's user may not look."""
    venv = pathlib.Path(sys.prefix)
    if not runs_as_root():
        return venv
    test = ["test", "-r", str(venv / "pyvenv.cfg")]
    if subprocess.run(test, user=USER, group=USER, extra_groups=[], check=False).returncode == 0:
        return venv
    return shutil.copytree(venv, directory / "venv", symlinks=True)


class Apache:
    """One running Apache. `script` is the text of the WSGI script."""

    def __init__(self, directory, python_home, script):
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (directory / "application.py").write_text(script)
        config = directory / "apache.conf"
        config.write_text(
            CONFIG.format(
                directory=directory,
                port=self.port,
                user=f"User {USER}\nGroup {USER}" if runs_as_root() else "",
                modules=MODULES,
                processes=PROCESSES,
                threads=THREADS,
                python_home=python_home,
            )
        )
        hand_over(directory)
        # A session of its own, so that its process group is Apache and nothing else.
        self._process = subprocess.Popen(
            [PROGRAM, "-f", str(config), "-D", "FOREGROUND"],
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._wait_until_answering()
        except BaseException:
            self.stop()
            raise

    def _wait_until_answering(self):
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Apache did not start:\n{self.error_log()}")
            time.sleep(0.05)

    def _answers(self):
        try:
            urllib.request.urlopen(self.url, timeout=START_LIMIT_S).close()
        except urllib.error.HTTPError as answer:
            return answer.code < 500
        except OSError:
            return False
        return True

    def requests(self, line):
        """How many requests the access log has that begin so: method, path."""
        log = (self.directory / "access.log").read_text()
        return sum(one.startswith(f"{line} ") for one in log.splitlines())

    def error_log(self):
        """What Apache and the application wrote so far."""
        path = self.directory / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self):
        """SIGTERM, as `apachectl stop`; what is left of the process group after it is killed."""
        self._process.terminate()
        try:
            status = self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            status = f"still running {STOP_LIMIT_S} s after SIGTERM"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
            status = f"{status}, and processes were left"
        self._process.wait()
        return status
