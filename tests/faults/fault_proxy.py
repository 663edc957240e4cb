"""A TCP proxy that does to bytes what networks do, one fault at a time or several (the eight of Toxiproxy).

`async with fault_proxy(port) as proxy` passes everything on; `proxy.faults` are put on the connections made
from then on. A fault works on one direction, by default on what comes back from the server ("down").
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
import trio

RECEIVE_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)

Send = Callable[[bytes], Awaitable[None]]


class Cut(Exception):
    """The connection ends here, both ways; `reset` says how it looks."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something done to one direction of each connection. Subclasses say what."""

    direction: Literal["up", "down"] = "down"

    def begin(self, send: Send) -> Send:
        """What to send a piece by, in place of `send`; state of one connection lives in the closure."""
        return send

    async def before_end(self) -> None:
        """Called when that side has ended, before its end is passed on."""


class Latency(Fault, frozen=True, kw_only=True):
    """Every piece comes so much later."""

    seconds: float

    def begin(self, send: Send) -> Send:
        async def later(data: bytes) -> None:
            await trio.sleep(self.seconds)
            await send(data)

        return later


class Bandwidth(Fault, frozen=True, kw_only=True):
    """No more than so many bytes a second."""

    bytes_per_second: int

    def begin(self, send: Send) -> Send:
        async def paced(data: bytes) -> None:
            step = max(1, self.bytes_per_second // 20)
            for start in range(0, len(data), step):
                piece = data[start : start + step]
                await send(piece)
                await trio.sleep(len(piece) / self.bytes_per_second)

        return paced


class SlowClose(Fault, frozen=True, kw_only=True):
    """The end comes so much later."""

    seconds: float

    async def before_end(self) -> None:
        await trio.sleep(self.seconds)


class Timeout(Fault, frozen=True, kw_only=True):
    """After so many bytes nothing passes any more, and the connection stays."""

    after_bytes: int = 0

    def begin(self, send: Send) -> Send:
        left = self.after_bytes

        async def until(data: bytes) -> None:
            nonlocal left
            passed, left = data[:left], left - len(data)
            if passed:
                await send(passed)
            if left < 0:
                await trio.sleep_forever()

        return until


class ResetPeer(Fault, frozen=True, kw_only=True):
    """After so many bytes both sides get a reset."""

    after_bytes: int = 0

    def begin(self, send: Send) -> Send:
        return _cutting(send, self.after_bytes, reset=True)


class LimitData(Fault, frozen=True, kw_only=True):
    """After so many bytes the connection ends, in order."""

    after_bytes: int

    def begin(self, send: Send) -> Send:
        return _cutting(send, self.after_bytes, reset=False)


class Slicer(Fault, frozen=True, kw_only=True):
    """Every piece is cut into pieces of so many bytes, each sent by itself."""

    bytes: int

    def begin(self, send: Send) -> Send:
        async def sliced(data: bytes) -> None:
            for start in range(0, len(data), self.bytes):
                await send(data[start : start + self.bytes])
                await trio.lowlevel.checkpoint()

        return sliced


def _cutting(send: Send, after_bytes: int, *, reset: bool) -> Send:
    left = after_bytes

    async def until(data: bytes) -> None:
        nonlocal left
        passed, left = data[:left], left - len(data)
        if passed:
            await send(passed)
        if left <= 0:
            raise Cut(reset=reset)

    return until


class FaultProxy:
    """`port` is where it listens, in place of the server's."""

    def __init__(self, listener: trio.SocketListener, server_port: int) -> None:
        self.port: int = listener.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.faults: list[Fault] = []
        self.connections = 0
        self._server_port = server_port
        self._passing: set[trio.CancelScope] = set()
        self.is_down = False

    def down(self) -> None:
        """The eighth: connections end, and new ones are closed at once."""
        self.is_down = True
        for passing in self._passing:
            passing.cancel()

    def up(self) -> None:
        self.is_down = False

    async def serve(self, client: trio.SocketStream) -> None:
        if self.is_down:
            await client.aclose()
            return
        self.connections += 1
        faults = list(self.faults)
        async with client, await trio.open_tcp_stream("127.0.0.1", self._server_port) as server:
            try:
                async with trio.open_nursery() as nursery:
                    self._passing.add(nursery.cancel_scope)
                    try:
                        nursery.start_soon(self._pass_on, client, server, faults, "up")
                        await self._pass_on(server, client, faults, "down")
                        # A server that has ended has no more use for what a client says.
                        nursery.cancel_scope.cancel()
                    finally:
                        self._passing.discard(nursery.cancel_scope)
            except* Cut as cuts:
                if any(cut.reset for cut in cuts.exceptions if isinstance(cut, Cut)):
                    for stream in (client, server):
                        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def _pass_on(
        self, source: trio.SocketStream, to: trio.SocketStream, faults: list[Fault], direction: str
    ) -> None:
        mine = [fault for fault in faults if fault.direction == direction]
        send: Send = to.send_all
        for fault in reversed(mine):
            send = fault.begin(send)
        try:
            while data := bytes(await source.receive_some(RECEIVE_BYTES)):
                await send(data)
        except trio.BrokenResourceError:
            # Whoever broke it, the other side sees the same.
            raise Cut(reset=True) from None
        for fault in mine:
            await fault.before_end()
        with contextlib.suppress(trio.BrokenResourceError):
            await to.send_eof()


@asynccontextmanager
async def fault_proxy(server_port: int) -> AsyncIterator[FaultProxy]:
    """A proxy before a server on loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = FaultProxy(listener, server_port)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
        yield proxy
        nursery.cancel_scope.cancel()
