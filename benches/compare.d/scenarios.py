"""The rows that set two servers against one another: what they are asked, and how many times memcached is the aim.

One call of `tokencached-tool load --compare` measures a row: it starts both servers, fills them, and lets bursts
alternate. A row's ratio is the median of its rounds' ratios.
"""

import json
import shlex
import signal
import subprocess
from dataclasses import dataclass

import servers


@dataclass
class Scenario:
    """One row: `load` are options of the tool, `target` is the ratio to reach."""

    title: str
    load: str
    target: float | None = None
    memory_mb: int = 64
    connections: int = 16
    socket: bool = False


EIGHT_KIB = "--value-bytes 8192"
HUNDRED = "--value-bytes 100"

ALL = {
    "get8k": Scenario("get of 8 KiB", EIGHT_KIB, 1.08),
    "get100": Scenario("get of 100 B", HUNDRED, 1.12),
    "mixed": Scenario(
        "95 % get, 5 % set, 5 to 20 KB, 20,000 keys by Zipf's law, `-m 512`",
        "--value-bytes 5000-20000 --keys 20000 --zipf 0.99 --get-percent 95",
        1.10,
        memory_mb=512,
    ),
    "pipeline": Scenario("get of 100 B, 32 pipelined", f"{HUNDRED} --pipeline 32", 16),
    "multiget": Scenario("get of 50 keys, 100 B each", f"{HUNDRED} --multiget 50", 3.5),
    "many": Scenario("get of 8 KiB, 1,000 connections, 50 active", f"{EIGHT_KIB} --active 50", 1.15, connections=1000),
    "set8k": Scenario("set of 8 KiB, evicting at `-m 64`", f"{EIGHT_KIB} --keys 20000 --get-percent 0", 1.15),
    "unix": Scenario("get of 8 KiB over a unix socket", EIGHT_KIB, 1.18, socket=True),
    "open": Scenario("open loop, 5,000 gets of 8 KiB a second", f"{EIGHT_KIB} --rate 5000", 1.10),
    "tokens": Scenario("get of 4,000 distinct tokens of 13 KB", "--values tokens --keys 4000", 1.10, memory_mb=128),
    "hot-tokens": Scenario("get of 50 distinct tokens of 13 KB", "--values tokens --keys 50", 1.00),
    "set-tokens": Scenario(
        "set of tokens of 13 KB, evicting at `-m 64`", "--values tokens --keys 130000 --get-percent 0"
    ),
}


def command(program, scenario, threads):
    """The command line that starts a server, for the tool to put the place in."""
    words = program.command("{port}", scenario.memory_mb, scenario.connections + 100, threads)
    if scenario.socket:
        words = program.command_on_socket("{socket}", scenario.memory_mb, scenario.connections + 100, threads)
    pinned = servers.pinned(servers.cores()[0], words) if threads == 1 else words
    return shlex.join(pinned).replace("'{port}'", "{port}").replace("'{socket}'", "{socket}")


def to_its_end(words):
    """Runs the tool: its status, output and errors. Interrupted, it is asked to end, and ends its servers first."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            stdout, stderr = process.communicate()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)
            process.communicate()
            raise
    return process.returncode, stdout, stderr


def measured(scenario, pair, options):
    """A row: its title, target, and what the tool said."""
    comparison = [command(program, scenario, options.threads) for program in pair]
    words = [servers.found(options.tool), "load", "--compare", *comparison, "--fill", "--json", "--quiet"]
    words += ["--rounds", str(options.rounds), "--seconds", str(options.seconds)]
    words += ["--connections", str(scenario.connections), *scenario.load.split()]
    if options.threads == 1:
        words = servers.pinned(servers.cores()[1], words)
    else:
        words += ["--threads", str(options.threads)]
    status, stdout, stderr = to_its_end(words)
    if status != 0:
        said = (stderr or stdout).strip().splitlines() or [f"exit status {status}"]
        raise servers.Failure(f"{scenario.title}: {said[-1][:300]}")
    compared = json.loads(stdout)
    if any(burst["misses"] for pair in compared["rounds"] for burst in pair):
        raise servers.Failure(f"{scenario.title}: keys were missing, so this is no comparison; is there memory enough?")
    paired = {metric["name"]: metric for metric in compared["paired"]}
    return {
        "title": scenario.title,
        "target": scenario.target,
        "closed": "--rate" not in scenario.load,
        "paired": paired,
        "rounds": compared["rounds"],
    }
