"""`GET /healthz` (the process lives) and `GET /readyz` (it can serve): for load balancers, with no key and
no database query.
"""

from __future__ import annotations

import msgspec

from gateway.connection import Connection
from gateway.request_reader import Inbound
from gateway.snapshot import Snapshot
from gateway.spool import Spool

PATHS = frozenset({b"/healthz", b"/readyz"})


class Probes:
    def __init__(self, snapshot: Snapshot, spool: Spool) -> None:
        self._snapshot = snapshot
        self._spool = spool
        self.draining = False

    def reasons(self) -> list[str]:
        """Why this worker should get no traffic; empty when it should."""
        reasons = []
        if self.draining:
            reasons.append("draining: this worker is stopping")
        if not self._snapshot.ready:
            reasons.append("database: not reachable, so new keys cannot be verified")
        if self._spool.full:
            reasons.append("spool: full, so usage cannot be recorded")
        return reasons

    async def answer(self, connection: Connection, inbound: Inbound) -> None:
        reasons = self.reasons() if inbound.target == b"/readyz" else []
        status = b"503 Service Unavailable" if reasons else b"200 OK"
        body = msgspec.json.encode({"ready": not reasons, "reasons": reasons} if reasons else {"ready": True})
        if inbound.target == b"/healthz":
            body = b'{"alive":true}'
        connection.keep_alive = connection.keep_alive and inbound.complete
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\n" % status
        head += b"cache-control: no-store\r\ncontent-length: %d\r\n" % len(body)
        end = b"\r\n" if connection.keep_alive else b"connection: close\r\n\r\n"
        await connection.send(head + end + (b"" if inbound.method == b"HEAD" else body))
