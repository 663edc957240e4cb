"""The targets of one request in the order of trying: which is asked now, which may be asked next, and what
the client is told of it.

What a try is (a request sent, a socket opened) the caller knows; here it has an ending: a `Failure`, or none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Final

from gateway.authorize import Grant
from gateway.decrypt import OpenedCredential, decrypt
from gateway.dial import Busy, NotConnected, Pool, Pools, Untrusted
from gateway.ending import ending_of
from gateway.refusal import Kind, Refusal
from gateway.response_reader import UpstreamBroken
from gateway.retry import Cause, Failure
from gateway.upstream_response import NothingReceived
from gateway.wait import Overdue, Waiting
from storage.sealing import MasterKeys

NO_FAILURE: Final = Failure(Cause.STATUS)


class NotTried(Refusal):
    """No try was made: the breaker is open, or the key does not open."""

    def __init__(self, cause: Cause, message: str, retry_after: int) -> None:
        super().__init__(Kind.UNAVAILABLE, message, retry_after=retry_after)
        self.cause = cause


class Targets:
    """Those of one request, and where it stands."""

    __slots__ = ("asked_at", "at", "grants", "repeats", "routed", "started", "told")

    def __init__(self, grants: Sequence[Grant], *, routed: bool) -> None:
        self.grants = grants
        self.routed = routed
        self.asked_at = time.perf_counter()
        """When there was nothing left to be done but to ask."""
        self.at = 0
        self.started = 0
        """How many tries went as far as to look for a connection."""
        self.repeats = 0
        """How often a target was asked once more."""
        self.told: list[str] = []
        """What was tried and failed, as the client is told."""

    @property
    def grant(self) -> Grant:
        return self.grants[self.at]

    def note(self, failure: Failure) -> None:
        self.told.append(f"{self.grant.provider.name}/{self.grant.model};{failure.word}")

    def lines(self, *, answered: bool) -> tuple[str, ...]:
        """What the client of a routed request is told of it, in header lines."""
        if not self.routed:
            return ()
        grant = self.grant
        here = (f"x-karta-route: {grant.provider.name}/{grant.model};attempts={self.started}",)
        tried = (f"x-karta-route-tried: {', '.join(self.told)}",) if self.told else ()
        return (here if answered else ()) + tried

    def advance(self, pools: Pools, failure: Failure) -> bool:
        """Go on to the next target whose breaker lets something through, if there is one."""
        for at in range(self.at + 1, len(self.grants)):
            target = self.grants[at]
            if not pools.of(target.provider.origin).breakers.wait(target.account):
                self.note(failure)
                self.at = at
                return True
        return False

    def repeat(self, pool: Pool, failure: Failure, *, repeatable: bool) -> float | None:
        """Seconds until the same target is asked once more; None when it is not to be."""
        elapsed = time.perf_counter() - self.asked_at
        delay = pool.another_try(failure, self.repeats, elapsed, repeatable=repeatable)
        if delay is not None:
            self.note(failure)
            self.repeats += 1
        return delay

    def final(self, error: Exception, failure: Failure) -> Exception:
        """How the last try failed, with what its client is told of the others."""
        if not self.routed:
            return error
        self.note(failure)
        refusal = ending_of(error).refusal
        refusal.fields += self.lines(answered=False)
        return refusal


def admit(pool: Pool, grant: Grant) -> None:
    """Whether a target may be asked now. Raises `NotTried` while its breaker is open."""
    wait = pool.breakers.admit(grant.account)
    if wait:
        message = "The provider keeps failing, and is left alone for a moment."
        raise NotTried(Cause.OPEN, message, max(1, math.ceil(wait)))


def open_credential(grant: Grant, master_keys: MasterKeys | None) -> OpenedCredential:
    """A target's credential, to be used in a `with`. Raises `NotTried`."""
    try:
        return decrypt(grant, master_keys)
    except Refusal as refusal:
        raise NotTried(Cause.KEY, refusal.message, refusal.retry_after or 60) from None


def judge(pool: Pool, grant: Grant, failure: Failure) -> None:
    """What the breaker learns of a try."""
    if failure.away:
        pool.breakers.failed(grant.account)
    elif failure.cause is Cause.STATUS:
        pool.breakers.succeeded(grant.account)


def failure_of(error: Exception) -> Failure | None:
    """What a failed try means for a next one; None when it is not the provider's doing."""
    if isinstance(error, NotTried):
        return Failure(error.cause)
    if isinstance(error, Busy):
        return Failure(Cause.BUSY)
    if isinstance(error, Untrusted):
        return Failure(Cause.UNTRUSTED)
    if isinstance(error, NotConnected):
        return Failure(Cause.NOT_CONNECTED)
    if isinstance(error, NothingReceived):
        return Failure(Cause.NO_ANSWER)
    if isinstance(error, UpstreamBroken) or (
        isinstance(error, Refusal) and error.kind is Kind.UPSTREAM_BROKEN
    ):
        return Failure(Cause.BROKEN)
    if isinstance(error, Overdue) and error.waiting is Waiting.UPSTREAM:
        return Failure(Cause.SILENT)
    return None
