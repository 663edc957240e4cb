"""Row 25: all faults at random, and afterwards nothing is lost, doubled, made up or wrongly added.

`KARTA_TEST_SOAK_SECONDS` sets how long (half an hour is what the matrix asks for), `KARTA_TEST_SEED` where
chance begins. Kills are not among the faults: tests/gateway/test_killed_workers.py has those, with limits.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from storage.api_keys import mint_key, revoke_key
from storage.audit_chain import verify_chain
from storage.bridge import Database, open_database
from storage.errors import StorageError
from storage.model import Mode
from tests.faults.arena import Arena, arena, scaled
from tests.faults.conftest import Table
from tests.faults.fault_proxy import Fault, Latency, LimitData, ResetPeer, Slicer
from tests.faults.test_database import Outage, complete
from tests.gateway.conftest import ACTOR
from tests.support.postgres import running_server
from tests.support.tokens import GARBAGE, forge, unknown

SECONDS = float(os.environ.get("KARTA_TEST_SOAK_SECONDS", scaled("120", "6")))
SEED = int(os.environ.get("KARTA_TEST_SEED", "7"))
CLIENTS = scaled(24, 6)
CALM_SECONDS = scaled((0.5, 3.0), (0.2, 0.6))
HANG_SECONDS = scaled((0.5, 8.0), (0.2, 1.0))


@pytest.fixture(scope="module")
def outage() -> Iterator[Outage]:
    with running_server() as server:
        made = Outage(server)
        yield made
        made.close()


class Trouble:
    """One fault after the other; `seen` counts them."""

    def __init__(self, stand: Arena, outage: Outage, choose: random.Random) -> None:
        self._stand = stand
        self._outage = outage
        self._choose = choose
        self.seen: Counter[str] = Counter()

    async def run(self) -> None:
        """Until cancelled; what was begun is ended."""
        kinds = (self._line, self._line, self._hang, self._crash, self._administer)
        while True:
            await trio.sleep(self._choose.uniform(*CALM_SECONDS))
            kind = self._choose.choice(kinds)
            with trio.CancelScope(shield=True):
                await kind()
            self.seen[kind.__name__.strip("_")] += 1

    async def _line(self) -> None:
        after = self._choose.randint(50, 5000)
        kinds: list[list[Fault]] = [
            [],
            [ResetPeer(after_bytes=after)],
            [LimitData(after_bytes=after)],
            [Latency(seconds=0.05)],
            [Slicer(bytes=5)],
        ]
        # Those that were made with a fault keep it.
        self._stand.proxy.faults = self._choose.choice(kinds)

    async def _hang(self) -> None:
        with self._outage.hanging():
            await trio.sleep(self._choose.uniform(*HANG_SECONDS))

    async def _crash(self) -> None:
        await trio.to_thread.run_sync(self._outage.server.stop, 3)
        await trio.sleep(self._choose.uniform(*HANG_SECONDS))
        await self._outage.start()

    async def _administer(self) -> None:
        async with open_database(self._outage.url, role="karta_admin", connections_max=1) as admin:
            for _ in range(3):
                try:
                    key, _ = await mint_key(
                        admin,
                        ACTOR,
                        org_id=self._outage.org_id,  # type: ignore[arg-type]
                        name="soak",
                        mode=Mode.LIVE,
                    )
                    await revoke_key(admin, ACTOR, key.key_id)
                except StorageError:
                    # Just back: done as a whole, or not at all, which the chain shows.
                    continue


async def be_a_client(stand: Arena, choose: random.Random, number: int) -> None:
    """Answers and streams of all sizes, some left in the middle, some asked for with a wrong key."""
    while True:
        behaviour = f"tokens={choose.randint(1, 60)},cache_read={choose.choice([0, 3])}"
        if choose.random() < 0.5:
            behaviour += ",pace_ms=10"
        options = {"gateway": number, "stream": choose.random() < 0.7, "openai": choose.random() < 0.5}
        chance = choose.random()
        if chance < 0.1:
            token = choose.choice([GARBAGE[1], unknown(), forge(stand.tenant.token)])
            assert (await stand.ask(behaviour, token=token, **options)).status != 200
        elif chance < 0.25:
            with trio.move_on_after(choose.random() * 0.3):
                await stand.ask(behaviour, **options)
        else:
            await stand.ask(behaviour, **options)


async def test_everything_at_random(outage: Outage, tmp_path: Path, table: Table) -> None:
    choose = random.Random(SEED)
    stand_ = arena(outage.tenant(tmp_path), tmp_path, by_proxy=True, seconds_max=SECONDS + 180)
    async with stand_ as stand:
        await stand.warm()
        trouble = Trouble(stand, outage, choose)
        with trio.move_on_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trouble.run)
                for number in range(CLIENTS):
                    nursery.start_soon(be_a_client, stand, random.Random(SEED + number), number)
        stand.proxy.faults = []
        seconds = await complete(stand)
        found = await stand.findings()
        assert found.none, found
        await check_cut(stand)
        whole = sum(one.whole for one in stand.history)
        async with open_database(outage.url, role=None) as db:
            entries = await check_chains(db, outage)
    faults = ", ".join(f"{count} {name}" for name, count in sorted(trouble.seen.items()))
    table.add(
        25,
        f"all at random, {SECONDS:.0f} s, seed {SEED}",
        f"{len(stand.history)} requests ({whole} whole), faults: {faults}; 0 lost, doubled or made up, sums "
        f"equal, {seconds:.1f} s after; chain of {entries} audit entries holds",
    )


async def check_cut(stand: Arena) -> None:
    """Of what did not come to its end no more is counted than the provider sent."""
    entries = {entry["model"]: entry for entry in await stand.ledger()}
    for row in await stand.rows():
        entry = entries.get(row["model_asked"])
        if entry is not None and not row["usage_complete"]:
            assert 0 <= row["output_tokens"] <= max(entry["events_sent"], entry["tokens_sent"]), row


async def check_chains(db: Database, outage: Outage) -> int:
    reports = [
        await verify_chain(db, outage.org_id),  # type: ignore[arg-type]
        await verify_chain(db, None),
    ]
    assert [report.problem for report in reports] == [None, None]
    return sum(report.rows for report in reports)
