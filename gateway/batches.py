"""Ended requests on their way to whoever keeps them: queued at once, written in batches, in a thread.

Putting one is an append; a task writes what has gathered, so that a disk, a pipe or a host that takes nothing
holds up nobody.

Bounds: `QUEUE_MAX` requests wait to be written; what comes beyond them, or cannot be written, is counted and
left out. One batch is written at a time.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

import trio

from gateway.ended import Ended
from storage.fault_place import describe

QUEUE_MAX: Final = 20_000
BATCH_MAX: Final = 500

_log = logging.getLogger("karta.gateway.batches")


class Batches:
    """A subclass writes: `_write` runs in a thread, and raises what keeps it from writing."""

    def __init__(self, trouble: str, period_seconds: float) -> None:
        """`trouble` is what the log says, once, when nothing can be written."""
        self._trouble = trouble
        self._period_seconds = period_seconds
        self._queue: deque[Ended] = deque()
        self._writing = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        self._failing = False
        self.written = 0
        """Requests, in all."""
        self.dropped = 0
        """Requests that found no room, or could not be written."""

    def put(self, ended: Ended) -> None:
        """Queue it. Never waits."""
        if len(self._queue) >= QUEUE_MAX:
            self.dropped += 1
        else:
            self._queue.append(ended)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self.flush()
            await trio.sleep(self._period_seconds)

    async def flush(self) -> None:
        """Write what has gathered."""
        async with self._writing:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_MAX))]
                try:
                    await trio.to_thread.run_sync(
                        self._write, batch, limiter=self._thread, abandon_on_cancel=True
                    )
                except Exception as error:
                    self.dropped += len(batch)
                    if not self._failing:
                        reason = error.strerror if isinstance(error, OSError) else None
                        _log.error("%s: %s", self._trouble, reason or describe(error))
                    self._failing = True
                else:
                    self.written += len(batch)
                    self._failing = False

    def _write(self, batch: list[Ended]) -> None:
        raise NotImplementedError
