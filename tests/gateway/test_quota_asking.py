"""What a ledger asks the database for, when, and what it makes of the answers."""

from __future__ import annotations

import pytest

from gateway import quota
from gateway.quota import BELIEVE_SECONDS, Ledger, Reason, Shortage
from gateway.reservation import Reservation
from storage.leases import LeaseAnswer, LeaseState
from storage.model import Limit, LimitKind, Period
from tests.gateway.lender import US, Lender, Worker, limit

DAY = limit(period=Period.DAY)


def answer(
    granted: int, available: int = 0, *, of: int = 1, state: LeaseState = LeaseState.OPEN, last: int = 0
) -> LeaseAnswer:
    return LeaseAnswer(of, 0, state, granted, available, last)


def lent(granted: int, available: int = 0, *limits: Limit) -> Ledger:
    """A ledger that was granted so much of each limit at second 0; each is asked for a quarter of it."""
    ledger = Ledger(0)
    for one in limits or (DAY,):
        assert isinstance(ledger.reserve([one], None, 0, granted // 4, granted // 4), Shortage)
    ledger.apply([answer(granted, available, of=told.limit_id) for told in ledger.wanted(0.0, 0)], 0.0)
    return ledger


def take(ledger: Ledger, tokens: int, *limits: Limit, at: int = 0) -> Reservation:
    found = ledger.reserve(limits or (DAY,), None, at, tokens, tokens)
    assert isinstance(found, Reservation)
    return found


def refused(ledger: Ledger, tokens: int, *limits: Limit, model: str | None = None, at: int = 0) -> Shortage:
    found = ledger.reserve(limits or (DAY,), model, at, tokens, tokens)
    assert isinstance(found, Shortage)
    return found


def test_who_needs_nothing_asks_for_nothing() -> None:
    ledger = Ledger(0)
    assert take(ledger, 0).limits == (DAY,)
    assert ledger.wanted(0.0, 0) == []
    # Nobody has told yet what there is.
    assert ledger.remaining(DAY, 0)[0] == 0


def test_what_is_owed_beyond_what_is_to_be_had_leaves_nothing() -> None:
    ledger = lent(40, 10)
    take(ledger, 10).settle(60, 0)
    assert ledger.remaining(DAY, 0)[0] == 0
    ledger.apply([answer(10, 1)], 0.1)
    assert ledger.remaining(DAY, 0)[0] == 0


def test_more_is_asked_for_below_half_of_what_is_held() -> None:
    ledger = lent(40)
    take(ledger, 20)
    assert ledger.wanted(0.1, 0) == []
    take(ledger, 1)
    [told] = ledger.wanted(0.2, 0)
    # What is reserved is not used: it counts as unspent.
    assert (told.wanted, told.minimum, told.acquired, told.unspent) == (21, 1, 40, 40)
    # While that is being done it is not asked for a second time.
    take(ledger, 1)
    assert ledger.wanted(0.3, 0) == []


def test_where_nothing_was_to_be_had_it_is_asked_for_again_after_a_second() -> None:
    ledger = lent(40)
    take(ledger, 30)
    assert len(ledger.wanted(0.1, 0)) == 1
    ledger.apply([answer(0)], 0.5)
    take(ledger, 1)
    assert ledger.wanted(0.9, 0) == []
    # What was taken tells what to hold: two seconds' need, and a fourth of that where little is left.
    assert ledger.wanted(1.0, 0) == []
    take(ledger, 1)
    assert ledger.wanted(1.49, 0) == []
    assert ledger.wanted(0.5 + BELIEVE_SECONDS, 0) == []
    # Seven are left, as many as half of the fifteen to hold.
    take(ledger, 1)
    assert ledger.wanted(1.55, 0) == []
    take(ledger, 1)
    assert [told.wanted for told in ledger.wanted(1.6, 0)] == [9]


def test_a_refusal_is_believed_for_a_second() -> None:
    ledger = lent(40, 10)
    ledger.wanted(0.0, 0)
    assert refused(ledger, 51).reason is Reason.EXHAUSTED
    assert refused(ledger, 50).reason is Reason.ASK
    ledger.wanted(BELIEVE_SECONDS - 0.01, 0)
    assert refused(ledger, 51).reason is Reason.EXHAUSTED
    ledger.wanted(BELIEVE_SECONDS, 0)
    assert refused(ledger, 51).reason is Reason.ASK
    assert refused(ledger, 1000).reason is Reason.ASK
    assert refused(ledger, 1001).reason is Reason.TOO_LARGE


def test_another_amount_of_a_limit_is_not_what_was_refused() -> None:
    ledger = lent(40)
    assert refused(ledger, 51).reason is Reason.EXHAUSTED
    assert refused(ledger, 51, limit(period=Period.DAY, amount=2000)).reason is Reason.ASK
    # Nor need any word be left of what was before.
    assert refused(ledger, 51, limit(period=Period.DAY, amount=3000)).reason is Reason.ASK


def test_the_first_limit_that_refuses_is_told_and_all_that_lack_are_asked_for() -> None:
    soft, others, spent, free, asked, last = (
        limit(1, hard=False, period=Period.DAY),
        limit(2, model="b", period=Period.DAY),
        limit(3, kind=LimitKind.MONEY, period=Period.DAY),
        limit(4, kind=LimitKind.REQUESTS, period=Period.DAY),
        limit(5, period=Period.DAY, model="a"),
        limit(6, period=Period.DAY),
    )
    ledger = lent(40, 0, spent, free)
    for _ in range(39):
        take(ledger, 0, free)
    ledger.wanted(0.0, 0)
    all_of_them = (asked, soft, others, spent, free, last)
    found = refused(ledger, 100, *all_of_them, model="a")
    assert (found.limit, found.reason) == (spent, Reason.EXHAUSTED)
    assert {told.limit_id for told in ledger.wanted(0.1, 0)} == {5, 6}
    # As long as each may still be had, it does not matter which is told.
    assert refused(ledger, 10, asked, soft, others, last, model="a").reason is Reason.ASK


def test_when_it_is_worth_another_try() -> None:
    minute, ever = limit(), limit(kind=LimitKind.CONCURRENT, period=Period.NONE)
    ledger = lent(40, 0, minute)
    assert refused(ledger, 41, minute, at=15 * US).retry_after == 45.0
    found = refused(ledger, 1001, minute, at=15 * US)
    assert (found.reason, found.retry_after) == (Reason.TOO_LARGE, BELIEVE_SECONDS)
    streams = Ledger(0)
    assert refused(streams, 0, ever).retry_after == BELIEVE_SECONDS
    streams.wanted(0.0, 0)
    streams.apply([answer(0)], 0.0)
    found = refused(streams, 0, ever)
    assert (found.reason, found.retry_after) == (Reason.EXHAUSTED, BELIEVE_SECONDS)


def test_answers_that_are_nothing_to_the_ledger() -> None:
    """Of a lease that is dropped, or to a call that was overtaken; the next call's number is above all."""
    two = limit(2, period=Period.DAY)
    ledger = Ledger(7)
    for one in (DAY, two):
        assert refused(ledger, 10, one).reason is Reason.ASK
    asked = ledger.wanted(0.0, 0)
    assert {told.opened for told in asked} == {8, 9}
    assert ledger.turn == 10
    late = answer(0, 5, state=LeaseState.LATE, last=500)
    ledger.apply([answer(40, of=99), late, answer(40, of=2, last=3)], 0.0)
    assert ledger.turn == 500
    assert len(ledger) == 2
    assert ledger.free()[LimitKind.TOKENS] == 40
    # It was told nothing, so there is nothing to believe.
    assert refused(ledger, 10).reason is Reason.ASK
    ledger.wanted(0.1, 0)
    assert ledger.turn == 501


def test_what_nobody_answered_is_asked_again() -> None:
    two = limit(2, period=Period.DAY)
    ledger = lent(40, 100, DAY, two)
    ledger.wanted(0.0, 0)
    take(ledger, 21)
    assert [told.wanted for told in ledger.wanted(0.1, 0)] == [21]
    ledger.fail()
    assert [(told.limit_id, told.wanted) for told in ledger.wanted(0.2, 0)] == [(1, 21)]
    assert refused(ledger, 100, two).reason is Reason.UNAVAILABLE
    ledger.apply([answer(0, 100)], 0.3)
    assert refused(ledger, 100, two).reason is Reason.ASK


def test_a_call_has_so_many_leases_and_the_rest_waits_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "BATCH_LEASES_MAX", 2)
    limits = [limit(number) for number in range(1, 6)]
    worker = Worker(Lender(*limits))
    worker.wall = worker.lender.now = 130.0
    worker.refused(*limits, tokens=10)
    assert [worker.refill() for _ in range(4)] == [2, 2, 1, 0]
    running = [take(worker.ledger, 10, one, at=130 * US) for one in limits]
    assert len(worker.ledger.surrender()) == 2
    for one in running:
        one.release()


def test_at_the_end_all_that_is_free_is_given_back_at_once() -> None:
    one, two, three = DAY, limit(2, period=Period.DAY), limit(3, period=Period.DAY)
    ledger = lent(40, 0, one, two, three)
    take(ledger, 40, two)
    take(ledger, 15, three)
    turn = ledger.turn
    told = {one.limit_id: one for one in ledger.surrender()}
    assert ledger.turn > turn
    assert {number: (one.wanted, one.acquired, one.unspent) for number, one in told.items()} == {
        1: (0, 0, 0),
        3: (0, 15, 15),
    }


def test_what_is_charged_under_a_hard_limit_is_asked_for_at_once() -> None:
    hard, soft = DAY, limit(period=Period.DAY, hard=False)
    ledger = lent(40, 0, hard)
    ledger.wanted(0.0, 0)
    ledger.charge([hard], None, None, 0, 5, 0)
    assert [told.unspent for told in ledger.wanted(0.1, 0)] == [35]
    # While it is soft what is used is only noted.
    ledger.charge([soft], None, None, 0, 5, 0)
    assert ledger.wanted(0.2, 0) == []
    assert ledger.free()[LimitKind.TOKENS] == 30
    ledger.charge([limit(2, hard=False), hard], None, None, 0, 5, 0)
    assert (len(ledger), ledger.free()[LimitKind.TOKENS]) == (1, 25)


def test_a_limit_that_is_gone_is_forgotten_and_is_there_again() -> None:
    soft = limit(period=Period.DAY, hard=False)
    ledger = lent(40)
    ledger.apply([answer(0, state=LeaseState.GONE)], 0.0)
    take(ledger, 900)
    ledger.wanted(1.0, 0)
    assert len(ledger) == 0
    ledger.charge([soft], None, None, 0, 5, 0)
    assert len(ledger) == 0
    assert refused(ledger, 900).reason is Reason.ASK


def test_a_request_counts_where_it_began() -> None:
    """On both sides of a window's end, whatever was looked at last."""
    minute = limit()
    ledger = lent(40, 0, minute)
    take(ledger, 1, minute, at=60 * US - 1)
    assert refused(ledger, 1, minute, at=60 * US).reason is Reason.ASK
    assert len(ledger) == 2
    take(ledger, 1, minute, at=0)
    assert refused(ledger, 1, minute, at=-1).reason is Reason.ASK
    assert len(ledger) == 3
