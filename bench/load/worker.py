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
# The schedule begins this much later, when its thread runs.
_LEAD_NS = 20_000_000


class Progress(msgspec.Struct, omit_defaults=True):
    """One line of stdout."""

    phase: str
    streams: int = 0
    tally: TallyReport | None = None


class Parent:
    """Whoever started the run: is told of its phases, and says when held streams may end.

    This one hears nothing and never waits, for runs inside another program; `ParentProcess` is the real one.
    """

    def tell(self, progress: Progress) -> None:
        """Take note of a phase."""

    async def released(self) -> None:
        """Return when held streams may end."""

    def settle(self) -> None:
        """Called when the warm-up is over, before the window opens."""


class ParentProcess(Parent):
    """The process at the other end of our stdin and stdout."""

    def tell(self, progress: Progress) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(progress) + b"\n")
        sys.stdout.buffer.flush()

    async def released(self) -> None:
        await asyncio.to_thread(sys.stdin.buffer.readline)

    def settle(self) -> None:
        # What is alive now lives till the end; walking it again would only add noise to the window.
        gc.collect()
        gc.freeze()


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


async def _window(plan: LoadPlan, tally: Tally, parent: Parent) -> None:
    """Warm up, count for the plan's seconds and until there is something to tell, then stop asking."""
    await asyncio.sleep(plan.ramp_seconds + plan.warmup_seconds)
    parent.settle()
    parent.tell(Progress("open"))
    cpu_seconds = time.process_time()
    tally.open_window(perf_counter_ns())
    await asyncio.sleep(plan.seconds)
    if plan.driver == "closed":
        await _until(lambda: tally.outcomes >= plan.answers_min, plan.answer_seconds_max)
    tally.close_window(perf_counter_ns())
    tally.cpu_seconds = time.process_time() - cpu_seconds
    parent.tell(Progress("closed"))


async def _drain(driver: LoadDriver) -> None:
    """Let what is in flight end; the sweep fails what takes too long, so the limit here is never reached."""
    driver.stop()
    await _until(lambda: not driver.in_flight, driver.plan.answer_seconds_max * 2)


async def _drive_closed(plan: LoadPlan, tally: Tally, parent: Parent) -> None:
    driver = ClosedLoop(plan, tally)
    async with _running(driver):
        await _window(plan, tally, parent)
        await _drain(driver)


async def _drive_open(plan: LoadPlan, tally: Tally, parent: Parent) -> None:
    driver = OpenLoop(plan, tally)
    async with _running(driver):
        await _until(lambda: driver.ready, _CONNECT_SECONDS_MAX)
        start_ns = perf_counter_ns() + _LEAD_NS
        driver.begin(start_ns)
        with paced(plan.rate_per_second, start_ns, driver.arrive):
            await asyncio.sleep(_LEAD_NS / 1e9)
            await _window(plan, tally, parent)
            # What was due in the window is asked, however late the pacer's thread is.
            driver.arrive()
        await _drain(driver)


async def _hold_open(plan: LoadPlan, tally: Tally, parent: Parent) -> None:
    driver = HoldOpen(plan, tally)
    async with _running(driver):
        await _until(lambda: driver.held + tally.failed >= plan.connections, plan.answer_seconds_max)
        parent.tell(Progress("held", streams=driver.held))
        await parent.released()


async def run_plan(plan: LoadPlan, parent: Parent) -> TallyReport:
    """Do what the plan says and return what was seen."""
    tally = Tally(by_start=plan.driver == "open")
    match plan.driver:
        case "closed":
            await _drive_closed(plan, tally, parent)
        case "open":
            await _drive_open(plan, tally, parent)
        case "hold":
            await _hold_open(plan, tally, parent)
    return tally.report()


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=LoadPlan)
    parent = ParentProcess()
    report = uvloop.run(run_plan(plan, parent))
    parent.tell(Progress("done", tally=report))


if __name__ == "__main__":
    main()
