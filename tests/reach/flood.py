"""What a flood of invalid keys takes from honest traffic: `python -m tests.reach.flood`, or `tox -e flood`.

A closed loop of a verified key, alone and then beside an open loop of wrong keys: garbage, well-formed ones
that nobody minted, and the honest key's own id with wrong secrets, thousands of each, from one address. The
flood is made on the same cores as everything else here, so before that it goes, for comparison, to another
provider, which answers it: what the harness takes is no fault of Karta's. Karta reads slowly from who sends
nothing else, so that few connections (`--flood-connections`) do not get as far as the rate.

Meanwhile a key that no worker has seen is used from another address, and must get in.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import trio

from bench.load.plan import LoadPlan
from bench.load.run import LoadResult
from storage.bridge import open_database
from tests.bench.sim.process import running_sim
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
            connections=given.flood_connections,
            # Until it is ended with the honest load.
            seconds=2 * (given.lead + given.seconds) + 60,
            driver="open",
            rate_per_second=given.rate,
            expectation=ANY,
        )
        with running_sim() as sink:
            elsewhere = msgspec.structs.replace(flood, base_url=sink.base_url)
            alone = await beside(made, honest, elsewhere, given.lead)
        before = (await made.figures())["refusals_total"]
        under, seconds = await attacked_by(made, honest, flood, given.lead, [cold, attacked])
        figures = await made.figures()
    refused = (figures["refusals_total"] - before) / (given.lead + given.seconds)
    share = under.tally.requests / under.tally.seconds / (alone.tally.requests / alone.tally.seconds)
    tell("honest requests/s, flood elsewhere", f"{alone.tally.requests / alone.tally.seconds:.0f}")
    tell(
        f"honest requests/s, flood of {given.rate:.0f}/s at Karta", f"{share:.2f} of it (min {SHARE_MIN:.2f})"
    )
    tell("honest p99 ms, without and with", f"{p99_ms(alone):.1f}, {p99_ms(under):.1f}")
    tell("new and attacked key let in after s", " ".join(f"{one:.1f}" for one in seconds))
    tell("wrong keys refused a second; bcrypts", f"{refused:.0f}; {figures['bcrypt_total']:.0f}")
    assert not under.tally.failed, under.tally.examples
    assert max(seconds) <= (COLD_SECONDS_MAX if given.assert_figures else 60.0), "a real key was locked out"
    assert figures["bcrypt_total"] < 100, "the flood was verified"
    if given.assert_figures:
        assert share >= SHARE_MIN, f"the flood took {1 - share:.0%} of the honest throughput"


def p99_ms(result: LoadResult) -> float:
    return result.tally.latency.percentile(99) / 1e6


async def beside(made: Stand, honest: LoadPlan, flood: LoadPlan, lead: float) -> LoadResult:
    """The honest load while the flood runs, which takes `lead` seconds to open its connections."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.load, flood)
        await trio.sleep(lead)
        result = await made.load(honest)
        nursery.cancel_scope.cancel()
    return result


async def attacked_by(
    made: Stand, honest: LoadPlan, flood: LoadPlan, lead: float, new_keys: list[str]
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
        result = await beside(made, honest, flood, lead)
    return result, seconds


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rate", type=float, default=5000.0, help="wrong keys a second")
    made.add_argument("--seconds", type=float, default=20.0)
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--connections", type=int, default=32, help="of the honest load")
    made.add_argument("--flood-connections", type=int, default=1000)
    made.add_argument("--lead", type=float, default=8.0, help="seconds that the flood opens connections for")
    made.add_argument("--tokens", type=int, default=4000, help="wrong tokens of each of the three kinds")
    made.add_argument("--no-assert", dest="assert_figures", action="store_false", help="only print figures")
    return made


if __name__ == "__main__":
    main(measure, parser())
