"""The line between a program and its database, to be cut, to go dead, and to be mended."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import trio

_SOCKET_NAME = ".s.PGSQL.5432"
_RECEIVE_BYTES = 64 * 1024


class DatabaseLine:
    """Passes every byte on, until told otherwise. `url` is the database as seen through it."""

    def __init__(self, url: str, directory: Path) -> None:
        parts = urlsplit(url)
        self._server = str(Path(parse_qs(parts.query)["host"][0]) / _SOCKET_NAME)
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path}?host={directory}"
        self._path = directory / _SOCKET_NAME
        self._open = trio.CancelScope()
        self._passing: set[trio.CancelScope] = set()
        self._alive = trio.Event()
        self._alive.set()
        self._listening = trio.Event()
        self.passed = 0
        """Bytes, in both directions."""

    async def run(self, nursery: trio.Nursery) -> None:
        while True:
            with trio.socket.socket(trio.socket.AF_UNIX) as listener, trio.CancelScope() as self._open:
                await listener.bind(str(self._path))
                listener.listen(50)
                self._listening.set()
                while True:
                    sock, _ = await listener.accept()
                    nursery.start_soon(self._serve, trio.SocketStream(sock))
            self._path.unlink()
            await self._alive.wait()

    def cut(self) -> None:
        """All connections end, and no new one can be made: the server is gone."""
        self._alive = trio.Event()
        self._listening = trio.Event()
        self._open.cancel()
        for passing in self._passing:
            passing.cancel()

    async def mend(self) -> None:
        """Serve again, and let pass what was held up."""
        self._alive.set()
        await self._listening.wait()

    def hang(self) -> None:
        """Connections stay and can be made, and nothing passes: the network, or the server, is stuck."""
        self._alive = trio.Event()

    async def _serve(self, client: trio.SocketStream) -> None:
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.connect(self._server)
        server = trio.SocketStream(sock)
        async with client, server, trio.open_nursery() as nursery:
            self._passing.add(nursery.cancel_scope)
            nursery.start_soon(self._pass_on, client, server, nursery)
            nursery.start_soon(self._pass_on, server, client, nursery)
        self._passing.discard(nursery.cancel_scope)

    async def _pass_on(self, source: trio.SocketStream, to: trio.SocketStream, nursery: trio.Nursery) -> None:
        try:
            while data := await source.receive_some(_RECEIVE_BYTES):
                await self._alive.wait()
                self.passed += len(data)
                await to.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def database_line(url: str) -> AsyncIterator[DatabaseLine]:
    """A line to the database at `url` (a Unix socket's)."""
    with tempfile.TemporaryDirectory(prefix="karta-line-") as directory:
        line = DatabaseLine(url, Path(directory))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.run, nursery)
            await line.mend()
            yield line
            nursery.cancel_scope.cancel()
