"""One account's arithmetic; `test_quota` has what a ledger makes of it."""

from __future__ import annotations

from gateway.reservation import Account, Reservation
from storage.leases import LeaseAnswer, LeaseState
from storage.model import LimitKind, Period
from tests.gateway.lender import limit


def account(**changes: object) -> Account:
    return Account(limit(**changes), 0, 60, 1)


def answer(granted: int, available: int = 1000, state: LeaseState = LeaseState.OPEN) -> LeaseAnswer:
    return LeaseAnswer(1, 0, state, granted, available, 0)


def test_what_waits_is_asked_for_with_some_more() -> None:
    one = account()
    one.queue(30, 30)
    one.queue(20, 10)
    asked = one.ask()
    assert (asked.wanted, asked.minimum, asked.acquired, asked.unspent) == (200, 10, 0, 0)
    one.take(answer(200))
    assert (one.balance, one.acquired, one.low) == (200, 200, 100)
    assert one.ask().wanted == 0


def test_never_more_than_the_limit_is_asked_for() -> None:
    one = account(amount=100)
    for _ in range(5):
        one.queue(90, 90)
        assert one.ask().wanted <= 100


def test_a_debt_is_asked_for() -> None:
    one = account()
    one.take(answer(10))
    one.balance -= 25
    assert one.ask().wanted == 15
    assert one.ask().unspent == -15


def test_nothing_is_asked_for_in_the_background_where_nothing_is() -> None:
    one = account()
    one.queue(30, 30)
    one.ask()
    one.take(answer(0, 0))
    assert one.low == 0


def test_the_slice_follows_use() -> None:
    one = account(amount=10**6)
    one.queue(10, 10)
    one.ask()
    one.take(answer(10_000))
    one.balance -= 1000
    assert one.measure(1.0, 2.0, scarce=False) == 1000
    assert one.slice == 2000
    assert one.give_back()
    assert (one.balance, one.acquired) == (2000, 3000)
    assert not one.give_back()
    for _ in range(10):
        assert one.measure(1.0, 2.0, scarce=False) == 0
    # Enough for two requests of the size that once had to wait, as long as there is plenty.
    assert one.slice == one.floor > 10
    one.measure(1.0, 2.0, scarce=True)
    assert one.slice == 0


def test_some_streams_are_kept_in_hand() -> None:
    one = account(kind=LimitKind.CONCURRENT, period=Period.NONE)
    one.reserved = 8
    one.measure(1.0, 2.0, scarce=False)
    assert one.slice == 3
    one.measure(1.0, 2.0, scarce=True)
    assert one.slice == 0


def test_a_reservation_ends_once() -> None:
    one, two = account(), account(kind=LimitKind.CONCURRENT, period=Period.NONE)
    reservation = Reservation([(one, 50), (two, 1)])
    one.reserved, two.reserved = 50, 1
    reservation.settle(20, 0)
    reservation.release()
    assert (one.reserved, one.balance, two.reserved, two.balance) == (0, 30, 0, 1)
