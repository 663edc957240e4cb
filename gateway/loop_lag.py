"""How late this worker's event loop turns: a timer measures how late it wakes itself.

Whatever holds the loop (a long computation, a garbage collection, a machine without time to give) holds
every stream of the worker for as long, and is seen here as that much delay of a sleep. Ten times a second
costs nothing that could be measured, and lets nothing longer than a tenth of a second pass unseen.
"""

from __future__ import annotations

from typing import Final

import trio

from gateway.stages import Histogram

PERIOD_SECONDS: Final = 0.1
SPAN_SECONDS: Final = 60.0
"""`worst` is that of one to two such spans."""


class LoopLag:
    """The lag of one worker."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self._before = 0.0
        self._now = 0.0
        self._turn_at = -1.0

    @property
    def worst(self) -> float:
        """The longest of the last minute or two, in seconds: more than one may ask, so none resets it."""
        return max(self._before, self._now)

    def note(self, lag: float, now: float) -> None:
        """A timer that woke at `now` did so by `lag` seconds too late."""
        if now >= self._turn_at:
            self._before, self._now = self._now, 0.0
            self._turn_at = now + SPAN_SECONDS
        self._now = max(self._now, lag)
        self.histogram.add(int(lag * 1_000_000))

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = trio.current_time() + PERIOD_SECONDS
            await trio.sleep_until(due)
            now = trio.current_time()
            self.note(max(0.0, now - due), now)
