"""The usage journal on a full disk, without descriptors, and in a worker that is killed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway import spool as spool_module
from gateway import usage_writer
from gateway.spool import Spool, read_frames
from gateway.usage_writer import interrupted_row
from tests.gateway.journals import everything, file_bytes_max, opened, read_all, record, row, segments

HEADING = spool_module._HEADING
HEADER_BYTES = spool_module._HEADER.size


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_full_disk_stops_admission_and_loses_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        spool.append(row(record(0)))
        fits = spool.current.stat().st_size
        for extra in range(0, fits - len(HEADING), 37):
            with file_bytes_max(fits + extra):
                assert not spool.full
                spool.append(row(record(1)))
                assert spool.full
                assert read_all(spool.current) == [record(0)], "no torn record is left behind"
                assert spool.current.stat().st_size == fits
                spool.retry()
                assert spool.full
            os.truncate(spool.current, fits)
            spool._size = fits
            spool._held.clear()
        with file_bytes_max(fits):
            for number in range(1, 6):
                spool.append(row(record(number)))
        spool.retry()
        assert not spool.full
        assert read_all(spool.current) == [record(number) for number in range(6)], "in their order"
        assert spool.lost == 0


def test_the_next_record_brings_the_held_ones_along(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        with file_bytes_max(len(HEADING)):
            spool.append(row(record(0)))
        spool.append(row(record(1)))
        assert not spool.full
        assert read_all(spool.current) == [record(0), record(1)]


def test_memory_for_a_full_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "HELD_RECORDS_MAX", 3)
    with opened(tmp_path) as spool:
        with file_bytes_max(len(HEADING)):
            for number in range(5):
                spool.append(row(record(number)))
        assert spool.lost == 2
        spool.retry()
        assert read_all(spool.current) == [record(0), record(1), record(2)]


def begin(spool: Spool, number: int) -> int:
    """A slot of the register as a request has it, whose row is `interrupted_row(entry)`."""
    return spool.in_flight.begin(usage_writer._ENTRY.pack(bytes([number]) * 16, 0, 0, 0, 0, False))


@pytest.mark.parametrize("room_for", [0, 1])
def test_a_second_kill_loses_nothing_of_what_the_disk_refused(tmp_path: Path, room_for: int) -> None:
    """Neither of the rows of an earlier worker's requests nor of its own."""
    with opened(tmp_path) as spool:
        begin(spool, 1)
        begin(spool, 2)
        size = HEADER_BYTES + len(interrupted_row(next(entry for _, entry in spool.in_flight.left())))
    for _ in range(2):
        # Each is killed before there is room: nobody writes what it held.
        with file_bytes_max(len(HEADING) + room_for * size):
            spool = Spool(tmp_path)
            assert spool.interrupted == (2 - room_for if len(segments(tmp_path)) > 1 else 2)
            assert spool.holds is bool(spool.interrupted - room_for > 0)
            spool.close()
    with opened(tmp_path) as spool:
        assert not spool.holds
        assert len(spool.in_flight) == 0
    rows = sum(read_frames(segment, 0, 10).number for segment in segments(tmp_path))
    assert rows == 2


def test_a_row_that_is_held_keeps_its_slot(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        with file_bytes_max(len(HEADING)):
            spool.append(row(record(0)), begin(spool, 1))
            assert len(spool.in_flight) == 1
        spool.append(row(record(1)), begin(spool, 2))
        assert len(spool.in_flight) == 0


@pytest.mark.parametrize("trouble", ["disk", "descriptors"])
def test_a_rotation_that_fails_keeps_the_segment_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES_MAX", 1000)
    with opened(tmp_path) as spool:
        spool.append(row(record(0)))
        before = spool.current
        # Room for the old segment to grow is not taken away by a limit on descriptors; by one on size it is.
        with no_descriptors_left() if trouble == "descriptors" else file_bytes_max(0):
            for number in range(1, 5):
                spool.append(row(record(number)))
            spool.rotate()
            assert spool.current == before
        assert segments(tmp_path) == [before]
        spool.append(row(record(5)))
        assert everything(tmp_path) == [record(number) for number in range(6)]
        assert spool.current != before
        assert spool.finished == [before]


def test_a_start_on_a_full_disk_says_so_and_lets_go_of_the_lock(tmp_path: Path) -> None:
    with file_bytes_max(3), pytest.raises(OSError, match=r"large|room"):
        Spool(tmp_path)
    assert segments(tmp_path) == []
    with opened(tmp_path):
        pass


# A worker that is killed.

APPENDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from gateway import spool
from tests.gateway.journals import record, row
spool.SEGMENT_BYTES_MAX = 20_000
journal = spool.Spool(Path(sys.argv[1]))
number = 0
while True:
    journal.append(row(record(number)))
    number += 1
    print(number, flush=True)
"""


def test_kill_9_loses_no_record_that_was_appended(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    worker = subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(tmp_path), str(root)], stdout=subprocess.PIPE, cwd=root
    )
    assert worker.stdout is not None
    with worker.stdout as lines:
        for line in lines:
            if int(line) >= 500:
                break
        worker.kill()
        appended = max(500, *(int(line) for line in lines.read().split()), 0)
    worker.wait()
    with opened(tmp_path) as spool:
        assert len(spool.finished) > 5
        found = everything(tmp_path)
        assert appended <= len(found) <= appended + 1
        assert found == [record(number) for number in range(len(found))]
