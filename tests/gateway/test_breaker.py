"""Breakers: watched on suspicion, opened by a share of failures, and closed by one request that succeeds."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.breaker import BREAKERS_MAX, TRANSITIONS, BreakerPolicy, Breakers, State

POLICY = BreakerPolicy()
KEY = "anthropic"


class Bench:
    def __init__(self, policy: BreakerPolicy = POLICY) -> None:
        self.now = 100.0
        self.breakers = Breakers(policy, lambda: self.now)

    def fail(self, times: int, key: str = KEY) -> None:
        for _ in range(times):
            self.breakers.failed(key)

    def succeed(self, times: int) -> None:
        for _ in range(times):
            self.breakers.succeeded(KEY)

    def watch(self) -> None:
        self.fail(POLICY.suspicious_failures)
        assert self.state is State.WATCHED

    def open(self) -> None:
        self.watch()
        self.fail(POLICY.requests_min)
        assert self.state is State.OPEN

    @property
    def state(self) -> State:
        return self.breakers.state(KEY)


def test_a_failure_now_and_then_changes_nothing() -> None:
    bench = Bench()
    for _ in range(100):
        bench.fail(POLICY.suspicious_failures - 1)
        bench.now += POLICY.window_seconds + 1
    assert bench.state is State.TRUSTED
    assert not bench.breakers.suspects
    assert bench.breakers.admit(KEY) == 0


def test_who_fails_often_enough_is_refused_and_then_tried_by_one() -> None:
    bench = Bench()
    bench.watch()
    assert bench.breakers.admit(KEY) == 0
    bench.fail(POLICY.requests_min - 1)
    assert bench.state is State.WATCHED
    bench.fail(1)
    assert bench.breakers.admit(KEY) == bench.breakers.wait(KEY) == POLICY.open_seconds
    assert (bench.breakers.open, bench.breakers.opened) == (1, 1)
    bench.now += POLICY.open_seconds
    assert bench.breakers.wait(KEY) == 0
    assert bench.state is State.OPEN
    assert bench.breakers.admit(KEY) == 0
    assert bench.state is State.HALF_OPEN
    assert bench.breakers.admit(KEY) > 0
    bench.succeed(1)
    assert bench.state is State.TRUSTED
    assert not bench.breakers.suspects
    assert bench.breakers.open == 0


def test_each_failed_trial_doubles_the_time() -> None:
    bench = Bench()
    bench.open()
    waits = []
    for _ in range(6):
        waits.append(bench.breakers.wait(KEY))
        bench.now += waits[-1]
        assert bench.breakers.admit(KEY) == 0
        bench.fail(1)
    assert waits == [5, 10, 20, 40, 60, 60]
    bench.now += 60
    bench.breakers.admit(KEY)
    bench.succeed(1)
    bench.open()
    assert bench.breakers.wait(KEY) == 5


def test_a_trial_without_a_verdict_does_not_last_for_ever() -> None:
    bench = Bench()
    bench.open()
    bench.now += POLICY.open_seconds
    assert bench.breakers.admit(KEY) == 0
    assert bench.breakers.admit(KEY) == POLICY.open_seconds
    bench.now += POLICY.open_seconds
    assert bench.breakers.admit(KEY) == 0
    assert bench.breakers.admit(KEY) > 0


def test_answers_to_what_was_sent_before_change_nothing_while_it_is_open() -> None:
    bench = Bench()
    bench.open()
    bench.succeed(5)
    bench.fail(5)
    assert (bench.state, bench.breakers.opened) == (State.OPEN, 1)


def test_a_small_share_of_failures_is_forgiven_and_watched_ever_more_seldom() -> None:
    bench = Bench()
    watched = 0.0
    for _ in range(3600 * 10):
        bench.now += 0.1
        bench.fail(1)
        bench.succeed(4)
        bench.breakers.admit(KEY)
        watched += 0.1 if bench.state is State.WATCHED else 0.0
        assert bench.breakers.opened == 0
    assert 0 < watched < 3600 * 0.05


def test_who_is_watched_and_says_nothing_more_is_trusted_again() -> None:
    bench = Bench()
    bench.watch()
    bench.now += POLICY.window_seconds + 1
    assert bench.breakers.admit(KEY) == 0
    assert bench.state is State.TRUSTED


def test_one_s_trouble_is_not_another_s() -> None:
    bench = Bench()
    bench.open()
    assert bench.breakers.admit("other") == 0
    assert bench.breakers.state("other") is State.TRUSTED


def test_an_answer_that_broke_off_is_one_request() -> None:
    bench = Bench()
    bench.watch()
    for number in range(POLICY.requests_min):
        bench.succeed(1)
        if number % 2:
            bench.breakers.failed(KEY, counted=True)
    assert bench.state is State.OPEN


def test_it_can_be_turned_off() -> None:
    bench = Bench(BreakerPolicy(failure_share=0))
    bench.fail(1000)
    assert bench.state is State.TRUSTED
    assert len(bench.breakers) == 0


def test_no_more_than_so_many_are_known() -> None:
    bench = Bench()
    bench.open()
    for number in range(BREAKERS_MAX + 10):
        bench.fail(1, f"k{number}")
    assert len(bench.breakers) == BREAKERS_MAX
    assert not bench.breakers.suspects
    assert bench.state is State.TRUSTED


@given(st.lists(st.tuples(st.sampled_from("fsaw"), st.floats(0, 20)), max_size=300))
def test_whatever_happens_suspects_are_those_not_trusted(steps: list[tuple[str, float]]) -> None:
    bench = Bench(BreakerPolicy(requests_min=3, suspicious_failures=2))
    for step, pause in steps:
        before = bench.state
        bench.now += pause
        match step:
            case "f":
                bench.fail(1)
            case "s":
                bench.succeed(1)
            case "a":
                bench.breakers.admit(KEY)
            case _:
                assert bench.breakers.wait(KEY) >= 0
        after = bench.state
        assert after is before or after in TRANSITIONS[before].values()
        assert (after is State.TRUSTED) == (KEY not in bench.breakers.suspects)


def test_every_state_can_be_left_and_reached() -> None:
    reached = set(itertools.chain.from_iterable(moves.values() for moves in TRANSITIONS.values()))
    assert reached == set(TRANSITIONS) == set(State)
