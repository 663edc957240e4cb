"""The last report that could be made: in memory, and as files where a folder is set.

While the database is away the page goes on from here. The files can be shown by any web server, and outlive
this process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import trio

from admin.status.report import Report

NAME = "report.json"
WRITTEN_SECONDS = 30
"""How often the files are written, at most."""
FILE_BYTES_MAX = 8 << 20


class LastKnown:
    """One for each app."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._report: Report | None = None
        self._written_at: datetime | None = None

    async def keep(self, report: Report, write: Callable[[], Mapping[str, bytes]]) -> None:
        """Keeps a report; now and then also as files, with those that `write` gives by their names. Raises
        OSError."""
        self._report = report
        due = self._written_at is None or report.made_at - self._written_at > timedelta(
            seconds=WRITTEN_SECONDS
        )
        if self._folder is None or not due:
            return
        self._written_at = report.made_at
        files = {**write(), NAME: msgspec.json.encode(report)}
        await trio.to_thread.run_sync(_write, self._folder, files)

    async def find(self) -> Report | None:
        """What was kept last, by this process or one before it."""
        if self._report is None and self._folder is not None:
            self._report = await trio.to_thread.run_sync(_read, self._folder / NAME)
        return self._report


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        # By another name first: whoever reads it reads a whole one.
        fresh = folder / f".{name}.{os.getpid()}"
        fresh.write_bytes(content)
        fresh.replace(folder / name)


def _read(path: Path) -> Report | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(FILE_BYTES_MAX), type=Report)
    except (OSError, msgspec.MsgspecError):
        return None
