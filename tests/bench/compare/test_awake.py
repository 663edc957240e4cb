"""A core is kept awake by a process of the lowest class, which ends with the comparison."""

import os
from pathlib import Path

import trio

from bench.compare.awake import kept_awake
from bench.process_watch import command_line, descendants


async def test_it_spins_in_the_lowest_class_and_ends(tmp_path: Path) -> None:
    before = set(descendants(os.getpid()))
    async with kept_awake(sorted(os.sched_getaffinity(0))[:1], tmp_path):
        [pid] = set(descendants(os.getpid())) - before
        with trio.fail_after(10):
            while os.sched_getscheduler(pid) != os.SCHED_IDLE:
                await trio.sleep(0.01)
    assert command_line(pid) == []
