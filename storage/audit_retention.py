"""How old audit rows leave: by the month, a whole partition at a time, as the owner of the schema only.

Before a month goes, each chain that has rows in it is verified; and the last of them is signed as the chain's
*base*, so that what follows still proves that nothing else is missing. A chain that does not verify keeps
everything. The database itself refuses to drop what is younger than a year, or what has no signed base
(migrations/0020_audit_checkpoints.sql). First, rows that lie outside of any month are moved into theirs.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from storage import audit
from storage.audit import Event
from storage.audit_chain import verify_chain
from storage.audit_checkpoints import Kind, SigningKey, insert_checkpoint, trusted_keys
from storage.bridge import Database
from storage.errors import Conflict, InvalidValue
from storage.model import Actor
from storage.sealing import MasterKeys

DAYS_MIN = 365
DAYS_DEFAULT = 400
SECONDS_MAX = 300
"""For one statement: the last row of each chain in a month is looked for in its index."""


async def move_strays(db: Database, actor: Actor) -> list[str]:
    """Gives rows that no month had a place for, and so lie in the default partition, the months they should
    have had; returns their partitions' names.

    It happens when partitions were not made for months, or could not be. Rows are copied as they are, so the
    chains prove as before, and no trigger is off meanwhile (migrations/0027_audit_strays.sql). `db` is the
    owner's. Raises DatabaseBusy when writers do not let go of the log for four seconds.
    """
    async with db.transaction() as tx:
        await tx.execute(f"SET LOCAL statement_timeout = '{SECONDS_MAX}s'")
        months = list(await tx.fetch_value("SELECT move_audit_strays()"))
        if months:
            await audit.record(tx, actor, Event.AUDIT_MOVED, None, "audit_log", {"months": months})
    return months


async def drop_audit(
    db: Database, actor: Actor, master_keys: MasterKeys, key: SigningKey, days: int = DAYS_DEFAULT
) -> list[str]:
    """Drops the months that ended more than `days` ago; returns their partitions' names.

    Raises InvalidValue for fewer than `DAYS_MIN` days, Conflict when a chain does not verify: then nothing
    was dropped. `db` is the owner's, and its patience for one statement `SECONDS_MAX`.
    """
    if days < DAYS_MIN:
        raise InvalidValue(f"audit rows are kept for {DAYS_MIN} days at least")
    kept_since = datetime.now(UTC) - timedelta(days=days)
    await move_strays(db, actor)
    async with db.transaction() as tx:
        await tx.execute(f"SET LOCAL statement_timeout = '{SECONDS_MAX}s'")
        rows = await tx.fetch("SELECT month, org_id, seq, hash FROM audit_months($1)", kept_since)
        if not rows:
            return []
        keys = await trusted_keys(tx, master_keys)
        lasts = [row for row in rows if row["org_id"] is not None]
        for org_id in sorted({row["org_id"] for row in lasts}):
            report = await verify_chain(tx, org_id, keys)
            if not report.intact:
                raise Conflict(f"nothing was dropped: chain {org_id} does not verify, {report.problem}")
        for row in lasts:
            await insert_checkpoint(tx, key.sign(row["org_id"], row["seq"], row["hash"], Kind.BASE))
        months = list(await tx.fetch_value("SELECT drop_audit_months($1)", kept_since))
        details = {"months": months, "days": days, "chains": len({row["org_id"] for row in lasts})}
        await audit.record(tx, actor, Event.AUDIT_DROPPED, None, "audit_log", details)
    return months
