"""What a flood of invalid keys takes from honest traffic: `python -m tests.reach.flood`, or `tox -e flood`.

A closed loop of a verified key, alone and then beside an open loop of wrong keys: garbage, well-formed ones
that nobody minted, and the honest key's own id with wrong secrets, thousands of each, from one address. The
flood is made on the same cores as everything else here, so before that the same number of requests goes, for
comparison, to the provider itself: what the harness takes is no fault of Karta's.

Meanwhile a key that no worker has seen is used from another address, and must get in.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import trio

from bench.load.plan import LoadPlan
from bench.load.run import LoadResult
from storage.bridge import open_database
from tests.gateway.conftest import Tenant
from tests.gateway.many_keys import mint_many
from tests.reach.stand import ANY, Stand, main, stand, tell
from tests.support.tokens import GARBAGE, forge, unknown

SHARE_MIN = 2 / 3
OWNER_ADDRESS = "127.0.0.9"
COLD_SECONDS_MAX = 15.0
"""Twenty failures of the attacker's address, each a bcrypt, may come before it."""


async def measure(tenant: Tenant, folder: Path, given: argparse.Namespace) -> None:
    async with open_database(tenant.database_url, role=None) as owner:
        cold, attacked = await mint_many(owner, tenant, 2)
    each = given.tokens
    wrong = [
        *(f"{GARBAGE[1]}{number}" for number in range(each)),
        *(unknown() for _ in range(each)),
        *(forge(attacked) for _ in range(each)),
    ]
    async with stand(tenant, folder, workers=given.workers) as made:
        honest = made.plan(connections=given.connections, seconds=given.seconds)
        flood = made.plan(
            keys=wrong[::each] + wrong,
            connections=64,
            seconds=given.seconds,
            driver="open",
            rate_per_second=given.rate,
            expectation=ANY,
        )
        # The first failures are bcrypts: what is measured comes after them.
        alone = await beside(made, honest, at_provider(made, flood))
        under, seconds = await attacked_by(made, honest, flood, [cold, attacked])
        figures = await made.figures()
    share = under.tally.requests / under.tally.seconds / (alone.tally.requests / alone.tally.seconds)
    tell("honest requests/s, flood at the provider", f"{alone.tally.requests / alone.tally.seconds:.0f}")
    tell(
        f"honest requests/s, flood of {given.rate:.0f}/s at Karta", f"{share:.2f} of it (min {SHARE_MIN:.2f})"
    )
    tell("honest p99 ms, without and with", f"{p99_ms(alone):.1f}, {p99_ms(under):.1f}")
    tell("new and attacked key let in after s", " ".join(f"{one:.1f}" for one in seconds))
    tell("wrong keys refused; bcrypts", f"{figures['refusals_total']:.0f}; {figures['bcrypt_total']:.0f}")
    assert not under.tally.failed, under.tally.examples
    assert max(seconds) <= (COLD_SECONDS_MAX if given.assert_figures else 60.0), "a real key was locked out"
    assert figures["bcrypt_total"] < 100, "the flood was verified"
    if given.assert_figures:
        assert share >= SHARE_MIN, f"the flood took {1 - share:.0%} of the honest throughput"


def p99_ms(result: LoadResult) -> float:
    return result.tally.latency.percentile(99) / 1e6


def at_provider(made: Stand, flood: LoadPlan) -> LoadPlan:
    """The same requests where they are nobody's trouble."""
    return LoadPlan(
        base_url=made.provider.base_url,
        keys=flood.keys,
        question=flood.question,
        connections=flood.connections,
        seconds=flood.seconds,
        driver="open",
        rate_per_second=flood.rate_per_second,
        expectation=ANY,
    )


async def beside(made: Stand, honest: LoadPlan, flood: LoadPlan) -> LoadResult:
    """The honest load while the flood runs."""
    results: list[LoadResult] = []

    async def load() -> None:
        results.append(await made.load(honest))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.load, flood)
        nursery.start_soon(load)
    return results[0]


async def attacked_by(
    made: Stand, honest: LoadPlan, flood: LoadPlan, new_keys: list[str]
) -> tuple[LoadResult, list[float]]:
    """The same, and after how many seconds each of the keys that nobody knows was let in."""
    seconds: list[float] = []

    async def get_in(token: str) -> None:
        began = trio.current_time()
        while (await made.ask(token, address=OWNER_ADDRESS)).status != 200:
            await trio.sleep(1)
        seconds.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        for token in new_keys:
            nursery.start_soon(get_in, token)
        result = await beside(made, honest, flood)
    return result, seconds


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rate", type=float, default=5000.0, help="wrong keys a second")
    made.add_argument("--seconds", type=float, default=20.0)
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--connections", type=int, default=32, help="of the honest load")
    made.add_argument("--tokens", type=int, default=4000, help="wrong tokens of each of the three kinds")
    made.add_argument("--no-assert", dest="assert_figures", action="store_false", help="only print figures")
    return made


if __name__ == "__main__":
    main(measure, parser())
