"""What may be tried again, how soon, and how often in all (sans-IO).

A `Failure` is a try that came to nothing before a byte of an answer had gone to the client. Whether the same
target is asked again is decided by three things at once: the cause, the request's own bounds (`RetryPolicy`),
and the origin's `Budget`, which keeps the tries of all requests together to a share of the requests: a
provider that fails them all gets a tenth more of them, not twice as many.

The SDKs try again, too, so that what Karta adds multiplies. It therefore does by itself only what it does
better than they can: at once, and where it is sure or where they would do the same. The rest is passed on as
it came, and left to them. docs/decisions/0060-retries-and-routes.md argues the defaults.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from gateway.whole_message import field_of

_DELAY_SECONDS: Final = 0.25
_DELAY_SECONDS_MAX: Final = 2.0
_BUDGET_SECONDS: Final = 10.0

# Of answers: what another provider may do better. What is wrong with the request itself is wrong everywhere.
_ELSEWHERE_STATUSES: Final = frozenset((408, 409, 429))
# Of those: nobody is there who could answer, whatever the request. 500 may be one request's own fault.
_AWAY_STATUSES: Final = frozenset((502, 503, 504))
_CLOUDFLARE_STATUS_MIN: Final = 520


class Cause(Enum):
    NOT_CONNECTED = "not connected"
    UNTRUSTED = "untrusted"
    NO_ANSWER = "no answer"
    """The connection broke when the request had gone up: what became of it nobody knows."""
    SILENT = "too slow"
    BROKEN = "broken answer"
    STATUS = "status"
    BUSY = "busy"
    OPEN = "breaker open"
    KEY = "key unusable"


# Those that say something of whoever was asked.
_FAULTS: Final = frozenset(
    (Cause.NOT_CONNECTED, Cause.UNTRUSTED, Cause.NO_ANSWER, Cause.SILENT, Cause.BROKEN)
)


class Failure(NamedTuple):
    cause: Cause
    status: int = 0
    after: float | None = None
    """Seconds the provider wants to be left alone."""
    pointless: bool = False
    """It says that trying again there is of no use."""

    @property
    def word(self) -> str:
        """As a header field tells it."""
        return str(self.status) if self.status else self.cause.value.replace(" ", "-")

    @property
    def away(self) -> bool:
        """It counts against whoever was asked."""
        if self.cause is Cause.STATUS:
            return counts_as_away(self.status)
        return self.cause in _FAULTS


class Postponed(Exception):
    """An answer goes nowhere: after so many seconds its request is sent up once more."""

    def __init__(self, failure: Failure, delay: float) -> None:
        super().__init__(failure, delay)
        self.failure = failure
        self.delay = delay


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one request's tries, beside its route's targets."""

    statuses: frozenset[int] = frozenset((503, 529))
    """Answers after which the same target is asked again."""
    retries_max: int = 1
    seconds: float = 5.0
    """From the first try to the beginning of the last."""
    budget_share: float = 0.1
    """Of an origin's requests, how many may be tried again."""
    budget_per_second: float = 1.0
    """And so many besides, as a share of few requests is none."""

    def may_repeat(self, failure: Failure, *, repeatable: bool) -> bool:
        """Whether the same target may be asked again at all. `repeatable`: doing it twice does no harm."""
        if failure.pointless:
            return False
        if failure.cause is Cause.STATUS:
            return failure.status in self.statuses
        if failure.cause is Cause.NO_ANSWER:
            return repeatable
        return failure.cause is Cause.NOT_CONNECTED

    def delay(self, failure: Failure, retries: int, elapsed: float, draw: float) -> float | None:
        """Seconds to wait before try number `retries` + 1 at the same target; None when there is to be none.

        `draw` is random, 0 to 1. A wait the provider asks for is kept, or the answer passed on.
        """
        if retries >= self.retries_max:
            return None
        own = min(_DELAY_SECONDS * 2**retries, _DELAY_SECONDS_MAX) * (1 + draw) / 2
        seconds = max(own, failure.after or 0.0)
        return seconds if elapsed + seconds <= self.seconds else None


class Budget:
    """How many requests to one origin may be tried again: worked out only when one is to be."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._balance = policy.budget_per_second * _BUDGET_SECONDS
        self._at: float | None = None
        self._requests = 0

    def spend(self, now: float, requests: int) -> bool:
        """Take one, if there is one; `requests` is how many have been sent to the origin in all."""
        policy = self._policy
        if self._at is not None:
            elapsed = max(0.0, now - self._at)
            earned = policy.budget_share * (requests - self._requests) + policy.budget_per_second * elapsed
            # Of a longer time only what a window earns: what was not used then is not kept for now.
            earned *= min(1.0, _BUDGET_SECONDS / elapsed) if elapsed else 1.0
            most = max(policy.budget_per_second * _BUDGET_SECONDS, earned)
            self._balance = min(self._balance + earned, most)
        self._at = now
        self._requests = requests
        if self._balance < 1:
            return False
        self._balance -= 1
        return True


def counts_as_away(status: int) -> bool:
    """An answer that says nothing of the request, but that nobody can see to it."""
    return status in _AWAY_STATUSES or status >= _CLOUDFLARE_STATUS_MIN


def failure_of_answer(status: int, lines: Sequence[bytes]) -> Failure | None:
    """What an answer's head says of trying again; None for one to pass on in any case.

    `lines` are the header fields, as `retry-after-ms`, `retry-after` (seconds or a date) and `x-should-retry`
    tell the SDKs.
    """
    if status < 500 and status not in _ELSEWHERE_STATUSES:
        return None
    after: float | None = None
    exact: float | None = None
    pointless = False
    for line in lines:
        name, value = field_of(line)
        name = name.lower()
        if name == b"retry-after-ms":
            exact = _number(value, 1000)
        elif name == b"retry-after":
            after = _number(value, 1)
            after = _until(value) if after is None else after
        elif name == b"x-should-retry":
            pointless = value.strip().lower() == b"false"
    return Failure(Cause.STATUS, status, after if exact is None else exact, pointless)


def _number(value: bytes, divisor: int) -> float | None:
    try:
        number = float(value) / divisor
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _until(value: bytes) -> float | None:
    try:
        moment = parsedate_to_datetime(value.decode("latin-1"))
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
