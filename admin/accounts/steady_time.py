"""Answers that take the same time whatever is found, so that their time tells nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

ANSWER_SECONDS = 0.3
"""Some twenty times what the statements behind such an answer take."""


@asynccontextmanager
async def steady_time(seconds: float = ANSWER_SECONDS) -> AsyncIterator[None]:
    """Leaves when `seconds` have passed since it was entered, or later."""
    until = trio.current_time() + seconds
    yield
    await trio.sleep_until(until)
