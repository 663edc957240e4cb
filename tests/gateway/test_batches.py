"""What is put is written in its time, or counted; whoever puts it never waits."""

from __future__ import annotations

import threading

import pytest
import trio

from gateway.batches import QUEUE_MAX, Batches
from gateway.ended import Ended
from tests.support.gateway import PATIENCE_SECONDS

ONE = Ended(started_us=1, request_id=f"{1:032x}", status=200, outcome="completed")


class Held(Batches):
    """Writes when it may."""

    def __init__(self) -> None:
        super().__init__("held", 0.01)
        self.go = threading.Event()
        self.begun = threading.Event()

    def _write(self, batch: list[Ended]) -> None:
        self.begun.set()
        self.go.wait(30)


async def test_who_cannot_be_written_to_holds_up_nobody() -> None:
    held = Held()
    held.put(ONE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held.run)
        with trio.fail_after(PATIENCE_SECONDS):
            while not held.begun.is_set():
                await trio.sleep(0.005)
        for _ in range(QUEUE_MAX + 3):
            held.put(ONE)
        assert held.dropped == 3
        held.go.set()
        with trio.fail_after(PATIENCE_SECONDS):
            while held.written < QUEUE_MAX + 1:
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()


async def test_a_write_that_hangs_is_left_behind_at_the_end() -> None:
    held = Held()
    held.put(ONE)
    with trio.move_on_after(0.05) as waited:
        await held.flush()
    assert waited.cancelled_caught
    held.go.set()


async def test_a_fault_is_told_of_once_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Batches):
        fails = True

        def _write(self, batch: list[Ended]) -> None:
            if self.fails:
                raise RuntimeError("prompts and keys")

    failing = Failing("it fails", 1.0)
    for fails in (True, True, False, True):
        failing.fails = fails
        failing.put(ONE)
        await failing.flush()
    assert (failing.written, failing.dropped) == (1, 3)
    assert len(caplog.records) == 2
    assert "prompts" not in caplog.text
