"""The rows of the table: what is measured, with which numbers, and how the two servers are compared.

Each row is a function of a Bench that gives lines of the table; ALL names them in their order. A line has a value for
each server (memcached first; where tokencached is measured twice, the line's name says so) and the ratio of the second
to the first. Requests per processor second are compared in bursts that alternate, A B A B, while both servers run: the
ratio is the median of the rounds' ratios, since a machine that slows down for a second slows down both bursts of a
round.
"""

import contextlib
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field

import probes
import restarts
import servers

VALUE = 8192
CATALOGUE = 39_000


@dataclass
class Sizes:
    """How much of everything; the tiny ones only prove that a row works."""

    rounds: int = 9
    seconds: float = 0.7
    keys_held: int = 20_000
    keys_hot: int = 1_000
    tokens_held: int = 130_000
    tokens_encrypted: int = 20_000
    tokens_large: int = 140_000
    tokens_hot: int = 4_000
    traced_requests: int = 50_000
    counted_requests: int = 20_000
    idle_connections: int = 10_000
    watched_seconds: float = 10
    restarts: int = 9
    tokens_kept: int = 100_000
    connections_kept: int = 200

    @classmethod
    def smoke(cls):
        return cls(2, 0.05, 200, 50, 200, 50, 100, 50, 500, 300, 100, 1, 2, 100, 20)


@dataclass
class Bench:
    """The two servers, memcached first, and what drives them."""

    pair: tuple
    tool: object
    sizes: Sizes
    other_cpus: list = field(default_factory=list)


@dataclass
class Line:
    """A line of the table. `low` and `high` are the lowest and highest ratio of a round, where there are rounds."""

    name: str
    better: str
    values: list
    unit: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    raw: object = None

    def __post_init__(self):
        first, second = self.values
        if self.ratio is None and first > 0:
            self.ratio = second / first


def hold_of(bench, what, keys, **options):
    """Items held and resident memory after `keys` keys were set, which are more than fit."""
    reports = []
    for program in bench.pair:
        with program.running() as server:
            reports.append(bench.tool.load(server, "hold", keys=keys, **options))
    filled = f"`-m 64`, {keys:,} {what} set"
    memory = [report["server_rss_bytes"] / 2**20 for report in reports]
    return [
        Line(f"{filled}: items held", "more", [report["held"] for report in reports], raw=reports),
        Line(f"{filled}: resident memory", "less", memory, "MiB"),
    ]


def hold(bench):
    return hold_of(bench, "values of 8 KiB", bench.sizes.keys_held, value_bytes=VALUE)


def hold_tokens(bench):
    return hold_of(bench, "tokens of 13 KB", bench.sizes.tokens_held, values="tokens")


def hold_mac(bench):
    return hold_of(bench, "tokens of 13 KB, `MAC`,", bench.sizes.tokens_held, values="mac")


def hold_encrypt(bench):
    return hold_of(bench, "tokens of 13 KB, `ENCRYPT`,", bench.sizes.tokens_encrypted, values="encrypt")


def hold_39k(bench):
    what = "tokens with a catalogue of 39 KB"
    return hold_of(bench, what, bench.sizes.tokens_large, values="tokens", catalogue_bytes=CATALOGUE)


def catalogue_change(bench):
    """Tokens held of a cloud whose catalogue has changed, in a server full of tokens with the old one."""
    keys = bench.sizes.tokens_held
    rounds = []
    for program in bench.pair:
        with program.running() as server:
            clouds = [
                bench.tool.load(server, "hold", keys=keys, values="tokens", seed=seed, catalogue=catalogue)
                for seed, catalogue in ((1, 0), (2, 1))
            ]
            rounds.append(clouds)
    held = [[report["held"] for report in clouds] for clouds in rounds]
    filled = f"`-m 64`, {keys:,} tokens of 13 KB set, then {keys:,} with another catalogue"
    return [
        Line(f"{filled}: of these held", "more", [after for _, after in held], raw=rounds),
        Line(f"{filled}: held, to before", "more", [after / before for before, after in held]),
    ]


def bursts(bench, name, keys, pair=None, memory_mb=64, **options):
    """Requests per second of the server's processor time, in paired bursts."""
    sizes = bench.sizes
    options |= {"keys": keys, "connections": 16}
    with contextlib.ExitStack() as stack:
        pair = [stack.enter_context(program.running(memory_mb)) for program in pair or bench.pair]
        for server in pair:
            bench.tool.load(server, "fill", seconds=min(0.3, sizes.seconds), **options)
        rounds = [
            [probes.burst(bench.tool, server, sizes.seconds, **options) for server in pair]
            for _ in range(sizes.rounds)
        ]
    rates = [[report["requests_per_server_cpu_second"] for report in one] for one in rounds]
    ratios = [second / first for first, second in rates]
    bench.other_cpus += [report["other_cpus"] for one in rounds for report in one]
    medians = [statistics.median(rate) for rate in zip(*rates)]
    ratio = statistics.median(ratios)
    title = f"{name}, requests per CPU second"
    return [Line(title, "more", medians, "", ratio, min(ratios), max(ratios), rounds)]


def packed_hit(bench):
    """What a hit pays for the packing: tokencached twice, first without it. There is room for all tokens as they are."""
    packing = bench.pair[1]
    plain = packing.with_flags("--no-packing")
    if said := plain.refuses():
        raise servers.LeftOut(f"{packing.label} does not take --no-packing ({said})")
    name = f"get of {bench.sizes.tokens_hot:,} tokens of 13 KB, first with `--no-packing`, then packed"
    return bursts(bench, name, bench.sizes.tokens_hot, (plain, packing), 128, values="tokens")


def syscalls(bench):
    """System calls per request under full load. Timers of background threads are counted with them."""
    requests, keys = bench.sizes.traced_requests, bench.sizes.keys_hot
    counts = []
    for program in bench.pair:
        with program.running() as server:
            bench.tool.load(server, "fill", requests=1, keys=keys, value_bytes=VALUE)
            counts.append(probes.system_calls(bench.tool, server, requests, keys=keys, value_bytes=VALUE))
    values = [sum(count.values()) / requests for count in counts]
    return [Line("get of 8 KiB: system calls per request", "less", values, raw=counts)]


def instructions(bench):
    """Instructions per request: twice the requests less once the requests, so that start and fill cancel out."""
    sizes = bench.sizes
    asked = {
        "get of 8 KiB": {"keys": sizes.keys_hot, "value_bytes": VALUE},
        "get of 100 B, 32 pipelined": {"keys": sizes.keys_hot, "value_bytes": 100, "pipeline": 32},
    }
    return [instructions_of(bench, what, **options) for what, options in asked.items()]


def instructions_of(bench, what, **options):
    requests = bench.sizes.counted_requests
    counts = [
        [probes.instructions(bench.tool, program, times * requests, **options) for times in (1, 2)]
        for program in bench.pair
    ]
    values = [(twice - once) / requests for once, twice in counts]
    return Line(f"{what}: user instructions per request", "less", values, raw=counts)


def idle_memory(bench):
    """Resident memory that each of many idle connections adds: silent ever since, and after one get each."""
    connections = bench.sizes.idle_connections
    lines = []
    for flags, what in ((), "silent"), (("get-first",), "after one get of 8 KiB each"):
        reports = []
        for program in bench.pair:
            with program.running(connections=connections + 2000) as server:
                reports.append(bench.tool.load(server, *flags, idle=connections, value_bytes=VALUE))
        values = [report["server_bytes_per_connection"] for report in reports]
        name = f"{connections:,} idle connections, {what}: resident memory each"
        lines.append(Line(name, "less", values, "B", raw=reports))
    return lines


def idle_wakeups(bench):
    """Voluntary context switches of all threads while nothing is asked."""
    reports = []
    for program in bench.pair:
        with program.running() as server:
            bench.tool.load(server, "fill", requests=1, keys=bench.sizes.keys_held, value_bytes=VALUE)
            watched = {"idle": 50, "seconds": bench.sizes.watched_seconds, "value_bytes": VALUE}
            reports.append(bench.tool.load(server, "get-first", **watched))
    values = [report["server_wake_ups_per_second"] for report in reports]
    return [Line("filled, 50 idle connections: wake-ups per second", "less", values, raw=reports)]


def restart(bench):
    """What whoever asks meanwhile sees of a restart: items that are gone, connections that break, the longest wait."""
    sizes = bench.sizes
    asked = {"keys": sizes.tokens_kept, "values": "tokens"}
    kept, rounds = [], []
    for program in bench.pair:
        with restarts.restartable(program) as server:
            bench.tool.load(server, "hold", **asked)
            items = server.items()
            reports = [
                restarts.asked_over_a_restart(bench.tool, server, connections=sizes.connections_kept, **asked)
                for _ in range(sizes.restarts)
            ]
            kept.append((items, server.items()))
            rounds.append(reports)
    name = f"`-m 64`, {sizes.tokens_kept:,} tokens of 13 KB set, {sizes.restarts} restarts under {sizes.connections_kept} connections that ask"
    broken = [sum(report["connections_lost"] for report in reports) for reports in rounds]
    waits = [[report["latency_max_us"] / 1000 for report in reports] for reports in rounds]
    return [
        Line(f"{name}: items before", "more", [before for before, _ in kept], raw=rounds),
        Line(f"{name}: items after", "more", [after for _, after in kept]),
        Line(f"{name}: connections that broke", "less", broken),
        Line(f"{name}: longest wait of a restart, median", "less", [statistics.median(wait) for wait in waits], "ms"),
        Line(f"{name}: longest wait of all", "less", [max(wait) for wait in waits], "ms"),
    ]


ALL = {
    "hold": hold,
    "hold-tokens": hold_tokens,
    "catalogue-change": catalogue_change,
    "hold-mac": hold_mac,
    "hold-encrypt": hold_encrypt,
    "hold-39k": hold_39k,
    "syscalls": syscalls,
    "instructions": instructions,
    "idle-memory": idle_memory,
    "idle-wakeups": idle_wakeups,
    "packed-hit": packed_hit,
    "restart": restart,
}


def number(value, unit=""):
    """Three digits that matter, or all of a large number's."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}".strip()


def ratio_cell(line):
    if line.ratio is None:
        return ""
    spread = f" [{line.low:.2f}..{line.high:.2f}]" if line.low is not None else ""
    return f"{line.ratio:.2f}{spread}"


def table(pair, lines, bench):
    """The Markdown table, and under it what it was measured on."""
    out = [f"| | {pair[0].label} | {pair[1].label} | ratio | better |", "|---|---|---|---|---|"]
    for line in lines:
        cells = [line.name, *(number(value, line.unit) for value in line.values), ratio_cell(line), line.better]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join([*out, "", machine(bench)])


def machine(bench):
    words = [f"{os.cpu_count()} cores ({servers.processor()}), Linux {platform.release()}", "one server thread, pinned"]
    if bench.other_cpus:
        sizes = bench.sizes
        words.append(f"{sizes.rounds} rounds of {sizes.seconds:g} s")
        words.append(f"other load {statistics.median(bench.other_cpus):.2f} CPUs (median of the bursts)")
    return "Measured by `benches/figures`: " + "; ".join(words) + "."


def record(pair, lines):
    """Everything measured, for --json."""
    return {"servers": [program.label for program in pair], "lines": [asdict(line) for line in lines]}
