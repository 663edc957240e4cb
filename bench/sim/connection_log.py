"""Every connection the simulated provider accepted, and how many bytes came over it.

So a test can prove that a gateway dialled without sending a byte of the prompt, that it reuses its
connections, and that it closes them. Bounds: the latest 2,000 closed ones; open ones are bounded by the
process's descriptors.
"""

import time
from collections import deque
from typing import Any

CLOSED_MAX = 2_000


class ConnectionRecord:
    """One connection's story; times are unix seconds."""

    __slots__ = (
        "accepted_at",
        "bytes_received",
        "client_closed_at",
        "closed_at",
        "closed_by_us",
        "connection_id",
        "inspection",
        "malformed",
        "peer",
        "requests",
    )

    def __init__(self, connection_id: int, peer: str) -> None:
        self.connection_id = connection_id
        self.peer = peer
        self.accepted_at = time.time()
        self.closed_at: float | None = None
        self.client_closed_at: float | None = None
        self.closed_by_us = False
        self.bytes_received = 0
        self.requests = 0
        self.malformed = False
        """True once it carried bytes that are not HTTP."""
        self.inspection = False
        """True once it was used to look at the simulator itself."""

    def document(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


class ConnectionLog:
    """Open connections and the latest closed ones."""

    def __init__(self) -> None:
        self._open: dict[int, ConnectionRecord] = {}
        self._closed: deque[ConnectionRecord] = deque(maxlen=CLOSED_MAX)
        self._accepted = 0
        self._open_peak = 0

    def accepted(self, peer: object) -> ConnectionRecord:
        """A new connection from `peer`, an (address, port) pair as the loop gives it."""
        self._accepted += 1
        name = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) > 1 else ""
        record = ConnectionRecord(self._accepted, name)
        self._open[record.connection_id] = record
        self._open_peak = max(self._open_peak, len(self._open))
        return record

    def closed(self, record: ConnectionRecord) -> None:
        """A connection is gone."""
        if self._open.pop(record.connection_id, None) is not None:
            self._closed.append(record)

    def clear(self) -> None:
        """Forget the closed ones, and take the present as the peak."""
        self._closed.clear()
        self._open_peak = len(self._open)

    def document(self, *, after: int = 0) -> dict[str, Any]:
        """What `GET /_sim/connections` gives, for connections numbered above `after`."""
        return {
            "open": [record.document() for record in self._open.values() if record.connection_id > after],
            "closed": [record.document() for record in self._closed if record.connection_id > after],
            "accepted_total": self._accepted,
            "open_total": len(self._open),
            "open_peak": self._open_peak,
        }
