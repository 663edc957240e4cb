"""Children are pinned, announced, told apart when they fail, and gone when they should be."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from bench.process import Child, StartFailed, child_process

DEADLINE_SECONDS = 10.0
ANNOUNCE = "import json, os, sys; print(json.dumps({'cpus': sorted(os.sched_getaffinity(0))}), flush=True)"
WAIT = "; sys.stdin.read()"


async def announced_by(code: str, tmp_path: Path, cpus: list[int] | None = None) -> dict[str, object]:
    argv = [sys.executable, "-c", code]
    async with child_process(argv, stderr_path=tmp_path / "stderr", cpus=cpus or []) as child:
        return await child.announcement(DEADLINE_SECONDS)


async def test_a_child_runs_on_its_cores(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    assert await announced_by(ANNOUNCE + WAIT, tmp_path, [core]) == {"cpus": [core]}
    assert await announced_by(ANNOUNCE + WAIT, tmp_path) == {"cpus": sorted(os.sched_getaffinity(0))}


async def test_a_child_that_reads_its_stdin_ends_by_itself(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-c",
        "import signal, sys; signal.signal(15, signal.SIG_IGN); print('{}', flush=True)" + WAIT,
    ]
    with trio.fail_after(DEADLINE_SECONDS):
        async with child_process(argv, stderr_path=tmp_path / "stderr") as child:
            await child.announcement(DEADLINE_SECONDS)
    assert child.returncode == 0


async def test_a_child_that_listens_to_nothing_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.process.stop_seconds_max", 0.05)
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('{}', flush=True); signal.pause()"
    argv = [sys.executable, "-c", code]
    async with child_process(argv, stderr_path=tmp_path / "stderr") as child:
        await child.announcement(DEADLINE_SECONDS)
    assert child.returncode == -signal.SIGKILL


async def test_a_child_is_ended_when_the_body_is_cancelled(tmp_path: Path) -> None:
    child: Child | None = None
    argv = [sys.executable, "-c", "import signal; signal.pause()"]
    with trio.CancelScope() as scope:
        async with child_process(argv, stderr_path=tmp_path / "stderr") as child:
            scope.cancel()
            await trio.sleep_forever()
    assert child is not None
    assert child.returncode == -signal.SIGTERM


async def test_a_failed_start_quotes_stderr(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"(?s)did not start.*port taken"):
        await announced_by("raise SystemExit('port taken')", tmp_path)


async def test_a_failed_start_that_leaves_stderr_empty_quotes_stdout(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="it said: hello"):
        await announced_by("print('hello')", tmp_path)


async def test_a_slow_start_says_how_long_it_was_given(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import signal; signal.pause()"]
    async with child_process(argv, stderr_path=tmp_path / "stderr") as child:
        with pytest.raises(StartFailed, match=r"not ready within 0\.05 s"):
            await child.announcement(0.05)


async def test_a_program_that_does_not_exist_is_a_failed_start(tmp_path: Path) -> None:
    async with child_process(["/nonexistent/program"], stderr_path=tmp_path / "stderr") as child:
        with pytest.raises(StartFailed, match="did not start"):
            await child.announcement(DEADLINE_SECONDS)


async def test_lines_arrive_whole(tmp_path: Path) -> None:
    code = "print('a' * 200_000); print('b'); print('cut', end='')"
    async with child_process([sys.executable, "-c", code], stderr_path=tmp_path / "stderr") as child:
        assert await child.lines.line() == b"a" * 200_000
        assert await child.lines.line() == b"b"
        assert await child.lines.line() == b""


def test_children_die_with_a_killed_harness(tmp_path: Path) -> None:
    harness = (
        "import sys, trio\n"
        "from pathlib import Path\n"
        "from bench.process import child_process\n"
        "async def main():\n"
        "    code = 'import signal; print(chr(123) + chr(125), flush=True); signal.pause()'\n"
        "    argv = [sys.executable, '-c', code]\n"
        f"    async with child_process(argv, stderr_path=Path({str(tmp_path / 'stderr')!r})) as child:\n"
        "        await child.announcement(10)\n"
        "        print(child.pid, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    with subprocess.Popen([sys.executable, "-c", harness], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        descriptor = os.pidfd_open(int(running.stdout.readline()))
        running.kill()
    try:
        # Readable as soon as the process is dead.
        with open(descriptor, closefd=False) as ended:
            assert trio.run(wait_for, ended.fileno())
    finally:
        os.close(descriptor)


async def wait_for(descriptor: int) -> bool:
    with trio.move_on_after(DEADLINE_SECONDS) as scope:
        await trio.lowlevel.wait_readable(descriptor)
    return not scope.cancelled_caught
