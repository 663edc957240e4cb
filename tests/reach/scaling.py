"""Two workers against one: `python -m tests.reach.scaling`, or `tox -e capacity`.

The same closed loop before one worker and before two, in turn, several times. Where generator and provider
are on the same cores as the workers (as on a machine of two), two workers cannot be twice as fast: what they
may use is what the others leave. So besides the ratio it is told how much of a core Karta got, and what CPU a
request took. A core over that figure is what each worker does that has a core to itself, as far as workers
share nothing; how much more a request costs with two of them shows how far that holds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

from tests.gateway.conftest import Tenant
from tests.reach.stand import main, stand, tell

RATIO_MIN = 1.0
"""On a machine whose cores are all taken by one worker and its load, more would be chance."""
EFFICIENCY_MIN = 0.85
"""Requests per second of Karta's CPU, two workers against one: what they lose by being two."""


async def measure(tenant: Tenant, folder: Path, given: argparse.Namespace) -> None:
    rates: dict[int, list[float]] = {1: [], 2: []}
    costs: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(given.rounds):
        for workers in rates:
            async with stand(tenant, folder, workers=workers) as made:
                result = await made.load(made.plan(connections=given.connections, seconds=given.seconds))
            assert not result.tally.failed, result.tally.examples
            rate = result.tally.requests / result.tally.seconds
            spent = result.target_cpu_seconds or 0.0
            rates[workers].append(rate)
            costs[workers].append(spent / result.tally.requests * 1e6)
            busy = f"{spent / result.tally.seconds:.2f} cores, {costs[workers][-1]:.0f} us of CPU each"
            tell(f"{workers} worker(s), requests/s", f"{rate:.0f} ({busy})")
    ratio = median(rates[2]) / median(rates[1])
    efficiency = median(costs[1]) / median(costs[2])
    tell("two against one", f"{ratio:.2f}; requests per second of CPU {efficiency:.2f}")
    if given.assert_figures:
        assert ratio >= RATIO_MIN, f"two workers serve {ratio:.2f} of what one does"
        assert efficiency >= EFFICIENCY_MIN, f"a request costs {1 / efficiency:.2f} times as much"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=float, default=5.0)
    made.add_argument("--connections", type=int, default=64)
    made.add_argument("--no-assert", dest="assert_figures", action="store_false", help="only print figures")
    return made


if __name__ == "__main__":
    main(measure, parser())
