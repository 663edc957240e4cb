from __future__ import annotations

import asyncio

import trio
import trio_asyncio

from storage.loop_turns import TURNS_MAX, take_turns_together


async def scheduled_between(callbacks: int, *, together: bool) -> int:
    """How often another task of Trio had its turn while so many callbacks ran."""
    done = trio.Event()
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while not done.is_set():
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio_asyncio.open_loop() as loop, trio.open_nursery() as nursery:
        if together:
            take_turns_together(loop)
            # The turn that waits already is the library's own.
            await loop.run_aio_coroutine(asyncio.sleep(0))

        def run(left: int) -> None:
            if left:
                loop.call_soon(run, left - 1)
            else:
                done.set()

        loop.call_soon(run, callbacks)
        await watch()
        nursery.cancel_scope.cancel()
    return turns


async def test_callbacks_run_together_and_yet_let_others_run() -> None:
    """With a release of trio-asyncio that has no such method the first of these would fail."""
    callbacks = 20 * TURNS_MAX
    assert 10 <= await scheduled_between(callbacks, together=True) <= 60
    assert await scheduled_between(callbacks, together=False) >= callbacks


async def test_timers_run_when_they_are_due() -> None:
    async with trio_asyncio.open_loop() as loop:
        take_turns_together(loop)
        ran: list[int] = []
        done = trio.Event()
        loop.call_later(0.02, ran.append, 2)
        loop.call_later(0.04, done.set)
        loop.call_soon(ran.append, 1)
        with trio.fail_after(60):
            await done.wait()
        assert ran == [1, 2]


async def test_a_loop_without_that_method_stays_as_it_is() -> None:
    class Other:
        pass

    other = Other()
    take_turns_together(other)
    assert vars(other) == {}
