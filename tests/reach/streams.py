"""Very many streams at once: `python -m tests.reach.streams`, or `tox -e capacity`.

`--idle`: so many streams are open and silent over all workers. None may be lost, new requests must be
answered meanwhile, and when they are closed every descriptor must be given back. Costs memory: it is told per
stream, both ends of the gateway together.

`--paced`: so many streams of an event each 50 ms. No gap may be longer than ten times that. All events are
made, relayed and read on the same cores, so the harness's own share of the machine is told as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import trio

from bench.load.plan import connections_max
from bench.load.run import streams_held
from bench.process_watch import cpu_seconds, resident_bytes
from tests.gateway.conftest import Tenant
from tests.reach.process_counts import descriptors
from tests.reach.stand import Stand, main, stand, tell

PACE_MS = 50
GAP_MS_MAX = 10 * PACE_MS
RESIDENT_BYTES_MAX = 64 * 1024
"""Of an idle stream."""
NEW_P99_MS_MAX = 100.0
BACK_SECONDS_MAX = 10.0
_PATIENCE_SECONDS = 60.0


async def measure(tenant: Tenant, folder: Path, given: argparse.Namespace) -> None:
    # Kept streams are silent for as long as it takes to open the others.
    async with stand(tenant, folder, workers=given.workers, KARTA_BETWEEN_BYTES_SECONDS="600") as made:
        if given.idle:
            for _ in range(given.rounds):
                await hold_idle(made, given)
        if given.paced:
            await pace(made, given)


async def hold_idle(made: Stand, given: argparse.Namespace) -> None:
    pids = made.pids()
    before, memory = {pid: descriptors(pid) for pid in pids}, resident_bytes(pids)
    plan = made.plan(
        "tokens=4,hang_after=3",
        stream=True,
        connections=given.idle,
        driver="hold",
        # How long the last may take to open.
        answer_seconds_max=120.0,
    )
    began = trio.current_time()
    async with streams_held(plan, directory=made.folder) as (held, tally):
        tell("streams held open", f"{held} of {given.idle}, after {trio.current_time() - began:.1f} s")
        each = (resident_bytes(pids) - memory) / given.idle
        tell("resident memory of a stream", f"{each / 1024:.1f} KiB (max {RESIDENT_BYTES_MAX // 1024})")
        await trio.sleep(given.seconds)
        figures = await made.figures()
        connections = figures["connections"]
        fresh = await made.load(made.plan(connections=4, seconds=max(1.0, given.seconds / 4)))
    p99 = fresh.tally.latency.percentile(99) / 1e6
    tell("connections counted meanwhile", f"{connections:.0f}")
    tell(
        "new requests meanwhile, p99",
        f"{p99:.1f} ms (max {NEW_P99_MS_MAX:.0f}), {fresh.tally.requests} of them",
    )
    began = trio.current_time()
    with trio.move_on_after(_PATIENCE_SECONDS):
        # Spare connections to the provider are kept, as before.
        while any(descriptors(pid) > before[pid] + 32 for pid in pids):
            await trio.sleep(0.1)
    back = trio.current_time() - began
    tell("descriptors given back", f"after {back:.1f} s (max {BACK_SECONDS_MAX:.0f})")
    assert (held, tally.failed) == (given.idle, 0), f"streams were lost: {tally.examples}"
    assert connections >= given.idle
    assert not fresh.tally.failed, fresh.tally.examples
    assert back < _PATIENCE_SECONDS, "descriptors are leaked"
    if given.assert_figures:
        assert back <= BACK_SECONDS_MAX, f"descriptors came back after {back:.0f} s"
        assert p99 <= NEW_P99_MS_MAX, f"new requests waited: p99 {p99:.0f} ms"
        assert each <= RESIDENT_BYTES_MAX, f"a stream takes {each:.0f} bytes"


async def pace(made: Stand, given: argparse.Namespace) -> None:
    tokens = min(200, int(given.seconds * 1000 / PACE_MS))
    plan = made.plan(
        f"tokens={tokens},pace_ms={PACE_MS}",
        stream=True,
        connections=min(given.paced, connections_max),
        # One after the other, so that not all of them end and begin together.
        ramp_seconds=given.ramp,
        seconds=given.seconds,
    )
    pids = [*made.pids(), made.provider.child.pid]
    spent = cpu_seconds(pids)
    result = await made.load(plan)
    tally = result.tally
    others = cpu_seconds(pids) - spent
    gaps = [tally.gaps.percentile(percent) / 1e6 for percent in (50, 99, 99.9, 100)]
    tell(
        "paced streams",
        f"{given.paced}, {tally.events / tally.seconds:.0f} events/s (asked: {given.paced * 20})",
    )
    tell("gaps p50, p99, p99.9, max", ", ".join(f"{gap:.0f}" for gap in gaps) + f" ms (max {GAP_MS_MAX})")
    karta = (result.target_cpu_seconds or 0.0) / tally.seconds
    tell("cores busy: Karta; reading events", f"{karta:.2f}; {tally.cpu_seconds / tally.seconds:.2f}")
    tell("CPU of Karta and provider, start to end", f"{others:.1f} s")
    assert not tally.failed, tally.examples
    if given.assert_figures:
        assert gaps[-1] <= GAP_MS_MAX, f"a stream stood still for {gaps[-1]:.0f} ms"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--idle", type=int, default=0, help="streams to hold open, at most 10000")
    made.add_argument("--rounds", type=int, default=1, help="times to open and close them")
    made.add_argument("--paced", type=int, default=0, help="streams to read at 20 events a second each")
    made.add_argument("--ramp", type=float, default=10.0, help="seconds over which paced streams begin")
    made.add_argument("--seconds", type=float, default=20.0)
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--no-assert", dest="assert_figures", action="store_false", help="only print figures")
    return made


if __name__ == "__main__":
    main(measure, parser())
