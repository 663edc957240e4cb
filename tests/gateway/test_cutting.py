"""Answers of a key that ends while they are on their way: cut, said so in their dialect, and counted as what
they were."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest
import trio

from gateway.cutting import AGAIN_SECONDS
from storage import staff
from storage.api_keys import revoke_key, rotate_key
from storage.bridge import Database
from tests.gateway.conftest import ACTOR, Stage, Tenant
from tests.gateway.test_forward_cut import APIS, Api
from tests.gateway.test_snapshot import expire, heard
from tests.support.gateway import RunningGateway, poll
from tests.support.raw_client import RawClient
from tests.support.requests import get, post
from tests.support.scripted_provider import Handler, Line, pausing, silent
from tests.support.streams import ANTHROPIC, STREAM_BODY, chunk, dechunk

Change = Callable[[Database, Tenant], Awaitable[object]]


async def revoke(db: Database, tenant: Tenant) -> None:
    await revoke_key(db, ACTOR, tenant.key_id)


async def rotate(db: Database, tenant: Tenant) -> None:
    await rotate_key(db, ACTOR, tenant.key_id)


async def suspend(db: Database, tenant: Tenant) -> None:
    await staff.suspend(db, ACTOR, tenant.org_id, "unpaid")


async def delete(db: Database, tenant: Tenant) -> None:
    await db.execute("DELETE FROM api_keys WHERE key_id = $1", tenant.key_id)


ENDS: dict[Change, str] = {
    revoke: "authentication_error",
    rotate: "authentication_error",
    delete: "authentication_error",
    suspend: "permission_error",
}
each_end = pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)


def begins(*events: bytes) -> Handler:
    """A provider that begins a stream and goes on for as long as it is let."""

    async def handler(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.begin_stream()
            for event in events:
                await line.send_chunk(event)
            await line.wait_closed()

    return handler


async def read_cut(client: RawClient) -> bytes:
    """What comes until a stream is cut."""
    body, whole = dechunk(await client.read_to_end())
    assert not whole
    return body


@each_end
@pytest.mark.parametrize("way", ["pipeline", "lane"])
async def test_a_stream_is_cut_and_says_why(end: Change, way: str, stage: Stage, own_tenant: Tenant) -> None:
    async with stage(begins(ANTHROPIC[0]), of=own_tenant) as (gateway, provider), gateway.client() as client:
        await heard(gateway)
        if way == "lane":
            await make_known(gateway, own_tenant)
        await client.send(post(own_tenant.token, STREAM_BODY))
        await client.read_until(chunk(ANTHROPIC[0]))
        assert gateway.worker.lane.requests == (way == "lane")
        await end(gateway.db, own_tenant)
        event = await read_cut(client)
        assert APIS["anthropic"].error(event)["type"] == ENDS[end]
        # The provider stops working for nobody.
        await poll(lambda: provider.lines[-1].closed.is_set())
        rows = await gateway.settled(1 + (way == "lane"))
        row = rows[-1]
        assert (row["outcome"], row["status"], row["usage_complete"]) == ("revoked", 200, False)
        assert row["input_tokens"] == 7
        assert gateway.worker.cutter.cuts == 1


async def make_known(gateway: RunningGateway, tenant: Tenant) -> None:
    """The head has been seen, and a connection to the provider is idle."""
    async with gateway.client() as client:
        await client.send(post(tenant.token, STREAM_BODY))
        await client.read_until(chunk(ANTHROPIC[0]))
    (pool,) = gateway.worker.pools.all()
    pool.keep_unused(await pool.dial())


@pytest.mark.parametrize("api", [APIS["chat"], APIS["responses"]], ids=["chat", "responses"])
async def test_each_dialect_is_told(api: Api, stage: Stage, own_tenant: Tenant) -> None:
    async with stage(begins(api.events[0]), of=own_tenant) as (gateway, _), gateway.client() as client:
        await heard(gateway)
        await client.send(api.ask(own_tenant.token))
        await client.read_until(chunk(api.events[0]))
        await revoke(gateway.db, own_tenant)
        error = api.error(await read_cut(client))
        assert error["code"] == "invalid_api_key"
        assert "revoked" in str(error["message"])


@each_end
async def test_a_request_that_waits_for_its_answer_is_refused(
    end: Change, stage: Stage, own_tenant: Tenant
) -> None:
    async with stage(silent, of=own_tenant) as (gateway, provider), gateway.client() as client:
        await heard(gateway)
        await client.send(post(own_tenant.token))
        await poll(lambda: provider.received)
        await end(gateway.db, own_tenant)
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (403 if end is suspend else 401, "close")
        row = await gateway.only_row()
        assert (row["outcome"], row["status"], row["usage_complete"]) == ("revoked", answer.status, False)
        assert gateway.worker.cutter.cuts == 1


async def test_an_upload_under_way_is_refused(stage: Stage, own_tenant: Tenant) -> None:
    """And with it what it waits for from its own client."""
    async with stage(silent, of=own_tenant) as (gateway, provider), gateway.client() as client:
        await heard(gateway)
        head, _, body = post(own_tenant.token, bytes(1000), path="/v1/files").partition(b"\r\n\r\n")
        await client.send(head + b"\r\n\r\n" + body[:10])
        await poll(lambda: provider.received)
        await revoke(gateway.db, own_tenant)
        assert (await client.read_answer()).status == 401


async def test_an_answer_for_an_old_client_is_cut(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(begins(ANTHROPIC[0]), of=own_tenant) as (gateway, _), gateway.client() as client:
        await heard(gateway)
        await client.send(get(own_tenant.token, version="1.0"))
        await client.read_until(ANTHROPIC[0])
        await revoke(gateway.db, own_tenant)
        await client.read_to_end()
        assert client.was_reset
        assert (await gateway.only_row())["outcome"] == "revoked"


async def test_other_keys_go_on(stage: Stage, own_tenant: Tenant) -> None:
    go_on = trio.Event()
    provider = pausing(ANTHROPIC, go_on)

    async with (
        stage(provider, of=own_tenant) as (gateway, _),
        gateway.client() as client,
        gateway.client() as other,
    ):
        await heard(gateway)
        _, successor = await rotate_key(gateway.db, ACTOR, own_tenant.key_id, overlap_seconds=60)
        await gateway.trust(successor)
        for one, token in ((client, own_tenant.token), (other, successor)):
            await one.send(post(token, STREAM_BODY))
            await one.read_until(chunk(ANTHROPIC[0]))
        await revoke(gateway.db, own_tenant)
        await read_cut(client)
        go_on.set()
        assert (await other.read_until(b"0\r\n\r\n")) == b"".join(map(chunk, ANTHROPIC[1:])) + b"0\r\n\r\n"


async def test_a_key_that_expires_lets_its_answers_end(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(begins(ANTHROPIC[0]), of=own_tenant) as (gateway, _), gateway.client() as client:
        await heard(gateway)
        await client.send(post(own_tenant.token, STREAM_BODY))
        await client.read_until(chunk(ANTHROPIC[0]))
        await expire(gateway.db, own_tenant)
        await poll(lambda: gateway.worker.snapshot._records[own_tenant.key_id].valid_until < time.time())
        assert (await gateway.ask(post(own_tenant.token))).status == 401
        # Nothing of a cut is looked at, nor said.
        assert gateway.worker.cutter.cuts == 0
        with trio.move_on_after(3 * AGAIN_SECONDS) as still:
            await client.receive()
        assert still.cancelled_caught
