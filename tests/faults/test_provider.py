"""Rows 4, 5, 6 and 7: a provider that cannot be reached, does not answer, breaks off, or falls silent; and
what a bad line does to an answer, which is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from tests.faults.arena import arena, now, only_in_full, scaled
from tests.faults.conftest import Table
from tests.faults.fault_proxy import (
    Bandwidth,
    Fault,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)
from tests.gateway.conftest import Tenant
from tests.support.raw_client import RawClient

CLOSED_SECONDS_MAX = scaled(0.25, 5.0)
# How the two APIs end a stream that is whole.
ENDS = {False: b"message_stop", True: b"[DONE]"}


@only_in_full
async def test_a_provider_that_refuses(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    # Each request is to be tried: whom breakers leave alone is told by their own tests.
    stand_ = arena(own_tenant, tmp_path, by_proxy=True, KARTA_BREAKER_FAILURE_PERCENT="0")
    async with stand_ as stand, stand.control():
        await stand.warm()
        control = stand.proxy.connections
        # Only new connections meet it: whatever is open goes on.
        stand.proxy.faults = [ResetPeer()]
        times = []
        for number in range(scaled(20, 4)):
            async with stand.client(1) as client:
                attempt, request = stand.request("die_at=request", stream=False)
                began = trio.current_time()
                await client.send(request)
                answer = await client.read_answer()
                times.append(trio.current_time() - began)
            assert answer.status == 502, number
            assert b"sk-" not in answer.raw
            row = await stand.row(attempt)
            assert (row["outcome"], row["cost_picodollars"], row["output_tokens"]) == (
                "upstream_failed",
                0,
                0,
            )
        assert stand.proxy.connections > control
        assert max(times) <= scaled(1.0, 5.0)
    table.add(4, "upstream refuses", f"502 after at most {max(times) * 1000:.0f} ms (max 1,000); charged 0")


async def test_a_provider_that_does_not_answer(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    limit = 2.0
    stand_ = arena(own_tenant, tmp_path, KARTA_FIRST_BYTE_SECONDS=f"{limit:g}")
    async with stand_ as stand, stand.control():
        await stand.warm()
        late, closed = [], []
        for number in range(scaled(20, 3)):
            attempt = await stand.ask("hang=head", openai=number % 2 == 1, gateway=number % 2)
            answered_at = now()
            assert attempt.status == 504
            entry = await stand.entry(attempt)
            late.append(attempt.seconds - limit)
            closed.append((entry["client_closed_at"] or entry["ended_at"]) - answered_at)
            row = await stand.row(attempt)
            assert (row["outcome"], row["status"], row["output_tokens"]) == ("timed_out", 504, 0)
        # The clock of all limits is looked at four times a second.
        assert min(late) >= -0.3
        assert max(late) <= scaled(0.4, 5.0)
        assert max(closed) <= CLOSED_SECONDS_MAX
    table.add(
        5,
        "upstream sends no head",
        f"504 at {limit:g} s {min(late):+.2f} … {max(late):+.2f} s; upstream closed within "
        f"{max(0.0, *closed) * 1000:.0f} ms (max 250)",
    )


@pytest.mark.parametrize("openai", scaled([False, True], [True]))
@pytest.mark.parametrize("how", scaled(["rst", "fin"], ["fin"]))
async def test_a_provider_that_breaks_off(
    how: str, openai: bool, own_tenant: Tenant, tmp_path: Path, table: Table
) -> None:
    async with arena(own_tenant, tmp_path) as stand, stand.control():
        await stand.warm()
        count = scaled(50, 4)
        for number in range(count):
            # Paced, so that what was sent before it is not overtaken by the reset.
            behaviour = f"tokens=20,pace_ms=5,die_after={5 + number % 10},die={how}"
            attempt, request = stand.request(behaviour, openai=openai)
            async with stand.client(number % 2) as client:
                await client.send(request)
                received = await client.read_to_end()
            assert received.startswith(b"HTTP/1.1 200")
            assert ENDS[openai] not in received
            assert not received.endswith(b"0\r\n\r\n")
            assert b"error" in received or client.was_reset
            row = await stand.row(attempt)
            entry = await stand.entry(attempt)
            assert (row["outcome"], row["usage_complete"]) == ("upstream_failed", False)
            assert 0 < row["output_tokens"] <= entry["events_sent"]
        assert (await stand.findings()).phantom == []
    table.add(6, f"upstream breaks off ({how}, {ENDS[openai].decode()})", f"{count} cut, 0 looked whole")


@only_in_full
@pytest.mark.parametrize("fault", [ResetPeer(after_bytes=900), LimitData(after_bytes=900)])
async def test_a_line_that_breaks_off(fault: Fault, own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """Wherever in an answer's bytes that is: also within a head, an event or a chunk's size."""
    async with arena(own_tenant, tmp_path, by_proxy=True) as stand, stand.control():
        await stand.warm()
        count = scaled(100, 6)
        for number in range(count):
            after = 100 + number * scaled(31, 500)
            stand.proxy.faults = [type(fault)(after_bytes=after)]  # type: ignore[call-arg]
            attempt, request = stand.request(f"tokens=60,close,bytes={100 + number}")
            async with stand.client(1) as client:
                await client.send(request)
                received = await read_whole(client)
            whole = b"message_stop" in received
            row = await stand.row(attempt)
            assert row["usage_complete"] or not whole
            assert not received.endswith(b"0\r\n\r\n") or whole
        assert (await stand.findings()).doubled == []
    table.add(6, f"line breaks off ({type(fault).__name__})", f"{count} places, 0 looked whole")


async def read_whole(client: RawClient) -> bytes:
    """An answer up to its end, or to that of its connection."""
    received = b""
    while True:
        data = await client.receive()
        received += data
        if not data or received.endswith(b"0\r\n\r\n") or b"HTTP/1.1 502" in received:
            return received


@pytest.mark.parametrize("openai", scaled([False, True], [False]))
async def test_a_provider_that_falls_silent(
    openai: bool, own_tenant: Tenant, tmp_path: Path, table: Table
) -> None:
    limit = 1.5
    stand_ = arena(own_tenant, tmp_path, KARTA_BETWEEN_BYTES_SECONDS=f"{limit:g}")
    async with stand_ as stand, stand.control():
        await stand.warm()
        late = []
        for number in range(scaled(10, 2)):
            attempt, request = stand.request("tokens=20,hang_after=6", openai=openai)
            async with stand.client(number % 2) as client:
                await client.send(request)
                received = await client.read_until(b"\r\n\r\n")
                while data := await client.receive():
                    received += data
                ended_at = now()
            # Its events went out together. When they got here is this process's affair.
            late.append(ended_at - (await stand.entry(attempt))["first_byte_at"] - limit)
            assert ENDS[openai] not in received
            # One error event at the end, and nothing put in before it.
            assert received.count(b"upstream_timeout" if openai else b"timeout_error") == 1
            row = await stand.row(attempt)
            assert (row["outcome"], row["usage_complete"]) == ("timed_out", False)
        assert min(late) >= -0.3
        assert max(late) <= scaled(0.4, 5.0)
    table.add(7, f"upstream stalls ({ENDS[openai].decode()})", f"cut at {limit:g} s {max(late):+.2f} s, told")


LINES: dict[str, Sequence[Fault]] = {
    "slow": [Latency(seconds=0.05)],
    "narrow": [Bandwidth(bytes_per_second=20_000)],
    "sliced": [Slicer(bytes=1), Slicer(bytes=3, direction="up")],
    "slow to close": [SlowClose(seconds=0.2)],
    "slow and sliced": [Latency(seconds=0.02, direction="up"), Slicer(bytes=7)],
}


@pytest.mark.parametrize("line", scaled(list(LINES), ["slow and sliced"]))
async def test_a_bad_line_changes_nothing(
    line: str, own_tenant: Tenant, tmp_path: Path, table: Table
) -> None:
    async with arena(own_tenant, tmp_path, by_proxy=True) as stand, stand.control():
        await stand.warm()
        stand.proxy.faults = list(LINES[line])
        count = scaled(20, 2)
        for number in range(count):
            for stream in (True, False):
                attempt = await stand.ask("tokens=5,close", stream=stream, openai=number % 2 == 1, gateway=1)
                assert (attempt.status, attempt.whole) == (200, True)
        whole = [one for one in stand.history if one.whole]
        await stand.rows_of(*whole)
        found = await stand.findings()
        # Anthropic's streams and all whole answers are the provider's very bytes; OpenAI's as well, since
        # usage was asked for.
        assert found.none, found
    table.add(6, f"line is {line}", f"{2 * count} answers byte-identical, usage equal")


@only_in_full
async def test_a_line_that_goes_dead_before_an_answer(
    own_tenant: Tenant, tmp_path: Path, table: Table
) -> None:
    stand_ = arena(own_tenant, tmp_path, by_proxy=True, KARTA_FIRST_BYTE_SECONDS="1")
    async with stand_ as stand, stand.control():
        await stand.warm()
        stand.proxy.faults = [Timeout()]
        # One that is idle is alive; what needs a new one meets the dead line.
        statuses = [(await stand.ask("tokens=2,close", gateway=1)).status for _ in range(3)]
        assert statuses[-1] == 504
        stand.proxy.faults = []
        assert (await stand.ask("tokens=2", gateway=1)).status == 200
    table.add(5, "line goes dead", "504, and healthy again at once")
