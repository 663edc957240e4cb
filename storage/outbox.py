"""Mail to be sent, written in the transaction that causes it.

A message waits here until the mailer has handed it over; then its text is forgotten. Text and subject are
sealed: some messages hold a link that opens an account.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from storage.bridge import Transaction
from storage.errors import NotFound
from storage.queries import Queries, Record
from storage.sealed_box import Purpose, open_box, seal_box
from storage.sealing import MasterKeys

PAGE_ROWS_MAX = 100


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it is written: `kind` is for whoever counts them. Its repr shows no text."""

    kind: str
    recipient: str
    subject: str
    text: str

    def __repr__(self) -> str:
        return f"Letter({self.kind!r})"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message that waits."""

    message_id: UUID
    created_at: datetime
    letter: Letter


class _Content(msgspec.Struct, array_like=True):
    subject: str
    text: str


async def post(tx: Transaction, master_keys: MasterKeys, letter: Letter) -> UUID:
    """Puts a message into the outbox. Raises SealError when it is too long."""
    message_id = uuid4()
    content = msgspec.json.encode(_Content(letter.subject, letter.text))
    await tx.execute(
        "INSERT INTO outbox (message_id, kind, recipient, sealed) VALUES ($1, $2, $3, $4)",
        message_id,
        letter.kind,
        letter.recipient,
        seal_box(master_keys, Purpose.OUTBOX_MESSAGE, message_id.bytes, content),
    )
    return message_id


async def select_waiting(db: Queries, master_keys: MasterKeys, limit: int = PAGE_ROWS_MAX) -> list[Message]:
    """Messages not sent yet, newest first. Raises SealError when one does not open."""
    rows = await db.fetch(
        """
        SELECT message_id, kind, recipient, sealed, created_at
          FROM outbox
         WHERE sent_at IS NULL
         ORDER BY created_at DESC, message_id
         LIMIT $1
        """,
        min(limit, PAGE_ROWS_MAX),
    )
    return [_to_message(master_keys, row) for row in rows]


async def mark_sent(tx: Transaction, message_id: UUID) -> None:
    """Forgets the text of a message that was handed over. Raises NotFound when it was sent before."""
    done = await tx.fetch_value(
        "UPDATE outbox SET sent_at = now(), sealed = NULL WHERE message_id = $1 AND sent_at IS NULL"
        " RETURNING true",
        message_id,
    )
    if not done:
        raise NotFound("there is no such message waiting")


def _to_message(master_keys: MasterKeys, row: Record) -> Message:
    box = open_box(master_keys, Purpose.OUTBOX_MESSAGE, row["message_id"].bytes, row["sealed"])
    content = msgspec.json.decode(box, type=_Content)
    letter = Letter(kind=row["kind"], recipient=row["recipient"], subject=content.subject, text=content.text)
    return Message(message_id=row["message_id"], created_at=row["created_at"], letter=letter)


async def select_oldest_wait(db: Queries) -> float | None:
    """Seconds that the oldest message waits; None when none does."""
    seconds: float | None = await db.fetch_value(
        "SELECT extract(epoch FROM now() - min(created_at))::float8 FROM outbox WHERE sent_at IS NULL"
    )
    return seconds
