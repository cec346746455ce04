"""What a program costs: CPU seconds, wall seconds and peak memory of a child process."""

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a program took, its start and imports included, and what it printed."""

    cpu_s: float
    wall_s: float
    memory_gb: float
    said: str


def cost(code: str) -> Cost:
    """Run a program of Python; exit with what it said if it fails."""
    # Not ru_maxrss: a child's begins with what its parent had.
    ended = f"{code}\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", ended],
        env=os.environ | threads,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        sys.exit(run.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    *said, peak = run.stdout.split("\n")[:-1]
    return Cost(cpu, time.perf_counter() - began, int(peak) / 1e6, " ".join(said))


def show(name: str, code: str, cpu_limit: float = 0.0, memory_limit: float = 0.0) -> bool:
    """Measure and print a line; whether it stays within what it is to, if there is a limit."""
    found = cost(code)
    line = f"  {name:46} {found.cpu_s:6.2f} CPU s {found.wall_s:6.2f} s {found.memory_gb:5.2f} GB"
    kept = (not cpu_limit or found.cpu_s <= cpu_limit) and (
        not memory_limit or found.memory_gb <= memory_limit
    )
    limits = [f"{cpu_limit:g} CPU s"] * bool(cpu_limit)
    limits += [f"{memory_limit:g} GB"] * bool(memory_limit)
    if limits:
        line += f"   at most {' and '.join(limits)}: {'kept' if kept else 'MISSED'}"
    print(line, flush=True)
    return kept
