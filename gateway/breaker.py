"""Circuit breakers: who keeps failing is left alone for a while (sans-IO).

One for each credential at an origin, as one credential's trouble need not be another's. What counts as a
failure is that there was no answer to be had, or one that says "not now" (`retry`); what a client did wrong
does not.

Counting every success would cost every request. So a credential is *trusted* until it fails a few times
within a window; then it is *watched*: its requests go the task way, where all are counted, and when the share
of failures is too high the breaker *opens*. Open, it refuses at once; after a while it lets one request
through (*half open*), and that one decides. A credential that was watched for nothing is left in peace for
longer and longer, so that a provider which fails now and then does not cost everybody the lane.

Bound: `BREAKERS_MAX` for an origin, the oldest forgotten first.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final
from uuid import UUID

import msgspec

BREAKERS_MAX: Final = 4096

Key = UUID | str
"""A credential's id, or for the platform's own the provider's name."""


class State(Enum):
    TRUSTED = "trusted"
    WATCHED = "watched"
    OPEN = "open"
    HALF_OPEN = "half open"


class _Event(Enum):
    SUSPECTED = "suspected"
    CLEARED = "cleared"
    FAILING = "failing"
    RESTED = "rested"
    RECOVERED = "recovered"
    FAILED_AGAIN = "failed again"


TRANSITIONS: dict[State, dict[_Event, State]] = {
    State.TRUSTED: {_Event.SUSPECTED: State.WATCHED},
    State.WATCHED: {_Event.CLEARED: State.TRUSTED, _Event.FAILING: State.OPEN},
    State.OPEN: {_Event.RESTED: State.HALF_OPEN},
    State.HALF_OPEN: {_Event.RECOVERED: State.TRUSTED, _Event.FAILED_AGAIN: State.OPEN},
}


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    failure_share: float = 0.5
    """Of the requests in a window; 0 keeps every breaker closed."""
    requests_min: int = 20
    """Fewer say nothing."""
    suspicious_failures: int = 5
    window_seconds: float = 10.0
    open_seconds: float = 5.0
    """Doubled each time the request let through fails, too."""
    open_seconds_max: float = 60.0
    quiet_seconds: float = 30.0
    """After watching for nothing; doubled each time."""
    quiet_seconds_max: float = 600.0


class _Breaker:
    __slots__ = (
        "failures",
        "open_seconds",
        "quiet_seconds",
        "quiet_until",
        "requests",
        "since",
        "state",
        "until",
    )

    def __init__(self, policy: BreakerPolicy, now: float) -> None:
        self.state = State.TRUSTED
        self.since = now
        """When the window of counting began."""
        self.requests = 0
        self.failures = 0
        self.until = 0.0
        """Until when nothing is let through."""
        self.open_seconds = policy.open_seconds
        self.quiet_until = 0.0
        self.quiet_seconds = policy.quiet_seconds


class Breakers:
    """Those of one origin."""

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._known: dict[Key, _Breaker] = {}
        self.suspects: dict[Key, _Breaker] = {}
        """Those that are not trusted: empty nearly always, which is all the lane looks at."""
        self.opened = 0
        """How often one has opened."""

    def __len__(self) -> int:
        return len(self._known)

    @property
    def open(self) -> int:
        """How many let nothing through, or one request."""
        return sum(one.state in (State.OPEN, State.HALF_OPEN) for one in self.suspects.values())

    def count(self, state: State) -> int:
        """How many are in this state, which is not that of the trusted."""
        return sum(one.state is state for one in self.suspects.values())

    def state(self, key: Key) -> State:
        breaker = self._known.get(key)
        return State.TRUSTED if breaker is None else breaker.state

    def wait(self, key: Key) -> float:
        """Seconds until a request might be let through; 0 when one would be now."""
        breaker = self.suspects.get(key)
        return 0.0 if breaker is None else max(0.0, breaker.until - self._clock())

    def admit(self, key: Key) -> float:
        """0 lets a request through; otherwise the seconds to wait, as `wait`."""
        breaker = self.suspects.get(key)
        if breaker is None:
            return 0.0
        now = self._clock()
        if breaker.until > now:
            return breaker.until - now
        if breaker.state is State.WATCHED:
            self._end_window(key, breaker, now)
        else:
            if breaker.state is State.OPEN:
                self._move(key, breaker, _Event.RESTED)
            # The next one when this one's verdict is long in coming, or never comes.
            breaker.until = now + breaker.open_seconds
        return 0.0

    def succeeded(self, key: Key) -> None:
        """An answer has begun. Only the task way tells, and it need not where nothing is suspected."""
        breaker = self.suspects.get(key)
        if breaker is None:
            return
        if breaker.state is State.HALF_OPEN:
            breaker.open_seconds = self._policy.open_seconds
            self._trust(key, breaker, _Event.RECOVERED)
        elif breaker.state is State.WATCHED:
            breaker.requests += 1
            self._end_window(key, breaker, self._clock())

    def failed(self, key: Key, *, counted: bool = False) -> None:
        """There was no answer, or one that says that there is none to be had; or it broke off, having been
        `counted` as a success."""
        policy = self._policy
        if not policy.failure_share:
            return
        now = self._clock()
        breaker = self._known.get(key) or self._begin(key, now)
        if breaker.state is State.TRUSTED:
            self._suspect(key, breaker, now)
        elif breaker.state is State.WATCHED:
            breaker.requests += 0 if counted else 1
            breaker.failures += 1
            enough = breaker.requests >= policy.requests_min
            if enough and breaker.failures >= breaker.requests * policy.failure_share:
                self._open(key, breaker, _Event.FAILING, now)
            else:
                self._end_window(key, breaker, now)
        elif breaker.state is State.HALF_OPEN:
            breaker.open_seconds = min(2 * breaker.open_seconds, policy.open_seconds_max)
            self._open(key, breaker, _Event.FAILED_AGAIN, now)

    def _begin(self, key: Key, now: float) -> _Breaker:
        if len(self._known) >= BREAKERS_MAX:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self.suspects.pop(oldest, None)
        breaker = self._known[key] = _Breaker(self._policy, now)
        return breaker

    def _suspect(self, key: Key, breaker: _Breaker, now: float) -> None:
        if now - breaker.since > self._policy.window_seconds:
            breaker.since = now
            breaker.failures = 0
        breaker.failures += 1
        if breaker.failures >= self._policy.suspicious_failures and now >= breaker.quiet_until:
            self._move(key, breaker, _Event.SUSPECTED)
            breaker.since = now
            breaker.requests = breaker.failures = 0

    def _open(self, key: Key, breaker: _Breaker, event: _Event, now: float) -> None:
        self._move(key, breaker, event)
        breaker.until = now + breaker.open_seconds
        self.opened += 1

    def _end_window(self, key: Key, breaker: _Breaker, now: float) -> None:
        """What was watched for a whole window without opening is trusted again."""
        if now - breaker.since > self._policy.window_seconds:
            breaker.quiet_until = now + breaker.quiet_seconds
            breaker.quiet_seconds = min(2 * breaker.quiet_seconds, self._policy.quiet_seconds_max)
            self._trust(key, breaker, _Event.CLEARED)

    def _trust(self, key: Key, breaker: _Breaker, event: _Event) -> None:
        self._move(key, breaker, event)
        breaker.until = 0.0
        breaker.requests = breaker.failures = 0

    def _move(self, key: Key, breaker: _Breaker, event: _Event) -> None:
        breaker.state = TRANSITIONS[breaker.state][event]
        if breaker.state is State.TRUSTED:
            del self.suspects[key]
        else:
            self.suspects[key] = breaker
