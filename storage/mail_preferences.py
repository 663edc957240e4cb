"""Which letters a person does not want, of those that can be switched off (`letter_kinds.TOPICS`)."""

from __future__ import annotations

from collections.abc import Set
from uuid import UUID

from storage import audit
from storage.audit import Event
from storage.bridge import Database
from storage.letter_kinds import MailTopic
from storage.model import Actor
from storage.queries import Queries


async def select_opt_outs(db: Queries, user_id: UUID) -> set[MailTopic]:
    rows = await db.fetch("SELECT topic FROM mail_opt_outs WHERE user_id = $1", user_id)
    return {MailTopic(row["topic"]) for row in rows}


async def set_opt_outs(db: Database, actor: Actor, user_id: UUID, topics: Set[MailTopic]) -> None:
    """Exactly these. Raises InvalidReference for an unknown user."""
    wanted = sorted(topic.value for topic in topics)
    async with db.transaction() as tx:
        gone = await tx.fetch(
            "DELETE FROM mail_opt_outs WHERE user_id = $1 AND NOT topic = ANY ($2) RETURNING topic",
            user_id,
            wanted,
        )
        new = await tx.fetch(
            "INSERT INTO mail_opt_outs (user_id, topic) SELECT $1, unnest($2::text[])"
            " ON CONFLICT DO NOTHING RETURNING topic",
            user_id,
            wanted,
        )
        if gone or new:
            details = {"without": wanted}
            await audit.record(tx, actor, Event.MAIL_PREFERENCES_CHANGED, None, str(user_id), details)
