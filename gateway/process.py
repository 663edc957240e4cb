"""What every process that serves does first, and how many descriptors and how much memory it may have.

A stream takes two, its client's and its provider's. The soft limit that most systems start programs with
(1,024) is there for the sake of those that use `select`, which nothing here does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
from pathlib import Path
from typing import Final

from storage.core_files import leave_no_core_file

_COLLECT_AFTER_OBJECTS: Final = 20_000

DESCRIPTORS_EACH: Final = 2
"""Of a client connection whose answer is on its way."""
DESCRIPTORS_OWN: Final = 64
"""What a worker has open besides: listeners, journal, database, epoll."""


def prepare_process() -> None:
    """Set what the garbage collector and the kernel are to do with this process."""
    # What start-up made stays for good: the collector need not look at it again. And requests make few
    # cycles, so that it may look less often than after every 700 objects.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)
    leave_no_core_file()
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_max(),) * 2)


def descriptors_max() -> int:
    """How many descriptors this process may have at most: the hard limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def memory_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The machine's memory, or its container's where that has less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        # Without a bound the file says "max", or is not there.
        with contextlib.suppress(OSError, ValueError):
            found = min(found, int((cgroup / name).read_text()))
    return found


def streams_max(descriptors: int) -> int:
    """How many streams a worker can have open with so many descriptors."""
    if descriptors == resource.RLIM_INFINITY:
        return descriptors
    return max(0, (descriptors - DESCRIPTORS_OWN) // DESCRIPTORS_EACH)
