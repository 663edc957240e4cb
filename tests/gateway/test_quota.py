"""The ledger alone, without clock and database: what it admits, asks for, gives back and forgets."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from gateway.quota import IDLE_SECONDS, RENEW_SECONDS, Ledger, Reason, Shortage, find_window
from gateway.reservation import Reservation
from storage.leases import LeaseRequest
from storage.model import LimitKind, Period
from tests.gateway.lender import US, Lender, Worker, limit


def test_reserve_ask_settle() -> None:
    tokens = limit()
    worker = Worker(Lender(tokens))
    shortage = worker.refused(tokens, tokens=100)
    assert (shortage.reason, shortage.limit) == (Reason.ASK, tokens)
    assert worker.refill() == 1
    first = worker.admit(tokens, tokens=100)
    second = worker.admit(tokens, tokens=100)
    assert worker.ledger.reserved()[LimitKind.TOKENS] == 200
    left, seconds = worker.ledger.remaining(tokens, 15 * US)
    assert (left, seconds) == (800, 45)
    first.settle(30, 0)
    second.release()
    first.settle(100, 0)
    second.settle(100, 0)
    assert worker.ledger.remaining(tokens, 0)[0] == 970
    assert worker.ledger.reserved()[LimitKind.TOKENS] == 0


def test_all_limits_or_none() -> None:
    one, two = limit(1), limit(2, kind=LimitKind.REQUESTS, amount=1)
    worker = Worker(Lender(one, two))
    worker.admit(one, two, tokens=100)
    before = worker.ledger.remaining(one, 0)
    assert worker.refused(one, two, tokens=100).limit == two
    assert worker.ledger.remaining(one, 0) == before


def test_what_does_not_concern_a_request_is_passed_over() -> None:
    soft, other = limit(1, hard=False, amount=1), limit(2, model="b", amount=1)
    worker = Worker(Lender(soft, other))
    for _ in range(3):
        worker.admit(soft, other, tokens=1000, model="a").settle(1000, 0)
    assert len(worker.ledger) == 0
    assert worker.refused(soft, other, tokens=1000, model="b").reason is Reason.TOO_LARGE


def test_each_kind_counts_its_own() -> None:
    limits = [
        limit(number, kind=kind, period=Period.NONE if kind is LimitKind.CONCURRENT else Period.MINUTE)
        for number, kind in enumerate(LimitKind, 1)
    ]
    worker = Worker(Lender(*limits))
    held = worker.admit(*limits, tokens=10, picodollars=20)
    assert worker.ledger.reserved() == {
        LimitKind.REQUESTS: 1,
        LimitKind.TOKENS: 10,
        LimitKind.CONCURRENT: 1,
        LimitKind.MONEY: 20,
        LimitKind.CREDIT: 20,
    }
    held.settle(7, 9)
    left = {one.kind: worker.ledger.remaining(one, 0)[0] for one in limits}
    assert left == {
        LimitKind.REQUESTS: 999,
        LimitKind.TOKENS: 993,
        LimitKind.CONCURRENT: 1000,
        LimitKind.MONEY: 991,
        LimitKind.CREDIT: 991,
    }


def test_the_metrics_sum_over_all_accounts() -> None:
    limits = [limit(number, kind=kind) for number, kind in enumerate([LimitKind.TOKENS] * 3, 1)]
    limits.append(limit(4, kind=LimitKind.REQUESTS))
    worker = Worker(Lender(*limits))
    none = dict.fromkeys(LimitKind, 0)
    assert (worker.ledger.free(), worker.ledger.reserved()) == (none, none)
    # Four times what was needed is asked for, and less what the request took is free.
    worker.admit(*limits, tokens=10)
    assert worker.ledger.free() == none | {LimitKind.TOKENS: 90, LimitKind.REQUESTS: 3}
    assert worker.ledger.reserved() == none | {LimitKind.TOKENS: 30, LimitKind.REQUESTS: 1}
    # What one owes is not taken from what others have.
    worker.admit(limits[0], tokens=10).settle(100, 0)
    assert worker.ledger.free() == none | {LimitKind.TOKENS: 60, LimitKind.REQUESTS: 3}


def test_what_is_left_of_a_limit_that_nobody_has_used_is_all() -> None:
    minute, ever = limit(1), limit(2, kind=LimitKind.CONCURRENT, period=Period.NONE, amount=7)
    ledger = Ledger(0)
    assert ledger.remaining(minute, 30 * US) == (1000, 30.0)
    assert ledger.remaining(ever, 30 * US) == (7, 0.0)


def test_exhausted_until_that_word_is_old() -> None:
    requests = limit(kind=LimitKind.REQUESTS, amount=2)
    worker = Worker(Lender(requests))
    worker.wall = worker.lender.now = 15.0
    worker.admit(requests).settle(0, 0)
    worker.admit(requests).settle(0, 0)
    worker.refill()
    shortage = worker.refused(requests)
    assert (shortage.reason, shortage.retry_after) == (Reason.EXHAUSTED, 45.0)
    worker.pass_time(1)
    worker.refill()
    assert worker.refused(requests).reason is Reason.ASK
    worker.pass_time(44)
    worker.admit(requests)


def test_what_is_exhausted_is_asked_again_while_more_is_about_to_come_back() -> None:
    requests = limit(kind=LimitKind.REQUESTS, amount=2)
    worker, dead = Worker(Lender(requests)), "dead"
    worker.lender.settle(dead, 1, [LeaseRequest(1, 0, 1, 0, 0, 2, 2)])
    assert worker.refused(requests).reason is Reason.ASK
    worker.refill()
    assert worker.refused(requests).reason is Reason.EXHAUSTED
    worker.ledger.doubts = True
    assert worker.refused(requests).reason is Reason.ASK
    worker.lender.release(dead)
    worker.refill()
    worker.admit(requests)


def test_a_free_request_passes_a_spent_limit() -> None:
    money = limit(kind=LimitKind.MONEY, period=Period.DAY, amount=10)
    worker = Worker(Lender(money))
    worker.admit(money, picodollars=10).settle(0, 25)
    worker.refill()
    worker.admit(money, picodollars=0).settle(0, 0)
    worker.refused(money, picodollars=1)


def test_what_cost_more_is_repaid() -> None:
    tokens = limit()
    worker = Worker(Lender(tokens))
    worker.admit(tokens, tokens=100).settle(500, 0)
    assert worker.ledger.remaining(tokens, 0)[0] == 500
    worker.lender.account("worker", 1, 0, 500)
    worker.admit(tokens, tokens=500)
    assert worker.lender.committed((1, 0)) == 1000
    worker.refill()
    assert worker.refused(tokens, tokens=1).reason is Reason.EXHAUSTED


def test_what_was_not_reserved_is_charged() -> None:
    money, streams, soft, other = (
        limit(1, kind=LimitKind.MONEY, period=Period.DAY),
        limit(2, kind=LimitKind.CONCURRENT, period=Period.NONE),
        limit(3, hard=False),
        limit(4, model="b"),
    )
    reserved = limit(5, kind=LimitKind.REQUESTS)
    everything = [streams, soft, other, reserved, money]
    worker = Worker(Lender(*everything))
    held = worker.admit(reserved)
    # Meanwhile the others were set.
    worker.ledger.charge(everything, held, "a", 0, 5, 300)
    held.settle(5, 300)
    assert len(worker.ledger) == 2
    worker.refill()
    worker.lender.account("worker", 1, 0, 300)
    worker.lender.account("worker", 5, 0, 1)
    assert worker.ledger.remaining(reserved, 0)[0] == 999
    assert worker.ledger.remaining(money, 0)[0] <= 700
    assert worker.lender.committed((1, 0)) >= 300
    # Nor need anything have been reserved.
    worker.ledger.charge([money], None, "a", 0, 5, 200)
    assert worker.ledger.remaining(money, 0)[0] <= 500


def test_a_limit_that_was_soft_for_a_while_knows_what_was_used() -> None:
    hard = limit(kind=LimitKind.REQUESTS, period=Period.DAY, amount=6)
    soft = limit(kind=LimitKind.REQUESTS, period=Period.DAY, amount=6, hard=False)
    worker = Worker(Lender(hard))
    worker.admit(hard).settle(0, 0)
    for _ in range(3):
        held = worker.reserve(soft)
        assert isinstance(held, Reservation)
        worker.ledger.charge([soft], held, None, 0, 0, 0)
        held.settle(0, 0)
    worker.lender.account("worker", 1, 0, 4)
    for _ in range(2):
        worker.admit(hard).settle(0, 0)
        worker.lender.account("worker", 1, 0, 1)
    worker.refused(hard)
    worker.refill()
    assert worker.refused(hard).reason is Reason.EXHAUSTED
    assert worker.lender.committed((1, 0)) == 6


def test_the_database_is_away() -> None:
    tokens = limit()
    worker = Worker(Lender(tokens))
    worker.admit(tokens, tokens=10)
    worker.ledger.wanted(worker.now, 0)
    worker.ledger.fail()
    # What is held goes on being used.
    worker.admit(tokens, tokens=10)
    assert worker.refused(tokens, tokens=900).reason is Reason.UNAVAILABLE
    worker.refill()
    worker.admit(tokens, tokens=900)


def test_a_clock_that_is_wrong_and_a_limit_that_is_gone() -> None:
    tokens = limit()
    worker = Worker(Lender(tokens))
    worker.wall = 7200.0
    worker.refused(tokens, tokens=1)
    worker.refill()
    assert worker.refused(tokens, tokens=1).reason is Reason.UNAVAILABLE
    worker.wall = 0.0
    worker.admit(tokens, tokens=1)
    del worker.lender.limits[1]
    worker.refused(tokens, tokens=900)
    worker.refill()
    worker.admit(tokens, tokens=900)
    worker.pass_time(1)
    worker.refill()
    assert len(worker.ledger) == 1  # the one of the wrong time
    worker.lender.limits[1] = tokens
    worker.admit(tokens, tokens=900)


def test_what_is_not_used_is_given_back_and_forgotten() -> None:
    day = limit(period=Period.DAY, amount=1_000_000)
    worker = Worker(Lender(day))
    for _ in range(100):
        worker.admit(day, tokens=100).settle(100, 0)
    worker.lender.account("worker", 1, 0, 10_000)
    assert worker.held(day) > 0
    for _ in range(int(IDLE_SECONDS) + 10):
        worker.pass_time(1)
        worker.refill()
    assert worker.held(day) == 0
    assert len(worker.ledger) == 0
    assert worker.refill() == 0
    # And comes back as one who has forgotten.
    worker.admit(day, tokens=100)
    assert worker.lender.committed((1, 0)) == 10_000 + worker.held(day)


def test_what_went_back_while_the_database_was_away_goes_back_once_it_is_there() -> None:
    day = limit(period=Period.DAY, amount=1_000_000)
    worker = Worker(Lender(day))
    for _ in range(100):
        worker.admit(day, tokens=100).settle(100, 0)
    worker.lender.account("worker", 1, 0, 10_000)
    for second in range(2 * int(IDLE_SECONDS) + 20):
        worker.pass_time(1)
        if IDLE_SECONDS - 3 <= second < IDLE_SECONDS + 10:
            worker.ledger.wanted(worker.now, int(worker.wall * US))
            worker.ledger.fail()
        else:
            worker.refill()
    assert worker.held(day) == 0
    assert len(worker.ledger) == 0


def test_a_changed_limit_holds_from_the_next_request_on() -> None:
    day = limit(period=Period.DAY, kind=LimitKind.REQUESTS, amount=1000)
    worker = Worker(Lender(day))
    for _ in range(50):
        worker.admit(day).settle(0, 0)
    running = worker.admit(day)
    worker.refill()
    worker.lender.account("worker", 1, 0, 50)
    assert worker.held(day) > 2
    lower = limit(period=Period.DAY, kind=LimitKind.REQUESTS, amount=52)
    worker.lender.limits[1] = lower
    worker.admit(lower).settle(0, 0)
    worker.refused(lower)
    worker.refill()
    assert worker.refused(lower).reason is Reason.EXHAUSTED
    higher = limit(period=Period.DAY, kind=LimitKind.REQUESTS, amount=53)
    worker.lender.limits[1] = higher
    worker.admit(higher).settle(0, 0)
    running.settle(0, 0)
    worker.lender.account("worker", 1, 0, 3)
    assert worker.lender.committed((1, 0)) == 53


@pytest.mark.parametrize(
    ("kind", "period"),
    [
        (LimitKind.CONCURRENT, Period.NONE),
        (LimitKind.REQUESTS, Period.MINUTE),
        (LimitKind.TOKENS, Period.DAY),
    ],
)
@pytest.mark.parametrize("amount", [1, 2, 5])
def test_of_a_small_limit_nothing_is_kept_from_others(kind: LimitKind, period: Period, amount: int) -> None:
    small = limit(kind=kind, period=period, amount=amount)
    lender = Lender(small)
    idle, busy = Worker(lender, "idle"), Worker(lender, "busy")
    used = idle.admit(small, tokens=1)
    used.release()
    for _ in range(2):
        lender.now += 1
        for worker in (idle, busy):
            worker.now += 1
            worker.refill()
    for _ in range(amount):
        busy.admit(small, tokens=1)
    assert busy.refused(small, tokens=1).limit == small


def test_leases_in_use_are_renewed() -> None:
    streams = limit(kind=LimitKind.CONCURRENT, period=Period.NONE, amount=10)
    worker = Worker(Lender(streams))
    held = worker.admit(streams)
    for _ in range(20):
        worker.pass_time(RENEW_SECONDS / 2)
        worker.refill()
    assert worker.lender.leases[1, 0]["worker"].expires_at >= worker.lender.now
    held.settle(0, 0)


def test_what_waits_for_a_later_call_is_granted_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.quota.BATCH_LEASES_MAX", 1)
    limits = [limit(number) for number in (1, 2, 3)]
    worker = Worker(Lender(*limits))
    for one in limits:
        # Half of what is left, which is what is lent without a minimum, would not do.
        Worker(worker.lender, "other").admit(one, tokens=200)
        assert worker.refused(one, tokens=500).reason is Reason.ASK
    assert [worker.refill() for _ in limits] == [1, 1, 1]
    for one in limits:
        assert isinstance(worker.reserve(one, tokens=500), Reservation)


def test_at_the_end_all_that_is_free_goes_back() -> None:
    tokens = limit()
    worker = Worker(Lender(tokens))
    running = worker.admit(tokens, tokens=100)
    requests = worker.ledger.surrender()
    worker.ledger.apply(worker.lender.settle("worker", worker.ledger.turn, requests), worker.now)
    assert worker.held(tokens) == 100
    running.settle(40, 0)
    assert worker.ledger.surrender() != []
    assert worker.ledger.surrender() == []


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        (Period.MINUTE, datetime(2028, 2, 29, 23, 59, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        (Period.DAY, datetime(2028, 2, 29, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        (Period.MONTH, datetime(2028, 12, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)),
    ],
)
def test_windows(period: Period, start: datetime, end: datetime) -> None:
    bounds = int(start.timestamp()) * US, int(end.timestamp()) * US
    assert find_window(period, bounds[0]) == find_window(period, bounds[1] - 1) == bounds
    assert find_window(period, bounds[1])[0] == bounds[1]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Los_Angeles"])
def test_windows_are_those_of_utc_wherever_the_worker_is(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    start, end = datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        found = find_window(Period.MONTH, int(start.timestamp()) * US + 1)
    time.tzset()
    assert found == (int(start.timestamp()) * US, int(end.timestamp()) * US)


@given(st.integers(0, 4 * 10**15), st.sampled_from(Period))
def test_a_window_holds_its_moment(moment: int, period: Period) -> None:
    start, end = find_window(period, moment)
    assert start <= moment < end
    assert find_window(period, start) == find_window(period, end - 1) == (start, end)


class Ledgers(RuleBasedStateMachine):
    """Two workers, one database, and everything that may go wrong between them."""

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.limits = [
            limit(1, amount=300, period=Period.DAY),
            limit(2, kind=LimitKind.REQUESTS, amount=4),
            limit(3, kind=LimitKind.CONCURRENT, period=Period.NONE, amount=5),
        ]
        self.lender = Lender(*self.limits, now=600.0)
        self.lives = 0
        self.workers = [self.start(), self.start()]
        # What really happened, by window: used by requests that ended, and the most the running ones may use.
        self.used: dict[tuple[int, int], int] = {}
        self.in_flight: dict[tuple[int, int], int] = {}
        self.journals: dict[str, list[tuple[int, int, int]]] = {}

    def start(self) -> Worker:
        self.lives += 1
        worker = Worker(self.lender, f"worker {self.lives}")
        worker.wall = self.lender.now
        return worker

    @rule(target=running, number=st.integers(0, 1), tokens=st.integers(0, 120))
    def admit(self, number: int, tokens: int) -> Any:
        worker = self.workers[number]
        start = int(worker.wall)
        found = worker.reserve(*self.limits, tokens=tokens)
        if isinstance(found, Shortage):
            worker.refill()
            found = worker.reserve(*self.limits, tokens=tokens)
        if isinstance(found, Shortage):
            return None
        windows = [((1, start // 86_400 * 86_400), tokens), ((2, start // 60 * 60), 1), ((3, 0), 1)]
        for window, need in windows:
            self.in_flight[window] = self.in_flight.get(window, 0) + need
        return worker, found, windows

    @rule(one=running, share=st.floats(0, 1), released=st.booleans())
    def end(self, one: Any, share: float, released: bool) -> None:
        if one is None or one[0] not in self.workers or not one[1].holds:
            return
        worker, reservation, windows = one
        tokens = int(windows[0][1] * share)
        if released:
            reservation.release()
        else:
            reservation.settle(tokens, 0)
        for (window, need), used in zip(windows, (tokens, 1, 0), strict=True):
            self.in_flight[window] -= need
            if not released:
                self.used[window] = self.used.get(window, 0) + used
                if window[0] != 3:
                    self.journals.setdefault(worker.name, []).append((*window, used))

    @rule(number=st.integers(0, 1), tokens=st.integers(0, 120), count=st.integers(1, 6))
    def serve(self, number: int, tokens: int, count: int) -> None:
        """Some requests, one after the other."""
        for _ in range(count):
            self.end(self.admit(number, tokens), 1.0, False)

    @rule(number=st.integers(0, 1), fate=st.sampled_from(["answered", "answered", "unheard", "unsent"]))
    def refill(self, number: int, fate: str) -> None:
        worker = self.workers[number]
        requests = worker.ledger.wanted(worker.now, int(worker.wall * US))
        answers = [] if fate == "unsent" else self.lender.settle(worker.name, worker.ledger.turn, requests)
        if fate == "answered":
            worker.ledger.apply(answers, worker.now)
        else:
            worker.ledger.fail()

    @rule(number=st.integers(0, 1))
    def ship(self, number: int) -> None:
        self.ship_journal(self.workers[number].name)

    def ship_journal(self, name: str) -> None:
        for row in self.journals.pop(name, []):
            self.lender.account(name, *row)

    @rule(seconds=st.sampled_from([0.1, 0.1, 1.0, 1.0, 7.0, 30.0, 70.0]))
    def pass_time(self, seconds: float) -> None:
        self.lender.now += seconds
        for worker in self.workers:
            worker.now += seconds
            worker.wall += seconds

    @rule(number=st.integers(0, 1), seconds=st.sampled_from([-61.0, -5.0, 5.0, 59.0]))
    def step_clock(self, number: int, seconds: float) -> None:
        self.workers[number].wall = max(0.0, self.workers[number].wall + seconds)

    @rule(number=st.integers(0, 1), successor=st.booleans())
    def kill(self, number: int, successor: bool) -> None:
        """A process dies with all it had in memory. Its journal is found by a successor, or not yet."""
        worker = self.workers[number]
        self.workers[number] = self.start()
        for known in list(self.in_flight):
            self.in_flight[known] -= sum(
                account.reserved
                for account in worker.ledger._accounts.values()
                if (account.limit.limit_id, account.start_us // US) == known
            )
        if successor:
            self.ship_journal(worker.name)
            self.lender.release(worker.name)

    @precondition(lambda self: self.journals)
    @rule()
    def find_journals(self) -> None:
        living = {worker.name for worker in self.workers}
        for name in list(self.journals):
            self.ship_journal(name)
            if name not in living:
                self.lender.release(name)

    @invariant()
    def never_more_than_the_limit(self) -> None:
        for window in self.in_flight:
            if window[0] == 3:
                continue  # streams of a silent worker are lent a second time: see below
            amount = self.lender.limits[window[0]].amount
            assert self.used.get(window, 0) + self.in_flight[window] <= amount

    @invariant()
    def the_database_says_so_too(self) -> None:
        for window in self.lender.leases:
            if window[0] != 3:
                assert self.lender.committed(window) <= self.lender.limits[window[0]].amount

    def teardown(self) -> None:
        """When all have gone and all journals are stored, exactly what was used is spent."""
        for name in [worker.name for worker in self.workers] + [f"worker {n}" for n in range(self.lives + 1)]:
            self.ship_journal(name)
            self.lender.release(name)
        for window, used in self.used.items():
            assert self.lender.committed(window) == (0 if window[0] == 3 else used)


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(
    max_examples=2 * settings().max_examples, stateful_step_count=60, deadline=None
)
