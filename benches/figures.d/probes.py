"""One measurement of one running server each: a burst, a count of system calls, a count of instructions.

The figures come from the tool's report, from strace and from valgrind; nothing here compares two servers.
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time

import servers

ATTACH_SECONDS_MAX = 20


def busy_seconds():
    """Processor time that all cores together have spent on anything, stolen time included."""
    with open("/proc/stat", encoding="ascii") as stat:
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def burst(tool, server, seconds, **options):
    """One burst of load: the tool's report, and how many processors were busy with something else meanwhile."""
    busy, own, begun = busy_seconds(), children_seconds(), time.monotonic()
    report = tool.load(server, seconds=seconds, **options)
    own = children_seconds() - own + report["server_cpu_seconds"]
    other = busy_seconds() - busy - own
    report["other_cpus"] = max(0.0, other / (time.monotonic() - begun))
    return report


def needed(command, package):
    path = shutil.which(command)
    if path is None:
        raise servers.LeftOut(f"{command} is not installed (package {package})")
    return path


def system_calls(tool, server, requests, **options):
    """System calls of all threads while `requests` requests are served, by name; connecting included."""
    strace = needed("strace", "strace")
    with tempfile.NamedTemporaryFile(mode="r", encoding="utf-8") as summary:
        command = [strace, "-c", "-f", "-o", summary.name, "-p", str(server.pid)]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            first = tracer.stderr.readline()
            if "attached" not in first:
                raise servers.LeftOut(f"strace cannot attach ({first.strip()[:100]}): run as root")
            tool.load(server, requests=requests, **options)
        finally:
            servers.stop(tracer, by=signal.SIGINT)
        return strace_counts(summary.read())


def strace_counts(summary):
    """Calls by name from the table of `strace -c`: share, seconds, microseconds a call, calls, perhaps errors, name."""
    counts = {}
    for line in summary.splitlines():
        words = line.split()
        if len(words) >= 5 and re.fullmatch(r"[0-9.]+", words[0]) and words[-1] != "total":
            counts[words[-1]] = int(words[3])
    if not counts:
        raise servers.LeftOut("strace counted nothing")
    return counts


def instructions(tool, program, requests, **options):
    """User-space instructions from start to exit of a server that is filled and then serves `requests` requests."""
    valgrind = needed("valgrind", "valgrind")
    with tempfile.NamedTemporaryFile(mode="r", encoding="utf-8") as log:
        under = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log.name}"]
        with program.running(under=under) as server:
            tool.load(server, "fill", requests=requests, **options)
        text = log.read()
    counted = re.search(r"Collected\s*:\s*(\d+)", text)
    if not counted:
        raise servers.LeftOut(f"{program.label} does not run to its end under valgrind")
    return int(counted[1])
