"""Keys as pages show them: of an organization that has made very many, those that matter."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from storage.api_keys import COLUMNS, to_key
from storage.model import APIKey
from storage.queries import Queries


async def select_shown_keys(db: Queries, org_id: UUID, limit: int) -> list[APIKey]:
    """The newest first. Where there are more than `limit`, keys that have ended make room for live ones."""
    rows = await db.fetch(
        f"""
        SELECT * FROM (
               SELECT {COLUMNS}
                 FROM api_keys
                WHERE org_id = $1
                ORDER BY revoked_at IS NULL AND coalesce(expires_at > now(), true) DESC,
                         created_at DESC, key_id DESC
                LIMIT $2) shown
         ORDER BY created_at DESC, key_id DESC
        """,  # noqa: S608
        org_id,
        limit,
    )
    return [to_key(row) for row in rows]


async def count_keys(db: Queries, org_id: UUID) -> tuple[int, int]:
    """How many keys an organization has that live, and how many it has made."""
    row = await db.fetch_row(
        """
        SELECT count(*) FILTER (WHERE revoked_at IS NULL AND coalesce(expires_at > now(), true)) AS live,
               count(*) AS made
          FROM api_keys WHERE org_id = $1
        """,
        org_id,
    )
    assert row is not None
    return row["live"], row["made"]


async def select_key_names(db: Queries, org_id: UUID, key_ids: Iterable[str | None]) -> dict[str, str]:
    """By the key's id; of keys that are the organization's."""
    rows = await db.fetch(
        "SELECT key_id, name FROM api_keys WHERE org_id = $1 AND key_id = ANY($2::text[])",
        org_id,
        sorted({key_id for key_id in key_ids if key_id}),
    )
    return {row["key_id"]: row["name"] for row in rows}
