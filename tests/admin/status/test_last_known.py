from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from admin.status.last_known import NAME, WRITTEN_SECONDS, LastKnown
from admin.status.report import Report

NOW = datetime(2026, 4, 1, tzinfo=UTC)


def report(seconds: float = 0) -> Report:
    return Report(NOW + timedelta(seconds=seconds), [], [], [])


async def test_in_memory_alone() -> None:
    kept = LastKnown(None)
    assert await kept.find() is None
    await kept.keep(report(), dict)
    assert await kept.find() == report()


async def test_files_outlive_the_process_and_are_not_written_all_the_time(tmp_path: Path) -> None:
    folder = tmp_path / "status"
    kept = LastKnown(folder)
    for seconds in (0, WRITTEN_SECONDS - 1):
        await kept.keep(report(seconds), lambda: {"index.html": b"page"})
    assert (folder / "index.html").read_bytes() == b"page"
    assert await LastKnown(folder).find() == report()
    await kept.keep(report(WRITTEN_SECONDS + 1), dict)
    assert await LastKnown(folder).find() == report(WRITTEN_SECONDS + 1)
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", NAME]


async def test_a_file_that_is_none_of_ours(tmp_path: Path) -> None:
    for content in (b"", b"{}", msgspec.json.encode([1])):
        (tmp_path / NAME).write_bytes(content)
        assert await LastKnown(tmp_path).find() is None
