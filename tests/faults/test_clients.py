"""Rows 8, 9 and 20: clients that leave, that do not read, and that send too much or too slowly.

What a slow reader costs in memory is in tests/gateway/test_forward_pressure.py.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import trio

from tests.faults.arena import Arena, arena, now, only_in_full, scaled
from tests.faults.conftest import Table
from tests.faults.history import percentile
from tests.gateway.conftest import Tenant
from tests.gateway.test_accept import LEAVES, Leave
from tests.support.gateway import POLL_SECONDS
from tests.support.raw_client import RawClient
from tests.support.requests import BODY, post

EACH = scaled(67, 1)
"""Times each way to leave at each moment: in full about a thousand."""

# What the provider does until then, and what of the answer the client waits for.
MOMENTS: dict[str, tuple[str, bytes]] = {
    "it thinks": ("headers_ms=60000", b""),
    "the head is out": ("ttft_ms=60000", b"\r\n\r\n"),
    "it speaks": ("tokens=5000,pace_ms=5", b"content_block_delta"),
}


async def test_clients_that_leave(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """In every way, at every moment: the provider learns of it, and what was used until then has its row."""
    async with arena(own_tenant, tmp_path, seconds_max=scaled(600.0, 120.0)) as stand, stand.control():
        await stand.warm()
        closed: list[float] = []
        late: list[float] = []

        async def leave_often(behaviour: str, awaited: bytes, leave: Leave) -> None:
            for number in range(EACH):
                closed_after, row_after = await leave_once(stand, behaviour, awaited, leave, number)
                closed.append(closed_after)
                late.append(row_after)

        async with trio.open_nursery() as nursery:
            for behaviour, awaited in MOMENTS.values():
                for leave in LEAVES:
                    nursery.start_soon(leave_often, behaviour, awaited, leave)
        assert percentile(closed, 0.99) <= scaled(0.25, 5.0)
        assert max(closed) <= scaled(1.0, 5.0)
        assert max(late) <= scaled(2.0, 10.0)
        found = await stand.findings()
        assert (found.lost, found.doubled, found.phantom) == ([], [], [])
    table.add(
        8,
        f"client leaves, {len(LEAVES)} ways",
        f"{len(closed)}: upstream closed p99 {percentile(closed, 0.99) * 1000:.0f} ms (max 250), row within "
        f"{max(late):.1f} s (max 2); 0 lost",
    )


async def leave_once(
    stand: Arena, behaviour: str, awaited: bytes, leave: Leave, gateway: int
) -> tuple[float, float]:
    """Seconds until the provider saw it, and until the row was there."""
    attempt, request = stand.request(behaviour)
    async with stand.client(gateway) as client:
        await client.send(request)
        if awaited:
            await client.read_until(awaited)
        else:
            await stand.arrived(attempt)
        await leave(client)
        # Not before: what a leave has to send takes its turn among many clients of this process.
        left_at = client.left_at
        row = await stand.row(attempt)
        row_after = now() - left_at
        entry = await stand.entry(attempt)
    assert row["outcome"] == "client_gone"
    assert entry["client_closed_at"] is not None
    if b"delta" in awaited:
        # Nobody said how much it was: events were counted, and an opening one may pass for a token.
        assert 0 < row["output_tokens"] <= entry["events_sent"]
    return entry["client_closed_at"] - left_at, row_after


async def test_a_client_that_does_not_read(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """The provider is held back, and after the limit both sides are rid of it."""
    limit = scaled(5.0, 1.0)
    flood = 100_000_000
    stand_ = arena(own_tenant, tmp_path, KARTA_WRITE_STALL_SECONDS=f"{limit:g}")
    async with stand_ as stand, stand.control():
        await stand.warm()
        attempts = []
        async with contextlib.AsyncExitStack() as clients:
            for number in range(scaled(50, 4)):
                attempt, request = stand.request(f"bytes={flood}")
                client = await clients.enter_async_context(stand.client(number % 2, receive_buffer=4096))
                await client.send(request)
                attempts.append(attempt)
            rows = await stand.rows_of(*attempts)
            entries = [await stand.entry(attempt) for attempt in attempts]
        assert {row["outcome"] for row in rows} == {"timed_out"}
        sent = max(entry["bytes_sent"] for entry in entries)
        # The buffers of three kernels' sockets, the proxy's and the provider's own among them.
        assert sent <= 8_000_000
        assert max(row["response_bytes"] for row in rows) <= 1_500_000
    table.add(
        9,
        "client does not read",
        f"{len(rows)} cut at {limit:g} s; of 100 MB relayed at most "
        f"{max(row['response_bytes'] for row in rows) / 1000:.0f} KB",
    )


def oversized(token: str) -> dict[str, tuple[bytes, int]]:
    """What is too much, and its status."""
    limit = 1_000_000
    plain = post(token, BODY)
    head, _, _ = plain.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    unsized = b"\r\n".join(line for line in lines if not line.startswith(b"content-length"))
    return {
        "a head of 33 KB": (plain.replace(b"host: karta", b"host: karta\r\nx-a: " + b"a" * 33_000), 431),
        "200 fields": (plain.replace(b"host: karta", b"host: karta" + b"\r\nx-a: a" * 200), 431),
        "a URL of 9 KB": (plain.replace(b"/v1/messages", b"/v1/messages?" + b"a" * 9_000), 414),
        "a body by its length": (unsized + b"\r\ncontent-length: %d\r\n\r\n{" % (limit + 1), 413),
        "a body in chunks": (
            unsized + b"\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n" % (limit + 1) + bytes(limit + 1),
            413,
        ),
        "a body that waits for 100": (
            unsized + b"\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % (limit + 1),
            413,
        ),
    }


async def test_requests_that_are_too_large(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    kinds = oversized(own_tenant.token)
    async with arena(own_tenant, tmp_path, KARTA_BODY_BYTES_MAX="1000000") as stand, stand.control():
        await stand.warm()
        for number in range(scaled(20, 1)):
            for name, (request, status) in kinds.items():
                async with stand.client(number % 2) as client:
                    await client.send(request)
                    answer = await client.read_answer()
                    assert answer.status == status, name
                    # Whatever was left unread is no next request.
                    await client.read_to_end()
        entries = [entry for entry in await stand.ledger() if entry["method"] == "POST"]
        # What went up is the control stream and what warmed up.
        assert len(entries) == 1 + len(stand.gateways)
    table.add(
        20, "oversized requests", f"{len(kinds)} kinds refused (413, 414, 431) and closed; none went up"
    )


@only_in_full
async def test_connections_that_dawdle(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """Heads that never end, on many connections: they are cut, and honest clients notice nothing."""
    count = scaled(1000, 40)
    async with arena(own_tenant, tmp_path) as stand, stand.control(), trio.open_nursery() as nursery:
        await stand.warm()
        before = percentile(await stand.ask_many(scaled(200, 20), "tokens=1"), 0.99)
        cut: list[float] = []
        opened = trio.Event()
        waiting = 0

        async def dawdle(number: int) -> None:
            nonlocal waiting
            async with stand.client(number % 2) as client:
                await client.send(post(own_tenant.token)[: 20 + number % 50])
                waiting += 1
                if waiting == count:
                    opened.set()
                began = trio.current_time()
                await end_of(client)
                cut.append(trio.current_time() - began)

        for number in range(count):
            nursery.start_soon(dawdle, number)
        await opened.wait()
        during = percentile(await stand.ask_many(scaled(200, 20), "tokens=1"), 0.99)
        assert during < scaled(2 * max(before, 0.005), 5.0)
        with trio.fail_after(60):
            while len(cut) < count:
                await trio.sleep(POLL_SECONDS)
        assert max(cut) <= scaled(12.0, 40.0)
    table.add(
        20,
        f"{count} slow heads",
        f"cut within {max(cut):.1f} s; honest p99 {before * 1000:.1f} → {during * 1000:.1f} ms (max doubled)",
    )


@only_in_full
async def test_a_body_that_trickles(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """A byte a second: each is in time, and all of them would take years."""
    async with arena(own_tenant, tmp_path) as stand, stand.control(), stand.client() as client:
        await stand.warm()
        await client.send(post(own_tenant.token, bytes(100_000))[:300])
        began = trio.current_time()
        ended: list[float] = []

        async def trickle() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                while True:
                    await trio.sleep(1)
                    await client.send(b"x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            with trio.fail_after(60):
                received = b""
                while data := await receive_patiently(client):
                    received += data
            ended.append(trio.current_time() - began)
            nursery.cancel_scope.cancel()
        assert received.startswith(b"HTTP/1.1 408 ")
        assert ended[0] <= scaled(34.0, 55.0)
    table.add(20, "body of a byte a second", f"408 and cut after {ended[0]:.0f} s (baseline: for ever)")


async def receive_patiently(client: RawClient) -> bytes:
    """Some bytes, however long it takes; b"" at the end."""
    try:
        return bytes(await client.stream.receive_some())
    except trio.BrokenResourceError:
        return b""


async def end_of(client: RawClient) -> None:
    while await receive_patiently(client):
        pass
