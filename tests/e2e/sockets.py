"""The machine's stream sockets, as the kernel lists them in /proc/net."""

import pathlib

ESTABLISHED = "01"
CLOSE_WAIT = "08"  # The other end has closed, this one has not.
UNIX_CONNECTED = "03"


def established_tcp(port):
    """The inodes of the sockets at this local port that are connected."""
    return {
        row["inode"] for row in _tcp() if row["local"] == port and row["state"] == ESTABLISHED
    }


def half_closed_tcp(port):
    """How many sockets connected to this remote port have been closed at that end alone."""
    return sum(row["remote"] == port and row["state"] == CLOSE_WAIT for row in _tcp())


def established_unix(path):
    """The inodes of the sockets accepted at this path that are connected."""
    rows = (line.split() for line in _lines("unix"))
    return {row[6] for row in rows if row[7:] == [str(path)] and row[5] == UNIX_CONNECTED}


def _tcp():
    for line in [*_lines("tcp"), *_lines("tcp6")]:
        _, local, remote, state, *others = line.split()
        ports = (int(address.rpartition(":")[2], 16) for address in (local, remote))
        yield dict(zip(("local", "remote"), ports), state=state, inode=others[5])


def _lines(table):
    path = pathlib.Path("/proc/net", table)
    return path.read_text().splitlines()[1:] if path.exists() else []
