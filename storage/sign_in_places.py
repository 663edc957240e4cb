"""Where people have signed in from, so that they are told of a sign-in from elsewhere.

A place is a kind of browser in a network, kept as a digest: enough to know it again, and no record of where
people were. The first place of an account is where it begins, and is told to nobody."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from storage.audit import field
from storage.bridge import Transaction
from storage.letter_kinds import LetterKind
from storage.outbox import Letter, post_open

PLACES_MAX = 50
"""Of one person; who was seen longest ago goes first."""
KEPT_DAYS = 180
"""A place that was not seen for so long is a new one."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """`network` is what is known again, `address` what the letter tells."""

    browser: str
    network: str
    address: str

    def digest(self, user_id: UUID) -> bytes:
        """Not the same for two people, so that places tell nothing of who was where with whom."""
        return hashlib.sha256(field(user_id.bytes) + field(self.browser) + field(self.network)).digest()


async def note_place(tx: Transaction, user_id: UUID, place: Place) -> bool:
    """Writes to the person when they have signed in from elsewhere only; returns whether it did."""
    await tx.execute(
        """
        DELETE FROM sign_in_places
         WHERE user_id = $1 AND (seen_at < now() - make_interval(days => $2) OR place IN (
               SELECT place FROM sign_in_places WHERE user_id = $1
                ORDER BY seen_at DESC, place OFFSET $3))
        """,
        user_id,
        KEPT_DAYS,
        PLACES_MAX - 1,
    )
    others = await tx.fetch_value("SELECT EXISTS (SELECT FROM sign_in_places WHERE user_id = $1)", user_id)
    new = await tx.fetch_value(
        """
        INSERT INTO sign_in_places (user_id, place) VALUES ($1, $2)
        ON CONFLICT (user_id, place) DO UPDATE SET seen_at = now()
        RETURNING xmax = 0
        """,
        user_id,
        place.digest(user_id),
    )
    if not (new and others):
        return False
    email = await tx.fetch_value("SELECT email FROM users WHERE user_id = $1", user_id)
    facts = {
        "browser": place.browser,
        "address": place.address,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    await post_open(tx, Letter(kind=LetterKind.NEW_SIGN_IN, recipient=email, facts=facts))
    return True
