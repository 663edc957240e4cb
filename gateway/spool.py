"""The usage journal: a record is on file before the end of the answer is on the wire.

One worker appends to one segment, a single `write` a record, so a record survives the worker's death (`kill
-9`); what the machine loses with its power since the kernel last wrote back, it loses. `ship` moves segments
to Postgres and deletes them. A segment is the magic line, a line that names the columns and ends with its
CRC-32 in hex, then frames: length and CRC-32 (4 bytes each, big-endian) and a row as `usage_writer` makes it.
A torn or damaged tail ends the reading of a segment and is reported, never guessed at.

The directory is also whose leases the worker's limits are reserved from: `owner` is an id that stays with the
directory, whatever process serves it. `turn` is where the last process began to number its calls for leases;
the next begins far above, so that what is still under way of an earlier one comes late.

Bounds: segments rotate at `SEGMENT_BYTES_MAX`. When all of them reach `SPOOL_BYTES_MAX`, or the disk refuses
a record, `full` is true and admission stops: requests that could not be counted are not served. What the disk
refused is held in memory, at most `HELD_RECORDS_MAX` records, and written by `retry` once there is room; its
slot in the register (`in_flight`) is taken until then, and tells of it should the worker be killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID, uuid4

from gateway.in_flight import NO_SLOT, open_register
from gateway.usage_writer import COLUMNS, interrupted_row

MAGIC: Final = b"KARTA-USAGE-2\n"
_NAMES: Final = ",".join(COLUMNS).encode()
_HEADING: Final = MAGIC + b"%s %08x\n" % (_NAMES, zlib.crc32(_NAMES))
_HEADING_BYTES_MAX: Final = 4096
# What a heading is made of: whatever else follows the magic line is not the beginning of one.
_HEADING_BEGUN: Final = re.compile(rb"[a-z0-9_, ]*")
SEGMENT_BYTES_MAX: Final = 16 * 1024 * 1024
# About ten million requests: days of an outage at an ordinary rate.
SPOOL_BYTES_MAX: Final = 2 * 1024 * 1024 * 1024
# A frame larger than this is damage: records are under a kilobyte.
FRAME_BYTES_MAX: Final = 64 * 1024
# One request of each connection that can be running when admission stops, twice over (a WebSocket may have
# more); under 16 MiB.
HELD_RECORDS_MAX: Final = 32_000

_HEADER: Final = struct.Struct(">II")
SETTLED_FILE: Final = "settled"
"""There while nobody holds the directory and all that is in it is known to the database."""
_OWNER_FILE: Final = "owner"
_TURN_FILE: Final = "turn"
TURNS_OF_A_LIFE: Final = 2**40
"""Far more calls than a process makes, and there are numbers for millions of processes."""
_TURN_MAX: Final = 2**62


class SpoolLocked(Exception):
    """Another worker owns this spool directory."""


@contextmanager
def held(home: Path) -> Iterator[None]:
    """The home is this gateway's alone. Raises `SpoolLocked`.

    Two of them might serve different databases, and one would ship what the other's workers left.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(home / "home.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SpoolLocked(f"{home} is in use by another gateway worker") from None
        yield
    finally:
        os.close(lock)


class Spool:
    """The segments of one worker. Blocking by design: a write to the page cache takes microseconds."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise SpoolLocked(f"{directory} is in use by another gateway worker") from None
        self.was_settled = (directory / SETTLED_FILE).exists()
        """Before it was opened."""
        (directory / SETTLED_FILE).unlink(missing_ok=True)
        # Segments of an earlier life come first; the numbering goes on after them, and after those set aside.
        self.finished = sorted(directory.glob("*.spool"))
        self._number = max((int(path.stem) for path in directory.iterdir() if path.stem.isdigit()), default=0)
        self._stored = sum(path.stat().st_size for path in self.finished)
        self._held: deque[tuple[bytes, int]] = deque()
        """Frames, and the slots of their requests."""
        self.appended = 0
        self.lost = 0
        """Records the disk refused and memory had no room for."""
        try:
            self._descriptor, self.current = self._create_segment()
        except OSError:
            os.close(self._lock)
            raise
        self.in_flight = open_register(directory / "in_flight")
        self.owner = _read_owner(directory)
        """Whose journal this is: it outlives every process that writes it."""
        self.turn = _next_turn(directory)
        """Above the number of every call for leases that an earlier process of this journal has made."""
        self._size = len(_HEADING)
        self.interrupted = 0
        """Rows written for requests that an earlier worker was killed with."""
        self._write_interrupted()

    def _write_interrupted(self) -> None:
        """Rows for the requests that a worker before this one was killed with."""
        for slot, entry in self.in_flight.left():
            self.append(interrupted_row(entry), slot)
            self.interrupted += 1

    @property
    def full(self) -> bool:
        """No more can be counted, so no more may be served."""
        return bool(self._held) or self.bytes_waiting >= SPOOL_BYTES_MAX

    @property
    def holds(self) -> bool:
        """There are rows that the disk has refused."""
        return bool(self._held)

    @property
    def whole(self) -> bool:
        """Nothing is in flight, and all rows are on file."""
        return not self._held and not len(self.in_flight)

    @property
    def bytes_waiting(self) -> int:
        return self._stored + self._size

    def append(self, payload: bytes, slot: int = NO_SLOT) -> None:
        """A row, as `usage_writer` makes it, is on file, and so its request's slot is free."""
        frame = _HEADER.pack(len(payload), zlib.crc32(payload)) + payload
        self.appended += 1
        if self._held or not self._write(frame):
            self._hold(frame, slot)
            self.retry()
        else:
            self.in_flight.end(slot)
        if self._size >= SEGMENT_BYTES_MAX:
            self.rotate()

    def retry(self) -> None:
        """Write what the disk refused, oldest first, as far as it takes it now."""
        while self._held and self._write(self._held[0][0]):
            self.in_flight.end(self._held.popleft()[1])

    def rotate(self) -> None:
        """Finish the current segment, so that it can be shipped whole and deleted.

        With no disk or descriptor left for another the current one simply goes on.
        """
        try:
            descriptor, path = self._create_segment()
        except OSError:
            return
        # Only now: a closed descriptor's number may be some client's socket a moment later.
        os.close(self._descriptor)
        self.finished.append(self.current)
        self._stored += self._size
        self._descriptor, self.current, self._size = descriptor, path, len(_HEADING)

    def remove(self, segment: Path) -> None:
        """A finished segment has been shipped."""
        self._stored -= segment.stat().st_size
        segment.unlink()
        self.finished.remove(segment)

    def set_aside(self, segment: Path, suffix: str) -> None:
        """Not all of a finished segment can be read: it stays, under another name. That takes no room, of
        which there may be none."""
        self._stored -= segment.stat().st_size
        segment.rename(segment.with_suffix(suffix))
        self.finished.remove(segment)

    def settle(self) -> None:
        """All that is on file is in the database, and what it was lent is given back: nobody need look for it
        here, unless there is more than that."""
        if self.whole:
            with contextlib.suppress(OSError):
                (self._directory / SETTLED_FILE).touch(mode=0o600)

    def close(self) -> None:
        self.in_flight.close()
        os.close(self._descriptor)
        if self._size == len(_HEADING):
            # A journal may be opened again and again, while the database is away, with nothing to append.
            with contextlib.suppress(OSError):
                self.current.unlink()
        os.close(self._lock)

    def _create_segment(self) -> tuple[int, Path]:
        path = self._directory / f"{self._number + 1:012}.spool"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            if os.write(descriptor, _HEADING) != len(_HEADING):
                raise OSError("no room for a new segment of the usage journal")
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        self._number += 1
        return descriptor, path

    def _write(self, frame: bytes) -> bool:
        try:
            written = os.write(self._descriptor, frame)
        except OSError:
            return False
        if written != len(frame):
            # Disk full: take the torn part back, so that later records stay readable.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            return False
        self._size += written
        return True

    def _hold(self, frame: bytes, slot: int) -> None:
        if len(self._held) < HELD_RECORDS_MAX:
            self._held.append((frame, slot))
        else:
            # Its slot stays taken: whoever opens the journal next writes a row of what that tells.
            self.lost += 1


class Damage(Exception):
    """A segment's bytes stop making sense at `offset`; what came before is good."""

    def __init__(self, segment: Path, offset: int) -> None:
        super().__init__(f"{segment.name} is torn or damaged at byte {offset}")
        self.segment = segment
        self.offset = offset


class Frames(NamedTuple):
    """Some rows of a segment, as they stand in it one after the other, without the frames around them."""

    columns: tuple[str, ...]
    rows: bytes
    number: int
    next_offset: int
    at_end: bool
    """The file ends at `next_offset`."""


def read_frames(segment: Path, offset: int, rows_max: int) -> Frames:
    """Up to `rows_max` rows from `offset` on; 0 is the beginning.

    A frame that is not whole yet ends the reading without complaint: the caller knows if the segment is still
    being written. Raises `Damage` for bytes that are no frame.
    """
    with segment.open("rb") as file:
        heading = file.read(_HEADING_BYTES_MAX)
        columns, begin = _read_heading(segment, heading)
        if not columns:
            return Frames((), b"", 0, 0, at_end=True)
        offset = max(offset, begin)
        file.seek(offset)
        rows: list[bytes] = []
        data = file.read(max(rows_max * 1024, FRAME_BYTES_MAX + _HEADER.size))
        try:
            for payload in _payloads(data, segment, offset):
                rows.append(payload)
                offset += _HEADER.size + len(payload)
                if len(rows) == rows_max:
                    break
        except Damage:
            # The good rows first; asked again from here, the damage is all there is.
            if not rows:
                raise
        return Frames(columns, b"".join(rows), len(rows), offset, offset == segment.stat().st_size)


def _read_heading(segment: Path, data: bytes) -> tuple[tuple[str, ...], int]:
    """The names of the columns and where the frames begin; no names for a heading that is not whole."""
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):
            return (), 0
        raise Damage(segment, 0)
    line, ended, _ = data[len(MAGIC) :].partition(b"\n")
    if not ended and len(data) < _HEADING_BYTES_MAX and _HEADING_BEGUN.fullmatch(line):
        return (), 0
    names, _, checksum = line.partition(b" ")
    if not ended or checksum != b"%08x" % zlib.crc32(names):
        # A wrong name could never be shipped, and would hold up everything behind it.
        raise Damage(segment, len(MAGIC))
    return tuple(names.decode("ascii", "replace").split(",")), len(MAGIC) + len(line) + 1


def _read_owner(directory: Path) -> UUID:
    """The directory's id, made when there is none (or none that can be read)."""
    path = directory / _OWNER_FILE
    with contextlib.suppress(OSError, ValueError):
        return UUID(path.read_text().strip())
    owner = uuid4()
    with contextlib.suppress(OSError):
        # Without a disk to write to, this process has an id of its own for as long as it lives.
        _keep(path, owner)
    return owner


def _next_turn(directory: Path) -> int:
    """Where this process's calls for leases begin. By no clock, which may have been set back, or be another
    host's where the directory has moved; but where no number was left, since who left none went by it."""
    path, before = directory / _TURN_FILE, -1
    with contextlib.suppress(OSError, ValueError):
        before = int(path.read_bytes())
    if not 0 <= before < _TURN_MAX:
        before = time.time_ns() // 1000
    turn = before + TURNS_OF_A_LIFE
    with contextlib.suppress(OSError):
        # Without a disk to write to, the next process begins here too, and is told that its calls are late.
        _keep(path, turn)
    return turn


def _keep(path: Path, value: object) -> None:
    """The file is this line, or what it was."""
    beginning = path.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with os.fdopen(os.open(beginning, flags, 0o600), "w") as file:
        file.write(f"{value}\n")
    beginning.replace(path)


def _payloads(data: bytes, segment: Path, base: int) -> Iterator[bytes]:
    at = 0
    while at + _HEADER.size <= len(data):
        size, checksum = _HEADER.unpack_from(data, at)
        if not 0 < size <= FRAME_BYTES_MAX:
            raise Damage(segment, base + at)
        payload = data[at + _HEADER.size : at + _HEADER.size + size]
        if len(payload) < size:
            return
        if zlib.crc32(payload) != checksum:
            raise Damage(segment, base + at)
        yield payload
        at += _HEADER.size + size
