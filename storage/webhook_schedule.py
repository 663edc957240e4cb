"""What follows from one try of a delivery: a table and a function, without a clock or a database.

    pending ──2xx──────────────────────────────────→ delivered
    pending ──else, tries left──→ pending, later
    pending ──else, none left──────────────────────→ failed
    delivered, failed ──somebody asks──→ pending

The delays are those that Standard Webhooks suggests: ten tries within about three days. Each is stretched or
shortened by a fifth at random, so that what failed together does not come back together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

_MINUTE, _HOUR = 60, 3600
DELAYS_SECONDS: tuple[int, ...] = (
    5,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
"""After the first try, after the second, and so on."""
TRIES_MAX = len(DELAYS_SECONDS) + 1
JITTER = 0.2
RETRY_AFTER_SECONDS_MAX = 24 * _HOUR
"""A receiver may ask for patience, not for oblivion."""
HEEDED = frozenset({429, 503})
"""Statuses whose `Retry-After` is heeded."""
GONE = 410
"""Who answers this wants nothing more."""

State = Literal["pending", "delivered", "failed"]


class Next(msgspec.Struct, frozen=True):
    """What a delivery becomes, and in how many seconds it is tried again (0 unless pending)."""

    state: State
    delay_seconds: float


def decide(
    tries: int, status: int | None, retry_after_seconds: int | None, draw: Callable[[], float]
) -> Next:
    """After a try.

    Args:
      tries: how many there were, this one included.
      status: what was answered; None when nothing was.
      retry_after_seconds: as the answer asked.
      draw: a random number from 0 to 1.
    """
    if status is not None and 200 <= status < 300:
        return Next("delivered", 0)
    if tries >= TRIES_MAX or status == GONE:
        return Next("failed", 0)
    delay = DELAYS_SECONDS[tries - 1] * (1 + JITTER * (2 * draw() - 1))
    if status in HEEDED and retry_after_seconds is not None:
        delay = max(delay, min(retry_after_seconds, RETRY_AFTER_SECONDS_MAX))
    return Next("pending", delay)
