"""What jobs that go round for ever make of a round that failed: it is logged, and the next one comes. What is
a fault of Karta's is told to Sentry too, once until a round is whole again.

A database that is away is no fault of the job. One that is busy is: what takes too long does so each time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from storage import error_reports
from storage.errors import DatabaseBusy, DatabaseUnavailable, StorageError


class Rounds:
    """The rounds of one job.

    Args:
      log: where a failure is told; its name is the place that Sentry is told.
      failed: what a failure means, as the beginning of a line: `posting to the ledger was cut short`.
    """

    def __init__(self, log: logging.Logger, failed: str) -> None:
        self._log = log
        self._failed = failed
        self._told: set[tuple[type[StorageError], str | None]] = set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around a round: a `StorageError` ends here."""
        try:
            yield
        except StorageError as error:
            self._log.warning("%s: %s", self._failed, error)
            away = isinstance(error, DatabaseUnavailable) and not isinstance(error, DatabaseBusy)
            kind = (type(error), error.sqlstate)
            if not away and kind not in self._told:
                self._told.add(kind)
                error_reports.report(error, {"place": self._log.name})
        else:
            self._told.clear()
