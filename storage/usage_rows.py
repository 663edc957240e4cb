"""Metered requests: stored in batches, exactly once each, and accounted for in the same transaction.

A batch arrives as the journal holds it, in COPY's binary form, and is not decoded here: it goes by COPY into
a temporary table, and from there by one INSERT. That one fails when any row is stored already, and is
followed by one that skips those, so that a batch whose outcome is unknown is simply sent again. What was new
is added up by minute and accounted for (hourly roll-ups, limits, budget events, when keys were last used) by
one call of a function of the database.

Whatever a row holds, it finds a place: when the database refuses one, the batch is sent again with every
field cut, cleaned or replaced where it must be. One odd row must not hold up the thousands behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from storage.bridge import Database
from storage.errors import CheckFailed, Conflict, DatabaseBusy, InvalidValue
from storage.usage_tuple import COLUMNS as COLUMNS
from storage.usage_tuple import NULLABLE, fit_tuple, split_tuples

BATCH_BYTES_MAX = 16 * 1024 * 1024
"""Tens of thousands of rows: a second of the database's work, far below the statement timeout."""
LATE_PREFIX = "6c617465"
"""How ids of work that is learnt of late begin (`late`, in ASCII): derived ones, the same at each look."""

_DEADLOCK = "40P01"
_log = logging.getLogger("karta.storage")

_DEFAULTS = {"text": "''", "boolean": "false", "uuid": f"'{UUID(int=0)}'", "timestamptz": "'epoch'"}
_BATCH_COLUMNS = ", ".join(
    f"{name} {pg_type}" + ("" if name in NULLABLE else f" NOT NULL DEFAULT {_DEFAULTS.get(pg_type, '0')}")
    for name, pg_type in COLUMNS.items()
)
# The table stays with the session, empty between transactions: making one for each batch would bloat the
# catalogue.
_COMMIT_FOR_GOOD = """
    SELECT set_config('synchronous_commit', 'on', true)
     WHERE current_setting('synchronous_commit') = 'off'
"""
_MAKE_BATCH = f"CREATE TEMPORARY TABLE IF NOT EXISTS usage_batch ({_BATCH_COLUMNS}) ON COMMIT DELETE ROWS"
_NAMES = ", ".join(COLUMNS)
_LATE = f"""(request_id BETWEEN '{LATE_PREFIX}-0000-0000-0000-000000000000'
                         AND '{LATE_PREFIX}-ffff-ffff-ffff-ffffffffffff')"""
_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "server_tool_calls",
)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in _COUNTS)
_GROUP = ", ".join(
    (
        "org_id",
        "minute",
        "key_id",
        "provider",
        "model_asked",
        "model",
        "requests",
        "incomplete",
        "unpriced",
        *_COUNTS,
        "cost",
        "charged",
        "last_at",
        "reserved",
    )
)  # those of `usage_group`, in order
_ACCOUNT = f"""groups AS (
         SELECT org_id, date_trunc('minute', started_at, 'UTC') AS minute, key_id, provider,
                coalesce(model_asked, '') AS model_asked, coalesce(model_answered, model_asked, '') AS model,
                count(*) AS requests, count(*) FILTER (WHERE NOT usage_complete) AS incomplete,
                count(*) FILTER (WHERE cost_picodollars IS NULL) AS unpriced,
                {_SUMS},
                least(coalesce(sum(cost_picodollars), 0), 9223372036854775807)::bigint AS cost,
                least(sum(charged_picodollars), 9223372036854775807)::bigint AS charged,
                max(started_at) AS last_at, NOT {_LATE} AS reserved, credential_kind = 'platform' AS platform
           FROM {{new}}
          GROUP BY 1, 2, 3, 4, 5, 6, NOT {_LATE}, credential_kind = 'platform'),
    billable AS (
         SELECT org_id, date_trunc('hour', minute, 'UTC'), sum(requests)::bigint, sum(unpriced)::bigint,
                least(sum(charged), 9223372036854775807)::bigint,
                least(coalesce(sum(charged) FILTER (WHERE reserved), 0), 9223372036854775807)::bigint
           FROM groups WHERE platform GROUP BY 1, 2)
    SELECT (SELECT coalesce(sum(requests), 0)::bigint FROM groups),
           account_usage($1, (SELECT array_agg(ROW({_GROUP})::usage_group) FROM groups),
                         (SELECT array_agg(ROW(billable.*)::billable_group) FROM billable))
"""  # noqa: S608
_FRESH = f"(NOT {_LATE} OR (request_id, started_at) IN (SELECT request_id, started_at FROM late))"  # noqa: S608
# As a rule nothing of a batch is stored yet: rows go in as they come, and all are accounted for. Where one
# is, the key of `usage` makes this fail as a whole.
_STORE_NEW = f"""
    WITH late AS (
         INSERT INTO late_usage (request_id, started_at)
         SELECT DISTINCT ON (request_id) request_id, started_at FROM usage_batch WHERE {_LATE} ORDER BY 1, 2
         ON CONFLICT DO NOTHING RETURNING request_id, started_at),
    added AS (
         INSERT INTO usage ({_NAMES}) SELECT {_NAMES} FROM usage_batch WHERE {_FRESH}),
    {_ACCOUNT.format(new=f"usage_batch WHERE {_FRESH}")}
"""  # noqa: S608
# For a batch of which some may be stored: those are skipped. Sorted, so that two who send the same rows do it
# in the same order; and each row once. The data plane may read no more of `usage` than which rows were new,
# so the rest is taken from the batch.
_STORE_AGAIN = f"""
    WITH batch AS MATERIALIZED (
         SELECT DISTINCT ON (started_at, request_id) {_NAMES}
           FROM usage_batch ORDER BY started_at, request_id),
    late AS (
         INSERT INTO late_usage (request_id, started_at)
         SELECT DISTINCT ON (request_id) request_id, started_at FROM batch WHERE {_LATE} ORDER BY 1, 2
         ON CONFLICT DO NOTHING RETURNING request_id, started_at),
    added AS (
         INSERT INTO usage ({_NAMES}) SELECT {_NAMES} FROM batch WHERE {_FRESH}
         ON CONFLICT DO NOTHING RETURNING started_at, request_id),
    {_ACCOUNT.format(new="batch JOIN added USING (started_at, request_id)")}
"""  # noqa: S608


async def ingest(db: Database, owner: UUID, columns: Sequence[str], tuples: bytes) -> int:
    """Stores and accounts for what is not stored yet, all or nothing; returns how many rows were new.

    Args:
      owner: whose journal this is, and so whose leases it was reserved from.
      columns: what the tuples hold, in order; columns that are missing take their defaults.
      tuples: rows in COPY's binary form, without its header and trailer.

    Raises InvalidValue above `BATCH_BYTES_MAX`, for columns that do not exist, and for bytes that are no
    tuples.
    """
    if len(tuples) > BATCH_BYTES_MAX:
        raise InvalidValue(f"store {BATCH_BYTES_MAX} bytes at most at a time")
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise InvalidValue(f"usage has no column {', '.join(unknown)}: a newer release wrote this journal")
    if not tuples:
        return 0
    try:
        return await _store(db, owner, columns, tuples)
    except (InvalidValue, CheckFailed):
        # Seldom, and so paid for only when it happens.
        mended = [fit_tuple(columns, fields) for fields in split_tuples(tuples, len(columns))]
        _log.warning("a batch of %d usage rows holds values that have no place: mended", len(mended))
        return await _store(db, owner, columns, b"".join(mended))


async def _store(db: Database, owner: UUID, columns: Sequence[str], tuples: bytes) -> int:
    try:
        return await _send(db, owner, columns, tuples, _STORE_NEW)
    except (Conflict, DatabaseBusy) as error:
        # Sent again, after a commit whose outcome was unknown or from the journal of one who was killed; or
        # by two at once, each in an order of its own.
        if isinstance(error, DatabaseBusy) and error.sqlstate != _DEADLOCK:
            raise
        return await _send(db, owner, columns, tuples, _STORE_AGAIN)


async def _send(db: Database, owner: UUID, columns: Sequence[str], tuples: bytes, store: str) -> int:
    async with db.transaction() as tx:
        # The journal lets go of what is committed: a server that loses commits in a crash would lose rows.
        await tx.execute(_COMMIT_FOR_GOOD)
        await tx.execute(_MAKE_BATCH)
        await tx.copy_binary("usage_batch", columns, tuples)
        added: int = await tx.fetch_value(store, owner)
    return added
