"""A supervised child: ready, restarted, given up, and stopped in every way."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from karta.service import RESTARTS_MAX, Launch, Program, ServiceFailed, ready_line, running

SERVE = 'import signal\nprint(\'{"url": "http://127.0.0.1:%s"}\', flush=True)\nsignal.pause()'
PATIENCE_SECONDS = 30


def program(
    code: str, *, log: Path | None = None, stop_seconds_max: float = 20, first_starts_max: int = 1
) -> Program:
    """`%s` in the code becomes the port: 1 at first, afterwards that of the first start."""

    def launch(earlier: str | None) -> Launch:
        port = "1" if earlier is None else f"{earlier.rpartition(':')[2]}1"
        return Launch([sys.executable, "-S", "-c", code.replace("%s", port)], {"PATH": os.defpath})

    return Program(
        "example",
        launch,
        ready_line("url"),
        log=log,
        stop_seconds_max=stop_seconds_max,
        first_starts_max=first_starts_max,
    )


async def test_it_runs_inside_the_context_and_only_there() -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        async with running(program(SERVE)) as service:
            assert await service.ready() == "http://127.0.0.1:1"
            process = service.process
            assert process is not None
            assert process.poll() is None
        assert process.returncode == -signal.SIGTERM


async def test_it_is_stopped_when_the_body_fails() -> None:
    process = None
    with pytest.raises(ExceptionGroup), trio.fail_after(PATIENCE_SECONDS):
        async with running(program(SERVE)) as service:
            await service.ready()
            process = service.process
            raise ValueError
    assert process is not None
    assert process.returncode == -signal.SIGTERM


async def test_it_is_stopped_when_cancelled() -> None:
    with trio.fail_after(PATIENCE_SECONDS), trio.CancelScope() as scope:
        async with running(program(SERVE)) as service:
            await service.ready()
            scope.cancel()
            await trio.sleep_forever()
    assert service.process is not None
    assert service.process.returncode is not None


@pytest.mark.parametrize("way", ["left", "cancelled", "failed"])
async def test_one_stops_only_after_those_that_were_started_within(tmp_path: Path, way: str) -> None:
    told = tmp_path / "told"

    def telling(name: str, seconds: float) -> str:
        stop = f"time.sleep({seconds})\nopen({str(told)!r}, 'a').write('{name} ')"
        # Held back until it is waited for: `signal.pause` misses one that comes just before it.
        return (
            "import signal, time\nheld = [signal.SIGTERM]\nsignal.pthread_sigmask(signal.SIG_BLOCK, held)\n"
            + SERVE.replace("signal.pause()", f"signal.sigwait(held)\n{stop}")
        )

    with trio.fail_after(PATIENCE_SECONDS), contextlib.suppress(ExceptionGroup), trio.CancelScope() as scope:
        # The inner one takes longer, so that both being told at once shows.
        async with (
            running(program(telling("outer", 0))) as outer,
            running(program(telling("inner", 0.3))) as inner,
        ):
            await outer.ready()
            await inner.ready()
            if way == "cancelled":
                scope.cancel()
                await trio.sleep_forever()
            if way == "failed":
                raise ValueError
    assert told.read_text().split() == ["inner", "outer"]


async def test_one_that_does_not_stop_is_killed() -> None:
    stubborn = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVE}\nsignal.pause()"
    with trio.fail_after(PATIENCE_SECONDS):
        async with running(program(stubborn, stop_seconds_max=0.2)) as service:
            await service.ready()
    assert service.process is not None
    assert service.process.returncode == -signal.SIGKILL


async def test_one_that_dies_is_started_again_where_it_was() -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        async with running(program(SERVE)) as service:
            await service.ready()
            first = service.process
            assert first is not None
            first.kill()
            while service.url != "http://127.0.0.1:11":
                await trio.sleep(0.01)
            assert service.process is not first


async def test_one_that_dies_again_and_again_ends_everything() -> None:
    dying = SERVE.replace("signal.pause()", "raise SystemExit(3)")
    with pytest.raises(ExceptionGroup) as caught, trio.fail_after(PATIENCE_SECONDS):
        async with running(program(dying)):
            await trio.sleep_forever()
    (failure,) = caught.value.exceptions
    assert isinstance(failure, ServiceFailed)
    assert str(failure) == "the example ended (exit code 3) once more; its messages are above"
    assert RESTARTS_MAX == 3


async def test_one_that_does_not_start_ends_everything(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught, trio.fail_after(PATIENCE_SECONDS):
        async with running(program("raise SystemExit('no')", log=tmp_path / "log")):
            await trio.sleep_forever()
    (failure,) = caught.value.exceptions
    assert str(failure) == f"the example ended (exit code 1) before it was ready; see {tmp_path / 'log'}"
    assert (tmp_path / "log").read_text() == "no\n"


async def test_a_first_start_that_may_fail_is_tried_again(tmp_path: Path) -> None:
    marker = tmp_path / "tried"
    once = (
        f"import pathlib\nmarker = pathlib.Path({str(marker)!r})\n"
        "if not marker.exists():\n  marker.touch()\n  raise SystemExit(1)\n"
    )
    with trio.fail_after(PATIENCE_SECONDS):
        async with running(program(once + SERVE, first_starts_max=2)) as service:
            assert await service.ready()


async def test_what_it_goes_on_printing_does_not_block_it() -> None:
    chatty = SERVE.replace("signal.pause()", "print('x' * 1_000_000, flush=True)\nraise SystemExit(4)")
    with pytest.raises(ExceptionGroup) as caught, trio.fail_after(PATIENCE_SECONDS):
        async with running(program(chatty)):
            await trio.sleep_forever()
    assert "exit code 4" in str(caught.value.exceptions[0])


async def test_its_stdin_ends_with_us() -> None:
    # The other half of the lifeline: nothing is ever written, and the end is ours to make.
    waiting = SERVE.replace("signal.pause()", "import sys\nsys.stdin.read()")
    with trio.fail_after(PATIENCE_SECONDS):
        async with running(program(waiting)) as service:
            await service.ready()
            assert service.process is not None
            assert service.process.stdin is not None
            await service.process.stdin.aclose()
            assert await service.process.wait() == 0


def test_secrets_in_the_environment_are_not_in_its_repr() -> None:
    assert "hunter2" not in repr(Launch(["x"], {"PASSWORD": "hunter2"}))
