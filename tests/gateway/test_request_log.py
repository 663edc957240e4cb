"""The log's lines are written in order, at their time, and never at the expense of requests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.batches import QUEUE_MAX
from gateway.ended import Ended
from gateway.request_log import RequestLog
from tests.support.gateway import PATIENCE_SECONDS


def ended(number: int = 0, **changes: Any) -> Ended:
    fields: dict[str, Any] = {
        "started_us": 1_700_000_000_000_000,
        "request_id": f"{number:032x}",
        "status": 200,
        "outcome": "completed",
    }
    return Ended(**(fields | changes))


def ids(file: Path) -> list[int]:
    return [int(json.loads(line)["request_id"], 16) for line in file.read_text().splitlines()]


async def test_lines_are_written_in_order(tmp_path: Path) -> None:
    log = RequestLog(str(tmp_path / "log"), 100)
    async with trio.open_nursery() as nursery:
        for number in range(2500):
            log.take(ended(number))
        nursery.start_soon(log.run)
        with trio.fail_after(PATIENCE_SECONDS):
            while log.written < 2500:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    log.close()
    assert ids(tmp_path / "log") == list(range(2500))
    assert (tmp_path / "log").stat().st_mode & 0o777 & ~0o640 == 0


async def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    file, moved = tmp_path / "log", tmp_path / "log.1"
    log = RequestLog(str(file), 100)
    log.take(ended(1))
    await log.flush()
    file.rename(moved)
    log.take(ended(2))
    await log.flush()
    log.close()
    assert (ids(moved), ids(file)) == ([1], [2])


async def test_two_workers_write_to_one_file(tmp_path: Path) -> None:
    logs = [RequestLog(str(tmp_path / "log"), 100) for _ in range(2)]
    async with trio.open_nursery() as nursery:
        for at, log in enumerate(logs):
            for number in range(500):
                log.take(ended(1000 * at + number))
            nursery.start_soon(log.flush)
    for log in logs:
        log.close()
    assert sorted(ids(tmp_path / "log")) == [*range(500), *range(1000, 1500)]


async def test_who_ended_badly_is_in_every_sample(tmp_path: Path) -> None:
    log = RequestLog(str(tmp_path / "log"), 25)
    for number in range(16):
        log.take(ended(number << 12))
        log.take(ended(number << 12 | 1, status=429))
        log.take(ended(number << 12 | 2, outcome="client_gone"))
    await log.flush()
    log.close()
    told = ids(tmp_path / "log")
    assert len([one for one in told if one & 3 == 0]) == 4
    assert len([one for one in told if one & 3]) == 32


async def test_a_pipe_that_nobody_reads_holds_up_nobody(tmp_path: Path) -> None:
    """What finds no room is counted; what was taken is there once somebody reads."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = RequestLog(str(pipe), 100)
    for number in range(QUEUE_MAX + 7):
        log.take(ended(number))
    assert log.dropped == 7
    with trio.move_on_after(0.2) as waited:
        await log.flush()
    assert waited.cancelled_caught
    # The thread that was left behind writes on when it can, and ends.
    os.set_blocking(reader, False)
    with trio.fail_after(PATIENCE_SECONDS):
        while log._thread.borrowed_tokens:
            try:
                os.read(reader, 1 << 20)
            except BlockingIOError:
                await trio.sleep(0.01)
    os.close(reader)
    log.close()


async def test_a_disk_that_takes_nothing_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = RequestLog(str(tmp_path / "nowhere" / "log"), 100)
    for number in range(2):
        log.take(ended(number))
        await log.flush()
    assert log.dropped == 2
    assert len(caplog.records) == 1
    (tmp_path / "nowhere").mkdir()
    log.take(ended(3))
    await log.flush()
    log.close()
    assert ids(tmp_path / "nowhere" / "log") == [3]


async def test_stderr_is_written_to_and_left_open(capfd: pytest.CaptureFixture[str]) -> None:
    log = RequestLog("stderr", 100)
    log.take(ended(5, cost_picodollars=1_500_000_000, verify_us=1500))
    await log.flush()
    log.close()
    line = json.loads(capfd.readouterr().err)
    assert (line["cost_usd"], line["verify_ms"], line["event"]) == (0.0015, 1.5, "request")
    assert line["time"] == "2023-11-14T22:13:20.000000+00:00"
    os.fstat(2)
