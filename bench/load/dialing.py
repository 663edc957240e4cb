"""Open the connections of a run, and open again those that are lost.

One dialling task, a child of the worker's task group, serves all connections from a queue, a bounded number
at a time, so that a target that is down is asked politely.
"""

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from bench.load.answer import Failure
from bench.load.connection import LoadConnection
from bench.load.tally import Tally

# Connections being opened at once: below any listen backlog.
dialling_max = 64
connect_seconds_max = 5.0
# The pause after a failed attempt, so that a target that refuses is not hammered.
retry_seconds = 0.05


class Dialler:
    """Connects `LoadConnection`s to the plan's target and hands each, connected, to `on_connected`."""

    def __init__(
        self,
        base_url: str,
        tally: Tally,
        on_connected: Callable[[LoadConnection], None],
        *,
        ca_file: str | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the target is an http:// or https:// URL, not {base_url!r}")
        self._host = parts.hostname
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._tally = tally
        self._on_connected = on_connected
        # Bounded by the number of connections of the plan: each is in the queue at most once.
        self._wanted: asyncio.Queue[LoadConnection] = asyncio.Queue()

    def want(self, connection: LoadConnection) -> None:
        """Ask for the connection to be opened; returns at once."""
        self._wanted.put_nowait(connection)

    async def run(self) -> None:
        """Dial for ever; cancel to end."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(dialling_max):
                tasks.create_task(self._dial_wanted())

    async def _dial_wanted(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection = await self._wanted.get()
            try:
                async with asyncio.timeout(connect_seconds_max):
                    await loop.create_connection(
                        lambda waiting=connection: waiting,
                        self._host,
                        self._port,
                        ssl=self._tls,
                    )
            except (OSError, TimeoutError) as error:
                self._tally.fail(Failure.CONNECT, f"{type(error).__name__}: {error}")
                await asyncio.sleep(retry_seconds)
                self._wanted.put_nowait(connection)
            else:
                self._on_connected(connection)
