"""Checks and digests passwords without blocking the loop, a few at a time, and no more than can be answered
in good time.

bcrypt fills a core for a quarter of a second. So at most `THREADS_MAX` run at once and `WAITING_MAX`
wait; the next one is refused at once, which is what a flood of sign-ins meets. The gateway on the same
machine keeps the other cores, and the threads are of a lower priority than what serves pages and traffic:
where all want the same core, somebody who signs in can wait a little, and a hundred who read need not.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import trio

from storage.passwords import REFERENCE_DIGEST, digest_password, verify_password

THREADS_MAX = 2
WAITING_MAX = 16
"""With two threads the last one waits some two seconds; longer, and people press the button again."""

NICENESS = 5
"""A third of the share of others, where there is not enough for all."""

_Result = TypeVar("_Result")


class TooManyChecks(Exception):
    """More sign-ins at once than can be checked: try again in `retry_after_seconds`."""

    retry_after_seconds = 5


class PasswordCheck:
    """Made once for a process."""

    def __init__(self, threads_max: int = THREADS_MAX, waiting_max: int = WAITING_MAX) -> None:
        self._limiter = trio.CapacityLimiter(threads_max)
        # Threads of their own: one that has stepped back may not step forward again, so Trio's are no use.
        self._threads = ThreadPoolExecutor(threads_max, "passwords", initializer=_step_back)
        self._under_way_max = threads_max + waiting_max
        self._under_way = 0

    async def verify(self, password: str, digest: bytes | None) -> bool:
        """Whether `digest` is of `password`; for an unknown user pass None, which takes as long and is False.

        Raises `TooManyChecks`.
        """
        known = REFERENCE_DIGEST if digest is None else digest
        matches = await self.run(verify_password, password, known)
        return matches and digest is not None

    async def digest(self, password: str) -> bytes:
        """The digest to store. Raises `TooManyChecks`, and InvalidValue for an empty or overlong password."""
        return await self.run(digest_password, password)

    async def run(self, work: Callable[..., _Result], *args: object) -> _Result:
        """Anything else that fills a core for a while, in the same few threads. Raises `TooManyChecks`."""
        if self._under_way >= self._under_way_max:
            raise TooManyChecks
        self._under_way += 1
        try:
            return await trio.to_thread.run_sync(self._work, work, *args, limiter=self._limiter)
        finally:
            self._under_way -= 1

    def _work(self, work: Callable[..., _Result], *args: object) -> _Result:
        return self._threads.submit(work, *args).result()


def _step_back() -> None:
    """Lowers this thread's priority. Elsewhere than on Linux a process has only one, which stays."""
    if sys.platform == "linux":
        os.setpriority(
            os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
        )
