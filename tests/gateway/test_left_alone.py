"""A first request's answer, once begun, goes on without the connection's task, and loses nothing by that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from gateway.connection import Connection
from gateway.ending import Cut
from gateway.refusal import Kind, Refusal
from storage.model import Outcome
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.test_forward_cut import anthropic_error
from tests.support.gateway import RunningGateway, poll
from tests.support.raw_client import RawClient
from tests.support.requests import post
from tests.support.scripted_provider import Line
from tests.support.streams import ANTHROPIC, STREAM_BODY, chunk, dechunk

WHOLE = b"".join(ANTHROPIC)


class Begun:
    """A stream of which the client has the first event; the rest comes when `go_on` is set."""

    def __init__(self, stage: Stage, tenant: Tenant) -> None:
        self.go_on = trio.Event()
        self.lines: list[Line] = []
        self._stage = stage
        self._token = tenant.token
        self.gateway: RunningGateway
        self.client: RawClient
        self.connection: Connection

    async def provide(self, line: Line) -> None:
        self.lines.append(line)
        while (await line.read_request())[0]:
            await line.begin_stream()
            await line.send_chunk(ANTHROPIC[0])
            await self.go_on.wait()
            for event in ANTHROPIC[1:]:
                await line.send_chunk(event)
            await line.end_stream()

    async def ask(self, *, close: bool = False) -> None:
        await self.client.send(post(self._token, STREAM_BODY, close=close))

    async def begin(self, *, close: bool = False) -> None:
        await self.ask(close=close)
        await self.client.read_head()
        await self.client.read_until(chunk(ANTHROPIC[0]))
        self.connection = await self.gateway.only_connection()

    async def read_rest(self) -> bytes:
        return chunk(ANTHROPIC[0]) + await self.client.read_until(b"\r\n0\r\n\r\n")


@asynccontextmanager
async def begun(stage: Stage, tenant: Tenant, *, close: bool = False) -> AsyncIterator[Begun]:
    made = Begun(stage, tenant)
    async with stage(made.provide) as (gateway, _), gateway.client() as client:
        made.gateway, made.client = gateway, client
        await made.begin(close=close)
        yield made


async def test_it_goes_on_without_the_stages_that_led_to_it(stage: Stage, tenant: Tenant) -> None:
    async with begun(stage, tenant) as stream:
        connection = stream.connection
        # The task is back where it waits for a request.
        await poll(lambda: connection.inbound is None)
        assert connection.exchange is not None
        assert not stream.gateway.worker.meter.settled
        stream.go_on.set()
        assert dechunk(await stream.read_rest()) == (WHOLE, True)
        row = await stream.gateway.only_row()
        assert (row["outcome"], row["status"], row["usage_complete"]) == ("completed", 200, True)
        (pool,) = stream.gateway.worker.pools.all()
        assert (pool.open, pool.idle) == (1, 1)
        assert connection.exchange is None
        # Once more on the same connection, by then without any task.
        await stream.ask()
        assert (await stream.client.read_answer()).body == WHOLE
        assert stream.gateway.worker.lane.requests == 1


async def test_what_is_asked_meanwhile_is_answered_afterwards(stage: Stage, tenant: Tenant) -> None:
    async with begun(stage, tenant) as stream:
        await stream.ask()
        await stream.ask()
        stream.go_on.set()
        assert dechunk(await stream.read_rest()) == (WHOLE, True)
        for _ in range(2):
            assert (await stream.client.read_answer()).body == WHOLE
        rows = await stream.gateway.settled(3)
        assert {row["outcome"] for row in rows} == {"completed"}


async def test_a_client_that_leaves_ends_it(stage: Stage, tenant: Tenant) -> None:
    async with begun(stage, tenant) as stream:
        await poll(lambda: stream.connection.inbound is None)
        await stream.client.close()
        row = await stream.gateway.only_row()
        assert (row["outcome"], row["usage_complete"]) == ("client_gone", False)
        await poll(lambda: not stream.gateway.worker.acceptor.connections)
        (pool,) = stream.gateway.worker.pools.all()
        assert (pool.open, pool.idle) == (0, 0)
        stream.go_on.set()


async def test_it_is_cut_like_any_other(stage: Stage, tenant: Tenant) -> None:
    async with begun(stage, tenant) as stream:
        await poll(lambda: stream.connection.inbound is None)
        refusal = Refusal(Kind.UNAUTHENTICATED, "This API key has been revoked.", close=True)
        stream.connection.cut(Cut(refusal, Outcome.REVOKED))
        body, ended_well = dechunk(await stream.client.read_to_end())
        assert not ended_well
        assert anthropic_error(body)["message"] == "This API key has been revoked."
        row = await stream.gateway.only_row()
        assert (row["outcome"], row["status"]) == ("revoked", 200)
        await poll(lambda: not stream.gateway.worker.acceptor.connections)
        stream.go_on.set()


async def test_a_provider_that_dies_counts_as_failed_not_as_failed_twice(
    stage: Stage, tenant: Tenant
) -> None:
    async with begun(stage, tenant) as stream:
        await poll(lambda: stream.connection.inbound is None)
        (pool,) = stream.gateway.worker.pools.all()
        told: list[bool] = []
        pool.breakers.failed = lambda _key, *, counted=False: told.append(counted)  # type: ignore[method-assign]
        await stream.lines[0].reset()
        assert not dechunk(await stream.client.read_to_end())[1]
        assert (await stream.gateway.only_row())["outcome"] == "upstream_failed"
        # Its head was counted as a success.
        assert told == [True]
        stream.go_on.set()


async def test_the_last_answer_of_a_connection_is_seen_out_by_its_task(stage: Stage, tenant: Tenant) -> None:
    """The task would close the connection otherwise."""
    async with begun(stage, tenant, close=True) as stream:
        assert stream.connection.inbound is not None
        stream.go_on.set()
        assert dechunk(chunk(ANTHROPIC[0]) + await stream.client.read_to_end()) == (WHOLE, True)
        assert (await stream.gateway.only_row())["outcome"] == "completed"


async def test_a_stop_waits_for_its_end(stage: Stage, tenant: Tenant) -> None:
    async with begun(stage, tenant) as stream:
        await poll(lambda: stream.connection.inbound is None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.gateway.worker.acceptor.drain)
            await trio.testing.wait_all_tasks_blocked()
            stream.go_on.set()
            assert dechunk(chunk(ANTHROPIC[0]) + await stream.client.read_to_end()) == (WHOLE, True)
        assert (await stream.gateway.only_row())["outcome"] == "completed"
