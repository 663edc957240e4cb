"""Bytes cut into reads, as a network may deliver them."""

from __future__ import annotations

# What `wire` takes in one read.
READ_BYTES = 64 * 1024


def cut(data: bytes, size: int) -> list[bytes]:
    """Pieces of `size` bytes, the last one shorter."""
    return [data[at : at + size] for at in range(0, len(data), size)]
