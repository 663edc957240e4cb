"""Ends the answers that are still on their way when their key ends: revoked, deleted, or its organization
suspended.

`snapshot` tells which keys ended. Their requests are looked for among the connections, since noting each
request of each key would cost every request something and this is rare. They are looked for again until
there are none: a request may be where nobody can reach it for a moment. New ones are refused by then.

A key that merely expires refuses what is new and lets its answers end.

Bounds: a look passes each connection once, however many keys ended.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from gateway.connection import Connection
from gateway.ending import Cut
from gateway.refusal import Kind, Refusal
from gateway.snapshot import KeyRecord
from storage.model import Outcome

AGAIN_SECONDS = 0.1


class Cutter:
    """Cuts answers on `connections`."""

    def __init__(self, connections: Iterable[Connection]) -> None:
        self._connections = connections
        self._ended: dict[str, KeyRecord] = {}
        self._told = trio.Event()
        self.cuts = 0

    def end(self, records: Iterable[KeyRecord]) -> None:
        """These keys have ended."""
        self._ended.update((record.key.key_id, record) for record in records)
        self._told.set()

    async def run(self) -> None:
        """Cut what is to be cut, until cancelled."""
        while True:
            await self._told.wait()
            self._told = trio.Event()
            while self._ended:
                self._look()
                await trio.sleep(AGAIN_SECONDS)

    def _look(self) -> None:
        found = []
        met = set()
        for connection in self._connections:
            grant = connection.grant if connection.exchange is None else connection.exchange.grant
            if grant is not None and grant.caller.key.key_id in self._ended:
                met.add(grant.caller.key.key_id)
                found.append((connection, self._ended[grant.caller.key.key_id]))
        # Those that had none: a key may come back, as an organization does.
        self._ended = {key_id: record for key_id, record in self._ended.items() if key_id in met}
        for connection, record in found:
            if record.ended:
                self.cuts += 1
                connection.cut(_why(record))


def _why(record: KeyRecord) -> Cut:
    if record.active:
        kind, what = Kind.UNAUTHENTICATED, "This API key has been revoked"
    else:
        kind, what = Kind.FORBIDDEN, "This organization has been suspended"
    message = f"{what}: the answer was cut off and is not complete."
    return Cut(Refusal(kind, message, close=True), Outcome.REVOKED)
