"""The Markdown table of a comparison, and what it was measured on."""

import datetime
import os
import platform

import servers


def number(value):
    """All digits of a large number, three that matter of a small one."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def spread(metric):
    return f"{metric['ratio']:.2f} [{metric['lowest']:.2f}..{metric['highest']:.2f}]"


def tail(row, name):
    """The median ratio of a latency, for rows whose tail is the server's."""
    metric = row["paired"].get(name)
    if not metric or metric["ratio"] is None:
        return ""
    above = ", above" if row["closed"] and round(metric["ratio"], 2) > 1 else ""
    return f"{metric['ratio']:.2f}{above}"


def aim(row):
    if row["target"] is None:
        return ""
    reached = row["paired"]["requests_per_server_cpu_second"]["ratio"] >= row["target"]
    return f"{row['target']:g}" + ("" if reached else ", missed")


def bound(row):
    """The ratio if the second server's own code cost nothing, so that only the kernel's work for it were left."""
    bursts = [second for _, second in row["rounds"]]
    system = sum(burst["server_system_seconds"] for burst in bursts)
    both = system + sum(burst["server_user_seconds"] for burst in bursts)
    ratio = row["paired"]["requests_per_server_cpu_second"]["ratio"]
    return f"{ratio * both / system:.2f}" if system > 0 else ""


def scenario_line(row):
    rate = row["paired"]["requests_per_server_cpu_second"]
    tails = [tail(row, "latency_p99_us"), tail(row, "latency_p999_us")]
    return [row["title"], number(rate["a"]), number(rate["b"]), spread(rate), aim(row), bound(row), *tails]


def growth_line(row):
    few, many = row["medians"]
    limit = f"at most {row['most']:g}" + ("" if row["ratio"] <= row["most"] else ", missed")
    return [row["title"], number(few), number(many), spread(row), limit]


def lines(head, rows):
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return out + ["| " + " | ".join(row) + " |" for row in rows]


def markdown(record, options):
    """The rows that compare two servers, and below them those that compare one with itself."""
    memcached, tokencached = record["servers"]
    compared = [row for row in record["rows"] if "paired" in row]
    grown = [row for row in record["rows"] if "paired" not in row]
    out = []
    if compared:
        head = ["requests per CPU second of the server", memcached, tokencached, "ratio", "aim", "bound", "p99", "p99.9"]
        out += [*lines(head, map(scenario_line, compared)), ""]
    if grown:
        head = ["requests per CPU second of the server", "with few", "with many", "ratio of the costs", "aim"]
        out += [*lines(head, map(growth_line, grown)), ""]
    return "\n".join([*out, machine(record, options), ""])


def machine(record, options):
    threads = "one server thread, pinned" if record["threads"] == 1 else f"{record['threads']} server threads"
    words = [
        f"{datetime.date.today()}, {os.cpu_count()} cores ({servers.processor()}), Linux {platform.release()}",
        threads,
        f"{options.rounds} rounds of {options.seconds:g} s",
    ]
    smoke = " Tiny bursts: these figures mean nothing." if options.smoke else ""
    return "Measured by `benches/compare`: " + "; ".join(words) + "." + smoke
