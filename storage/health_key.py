"""The key that the health job's own requests are made with: a `kt_test_` key, which never reaches a provider
and is never billed, in an organization of its own. Kept sealed, since a job that starts each minute anew has
nowhere else to keep it.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from storage import audit
from storage.api_keys import describe, insert_keys, make_key
from storage.audit import Event
from storage.bridge import Database
from storage.errors import SealError
from storage.model import Actor, KeyScope, Mode, Plan
from storage.organizations import create_organization
from storage.plans import lock_plan, require_key_room
from storage.queries import Queries
from storage.sealed_box import Purpose, open_box, seal_box
from storage.sealing import MasterKeys

ORGANIZATION_NAME = "Karta health check"
KEY_NAME = "Health check"
_PLACE = b"health key"


class HealthKey(msgspec.Struct, frozen=True):
    org_id: UUID
    token: str

    def __repr__(self) -> str:
        return f"HealthKey(org_id={self.org_id!r})"


async def ensure_health_key(db: Database, actor: Actor, master_keys: MasterKeys) -> HealthKey:
    """The key; made when there is none, or when it was revoked, or does not open any more. Whatever was made
    before is ended then, so that one is live at a time."""
    found = await _select(db, master_keys)
    if found is not None:
        return found
    org_id = await db.fetch_value("SELECT org_id FROM health_key")
    if org_id is None:
        org_id = (await create_organization(db, actor, name=ORGANIZATION_NAME, plan=Plan.FREE)).org_id
    minted, digest = await make_key(Mode.TEST)
    async with db.transaction() as tx:
        await lock_plan(tx, org_id)
        found = await _select(tx, master_keys)
        if found is not None:
            return found  # another host's job was faster
        # All of them: earlier releases left them, until the plan had no room for another.
        ended = await tx.fetch(
            """
            UPDATE api_keys SET revoked_at = now()
             WHERE org_id = $1 AND name = $2 AND mode = $3 AND revoked_at IS NULL
            RETURNING key_id, name, last_four
            """,
            org_id,
            KEY_NAME,
            Mode.TEST.value,
        )
        await require_key_room(tx, org_id)
        [key] = await insert_keys(
            tx, [(minted, digest)], org_id, KEY_NAME, Mode.TEST, None, KeyScope(), False
        )
        await tx.execute(
            """
            INSERT INTO health_key (org_id, key_id, sealed) VALUES ($1, $2, $3)
            ON CONFLICT (only_one) DO UPDATE
               SET org_id = excluded.org_id, key_id = excluded.key_id, sealed = excluded.sealed
            """,
            org_id,
            key.key_id,
            seal_box(master_keys, Purpose.HEALTH_KEY, _PLACE, minted.token.encode()),
        )
        changes = [(row["key_id"], {"name": row["name"], "last_four": row["last_four"]}) for row in ended]
        await audit.record_each(tx, actor, Event.KEY_REVOKED, org_id, changes)
        await audit.record(tx, actor, Event.KEY_MINTED, org_id, key.key_id, describe(key))
    return HealthKey(org_id, minted.token)


async def _select(db: Queries, master_keys: MasterKeys) -> HealthKey | None:
    row = await db.fetch_row(
        """
        SELECT h.org_id, h.sealed
          FROM health_key h JOIN api_keys k ON k.key_id = h.key_id
         WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
        """
    )
    if row is None:
        return None
    try:
        token = open_box(master_keys, Purpose.HEALTH_KEY, _PLACE, row["sealed"])
    except SealError:
        return None
    return HealthKey(row["org_id"], token.decode())


async def select_newest_usage(db: Queries, org_id: UUID) -> float | None:
    """Seconds since the newest request of the job's own that was accounted for, within the last hour; None
    when there is none."""
    seconds: float | None = await db.fetch_value(
        "SELECT extract(epoch FROM now() - max(started_at))::float8 FROM usage"
        " WHERE org_id = $1 AND started_at > now() - interval '1 hour'",
        org_id,
    )
    return seconds
