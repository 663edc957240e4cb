"""Opening a socket: who may, what either side learns of it, and a provider that will not."""

from __future__ import annotations

import pytest
import trio

from storage.bridge import open_database
from storage.model import LimitKind
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.limiting import limit_tenant
from tests.gateway.websocket.sides import REALTIME, accept, connected, opening
from tests.support.gateway import PATIENCE_SECONDS
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import Line, answering


async def willing(line: Line) -> None:
    await accept(line, "x-request-id: req_7", "set-cookie: __cf_bm=x", "server: cloudflare")
    await line.wait_closed()


@pytest.mark.parametrize("cold", [False, True])
async def test_both_sides_agree(cold: bool, stage: Stage, tenant: Tenant) -> None:
    async with stage(willing, cold=cold) as (gateway, provider):
        async with connected(gateway, tenant.token) as client:
            assert client.answer.headers["x-request-id"] == "req_7"
            assert client.answer.headers["x-karta-request-id"]
            assert not {"set-cookie", "server"} & set(client.answer.headers)
        head = provider.lines[0].received
        assert head.startswith(b"GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n")
        assert b"authorization: Bearer sk-platform-secret\r\n" in head
        assert b"extensions" not in head.lower()
        assert tenant.token.encode() not in head
        # A socket on which nothing was asked has used nothing.
        assert await gateway.settled(0) == []


async def test_a_wrong_key_gets_401_and_nothing_goes_up(stage: Stage, tenant: Tenant) -> None:
    async with stage(willing) as (gateway, provider):
        answer = await gateway.ask(opening("kt_live_wrong"))
        assert (answer.status, b"invalid_api_key" in answer.body) == (401, True)
        answer = await gateway.ask(opening(tenant.token[:-1]))
        assert answer.status == 401
        assert provider.lines == []


async def test_who_has_nothing_left_is_told_so_by_a_status(stage: Stage, own_tenant: Tenant) -> None:
    async with open_database(own_tenant.database_url, role="karta_admin") as admin:
        await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 1)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider):
        assert (await gateway.ask(post(own_tenant.token))).status == 200
        assert (await gateway.ask(opening(own_tenant.token))).status == 429
        assert len(provider.lines) == 1


async def test_a_providers_refusal_passes_as_any_answer(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_head()
        await line.answer(b'{"error":{"message":"no such model"}}', status="404 Not Found")
        await line.wait_closed()

    async with stage(provider) as (gateway, _):
        answer = await gateway.ask(opening(tenant.token))
        assert (answer.status, answer.body) == (404, b'{"error":{"message":"no such model"}}')
        row = await gateway.only_row()
        assert (row["status"], row["output_tokens"], row["endpoint"]) == (404, 0, "/v1/realtime")


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 10",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nx: " + b"y" * 70_000,
    ],
)
async def test_an_answer_that_is_none_is_told_as_one(said: bytes, stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_head()
        await line.send(said)
        await line.stream.aclose()

    async with stage(provider) as (gateway, _):
        assert (await gateway.ask(opening(tenant.token))).status == 502


async def test_a_provider_that_does_not_answer_is_too_late(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.wait_closed()

    async with stage(provider, limits={"handshake_seconds": 0.1}) as (gateway, provider_):
        assert (await gateway.ask(opening(tenant.token, REALTIME))).status == 504
        with trio.fail_after(PATIENCE_SECONDS):
            await provider_.lines[0].closed.wait()


async def test_frames_that_came_with_the_answer_are_not_lost(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await accept(line, first=b"\x81\x02{}")
        await line.wait_closed()

    async with stage(provider) as (gateway, _), connected(gateway, tenant.token) as client:
        assert await client.next() == {}
