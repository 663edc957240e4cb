from __future__ import annotations

from typing import Any

from storage.queries import Queries


class Scripted(Queries):
    """Answers whatever it is asked by telling how it was asked."""

    async def _query(self, method: str, sql: str, args: tuple[Any, ...]) -> Any:
        return (method, sql, args)


async def test_each_method_asks_the_driver_by_its_name() -> None:
    db: Any = Scripted()
    assert await db.fetch("a", 1) == ("fetch", "a", (1,))
    assert await db.fetch_row("b") == ("fetchrow", "b", ())
    assert await db.fetch_value("c", 2, 3) == ("fetchval", "c", (2, 3))
    assert await db.execute("d", None) == ("execute", "d", (None,))
