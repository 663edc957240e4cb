"""A load on two gateways that are killed and started again under it, and the history of what clients saw.

Each request asks for a model of its own (the simulated provider takes any name that begins with `sim:`), so
that it is found again in the provider's ledger and in the usage rows.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import trio

from tests.gateway.conftest import Tenant
from tests.support.gateway import POLL_SECONDS
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.raw_client import RawClient
from tests.support.requests import chat, post

CLIENTS = 24
OUTPUT_TOKENS_MAX = 40
# From the start of a gateway to the next kill, of either.
CALM_SECONDS = (0.3, 2.5)
_SAID = [{"role": "user", "content": "hello"}]


class End(Enum):
    """What a client saw of its request."""

    SENT = "sent"
    """Nothing, or not all: the connection ended."""
    ANSWERED = "answered"
    """A whole answer."""
    REFUSED = "refused"
    """Karta said no."""
    LEFT = "left"
    """It left in the middle of it."""


class Sent(msgspec.Struct):
    """One request. `model` names it alone."""

    model: str
    key: str
    end: End = End.SENT
    status: int = 0
    request_id: str = ""
    provider_id: str = ""


class Workers:
    """Two gateways, each on a journal of its own; at most one of them is down."""

    def __init__(self, tenant: Tenant, provider_url: str, directory: Path) -> None:
        self._tenant = tenant
        self._provider_url = provider_url
        self.spool_dirs = [directory / name for name in ("first", "second")]
        self.running: list[GatewayProcess | None] = [None, None]
        self._ends = [AsyncExitStack(), AsyncExitStack()]
        self.kills = 0

    async def start(self, number: int) -> None:
        self.running[number] = await self._ends[number].enter_async_context(
            gateway_process(
                self._tenant.database_url,
                self.spool_dirs[number],
                provider_url=self._provider_url,
                KARTA_UNKNOWN_PRICE_USD_PER_MTOK="10",
            )
        )

    async def kill(self, number: int) -> None:
        """With SIGKILL."""
        self.running[number] = None
        self.kills += 1
        await self._ends[number].aclose()
        self._ends[number] = AsyncExitStack()

    async def stop(self) -> list[int]:
        """In order; the exit statuses."""
        return [await gateway.stop() for gateway in self.running if gateway is not None]

    async def trouble(self, choose: random.Random) -> None:
        """Kill one or the other, until cancelled."""
        while True:
            await trio.sleep(choose.uniform(*CALM_SECONDS))
            number = choose.randrange(2)
            # Cancelled in between, a gateway would be left out.
            with trio.CancelScope(shield=True):
                await self.kill(number)
                await self.start(number)

    async def connect(self, choose: random.Random) -> RawClient:
        """To one of those that serve."""
        while True:
            running = [gateway for gateway in self.running if gateway is not None]
            if running:
                try:
                    return RawClient(await choose.choice(running).connect())
                except OSError:
                    pass
            await trio.sleep(POLL_SECONDS)

    async def close(self) -> None:
        for ends in self._ends:
            await ends.aclose()


@asynccontextmanager
async def two_workers(tenant: Tenant, provider_url: str, directory: Path) -> AsyncIterator[Workers]:
    workers = Workers(tenant, provider_url, directory)
    try:
        await workers.start(0)
        await workers.start(1)
        yield workers
    finally:
        with trio.CancelScope(shield=True):
            await workers.close()


class Load:
    """So many requests, from `CLIENTS` clients, by keys drawn from `tokens` (name: token and weight)."""

    def __init__(
        self, workers: Workers, tokens: dict[str, tuple[str, int]], requests: int, choose: random.Random
    ) -> None:
        self._workers = workers
        self._tokens = tokens
        self._left = requests
        self._choose = choose
        self.history: list[Sent] = []

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(self._be_a_client)

    async def _be_a_client(self) -> None:
        client: RawClient | None = None
        while self._left:
            self._left -= 1
            if client is None:
                client = await self._workers.connect(self._choose)
            sent, request, leaves = self._draw()
            try:
                await self._ask(client, sent, request, leaves=leaves)
            except (trio.BrokenResourceError, AssertionError):
                assert client.ended or not leaves
            if sent.end in (End.SENT, End.LEFT):
                await client.close()
                client = None
        if client is not None:
            await client.close()

    def _draw(self) -> tuple[Sent, bytes, bool]:
        """A request, and whether its client leaves in the middle."""
        choose = self._choose
        names = list(self._tokens)
        name = choose.choices(names, [self._tokens[one][1] for one in names])[0]
        stream, anthropic = choose.random() < 0.6, choose.random() < 0.5
        tokens = choose.randint(1, OUTPUT_TOKENS_MAX)
        model = f"sim:seed={len(self.history)},tokens={tokens},cache_read={choose.choice([0, 3])}"
        if stream and choose.random() < 0.4:
            model += ",pace_ms=20"
        body: dict[str, Any] = {"model": model, "max_tokens": OUTPUT_TOKENS_MAX, "messages": _SAID}
        if stream:
            body["stream"] = True
        sent = Sent(model, name)
        self.history.append(sent)
        make = post if anthropic else chat
        return sent, make(self._tokens[name][0], json.dumps(body).encode()), choose.random() < 0.05

    async def _ask(self, client: RawClient, sent: Sent, request: bytes, *, leaves: bool) -> None:
        await client.send(request)
        if leaves:
            await client.read_until(b"\r\n\r\n")
            sent.end = End.LEFT
            return
        answer = await client.read_answer()
        sent.status = answer.status
        sent.end = End.ANSWERED if answer.status == 200 else End.REFUSED
        sent.request_id = answer.headers["x-karta-request-id"]
        sent.provider_id = answer.headers.get("request-id") or answer.headers.get("x-request-id", "")
