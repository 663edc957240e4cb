"""Several turns of trio-asyncio's loop for each one of Trio's.

A statement takes asyncpg some ten callbacks, and trio-asyncio goes through Trio's scheduler, with a cancel
scope, for each: a good part of what a page of the admin server costs. Here callbacks that are ready run one
after the other, as in asyncio's own loop, up to `TURNS_MAX` before other tasks of Trio have their turn.

It stands on a method of the library that is not public. A release without it changes nothing but the speed;
a test notices.
"""

from __future__ import annotations

from typing import Any

import trio

TURNS_MAX = 32


def take_turns_together(loop: Any) -> None:
    """For a `trio_asyncio.TrioEventLoop` that runs."""
    turn = getattr(loop, "_main_loop_one", None)
    if turn is None:
        return

    async def turns(no_wait: bool = False) -> None:
        await turn(no_wait)
        try:
            for _ in range(TURNS_MAX - 1):
                await turn(True)
        except trio.WouldBlock:
            pass  # Nothing more is ready.

    loop._main_loop_one = turns
