"""Imported by a Python that starts with this folder in PYTHONPATH: its wall clock is off by so many seconds
as `TEST_CLOCK_FILE` says (a double), now and whenever that changes. The monotonic clock is as it is.
"""

import mmap
import os
import struct
import time
from pathlib import Path

with Path(os.environ["TEST_CLOCK_FILE"]).open("r+b") as _file:
    _shared = mmap.mmap(_file.fileno(), 8)
_real = time.time_ns


def _time_ns() -> int:
    (seconds,) = struct.unpack("d", _shared[:8])
    return _real() + int(seconds * 1e9)


def _time() -> float:
    return _time_ns() / 1e9


time.time_ns = _time_ns
time.time = _time
