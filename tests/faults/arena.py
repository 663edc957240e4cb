"""Gateway processes (two; among the other tests one) before one provider process, with clients that keep a
history, and a stream that must not notice anything.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from storage.bridge import Database, open_database
from storage.errors import DatabaseUnavailable
from tests.bench.sim.process import SimProcess, running_sim
from tests.faults.fault_proxy import FaultProxy, fault_proxy
from tests.faults.history import Attempt, Findings, check, percentile
from tests.gateway.conftest import Tenant, sole
from tests.support.gateway import POLL_SECONDS
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.raw_client import RawClient
from tests.support.requests import chat, post

FULL = os.environ.get("KARTA_TEST_FAULTS") == "full"
"""Driven in full, alone on the machine: figures are asserted as they are written, not as deadlines."""

GAP_SECONDS_MAX = 0.1 if FULL else 5.0
"""What the control stream may notice, at its 99th percentile."""

GATEWAYS = 2 if FULL else 1

PACE_SECONDS = 0.02
_SAID = [{"role": "user", "content": "hello"}]
T = TypeVar("T")


only_in_full = pytest.mark.skipif(not FULL, reason="driven by `tox -e faults`")


def scaled(full: T, quick: T) -> T:
    """How much of a fault."""
    return full if FULL else quick


class Arena:
    """`gateways` share a database and a provider, which they reach through `proxy`."""

    def __init__(
        self,
        tenant: Tenant,
        gateways: list[GatewayProcess],
        provider: SimProcess,
        proxy: FaultProxy,
        db: Database,
        inspector: RawClient,
    ) -> None:
        self.tenant = tenant
        self._db = db
        self._inspector = inspector
        self._inspecting = trio.Lock()
        self._last_seq = 0
        self.gateways = gateways
        self.provider = provider
        self.proxy = proxy
        self.history: list[Attempt] = []
        self._numbers = itertools.count()

    # Clients.

    @asynccontextmanager
    async def client(
        self, gateway: int = 0, *, receive_buffer: int | None = None
    ) -> AsyncIterator[RawClient]:
        with trio.socket.socket() as sock:
            if receive_buffer is not None:
                sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
            await sock.connect(("127.0.0.1", self.gateways[gateway % GATEWAYS].port))
            yield RawClient(trio.SocketStream(sock))

    def request(
        self, behaviour: str, *, stream: bool = True, openai: bool = False, token: str | None = None
    ) -> tuple[Attempt, bytes]:
        """A request with a model of its own, written down."""
        attempt = Attempt(f"sim:seed={next(self._numbers)},{behaviour}", after=self._last_seq)
        self.history.append(attempt)
        body: dict[str, Any] = {"model": attempt.model, "max_tokens": 100_000, "messages": _SAID}
        if stream:
            body["stream"] = True
            if openai:
                body["stream_options"] = {"include_usage": True}
        make = chat if openai else post
        return attempt, make(token or self.tenant.token, json.dumps(body).encode())

    async def ask(self, behaviour: str, *, gateway: int = 0, **options: Any) -> Attempt:
        """One request and its answer, however it ends."""
        attempt, request = self.request(behaviour, **options)
        async with self.client(gateway) as client:
            began = trio.current_time()
            await client.send(request)
            try:
                answer = await client.read_answer()
            except AssertionError:
                # Cut off.
                return attempt
            attempt.seconds = trio.current_time() - began
            attempt.status = answer.status
            attempt.take_body(answer.body)
        return attempt

    async def ask_many(self, count: int, behaviour: str, **options: Any) -> list[float]:
        """One after the other; how long each took, in seconds."""
        return [(await self.ask(behaviour, stream=False, **options)).seconds for _ in range(count)]

    async def warm(self) -> None:
        """Every gateway has seen the key, and has dialled."""
        for number in range(len(self.gateways)):
            assert (await self.ask("tokens=1", gateway=number)).status == 200

    @asynccontextmanager
    async def control(self, gateway: int = 0) -> AsyncIterator[None]:
        """A healthy stream for as long as the context lasts: nobody else's fault may hold it up."""
        gaps: list[float] = []
        attempt, request = self.request(f"tokens=90000,pace_ms={PACE_SECONDS * 1000:g}")
        del attempt
        ended = False

        async def listen(task_status: trio.TaskStatus[None]) -> None:
            nonlocal ended
            async with self.client(gateway) as client:
                await client.send(request)
                await client.read_until(b"content_block_delta")
                task_status.started()
                last = trio.current_time()
                while await client.receive():
                    now = trio.current_time()
                    gaps.append(now - last - PACE_SECONDS)
                    last = now
                ended = True

        async with trio.open_nursery() as nursery:
            await nursery.start(listen)
            yield
            # What came meanwhile has been heard.
            await trio.sleep(2 * PACE_SECONDS)
            nursery.cancel_scope.cancel()
        assert not ended, "the control stream was cut"
        assert percentile(gaps, 0.99) < GAP_SECONDS_MAX

    # What became of it.

    async def ledger(self, after: int = 0) -> list[dict[str, Any]]:
        """The provider's entries, by one connection for all who ask: the harness must not be the load."""
        asking = f"GET /_sim/ledger?after={after} HTTP/1.1\r\nhost: sim\r\n\r\n"
        async with self._inspecting:
            await self._inspector.send(asking.encode())
            document = json.loads((await self._inspector.read_answer()).body)
        self._last_seq = document["last_seq"]
        entries: list[dict[str, Any]] = document["entries"]
        return entries

    async def arrived(self, attempt: Attempt) -> None:
        """Until it has reached the provider."""
        while not any(entry["model"] == attempt.model for entry in await self.ledger(attempt.after)):
            await trio.sleep(POLL_SECONDS)

    async def entry(self, attempt: Attempt) -> dict[str, Any]:
        """The provider's side of an attempt, once it has seen the other side leave or has ended."""
        while True:
            for entry in await self.ledger(attempt.after):
                if entry["model"] == attempt.model and (entry["client_closed_at"] or entry["ended_at"]):
                    return entry
            await trio.sleep(POLL_SECONDS)

    async def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in await self._fetch("SELECT * FROM usage ORDER BY started_at")]

    async def _fetch(self, query: str, *values: object) -> list[Any]:
        """What is asked of a database that may just have come back."""
        while True:
            try:
                return list(await self._db.fetch(query, *values))
            except DatabaseUnavailable:
                await trio.sleep(POLL_SECONDS)

    async def row(self, attempt: Attempt) -> dict[str, Any]:
        (row,) = await self.rows_of(attempt)
        return row

    async def rows_of(self, *attempts: Attempt) -> list[dict[str, Any]]:
        """A row of each of them, in their order, once they are all there."""
        models = [one.model for one in attempts]
        while True:
            found = await self._fetch("SELECT * FROM usage WHERE model_asked = ANY($1)", models)
            rows = {row["model_asked"]: dict(row) for row in found}
            if len(rows) == len(attempts):
                return [rows[model] for model in models]
            await trio.sleep(2 * POLL_SECONDS)

    async def findings(self) -> Findings:
        """What is wrong with everything so far."""
        return check(self.history, await self.ledger(), await self.rows())

    async def probe(self, path: str, gateway: int = 0) -> int:
        """The status that a load balancer gets."""
        async with self.client(gateway) as client:
            await client.send(f"GET {path} HTTP/1.1\r\nhost: karta\r\n\r\n".encode())
            return (await client.read_answer()).status


@asynccontextmanager
async def arena(
    tenant: Tenant, folder: Path, *, seconds_max: float = 120.0, by_proxy: bool = False, **variables: str
) -> AsyncIterator[Arena]:
    """Everything started; `variables` are more of the gateways' environment.

    `by_proxy`: the provider is reached through `proxy`, which is a part of this process and so disturbs what
    is measured in it.
    """
    try:
        async with _arena(tenant, folder, seconds_max, by_proxy, variables) as stand:
            yield stand
    except BaseExceptionGroup as group:
        # A failed assertion comes out through several nurseries: told as what it is.
        raise sole(group) from None


@asynccontextmanager
async def _arena(
    tenant: Tenant, folder: Path, seconds_max: float, by_proxy: bool, variables: dict[str, str]
) -> AsyncIterator[Arena]:
    with running_sim() as provider, trio.fail_after(seconds_max):
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(fault_proxy(provider.port))
            gateways = [
                await stack.enter_async_context(
                    gateway_process(
                        tenant.database_url,
                        folder / name,
                        provider_url=proxy.url if by_proxy else provider.base_url,
                        master_keys=tenant.master_keys,
                        **variables,
                    )
                )
                for name in ("first", "second")[:GATEWAYS]
            ]
            db = await stack.enter_async_context(open_database(tenant.database_url, role=None))
            inspector = await stack.enter_async_context(await provider.dial())
            yield Arena(tenant, gateways, provider, proxy, db, RawClient(inspector))
            for gateway in gateways:
                assert not gateway.ended, "a gateway has died"


def now() -> float:
    """Seconds since 1970, as the provider's ledger tells time."""
    return time.time()
