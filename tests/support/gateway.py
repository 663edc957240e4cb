"""A real gateway in the test's own Trio run: real sockets, real Postgres under its own role, real journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import trio

from gateway.accept import listen
from gateway.authenticate import Authenticator
from gateway.connection import Connection
from gateway.limits import Limits
from gateway.settings import GatewaySettings
from gateway.spool import Spool
from gateway.worker import ROLE, Worker
from storage import key_format
from storage.bridge import Database, open_database
from storage.deadlines import QUERY_SECONDS_MAX
from storage.errors import DatabaseUnavailable
from storage.settings import Bind
from tests.support.raw_client import Answer, RawClient

PLATFORM_KEY = "sk-platform-secret"
SIMULATED_KEY = "sk-simulated-secret"
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 60.0
# A test that is stuck fails instead of hanging the run.
TEST_SECONDS_MAX = 120.0


class RunningGateway:
    """A gateway and ways to talk to it. `db` sees everything, as the database's owner."""

    def __init__(self, worker: Worker, db: Database, port: int) -> None:
        self.worker = worker
        self.db = db
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.steps: list[str] = []
        """What the pipeline's observer was told, in order."""
        self.began = datetime.now(UTC)
        self.stopped = trio.Event()
        """The worker has returned, as after a signal."""
        self._watchers: list[tuple[str, trio.Event]] = []

    @property
    def authenticator(self) -> Authenticator:
        return self.worker.pipeline._authenticator

    def observe(self, step: str) -> None:
        self.steps.append(step)
        for awaited, event in self._watchers:
            if awaited == step:
                event.set()

    def step(self, name: str) -> trio.Event:
        """An event that fires when the pipeline next takes the step of that name."""
        event = trio.Event()
        self._watchers.append((name, event))
        return event

    async def only_connection(self) -> Connection:
        """The gateway's end of the one client connection, once it is accepted."""
        await poll(lambda: self.worker.watchdog.watched)
        (watched,) = self.worker.watchdog.watched
        assert isinstance(watched, Connection)
        return watched

    async def trust(self, *tokens: str) -> None:
        """Make keys known to the gateway as if each had been used before: a first use without its bcrypt."""
        for token in tokens:
            parsed = key_format.parse(token.encode())
            assert parsed is not None
            record = await self._read_patiently(parsed.key_id)
            assert record is not None
            self.authenticator._remember(self.authenticator.mac(token.encode()), record)

    async def _read_patiently(self, key_id: str) -> Any:
        """A key's record. A busy machine may take longer to connect than the gateway allows: then again."""
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                try:
                    return await self.worker.snapshot.read(key_id)
                except DatabaseUnavailable:
                    await trio.sleep(POLL_SECONDS)

    @asynccontextmanager
    async def client(
        self, *, address: str = "127.0.0.1", receive_buffer: int | None = None
    ) -> AsyncIterator[RawClient]:
        """A connection from `address`; `receive_buffer` bounds what the client's kernel takes for it."""
        with trio.socket.socket() as sock:
            await sock.bind((address, 0))
            if receive_buffer is not None:
                # Before connecting: the window that is offered first is the largest there will be.
                sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
            await sock.connect(("127.0.0.1", self.port))
            yield RawClient(trio.SocketStream(sock))

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def exchange(self, request: bytes) -> bytes:
        """Send raw bytes on a connection of their own; everything that came back until the end."""
        async with self.client() as client:
            await client.send(request)
            return await client.read_to_end()

    async def ask(self, request: bytes, *, bodiless: bool = False) -> Answer:
        """One request on a connection of its own, which the client closes when the answer is whole."""
        async with self.client() as client:
            await client.send(request)
            return await client.read_answer(bodiless=bodiless)

    async def settled(self, count: int) -> list[dict[str, Any]]:
        """This gateway's usage rows in Postgres, oldest first, once there are `count` of them."""
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                await self.worker.shipper.ship_all()
                # Other tests leave rows in the same database: older ones.
                rows = await self.db.fetch(
                    "SELECT * FROM usage WHERE started_at >= $1 ORDER BY started_at", self.began
                )
                if len(rows) >= count:
                    assert len(rows) == count
                    return [dict(row) for row in rows]
                await trio.sleep(POLL_SECONDS)

    async def only_row(self) -> dict[str, Any]:
        """The one usage row there shall be."""
        (row,) = await self.settled(1)
        return row


async def poll(condition: Callable[[], object]) -> None:
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
    platform_key: str | None = PLATFORM_KEY,
    ca_file: Path | None = None,
    owner_url: str | None = None,
    master_keys: str | None = None,
    simulated_url: str | None = None,
    query_seconds_max: float = QUERY_SECONDS_MAX,
    limits: Mapping[str, Any] | None = None,
    trusted: tuple[str, ...] = (),
    **settings: Any,
) -> AsyncIterator[RunningGateway]:
    """A gateway whose providers are all at `provider_url`; further settings by their field names.

    `limits` are bounds by their names in `Limits`, also those no setting has. `trusted` are tokens the
    gateway knows already, so that a test of something else does not wait for bcrypt. `owner_url` is the
    test's own way to the database, where the gateway's can be cut; `ca_file` vouches for the providers.
    """
    loaded = GatewaySettings.load(
        **{
            "database_url": database_url,
            "master_keys": master_keys,
            "gateway_bind": Bind("127.0.0.1", 0),
            "spool_dir": spool_dir,
            "provider_variables": _provider_variables(provider_url, platform_key, ca_file),
            "simulated_base_url": simulated_url,
            "simulated_api_key": SIMULATED_KEY,
            **settings,
        }
    )
    spool = Spool(spool_dir)
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    ready = trio.Event()
    try:
        with trio.fail_after(TEST_SECONDS_MAX):
            async with (
                open_database(database_url, role=ROLE, query_seconds_max=query_seconds_max) as db,
                open_database(owner_url or database_url, role=None) as owner,
                trio.open_nursery() as nursery,
            ):
                worker = Worker(cast(GatewaySettings, _Limited(loaded, limits or {})), spool, db)
                gateway = RunningGateway(worker, owner, port)
                worker.observe = gateway.observe

                async def run() -> None:
                    await worker.run(listener, lambda _url: ready.set())
                    gateway.stopped.set()

                nursery.start_soon(run)
                await ready.wait()
                await gateway.trust(*trusted)
                yield gateway
                nursery.cancel_scope.cancel()
    finally:
        spool.close()
        listener.close()


def _provider_variables(provider_url: str, platform_key: str | None, ca_file: Path | None) -> dict[str, str]:
    variables = {}
    for name in ("ANTHROPIC", "OPENAI"):
        variables[f"KARTA_PROVIDER_{name}_BASE_URL"] = provider_url
        if platform_key is not None:
            variables[f"KARTA_PROVIDER_{name}_API_KEY"] = platform_key
        if ca_file is not None:
            variables[f"KARTA_PROVIDER_{name}_CA_FILE"] = str(ca_file)
    return variables


class _Limited:
    """Settings with other bounds."""

    def __init__(self, settings: GatewaySettings, limits: Mapping[str, Any]) -> None:
        self._settings = settings
        self._limits = limits

    def limits(self) -> Limits:
        return msgspec.structs.replace(self._settings.limits(), **self._limits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._settings, name)
