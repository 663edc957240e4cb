"""A Live session's minutes: what is admitted, what has a row, and what it costs. Events as OpenAI's SDK has
their types."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
import trio

from gateway.sse import EVENT_BYTES_MAX
from gateway.websocket import live
from storage.bridge import open_database
from storage.model import LimitKind
from tests.gateway.conftest import Stage, Tenant, set_byok
from tests.gateway.limiting import limit_tenant
from tests.gateway.websocket.sides import COMPLETED, CREATED, ClientSide, Closed, accept, connected
from tests.support.gateway import RunningGateway, poll
from tests.support.scripted_provider import Handler, Line

PATH = "/v1/live/sessions"
START = {"type": "session.start", "session": {"model": "gpt-live-1", "instructions": "Be kind."}}
SESSION = {"id": "live_1", "model": "gpt-live-1", "status": "active", "expires_at": 1}
STARTED = {"type": "session.started", "event_id": "e1", "session": SESSION}
PICODOLLARS_A_MINUTE = 5 * 10**10
"""Three dollars an hour."""


def milliseconds(row: dict[str, Any]) -> int:
    """What was paid for."""
    return int(row["cost_picodollars"] * 60_000 // PICODOLLARS_A_MINUTE)


def used(seconds: float) -> dict[str, Any]:
    return {"type": "session.usage.updated", "event_id": "e2", "usage": {"seconds": seconds}}


def closed(seconds: float) -> dict[str, Any]:
    usage = {"seconds": seconds}
    return {
        "type": "session.closed",
        "event_id": "e3",
        "reason": "expired",
        "session": SESSION,
        "usage": usage,
    }


def delegated(event: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.event", "event_id": "e4", "delegation_id": "d", "event": event}


def telling(*events: dict[str, Any], heard: list[Any] | None = None) -> Handler:
    """A provider that starts what is asked for, and tells this of it."""

    async def handler(line: Line) -> None:
        side = await accept(line)
        asked = await side.next()
        if heard is not None:
            heard.append(asked)
        await side.send(*(event for event in (STARTED, *events)))
        try:
            while True:
                await side.next()
        except (Closed, EOFError):
            pass

    return handler


@asynccontextmanager
async def session(
    stage: Stage, tenant: Tenant, handler: Handler, start: dict[str, Any] = START
) -> AsyncIterator[tuple[RunningGateway, ClientSide]]:
    """By the organization's own key, since a session is kept in the provider's account."""
    async with open_database(tenant.database_url, role="karta_admin") as admin:
        await set_byok(admin, tenant, "sk-own-secret-00001", "openai")
    async with stage(handler, of=tenant) as (gateway, _):
        async with connected(gateway, tenant.token, PATH) as client:
            await client.send(start)
            yield gateway, client
        await poll(lambda: not gateway.worker.acceptor.connections)


async def test_each_minute_has_a_row_and_the_last_one_what_is_left(stage: Stage, own_tenant: Tenant) -> None:
    # Totals, told more than once, and not at whole minutes.
    told = (used(20.0), used(20.0), used(61.5), used(90.0), closed(150.25))
    async with session(stage, own_tenant, telling(*told)) as (gateway, client):
        await client.until("session.closed")
        rows = await gateway.settled(2)
    assert sorted(milliseconds(row) for row in rows) == [61_500, 88_750]
    for row in rows:
        assert (row["endpoint"], row["model_asked"], row["status"]) == (PATH, "gpt-live-1", 200)
        assert (row["provider_request_id"], row["usage_complete"]) == ("live_1", True)


async def test_a_session_that_is_left_is_counted_as_far_as_was_told(stage: Stage, own_tenant: Tenant) -> None:
    async with session(stage, own_tenant, telling(used(12.5))) as (gateway, client):
        await client.until("session.usage.updated")
        await client.client.stream.aclose()
        (row,) = await gateway.settled(1)
    assert (milliseconds(row), row["usage_complete"], row["outcome"]) == (12_500, True, "client_gone")


async def test_what_is_delegated_has_a_row_of_its_own(stage: Stage, own_tenant: Tenant) -> None:
    told = (delegated(CREATED), delegated(COMPLETED), closed(3.0))
    async with session(stage, own_tenant, telling(*told)) as (gateway, client):
        await client.until("session.closed")
        rows = {row["endpoint"]: row for row in await gateway.settled(2)}
    row = rows["/v1/responses"]
    assert (row["input_tokens"], row["output_tokens"], row["provider_request_id"]) == (8, 2, "resp_1")
    assert milliseconds(rows[PATH]) == 3000


async def test_what_is_delegated_is_counted_at_once_however_long_it_is(
    stage: Stage, own_tenant: Tenant
) -> None:
    text = "long" * (EVENT_BYTES_MAX // 4)
    item = {
        "type": "response.output_item.done",
        "response_id": "resp_1",
        "item": {"type": "message", "text": text},
    }
    response = COMPLETED["response"]
    assert isinstance(response, dict)
    usage = response["usage"]
    completed = {"type": "response.completed", "response": {"id": "resp_1", "output": [text], "usage": usage}}
    told = (delegated(CREATED), delegated(item), delegated(completed))
    async with session(stage, own_tenant, telling(*told)) as (gateway, client):
        for _ in told:
            await client.until("response.event")
        # The session goes on.
        (row,) = await gateway.settled(1)
    assert (row["endpoint"], row["usage_complete"], row["outcome"]) == ("/v1/responses", True, "completed")
    assert (row["input_tokens"], row["output_tokens"], row["provider_request_id"]) == (8, 2, "resp_1")


@pytest.mark.parametrize(
    ("head", "ends"),
    [
        (
            b'{"type":"response.event","event_id":"e","event":{"type":"response.completed","response":{"id"',
            True,
        ),
        (b'{ "n" : 1.5e-3, "no" : null,\n"event" : {"sequence_number":7,"type" : "response.failed"', False),
        (
            b'{"n":-1,"type":"response.event","event" : { "sequence_number" : 7, "type" : "response.failed"',
            True,
        ),
        (b'{"type":"response.event","event":{"type":"response.output_item.done","item":{"type":"x"', False),
        (b'{"type":"response.event","event":{"item":{"type":"response.completed"}', False),
        (b'{"type":"session.output","event":{"type":"response.completed"', False),
        (b'{"type":"response.event","delta":"' + b"\\" * 4000, False),
        (b'{"a":"' * 600, False),
        (b"", False),
    ],
)
def test_a_message_too_long_says_at_its_beginning_what_it_is(head: bytes, ends: bool) -> None:
    assert live._ends_response(head) is ends


async def test_an_error_instead_of_a_session_costs_nothing(stage: Stage, own_tenant: Tenant) -> None:
    async def handler(line: Line) -> None:
        side = await accept(line)
        await side.next()
        await side.send({"type": "error", "event_id": "e", "error": {"message": "no such model"}})
        with contextlib.suppress(Closed, EOFError):
            await side.next()

    async with session(stage, own_tenant, handler) as (gateway, client):
        await client.until("error")
        (row,) = await gateway.settled(1)
    assert (row["status"], row["cost_picodollars"]) == (400, 0)


async def test_an_error_about_something_else_ends_no_session(stage: Stage, own_tenant: Tenant) -> None:
    """A client that says nonsense first, so that the error comes between the start and its answer, has a
    session that is paid all the same."""
    error = {"type": "error", "event_id": "e", "error": {"message": "what?"}}

    async def handler(line: Line) -> None:
        side = await accept(line)
        await side.next()
        await side.send(error, STARTED, used(61.0), closed(90.0))
        with contextlib.suppress(Closed, EOFError):
            await side.next()

    async with session(stage, own_tenant, handler) as (gateway, client):
        await client.until("session.closed")
        rows = await gateway.settled(3)
    assert sorted((row["status"], milliseconds(row)) for row in rows) == [
        (200, 29_000),
        (200, 61_000),
        (400, 0),
    ]


async def test_where_nothing_is_left_for_a_minute_more_the_socket_is_cut(
    stage: Stage, own_tenant: Tenant
) -> None:
    async with open_database(own_tenant.database_url, role="karta_admin") as admin:
        await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 1)
    told = (used(59.0), used(60.0), used(120.0))
    async with session(stage, own_tenant, telling(*told)) as (gateway, client):
        with pytest.raises(Closed) as found:
            while (await client.next())["type"] != "session.closed":
                pass
        assert found.value.code == 1008
        (row,) = await gateway.settled(1)
    assert milliseconds(row) == 60_000


@pytest.mark.parametrize(
    "start",
    [
        {"type": "session.start", "session": {}},
        {"type": "session.start"},
        {"type": "session.start", "session": {"model": 7}},
    ],
)
async def test_a_start_without_a_model_stays_here(
    start: dict[str, Any], stage: Stage, own_tenant: Tenant
) -> None:
    heard: list[Any] = []
    async with session(stage, own_tenant, telling(heard=heard), start) as (_, client):
        assert "session.model" in (await client.next())["error"]["message"]
        await client.send(START)
        await client.until("session.started")
    assert heard == [START]


async def test_a_second_start_stays_here(stage: Stage, own_tenant: Tenant) -> None:
    """The provider could refuse the first, and take the second by a model nobody has looked at."""
    heard: list[Any] = []
    async with session(stage, own_tenant, telling(heard=heard)) as (_, client):
        await client.send({**START, "session": {"model": "gpt-live-dear"}})
        error = (await client.until("error"))[-1]["error"]
        assert "started on this socket already" in error["message"]
    assert heard == [START]


async def test_the_official_sdk_has_a_session(stage: Stage, own_tenant: Tenant) -> None:
    def converse(url: str) -> list[str]:
        client = openai.OpenAI(api_key=own_tenant.token, base_url=f"{url}/v1")
        with client, client.live.connect() as connection:
            connection.session.start(session={"model": "gpt-live-1"})
            kinds = []
            for event in connection:
                kinds.append(event.type)
                if event.type == "session.closed":
                    break
            return kinds

    async with open_database(own_tenant.database_url, role="karta_admin") as admin:
        await set_byok(admin, own_tenant, "sk-own-secret-00001", "openai")
    async with stage(telling(used(1.0), closed(2.0)), of=own_tenant) as (gateway, _):
        with trio.fail_after(60):
            kinds = await trio.to_thread.run_sync(converse, gateway.url, abandon_on_cancel=True)
        assert kinds == ["session.started", "session.usage.updated", "session.closed"]
        (row,) = await gateway.settled(1)
        assert milliseconds(row) == 2000
