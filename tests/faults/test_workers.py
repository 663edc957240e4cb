"""Rows 10 and 11: workers that are stopped and replaced under load.

Rows 12 and 13, killed workers, are tests/gateway/test_killed_workers.py (`tox -e killed`) and
test_supervisor.py there; 14 and 15, keys that end, test_revocation_reach.py (`tox -e capacity`).
"""

from __future__ import annotations

import contextlib
import json
import signal
from pathlib import Path

import trio

from storage.bridge import open_database
from tests.bench.sim.process import running_sim
from tests.faults.arena import only_in_full
from tests.faults.conftest import Table
from tests.gateway.conftest import Tenant
from tests.reach import handover
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.raw_client import RawClient
from tests.support.requests import post

STREAMS = 200
STALLED = 5
DRAIN_SECONDS = 8.0
MARGIN_SECONDS = 2.0
CLOSED_SECONDS_MAX = 0.1


def request(tenant: Tenant, behaviour: str) -> bytes:
    document = {"model": f"sim:{behaviour}", "max_tokens": 100_000, "messages": [], "stream": True}
    return post(tenant.token, json.dumps(document).encode())


@only_in_full
async def test_a_stop_with_streams(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """Those that end do, those that stand still are told, and all of them are counted."""
    whole: list[bool] = []
    seconds = {}
    with running_sim() as provider, trio.fail_after(120):
        async with (
            gateway_process(
                own_tenant.database_url,
                tmp_path / "spool",
                provider_url=provider.base_url,
                workers=2,
                KARTA_DRAIN_SECONDS=f"{DRAIN_SECONDS:g}",
            ) as gateway,
            contextlib.AsyncExitStack() as stalled,
            trio.open_nursery() as nursery,
        ):
            for _ in range(STALLED):
                sock = stalled.enter_context(trio.socket.socket())
                sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
                await sock.connect(("127.0.0.1", gateway.port))
                await trio.SocketStream(sock).send_all(request(own_tenant, "bytes=100000000"))

            async def stream() -> None:
                async with await gateway.connect() as sock:
                    client = RawClient(sock)
                    await client.send(request(own_tenant, "tokens=30,pace_ms=150"))
                    whole.append(b"message_stop" in (await client.read_answer()).body)

            for _ in range(STREAMS):
                nursery.start_soon(stream)
            while (await provider.look("/_sim/ledger"))["last_seq"] < STREAMS + STALLED:
                await trio.sleep(0.05)
            began = trio.current_time()
            gateway.signal(signal.SIGTERM)
            await until_refused(gateway)
            seconds["closed"] = trio.current_time() - began
            while not gateway.ended:
                await trio.sleep(0.02)
            seconds["ended"] = trio.current_time() - began
            assert await gateway.stop() == 0
        async with open_database(own_tenant.database_url, role=None) as db:
            rows = await db.fetch("SELECT outcome, count(*) AS n FROM usage GROUP BY outcome")
    assert whole == [True] * STREAMS
    assert {row["outcome"]: row["n"] for row in rows} == {"completed": STREAMS, "stopped": STALLED}
    assert seconds["closed"] <= CLOSED_SECONDS_MAX
    assert seconds["ended"] <= DRAIN_SECONDS + MARGIN_SECONDS
    table.add(
        10,
        "stop with streams",
        f"closed to new ones in {seconds['closed'] * 1000:.0f} ms (max 100); {STREAMS} whole, {STALLED} that "
        f"stood still cut and counted; ended after {seconds['ended']:.1f} s (max {DRAIN_SECONDS + 2:.0f})",
    )


async def until_refused(gateway: GatewayProcess) -> None:
    while True:
        try:
            await (await gateway.connect()).aclose()
        except OSError:
            return
        await trio.sleep(0.005)


@only_in_full
async def test_a_reload_with_very_many_keys(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    given = handover.parser().parse_args([])
    await handover.measure(own_tenant, tmp_path, given)
    table.add(11, f"rolling restart, {given.keys} busy keys", "0 failed, 0 verified again; figures above")
