"""Requests that may be sent twice and are done once: what was answered is kept for a day.

A request is claimed before it is done, in one statement, so that of two at the same moment one goes on. Its
answer is kept when it was done, and the claim is taken back when it was not. A claim that has neither belongs
to a request under way, or to one whose process died in it: whether that one was done nobody knows, so it is
not done again.

Bounds: the caller's, on how many claims a key makes a day; and `sweep`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from storage.queries import Queries

LIFETIME = timedelta(hours=24)
ANSWER_BYTES_MAX = 128 * 1024
SWEPT_ROWS_MAX = 5_000
"""In one statement, which takes well below its deadline."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What an earlier request of the same name was, and what came of it (None: nothing yet)."""

    request_digest: bytes
    created_at: datetime
    status: int | None
    answer: bytes | None


async def claim(db: Queries, key_id: str, name_digest: bytes, request_digest: bytes) -> Kept | None:
    """Takes a name of a management key. None when it was free, and is now this request's."""
    # What is too old counts as free, also before it is swept.
    await db.execute(
        "DELETE FROM idempotent_requests"
        " WHERE key_id = $1 AND name_digest = $2 AND created_at <= now() - $3::interval",
        key_id,
        name_digest,
        LIFETIME,
    )
    claimed = await db.fetch_value(
        """
        INSERT INTO idempotent_requests (key_id, name_digest, request_digest) VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING
        RETURNING true
        """,
        key_id,
        name_digest,
        request_digest,
    )
    if claimed:
        return None
    row = await db.fetch_row(
        """
        SELECT request_digest, created_at, status, answer
          FROM idempotent_requests
         WHERE key_id = $1 AND name_digest = $2
        """,
        key_id,
        name_digest,
    )
    if row is None:
        # Taken back in between: who asks once more finds it free.
        return Kept(request_digest=request_digest, created_at=datetime.now(UTC), status=None, answer=None)
    return Kept(
        request_digest=row["request_digest"],
        created_at=row["created_at"],
        status=row["status"],
        answer=row["answer"],
    )


async def keep_answer(db: Queries, key_id: str, name_digest: bytes, status: int, answer: bytes) -> None:
    """Keeps what a claimed request came to. The answer must hold no secret."""
    await db.execute(
        "UPDATE idempotent_requests SET status = $3, answer = $4 WHERE key_id = $1 AND name_digest = $2",
        key_id,
        name_digest,
        status,
        answer,
    )


async def release(db: Queries, key_id: str, name_digest: bytes) -> None:
    """Takes back the claim of a request that changed nothing."""
    await db.execute(
        "DELETE FROM idempotent_requests WHERE key_id = $1 AND name_digest = $2 AND status IS NULL",
        key_id,
        name_digest,
    )


async def sweep(db: Queries) -> int:
    """Forgets what is older than `LIFETIME`, `SWEPT_ROWS_MAX` at most; returns how many."""
    status = await db.execute(
        """
        DELETE FROM idempotent_requests
         WHERE ctid = ANY(ARRAY(
               SELECT ctid FROM idempotent_requests WHERE created_at <= now() - $1::interval
                LIMIT $2 FOR UPDATE SKIP LOCKED))
        """,
        LIFETIME,
        SWEPT_ROWS_MAX,
    )
    return int(status.rpartition(" ")[2])
