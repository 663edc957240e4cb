"""CPU time and memory of running processes, from its clocks and /proc.

Read directly, because the scheduler's own counters (a process's clock, and `schedstat`) know nanoseconds
where `stat`, and all that is built on it, counts in ticks of 10 ms: too coarse for windows of a second or
two.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that all threads of the processes have used, those that have ended too; processes
    that have ended count nothing."""
    seconds = 0.0
    for pid in pids:
        try:
            seconds += time.clock_gettime(_cpu_clock(pid))
        except OSError:
            continue
    return seconds


def _cpu_clock(pid: int) -> int:
    """Return Linux's number for the CPU-time clock of another process, as `clock_getcpuclockid` makes it."""
    return (~pid << 3) | 2


def starved_seconds(pids: Iterable[int]) -> float:
    """Return how long the threads that the processes have now could have run but others had the core.

    It becomes less when a thread ends, which takes its count along.
    """
    nanoseconds = 0
    for pid in pids:
        for task in (_PROC / str(pid) / "task").glob("*/schedstat"):
            try:
                nanoseconds += int(task.read_text().split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return nanoseconds / 1e9


def cores_busy_seconds(cpus: Iterable[int]) -> float:
    """Return for how long the cores have done anything at all since the start of the machine, added up; in
    ticks of 10 ms."""
    wanted = {f"cpu{cpu}" for cpu in cpus}
    ticks = 0
    for line in (_PROC / "stat").read_text().splitlines():
        name, *fields = line.split()
        if name in wanted:
            # user, nice, system, irq, softirq, steal: all but idle, iowait, and the guests' (who are users).
            ticks += sum(int(fields[column]) for column in (0, 1, 2, 5, 6, 7))
    return ticks / _TICKS_PER_SECOND


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of the processes; those that have ended count nothing."""
    pages = 0
    for pid in pids:
        try:
            pages += int((_PROC / str(pid) / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * _PAGE_BYTES


def command_line(pid: int) -> list[str]:
    """Return the argument list of a process; empty if it has ended."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    """Return the processes that `pid` started and those that they started, in no particular order."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                # The name may hold spaces and brackets; the parent's id is the second field after its last
                # bracket.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def pin(pid: int, cpus: Iterable[int]) -> None:
    """Move all threads of a running process to the given cores; nothing happens if it has ended."""
    chosen = set(cpus)
    for task in (_PROC / str(pid) / "task").glob("*"):
        try:
            os.sched_setaffinity(int(task.name), chosen)
        except ProcessLookupError:
            continue
