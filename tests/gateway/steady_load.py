"""A load of plain requests by clients that keep their connections for as long as they are told they may."""

from __future__ import annotations

from types import TracebackType

import trio

from tests.support.raw_client import RawClient
from tests.support.requests import post
from tests.support.supervised_gateway import PATIENCE_SECONDS


class SteadyLoad:
    """Runs within its context. Whatever is not an answer of 200 is a failure."""

    CLIENTS = 8

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._request = post(token)
        self._manager = trio.open_nursery()
        self._stopping = False
        self._more = trio.Event()
        self._ended = 0
        self.answered = 0
        self.connections = 0
        self.failures: list[str] = []

    async def __aenter__(self) -> SteadyLoad:
        nursery = await self._manager.__aenter__()
        for _ in range(self.CLIENTS):
            nursery.start_soon(self._be_a_client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._stopping = True
        return await self._manager.__aexit__(kind, error, trace)

    async def until_answered(self, more: int) -> None:
        """So many more answers have come."""
        wanted = self.answered + more
        with trio.fail_after(PATIENCE_SECONDS):
            while self.answered < wanted and not self.failures:
                await self._news()

    async def stop(self) -> None:
        """Let each client read its last answer."""
        self._stopping = True
        with trio.fail_after(PATIENCE_SECONDS):
            while self._ended < self.CLIENTS:
                await self._news()

    async def _news(self) -> None:
        self._more = trio.Event()
        await self._more.wait()

    async def _be_a_client(self) -> None:
        try:
            while not self._stopping:
                await self._use_connection()
        except (OSError, trio.BrokenResourceError, AssertionError) as error:
            self.failures.append(repr(error))
        finally:
            self._ended += 1
            self._more.set()

    async def _use_connection(self) -> None:
        client = RawClient(await trio.open_tcp_stream("127.0.0.1", self._port))
        self.connections += 1
        goes_on = True
        while goes_on and not self._stopping:
            await client.send(self._request)
            answer = await client.read_answer()
            assert answer.status == 200, answer
            self.answered += 1
            self._more.set()
            goes_on = answer.headers.get("connection") != "close"
        await client.close()
