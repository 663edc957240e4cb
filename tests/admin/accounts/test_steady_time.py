from __future__ import annotations

import pytest
import trio
import trio.testing

from admin.accounts.steady_time import ANSWER_SECONDS, steady_time


@pytest.mark.parametrize("work_seconds", [0.0, 0.1, ANSWER_SECONDS + 1])
def test_it_takes_as_long_whatever_is_done(work_seconds: float) -> None:
    async def measure() -> float:
        began = trio.current_time()
        async with steady_time():
            await trio.sleep(work_seconds)
        return trio.current_time() - began

    took = trio.run(measure, clock=trio.testing.MockClock(autojump_threshold=0))
    assert took == pytest.approx(max(ANSWER_SECONDS, work_seconds))
