"""The letter that tells an organization's owners and admins of a new key, whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from storage.bridge import Transaction
from storage.letter_kinds import LetterKind
from storage.model import Actor, ActorKind, APIKey
from storage.outbox import write_members_each


async def tell_minted(tx: Transaction, actor: Actor, keys: Sequence[APIKey], successor_of: str = "") -> None:
    """Writes one for each, all of one organization. Keys that Karta makes by itself, to set itself up or to
    look after itself, are told to nobody."""
    if actor.kind is ActorKind.SYSTEM:
        return
    by = actor.actor_id
    if actor.kind is ActorKind.USER:
        by = await tx.fetch_value("SELECT email FROM users WHERE user_id = $1", UUID(by)) or by
    all_facts = [
        {
            "key_id": key.key_id,
            "name": key.name,
            "mode": key.mode.value,
            "last_four": key.last_four,
            "successor_of": successor_of,
            "by": by,
            "by_kind": actor.kind.value,
            "at": key.created_at.isoformat(timespec="seconds"),
        }
        for key in keys
    ]
    await write_members_each(tx, keys[0].org_id, LetterKind.KEY_MINTED, all_facts)
