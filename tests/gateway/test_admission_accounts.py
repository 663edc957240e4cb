"""What is set apart for a request is settled or free again, however the request ends: the usage rows, the
database's windows and the worker's memory agree."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest
import trio

from gateway.snapshot import KeyRecord
from storage.bridge import Database, open_database
from storage.model import Limit, LimitKind
from storage.sealing import MasterKeys
from tests.gateway.conftest import Stage, Tenant, set_byok
from tests.gateway.limiting import DOLLAR, account_of, limit_tenant, sums_of, until_agreed
from tests.support.gateway import RunningGateway, poll
from tests.support.raw_client import RawClient
from tests.support.requests import post
from tests.support.scripted_provider import Line, pausing
from tests.support.streams import chunk

# Of a known price: 3 dollars for a million tokens in, 15 for as many out.
BODY = b'{"model":"claude-sonnet-4-5","max_tokens":100,"messages":[]}'
STREAM_BODY = BODY[:-1] + b',"stream":true}'
ANSWER = b'{"type":"message","model":"claude-sonnet-4-5","usage":{"input_tokens":3,"output_tokens":4}}'
COST = 3 * 3_000_000 + 4 * 15_000_000
WORST_TOKENS = 1_000 + len(STREAM_BODY) // 2 + 100
EVENTS = (
    (
        b"event: message_start\n"
        b'data: {"type":"message_start","message":{"model":"claude-sonnet-4-5",'
        b'"usage":{"input_tokens":7}}}\n\n'
    ),
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"Hel"}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":5}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)


@pytest.fixture
async def admin(own_tenant: Tenant) -> AsyncIterator[Database]:
    """The control plane's view of the tenant's own database."""
    async with open_database(own_tenant.database_url, role="karta_admin") as db:
        yield db


@pytest.fixture
async def limits(own_tenant: Tenant, admin: Database) -> list[Limit]:
    """One of each kind, wide enough for whatever a test asks."""
    return [
        await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 1_000),
        await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 1_000_000, model="claude-sonnet-4-5"),
        await limit_tenant(admin, own_tenant, LimitKind.MONEY, 100 * DOLLAR, of_key=False),
        await limit_tenant(admin, own_tenant, LimitKind.CONCURRENT, 50, of_key=False),
    ]


async def until_settled(gateway: RunningGateway, tenant: Tenant, limits: list[Limit], rows: int) -> None:
    """There are so many rows, nothing is set apart, and every limit has settled what the rows come to."""
    await gateway.settled(rows)
    sums = await sums_of(gateway.db, tenant.org_id)
    assert sums["requests"] == rows
    for limit in limits:
        settled = 0 if limit.kind is LimitKind.CONCURRENT else sums[limit.kind.value]
        await until_agreed(gateway, limit, settled=settled)


async def test_lane_and_pipeline_count_in_the_same_accounts(
    stage: Stage, own_tenant: Tenant, limits: list[Limit]
) -> None:
    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(ANSWER)

    async with stage(provider, of=own_tenant) as (gateway, _), gateway.client() as client:
        for _ in range(6):
            await client.send(post(own_tenant.token, BODY))
            assert (await client.read_answer()).status == 200
        assert 1 <= gateway.worker.lane.requests < 6
        await until_settled(gateway, own_tenant, limits, 6)
        assert (await sums_of(gateway.db, own_tenant.org_id))["money"] == 6 * COST
        # A limit is the same for both: the lane leaves it to the pipeline to say no.
        db = gateway.db
        spent = await limit_tenant(db, own_tenant, LimitKind.REQUESTS, 7)
        await poll(lambda: spent in only_record(gateway).hard_limits)
        statuses = []
        for _ in range(3):
            await client.send(post(own_tenant.token, BODY))
            statuses.append((await client.read_answer()).status)
    assert statuses == [200, 429, 429]


def only_record(gateway: RunningGateway) -> KeyRecord:
    (record,) = gateway.worker.snapshot._records.values()
    return record


async def test_what_runs_is_set_apart_and_then_settled_to_what_it_was(
    stage: Stage, own_tenant: Tenant, limits: list[Limit]
) -> None:
    go_on = trio.Event()
    provider = pausing(EVENTS, go_on)

    async with stage(provider, of=own_tenant) as (gateway, _), gateway.client() as client:
        await client.send(post(own_tenant.token, STREAM_BODY))
        await client.read_until(chunk(EVENTS[0]))
        worst = (WORST_TOKENS - 100) * 3_750_000 + 100 * 15_000_000
        expected = {"requests": 1, "tokens": WORST_TOKENS, "money": worst, "concurrent": 1, "credit": 0}
        for limit in limits:
            await until_agreed(gateway, limit, settled=0, reserved=expected[limit.kind.value])
        assert gateway.worker.refill.ledger.reserved() == {kind: expected[kind.value] for kind in LimitKind}
        go_on.set()
        assert (await client.read_until(b"0\r\n\r\n")).count(b"event: ") == 3
        await until_settled(gateway, own_tenant, limits, 1)
        assert await sums_of(gateway.db, own_tenant.org_id) == {
            "requests": 1,
            "tokens": 12,
            "money": 7 * 3_000_000 + 5 * 15_000_000,
        }


async def leave(client: RawClient) -> None:
    await client.read_until(chunk(EVENTS[1]))
    await client.close()


async def leave_early(client: RawClient) -> None:
    await client.close()


async def read(client: RawClient) -> None:
    await client.read_to_end()


async def says_nothing(line: Line) -> None:
    await line.read_request()
    await line.wait_closed()


async def says_half(line: Line) -> None:
    await line.read_request()
    await line.begin_stream()
    await line.send_chunk(EVENTS[0])
    await line.send_chunk(EVENTS[1])
    await line.wait_closed()


async def dies_at_once(line: Line) -> None:
    await line.read_request()
    await line.reset()


async def dies_half_way(line: Line) -> None:
    await line.read_request()
    await line.begin_stream()
    await line.send_chunk(EVENTS[0] + EVENTS[1])
    await line.reset()


async def refuses(line: Line) -> None:
    await line.read_request()
    await line.answer(b'{"type":"error"}', status="529 Overloaded")
    await line.wait_closed()


class End(NamedTuple):
    """What provider and client do, and what is counted for it. An estimate counts the request's bytes."""

    provider: Callable[[Line], Awaitable[None]]
    client: Callable[[RawClient], Awaitable[None]]
    outcome: str
    tokens: int


ESTIMATE = len(STREAM_BODY) // 4
ENDS = {
    "the client leaves in the middle": End(says_half, leave, "client_gone", 9),
    "the client leaves before a word": End(says_nothing, leave_early, "client_gone", ESTIMATE),
    "the provider dies at once": End(dies_at_once, read, "upstream_failed", 0),
    "the provider dies half-way": End(dies_half_way, read, "upstream_failed", 9),
    "the provider refuses": End(refuses, read, "completed", 0),
    "the provider says nothing in time": End(says_nothing, read, "timed_out", ESTIMATE),
}


@pytest.mark.parametrize("name", list(ENDS))
async def test_however_it_ends_the_rest_is_given_back(
    name: str, stage: Stage, own_tenant: Tenant, limits: list[Limit]
) -> None:
    end = ENDS[name]
    bounds = {"first_byte_seconds": 0.2} if end.outcome == "timed_out" else {}
    async with (
        stage(end.provider, of=own_tenant, limits=bounds, retries_max=0) as (gateway, provider),
        gateway.client() as client,
    ):
        await client.send(post(own_tenant.token, STREAM_BODY, close=True))
        await poll(lambda: provider.received.endswith(STREAM_BODY))
        await end.client(client)
        (row,) = await gateway.settled(1)
        assert (row["outcome"], row["input_tokens"] + row["output_tokens"]) == (end.outcome, end.tokens)
        await until_settled(gateway, own_tenant, limits, 1)


async def test_a_provider_key_that_does_not_open_gives_all_back_but_the_request(
    stage: Stage, own_tenant: Tenant, limits: list[Limit], admin: Database
) -> None:
    async with stage(says_nothing, of=own_tenant, master_keys=MasterKeys.generate()) as (gateway, provider):
        await set_byok(admin, own_tenant, "sk-ant-own-secret-0001")
        await poll(lambda: only_record(gateway).key.credentials)
        refused = await gateway.ask(post(own_tenant.token, BODY))
        assert (refused.status, provider.received) == (503, b"")
        await until_settled(gateway, own_tenant, limits, 1)
        assert await sums_of(gateway.db, own_tenant.org_id) == {"requests": 1, "tokens": 0, "money": 0}


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_request_that_went_again_is_set_apart_once(
    how: str, stage: Stage, own_tenant: Tenant, limits: list[Limit]
) -> None:
    ended = trio.Event()

    async def provider(line: Line) -> None:
        for _ in range(2):
            await line.read_request()
            await line.answer(ANSWER)
        if len(provider_.lines) == 1:
            # The gateway has sent a third request on it by then, and finds out.
            await line.read_head()
            await (line.reset() if how == "reset" else line.stream.aclose())
            ended.set()
        while (await line.read_request())[0]:
            await line.answer(ANSWER)

    async with stage(provider, of=own_tenant) as (gateway, provider_), gateway.client() as client:
        for _ in range(4):
            await client.send(post(own_tenant.token, BODY))
            assert (await client.read_answer()).status == 200
        assert ended.is_set()
        assert len(provider_.lines) == 2
        await until_settled(gateway, own_tenant, limits, 4)


async def test_at_the_end_all_is_given_back(
    stage: Stage, own_tenant: Tenant, limits: list[Limit], admin: Database
) -> None:
    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(ANSWER)

    async with stage(provider, of=own_tenant) as (gateway, _), gateway.client() as client:
        for _ in range(3):
            await client.send(post(own_tenant.token, BODY))
            await client.read_answer()
        signal.raise_signal(signal.SIGTERM)
        await gateway.stopped.wait()
    held = await admin.fetch("SELECT limit_id, held FROM quota_leases WHERE held <> 0")
    assert held == []
    settled = await admin.fetch("SELECT settled FROM quota_windows ORDER BY limit_id")
    assert [row["settled"] for row in settled] == [3, 3 * 7, 3 * COST, 0]


async def test_a_journal_left_by_a_kill_is_settled_and_its_leases_ended(
    stage: Stage, own_tenant: Tenant, limits: list[Limit]
) -> None:
    """The next worker on the same directory has the same owner, and the debt of the last one is exact."""
    go_on = trio.Event()

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(ANSWER)

    async with stage(provider, of=own_tenant) as (gateway, _), gateway.client() as client:
        await client.send(post(own_tenant.token, BODY))
        await client.read_answer()
        await gateway.settled(1)
        assert (await account_of(gateway, limits[0])).held > 0
        # From here on it tells the database nothing more, as if it had been killed.
        gateway.worker.refill.give_back = lambda **_: go_on.wait()  # type: ignore[method-assign,assignment]
        gateway.worker.shipper.ship_all = go_on.wait  # type: ignore[method-assign]
        go_on.set()
        await client.send(post(own_tenant.token, BODY))
        await client.read_answer()
    async with stage(provider, of=own_tenant) as (gateway, _):
        await poll(lambda: gateway.worker._lent_is_known)
        rows = await gateway.db.fetch("SELECT settled FROM quota_windows ORDER BY limit_id")
        assert [row["settled"] for row in rows] == [2, 2 * 7, 2 * COST, 0]
        assert await gateway.db.fetch("SELECT 1 FROM quota_leases") == []
