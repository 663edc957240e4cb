"""Who has sent wrong keys lately, and is not listened to for a while.

Verifying a key costs a quarter of a second, so whoever guesses is bounded: an address by its failures in a
minute, a public id by those of everybody. An id's budget could be spent by a stranger to lock its owner out;
so it counts only for addresses that have failed themselves. Whoever has not gets one try, and an owner needs
no more. And one address has few verifications of one id under way, or it would fill the queue before the
first of them failed.

Bounds: `_COUNTERS_MAX` counters, the oldest forgotten first; as many entries under way as verifications.
"""

from __future__ import annotations

from typing import Final

from gateway.limits import Limits
from gateway.refusal import Kind, Refusal
from gateway.watchdog import Watchdog

# An address or public id each.
_COUNTERS_MAX: Final = 20_000
MINUTE_SECONDS: Final = 60.0


class Guesses:
    """Failures of addresses and of public ids, over about a minute."""

    def __init__(self, limits: Limits, watchdog: Watchdog) -> None:
        self._limits = limits
        self._watchdog = watchdog
        self.failures: dict[str, tuple[float, int]] = {}
        """By `address …` and `key …`: since when, and how many."""
        self._under_way: dict[tuple[str, str], int] = {}

    def refusal(self, address: str, key_id: str) -> Refusal | None:
        """Why no verification may begin, if so."""
        spent_max = self._limits.failures_per_minute
        of_address = self._count(f"address {address}")
        if of_address >= spent_max or (of_address and self._count(f"key {key_id}") >= spent_max):
            return Refusal(
                Kind.RATE_LIMITED, "Too many invalid keys; wait a minute.", retry_after=int(MINUTE_SECONDS)
            )
        if self._under_way.get((address, key_id), 0) >= self._limits.verifications_each_max:
            return Refusal(
                Kind.RATE_LIMITED, "This key is being verified with other secrets; try again.", retry_after=1
            )
        return None

    def begin(self, address: str, key_id: str) -> None:
        """A verification is under way."""
        pair = (address, key_id)
        self._under_way[pair] = self._under_way.get(pair, 0) + 1

    def end(self, address: str, key_id: str, *, wrong: bool) -> None:
        """And is over."""
        pair = (address, key_id)
        self._under_way[pair] -= 1
        if not self._under_way[pair]:
            del self._under_way[pair]
        if wrong:
            for counted in (f"address {address}", f"key {key_id}"):
                self._add(counted)

    def _count(self, counted: str) -> int:
        found = self.failures.get(counted)
        if found is None or self._watchdog.now - found[0] >= MINUTE_SECONDS:
            return 0
        return found[1]

    def _add(self, counted: str) -> None:
        now = self._watchdog.now
        since, failures = self.failures.pop(counted, (now, 0))
        if now - since >= MINUTE_SECONDS:
            since, failures = now, 0
        if len(self.failures) >= _COUNTERS_MAX:
            del self.failures[next(iter(self.failures))]
        self.failures[counted] = (since, failures + 1)
