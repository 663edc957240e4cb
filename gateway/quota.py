"""What this worker may still admit: limits decided in memory, out of slices that the database lends.

Sans-IO: no clock, no database. `refill` asks the database what `wanted` says and hands the answers to
`apply`; requests only ever touch numbers in memory.

How it works
    A request *reserves* its worst case from every limit it falls under, and *settles* to what it really used;
    what was reserved too much is free again, what was used beyond it is a debt that the next refill repays.
    An account is one limit's window as this worker sees it. Which window a request counts in is a pure
    function of its start, in UTC, as it is in the database: so no step of a clock can admit more than a
    window holds.

    Of what the database has lent an account, `balance` is free, `reserved` is in use, and the rest has been
    used and is on its way through the journal. When the balance falls below the low-water mark, more is asked
    for in the background; when it does not suffice, the request waits for that. What an account lends itself
    is about what it used in the last two seconds; what it does not use is given back within seconds, so that
    others find it.

    The database says how much more could be had. A request that needs more than that is refused, without
    asking, until that word is a second old.

Order: reserve, settle (what requests do); then asking, answers, and what is done about them once a second.
Bounds: an account for each limit in use, dropped a minute after its last use or when its window is over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from gateway.reservation import KEPT_SHARE, Account, Reservation
from storage.leases import BATCH_LEASES_MAX, LEASE_SECONDS, LeaseAnswer, LeaseRequest, LeaseState
from storage.model import Limit, LimitKind, Period

SURVEY_SECONDS: Final = 1.0
"""How often accounts are looked over: what is too much is given back, what is over is dropped."""
HORIZON_SECONDS: Final = 2.0
"""An account holds about what it uses in this time: several refills fit into half of it."""
BELIEVE_SECONDS: Final = 1.0
"""How long the database's word that no more is to be had is acted on."""
RENEW_SECONDS: Final = LEASE_SECONDS / 3
"""Two renewals may fail before a lease runs out."""
IDLE_SECONDS: Final = 60.0
"""An account unused for this long is given back whole and dropped."""
OVER_SECONDS: Final = 5.0
"""After its end a window is kept this long, for a clock that is set back a little."""
_MICROSECONDS: Final = 1_000_000
_PERIOD_US: Final = {Period.MINUTE: 60 * _MICROSECONDS, Period.DAY: 86_400 * _MICROSECONDS}
_NO_END_US: Final = 2**62


class Reason(Enum):
    """Why there is no reservation."""

    ASK = "ask"
    """More may be had of the database: wait for the next refill and try again."""
    EXHAUSTED = "exhausted"
    """The limit is used up, or held by others."""
    TOO_LARGE = "too_large"
    """The request alone may use more than the limit ever allows."""
    UNAVAILABLE = "unavailable"
    """What was lent is used up and the database cannot be asked."""


class Shortage:
    """No reservation: because of this limit, and worth another try in so many seconds."""

    __slots__ = ("limit", "reason", "retry_after")

    def __init__(self, reason: Reason, limit: Limit, retry_after: float) -> None:
        self.reason = reason
        self.limit = limit
        self.retry_after = retry_after


class Ledger:
    """The accounts of one worker."""

    def __init__(self, turn: int) -> None:
        """`turn` is where the numbers of calls begin: above those of the journal's earlier workers."""
        self.turn = turn
        self.reachable = True
        """The last call was answered, or may have been late only."""
        self.doubts = False
        """More is about to come back, so that the database is asked again instead of believed."""
        self._current: dict[int, Account] = {}
        self._accounts: dict[tuple[int, int], Account] = {}
        self._low: set[Account] = set()
        self._believed: dict[Account, float] = {}
        self._surveyed_at = -math.inf

    def reserve(
        self, limits: Sequence[Limit], model: str | None, started_us: int, tokens: int, picodollars: int
    ) -> Reservation | Shortage:
        """Sets apart what a request may use at most, in every hard limit it falls under, or in none.

        Args:
          limits: the key's; those that are soft or for another model are passed over.
          started_us: when the request began, in microseconds since 1970, as its usage row will say.
        """
        needs = (1, tokens, picodollars, 1)
        holds: list[tuple[Account, int]] = []
        current = self._current
        for limit in limits:
            if (limit.model is not None and limit.model != model) or not limit.hard:
                continue
            account = current.get(limit.limit_id)
            if (
                account is None
                or not account.start_us <= started_us < account.end_us
                or account.amount != limit.amount
            ):
                account = self._open(limit, started_us)
            need = needs[account.index]
            left = account.balance - need
            if left < account.low:
                if left < 0 and need:
                    Reservation(holds).release()
                    return self._explain(limits, model, started_us, needs)
                self._low.add(account)
                account.low = 0
            account.balance = left
            account.reserved += need
            holds.append((account, need))
        return Reservation(holds, limits)

    def charge(
        self,
        limits: Iterable[Limit],
        reservation: Reservation | None,
        model: str | None,
        started_us: int,
        tokens: int,
        picodollars: int,
    ) -> None:
        """What a request has used of limits that it is not reserved from: they were set, or made hard, since
        it began. The database takes it from what it has lent, whether it was reserved or not.

        Args:
          limits: all of the key's, as they are now.
          reservation: what the request holds, not settled yet.
        """
        used = (1, tokens, picodollars)
        holds = () if reservation is None else reservation.holds
        held = {account.limit.limit_id for account, _ in holds}
        for limit in limits:
            if (
                limit.model not in (None, model)
                or limit.kind is LimitKind.CONCURRENT
                or limit.limit_id in held
            ):
                continue
            if not limit.hard and limit.limit_id not in self._current:
                continue
            account = self._open(limit, started_us)
            account.balance -= used[account.index]
            if limit.hard:
                self._low.add(account)

    def remaining(self, limit: Limit, started_us: int) -> tuple[int, float]:
        """What is left of a limit as far as this worker knows, and the seconds until it is whole again."""
        start_us, end_us = find_window(limit.period, started_us)
        account = self._accounts.get((limit.limit_id, start_us))
        left = limit.amount if account is None else max(0, account.balance + account.available)
        return left, 0.0 if end_us == _NO_END_US else (end_us - started_us) / _MICROSECONDS

    def reserved(self) -> dict[LimitKind, int]:
        """What requests that run have set apart, over all accounts, for the metrics."""
        sums = dict.fromkeys(LimitKind, 0)
        for account in self._accounts.values():
            sums[account.limit.kind] += account.reserved
        return sums

    def free(self) -> dict[LimitKind, int]:
        """What could still be set apart without asking for more, over all accounts, for the metrics."""
        sums = dict.fromkeys(LimitKind, 0)
        for account in self._accounts.values():
            sums[account.limit.kind] += max(0, account.balance)
        return sums

    def __len__(self) -> int:
        return len(self._accounts)

    def _open(self, limit: Limit, started_us: int) -> Account:
        """The account of the limit's window at that time, which becomes the one looked at first."""
        start_us, end_us = find_window(limit.period, started_us)
        account = self._accounts.get((limit.limit_id, start_us))
        if account is None:
            self.turn += 1
            account = Account(limit, start_us, end_us, self.turn)
            self._accounts[limit.limit_id, start_us] = account
        elif account.amount != limit.amount:
            account.change(limit)
            self._believed.pop(account, None)
            self._low.add(account)
        self._current[limit.limit_id] = account
        return account

    def _explain(
        self, limits: Iterable[Limit], model: str | None, started_us: int, needs: tuple[int, ...]
    ) -> Shortage:
        """Why the request does not fit; notes everything that has to be asked for, in one go."""
        worst: Shortage | None = None
        for limit in limits:
            if not limit.hard or limit.model not in (None, model):
                continue
            account = self._open(limit, started_us)
            need = needs[account.index]
            shortfall = need - account.balance
            if shortfall <= 0 or not need:
                continue
            reason = self._judge(limit, account, need, shortfall)
            if reason is Reason.ASK:
                account.queue(need, shortfall)
                self._low.add(account)
            if worst is None or worst.reason is Reason.ASK:
                worst = Shortage(reason, limit, _retry_after(account, reason, started_us))
        assert worst is not None
        return worst

    def _judge(self, limit: Limit, account: Account, need: int, shortfall: int) -> Reason:
        if need > limit.amount:
            return Reason.TOO_LARGE
        if account in self._believed and shortfall > account.available and not self.doubts:
            return Reason.UNAVAILABLE if account.closed else Reason.EXHAUSTED
        return Reason.ASK if self.reachable else Reason.UNAVAILABLE

    def wanted(self, now: float, wall_us: int) -> list[LeaseRequest]:
        """What to ask the database now, if anything. Every call of this is followed by `apply` or `fail`.

        Args:
          now: monotonic seconds.
          wall_us: the time, in microseconds since 1970.
        """
        for account in [known for known, since in self._believed.items() if since + BELIEVE_SECONDS <= now]:
            del self._believed[account]
            account.low = account.slice // 2
        due = self._low
        told = list(due)
        if self._surveyed_at + SURVEY_SECONDS <= now:
            elapsed = min(now - self._surveyed_at, IDLE_SECONDS)
            self._surveyed_at = now
            told += [
                account
                for account in list(self._accounts.values())
                if account not in due and self._survey(account, elapsed, now, wall_us)
            ]
        # Those have to wait, and are not asked yet what they need: they would take it as told.
        self._low = set(told[BATCH_LEASES_MAX:])
        self.turn += 1
        return [account.ask() for account in told[:BATCH_LEASES_MAX]]

    def _survey(self, account: Account, elapsed: float, now: float, wall_us: int) -> bool:
        """Looks one account over; true when the database has to be told something."""
        over = account.end_us + OVER_SECONDS * _MICROSECONDS < wall_us
        used = account.measure(elapsed, HORIZON_SECONDS, scarce=self._is_scarce(account))
        if used or account.reserved or not account.used_at:
            account.used_at = now
        idle = account.used_at + IDLE_SECONDS <= now
        if account.gone or (not account.reserved and (over or idle) and account.balance <= 0):
            self._drop(account)
            return False
        if over or idle:
            account.slice = 0
        tells = account.give_back() or (not over and account.renewed_at + RENEW_SECONDS <= now)
        if tells:
            # If nobody answers it is told again, and not forgotten before that.
            account.low = 0
        return tells

    def _is_scarce(self, account: Account) -> bool:
        return account.available < account.amount // KEPT_SHARE

    def _drop(self, account: Account) -> None:
        del self._accounts[account.limit.limit_id, account.start_us]
        if self._current.get(account.limit.limit_id) is account:
            del self._current[account.limit.limit_id]

    def apply(self, answers: Sequence[LeaseAnswer], now: float) -> None:
        """The database has answered."""
        self.reachable = True
        for answer in answers:
            self.turn = max(self.turn, answer.last_turn)
            account = self._accounts.get((answer.limit_id, answer.window_start * _MICROSECONDS))
            if account is None or answer.state is LeaseState.LATE:
                continue
            account.take(answer)
            account.renewed_at = now
            self._believed[account] = now

    def fail(self, *, away: bool = True) -> None:
        """The database did not answer. What it may have done is undone by the next call. Unless it is `away`
        who asks goes on waiting."""
        self.reachable = self.reachable and not away
        self._low.update(account for account in self._accounts.values() if account.low == 0)

    def surrender(self) -> list[LeaseRequest]:
        """At the end: what gives back all that is free and not reserved."""
        requests = []
        for account in self._accounts.values():
            account.slice = 0
            if account.give_back():
                requests.append(account.ask())
        self.turn += 1
        return requests[:BATCH_LEASES_MAX]


def find_window(period: Period, started_us: int) -> tuple[int, int]:
    """The window of a period that holds a moment: its start and its end, in microseconds since 1970."""
    if period is Period.NONE:
        return 0, _NO_END_US
    if period is not Period.MONTH:
        length = _PERIOD_US[period]
        start_us = started_us - started_us % length
        return start_us, start_us + length
    moment = datetime.fromtimestamp(started_us // _MICROSECONDS, UTC)
    month = moment.replace(day=1, hour=0, minute=0, second=0)
    following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    return int(month.timestamp()) * _MICROSECONDS, int(following.timestamp()) * _MICROSECONDS


def _retry_after(account: Account, reason: Reason, started_us: int) -> float:
    if reason is not Reason.EXHAUSTED or account.end_us == _NO_END_US:
        return BELIEVE_SECONDS
    return (account.end_us - started_us) / _MICROSECONDS
