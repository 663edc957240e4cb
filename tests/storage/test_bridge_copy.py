"""Rows in COPY's binary form: written whole or not at all, and not kept when they are written."""

from __future__ import annotations

import gc
import struct
import tracemalloc

import pytest

from storage import errors
from storage.bridge import Database


async def test_copy(owner_db: Database) -> None:
    await owner_db.execute("CREATE TABLE t (n integer, s text)")
    async with owner_db.transaction() as tx:
        row = struct.Struct(">hi1sii")
        rows = row.pack(2, 1, b"a", 4, 1) + row.pack(2, 1, b"b", 4, 2)
        assert await tx.copy_binary("t", ["s", "n"], rows) == 2
        assert await tx.copy_binary("t", ["n"], b"") == 0
    assert await owner_db.fetch_value("SELECT string_agg(s || n, ',' ORDER BY n) FROM t") == "a1,b2"


async def test_what_was_copied_is_not_left_to_the_collector(owner_db: Database) -> None:
    """A busy gateway copies megabytes a second, and its collector comes by once in many minutes."""
    await owner_db.execute("CREATE TABLE t (s text)")
    size = 1_000_000
    rows = struct.pack(">hi", 1, size) + b"a" * size
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        async with owner_db.transaction() as tx:
            for _ in range(10):
                await tx.copy_binary("t", ["s"], rows)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert kept < 3 * size


@pytest.mark.parametrize("rows", [b"\0\1", b"\0\1\0\0\0\1x", b"\0\1\0\0\0\x05abcde", b"\0\x02" + bytes(8)])
async def test_a_malformed_copy_is_the_values_fault(owner_db: Database, rows: bytes) -> None:
    await owner_db.execute("CREATE TABLE t (n integer)")
    with pytest.raises(errors.InvalidValue):
        async with owner_db.transaction() as tx:
            await tx.copy_binary("t", ["n"], rows)
    assert await owner_db.fetch_value("SELECT count(*) FROM t") == 0
