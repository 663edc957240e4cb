"""Hypothesis inside a running Trio program: examples are drawn in a thread and tried in the main task's run.

The same examples each time, or new ones and that many times more where `tox -e explore` asks for it. A failure prints
the example that hypothesis shrank it to, which is bytes to paste into a test.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import hypothesis
import trio
from hypothesis import HealthCheck, Phase
from hypothesis.strategies import SearchStrategy

Drawn = TypeVar("Drawn")

FACTOR = int(os.environ.get("KARTA_TEST_EXPLORE", "0"))
"""0: the examples of last time."""
_CHECKS_OFF = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


async def for_examples(
    strategy: SearchStrategy[Drawn], examine: Callable[[Drawn], Awaitable[Any]], *, examples: int
) -> None:
    """Await `examine` with `examples` values drawn from `strategy`, one after the other."""
    settings = hypothesis.settings(
        max_examples=examples * max(FACTOR, 1),
        deadline=None,
        database=None,
        derandomize=not FACTOR,
        suppress_health_check=_CHECKS_OFF,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )

    @settings
    @hypothesis.given(strategy)
    def each(drawn: Drawn) -> None:
        trio.from_thread.run(examine, drawn)

    await trio.to_thread.run_sync(each)
