"""How many bytes of request bodies a worker holds at once.

Order: `hold` after each read of a body that must be whole before it goes up, `let_go` when an answer has
begun or there will be none. A body that came whole with its head is never counted, nor one that streams.

Beyond the bound a body is refused (503, `retry-after`) while it still comes. Small ones never are: a read
each is what their connections' sockets hold anyway. Of who is not verified yet less is held, so that
strangers leave room.

Bounds: `bytes_max`, and `SMALL_BYTES` for each connection besides. A body's bytes are there twice for a
moment, when they are put together.
"""

from __future__ import annotations

from typing import Final

from gateway.refusal import Kind, Refusal
from gateway.request_reader import Inbound

SMALL_BYTES: Final = 64 * 1024
_STRANGERS_SHARE: Final = 2


class Bodies:
    """Those of one worker."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: dict[Inbound, int] = {}
        self.bytes = 0
        """In all, at present."""
        self.refused = 0

    @property
    def holding(self) -> bool:
        """Whether any body is held: also one of which only the framing has come."""
        return bool(self._held)

    def hold(self, inbound: Inbound, *, verified: bool) -> None:
        """Some of its body has come. Raises `Refusal` when that is too much."""
        self.bytes += inbound.body_bytes - self._held.get(inbound, 0)
        self._held[inbound] = inbound.body_bytes
        most = self._bytes_max if verified else self._bytes_max // _STRANGERS_SHARE
        if self.bytes > most and inbound.body_bytes > SMALL_BYTES:
            self.refused += 1
            self.let_go(inbound)
            inbound.body.clear()
            raise Refusal(
                Kind.UNAVAILABLE,
                "The gateway holds as many bytes of requests as it has memory for; try again.",
                retry_after=1,
                close=True,
            )

    def let_go(self, inbound: Inbound) -> None:
        """Its body is held no longer, if it was."""
        self.bytes -= self._held.pop(inbound, 0)
