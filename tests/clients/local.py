"""What the tests ask of this machine: the server's program, a free port, IPv6, who listens."""

import contextlib
import os
import pathlib
import socket

ROOT = pathlib.Path(__file__).resolve().parents[2]


def find_binary():
    """The server's path: $TOKENCACHED, else the release build, else the debug build."""
    named = os.environ.get("TOKENCACHED")
    if named:
        return pathlib.Path(named).resolve()
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    builds = [target / profile / "tokencached" for profile in ("release", "debug")]
    return next((build for build in builds if build.exists()), builds[0])


def has_ipv6():
    """Whether this machine has the address ::1."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


IPV6 = has_ipv6()


def free_port():
    """A TCP port that is free now, on every loopback address used."""
    for _ in range(50):
        with socket.socket() as probe, contextlib.ExitStack() as others:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            if not IPV6:
                return port
            probe6 = others.enter_context(socket.socket(socket.AF_INET6))
            with contextlib.suppress(OSError):
                probe6.bind(("::1", port))
                return port
    raise RuntimeError("no port is free on both 127.0.0.1 and ::1")


def accepts(address):
    """Whether somebody accepts connections at a path or at (host, port)."""
    try:
        if isinstance(address, tuple):
            socket.create_connection(address, timeout=1).close()
        else:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(address))
    except OSError:
        return False
    return True
