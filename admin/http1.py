"""Hypercorn's HTTP/1.1, with two of its habits mended, both measured (docs/decisions).

It answers an `Upgrade: h2c` (and HTTP/2 by prior knowledge) on the plain port, by which requests can be
smuggled past a proxy: here everything stays HTTP/1.1. And it writes the head of an answer and its body apart:
a write is among the dearest things a page does, so here the head waits for what follows it.
"""

from __future__ import annotations

import h11
from hypercorn.events import RawData
from hypercorn.protocol.h11 import H11Protocol
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


def install() -> None:
    """Has Hypercorn use it, in this process."""
    from hypercorn import protocol

    setattr(protocol, H11Protocol.__name__, HTTP1)
