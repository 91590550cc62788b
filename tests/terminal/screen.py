"""A terminal with a shell in it, by tmux."""

import os
import shlex
import subprocess
import time

LIMIT_S = 30

# The shell's, so that a prompt is known when it is seen.
PROMPT = "ready>"


class Screen:
    """What a user sees and types."""

    def __init__(self, folder, width=100, height=30):
        self._socket = folder / "tmux"
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        environment.pop("NO_COLOR", None)
        size = ["-x", str(width), "-y", str(height)]
        # tmux runs it by the user's shell, which may not hand its own prompt on.
        shell = f"PS1='{PROMPT} ' exec /bin/sh"
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, shell, environment=environment)
        self.wait(lambda shown: PROMPT in shown)

    def close(self):
        """Ends the shell and what runs in it."""
        self._tmux("kill-server")

    def _tmux(self, *line, environment=None):
        line = ["tmux", "-u", "-S", self._socket, *line]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True, timeout=LIMIT_S)
        return done.stdout

    def run(self, *line, before=""):
        """Types a command; its status is shown when it ends."""
        command = shlex.join(str(word) for word in line)
        self.type(f"clear; {before} {command}; echo status=$?")
        self.press("Enter")

    def type(self, text):
        """Types a text as it is."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys):
        """Presses keys, named as tmux names them."""
        self._tmux("send-keys", *keys)

    def resize(self, width, height):
        """Another size."""
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def shown(self, *options):
        """What is seen."""
        return self._tmux("capture-pane", "-p", *options)

    def wait(self, holds):
        """Looks until it holds, and gives what is seen then."""
        deadline = time.monotonic() + LIMIT_S
        while not holds(shown := self.shown()):
            assert time.monotonic() < deadline, f"not seen in {LIMIT_S} s; the screen:\n{shown}"
            time.sleep(0.05)
        return shown
