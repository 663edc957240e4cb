"""Moves the usage journal into Postgres, in batches, exactly once each.

Twice a second whatever the current segment has gained is read and inserted
(`storage.usage_rows.ingest` is idempotent by request id, so a batch that was cut off is simply sent again; it
also accounts for the rows, against limits and in the roll-ups), and finished segments are deleted once they
are whole in the database. While the database is away the journal grows, up to its own bound. A damaged
segment is set aside under another name, its good records shipped.
"""

from __future__ import annotations

import logging

import trio

from gateway.spool import Damage, Spool, read_frames
from storage.bridge import Database
from storage.errors import DatabaseUnavailable, StorageError
from storage.usage_rows import ingest

_PERIOD_SECONDS = 0.5
_AWAY_SECONDS = 2.0
# Rows of one COPY: large enough that its round trips do not count, small enough to stay far from any timeout.
_BATCH_MAX = 5000

_log = logging.getLogger("karta.gateway.ship")


class Shipper:
    def __init__(self, spool: Spool, db: Database) -> None:
        self._spool = spool
        self._db = db
        self._offset = 0
        self._segment = spool.current
        self._lock = trio.Lock()
        self.shipped = 0
        self._whole_at = trio.current_time()
        """When all there was had been shipped, and how many records had been appended by then."""
        self._whole_of = 0

    @property
    def lag(self) -> float:
        """For how many seconds at most the oldest record has waited to be shipped."""
        if self._whole_of == self._spool.appended and not self._spool.finished:
            return 0.0
        return trio.current_time() - self._whole_at

    async def run(self) -> None:
        """Ship until cancelled."""
        while True:
            try:
                await self.ship_all()
                pause = _PERIOD_SECONDS
            except StorageError as error:
                if not isinstance(error, DatabaseUnavailable):
                    _log.error("usage records wait in the journal: %s", error)
                pause = _AWAY_SECONDS
            await trio.sleep(pause)

    async def ship_all(self) -> None:
        """Everything there is now. Raises `StorageError` where Postgres stops."""
        async with self._lock:
            began, appended = trio.current_time(), self._spool.appended
            await self._ship_all()
            self._whole_at, self._whole_of = began, appended

    async def _ship_all(self) -> None:
        self._spool.retry()
        while self._spool.finished:
            segment = self._spool.finished[0]
            offset = self._offset if segment == self._segment else 0
            self._segment = segment
            suffix = ""
            try:
                self._offset = await self._ship_segment(offset)
                if self._offset < segment.stat().st_size:
                    _log.warning("%s ends in a torn record (its writer was killed): set aside", segment.name)
                    suffix = ".torn"
            except Damage as damage:
                _log.error("%s; set aside, the records before it are shipped", damage)
                suffix = ".damaged"
            if suffix:
                self._spool.set_aside(segment, suffix)
            else:
                self._spool.remove(segment)
            self._offset = 0
        if self._segment != self._spool.current:
            self._segment = self._spool.current
            self._offset = 0
        try:
            self._offset = await self._ship_segment(self._offset)
        except Damage:
            # The next pass finds it finished and sets it aside, so that what comes after is not held up.
            self._spool.rotate()

    async def _ship_segment(self, offset: int) -> int:
        while True:
            found = read_frames(self._segment, offset, _BATCH_MAX)
            if found.number:
                await ingest(self._db, self._spool.owner, found.columns, found.rows)
                self.shipped += found.number
            if found.at_end or found.next_offset == offset or not found.number:
                return found.next_offset
            offset = self._offset = found.next_offset
