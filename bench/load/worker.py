"""One generator process: a plan on stdin (one JSON line), progress and a tally on stdout (JSON lines).

It says `{"phase": "open"}` when its window opens and `{"phase": "closed"}` when it closes, so that the
parent can read the target's CPU time at the same moments, and ends with `{"phase": "done", "tally": …}`.  A
plan that holds streams says `{"phase": "held", "streams": n}` and waits for a line (or the end) of stdin.

Run as `python -m bench.load.worker`; it exits when its work or its stdin's owner ends.
"""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter_ns

import msgspec
import uvloop

from bench.load.drivers import ClosedLoop, HoldOpen, LoadDriver, OpenLoop
from bench.load.pacer import paced
from bench.load.plan import LoadPlan
from bench.load.tally import Tally, TallyReport

# How often requests are looked over for being too old, and drains for being done.
_LOOK_SECONDS = 0.02
_SWEEP_SECONDS = 0.25
# How long an open loop waits for its connections before it begins without the rest.
_CONNECT_SECONDS_MAX = 10.0
_LEAD_NS = 20_000_000


class Progress(msgspec.Struct, omit_defaults=True):
    """One line of stdout."""

    phase: str
    streams: int = 0
    tally: TallyReport | None = None


def tell(progress: Progress) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(progress) + b"\n")
    sys.stdout.buffer.flush()


async def _sweep(driver: LoadDriver) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        driver.sweep()


@asynccontextmanager
async def _running(driver: LoadDriver) -> AsyncIterator[None]:
    """Dial and sweep in the background while the body runs, then close every connection."""
    async with asyncio.TaskGroup() as tasks:
        background = [tasks.create_task(driver.dialler.run()), tasks.create_task(_sweep(driver))]
        try:
            driver.start()
            yield
        finally:
            driver.close()
            for task in background:
                task.cancel()


async def _until(done: Callable[[], bool], seconds_max: float) -> None:
    """Wait until `done()`, but no longer than `seconds_max`."""
    give_up_ns = perf_counter_ns() + int(seconds_max * 1e9)
    # Looked at now and then, because telling of each change would cost every answer.
    while not done() and perf_counter_ns() < give_up_ns:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)


async def _window(plan: LoadPlan, tally: Tally) -> None:
    """Warm up, count for the plan's seconds, then stop asking."""
    await asyncio.sleep(plan.ramp_seconds + plan.warmup_seconds)
    # What is alive now lives till the end; walking it again would only add noise to the window.
    gc.collect()
    gc.freeze()
    tell(Progress("open"))
    cpu_seconds = time.process_time()
    tally.open_window(perf_counter_ns())
    await asyncio.sleep(plan.seconds)
    tally.close_window(perf_counter_ns())
    tally.cpu_seconds = time.process_time() - cpu_seconds
    tell(Progress("closed"))


async def _drain(driver: LoadDriver) -> None:
    """Let what is in flight end; the sweep fails what takes too long, so the limit here is never reached."""
    driver.stop()
    await _until(lambda: not driver.in_flight, driver.plan.answer_seconds_max * 2)


async def _drive_closed(plan: LoadPlan, tally: Tally) -> None:
    driver = ClosedLoop(plan, tally)
    async with _running(driver):
        await _window(plan, tally)
        await _drain(driver)


async def _drive_open(plan: LoadPlan, tally: Tally) -> None:
    driver = OpenLoop(plan, tally)
    async with _running(driver):
        await _until(lambda: driver.ready, _CONNECT_SECONDS_MAX)
        start_ns = perf_counter_ns() + _LEAD_NS
        driver.begin(start_ns)
        with paced(plan.rate_per_second, start_ns, driver.arrive):
            await _window(plan, tally)
        await _drain(driver)


async def _hold_open(plan: LoadPlan, tally: Tally) -> None:
    driver = HoldOpen(plan, tally)
    async with _running(driver):
        await _until(lambda: driver.held + tally.failed >= plan.connections, plan.answer_seconds_max)
        tell(Progress("held", streams=driver.held))
        await asyncio.to_thread(sys.stdin.buffer.readline)


async def run_plan(plan: LoadPlan) -> TallyReport:
    """Do what the plan says and return what was seen."""
    tally = Tally(by_start=plan.driver == "open")
    match plan.driver:
        case "closed":
            await _drive_closed(plan, tally)
        case "open":
            await _drive_open(plan, tally)
        case "hold":
            await _hold_open(plan, tally)
    return tally.report()


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=LoadPlan)
    report = uvloop.run(run_plan(plan))
    tell(Progress("done", tally=report))


if __name__ == "__main__":
    main()
