"""Plans: how organizations are held to theirs, and what a change of plan does.

Everything that depends on a plan asks here: storage before it changes something, pages before they offer it,
the gateway when it reads a key. `plan_terms` is the table, and can be asked from here as well.

What is asked: `allows` for a feature, `limit_of` for a number, `require_…` within a transaction of the change
that needs it, with the organization locked, so that two who come at the same time do not both find room.

A change of plan is one transaction. A plan without provider keys of one's own suspends those that are there
(`credentials.shred_suspended` ends them after `SUSPENDED_KEPT`), one with them resumes them. The plan's
ceilings become limits of the organization, lent to gateways as all others are. Members beyond the seats and
keys beyond their number stay as they are; there are no new ones.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import InvalidValue, NotFound, PlanRefused
from storage.model import Actor, Plan
from storage.plan_terms import MEND, SUBJECTS, ceilings
from storage.plan_terms import SEATS_MAX as SEATS_MAX
from storage.plan_terms import SUSPENDED_KEPT as SUSPENDED_KEPT
from storage.plan_terms import TERMS as TERMS
from storage.plan_terms import Allowance as Allowance
from storage.plan_terms import Feature as Feature
from storage.plan_terms import PlanTerms as PlanTerms
from storage.plan_terms import allows as allows
from storage.plan_terms import describe_lack as describe_lack
from storage.plan_terms import limit_of as limit_of
from storage.queries import Queries

RENEWED_MAX = 500
"""Of one round of the job that brings a release's ceilings to organizations."""


class PlanChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a change of plan did."""

    before: Plan
    after: Plan
    suspended: tuple[str, ...] = ()
    """Providers whose keys are suspended from now on."""
    resumed: tuple[str, ...] = ()
    seats_over: int = 0
    """Members beyond the seats: they stay, and nobody is invited."""
    keys_over: int = 0
    """Live API keys beyond their number: they work, and none is minted."""


async def lock_plan(tx: Transaction, org_id: UUID) -> tuple[Plan, int | None]:
    """The plan and the seats bought; both stay until the transaction ends. Raises NotFound."""
    row = await tx.fetch_row(
        "SELECT plan, seats FROM organizations WHERE org_id = $1 FOR NO KEY UPDATE", org_id
    )
    if row is None:
        raise NotFound(f"there is no organization {org_id}: see `karta org list`")
    return Plan(row["plan"]), row["seats"]


async def require_feature(tx: Transaction, org_id: UUID, feature: Feature) -> None:
    """Raises PlanRefused where the organization's plan lacks it; the organization is locked."""
    plan, _ = await lock_plan(tx, org_id)
    if not allows(plan, feature):
        raise PlanRefused(describe_lack(feature))


async def require_room(tx: Transaction, org_id: UUID, allowance: Allowance, used: int, more: int = 1) -> None:
    """Raises PlanRefused where there is no room for so many more beside the `used`. Lock the plan before
    counting: `lock_plan`."""
    plan, seats = await lock_plan(tx, org_id)
    most = limit_of(plan, allowance, seats=seats)
    if most is not None and used + more > most:
        raise PlanRefused(
            f"the {TERMS[plan].name} plan has {most} {SUBJECTS[allowance]}, and {used} are in use: "
            f"end one, or {MEND}"
        )


async def require_key_room(tx: Transaction, org_id: UUID, more: int = 1) -> None:
    """Room for so many more API keys. Raises PlanRefused, NotFound."""
    await lock_plan(tx, org_id)
    await require_room(tx, org_id, Allowance.KEYS, await count_keys(tx, org_id), more)


async def require_overlap_room(tx: Transaction, org_id: UUID) -> None:
    """Room for a key beside the one that it follows: as many as the plan has may have a successor at a time.
    Otherwise a key that is rotated again and again would be any number of keys. Raises PlanRefused, NotFound.
    """
    plan, seats = await lock_plan(tx, org_id)
    most = limit_of(plan, Allowance.KEYS, seats=seats)
    if most is not None and (used := await count_keys(tx, org_id)) >= 2 * most:
        raise PlanRefused(
            f"the {TERMS[plan].name} plan has {most} {SUBJECTS[Allowance.KEYS]}, and {used} are in use: "
            f"rotate it without an overlap, end one, or {MEND}"
        )


async def require_seat(tx: Transaction, org_id: UUID, email: str) -> None:
    """A seat for somebody to be invited, beside members and other open invitations. Raises PlanRefused,
    NotFound."""
    await lock_plan(tx, org_id)
    used = await tx.fetch_value(
        """
        SELECT (SELECT count(*) FROM memberships WHERE org_id = $1)
             + (SELECT count(*) FROM invitations WHERE org_id = $1 AND expires_at > now() AND email <> $2)
        """,
        org_id,
        email,
    )
    await require_room(tx, org_id, Allowance.SEATS, used)


async def count_keys(db: Queries, org_id: UUID) -> int:
    """Live API keys."""
    count: int = await db.fetch_value(
        "SELECT count(*) FROM api_keys WHERE org_id = $1 AND revoked_at IS NULL"
        " AND coalesce(expires_at > now(), true)",
        org_id,
    )
    return count


async def count_members(db: Queries, org_id: UUID) -> int:
    """Seats that are taken."""
    count: int = await db.fetch_value("SELECT count(*) FROM memberships WHERE org_id = $1", org_id)
    return count


async def change_plan(
    tx: Transaction, actor: Actor, org_id: UUID, plan: Plan, *, seats: int | None = None, reason: str = ""
) -> PlanChange:
    """Changes the plan, with all that follows from it; gateways learn of it at commit.

    Args:
      seats: how many were bought; None keeps them while the plan stays, and is the plan's own number
        otherwise.
      reason: why, for the audit log: what was paid, or not.

    The same plan and seats again change nothing. Raises NotFound, InvalidValue for no number of seats.
    """
    if seats is not None and not 1 <= seats <= SEATS_MAX:
        raise InvalidValue(f"an organization has 1 to {SEATS_MAX} seats")
    before, seats_before = await lock_plan(tx, org_id)
    if plan is before:
        if seats is not None and seats != seats_before:
            await _set_seats(tx, actor, org_id, seats_before, seats, reason)
        return await _count_over(tx, org_id, PlanChange(before=before, after=plan), seats or seats_before)
    await tx.execute(
        "UPDATE organizations SET plan = $2, seats = $3 WHERE org_id = $1", org_id, plan.value, seats
    )
    await apply_ceilings(tx, org_id, plan)
    change = await _count_over(tx, org_id, PlanChange(before=before, after=plan), seats)
    keep = allows(plan, Feature.BYOK)
    touched = await _suspend_or_resume(tx, actor, org_id, resume=keep)
    change = msgspec.structs.replace(
        change, suspended=() if keep else touched, resumed=touched if keep else ()
    )
    details: dict[str, object] = {"before": before.value, "after": plan.value}
    told = {"reason": reason, "seats": seats, "seats_over": change.seats_over, "keys_over": change.keys_over}
    details |= {name: value for name, value in told.items() if value}
    await audit.record(tx, actor, Event.ORGANIZATION_PLAN_CHANGED, org_id, str(org_id), details)
    return change


async def preview_plan(db: Queries, org_id: UUID, plan: Plan) -> PlanChange:
    """What a change of plan would do now. Raises NotFound."""
    row = await db.fetch_row("SELECT plan FROM organizations WHERE org_id = $1", org_id)
    if row is None:
        raise NotFound(f"there is no organization {org_id}: see `karta org list`")
    keep = allows(plan, Feature.BYOK)
    rows = await db.fetch(
        """
        SELECT provider FROM provider_credentials
         WHERE org_id = $1 AND revoked_at IS NULL AND (suspended_at IS NOT NULL) = $2
         ORDER BY provider
        """,
        org_id,
        keep,
    )
    touched = tuple(row["provider"] for row in rows)
    change = PlanChange(
        before=Plan(row["plan"]),
        after=plan,
        suspended=() if keep else touched,
        resumed=touched if keep else (),
    )
    return await _count_over(db, org_id, change, None)


async def _set_seats(
    tx: Transaction, actor: Actor, org_id: UUID, before: int | None, seats: int, reason: str
) -> None:
    await tx.execute("UPDATE organizations SET seats = $2 WHERE org_id = $1", org_id, seats)
    details = {"before": before, "after": seats, "reason": reason}
    await audit.record(tx, actor, Event.ORGANIZATION_SEATS_CHANGED, org_id, str(org_id), details)


async def _count_over(tx: Queries, org_id: UUID, change: PlanChange, seats: int | None) -> PlanChange:
    most_seats = limit_of(change.after, Allowance.SEATS, seats=seats)
    most_keys = limit_of(change.after, Allowance.KEYS)
    members, keys = await count_members(tx, org_id), await count_keys(tx, org_id)
    return msgspec.structs.replace(
        change,
        seats_over=0 if most_seats is None else max(0, members - most_seats),
        keys_over=0 if most_keys is None else max(0, keys - most_keys),
    )


async def _suspend_or_resume(tx: Transaction, actor: Actor, org_id: UUID, *, resume: bool) -> tuple[str, ...]:
    """Returns the providers whose keys were concerned."""
    rows = await tx.fetch(
        """
        UPDATE provider_credentials
           SET suspended_at = CASE WHEN $2::boolean THEN NULL ELSE now() END
         WHERE org_id = $1 AND revoked_at IS NULL AND (suspended_at IS NOT NULL) = $2
        RETURNING credential_id, provider, last_four
        """,
        org_id,
        resume,
    )
    event = Event.CREDENTIAL_RESUMED if resume else Event.CREDENTIAL_SUSPENDED
    for row in rows:
        details = {"provider": row["provider"], "last_four": row["last_four"]}
        if not resume:
            details["kept_days"] = SUSPENDED_KEPT.days
        await audit.record(tx, actor, event, org_id, str(row["credential_id"]), details)
    return tuple(sorted(row["provider"] for row in rows))


async def apply_ceilings(tx: Transaction, org_id: UUID, plan: Plan) -> None:
    """Makes the limits that are the plan's own what the table says."""
    wanted = ceilings(plan)
    kinds, periods = [kind.value for kind, _, _ in wanted], [period.value for _, period, _ in wanted]
    amounts = [amount for _, _, amount in wanted]
    await tx.execute(
        """
        UPDATE limits l SET removed_at = now(), updated_at = now()
         WHERE l.org_id = $1 AND l.of_plan AND l.kind <> 'credit' AND l.removed_at IS NULL
           AND (l.kind, l.period) NOT IN (SELECT * FROM unnest($2::text[], $3::text[]))
        """,
        org_id,
        kinds,
        periods,
    )
    await tx.execute(
        """
        INSERT INTO limits (org_id, kind, period, amount, of_plan)
        SELECT $1, wanted.kind, wanted.period, wanted.amount, true
          FROM unnest($2::text[], $3::text[], $4::bigint[]) AS wanted (kind, period, amount)
        ON CONFLICT (org_id, key_id, model, kind, period, of_plan) WHERE removed_at IS NULL
        DO UPDATE SET amount = EXCLUDED.amount, updated_at = now()
        """,
        org_id,
        kinds,
        periods,
        amounts,
    )


async def renew_ceilings(db: Database, actor: Actor) -> int:
    """Gives organizations the ceilings of this release where they have an earlier one's; returns how many
    were changed, `RENEWED_MAX` at most."""
    renewed = 0
    for plan in TERMS:
        wanted = [f"{kind.value} {period.value} {amount}" for kind, period, amount in ceilings(plan)]
        rows = await db.fetch(
            """
            SELECT o.org_id FROM organizations o
             WHERE o.plan = $1 AND o.deleted_at IS NULL
               AND ARRAY(SELECT concat_ws(' ', l.kind, l.period, l.amount) COLLATE "C" AS ceiling
                           FROM limits l
                          WHERE l.org_id = o.org_id AND l.of_plan AND l.kind <> 'credit'
                            AND l.removed_at IS NULL ORDER BY ceiling)
                   <> $2::text[]
             LIMIT $3
            """,
            plan.value,
            sorted(wanted),
            RENEWED_MAX - renewed,
        )
        for row in rows:
            async with db.transaction() as tx:
                if (await lock_plan(tx, row["org_id"]))[0] is not plan:
                    continue
                await apply_ceilings(tx, row["org_id"], plan)
                details = {"plan": plan.value, "ceilings": wanted}
                await audit.record(
                    tx,
                    actor,
                    Event.ORGANIZATION_CEILINGS_CHANGED,
                    row["org_id"],
                    str(row["org_id"]),
                    details,
                )
                renewed += 1
    return renewed
