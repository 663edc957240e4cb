"""One place for a worker, with processes that only say what a worker says."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from gateway import slot as slot_module
from gateway.shared_keys import SharedKeys
from gateway.slot import Launch, Slot, WorkerFailed, WorkerProcess
from tests.support.gateway import poll
from tests.support.gateway_process import children_of

PREAMBLE = """
import signal, socket, sys, time
from gateway.control import _encoder, Serving
line = socket.socket(fileno=int(sys.argv[1]))
line.recv(65536)
"""
SERVES = PREAMBLE + "line.send(_encoder.encode(Serving()))\n"
LIVES = SERVES + "signal.pause()\n"
DIES = SERVES + "sys.exit(3)\n"
NEVER_SERVES = PREAMBLE + "signal.pause()\n"


def launch(program: str, tmp_path: Path) -> Launch:
    script = tmp_path / "program.py"
    script.write_text(program)
    return Launch([sys.executable, str(script)], dict(os.environ), {}, [])


@asynccontextmanager
async def running(slot: Slot) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slot.keep)
        yield
        slot.stopping = True
        nursery.cancel_scope.cancel()


def slot_for(program: str, tmp_path: Path) -> Slot:
    return Slot(
        0, launch(program, tmp_path), SharedKeys(1, 10), lambda _worker, _message: None, lambda _worker: None
    )


async def test_one_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    slot = slot_for("import sys; sys.exit(4)", tmp_path)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with running(slot):
            await trio.sleep_forever()
    assert caught.group_contains(WorkerFailed, match="gateway worker 0 ended before it served")


async def test_a_first_one_that_served_and_died_at_once_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = slot_for(DIES, tmp_path)

    async def until_ended(worker: WorkerProcess) -> None:
        """As when both are told in one go."""
        await worker.ended.wait()
        monkeypatch.undo()
        slot._launch = launch(LIVES, tmp_path)

    monkeypatch.setattr(slot, "_settle", until_ended)
    async with running(slot):
        await poll(lambda: slot.restarts == 1 and slot.serves)


async def test_one_that_dies_is_followed_by_another_further_and_further_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    asked = trio.Event()

    class Backoff(tuple[float, ...]):
        def __getitem__(self, at):  # type: ignore[no-untyped-def]
            waits.append(float(tuple.__getitem__(self, at)))
            if len(waits) == 6:
                asked.set()
            return 0.0

    monkeypatch.setattr(slot_module, "BACKOFF_SECONDS", Backoff((0.0, 1.0, 2.0, 3.0)))
    slot = slot_for(LIVES, tmp_path)
    async with running(slot):
        await poll(lambda: slot.serves)
        assert slot.current is not None
        slot._launch = launch(DIES, tmp_path)
        slot.current.signal(signal.SIGKILL)
        await asked.wait()
    assert waits[:6] == [0.0, 1.0, 2.0, 3.0, 3.0, 3.0]
    assert "gateway worker 0 ended (exit code 3); another takes its place" in caplog.text


async def test_one_that_was_steady_is_followed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_module, "STEADY_SECONDS", 0.0)
    monkeypatch.setattr(slot_module, "BACKOFF_SECONDS", (0.0, 1000.0))
    slot = slot_for(LIVES, tmp_path)
    async with running(slot):
        for restarts in range(3):
            await poll(lambda: slot.serves)
            assert slot.restarts == restarts
            assert slot.current is not None
            before = slot.current
            before.signal(signal.SIGKILL)
            await poll(lambda before=before: slot.current is not before)  # type: ignore[misc]


async def test_what_cannot_replace_it_is_stopped_and_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = slot_for(LIVES, tmp_path)
    async with running(slot):
        await poll(lambda: slot.serves)
        before = slot.current
        slot._launch = launch("import sys; sys.exit(5)", tmp_path)
        assert not await slot.replace()
        monkeypatch.setattr(slot_module, "ABLE_SECONDS_MAX", 0.1)
        slot._launch = launch(NEVER_SERVES, tmp_path)
        assert not await slot.replace()
        await poll(lambda: slot.all == [before])
        assert slot.current is before
        assert slot.serves


async def test_too_many_that_retire_are_hurried(tmp_path: Path) -> None:
    """These do not end by themselves."""
    slot = slot_for(LIVES, tmp_path)
    async with running(slot):
        await poll(lambda: slot.serves)
        for _ in range(slot_module.RETIRING_MAX + 2):
            assert await slot.replace()
        await poll(lambda: len(slot.all) == slot_module.RETIRING_MAX + 1)


async def test_replacing_leaves_nothing_behind(tmp_path: Path) -> None:
    slot = slot_for(LIVES.replace("signal.pause()", "line.recv(65536); line.recv(65536)"), tmp_path)
    async with running(slot):
        await poll(lambda: slot.serves)
        before, processes = count_descriptors(), children_of(os.getpid())
        for _ in range(3):
            # It ends when it is told to retire.
            assert await slot.replace()
            await poll(lambda: len(slot.all) == 1)
        await poll(lambda: count_descriptors() == before)
        assert len(children_of(os.getpid())) == len(processes)


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_nothing_is_left_when_it_is_cancelled(tmp_path: Path) -> None:
    before = children_of(os.getpid())
    slot = slot_for(LIVES, tmp_path)
    async with running(slot):
        await poll(lambda: slot.serves)
        assert len(children_of(os.getpid()) - before) == 1
    assert children_of(os.getpid()) <= before


async def test_one_without_a_program_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slot = slot_for("", tmp_path)
    slot._launch = Launch([str(tmp_path / "nothing")], {}, {}, [])
    with pytest.raises(BaseExceptionGroup):
        async with running(slot):
            await trio.sleep_forever()
    assert "gateway worker 0 cannot be started: No such file or directory" in caplog.text


def test_what_workers_are_told_is_in_no_repr() -> None:
    assert "secret" not in repr(Launch(["karta"], {"A": "secret"}, {"database_url": "secret"}, []))
