"""What a ledger does once a second, and what it asks the database for: to the second, and to the token."""

from __future__ import annotations

from gateway.quota import IDLE_SECONDS, OVER_SECONDS, RENEW_SECONDS
from storage.leases import LeaseAnswer, LeaseState
from storage.model import LimitKind, Period
from tests.gateway.lender import US, Lender, Worker, limit


def test_a_window_is_kept_a_little_after_its_end() -> None:
    minute = limit()
    worker = Worker(Lender(minute))
    worker.wall = worker.lender.now = 50.0
    worker.admit(minute, tokens=10).settle(10, 0)
    worker.lender.account("worker", 1, 0, 10)
    worker.pass_time(10 + OVER_SECONDS)
    worker.refill()
    assert worker.held(minute) == 20
    worker.pass_time(1)
    assert worker.refill() == 1
    assert worker.held(minute) == 0
    assert len(worker.ledger) == 1
    worker.pass_time(1)
    assert worker.refill() == 0
    assert len(worker.ledger) == 0


def test_a_window_that_is_over_is_kept_for_what_still_runs_in_it() -> None:
    minute = limit()
    worker = Worker(Lender(minute))
    running = worker.admit(minute, tokens=10)
    worker.pass_time(70)
    worker.refill()
    assert worker.held(minute) == 10
    # There is nothing to be told, and a window that is over is not renewed.
    worker.pass_time(2 * RENEW_SECONDS)
    assert worker.refill() == 0
    assert len(worker.ledger) == 1
    running.settle(4, 0)
    worker.pass_time(1)
    assert worker.refill() == 1
    assert worker.held(minute) == 4
    worker.pass_time(1)
    worker.refill()
    assert len(worker.ledger) == 0


def test_an_account_is_given_back_a_minute_after_its_last_use() -> None:
    day = limit(period=Period.DAY)
    worker = Worker(Lender(day))
    worker.admit(day, tokens=10).settle(10, 0)
    worker.refill()
    worker.lender.account("worker", 1, 0, 10)
    worker.pass_time(1)
    worker.refill()
    worker.pass_time(6)
    worker.admit(day, tokens=10).settle(10, 0)
    worker.refill()
    worker.lender.account("worker", 1, 0, 10)
    worker.pass_time(IDLE_SECONDS - 1)
    worker.refill()
    assert worker.held(day) > 0
    worker.pass_time(1)
    worker.refill()
    assert worker.held(day) == 0
    assert len(worker.ledger) == 1
    worker.pass_time(1)
    worker.refill()
    assert len(worker.ledger) == 0


def test_of_what_is_dropped_nothing_stays_lent() -> None:
    """Not even a single token."""
    day = limit(period=Period.DAY, amount=100)
    worker = Worker(Lender(day))
    for held in (2, 1):
        worker.admit(day, tokens=1).settle(1, 0)
        worker.lender.account("worker", 1, 0, 1)
        worker.pass_time(1)
        worker.refill()
        assert worker.held(day) == held
    worker.pass_time(IDLE_SECONDS)
    worker.refill()
    assert worker.held(day) == 0


def test_leases_are_renewed_in_time_and_no_sooner() -> None:
    streams = limit(kind=LimitKind.CONCURRENT, period=Period.NONE, amount=10)
    worker = Worker(Lender(streams))
    worker.admit(streams)
    told = []
    for _ in range(4 * int(RENEW_SECONDS)):
        worker.pass_time(1)
        told.append(worker.refill())
    # At first what was asked for beyond the stream that runs goes back.
    first = told.index(1)
    assert first < 3
    assert [at - first for at, number in enumerate(told) if number] == [
        0,
        RENEW_SECONDS,
        2 * RENEW_SECONDS,
        3 * RENEW_SECONDS,
    ]


def test_accounts_are_looked_over_once_a_second() -> None:
    day = limit(period=Period.DAY, amount=10**6)
    worker = Worker(Lender(day))
    worker.admit(day, tokens=100)
    worker.refill()
    assert worker.held(day) == 400
    worker.pass_time(0.5)
    assert worker.refill() == 0
    worker.pass_time(0.5)
    assert worker.refill() == 1
    assert worker.held(day) == 100 + 200
    worker.pass_time(0.9)
    assert worker.refill() == 0
    worker.pass_time(0.1)
    worker.refill()
    # Twice what once did not suffice, and a little less each time.
    assert worker.held(day) == 100 + 194


def test_where_little_is_left_nothing_is_kept() -> None:
    """Less than a twentieth."""
    for amount, available, kept in ((1000, 50, 20), (1000, 49, 0), (1019, 50, 20)):
        day = limit(period=Period.DAY, amount=amount)
        worker = Worker(Lender(day))
        worker.refused(day, tokens=10)
        worker.ledger.wanted(worker.now, 0)
        worker.ledger.apply([LeaseAnswer(1, 0, LeaseState.OPEN, 40, available, 0)], worker.now)
        [told] = worker.ledger.wanted(worker.now + 1, US)
        assert (told.acquired, told.unspent) == (kept, kept)


def test_what_is_held_follows_use_over_the_time_that_has_passed() -> None:
    day = limit(period=Period.DAY, amount=10**7)
    worker = Worker(Lender(day))

    def use(tokens: int, seconds: float) -> int:
        """Returns what is held on for."""
        worker.admit(day, tokens=tokens).settle(tokens, 0)
        worker.lender.account("worker", 1, 0, tokens)
        worker.pass_time(seconds)
        worker.refill()
        worker.refill()
        return worker.held(day)

    assert use(6_000, 1) == 12_000
    assert use(8_000, 2) == 12_000


def test_use_of_long_ago_counts_as_of_a_minute() -> None:
    day = limit(period=Period.DAY, amount=10**6)
    worker = Worker(Lender(day))
    worker.ledger.charge([day], None, None, 0, 6_000, 0)
    worker.refill()
    worker.lender.account("worker", 1, 0, 6_000)
    worker.pass_time(2 * IDLE_SECONDS)
    worker.refill()
    # Of a hundred a second, two seconds' need.
    assert worker.held(day) == 200
    worker.ledger.charge([day], None, None, 0, 6_000, 0)
    worker.refill()
    worker.lender.account("worker", 1, 0, 6_000)
    worker.pass_time(2)
    worker.refill()
    # Of three thousand a second, once somebody takes of it: the one that is reserved comes on top.
    worker.admit(day, tokens=1)
    worker.refill()
    assert worker.held(day) == 6_001
