"""What may be asked of a database or of a transaction: the same four ways to run one statement.

Storage functions take `Queries` when they read and may be part of something larger, and `Database` when they
need a transaction of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol


class Record(Protocol):
    """One row, by column name. Binary columns are bytes, uuid is UUID, timestamptz is aware UTC, jsonb is
    text."""

    def __getitem__(self, column: str, /) -> Any: ...

    def keys(self) -> Iterable[str]: ...


class Queries(ABC):
    """The query methods that `bridge.Database` and `bridge.Transaction` share. Values go by `$1`, `$2`, …
    only."""

    @abstractmethod
    async def _query(self, method: str, sql: str, args: tuple[Any, ...]) -> Any:
        """Runs one statement by the named asyncpg method."""

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        """All rows."""
        rows: list[Record] = await self._query("fetch", sql, args)
        return rows

    async def fetch_row(self, sql: str, *args: Any) -> Record | None:
        """The first row, or None."""
        row: Record | None = await self._query("fetchrow", sql, args)
        return row

    async def fetch_value(self, sql: str, *args: Any) -> Any:
        """The first column of the first row, or None."""
        return await self._query("fetchval", sql, args)

    async def execute(self, sql: str, *args: Any) -> str:
        """Runs for effect; returns the status tag (`UPDATE 1`). Without args it may be several statements."""
        status: str = await self._query("execute", sql, args)
        return status
