"""Who is told by mail when something public changes. Nobody is who did not confirm it, and every mail holds
the link that ends it.

A content is announced once: who writes its digest first, of all processes, sends the mails, in the same
transaction. The first content ever seen is where subscribers begin, and announces nothing.
"""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import NotFound
from storage.letter_kinds import LetterKind
from storage.model import Actor
from storage.outbox import Facts, Letter, post
from storage.sealing import MasterKeys

SUBSCRIBERS_MAX = 10_000
"""Of one topic; more are not told, which the log says."""
UNCONFIRMED_DAYS = 7
_CLEARED_ROWS_MAX = 100


class Topic(StrEnum):
    SUB_PROCESSORS = "sub_processors"
    INCIDENTS = "incidents"


async def request_subscription(
    db: Database, actor: Actor, master_keys: MasterKeys, topic: Topic, token_digest: bytes, letter: Letter
) -> None:
    """Asks the letter's recipient to confirm. Who is subscribed already is not asked again."""
    async with db.transaction() as tx:
        await tx.execute(
            """
            DELETE FROM subscriptions
             WHERE subscription_id IN (
                   SELECT subscription_id FROM subscriptions
                    WHERE confirmed_at IS NULL AND created_at < now() - make_interval(days => $1)
                    LIMIT $2 FOR UPDATE SKIP LOCKED)
            """,
            UNCONFIRMED_DAYS,
            _CLEARED_ROWS_MAX,
        )
        asked = await tx.fetch_value(
            """
            INSERT INTO subscriptions AS s (topic, email, token_digest) VALUES ($1, $2, $3)
            ON CONFLICT (topic, email) DO UPDATE SET token_digest = excluded.token_digest, created_at = now()
             WHERE s.confirmed_at IS NULL
            RETURNING true
            """,
            topic.value,
            letter.recipient,
            token_digest,
        )
        if asked:
            await post(tx, master_keys, letter)
        await audit.record(tx, actor, Event.SUBSCRIPTION_REQUESTED, None, topic.value, {})


async def confirm_subscription(db: Database, actor: Actor, token_digest: bytes) -> None:
    """Raises NotFound for a link that was used, is too old, or never was."""
    async with db.transaction() as tx:
        topic = await tx.fetch_value(
            """
            UPDATE subscriptions SET confirmed_at = now(), token_digest = NULL
             WHERE token_digest = $1 AND created_at > now() - make_interval(days => $2)
            RETURNING topic
            """,
            token_digest,
            UNCONFIRMED_DAYS,
        )
        if topic is None:
            raise NotFound("this link has been used or has expired: subscribe again")
        await audit.record(tx, actor, Event.SUBSCRIPTION_CONFIRMED, None, topic, {})


async def end_subscription(db: Database, actor: Actor, subscription_id: UUID) -> bool:
    """False when there is none (any more)."""
    async with db.transaction() as tx:
        topic = await tx.fetch_value(
            "DELETE FROM subscriptions WHERE subscription_id = $1 RETURNING topic", subscription_id
        )
        if topic is not None:
            await audit.record(tx, actor, Event.SUBSCRIPTION_ENDED, None, topic, {})
    return topic is not None


async def announce(
    db: Database, actor: Actor, topic: Topic, digest: bytes, kind: LetterKind, facts: Facts
) -> int:
    """Tells all subscribers of a content that was not announced before; returns how many."""
    async with db.transaction() as tx:
        first = not await tx.fetch_value(
            "SELECT EXISTS (SELECT FROM announcements WHERE topic = $1)", topic.value
        )
        new = await tx.fetch_value(
            "INSERT INTO announcements (topic, digest) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true",
            topic.value,
            digest,
        )
        if first or not new:
            return 0
        told = await write_subscribers(tx, topic, kind, facts)
        details = {"digest": digest.hex(), "subscribers": told}
        await audit.record(tx, actor, Event.SUB_PROCESSORS_ANNOUNCED, None, topic.value, details)
    return told


async def write_subscribers(tx: Transaction, topic: Topic, kind: LetterKind, facts: Facts) -> int:
    """Puts a letter to each of a topic's subscribers into the outbox; returns how many. Their ids are added
    to the facts: they make the link that ends it."""
    told: int = await tx.fetch_value(
        "SELECT write_subscribers($1, $2, $3::text::jsonb, $4)",
        topic.value,
        kind.value,
        msgspec.json.encode(facts).decode(),
        SUBSCRIBERS_MAX,
    )
    return told
