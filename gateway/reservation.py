"""The numbers behind `quota`: one account for each limit's window, and what one request holds of them.

An account keeps the count of what the database lent it (`acquired`), which the two of them compare at every
call: giving back is to lower it, and an answer that never arrived is undone because it is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from storage.leases import LeaseAnswer, LeaseRequest, LeaseState
from storage.model import Limit, LimitKind

SLICES_FIRST: Final = 4
"""A first request asks for this many of its kind, so that those behind it need not wait."""

KEPT_SHARE: Final = 20
"""No more than this part of a limit is kept by a worker that does not use it."""

STREAMS_KEPT_MIN: Final = 8
"""So many more may begin at any time without asking, where there is plenty."""

_INDEX: Final = {
    LimitKind.REQUESTS: 0,
    LimitKind.TOKENS: 1,
    LimitKind.MONEY: 2,
    LimitKind.CREDIT: 2,
    LimitKind.CONCURRENT: 3,
}
_MONEY: Final = _INDEX[LimitKind.MONEY]
_MICROSECONDS: Final = 1_000_000
_UNLIMITED: Final = 2**62


class Account:
    """One limit's window as one worker sees it."""

    __slots__ = (
        "acquired",
        "amount",
        "available",
        "balance",
        "closed",
        "demand",
        "end_us",
        "floor",
        "gone",
        "index",
        "limit",
        "low",
        "mark",
        "minimum",
        "opened",
        "renewed_at",
        "reserved",
        "slice",
        "start_us",
        "used_at",
    )

    def __init__(self, limit: Limit, start_us: int, end_us: int, opened: int) -> None:
        self.limit = limit
        self.amount = limit.amount
        """What the limit was when it was last looked at."""
        self.index = _INDEX[limit.kind]
        """Which of a request's needs (requests, tokens, picodollars, streams) this counts."""
        self.start_us = start_us
        self.end_us = end_us
        self.opened = opened
        self.balance = 0
        """Free to reserve; below zero, a debt."""
        self.reserved = 0
        self.low = 0
        """The mark below which more is asked for; 0 while that is being done."""
        self.acquired = 0
        self.available = 0
        """What more could have been had, at the last answer."""
        self.closed = False
        """The database finds this window too far from its own time."""
        self.gone = False
        """There is no such limit any more."""
        self.demand = 0
        """What requests that wait need in all, and the least that would let one of them go."""
        self.minimum = 0
        self.slice = 0
        """The balance to aim at."""
        self.floor = 0
        """The least to aim at while there is plenty."""
        self.mark = 0
        """`balance` less `acquired` when it was last measured: it falls by what is used."""
        self.used_at = 0.0
        self.renewed_at = 0.0

    def change(self, limit: Limit) -> None:
        """The limit has another amount: what was lent of the old one goes back, to be asked for anew."""
        self.limit = limit
        self.amount = limit.amount
        self.slice = self.low = 0
        self.give_back()

    def queue(self, need: int, shortfall: int) -> None:
        """A request waits for more."""
        self.demand += need
        self.minimum = min(self.minimum or shortfall, shortfall)
        # With this much, a request of its size finds enough while more is being asked for.
        self.floor = max(self.floor, 2 * need)

    def ask(self) -> LeaseRequest:
        """Tells the database how things stand, and what is needed. What waits is taken as told."""
        if self.demand:
            # It was too small, or is new.
            self.slice = min(max(2 * self.slice, SLICES_FIRST * self.demand), self.amount)
        wanted = max(self.slice - self.balance, self.demand)
        minimum = self.minimum if self.demand else min(wanted, 1)
        self.demand = self.minimum = 0
        return LeaseRequest(
            self.limit.limit_id,
            self.start_us // _MICROSECONDS,
            self.opened,
            self.acquired,
            self.balance + self.reserved,
            wanted,
            minimum,
        )

    def take(self, answer: LeaseAnswer) -> None:
        """The database has answered `ask`."""
        if answer.state is LeaseState.GONE:
            # Until the key's limits are read again, which is under way, nobody is refused for its sake.
            self.gone = True
            self.balance = self.available = _UNLIMITED
        self.closed = answer.state is LeaseState.CLOSED
        self.acquired += answer.granted
        self.balance += answer.granted
        if not self.gone:
            self.available = answer.available
        # Where nothing is to be had, asking can wait until somebody needs it.
        self.low = self.slice // 2 if answer.granted or answer.available else 0

    def measure(self, elapsed: float, horizon: float, *, scarce: bool) -> int:
        """Works out anew how much to hold, from what was used since the last time; returns that."""
        level = self.balance - self.acquired
        used = max(0, self.mark - level)
        self.mark = level
        # Kept in case of need: of a small limit nothing, since that may be all that others lack.
        spare = self.amount // KEPT_SHARE
        if self.index == _INDEX[LimitKind.CONCURRENT]:
            # Streams come back, so it is not use that tells but how many run. And they come in a rush: what
            # was needed at once will be again, and a wait for the database would make the next rush larger.
            kept = max(self.slice - self.slice // 8, STREAMS_KEPT_MIN, 1 + self.reserved)
            self.slice = 0 if scarce else min(kept, spare)
        else:
            # Who sends something now and then should not wait each time. But where little is left, what is
            # not used at once may be what others need.
            self.floor -= self.floor // 64
            used_soon = int(used / elapsed * horizon)
            kept = min(max(self.slice // 2, self.floor), spare)
            self.slice = used_soon // 4 if scarce else max(used_soon, kept)
        if self.low:
            self.low = self.slice // 2
        return used

    def give_back(self) -> bool:
        """Lets go of what is above the slice; true when there was something."""
        surplus = self.balance - self.slice
        if surplus <= 0 or self.gone:
            return False
        self.balance -= surplus
        self.acquired -= surplus
        return True


class Reservation:
    """What one request holds. Exactly one of `settle` and `release` counts: the first."""

    __slots__ = ("holds", "limits")

    def __init__(self, holds: Sequence[tuple[Account, int]], limits: Sequence[Limit] = ()) -> None:
        self.holds = holds
        self.limits = limits
        """Those it was made for."""

    @property
    def picodollars(self) -> int:
        """What is held of money: in each limit on it the same."""
        most = 0
        for account, need in self.holds:
            if account.index == _MONEY:
                most = max(most, need)
        return most

    def settle(self, tokens: int, picodollars: int) -> None:
        """The request has used this, and a usage row says the same."""
        self._end((1, tokens, picodollars, 0))

    def release_credit(self) -> None:
        """It went up with another key than the platform's after all: nothing is taken from credit."""
        kept = []
        for account, need in self.holds:
            if account.limit.kind is LimitKind.CREDIT:
                account.reserved -= need
                account.balance += need
            else:
                kept.append((account, need))
        self.holds = kept

    def release(self) -> None:
        """The request used nothing, and there will be no usage row."""
        self._end((0, 0, 0, 0))

    def _end(self, used: tuple[int, int, int, int]) -> None:
        holds = self.holds
        self.holds = ()
        for account, need in holds:
            account.reserved -= need
            account.balance += need - used[account.index]
