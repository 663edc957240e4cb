"""The pacer wakes a loop as often as it was asked to, and ends."""

import asyncio
import contextlib
import os
import resource
import threading
from pathlib import Path
from time import perf_counter_ns

import uvloop

from bench.load.pacer import moment_ns, paced

DEADLINE_SECONDS = 10.0


async def wake_ups(rate: float, count: int) -> list[int]:
    """When (nanoseconds after the start) the first `count` calls came."""
    moments: list[int] = []
    done = asyncio.Event()
    start_ns = perf_counter_ns() + 10_000_000

    def on_due() -> None:
        moments.append(perf_counter_ns() - start_ns)
        if len(moments) == count:
            done.set()

    async with asyncio.timeout(DEADLINE_SECONDS):
        with paced(rate, start_ns, on_due):
            await done.wait()
    return moments


def test_it_keeps_to_its_schedule() -> None:
    moments = uvloop.run(wake_ups(200, 20))
    assert moments[0] >= 0
    # A wake-up may be late on a busy machine but never early, and lateness does not add up.
    assert all(moment >= number * 5_000_000 for number, moment in enumerate(moments[:2]))
    assert moments == sorted(moments)


def test_no_error_adds_up() -> None:
    """At 3,000 a second an interval is no whole number of nanoseconds."""
    assert moment_ns(7, 1e9 / 3000, 3_000_000) == 7 + 1_000_000_000_000


def test_a_thousand_connections_are_none_too_many() -> None:
    """Where so many descriptors are open that the pacer's own has four digits."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as open_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed[1], allowed[1]))
        open_files.callback(resource.setrlimit, resource.RLIMIT_NOFILE, allowed)
        while open_files.enter_context(Path(os.devnull).open()).fileno() < 1024:
            pass
        assert len(uvloop.run(wake_ups(1000, 3))) == 3


def test_it_ends_with_its_body() -> None:
    uvloop.run(wake_ups(5000, 3))
    assert not [thread for thread in threading.enumerate() if thread.name == "pacer"]


def test_it_ends_while_it_waits_for_a_far_moment() -> None:
    async def never_due() -> None:
        with paced(1, perf_counter_ns() + 10**12, lambda: None):
            await asyncio.sleep(0)

    uvloop.run(never_due())
    assert not [thread for thread in threading.enumerate() if thread.name == "pacer"]
