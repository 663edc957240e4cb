"""One account's arithmetic; `test_quota` has what a ledger makes of it."""

from __future__ import annotations

from gateway.reservation import STREAMS_KEPT_MIN, Account, Reservation
from storage.leases import LeaseAnswer, LeaseRequest, LeaseState
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


def test_all_who_wait_are_asked_for() -> None:
    """Though together they need more than the limit has: some of it may have been given back meanwhile."""
    one = account(amount=100)
    one.queue(90, 90)
    one.queue(90, 90)
    asked = one.ask()
    assert (asked.wanted, asked.minimum) == (180, 90)


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
    kept = []
    for reserved in (0, 19, 3, 3):
        one.reserved = reserved
        one.measure(1.0, 2.0, scarce=False)
        kept.append(one.slice)
    # For as many again as run; and a rush is remembered for some seconds.
    assert kept == [STREAMS_KEPT_MIN, 20, 18, 16]
    one.measure(1.0, 2.0, scarce=True)
    assert one.slice == 0


def test_a_reservation_ends_once() -> None:
    one, two = account(), account(kind=LimitKind.CONCURRENT, period=Period.NONE)
    reservation = Reservation([(one, 50), (two, 1)])
    one.reserved, two.reserved = 50, 1
    reservation.settle(20, 0)
    reservation.release()
    assert (one.reserved, one.balance, two.reserved, two.balance) == (0, 30, 0, 1)


def test_what_is_told_names_the_window_and_the_lease() -> None:
    one = Account(limit(limit_id=9), 120_000_000, 180_000_000, 77)
    one.acquired, one.balance, one.reserved = 500, 200, 30
    one.slice = 260
    asked = one.ask()
    assert asked == LeaseRequest(9, 120, 77, acquired=500, unspent=230, wanted=60, minimum=1)
    # The database takes nothing else.
    assert isinstance(asked.window_start, int)


def test_what_waits_is_told_once() -> None:
    one = account()
    one.queue(30, 25)
    assert one.ask().minimum == 25
    assert (one.demand, one.minimum) == (0, 0)
    one.queue(5, 40)
    assert (one.demand, one.minimum, one.floor) == (5, 40, 60)


def test_a_slice_that_did_not_do_is_doubled() -> None:
    one = account(amount=10**6)
    one.slice = 1000
    one.queue(10, 10)
    one.ask()
    assert one.slice == 2000


def test_a_limit_that_is_gone_refuses_nobody() -> None:
    one = account()
    one.take(answer(0, 0, LeaseState.GONE))
    assert one.gone
    assert one.balance == one.available > 2**60
    assert not one.give_back()
    one.slice = 0
    one.take(answer(0, 5))
    assert one.available > 2**60


def test_a_window_may_be_closed_and_open_again() -> None:
    one = account()
    for state, closed in ((LeaseState.CLOSED, True), (LeaseState.OPEN, False), (LeaseState.LATE, False)):
        one.take(answer(0, 7, state))
        assert one.closed is closed
        assert not one.gone
        assert one.available == 7


def test_where_something_is_to_be_had_it_is_asked_for_in_time() -> None:
    for granted, available, low in ((5, 0, 50), (0, 5, 50), (0, 0, 0)):
        one = account()
        one.slice = 101
        one.take(answer(granted, available))
        assert one.low == low


def test_another_amount_gives_back_all_that_is_free() -> None:
    one = account(amount=1000)
    one.take(answer(100))
    one.balance -= 30
    one.reserved = 30
    one.slice = one.low = 50
    other = limit(amount=2000)
    one.change(other)
    assert (one.limit, one.amount, one.slice, one.low) == (other, 2000, 0, 0)
    assert (one.balance, one.acquired, one.reserved) == (0, 30, 30)


def test_little_is_kept_in_case_of_need() -> None:
    """A twentieth of the limit at most; half of what was held, or what once did not suffice."""
    one = account(amount=2000)
    one.measure(1.0, 2.0, scarce=False)
    assert one.slice == 0
    one.slice, one.floor = 151, 10
    assert one.measure(1.0, 2.0, scarce=False) == 0
    assert one.slice == 75
    one.floor = 6400
    one.measure(1.0, 2.0, scarce=False)
    assert (one.slice, one.floor) == (100, 6300)
    one.slice, one.floor = 0, 64
    one.measure(1.0, 2.0, scarce=False)
    assert (one.slice, one.floor) == (63, 63)


def test_use_is_what_went_since_the_last_time() -> None:
    one = account(amount=10**6)
    one.take(answer(1000))
    one.balance -= 400
    one.low = 1
    assert one.measure(2.0, 4.0, scarce=False) == 400
    assert (one.slice, one.low) == (800, 400)
    one.balance -= 100
    assert one.measure(2.0, 4.0, scarce=True) == 100
    assert (one.slice, one.low) == (50, 25)
    one.balance -= 27
    assert one.measure(2.0, 4.0, scarce=True) == 27
    assert (one.slice, one.low) == (13, 6)
    # What comes back is no use below nothing.
    one.balance += 50
    one.low = 0
    assert one.measure(2.0, 4.0, scarce=False) == 0
    assert one.low == 0


def test_streams_in_hand_are_few_of_a_small_limit() -> None:
    for amount, reserved, kept in ((1000, 41, 42), (1000, 400, 50), (100, 400, 5), (19, 8, 0)):
        one = account(amount=amount, kind=LimitKind.CONCURRENT, period=Period.NONE)
        one.reserved = reserved
        one.measure(1.0, 2.0, scarce=False)
        assert one.slice == kept


def of_each_kind() -> list[Account]:
    kinds = (LimitKind.REQUESTS, LimitKind.TOKENS, LimitKind.MONEY, LimitKind.CREDIT)
    found = [account(kind=kind) for kind in kinds]
    found.append(account(kind=LimitKind.CONCURRENT, period=Period.NONE))
    for one, held in zip(found, HELD, strict=True):
        one.reserved = held
    return found


HELD = (1, 50, 700, 800, 1)


def test_each_kind_is_settled_to_what_it_counts() -> None:
    for settled, balances in ((True, [0, 30, 400, 500, 1]), (False, [1, 50, 700, 800, 1])):
        accounts = of_each_kind()
        reservation = Reservation(list(zip(accounts, HELD, strict=True)))
        if settled:
            reservation.settle(20, 300)
        else:
            reservation.release()
        assert [one.balance for one in accounts] == balances
        assert [one.reserved for one in accounts] == [0] * 5


def test_the_money_that_is_held_is_the_most_of_any_limit() -> None:
    accounts = of_each_kind()
    assert Reservation(list(zip(accounts, HELD, strict=True))).picodollars == 800
    assert Reservation([(accounts[1], 50)]).picodollars == 0
    assert Reservation([(accounts[2], 700), (accounts[3], 0)]).picodollars == 700


def test_credit_is_let_go_of_alone() -> None:
    accounts = of_each_kind()
    reservation = Reservation(list(zip(accounts, HELD, strict=True)))
    accounts[3].balance = 5
    reservation.release_credit()
    assert [one.balance for one in accounts] == [0, 0, 0, 805, 0]
    assert [one.reserved for one in accounts] == [1, 50, 700, 0, 1]
    reservation.settle(20, 300)
    assert [one.balance for one in accounts] == [0, 30, 400, 805, 1]
