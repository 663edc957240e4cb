"""What processes have open and take, as the kernel counts it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from bench.process_watch import resident_bytes


class Counts(msgspec.Struct, frozen=True):
    """Of some processes together."""

    descriptors: int
    sockets: int
    threads: int
    resident_bytes: int


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def count(pids: Iterable[int]) -> Counts:
    """All of it, now."""
    pids = list(pids)
    links = [link for pid in pids for link in _links(pid)]
    return Counts(
        descriptors=len(links),
        sockets=sum(link.startswith("socket:") for link in links),
        threads=sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids),
        resident_bytes=resident_bytes(pids),
    )


def _links(pid: int) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            # Closed meanwhile.
            continue
    return found
