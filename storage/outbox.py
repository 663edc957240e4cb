"""Mail to be sent, written in the transaction that causes it.

A message is a kind and its facts; it becomes words when it is sent or shown, and its facts are forgotten when
it was sent or given up. Facts are sealed where they hold a link that opens something.

A message is `waiting`, and due at a time; or `sending`, claimed until that time; or `sent`, or `failed`. Who
claims messages commits that first and sends then, so one that is found claimed after its time may have been
sent: it is `unsure`, and Postmark is asked before it is sent again. What came of a message is believed only
of who claimed it last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import msgspec

from storage.bridge import Database, Transaction
from storage.errors import InvalidValue, NotFound, SealError
from storage.letter_kinds import ROLES, SECRETS, TOPICS, LetterKind
from storage.queries import Queries, Record
from storage.sealed_box import Purpose, open_box, seal_box
from storage.sealing import MasterKeys

PAGE_ROWS_MAX = 100
KEPT_DAYS = 30
"""How long it is known to whom which kind of letter was sent."""
_SWEPT_ROWS_MAX = 1000
REASON_CHARS_MAX = 300
Facts: TypeAlias = Mapping[str, str | int | list[str]]
_facts_decoder = msgspec.json.Decoder(dict[str, str | int | list[str]])


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it is written. Its repr shows no fact."""

    kind: LetterKind
    recipient: str
    facts: Facts = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Letter({self.kind.value!r})"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message that waits. `letter` is None when it does not open."""

    message_id: UUID
    created_at: datetime
    attempts: int
    letter: Letter | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the outbox is. `sent` and `failed` are of the last day."""

    waiting: int
    oldest_seconds: float | None
    sent: int
    failed: int


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was given up."""

    kind: str
    recipient: str
    ended_at: datetime
    reason: str


async def post(tx: Transaction, master_keys: MasterKeys, letter: Letter) -> UUID:
    """Puts a message into the outbox, sealed. Raises SealError when it is too long."""
    message_id = uuid4()
    await tx.execute(
        "INSERT INTO outbox (message_id, kind, recipient, sealed) VALUES ($1, $2, $3, $4)",
        message_id,
        letter.kind.value,
        letter.recipient,
        seal_box(master_keys, Purpose.OUTBOX_MESSAGE, message_id.bytes, msgspec.json.encode(letter.facts)),
    )
    return message_id


async def post_open(tx: Transaction, letter: Letter) -> UUID:
    """The same where there is nothing to seal. Raises InvalidValue for a kind that opens something."""
    if letter.kind in SECRETS:
        raise InvalidValue(f"a letter of the kind {letter.kind.value} is to be sealed")
    message_id = uuid4()
    await tx.execute(
        "INSERT INTO outbox (message_id, kind, recipient, facts) VALUES ($1, $2, $3, $4::text::jsonb)",
        message_id,
        letter.kind.value,
        letter.recipient,
        msgspec.json.encode(letter.facts).decode(),
    )
    return message_id


async def write_members(tx: Transaction, org_id: UUID, kind: LetterKind, facts: Facts) -> int:
    """Writes to the members of an organization whom such a letter is for, and who want it. Returns to how
    many.

    The organization's name and id are added to the facts.
    """
    return await write_members_each(tx, org_id, kind, [facts])


async def write_members_each(
    tx: Transaction, org_id: UUID, kind: LetterKind, all_facts: Sequence[Facts]
) -> int:
    """The same with a letter for each of several things of one kind. Returns how many letters."""
    topic = TOPICS.get(kind)
    told: int = await tx.fetch_value(
        "SELECT sum(write_members($1, $2, $3, $4, facts::jsonb))::bigint FROM unnest($5::text[]) AS facts",
        org_id,
        kind.value,
        [role.value for role in ROLES[kind]],
        None if topic is None else topic.value,
        [msgspec.json.encode(facts).decode() for facts in all_facts],
    )
    return told


async def select_waiting(db: Queries, master_keys: MasterKeys, limit: int = PAGE_ROWS_MAX) -> list[Message]:
    """Messages not sent yet, newest first."""
    rows = await db.fetch(
        """
        SELECT message_id, kind, recipient, sealed, facts::text AS facts, created_at, attempts
          FROM outbox
         WHERE ended_at IS NULL
         ORDER BY created_at DESC, message_id
         LIMIT $1
        """,
        min(limit, PAGE_ROWS_MAX),
    )
    return [_to_message(master_keys, row) for row in rows]


async def select_message(db: Queries, master_keys: MasterKeys, message_id: UUID) -> Message:
    """Raises NotFound when no such message waits."""
    row = await db.fetch_row(
        """
        SELECT message_id, kind, recipient, sealed, facts::text AS facts, created_at, attempts
          FROM outbox WHERE message_id = $1 AND ended_at IS NULL
        """,
        message_id,
    )
    if row is None:
        raise _gone()
    return _to_message(master_keys, row)


async def claim(
    db: Database, master_keys: MasterKeys, *, unsure: bool, limit: int, seconds: float
) -> tuple[UUID, list[Message]]:
    """Takes messages that are due: either those that nobody has tried to send, or those of which nobody
    knows.

    They are the caller's for so many seconds; the claim is what says so.
    """
    claimed = uuid4()
    rows = await db.fetch(
        """
        UPDATE outbox
           SET state = 'sending', claim = $1, due_at = now() + make_interval(secs => $4),
               attempts = attempts + 1
         WHERE message_id IN (
               SELECT message_id FROM outbox
                WHERE ended_at IS NULL AND state = $2 AND due_at <= now()
                ORDER BY due_at, message_id LIMIT $3
                  FOR UPDATE SKIP LOCKED)
        RETURNING message_id, kind, recipient, sealed, facts::text AS facts, created_at, attempts
        """,
        claimed,
        "sending" if unsure else "waiting",
        min(limit, PAGE_ROWS_MAX),
        float(seconds),
    )
    return claimed, [_to_message(master_keys, row) for row in rows]


async def mark_sent(db: Queries, claimed: UUID, message_id: UUID, postmark_id: UUID | None) -> None:
    """Forgets what a message said that was handed over. Raises NotFound when it is not the claim's."""
    await _end(db, claimed, message_id, "sent", postmark_id, None)


async def mark_failed(db: Queries, claimed: UUID, message_id: UUID, reason: str) -> None:
    """Gives a message up. Raises NotFound when it is not the claim's."""
    await _end(db, claimed, message_id, "failed", None, reason[:REASON_CHARS_MAX])


async def put_off(
    db: Queries, claimed: UUID, message_ids: list[UUID], seconds: float, *, unsure: bool
) -> None:
    """Leaves messages to a later time; `unsure` ones may have been sent."""
    await db.execute(
        """
        UPDATE outbox SET state = $3, due_at = now() + make_interval(secs => $4)
         WHERE claim = $1 AND message_id = ANY ($2) AND ended_at IS NULL
        """,
        claimed,
        message_ids,
        "sending" if unsure else "waiting",
        float(seconds),
    )


async def select_oldest_wait(db: Queries) -> float | None:
    """Seconds that the oldest message waits; None when none does."""
    seconds: float | None = await db.fetch_value(
        "SELECT extract(epoch FROM now() - min(created_at))::float8 FROM outbox WHERE ended_at IS NULL"
    )
    return seconds


async def select_standing(db: Queries) -> Standing:
    row = await db.fetch_row(
        """
        SELECT count(*) FILTER (WHERE ended_at IS NULL) AS waiting,
               extract(epoch FROM now() - min(created_at) FILTER (WHERE ended_at IS NULL))::float8
                   AS oldest_seconds,
               count(*) FILTER (WHERE state = 'sent') AS sent,
               count(*) FILTER (WHERE state = 'failed') AS failed
          FROM outbox
         WHERE ended_at IS NULL OR ended_at > now() - interval '1 day'
        """
    )
    assert row is not None
    return Standing(**dict(row))


async def select_failures(db: Queries, limit: int = PAGE_ROWS_MAX) -> list[Failure]:
    """Messages that were given up, newest first."""
    rows = await db.fetch(
        """
        SELECT kind, recipient, ended_at, coalesce(reason, '') AS reason
          FROM outbox WHERE ended_at IS NOT NULL AND state = 'failed'
         ORDER BY ended_at DESC, message_id LIMIT $1
        """,
        min(limit, PAGE_ROWS_MAX),
    )
    return [Failure(**dict(row)) for row in rows]


async def sweep_ended(db: Queries) -> int:
    """Forgets messages that ended long ago, some at a time; returns how many."""
    rows = await db.fetch(
        """
        DELETE FROM outbox
         WHERE message_id IN (
               SELECT message_id FROM outbox WHERE ended_at < now() - make_interval(days => $1)
                LIMIT $2 FOR UPDATE SKIP LOCKED)
        RETURNING message_id
        """,
        KEPT_DAYS,
        _SWEPT_ROWS_MAX,
    )
    return len(rows)


async def _end(
    db: Queries, claimed: UUID, message_id: UUID, state: str, postmark_id: UUID | None, reason: str | None
) -> None:
    done = await db.fetch_value(
        """
        UPDATE outbox
           SET state = $3, ended_at = now(), sealed = NULL, facts = NULL, postmark_id = $4, reason = $5
         WHERE message_id = $2 AND claim = $1 AND ended_at IS NULL
        RETURNING true
        """,
        claimed,
        message_id,
        state,
        postmark_id,
        reason,
    )
    if not done:
        raise _gone()


def _gone() -> NotFound:
    return NotFound("there is no such message waiting")


def _to_message(master_keys: MasterKeys, row: Record) -> Message:
    return Message(
        message_id=row["message_id"],
        created_at=row["created_at"],
        attempts=row["attempts"],
        letter=_open(master_keys, row),
    )


def _open(master_keys: MasterKeys, row: Record) -> Letter | None:
    content: Any = row["facts"]
    try:
        if row["sealed"] is not None:
            content = open_box(master_keys, Purpose.OUTBOX_MESSAGE, row["message_id"].bytes, row["sealed"])
        kind, facts = LetterKind(row["kind"]), _facts_decoder.decode(content)
    except (SealError, ValueError):
        # Sealed under a master key that is gone, or written by a newer release.
        return None
    return Letter(kind=kind, recipient=row["recipient"], facts=facts)
