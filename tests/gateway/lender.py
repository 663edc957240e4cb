"""The database's side of leases, in memory: what `settle_leases` of migrations/0006_limits.sql does, said
again in Python. `tests/storage/test_leases.py` has the real one. And a worker that borrows of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from gateway.quota import Ledger, Reason, Shortage
from gateway.reservation import Reservation
from storage.leases import LEASE_SECONDS, LeaseAnswer, LeaseRequest, LeaseState
from storage.model import Limit, LimitKind, Period

US = 1_000_000
_SECONDS = {Period.MINUTE: 60, Period.DAY: 86_400, Period.MONTH: 31 * 86_400, Period.NONE: 2**40}


def limit(number: int = 1, **changes: Any) -> Limit:
    values: dict[str, Any] = {
        "limit_id": number,
        "org_id": UUID(int=7),
        "key_id": None,
        "model": None,
        "kind": LimitKind.TOKENS,
        "period": Period.MINUTE,
        "amount": 1000,
        "hard": True,
        "thresholds": (),
    }
    return Limit(**values | changes)


class Lease:
    def __init__(self) -> None:
        self.held = self.written_off = self.acquired = self.opened = self.turn = 0
        self.expires_at = 0.0


class Lender:
    """`now` is the database's own clock, in seconds since 1970."""

    def __init__(self, *limits: Limit, now: float = 0.0) -> None:
        self.limits = {one.limit_id: one for one in limits}
        self.now = now
        self.settled: dict[tuple[int, int], int] = {}
        self.leases: dict[tuple[int, int], dict[str, Lease]] = {}

    def settle(self, owner: str, turn: int, requests: Sequence[LeaseRequest]) -> list[LeaseAnswer]:
        return [self._settle(owner, turn, request) for request in requests]

    def account(self, owner: str, limit_id: int, start: int, amount: int) -> None:
        """A usage row of the owner's has been stored."""
        window = (limit_id, start)
        self.settled[window] = self.settled.get(window, 0) + amount
        lease = self.leases.get(window, {}).get(owner)
        if lease is not None:
            redeemed = min(lease.written_off, amount)
            lease.written_off -= redeemed
            lease.held -= amount - redeemed

    def release(self, owner: str) -> None:
        for leases in self.leases.values():
            leases.pop(owner, None)

    def committed(self, window: tuple[int, int]) -> int:
        """All that is spent, lent or lost of a window."""
        leases = self.leases.get(window, {}).values()
        lost = 0 if self.limits[window[0]].kind is LimitKind.CONCURRENT else 1
        return self.settled.get(window, 0) + sum(
            max(lease.held, 0) + lost * lease.written_off for lease in leases
        )

    def _settle(self, owner: str, turn: int, asked: LeaseRequest) -> LeaseAnswer:
        window = (asked.limit_id, asked.window_start)

        def answer(state: LeaseState, granted: int = 0, available: int = 0, last: int = 0) -> LeaseAnswer:
            return LeaseAnswer(*window, state, granted, available, last)

        found = self.limits.get(asked.limit_id)
        if found is None or not found.hard:
            return answer(LeaseState.GONE)
        start, length = asked.window_start, _SECONDS[found.period]
        if found.period is not Period.NONE and not start - 60 <= self.now <= start + 2 * length:
            return answer(LeaseState.CLOSED)
        leases = self.leases.setdefault(window, {})
        for other, lease in leases.items():
            if other != owner and lease.expires_at < self.now and lease.held > 0:
                lease.written_off += lease.held
                lease.held = 0
        mine = leases.get(owner)
        if mine is not None and mine.turn >= turn:
            return answer(LeaseState.LATE, last=mine.turn)
        last = 0 if mine is None else mine.turn
        if mine is None:
            mine = leases[owner] = Lease()
            mine.held = max(asked.unspent, 0)
        elif mine.opened == asked.opened:
            mine.held += mine.written_off + asked.acquired - mine.acquired
        else:
            mine.held = max(mine.held + mine.written_off, 0) + asked.acquired
        mine.written_off = 0
        free = max(found.amount - self.committed(window), 0)
        debt = max(-mine.held, 0)
        live = sum(1 for lease in leases.values() if lease.held > 0 and lease.expires_at >= self.now)
        live += not (mine.held > 0 and mine.expires_at >= self.now)
        granted = 0
        if asked.wanted > 0 and free + debt >= asked.minimum:
            granted = min(asked.wanted, free + debt, max(asked.minimum, free // (2 * live) + debt))
        mine.held += granted
        mine.acquired, mine.opened, mine.turn = asked.acquired + granted, asked.opened, turn
        mine.expires_at = self.now + LEASE_SECONDS
        return answer(LeaseState.OPEN, granted, free + debt - granted, last)


class Worker:
    """A ledger and the time it lives in."""

    def __init__(self, lender: Lender, name: str = "worker") -> None:
        self.lender = lender
        self.name = name
        self.ledger = Ledger(0)
        self.now = 1000.0
        self.wall = 0.0

    def refill(self) -> int:
        requests = self.ledger.wanted(self.now, int(self.wall * US))
        self.ledger.apply(self.lender.settle(self.name, self.ledger.turn, requests), self.now)
        return len(requests)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds
        self.lender.now += seconds

    def reserve(
        self, *limits: Limit, tokens: int = 0, picodollars: int = 0, model: str | None = None
    ) -> Reservation | Shortage:
        return self.ledger.reserve(limits, model, int(self.wall * US), tokens, picodollars)

    def admit(self, *limits: Limit, **needs: Any) -> Reservation:
        found = self.reserve(*limits, **needs)
        if isinstance(found, Shortage):
            assert found.reason is Reason.ASK
            self.refill()
            found = self.reserve(*limits, **needs)
        assert isinstance(found, Reservation), found
        return found

    def refused(self, *limits: Limit, **needs: Any) -> Shortage:
        found = self.reserve(*limits, **needs)
        assert isinstance(found, Shortage)
        return found

    def held(self, one: Limit) -> int:
        lease = self.lender.leases[one.limit_id, 0].get(self.name)
        return 0 if lease is None else lease.held
