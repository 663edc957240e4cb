"""Minutes of everything at once: `python -m tests.reach.soak`, or `tox -e soak`.

What `mixture` does goes on for `--seconds`. Resident memory of the workers must be flat after the first
minute (of a shorter run, after its first third), and in the end, when everybody has left, there must be as
many tasks, sockets, threads and descriptors as before anybody came.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

import msgspec
import trio

from tests.gateway.conftest import Tenant
from tests.reach.mixture import Mixture
from tests.reach.process_counts import Counts, count
from tests.reach.stand import Stand, main, stand, tell

GROWTH_MAX = 0.05
"""Of the resident memory, from the window after the first minute to the last one."""
SAMPLE_SECONDS = 1.0
WINDOW_SHARE = 0.15
REST_SECONDS_MAX = 30.0
POOL_MAX = 4
"""A worker's connections to its database, which may be fewer before it has had anything to ask."""
AT_REST = ("connections", "websockets", "in_flight", "reserved", "verifications", "upstream_queue")


async def measure(tenant: Tenant, folder: Path, given: argparse.Namespace) -> None:
    async with stand(tenant, folder, workers=given.workers) as made:
        pids = made.pids()
        before, tasks = await at_rest(made)
        mixture = Mixture(made, given.seed, given.pause)
        samples: list[int] = []
        with trio.move_on_after(given.seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mixture.run)
                while True:
                    await trio.sleep(SAMPLE_SECONDS)
                    samples.append(count(pids).resident_bytes)
        assert made.pids() == pids, "a worker has died"
        after, tasks_after = await at_rest(made, before, tasks)
    tell("done", ", ".join(f"{number} {kind}" for kind, number in sorted(mixture.seen.items())))
    first, last = windows(samples)
    growth = last / first - 1
    tell("resident MB: first minute's end, last", f"{first / 1e6:.1f}, {last / 1e6:.1f} ({growth:+.1%})")
    for name in ("descriptors", "sockets", "threads"):
        tell(f"{name} before and after", f"{getattr(before, name)}, {getattr(after, name)}")
    tell("tasks before and after", f"{tasks:.0f}, {tasks_after:.0f}")
    assert mixture.wrong == [], mixture.wrong[:5]
    assert tasks_after <= tasks, "tasks are leaked"
    pool = POOL_MAX * given.workers
    assert after.descriptors <= before.descriptors + pool, "descriptors are leaked"
    assert after.sockets <= before.sockets + pool, "sockets are leaked"
    assert after.threads <= before.threads + 2 * given.workers, "threads are leaked"
    if given.assert_figures:
        assert growth <= GROWTH_MAX, f"resident memory grew by {growth:.1%}"


async def at_rest(made: Stand, base: Counts | None = None, tasks: float = 0.0) -> tuple[Counts, float]:
    """What is open when nobody asks for anything; waits for it to be `base` again, as long as may be.

    Idle connections to the provider are kept on purpose, and not counted.
    """
    deadline = trio.current_time() + REST_SECONDS_MAX
    while True:
        await trio.sleep(SAMPLE_SECONDS)
        figures = await made.figures()
        idle = int(figures["upstream_idle"])
        found = count(made.pids())
        found = msgspec.structs.replace(
            found, descriptors=found.descriptors - idle, sockets=found.sockets - idle
        )
        assert figures["tasks"], "the metrics have other names now"
        held = {name: figures[name] for name in AT_REST if figures[name]}
        if figures["upstream_connections"] != idle:
            held["upstream_connections"] = figures["upstream_connections"] - idle
        same = base is None or (
            found.descriptors <= base.descriptors
            and found.sockets <= base.sockets
            and figures["tasks"] <= tasks
        )
        if same and not held:
            return found, figures["tasks"]
        if trio.current_time() > deadline:
            assert not held, f"something is held after everybody has left: {held}"
            return found, figures["tasks"]


def windows(samples: list[int]) -> tuple[float, float]:
    """Resident bytes after the first minute and at the end, each over a while."""
    length = max(1, int(len(samples) * WINDOW_SHARE))
    begin = min(int(60 / SAMPLE_SECONDS), len(samples) // 3)
    return median(samples[begin : begin + length]), median(samples[-length:])


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seconds", type=float, default=600.0)
    made.add_argument("--seed", type=int, default=7)
    made.add_argument("--pause", type=float, default=0.02, help="of a client between two things, in seconds")
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--no-assert", dest="assert_figures", action="store_false", help="only print figures")
    return made


if __name__ == "__main__":
    main(measure, parser())
