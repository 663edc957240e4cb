"""A register of requests that were admitted and have no usage row yet: what a killed worker leaves behind.

A row is written when a request ends, and a worker that is killed (`kill -9`, out of memory) ends nothing. So
each admitted request first takes a slot in a file that is mapped into memory: two stores, no system call, and
they outlive the process. The slot is freed when the row is on file. Whoever opens the journal next finds the
slots that were not, and writes their rows (`spool`), which frees them: outcome `interrupted`, what was asked
estimated, what was reserved charged. A row that had been written after all is the same row, and the database
knows it.

Bounds: `SLOTS` slots of `SLOT_BYTES`; a worker has fewer connections than that, and each one request at a
time, but for WebSockets, of which each may have some. The space is allocated when the file is made, because a
store into a hole would kill the worker on a full disk; where there is no room for it, or no slot left,
requests go without one.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SLOTS: Final = 16_384
SLOT_BYTES: Final = 512
NO_SLOT: Final = -1

_USED: Final = 1
_FREE: Final = 0
_LENGTH_BYTES: Final = 2
ENTRY_BYTES_MAX: Final = SLOT_BYTES - 1 - _LENGTH_BYTES


class InFlight:
    """The register of one journal. `left` first: `open_register` finds what an earlier worker left."""

    def __init__(self, memory: mmap.mmap | None) -> None:
        self._memory = memory
        used = bytes(SLOTS) if memory is None else memory[::SLOT_BYTES]
        # Low slots first, and those just freed before others: few pages are ever touched.
        self._free = (
            [] if memory is None else [slot for slot in range(SLOTS - 1, -1, -1) if used[slot] != _USED]
        )

    def __len__(self) -> int:
        """Requests in flight that hold a slot."""
        return 0 if self._memory is None else SLOTS - len(self._free)

    def begin(self, entry: bytes) -> int:
        """A slot that holds `entry`; NO_SLOT when there is none, or it does not fit."""
        if not self._free or len(entry) > ENTRY_BYTES_MAX:
            return NO_SLOT
        memory = self._memory
        assert memory is not None
        slot = self._free.pop()
        at = slot * SLOT_BYTES
        end = at + 1 + _LENGTH_BYTES
        memory[at + 1 : end] = len(entry).to_bytes(_LENGTH_BYTES, "big")
        memory[end : end + len(entry)] = entry
        # Last: a slot counts only when it is whole.
        memory[at] = _USED
        return slot

    def end(self, slot: int) -> None:
        """The row is on file, or there will be none."""
        if slot != NO_SLOT:
            assert self._memory is not None
            self._memory[slot * SLOT_BYTES] = _FREE
            self._free.append(slot)

    def left(self) -> Iterator[tuple[int, bytes]]:
        """What the worker before this one left, and in which slots, to be read before `begin`; call `end` for
        each when it is dealt with."""
        memory = self._memory
        if memory is None:
            return
        for slot in range(SLOTS):
            at = slot * SLOT_BYTES
            if memory[at] == _USED:
                begin = at + 1 + _LENGTH_BYTES
                size = int.from_bytes(memory[at + 1 : begin], "big")
                if size <= ENTRY_BYTES_MAX:
                    yield slot, memory[begin : begin + size]
                else:
                    self.end(slot)

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()


def open_register(path: Path) -> InFlight:
    """The register at `path`, made when there is none. Without room for it: one that holds nothing."""
    size = SLOTS * SLOT_BYTES
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size != size:
            os.ftruncate(descriptor, 0)
            os.posix_fallocate(descriptor, 0, size)
        return InFlight(mmap.mmap(descriptor, size))
    except OSError:
        # Not left half made: a hole in it would be found only when it is stored to.
        path.unlink(missing_ok=True)
        return InFlight(None)
    finally:
        os.close(descriptor)
