"""Deadlines for every connection, at the price of an attribute each.

A request passes through many waits (head, body, first byte, each next byte, each write), each with its own
limit. Arming a Trio deadline for each would cost more than the waits themselves; here a wait sets `deadline`
on its connection and one task looks over all of them a few times a second. So a limit is exact to
`PERIOD_SECONDS`, which is nothing beside limits of seconds and minutes.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import trio

PERIOD_SECONDS: Final = 0.25

NEVER: Final = math.inf


class Watched(Protocol):
    """Something with a deadline on Trio's clock; `expire` must not raise and not wait."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed: end the wait."""


class Watchdog:
    """`now` is Trio's clock as of the last look: precise enough for deadlines, and free to read."""

    def __init__(self) -> None:
        self.now = 0.0
        self.watched: set[Watched] = set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.now = trio.current_time()
            for one in [one for one in self.watched if one.deadline <= self.now]:
                one.deadline = NEVER
                one.expire()
            await trio.sleep(PERIOD_SECONDS)
