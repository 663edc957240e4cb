"""A wall clock for processes that tests start, to be set ahead and back while they run. The monotonic clock
stays as it is.

By libfaketime where it is installed (Debian's package `faketime`), which tells a whole process another time,
whatever it is written in; else by a module that Python imports at its start, for what is Python in it.
"""

from __future__ import annotations

import struct
from pathlib import Path

HERE = Path(__file__).parent


class InjectedClock:
    """`variables` are what the processes are told of it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._file.write_bytes(bytes(8))
        self.variables = {"PYTHONPATH": str(HERE / "shifted_clock"), "TEST_CLOCK_FILE": str(self._file)}

    def set(self, seconds: float) -> None:
        """Off by so many seconds."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("d", seconds))


class FakedClock:
    """The same by libfaketime."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._file = folder / "faketimerc"
        self.set(0)
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: float) -> None:
        """Off by so many seconds. Whoever reads it meanwhile finds the one or the other."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+f}\n")
        new.replace(self._file)


def find_libfaketime() -> Path | None:
    # The one without a lock of its own would do as well; Karta has threads.
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


Clock = InjectedClock | FakedClock


def make_clock(folder: Path) -> Clock:
    """Right, until it is set."""
    library = find_libfaketime()
    return InjectedClock(folder) if library is None else FakedClock(folder, library)
