"""Clients of a server in a booted machine: scripts that run in its network, as one of its users."""

import json
import subprocess

# What runs in the machine's network, with this machine's Python, begins with this: arguments are a user's number,
# that of the group, and where the server is: host and port, or the path of a unix socket, which only root can see from here.
CLIENT = """
# All of it now: another user may not be able to read this Python.
import encodings.idna, os, socket, struct, sys
uid, gid, *place = sys.argv[1:]
if len(place) == 1:
    place = f"/proc/self/fd/{os.open(place[0], os.O_PATH)}"
else:
    place = (place[0], int(place[1]))
os.setgroups([])
os.setgid(int(gid))
os.setuid(int(uid))

def connect():
    if isinstance(place, tuple):
        return socket.create_connection(place, 10)
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(10)
    peer.connect(place)
    return peer
"""

# Says what it reads, once the server has answered; a reset is the end of the answer.
ASK = CLIENT + """
peer = connect()
try:
    peer.sendall(b"version\\r\\n")
    if answer := peer.recv(65536):
        peer.sendall(sys.stdin.buffer.read() + b"quit\\r\\n")
        while answer := peer.recv(65536):
            sys.stdout.buffer.write(answer)
except (ConnectionResetError, BrokenPipeError):
    pass
"""

# Sends and leaves at once, a thousand times, by closing and by a reset.
STRIKE = CLIENT + """
for number in range(1000):
    peer = connect()
    if number % 2:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    try:
        peer.sendall(b"set forged%d 0 0 1\\r\\nX\\r\\n" % number)
    except OSError:
        pass
    peer.close()
"""

# Stays until it is closed.
STAY = CLIENT + """
peer = connect()
peer.sendall(b"version\\r\\n")
print(peer.recv(100).decode().strip(), flush=True)
peer.settimeout(60)
try:
    print("closed" if peer.recv(100) == b"" else "told")
except ConnectionResetError:
    print("closed")
"""

# Connects and asks, again and again, until its input ends. Says how many were served, how many refused, how many
# cut off, and the longest time between two that were served, in milliseconds.
KNOCK = CLIENT + """
import select, time
served = refused = cut = 0
longest = 0.0
last = time.monotonic()
print("knocking", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        peer = connect()
    except ConnectionRefusedError:
        refused += 1
        continue
    try:
        peer.sendall(b"version\\r\\n")
        if not peer.recv(100).startswith(b"VERSION"):
            cut += 1
            continue
    except (ConnectionResetError, BrokenPipeError):
        cut += 1
        continue
    finally:
        peer.close()
    now = time.monotonic()
    longest, last = max(longest, now - last), now
    served += 1
print(served, refused, cut, int(longest * 1000))
"""

# As above; holds an address until it is ended.
HOLD = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
held = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
print("held", flush=True)
sys.stdin.read()
"""

# Talks over COUNT connections: each has a part of its request sent (nothing and all of it are parts too), then each
# the rest, then each the answer read and checked. A line of input makes it wait between the parts, another go on; the
# end of input ends it. Says what came of it: answers that were right and wrong, connections that broke, and the longest
# time between two answers of one, in milliseconds. An answer that does not come is the end of it.
TALK = "import json, random, select, time" + CLIENT + """
def readable(limit_s):
    return select.select([sys.stdin], [], [], limit_s)[0]

class Talker:
    def __init__(self, number):
        self.peer = connect()
        if self.peer.family != socket.AF_UNIX:
            # Or the rest of a request waits until its beginning has been acknowledged.
            self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.random = random.Random(number)
        self.key = b"tokens/%d-%d" % (os.getpid(), number)
        self.lengths = [1, 100, 10_000, 200_000] if number % 10 == 0 else [1, 100, 10_000]
        self.exchanges = self.conversation()
        self.answered_at = time.monotonic()

    def conversation(self):
        while True:
            value = self.random.randbytes(self.random.choice(self.lengths))
            found = b"VALUE %s 7 %d\\r\\n%s\\r\\nEND\\r\\n" % (self.key, len(value), value)
            # What was deleted has not come back.
            yield b"get %s\\r\\n" % self.key, b"END\\r\\n"
            yield b"set %s 7 0 %d\\r\\n%s\\r\\n" % (self.key, len(value), value), b"STORED\\r\\n"
            yield b"get %s\\r\\n" % self.key, found
            yield b"get %s\\r\\ndelete %s\\r\\nget %s\\r\\n" % ((self.key,) * 3), found + b"DELETED\\r\\nEND\\r\\n"

    def begin(self):
        self.request, self.expected = next(self.exchanges)
        self.cut = self.random.choice([0, self.random.randrange(len(self.request)), len(self.request)])
        self.peer.sendall(self.request[: self.cut])

    def finish(self):
        self.peer.sendall(self.request[self.cut :])

    def is_right(self):
        answer = b""
        while len(answer) < len(self.expected):
            answer += self.peer.recv(len(self.expected) - len(answer)) or self.broke()
        return answer == self.expected

    def waited(self):
        last, self.answered_at = self.answered_at, time.monotonic()
        return self.answered_at - last

    def has_more(self):
        return select.select([self.peer], [], [], 0)[0]

    @staticmethod
    def broke():
        raise BrokenPipeError

talkers = [Talker(number) for number in range(COUNT)]
told = dict.fromkeys(["right", "wrong", "broken", "longest_ms"], 0)

def each(act):
    for talker in list(talkers):
        try:
            act(talker)
        except (BrokenPipeError, ConnectionResetError):
            told["broken"] += 1
            talkers.remove(talker)

def answer(talker):
    if not talker.is_right():
        told["wrong"] += 1
        # What it says from now on belongs to nothing.
        talkers.remove(talker)
        return
    told["right"] += 1
    told["longest_ms"] = max(told["longest_ms"], int(talker.waited() * 1000))

print("talking", flush=True)
ends = False
while not ends:
    each(Talker.begin)
    if readable(0 if talkers else None):
        ends = not sys.stdin.readline()
        if not ends:
            print("waiting", flush=True)
            sys.stdin.readline()
            each(Talker.waited)
            print("talking", flush=True)
    each(Talker.finish)
    each(answer)
told["wrong"] += sum(1 for talker in talkers if talker.has_more())
print(json.dumps(told))
"""


class Talk:
    """A client that talks over many connections, all the time."""

    def __init__(self, count, client):
        command = client(f"COUNT = {count}\n{TALK}")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._hear("talking")

    def wait(self):
        """Has it wait, with parts of requests sent."""
        self._say("waiting")

    def go_on(self):
        """Has it talk again."""
        self._say("talking")

    def end(self):
        """How many answers were `right` and `wrong`, how many connections `broken`, and `longest_ms`."""
        said, _ = self._process.communicate("", timeout=60)
        assert self._process.returncode == 0
        return json.loads(said)

    def _say(self, answer):
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._hear(answer)

    def _hear(self, answer):
        assert self._process.stdout.readline() == f"{answer}\n"
