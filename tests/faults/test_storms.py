"""Rows 21 and 22: wrong keys that would each cost a bcrypt, and ten thousand streams that say nothing."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.faults.arena import Arena, arena, only_in_full
from tests.faults.conftest import Table
from tests.faults.history import percentile
from tests.faults.test_resources import cpu_seconds
from tests.gateway.conftest import Tenant
from tests.reach import streams
from tests.support.raw_client import RawClient
from tests.support.requests import post
from tests.support.tokens import forge, unknown

ASKED = 4000
BEGINNING = 400
"""Of these, where the storm begins: told, but so few have no 99th percentile to be held to."""
UNKNOWN_A_SECOND = 200
WRONG_A_SECOND = 50
NOISE_SECONDS = 0.005
"""Below that, doubled is chance."""


@only_in_full
async def test_a_storm_of_wrong_keys(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """Two hundred well-formed unknown keys a second and fifty with a known id, from an address each."""
    async with arena(own_tenant, tmp_path) as stand, stand.control():
        await stand.warm()
        before = percentile(await stand.ask_many(ASKED, "tokens=1"), 0.99)
        statuses: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storm, stand, "127.0.0.21", UNKNOWN_A_SECOND, unknown, statuses)
            nursery.start_soon(
                storm, stand, "127.0.0.22", WRONG_A_SECOND, lambda: forge(own_tenant.token), statuses
            )
            # From the very beginning, where verifications are under way.
            spent, began = cpu_of(stand), trio.current_time()
            asked = await stand.ask_many(ASKED, "tokens=1")
            cores = (cpu_of(stand) - spent) / (trio.current_time() - began)
            nursery.cancel_scope.cancel()
        assert set(statuses) <= {401, 429}
        assert 429 in statuses
        during, beginning = percentile(asked, 0.99), percentile(asked[:BEGINNING], 0.99)
        assert during < 2 * max(before, NOISE_SECONDS)
    table.add(
        21,
        "bcrypt storm",
        f"{len(statuses)} refused; honest p99 {before * 1000:.1f} → {during * 1000:.1f} ms (max doubled), "
        f"{beginning * 1000:.1f} ms at the beginning; {cores:.2f} cores in all",
    )


def cpu_of(stand: Arena) -> float:
    return sum(cpu_seconds(gateway.pid) for gateway in stand.gateways)


async def storm(
    stand: Arena, address: str, rate: int, make: object, statuses: list[int], clients: int = 8
) -> None:
    """So many a second over all gateways, each with a token of its own."""
    assert callable(make)

    async def guess(number: int) -> None:
        with trio.socket.socket() as sock:
            await sock.bind((address, 0))
            await sock.connect(("127.0.0.1", stand.gateways[number % len(stand.gateways)].port))
            client = RawClient(trio.SocketStream(sock))
            while True:
                await client.send(post(make()))
                statuses.append((await client.read_answer()).status)
                await trio.sleep(clients / rate)

    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(guess, number)


@only_in_full
async def test_ten_thousand_idle_streams(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    given = streams.parser().parse_args(["--idle", "10000", "--rounds", "5", "--seconds", "30"])
    await streams.measure(own_tenant, tmp_path, given)
    table.add(22, "10,000 idle streams, 5 rounds", "0 dropped; figures above")
