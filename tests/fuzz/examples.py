"""Hypothesis inside a running Trio program: examples are drawn in a thread and tried in the main task's run.

The same examples everywhere when `CI` is set; elsewhere new ones each time. A failure prints the example that
hypothesis shrank it to, which is bytes to paste into a test. `KARTA_FUZZ_FACTOR=20` looks longer.
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

_CHECKS_OFF = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


async def for_examples(
    strategy: SearchStrategy[Drawn], examine: Callable[[Drawn], Awaitable[Any]], *, examples: int
) -> None:
    """Await `examine` with `examples` values drawn from `strategy`, one after the other."""
    settings = hypothesis.settings(
        max_examples=examples * int(os.environ.get("KARTA_FUZZ_FACTOR", "1")),
        deadline=None,
        database=None,
        derandomize=bool(os.environ.get("CI")),
        suppress_health_check=_CHECKS_OFF,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )

    @settings
    @hypothesis.given(strategy)
    def each(drawn: Drawn) -> None:
        trio.from_thread.run(examine, drawn)

    await trio.to_thread.run_sync(each)
