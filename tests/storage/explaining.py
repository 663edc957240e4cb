"""How PostgreSQL would answer what a function asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from storage.bridge import Database
from storage.queries import Queries


class _Explaining(Queries):
    """Explains each statement before it is run."""

    def __init__(self, inner: Queries) -> None:
        self._inner = inner
        self.plans: list[str] = []

    async def _query(self, method: str, sql: str, args: tuple[Any, ...]) -> Any:
        rows = await self._inner.fetch(f"EXPLAIN (COSTS OFF) {sql}", *args)
        self.plans.append("\n".join(row["QUERY PLAN"] for row in rows))
        return await self._inner._query(method, sql, args)


async def explain(db: Database, ask: Callable[[Queries], Awaitable[object]]) -> str:
    """The plans of all statements of `ask`, as of a table too large to be gone through: on an empty one
    PostgreSQL does that whatever the indexes."""
    async with db.transaction() as tx:
        await tx.execute("SET LOCAL enable_seqscan = off")
        explaining = _Explaining(tx)
        await ask(explaining)
    return "\n".join(explaining.plans)
