"""A real gateway in the test's own Trio run: real sockets, real Postgres under its own role, real journal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from gateway.accept import listen
from gateway.settings import GatewaySettings
from gateway.spool import Spool
from gateway.worker import ROLE, Worker
from storage.bridge import Database, open_database
from storage.settings import Bind

PLATFORM_KEY = "sk-platform-secret"
SIMULATED_KEY = "sk-simulated-secret"
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 10.0


class RunningGateway:
    def __init__(self, worker: Worker, db: Database, port: int) -> None:
        self.worker = worker
        self.db = db
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.steps: list[str] = []
        """What the pipeline's observer was told, in order."""

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def exchange(self, request: bytes) -> bytes:
        """Send raw bytes on a connection of their own; everything that came back until the end."""
        async with await self.connect() as stream:
            await stream.send_all(request)
            return await read_to_end(stream)

    async def settled(self, count: int) -> list[dict[str, Any]]:
        """The usage rows in Postgres, oldest first, once there are `count` of them."""
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                await self.worker.shipper.ship_all()
                rows = await self.db.fetch("SELECT * FROM usage ORDER BY started_at")
                if len(rows) >= count:
                    assert len(rows) == count
                    return [dict(row) for row in rows]
                await trio.sleep(POLL_SECONDS)


async def read_to_end(stream: trio.SocketStream) -> bytes:
    """All bytes until the other side ends, cleanly or by reset."""
    data = b""
    try:
        async for piece in stream:
            data += piece
    except trio.BrokenResourceError:
        pass
    return data


async def poll(condition: Any) -> None:
    """Wait until `condition()` is true, at most a fixed time."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not condition():
            await trio.sleep(POLL_SECONDS)


@asynccontextmanager
async def running_gateway(
    database_url: str,
    spool_dir: Path,
    *,
    provider_url: str,
    master_keys: str | None = None,
    simulated_url: str | None = None,
    **settings: Any,
) -> AsyncIterator[RunningGateway]:
    """A gateway whose providers are all at `provider_url`; further settings by their field names."""
    variables = {}
    for name in ("ANTHROPIC", "OPENAI"):
        variables[f"KARTA_PROVIDER_{name}_BASE_URL"] = provider_url
        variables[f"KARTA_PROVIDER_{name}_API_KEY"] = PLATFORM_KEY
    loaded = GatewaySettings.load(
        **{
            "database_url": database_url,
            "master_keys": master_keys,
            "gateway_bind": Bind("127.0.0.1", 0),
            "spool_dir": spool_dir,
            "provider_variables": variables,
            "simulated_base_url": simulated_url,
            "simulated_api_key": SIMULATED_KEY,
            **settings,
        }
    )
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    spool = Spool(spool_dir)
    ready = trio.Event()
    try:
        async with (
            open_database(database_url, role=ROLE) as db,
            open_database(database_url, role=None) as owner,
            trio.open_nursery() as nursery,
        ):
            worker = Worker(loaded, spool, db)
            gateway = RunningGateway(worker, owner, port)
            worker.observe = gateway.steps.append
            nursery.start_soon(worker.run, listener, lambda _url: ready.set())
            await ready.wait()
            yield gateway
            nursery.cancel_scope.cancel()
    finally:
        spool.close()
        listener.close()
