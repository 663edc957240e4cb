"""A loop that is held is seen, and for how long."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from gateway.loop_lag import PERIOD_SECONDS, SPAN_SECONDS, LoopLag
from gateway.stages import BOUNDS_US


def test_the_worst_is_kept_for_a_span_and_not_for_ever() -> None:
    lag = LoopLag()
    lag.note(0.5, 0.0)
    lag.note(0.1, 1.0)
    assert lag.worst == 0.5
    lag.note(0.2, SPAN_SECONDS + 1)
    assert lag.worst == 0.5
    lag.note(0.0, 2 * SPAN_SECONDS + 2)
    assert lag.worst == 0.2
    assert sum(lag.histogram.counts) == 4


def test_a_loop_that_is_held_is_seen() -> None:
    """The clock goes on while nothing else does: what a computation of that length looks like."""
    lag = LoopLag()
    clock = MockClock()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lag.run)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(PERIOD_SECONDS)
            await trio.testing.wait_all_tasks_blocked()
            assert lag.worst == 0.0
            clock.jump(PERIOD_SECONDS + 0.7)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=clock)
    assert lag.worst == pytest.approx(0.7)
    assert sum(lag.histogram.counts) == 2
    assert lag.histogram.counts[BOUNDS_US.index(1_000_000)] == 1
