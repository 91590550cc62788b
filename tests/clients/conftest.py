"""Starts the server under test and loads the recorded token values.

Two instances run for the whole session, because memcached's `-s` turns TCP off:
one listens on 127.0.0.1 and ::1, the other on a unix socket. Two more with SASL and
one with TLS start when a test first asks for them. A test sees an *endpoint*:
one of them, emptied, together with the address by which to reach it.
Every test can be run against memcached too (`TOKENCACHED=/usr/bin/memcached`);
what it asserts is memcached's behaviour unless it says otherwise.
"""

import base64
import collections
import concurrent.futures
import contextlib
import copy
import io
import json
import os
import secrets
import ssl
import subprocess
import threading
import time

import bmemcached
import pymemcache
import pytest
import zstandard

import secured
from local import IPV6, ROOT, accepts, find_binary, free_port

CORPUS = ROOT / "tests" / "corpus" / "tokens.jsonl.zst"

START_LIMIT_S = 10
STOP_LIMIT_S = 20

TRANSPORTS = ("inet", "inet6", "unix")


def import_pylibmc():
    """pylibmc where it could be built; otherwise the test or its file is left out."""
    missing = "left out: install libmemcached-dev zlib1g-dev gcc python3-dev"
    return pytest.importorskip("pylibmc", reason=missing)


# --- the server -------------------------------------------------------------


class Server:
    """One running server process, started with memcached's own flags."""

    flags = ()
    environment = {}
    client_options = {}  # of every pymemcache client

    def __init__(self, binary, directory, transport, port=None):
        directory.mkdir(parents=True, exist_ok=True)
        self._prepare(directory)
        self.log_path = directory / "server.log"
        self.is_tokencached = binary.name.startswith("tokencached")
        self.port = None if transport == "unix" else port or free_port()
        self.path = directory / "socket" if transport == "unix" else None
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                self._command_line(binary),
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._control = self.client()
        try:
            self._wait_until_answering()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _prepare(self, directory):
        """Writes what the flags name."""

    def _command_line(self, binary):
        line = [str(binary), "-m", "64", "-U", "0"]
        if self.path:
            line += ["-s", str(self.path), "-a", "0777"]
        else:
            line += ["-p", str(self.port), "-l", "127.0.0.1"]
            line += ["-l", "::1"] if IPV6 else []
        if os.geteuid() == 0:
            line += ["-u", "root"]
        if self.is_tokencached:
            line += ["--http", "off"]
        return [*line, *self.flags]

    def _wait_until_answering(self):
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if self.process.poll() is not None:
                status = self.process.returncode
                raise RuntimeError(f"the server ended at once, status {status}: {self.log()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server does not answer: {self.log()}")
            time.sleep(0.02)

    def _answers(self):
        try:
            return bool(self._control.version())
        except (OSError, pymemcache.MemcacheUnexpectedCloseError):
            return False

    def log(self):
        """What the process wrote so far."""
        return self.log_path.read_text(errors="replace")

    def client(self, host="127.0.0.1", **options):
        """A new pymemcache client; it waits for every reply unless told otherwise."""
        defaults = {"timeout": 10, "connect_timeout": 5, "default_noreply": False}
        options = defaults | self.client_options | options
        return pymemcache.Client(str(self.path) if self.path else (host, self.port), **options)

    def stats(self):
        """The answer to `stats`, with numbers as int."""
        return {name.decode(): value for name, value in self._control.stats().items()}

    @contextlib.contextmanager
    def counting(self):
        """Yields a Counter that, after the block, holds how far each number in `stats` moved."""
        moved = collections.Counter()
        before = self.stats()
        yield moved
        moved.update(
            {
                name: value - before[name]
                for name, value in self.stats().items()
                if isinstance(value, int) and isinstance(before.get(name), int)
            }
        )

    def empty(self):
        """Removes every item."""
        assert self._control.flush_all()

    def stop(self):
        """SIGTERM; gives the exit status, and kills a process that does not end."""
        self._control.close()
        self.process.terminate()
        try:
            return self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"still running {STOP_LIMIT_S} s after SIGTERM"


class SaslServer(Server):
    """It serves nobody but one user, and the binary protocol alone."""

    def _prepare(self, directory):
        self.username = "api"
        self.password = secrets.token_hex(16)
        secured.write_passwords(directory, self.username, self.password)
        self.flags = secured.sasl_flags(directory)
        self.environment = secured.sasl_environment(directory)

    def _answers(self):
        return accepts(self.path or ("127.0.0.1", self.port))

    def empty(self):
        """Removes every item."""
        client = bmemcached.Client(
            [str(self.path or f"127.0.0.1:{self.port}")], self.username, self.password
        )
        assert client.flush_all()
        client.disconnect_all()


class TlsServer(Server):
    """It speaks nothing but TLS; `certificate` is what its clients trust."""

    def _prepare(self, directory):
        secured.make_certificate(directory)
        self.certificate = directory / "certificate.pem"
        self.flags = secured.tls_flags(directory)
        self.context = ssl.create_default_context(cafile=self.certificate)
        self.client_options = {"tls_context": self.context}


class Endpoint:
    """A server and the transport by which a test reaches it."""

    def __init__(self, server, transport):
        self.server = server
        self.transport = transport

    @property
    def address(self):
        """As it is written in `memcached_servers`."""
        return {
            "inet": f"127.0.0.1:{self.server.port}",
            "inet6": f"inet6:[::1]:{self.server.port}",
            "unix": f"unix:{self.server.path}",
        }[self.transport]

    @property
    def plain_address(self):
        """As other libraries than python-memcached write it."""
        return {
            "inet": f"127.0.0.1:{self.server.port}",
            "inet6": f"[::1]:{self.server.port}",
            "unix": str(self.server.path),
        }[self.transport]

    @property
    def credentials(self):
        """The user and the password as arguments of a client, where the server asks for them."""
        if isinstance(self.server, SaslServer):
            return {"username": self.server.username, "password": self.server.password}
        return {}

    @property
    def tls(self):
        """The TLS context as an argument of a client, where the server asks for it."""
        if isinstance(self.server, TlsServer):
            return {"tls_context": self.server.context}
        return {}

    def client(self, **options):
        """A new pymemcache client over this transport."""
        return self.server.client("::1" if self.transport == "inet6" else "127.0.0.1", **options)


@pytest.fixture(scope="session")
def binary():
    """The server under test."""
    path = find_binary()
    if not path.exists():
        pytest.exit(f"no server at {path}: cargo build --release, or set TOKENCACHED", 2)
    return path


@contextlib.contextmanager
def running(binary, directory, transport, port=None, kind=Server):
    """A server for the length of the block; SIGTERM must end it with status 0."""
    server = kind(binary, directory, transport, port)
    try:
        yield server
    finally:
        status = server.stop()
    assert status == 0, server.log()


@pytest.fixture(scope="session")
def servers(binary, tmp_path_factory):
    """The session's servers by transport (inet and inet6 are one process)."""
    directory = tmp_path_factory.mktemp("server")
    with (
        running(binary, directory / "tcp", "inet") as tcp,
        running(binary, directory / "unix", "unix") as unix,
    ):
        yield {"inet": tcp, "inet6": tcp, "unix": unix}


@pytest.fixture(scope="session")
def sasl_servers(binary, tmp_path_factory):
    """The session's servers with SASL by transport."""
    directory = tmp_path_factory.mktemp("sasl")
    with (
        running(binary, directory / "tcp", "inet", kind=SaslServer) as tcp,
        running(binary, directory / "unix", "unix", kind=SaslServer) as unix,
    ):
        yield {"inet": tcp, "inet6": tcp, "unix": unix}


@pytest.fixture(scope="session")
def tls_servers(binary, tmp_path_factory):
    """The session's server with TLS by transport; memcached has no TLS on unix sockets."""
    with running(binary, tmp_path_factory.mktemp("tls"), "inet", kind=TlsServer) as tcp:
        yield {"inet": tcp, "inet6": tcp}


# Each way to reach a server: the fixture of its servers, and the transport.
WAYS = {transport: ("servers", transport) for transport in TRANSPORTS} | {
    "SASL": ("sasl_servers", "inet"),
    "SASL-unix": ("sasl_servers", "unix"),
    "TLS": ("tls_servers", "inet"),
    "TLS-inet6": ("tls_servers", "inet6"),
}


@pytest.fixture
def reach(request):
    """`reach(way)` gives an endpoint, its server emptied."""

    def reach(way):
        fixture, transport = WAYS[way]
        if transport == "inet6" and not IPV6:
            pytest.skip("this machine has no ::1")
        endpoint = Endpoint(request.getfixturevalue(fixture)[transport], transport)
        endpoint.server.empty()
        return endpoint

    return reach


@pytest.fixture(params=TRANSPORTS)
def endpoint(request, reach):
    """Each transport in turn, to an empty server."""
    return reach(request.param)


@pytest.fixture(params=WAYS)
def any_endpoint(request, reach):
    """Each transport in turn, and each with SASL and TLS, to an empty server."""
    return reach(request.param)


@pytest.fixture
def server(servers):
    """The TCP server, emptied, for tests to which the transport does not matter."""
    servers["inet"].empty()
    return servers["inet"]


@pytest.fixture
def own_server(binary, tmp_path):
    """A fresh server for one test that changes settings or reads absolute counts."""
    with running(binary, tmp_path, "inet") as server:
        yield server


# --- the corpus -------------------------------------------------------------


class Recorded:
    """One recorded `set` of keystonemiddleware."""

    def __init__(self, line):
        fields = json.loads(line)
        self.key = fields["key"]
        self.flags = fields["flags"]
        self.exptime = fields["exptime"]
        self.strategy = fields["strategy"]
        self.value = base64.b64decode(fields["value_b64"])

    def __repr__(self):
        return f"<{self.strategy} value of {len(self.value)} bytes>"


class Token:
    """A token as Keystone's answer to a validation; it expires in 2099."""

    def __init__(self, recorded):
        self.body = json.loads(recorded.value)
        self.id = self.body["token"]["auth_token"]
        self.body["token"]["expires_at"] = "2099-01-01T00:00:00.000000Z"

    def copy(self):
        """A body of one's own, which a client may change."""
        return copy.deepcopy(self.body)

    @property
    def scoped(self):
        """Whether it carries a catalogue."""
        return "catalog" in self.body["token"]

    def __repr__(self):
        return f"<{'project-scoped' if self.scoped else 'unscoped'} token>"


@pytest.fixture(scope="session")
def corpus():
    """The recorded values by strategy, in their order."""
    by_strategy = collections.defaultdict(list)
    with open(CORPUS, "rb") as packed:
        reader = zstandard.ZstdDecompressor(max_window_size=2**25).stream_reader(packed)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            recorded = Recorded(line)
            by_strategy[recorded.strategy].append(recorded)
    assert {name: len(lines) for name, lines in by_strategy.items()} == {
        "none": 400,
        "mac": 50,
        "encrypt": 50,
    }
    return by_strategy


@pytest.fixture(scope="session")
def tokens(corpus):
    """Every recorded token, valid again."""
    return [Token(recorded) for recorded in corpus["none"]]


@pytest.fixture(scope="session")
def scoped(tokens):
    """A project-scoped token: 13 KB, nearly all of it the catalogue."""
    return next(token for token in tokens if token.scoped)


@pytest.fixture(scope="session")
def unscoped(tokens):
    """An unscoped token: 553 bytes."""
    return next(token for token in tokens if not token.scoped)


# --- helpers ----------------------------------------------------------------


@pytest.fixture(scope="session")
def at_once():
    """`at_once(n, work)` runs work(0) … work(n-1) in n threads that start together."""

    def at_once(threads, work):
        barrier = threading.Barrier(threads)

        def start(number):
            barrier.wait(timeout=30)
            return work(number)

        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            return [one.result() for one in [pool.submit(start, n) for n in range(threads)]]

    return at_once


@pytest.fixture(scope="session")
def eventually():
    """`eventually(condition)` polls for up to 15 s and gives whether it came true."""

    def eventually(condition, limit_s=15):
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    return eventually
