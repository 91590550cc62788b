"""The rows that compare a server with itself: what a request costs with few and with many items or connections.

Both states are measured in bursts that alternate, as two servers of the same program.
"""

import contextlib
import statistics
from dataclasses import dataclass

import servers


@dataclass
class Growth:
    """One row: `few` and `many` are the tool's options for the two states; `most` is the ratio of costs to stay under."""

    title: str
    few: dict
    many: dict
    most: float = 1.3
    memory_mb: int = 64


def with_all(common, **differing):
    return {**common, **differing}


SMALL = {"value_bytes": 32, "connections": 16}
SPREAD = {"value_bytes": 100, "keys": 1000, "rate": 10000}

ALL = {
    "items": Growth(
        "a get of 32 B with 10,000,000 items, to one with 10,000",
        with_all(SMALL, keys=10_000),
        with_all(SMALL, keys=10_000_000),
        memory_mb=3000,
    ),
    "connections": Growth(
        "a get of 100 B over 10,000 connections, 10,000 a second, to one over 100",
        with_all(SPREAD, connections=100),
        with_all(SPREAD, connections=10_000),
    ),
}

SMOKE = {"keys": 1000, "connections": 20}


def smaller(load, options):
    """The same with tiny numbers, if they are only to prove that it works."""
    limits = SMOKE if options.smoke else {}
    return {name: min(value, limits.get(name, value)) for name, value in load.items()}


def measured(growth, pair, options):
    """A row for each server: its two rates, and the ratio of costs."""
    tool = servers.Tool(options.tool)
    states = [smaller(growth.few, options), smaller(growth.many, options)]
    return [of_one(program, growth, states, tool, options) for program in pair]


def of_one(program, growth, states, tool, options):
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(program.running(growth.memory_mb, connections=state["connections"] + 100))
            for state in states
        ]
        for server, state in zip(running, states):
            tool.load(server, "fill", seconds=options.seconds, **state)
        rounds = [
            [tool.load(server, seconds=options.seconds, **state) for server, state in zip(running, states)]
            for _ in range(options.rounds)
        ]
    rates = [[report["requests_per_server_cpu_second"] for report in one] for one in rounds]
    costs = [few / many for few, many in rates]
    return {
        "title": f"{program.label}: {growth.title}",
        "most": growth.most,
        "medians": [statistics.median(rate) for rate in zip(*rates)],
        "ratio": statistics.median(costs),
        "lowest": min(costs),
        "highest": max(costs),
        "rounds": rounds,
    }
