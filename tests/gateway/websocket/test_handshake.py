"""A socket whose model is a route's goes where somebody agrees, under that target's name for the model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from gateway.members import STEPS_MAX
from storage.bridge import open_database
from storage.model import CredentialKind, RouteTarget
from tests.gateway.conftest import Stage, Tenant, set_byok
from tests.gateway.routing import providers, route, to
from tests.gateway.websocket.sides import (
    COMPLETED,
    CREATED,
    DONE,
    ClientSide,
    Closed,
    accept,
    connected,
    opening,
)
from tests.support.gateway import PATIENCE_SECONDS, RunningGateway, poll
from tests.support.requests import get
from tests.support.scripted_provider import Handler, Line, ScriptedProvider

VOICE = "/v1/realtime?intent=talk&model=voice"
ASK = {"type": "response.create"}


async def willing(line: Line) -> None:
    """Agrees, and answers everything that asks for a response."""
    side = await accept(line)
    while True:
        try:
            asked = await side.next()
        except (EOFError, Closed):
            return
        if asked["type"] == "response.create":
            await side.send(CREATED, COMPLETED if "model" in asked else DONE)
        else:
            await side.send({"type": "told", "asked": asked})


async def overloaded(line: Line) -> None:
    await line.read_head()
    await line.answer(b'{"error":{"message":"overloaded"}}', status="503 Service Unavailable")


async def limited(line: Line) -> None:
    await line.read_head()
    await line.answer(b'{"error":{"message":"slow down"}}', status="429 Too Many Requests")


async def unknown(line: Line) -> None:
    await line.read_head()
    await line.answer(b'{"error":{"message":"no such model"}}', status="404 Not Found")


async def dying(line: Line) -> None:
    await line.read_head()
    await line.reset()


async def mute(line: Line) -> None:
    await line.read_head()
    await line.wait_closed()


async def disagreeing(line: Line) -> None:
    await line.read_head()
    await line.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n")
    await line.wait_closed()


async def splitting(line: Line) -> None:
    """Agrees, with a field in which some clients see two."""
    await accept(line, "X-Field: one\nSet-Cookie: two")
    await line.wait_closed()


async def folding(line: Line) -> None:
    await accept(line, "X-Field: one", " two: three")
    await line.wait_closed()


@asynccontextmanager
async def routed(
    stage: Stage, tenant: Tenant, first: Handler | str, *targets: RouteTarget, **options: Any
) -> AsyncIterator[tuple[RunningGateway, dict[str, ScriptedProvider]]]:
    """`voice` leads to `first`, which is Groq, and then to one at Mistral that is willing."""
    handlers = {"groq": first, "mistral": willing, "openai": willing}
    async with providers(stage, handlers, of=tenant, **options) as (gateway, found):
        # So that the key is known, whose routes are watched for.
        await gateway.ask(get(tenant.token, "/v1/nothing"))
        async with connected(gateway, tenant.token, "/v1/responses"):
            await route(gateway, tenant, "voice", *(targets or (to("groq", "g"), to("mistral", "m/x"))))
        yield gateway, found


@pytest.mark.parametrize(
    ("first", "word"),
    [
        (overloaded, "503"),
        (limited, "429"),
        (dying, "broken-answer"),
        (disagreeing, "broken-answer"),
        (splitting, "broken-answer"),
        (folding, "broken-answer"),
        (None, "not-connected"),
        (mute, "too-slow"),
    ],
)
async def test_the_next_target_is_asked(
    first: Handler | None, word: str, stage: Stage, own_tenant: Tenant, nobody: str
) -> None:
    options: dict[str, Any] = {"limits": {"handshake_seconds": 0.2}} if first is mute else {}
    async with routed(stage, own_tenant, first or nobody, **options) as (gateway, found):
        async with connected(gateway, own_tenant.token, VOICE) as client:
            told = client.answer.headers
            assert told["x-karta-route"] == "mistral/m/x;attempts=2"
            assert told["x-karta-route-tried"] == f"groq/g;{word}"
            await client.send(ASK)
            await client.until("response.done")
        rows = await gateway.settled(1)
        (line,) = found["mistral"].lines
        assert line.received.startswith(b"GET /v1/realtime?intent=talk&model=m%2Fx HTTP/1.1\r\n")
        assert (rows[0]["provider"], rows[0]["model_asked"], rows[0]["output_tokens"]) == (
            "mistral",
            "voice",
            5,
        )
        assert gateway.worker.pipeline.websockets.failovers == 1
        # Whoever was given up is let go.
        if first in (disagreeing, mute):
            with trio.fail_after(PATIENCE_SECONDS):
                await found["groq"].lines[0].closed.wait()


async def test_what_is_the_requests_own_fault_is_passed_on(stage: Stage, own_tenant: Tenant) -> None:
    async with routed(stage, own_tenant, unknown) as (gateway, found):
        answer = await gateway.ask(opening(own_tenant.token, VOICE))
        assert (answer.status, answer.headers["x-karta-route"]) == (404, "groq/g;attempts=1")
        assert found["mistral"].lines == []


async def test_when_nobody_agrees_the_last_answer_is_told(
    stage: Stage, own_tenant: Tenant, nobody: str
) -> None:
    targets = (to("groq", "a"), to("groq", "b"))
    async with routed(stage, own_tenant, limited, *targets) as (gateway, _):
        answer = await gateway.ask(opening(own_tenant.token, VOICE))
        assert (answer.status, answer.headers["x-karta-route-tried"]) == (429, "groq/a;429")
    async with routed(stage, own_tenant, nobody, *targets) as (gateway, _):
        answer = await gateway.ask(opening(own_tenant.token, VOICE))
        told = answer.headers["x-karta-route-tried"]
        # The last is tried once more, as any request.
        assert (answer.status, told.count("groq/a;not-connected"), told.count("groq/b")) == (502, 1, 2)


async def test_an_open_breaker_is_passed_over(stage: Stage, own_tenant: Tenant) -> None:
    async with routed(stage, own_tenant, dying) as (gateway, found):
        pool = gateway.worker.pools.of(
            next(p.origin for n, p in gateway.worker.pipeline._upstreams.by_name.items() if n == "groq")
        )
        for _ in range(40):
            pool.breakers.failed("groq")
        async with connected(gateway, own_tenant.token, VOICE) as client:
            assert client.answer.headers["x-karta-route-tried"] == "groq/g;breaker-open"
        assert found["groq"].lines == []


async def test_each_target_gets_its_own_key(stage: Stage, own_tenant: Tenant) -> None:
    targets = (to("groq", "g"), to("mistral", "m", credential=CredentialKind.BYOK))
    async with open_database(own_tenant.database_url, role="karta_admin") as admin:
        await set_byok(admin, own_tenant, "mistral-own-secret-0001", "mistral")
    async with routed(stage, own_tenant, overloaded, *targets) as (gateway, found):
        async with connected(gateway, own_tenant.token, VOICE):
            pass
        assert b"authorization: Bearer sk-platform-secret\r\n" in found["groq"].lines[0].received
        head = found["mistral"].lines[0].received
        assert b"authorization: Bearer mistral-own-secret-0001\r\n" in head
        assert own_tenant.token.encode() not in head


async def said(client: ClientSide, *messages: dict[str, Any]) -> Any:
    await client.send(*messages)
    return await client.next()


async def test_the_alias_goes_up_as_the_targets_model(stage: Stage, own_tenant: Tenant) -> None:
    """In a realtime session's settings, and in a request of the Responses API."""
    async with routed(stage, own_tenant, willing) as (gateway, found):
        async with connected(gateway, own_tenant.token, VOICE) as client:
            update = {
                "type": "session.update",
                "session": {"model": "voice", "voice": "ash"},
                "model": "voice",
            }
            told = await said(client, update)
            assert told["asked"] == {**update, "session": {"model": "g", "voice": "ash"}}
        async with connected(gateway, own_tenant.token, "/v1/responses?model=voice") as client:
            told = await said(client, {"type": "response.create", "model": "voice", "input": "voice"})
            await client.until("response.completed")
        assert found["groq"].lines[1].received.startswith(b"GET /v1/responses HTTP/1.1\r\n")
        (row,) = await gateway.settled(1)
        assert (row["provider"], row["model_asked"], row["model_answered"]) == ("groq", "voice", "gpt-test-1")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/responses?model=voice", {"type": "response.create", "model": "voice"}),
        (VOICE, {"type": "session.update", "session": {"model": "voice"}}),
    ],
)
async def test_nothing_is_held_for_what_cannot_be_renamed(
    path: str, message: dict[str, Any], stage: Stage, own_tenant: Tenant
) -> None:
    async with routed(stage, own_tenant, willing) as (gateway, _):
        async with connected(gateway, own_tenant.token, path) as client:
            await client.send({"x": [[]] * STEPS_MAX, **message})
            assert "too many parts" in (await client.next())["error"]["message"]
            assert len(gateway.worker.meter.spool.in_flight) == 0
            # The socket is as good as before.
            await client.send({"type": "response.create", "model": "voice"})
            await client.until("response.completed")
        assert len(await gateway.settled(1)) == 1


async def test_a_model_that_leads_elsewhere_is_refused(stage: Stage, own_tenant: Tenant) -> None:
    async with routed(stage, own_tenant, willing) as (gateway, _):
        async with connected(gateway, own_tenant.token, "/v1/responses?model=voice") as client:
            told = await said(client, {"type": "response.create", "model": "gpt-test", "input": "hello"})
            assert told["type"] == "error"
            assert "open to groq" in told["error"]["message"]
        async with connected(gateway, own_tenant.token, "/v1/responses") as client:
            told = await said(client, {"type": "response.create", "model": "voice", "input": "hello"})
            assert "?model=" in told["error"]["message"]
            # The socket is as good as before.
            await client.send({"type": "response.create", "model": "gpt-test", "input": "hello"})
            await client.until("response.completed")


async def test_a_route_that_is_changed_holds_for_the_next_socket(stage: Stage, own_tenant: Tenant) -> None:
    async with routed(stage, own_tenant, willing) as (gateway, found):
        async with connected(gateway, own_tenant.token, VOICE) as client:
            await route(gateway, own_tenant, "voice", to("mistral", "m"))
            await client.send(ASK)
            await client.until("response.done")
        async with connected(gateway, own_tenant.token, VOICE):
            pass
        await poll(lambda: len(found["mistral"].lines) == 1)
        (row,) = await gateway.settled(1)
        assert row["provider"] == "groq"
