"""Proves the chains of the audit log: that no row was changed, removed, added or moved since it was written.

Strategy. Windows of rows by number, in order. Of each window the database recomputes all hashes in one
statement, made of PostgreSQL's own functions only (what the schema's owner can redefine is not asked), and
says whether every row is as it was written and follows the one before. Only a window where something is
wrong is read row by row, and recomputed here, to name the first bad one. A long chain is checked in two
halves side by side, over two connections: the second begins from the hash that the last row of the first half
has, and the first must end with that. Then the signed checkpoints must lie on the chain. Memory is bounded by
the window, whatever the log's length.

What shows what: a changed, missing, added or moved row breaks the chain of hashes; a tail that was cut off
does not reach `audit_heads`; and where that was changed as well, or all was written anew, a checkpoint does
not lie on the chain any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from uuid import UUID

import msgspec
import trio

from storage import audit, audit_checkpoints
from storage.audit import AuditRow, first_hash, hash_row
from storage.audit_checkpoints import Checkpoint, Kind, SigningKey, is_signed
from storage.bridge import Database
from storage.errors import StorageError
from storage.queries import Queries

WINDOW_ROWS = 50_000
"""A quarter of a second or so for the database; far from its limit for one statement."""
SIGNED_ROWS_MAX = 500
"""Chains looked up at once for signing."""

_CANONICAL = """
    '\\x00000020'::bytea || prev_hash || substr(array_send(ARRAY[
        $5, seq::text, (date_part('epoch', created_at) * 1e6::float8)::bigint::text, event, actor_kind,
        actor_id, subject, address, user_agent, request_id, details::text]), 21)
"""
"""The canonical form of `audit.hash_row`, in SQL, where `prev_hash` has its 32 bytes. It happens to be how
PostgreSQL sends the elements of an array, behind the 20 bytes that say what array it is: one call instead of
forty, which is a quarter of the whole. Text is sent in the session's encoding, which the driver makes UTF-8;
`$5` is the chain's id; a double holds the microseconds of a date exactly until the year 2255."""

_WINDOW = f"""
    SELECT count(*) AS count,
           coalesce(bool_and(octet_length(prev_hash) = 32 AND hash = sha256({_CANONICAL})), true)
           AND coalesce(substr($4 || string_agg(hash, '' ORDER BY seq), 1, 32 * count(*)::integer)
                        = string_agg(prev_hash, '' ORDER BY seq), true) AS sound,
           string_agg(hash, '') FILTER (WHERE seq = $3) AS last_hash
      FROM audit_log
     WHERE org_id = $1 AND seq > $2 AND seq <= $3
"""  # noqa: S608 - put together from constants

_GROWN = """
    SELECT h.org_id, h.seq, h.hash, last.seq AS last_seq, last.hash AS last_hash
      FROM audit_heads h
      LEFT JOIN LATERAL (SELECT c.seq, c.hash FROM audit_checkpoints c
                          WHERE c.org_id = h.org_id ORDER BY c.seq DESC LIMIT 1) AS last ON true
     WHERE ($1::uuid IS NULL OR h.org_id > $1) AND h.seq > coalesce(last.seq, 0)
     ORDER BY h.org_id LIMIT $2
"""


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, at the first row where it shows."""

    seq: int
    text: str


class ChainReport(msgspec.Struct, frozen=True, kw_only=True):
    """What checking one chain found.

    `first_seq` is above 1 when old months were dropped. `checkpoints` are the signed ones that were checked.
    `problem` says what is wrong first, at `problem_seq`.
    """

    org_id: UUID
    rows: int
    first_seq: int | None
    head_seq: int
    head_hash: bytes
    checkpoints: int = 0
    problem: str | None = None
    problem_seq: int | None = None

    @property
    def intact(self) -> bool:
        """Whether every row is as it was written, and none is missing."""
        return self.problem is None


class _Head(msgspec.Struct, frozen=True):
    seq: int
    hash: bytes


class _Part(msgspec.Struct, frozen=True):
    """What checking some rows in a line found: how many are sound, and the last one's hash."""

    rows: int
    last_hash: bytes
    problem: Problem | None = None


async def chains(db: Queries) -> AsyncIterator[UUID]:
    """Every chain there is a trace of, in order: a row, a head or a checkpoint."""
    after = None
    while True:
        org_id = await db.fetch_value(
            """
            SELECT org_id
              FROM ((SELECT org_id FROM audit_log WHERE $1::uuid IS NULL OR org_id > $1
                      ORDER BY org_id LIMIT 1)
                    UNION ALL
                    (SELECT org_id FROM audit_heads WHERE $1 IS NULL OR org_id > $1 ORDER BY org_id LIMIT 1)
                    UNION ALL
                    (SELECT org_id FROM audit_checkpoints WHERE $1 IS NULL OR org_id > $1
                      ORDER BY org_id LIMIT 1)) AS nearest
             ORDER BY org_id LIMIT 1
            """,
            after,
        )
        if org_id is None:
            return
        yield org_id
        after = org_id


async def verify_chain(
    db: Queries,
    org_id: UUID | None,
    keys: Mapping[str, bytes] | None = None,
    kept: list[Checkpoint] | None = None,
) -> ChainReport:
    """Recomputes one chain from its first kept row to its head, and checks its signed checkpoints.

    Args:
      keys: public halves by id whose signatures count; None for those that the database names.
      kept: checkpoints of this chain that were kept elsewhere, checked as well.
    """
    chain = org_id or audit.SYSTEM_CHAIN
    known = dict(await audit_checkpoints.trusted_keys(db, None) if keys is None else keys)
    head = await _select_head(db, chain) or _Head(0, first_hash(chain))
    base = await audit_checkpoints.select_last_checkpoint(db, chain, Kind.BASE)
    start = _Head(0, first_hash(chain)) if base is None else _Head(base.seq, base.hash)
    problems = []
    if base is not None and not is_signed(base, known):
        problems.append(Problem(base.seq, f"the base at row {base.seq} is not signed by Karta's key"))
    rows, problem = await check_span(db, chain, start, head)
    problems += await _check_edges(db, chain, start, head)
    problems += [problem] if problem else []
    checked, found = await _check_checkpoints(db, chain, start, head, known, kept or [])
    problems += found
    first = min(problems, key=lambda one: one.seq) if problems else None
    return ChainReport(
        org_id=chain,
        rows=rows,
        first_seq=start.seq + 1 if rows else None,
        head_seq=head.seq,
        head_hash=head.hash,
        checkpoints=checked,
        problem=None if first is None else first.text,
        problem_seq=None if first is None else first.seq,
    )


async def sign_heads(db: Database, key: SigningKey) -> tuple[list[Checkpoint], list[Problem]]:
    """Signs the head of each chain that has grown since its last checkpoint, after recomputing what is new.
    Returns what was signed, and what was not because something is wrong with it."""
    signed, problems, after = [], [], None
    while rows := await db.fetch(_GROWN, after, SIGNED_ROWS_MAX):
        for row in rows:
            after = row["org_id"]
            start = _Head(row["last_seq"] or 0, row["last_hash"] or first_hash(after))
            _, problem = await check_span(db, after, start, _Head(row["seq"], row["hash"]))
            if problem is not None:
                problems.append(Problem(problem.seq, f"chain {after}: {problem.text}"))
                continue
            checkpoint = key.sign(after, row["seq"], row["hash"])
            if await audit_checkpoints.insert_checkpoint(db, checkpoint):
                signed.append(checkpoint)
    return signed, problems


async def check_span(db: Queries, chain: UUID, start: _Head, head: _Head) -> tuple[int, Problem | None]:
    """Recomputes the rows behind `start` up to `head`: how many are sound, and the first that is not."""
    middle = await _find_middle(db, chain, start, head)
    if middle is None:
        part = await _check_part(db, chain, start, head.seq)
        return part.rows, part.problem or _compare_head(part, head)
    first, second = await _check_halves(db, chain, start, middle, head)
    if first.problem is not None:
        return first.rows, first.problem
    if first.last_hash != middle.hash:
        return first.rows, Problem(middle.seq + 1, f"row {middle.seq + 1} does not follow the row before it")
    return first.rows + second.rows, second.problem or _compare_head(second, head)


def _compare_head(part: _Part, head: _Head) -> Problem | None:
    """All rows are there, and follow each other: what may still not agree is the head."""
    if part.last_hash == head.hash:
        return None
    text = f"the newest rows are missing: the chain's head is not the hash of row {head.seq}"
    return Problem(head.seq + 1, text)


async def _find_middle(db: Queries, chain: UUID, start: _Head, head: _Head) -> _Head | None:
    """Where a long span is cut into halves that are checked side by side; None where it is not worth it, or
    cannot be: a transaction has one connection."""
    if head.seq - start.seq <= WINDOW_ROWS or not isinstance(db, Database):
        return None
    seq = (start.seq + head.seq) // 2
    digest = (await _select_hashes(db, chain, [seq])).get(seq)
    return None if digest is None else _Head(seq, digest)


async def _check_halves(
    db: Queries, chain: UUID, start: _Head, middle: _Head, head: _Head
) -> tuple[_Part, _Part]:
    """Both at once. The second begins from the hash that the row in the middle has, whatever it should be:
    whether the first half ends with that is for the caller to see. It is given up when the first half is
    unsound."""
    parts = [_Part(0, b""), _Part(0, b"")]
    errors: list[StorageError] = []
    async with trio.open_nursery() as nursery:

        async def check(at: int, start: _Head, end: int) -> None:
            try:
                parts[at] = await _check_part(db, chain, start, end)
            except StorageError as error:
                # Carried round the nursery, which would wrap it in a group.
                errors.append(error)
            if errors or parts[0].problem is not None:
                nursery.cancel_scope.cancel()

        nursery.start_soon(check, 0, start, middle.seq)
        nursery.start_soon(check, 1, middle, head.seq)
    if errors:
        raise errors[0]
    return parts[0], parts[1]


async def _check_part(db: Queries, chain: UUID, start: _Head, end: int) -> _Part:
    """The rows behind `start` up to number `end`, in windows."""
    seq, expected = start.seq, start.hash
    while seq < end:
        until = min(seq + WINDOW_ROWS, end)
        window = await db.fetch_row(_WINDOW, chain, seq, until, expected, str(chain))
        assert window is not None
        if not window["sound"] or window["count"] != until - seq or window["last_hash"] is None:
            passed, problem = await _find_problem(db, chain, _Head(seq, expected), until)
            return _Part(seq - start.seq + passed, expected, problem)
        seq, expected = until, window["last_hash"]
    return _Part(end - start.seq, expected)


async def _find_problem(db: Queries, chain: UUID, start: _Head, end: int) -> tuple[int, Problem]:
    """Names the first bad row of a window that has one; and says how many before it are sound."""
    seq, expected = start.seq, start.hash
    while page := await audit.select_audit_rows(db, chain, after_seq=seq):
        for row in page:
            if row.seq > end or (problem := _judge(row, seq, expected)) is not None:
                missing = Problem(seq + 1, f"row {seq + 1} is missing")
                return seq - start.seq, missing if row.seq > end else problem  # type: ignore[return-value]
            seq, expected = row.seq, row.hash
    if seq == 0:
        return 0, Problem(1, "all rows are missing")
    text = f"the newest rows are missing: the chain ends at {seq}, its head says more"
    return seq - start.seq, Problem(seq + 1, text)


def _judge(row: AuditRow, seq: int, expected: bytes) -> Problem | None:
    """What is wrong with the row that comes after number `seq` with the hash `expected`."""
    if row.seq != seq + 1:
        return Problem(seq + 1, f"row {seq + 1} is missing")
    if row.prev_hash != expected:
        return Problem(row.seq, f"row {row.seq} does not follow the row before it")
    if hash_row(row) != row.hash:
        return Problem(row.seq, f"row {row.seq} is not as it was written")
    return None


async def _check_edges(db: Queries, chain: UUID, start: _Head, head: _Head) -> list[Problem]:
    """That nothing stands before the first row or behind the last."""
    problems = []
    before = await db.fetch_value(
        "SELECT seq FROM audit_log WHERE org_id = $1 AND seq <= $2 ORDER BY seq LIMIT 1", chain, start.seq
    )
    if before is not None:
        problems.append(Problem(before, f"row {before} stands before the chain's beginning"))
    behind = await db.fetch_value(
        "SELECT seq FROM audit_log WHERE org_id = $1 AND seq > $2 ORDER BY seq LIMIT 1", chain, head.seq
    )
    if behind is not None:
        # Appended since the head was read; or written past it.
        newest = await _select_head(db, chain)
        if newest is None or newest.seq < behind:
            problems.append(Problem(behind, f"row {behind} stands behind the chain's head"))
    return problems


async def _check_checkpoints(
    db: Queries, chain: UUID, start: _Head, head: _Head, keys: dict[str, bytes], kept: list[Checkpoint]
) -> tuple[int, list[Problem]]:
    """That every checkpoint is signed and lies on the chain: how many there are, and the first that does
    not."""
    checked, good, after = 0, start.seq, 0
    pending = sorted((one for one in kept if one.org_id == chain), key=lambda one: one.seq)
    while True:
        page = await audit_checkpoints.select_checkpoints(db, chain, after_seq=after)
        until = page[-1].seq if page else 2**63 - 1
        mixed = sorted([*page, *(one for one in pending if one.seq <= until)], key=lambda one: one.seq)
        pending = [one for one in pending if one.seq > until]
        hashes = await _select_hashes(db, chain, [one.seq for one in mixed])
        for one in mixed:
            checked += 1
            told = f"the checkpoint of {one.signed_at:%Y-%m-%d %H:%M:%S} UTC at row {one.seq}"
            if not is_signed(one, keys):
                return checked, [Problem(one.seq, f"{told} is not signed by Karta's key")]
            if one.seq < start.seq:
                continue  # Its row was dropped, with all that its base stands for.
            if one.seq > head.seq:
                return checked, [
                    Problem(head.seq + 1, f"the newest rows are missing: {told} is behind the head")
                ]
            if hashes.get(one.seq, start.hash if one.seq == start.seq else None) != one.hash:
                text = f"rows {good + 1} to {one.seq} are not those that were signed: {told} has another hash"
                return checked, [Problem(good + 1, text)]
            good = one.seq
        if not page:
            return checked, []
        after = until


async def _select_hashes(db: Queries, chain: UUID, seqs: list[int]) -> dict[int, bytes]:
    rows = await db.fetch(
        "SELECT seq, hash FROM audit_log WHERE org_id = $1 AND seq = ANY($2::bigint[])", chain, seqs
    )
    return {row["seq"]: row["hash"] for row in rows}


async def _select_head(db: Queries, chain: UUID) -> _Head | None:
    row = await db.fetch_row("SELECT seq, hash FROM audit_heads WHERE org_id = $1", chain)
    return None if row is None else _Head(row["seq"], row["hash"])
