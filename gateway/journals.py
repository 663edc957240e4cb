"""The journals of one gateway: which worker writes which, and what becomes of those that were left behind.

`KARTA_SPOOL_DIR` is their home. A worker alone keeps its journal in the home itself. Those of a supervisor
each take one of the directories `worker-000`, `worker-001` … in it, the lowest that nobody holds; so the
successor of one that was killed goes on with its journal, and in a reload, when two generations live side
by side, nobody waits for anybody.

A journal that was not settled at its end (its worker was killed, or the database was away) and that nobody
holds is settled by whichever worker finds it: what its requests used is written down and shipped, and what it
was lent is given back. The supervisor tells them when a worker has died, so that this is done before its
successor has so much as started: nobody is refused for the sake of what a dead worker holds.

Bounds: `JOURNALS_MAX` directories; they stay, since the next reload needs them. A look at one is a few system
calls.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import trio

from gateway.ship import Shipper
from gateway.spool import SETTLED_FILE, Spool, SpoolLocked
from storage.bridge import Database
from storage.errors import DatabaseUnavailable, StorageError
from storage.leases import release_owner

JOURNALS_MAX = 1000
LOOK_SECONDS = 5.0

_log = logging.getLogger("karta.gateway.journals")


def take_journal(home: Path) -> Spool:
    """The first journal of the home that nobody holds, for a worker that has others beside it."""
    for number in range(JOURNALS_MAX):
        try:
            return Spool(home / f"worker-{number:03}")
        except SpoolLocked:
            continue
    raise SpoolLocked(f"all {JOURNALS_MAX} journals in {home} are in use")


class Leftovers:
    """Settles the journals of a home that nobody holds."""

    def __init__(self, home: Path, db: Database) -> None:
        self._home = home
        self._db = db
        self._told = trio.Event()
        self.settled = 0

    def look(self) -> None:
        """Somebody has died: there is something to settle now."""
        self._told.set()

    async def run(self) -> None:
        """Look from time to time, until cancelled."""
        while True:
            self._told = trio.Event()
            for directory in self._unsettled():
                try:
                    await self._settle(directory)
                except (SpoolLocked, DatabaseUnavailable):
                    # Somebody is at it; or it has to wait.
                    continue
                except (StorageError, OSError) as error:
                    _log.error("the journal in %s cannot be settled: %s", directory, error)
            with trio.move_on_after(LOOK_SECONDS):
                await self._told.wait()

    def _unsettled(self) -> Iterator[Path]:
        # One at a time: another worker may settle it meanwhile.
        for one in (self._home, *sorted(self._home.glob("worker-*"))):
            if (one / "lock").exists() and not (one / SETTLED_FILE).exists():
                yield one

    async def _settle(self, directory: Path) -> None:
        # In a thread: it reads a register of megabytes, and may write thousands of rows. Shielded: what it
        # has opened must be closed again.
        with trio.CancelScope(shield=True):
            spool = await trio.to_thread.run_sync(Spool, directory)
        try:
            if spool.was_settled:
                # By another worker, between the look at it and now.
                spool.settle()
                return
            await Shipper(spool, self._db).ship_all()
            if spool.holds:
                # No room for all of its rows. What was shipped may have made some, for the next time.
                return
            await release_owner(self._db, spool.owner, spool.turn)
            spool.settle()
            self.settled += 1
            _log.warning("the journal that was left in %s is settled", directory)
        finally:
            spool.close()
