"""Run load from worker processes and bring home one tally, with what the target spent meanwhile."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import trio

from bench.load.plan import LoadPlan
from bench.load.tally import Tally
from bench.load.worker import Progress
from bench.process import Child, child_process
from bench.process_watch import cores_busy_seconds, cpu_seconds, resident_bytes, starved_seconds

WORKER = (sys.executable, "-m", "bench.load.worker")
# How often the target's memory is looked at: some two hundred times a window, but not all the time.
_SAMPLES = 200
_SAMPLE_SECONDS_MIN = 0.1
# Start, connections, and the drain of slow answers come on top of a plan's own seconds.
overhead_seconds_max = 60.0


class LoadFailed(Exception):
    """A generator process ended without a result; the message quotes its stderr."""


class LoadResult:
    """The tally of all workers, and the target's CPU seconds and resident bytes over the same window.

    `target_cpu_seconds` is None if no process was watched, as for a URL on another machine.  `memory` are
    the resident bytes over the window, as (second, bytes); `target_starved_seconds`, how long the target
    waited for a core that others had; `harness_busy_seconds`, how long the harness's cores did anything,
    added up (None if it has none of its own).
    """

    def __init__(
        self,
        tally: Tally,
        target_cpu_seconds: float | None,
        target_resident_bytes: int | None,
        memory: Sequence[tuple[float, int]] = (),
        target_starved_seconds: float | None = None,
        harness_busy_seconds: float | None = None,
        harness_cores: int = 0,
    ) -> None:
        self.tally = tally
        self.target_starved_seconds = target_starved_seconds
        self.harness_busy_seconds = harness_busy_seconds
        self.harness_cores = harness_cores
        self.memory = memory
        self.target_cpu_seconds = target_cpu_seconds
        self.target_resident_bytes = target_resident_bytes


def shares(plan: LoadPlan) -> list[LoadPlan]:
    """Divide a plan's connections and rate among its processes; never more processes than connections."""
    processes = min(plan.processes, plan.connections)
    whole, rest = divmod(plan.connections, processes)
    return [
        msgspec.structs.replace(
            plan,
            processes=1,
            connections=whole + (index < rest),
            rate_per_second=plan.rate_per_second / processes,
        )
        for index in range(processes)
    ]


async def _expect_phase(worker: Child, phase: str) -> Progress:
    line = await worker.lines.line()
    if not line:
        raise LoadFailed(f"a load generator ended early; it said: {worker.stderr_end() or 'nothing'}")
    progress = msgspec.json.decode(line, type=Progress)
    if progress.phase != phase:
        raise LoadFailed(f"a load generator said {progress.phase!r} where {phase!r} was due")
    return progress


async def _all_reach(workers: Sequence[Child], phase: str) -> list[Progress]:
    # One after the other: they get there together, and a line waits in its pipe.
    return [await _expect_phase(worker, phase) for worker in workers]


@asynccontextmanager
async def _workers(plan: LoadPlan, *, cpus: Sequence[int], directory: Path) -> AsyncIterator[list[Child]]:
    async with AsyncExitStack() as stack:
        workers = []
        for share in shares(plan):
            context = child_process(WORKER, stderr_path=directory / "load.stderr", cpus=cpus)
            worker = await stack.enter_async_context(context)
            await worker.stdin.send_all(msgspec.json.encode(share) + b"\n")
            workers.append(worker)
        yield workers


async def run_load(
    plan: LoadPlan,
    *,
    directory: Path,
    cpus: Sequence[int] = (),
    watch: Sequence[int] = (),
) -> LoadResult:
    """Run a closed-loop or open-loop plan and return what was seen.

    `directory` takes the workers' stderr; `watch` are the target's process ids.  Raises LoadFailed if a
    generator dies, TooSlowError if it takes far longer than planned.
    """
    planned_seconds = plan.ramp_seconds + plan.warmup_seconds + plan.seconds + 2 * plan.answer_seconds_max
    with trio.fail_after(planned_seconds + overhead_seconds_max):
        async with _workers(plan, cpus=cpus, directory=directory) as workers:
            await _all_reach(workers, "open")
            spent, starved, busy = cpu_seconds(watch), starved_seconds(watch), cores_busy_seconds(cpus)
            memory: list[tuple[float, int]] = []
            async with trio.open_nursery() as nursery:
                if watch:
                    nursery.start_soon(_sample_memory, watch, plan.seconds, memory)
                await _all_reach(workers, "closed")
                nursery.cancel_scope.cancel()
            busy = cores_busy_seconds(cpus) - busy
            # A process or thread that ended meanwhile took its count along.
            spent = max(0.0, cpu_seconds(watch) - spent)
            starved = max(0.0, starved_seconds(watch) - starved)
            resident = resident_bytes(watch)
            tally = Tally()
            for progress in await _all_reach(workers, "done"):
                if progress.tally is not None:
                    tally.add(progress.tally)
    return LoadResult(
        tally,
        spent if watch else None,
        resident if watch else None,
        memory,
        starved if watch else None,
        busy if cpus else None,
        len(cpus),
    )


async def _sample_memory(watch: Sequence[int], seconds: float, into: list[tuple[float, int]]) -> None:
    """Look at the resident memory of the target for ever; cancel to end."""
    began = trio.current_time()
    while True:
        into.append((round(trio.current_time() - began, 3), resident_bytes(watch)))
        await trio.sleep(max(_SAMPLE_SECONDS_MIN, seconds / _SAMPLES))


@asynccontextmanager
async def streams_held(
    plan: LoadPlan, *, directory: Path, cpus: Sequence[int] = ()
) -> AsyncIterator[tuple[int, Tally]]:
    """Keep `plan.connections` streams open while the body runs; gives how many are, and what failed so
    far."""
    held = msgspec.structs.replace(plan, driver="hold", processes=1)
    async with _workers(held, cpus=cpus, directory=directory) as [worker]:
        with trio.fail_after(plan.answer_seconds_max + overhead_seconds_max):
            progress = await _expect_phase(worker, "held")
        tally = Tally()
        yield progress.streams, tally
        await worker.stdin.send_all(b"\n")
        with trio.fail_after(overhead_seconds_max):
            done = await _expect_phase(worker, "done")
        if done.tally is not None:
            tally.add(done.tally)
