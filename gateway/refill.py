"""Keeps `quota`'s ledger filled: one statement to the database at a time, for all limits that need it.

A request that finds too little waits here: for what is left of the call under way, which does not know of it
yet, and for the next one. Calls are `PERIOD_SECONDS` apart at least while somebody waits; otherwise the
ledger is looked at every `BACKGROUND_SECONDS`, which is soon enough for low-water marks, renewals and giving
back.

While the database is away what is held goes on being used; then hard limits refuse, as unavailable. What a
call that broke off may have done is undone by the next one (`storage.leases`).

Beside it windows that are over are deleted, by a task of its own: looking for them may take long where there
are many, and nobody's refill waits for that.

Bounds: a call takes `CALL_SECONDS_MAX`; waiters are as many as there are connections.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from uuid import UUID

import trio

from gateway.quota import Ledger, Reason, Shortage
from gateway.reservation import Reservation
from storage.bridge import Database
from storage.errors import DatabaseBusy, DatabaseUnavailable, StorageError
from storage.leases import PRUNE_ROWS_MAX, LeaseRequest, prune_quota, release_owner, settle_leases
from storage.model import Limit

PERIOD_SECONDS = 0.05
BACKGROUND_SECONDS = 0.25
AWAY_SECONDS = 1.0
"""Between calls while the database does not answer."""
CALL_SECONDS_MAX = 3.0
"""A call that takes longer has failed. Requests wait for as long as two calls may take: a database that is
slow, but answers, refuses nobody, nor does one that did not answer once (a disk that stalls, a standby that
takes over). One that is away fails the first call, and then there is no waiting."""
GIVE_BACK_SECONDS_MAX = 2.0
DOUBT_SECONDS = 5.0
"""After a worker's death: to have its journal settled, where everything takes its time."""
PRUNE_SECONDS = 60.0
PRUNE_ROUNDS_MAX = 1000
"""Statements of one turn: far more windows than a worker opens in `PRUNE_SECONDS`, or they would pile up."""

_log = logging.getLogger("karta.gateway.refill")


def wall_us() -> int:
    """The time in microseconds since 1970, as usage rows tell it."""
    return time.time_ns() // 1000


class Refill:
    """The ledger of one worker and what keeps it filled.

    Args:
      turn: above the number of every call that was made for this owner before.
    """

    def __init__(
        self, db: Database, owner: UUID, *, turn: int, clock_us: Callable[[], int] = wall_us
    ) -> None:
        self._db = db
        self._owner = owner
        self._clock_us = clock_us
        self.ledger = Ledger(turn)
        self.refills = 0
        self.failures = 0
        self._needed = trio.Event()
        self._answered = trio.Event()
        self._late = False
        """The last call got no answer in time: the next one decides whether the database is away."""
        self._doubts_until = -math.inf

    def doubt(self) -> None:
        """Another worker has died, and what it held is about to come back. For a while requests that find too
        little wait for it, and are told to try again rather than that nothing is left."""
        self._doubts_until = trio.current_time() + DOUBT_SECONDS
        self.ledger.doubts = True

    async def reserve(
        self, limits: Sequence[Limit], model: str | None, started_us: int, tokens: int, picodollars: int
    ) -> Reservation | Shortage:
        """As `Ledger.reserve`, but waits for a refill where that may help. Never answers `Reason.ASK`."""
        found = self.ledger.reserve(limits, model, started_us, tokens, picodollars)
        with trio.move_on_after(2 * (CALL_SECONDS_MAX + PERIOD_SECONDS)):
            while isinstance(found, Shortage) and found.reason is Reason.ASK:
                answered = self._answered
                self._needed.set()
                await answered.wait()
                found = self.ledger.reserve(limits, model, started_us, tokens, picodollars)
        if isinstance(found, Shortage) and found.reason is Reason.ASK:
            return Shortage(Reason.UNAVAILABLE, found.limit, found.retry_after)
        return found

    async def run(self) -> None:
        """Refill until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._prune_regularly)
            await self._refill()

    async def _refill(self) -> None:
        while True:
            calls = self.refills
            if not await self.refill():
                await trio.sleep(PERIOD_SECONDS if self.ledger.reachable else AWAY_SECONDS)
                continue
            if self.refills > calls:
                await trio.sleep(PERIOD_SECONDS)
            with trio.move_on_after(BACKGROUND_SECONDS):
                await self._needed.wait()

    async def _prune_regularly(self) -> None:
        while True:
            await trio.sleep(PRUNE_SECONDS)
            try:
                await self.prune()
            except StorageError as error:
                # One that is away is told of elsewhere. Where it takes too long, windows pile up, and limits
                # get slow.
                if isinstance(error, DatabaseBusy) or not isinstance(error, DatabaseUnavailable):
                    _log.error("windows that are over cannot be deleted: %s", error)

    async def prune(self) -> None:
        """Deletes all windows that are over, but those that others are deleting. Raises `StorageError`."""
        for _ in range(PRUNE_ROUNDS_MAX):
            if await prune_quota(self._db) < PRUNE_ROWS_MAX:
                break

    async def refill(self) -> bool:
        """One call, if there is anything to say; false when the database did not answer."""
        self._needed = trio.Event()
        self.ledger.doubts = trio.current_time() < self._doubts_until
        requests = self.ledger.wanted(trio.current_time(), self._clock_us())
        answered = not requests or await self._call(requests, CALL_SECONDS_MAX)
        self._answered.set()
        self._answered = trio.Event()
        return answered

    async def give_back(self, *, whole: bool = False) -> bool:
        """At the end of the worker: all that is free, if the database can be told quickly; whether it could.
        Requests that still run keep what they have reserved.

        Args:
          whole: none run and all rows are stored, so that all leases can end: also what was granted by a call
            that was cut off.
        """
        if whole:
            with trio.move_on_after(GIVE_BACK_SECONDS_MAX), contextlib.suppress(StorageError):
                await self.release()
                return True
            return False
        requests = self.ledger.surrender()
        return not requests or await self._call(requests, GIVE_BACK_SECONDS_MAX)

    async def release(self) -> None:
        """Ends all leases of this journal's owner, of earlier workers too. Only while nothing is reserved and
        the whole journal is stored, before the ledger is first used or after it last was. Raises
        `StorageError`."""
        await release_owner(self._db, self._owner, self.ledger.turn)

    async def _call(self, requests: list[LeaseRequest], seconds_max: float) -> bool:
        try:
            with trio.fail_after(seconds_max):
                answers = await settle_leases(self._db, self._owner, self.ledger.turn, requests)
        except (StorageError, trio.TooSlowError) as error:
            if not isinstance(error, DatabaseUnavailable | trio.TooSlowError):
                _log.error("limits cannot be refilled: %s", error)
            late = isinstance(error, trio.TooSlowError | DatabaseBusy)
            if late and not self._late:
                _log.warning("limits were not refilled within %g s: the database is slow", seconds_max)
            self.failures += 1
            self.ledger.fail(away=self._late or not late)
            self._late = late
            return False
        self._late = False
        self.refills += 1
        self.ledger.apply(answers, trio.current_time())
        return True
