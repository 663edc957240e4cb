"""What /proc says of living processes, and nothing of dead ones."""

import mmap
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import trio

from bench.process import child_process
from bench.process_watch import (
    command_line,
    cores_busy_seconds,
    cpu_seconds,
    descendants,
    pin,
    resident_bytes,
    starved_seconds,
)


def dead_pid() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_cpu_time_grows_with_work() -> None:
    me = [os.getpid()]
    before, watched = time.process_time(), cpu_seconds(me)
    while time.process_time() - before < 0.05:
        sum(range(1000))
    assert cpu_seconds(me) - watched >= 0.04


def test_the_work_of_a_thread_that_has_ended_counts() -> None:
    def work() -> None:
        began = time.thread_time()
        while time.thread_time() - began < 0.05:
            sum(range(1000))

    watched = cpu_seconds([os.getpid()])
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert cpu_seconds([os.getpid()]) - watched >= 0.05


def test_memory_grows_with_use() -> None:
    before = resident_bytes([os.getpid()])
    # Fresh pages, not what an allocator had left.
    with mmap.mmap(-1, 30_000_000) as held:
        held.write(b"x" * len(held))
        assert resident_bytes([os.getpid()]) - before > 20_000_000


def test_the_dead_count_nothing() -> None:
    pid = dead_pid()
    assert cpu_seconds([pid]) == 0
    assert resident_bytes([pid]) == 0
    assert command_line(pid) == []
    assert descendants(pid) == []
    pin(pid, [0])


async def test_children_and_grandchildren_are_found_and_pinned(tmp_path: Path) -> None:
    grandchild = "import signal; print('{}', flush=True); signal.pause()"
    child_code = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}, 'grand child'])"
    )
    argv = [sys.executable, "-c", child_code]
    async with child_process(argv, stderr_path=tmp_path / "stderr") as child:
        await child.announcement(10)
        [below] = descendants(child.pid)
        assert command_line(below)[-1] == "grand child"
        assert {child.pid, below} <= set(descendants(os.getpid()))
        core = min(os.sched_getaffinity(0))
        pin(below, [core])
        assert os.sched_getaffinity(below) == {core}
        os.kill(below, 15)


async def test_who_shares_a_core_waits_for_it(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-c",
        "import sys, select\nwhile not select.select([sys.stdin], [], [], 0)[0]: pass",
    ]
    core = sorted(os.sched_getaffinity(0))[:1]
    spinning = child_process(argv, stderr_path=tmp_path / "one", cpus=core)
    another = child_process(argv, stderr_path=tmp_path / "other", cpus=core)
    async with spinning as one, another as other:
        with trio.fail_after(30):
            while starved_seconds([one.pid, other.pid]) < 0.05:
                await trio.sleep(0.01)
    assert starved_seconds([one.pid]) == 0


def test_a_core_is_busy_as_long_as_somebody_works_on_it() -> None:
    [core, *_] = sorted(os.sched_getaffinity(0))
    before, watched = time.process_time(), cores_busy_seconds(os.sched_getaffinity(0))
    while time.process_time() - before < 0.1:
        sum(range(1000))
    # In ticks of 10 ms, the first and the last of which may be cut.
    assert cores_busy_seconds(os.sched_getaffinity(0)) - watched >= 0.07
    assert 0 < cores_busy_seconds([core]) <= cores_busy_seconds(os.sched_getaffinity(0))
    assert cores_busy_seconds([]) == 0
