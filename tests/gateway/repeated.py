"""Requests that were asked before on the same connection: what the lane sees to, without a task."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import RunningGateway, poll
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import Handler, Line, ScriptedProvider


class Repeated(NamedTuple):
    """A client whose `request` has been answered once, so that it is known."""

    gateway: RunningGateway
    provider: ScriptedProvider
    client: RawClient
    request: bytes

    async def ask(self, times: int = 1) -> None:
        await self.client.send(self.request * times)

    @property
    def taken(self) -> int:
        """How many requests the lane saw to."""
        return self.gateway.worker.lane.requests

    async def row(self) -> dict[str, Any]:
        """The usage row of the second request; the first has one of its own, and there are no more."""
        _, row = await self.gateway.settled(2)
        return row


def after_one(handler: Handler) -> Handler:
    """A provider that answers the first request there is, and then is what `handler` makes of it."""
    begun = False

    async def answer_one(line: Line) -> None:
        nonlocal begun
        if not begun:
            begun = True
            await line.read_request()
            await line.answer(ANSWER)
        await handler(line)

    return answer_one


@asynccontextmanager
async def repeated(
    stage: Stage,
    tenant: Tenant,
    handler: Handler,
    request: bytes | None = None,
    *,
    receive_buffer: int | None = None,
    taken: int = 1,
    **options: Any,
) -> AsyncIterator[Repeated]:
    """A gateway that knows `request`, before a provider that from the second request on is `handler`'s.

    In the end the lane must have seen to `taken` requests: it is what the test is about.
    """
    request = request or post(tenant.token)
    async with (
        stage(after_one(handler), **options) as (gateway, provider),
        gateway.client(receive_buffer=receive_buffer) as client,
    ):
        await client.send(request)
        assert (await client.read_answer()).body == ANSWER
        await poll(lambda: sum(pool.idle for pool in gateway.worker.pools.all()))
        assert gateway.worker.lane.requests == 0
        yield Repeated(gateway, provider, client, request)
        assert gateway.worker.lane.requests == taken
