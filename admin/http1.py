"""Hypercorn's HTTP/1.1, with some of its habits mended, all measured (docs/decisions).

It answers an `Upgrade: h2c` (and HTTP/2 by prior knowledge) on the plain port, by which requests can be
smuggled past a proxy: here everything stays HTTP/1.1. And it writes the head of an answer and its body apart:
a write is among the dearest things a page does, so here the head waits for what follows it.

It starts a task after each answer that ends the connection if nothing more is asked for, and cancels it when
something is: here one task watches a connection for as long as it lives. And when the client has gone, so is
the connection, at once; Hypercorn would have kept it until that task had waited its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import h11
import trio
from hypercorn.events import RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio import run as hypercorn_run
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import H11SendableEvent


class HTTP1(H11Protocol):
    _head = b""
    """Of an answer of which nothing was sent yet."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Instead of a look at upgrades: there are none."""

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        try:
            data = self.connection.send(event) or b""
        except h11.LocalProtocolError:
            # As Hypercorn does it: who sent nonsense is not answered.
            if self.connection.their_state != h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self._head = data
            return
        data, self._head = self._head + data, b""
        if data:
            await self.send(RawData(data=data))


class Idleness:
    """Ends one connection when it was left idle for the time that the configuration says, or is idle when the
    server stops. In place of Hypercorn's task, with its methods."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._watching: trio.CancelScope | None = None

    async def restart(self, task_group: TaskGroup, _action: Callable[..., Any]) -> None:
        """From now on it is idle."""
        deadline = trio.current_time() + self._server.config.keep_alive_timeout
        if self._watching is None:
            self._watching = trio.CancelScope(deadline=deadline)
            task_group.spawn(self._watch, self._watching)
        else:
            self._watching.deadline = deadline

    async def stop(self) -> None:
        """It is busy."""
        if self._watching is not None:
            self._watching.deadline = math.inf

    def end(self) -> None:
        """There is nobody on the other end."""
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self, watching: trio.CancelScope) -> None:
        with watching:
            await self._server.context.terminated.wait()
        if self._server.has_ended:
            return
        if watching.deadline == math.inf:
            # Busy, if only since this moment. When the server stops, Hypercorn closes it after the answer.
            self._watching = None
            return
        with trio.CancelScope(shield=True):
            await self._server.close_idle()


class Server(TCPServer):
    """One connection."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.has_ended = False
        self.idle_task = Idleness(self)  # type: ignore[assignment]

    async def _read_data(self) -> None:
        try:
            await super()._read_data()
        finally:
            self.has_ended = True
            self.idle_task.end()  # type: ignore[attr-defined]

    async def close_idle(self) -> None:
        await self._initiate_server_close()


def install() -> None:
    """Has Hypercorn use it, in this process."""
    from hypercorn import protocol

    setattr(protocol, H11Protocol.__name__, HTTP1)
    setattr(hypercorn_run, TCPServer.__name__, Server)
