"""What each plan has; what holds an organization to it; and what a change of plan does."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio

from storage.api_keys import mint_key, revoke_key, rotate_key, select_gateway_key
from storage.audit import select_audit_rows
from storage.audit_chain import verify_chain
from storage.bridge import Database
from storage.credentials import select_credentials, set_credential
from storage.errors import InvalidValue, NotFound, PlanRefused
from storage.invitations import accept_invitation, invite
from storage.letter_kinds import LetterKind
from storage.limits import LimitScope, select_limits, set_limit
from storage.model import Actor, LimitKind, Mode, Organization, Period, Plan, Role, User
from storage.organizations import create_organization
from storage.outbox import Letter
from storage.plan_terms import ceilings
from storage.plans import (
    Allowance,
    PlanChange,
    change_plan,
    count_keys,
    limit_of,
    renew_ceilings,
)
from storage.sealing import MasterKeys
from storage.users import create_user, insert_member

NOBODY = "00000000-0000-0000-0000-00000000dead"


async def change(db: Database, actor: Actor, org: Organization, plan: Plan, **more: object) -> PlanChange:
    async with db.transaction() as tx:
        return await change_plan(tx, actor, org.org_id, plan, **more)  # type: ignore[arg-type]


def letter(recipient: str) -> Letter:
    return Letter(kind=LetterKind.INVITATION, recipient=recipient)


async def bring_key(db: Database, actor: Actor, keys: MasterKeys, org: Organization, provider: str) -> None:
    secret = bytearray(f"sk-{provider}-0123456789-abcd".encode())
    await set_credential(db, actor, keys, org_id=org.org_id, provider=provider, secret=secret)


async def insert_live_keys(owner_db: Database, org: Organization, number: int) -> None:
    """Whose ids are their numbers."""
    await owner_db.execute(
        """
        INSERT INTO api_keys (key_id, org_id, name, mode, last_four, secret_digest)
        SELECT lpad(n::text, 12, '0'), $1, 'k', 'live', 'abcd', $3 FROM generate_series(1, $2::int) n
        """,
        org.org_id,
        number,
        b"$2b$12$" + b"a" * 53,
    )


async def test_a_plans_ceilings_are_limits_beside_the_organizations_own(
    admin_db: Database, gateway_db: Database, actor: Actor
) -> None:
    org = await create_organization(admin_db, actor, name="Free", plan=Plan.FREE)
    own = await set_limit(
        admin_db, actor, LimitScope(org_id=org.org_id, kind=LimitKind.REQUESTS, period=Period.MINUTE), 7
    )
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)
    seen = await select_gateway_key(gateway_db, key.key_id)
    assert seen is not None
    assert {(one.kind, one.period, one.amount) for one in seen.limits if one.of_plan} == set(
        ceilings(Plan.FREE)
    )
    assert [one for one in seen.limits if not one.of_plan] == [own]
    await change(admin_db, actor, org, Plan.PRO)
    assert [standing.limit for standing in await select_limits(admin_db, org.org_id)] == [own]
    await change(admin_db, actor, org, Plan.FREE)
    standings = await select_limits(admin_db, org.org_id, of_plan=True)
    assert len(standings) == len(ceilings(Plan.FREE))


async def test_a_downgrade_suspends_and_an_upgrade_resumes(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    for provider in ("anthropic", "openai"):
        await bring_key(admin_db, actor, master_keys, org, provider)
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)

    done = await change(admin_db, actor, org, Plan.FREE, reason="not paid")
    assert (done.before, done.after, done.suspended) == (Plan.PRO, Plan.FREE, ("anthropic", "openai"))
    suspended = [one.provider for one in await select_credentials(admin_db, org.org_id) if one.suspended_at]
    assert sorted(suspended) == ["anthropic", "openai"]
    seen = await select_gateway_key(gateway_db, key.key_id)
    assert seen is not None
    assert (seen.credentials, set(seen.suspended_providers)) == ((), {"anthropic", "openai"})

    again = await change(admin_db, actor, org, Plan.FREE)
    assert again == PlanChange(before=Plan.FREE, after=Plan.FREE)
    back = await change(admin_db, actor, org, Plan.ENTERPRISE)
    assert back.resumed == ("anthropic", "openai")
    seen = await select_gateway_key(gateway_db, key.key_id)
    assert seen is not None
    assert (len(seen.credentials), seen.suspended_providers) == (2, ())

    events = [row.event for row in await select_audit_rows(admin_db, org.org_id)]
    assert events[-6:] == [
        *["credential:suspended"] * 2,
        "organization:plan_changed",
        *["credential:resumed"] * 2,
        "organization:plan_changed",
    ]
    rows = await select_audit_rows(admin_db, org.org_id)
    assert '"reason": "not paid"' in rows[-4].details
    assert (await verify_chain(admin_db, org.org_id)).intact


async def test_seats(admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys) -> None:
    people: list[User] = []
    for number in range(4):
        digest = b"$2b$12$" + b"a" * 53
        email = f"p{number}@example.com"
        people.append(await create_user(admin_db, actor, email=email, password_digest=digest))
    async with admin_db.transaction() as tx:
        for person in people[:2]:
            await insert_member(tx, actor, org.org_id, person.user_id, Role.VIEWER)
    await change(admin_db, actor, org, Plan.PRO, seats=3)

    async def ask(person: User, digest: bytes) -> None:
        args = (org.org_id, person.email, Role.VIEWER, digest, letter(person.email))
        await invite(admin_db, actor, master_keys, *args)

    await ask(people[2], b"a" * 32)
    await ask(people[2], b"b" * 32)  # the same once more takes no other seat
    with pytest.raises(PlanRefused, match="3 seats, and 3 are in use"):
        await ask(people[3], b"c" * 32)
    assert (await change(admin_db, actor, org, Plan.PRO, seats=1)).seats_over == 1
    with pytest.raises(PlanRefused):
        await accept_invitation(admin_db, actor, b"b" * 32, people[2])
    await change(admin_db, actor, org, Plan.PRO, seats=3)
    await accept_invitation(admin_db, actor, b"b" * 32, people[2])
    with pytest.raises(InvalidValue):
        await change(admin_db, actor, org, Plan.PRO, seats=0)


async def test_keys_beyond_the_plan_work_and_none_is_minted(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    most = limit_of(Plan.FREE, Allowance.KEYS)
    assert most is not None
    await insert_live_keys(owner_db, org, most + 2)
    assert (await change(admin_db, actor, org, Plan.FREE)).keys_over == 2
    common = {"org_id": org.org_id, "name": "n", "mode": Mode.LIVE}
    with pytest.raises(PlanRefused, match=f"{most} API keys, and {most + 2}"):
        await mint_key(admin_db, actor, **common)  # type: ignore[arg-type]
    await rotate_key(admin_db, actor, f"{1:012}")
    for number in (2, 3, 4):
        await revoke_key(admin_db, actor, f"{number:012}")

    outcomes: list[bool] = []

    async def try_one() -> None:
        try:
            await mint_key(admin_db, actor, **common)  # type: ignore[arg-type]
            outcomes.append(True)
        except PlanRefused:
            outcomes.append(False)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(try_one)
        nursery.start_soon(try_one)
    assert sorted(outcomes) == [False, True]


async def test_overlaps_do_not_pile_up_keys(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    most = limit_of(Plan.FREE, Allowance.KEYS)
    assert most is not None
    await insert_live_keys(owner_db, org, most)
    await change(admin_db, actor, org, Plan.FREE)
    # Each may have a successor beside it, but no key has one after the other.
    for number in range(1, most + 1):
        await rotate_key(admin_db, actor, f"{number:012}", 3600)
    with pytest.raises(PlanRefused, match="without an overlap"):
        await rotate_key(admin_db, actor, f"{1:012}", 3600)
    assert await count_keys(admin_db, org.org_id) == 2 * most
    await rotate_key(admin_db, actor, f"{1:012}")


async def test_an_unknown_organization_has_no_plan(admin_db: Database, actor: Actor) -> None:
    with pytest.raises(NotFound):
        async with admin_db.transaction() as tx:
            await change_plan(tx, actor, UUID(NOBODY), Plan.PRO)


async def test_a_releases_ceilings_reach_organizations(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    free = await create_organization(admin_db, actor, name="Free", plan=Plan.FREE)
    assert await renew_ceilings(admin_db, actor) == 0
    before = await select_limits(admin_db, free.org_id, of_plan=True)
    await owner_db.execute("UPDATE limits SET amount = 1 WHERE kind = 'requests'")
    await owner_db.execute("UPDATE limits SET removed_at = now() WHERE kind = 'tokens'")
    await owner_db.execute(
        "INSERT INTO limits (org_id, kind, period, amount, of_plan) VALUES ($1, 'tokens', 'day', 5, true)",
        org.org_id,
    )
    assert await renew_ceilings(admin_db, actor) == 2
    assert await renew_ceilings(admin_db, actor) == 0
    after = await select_limits(admin_db, free.org_id, of_plan=True)
    assert {one.limit.amount for one in after} == {one.limit.amount for one in before}
    assert await select_limits(admin_db, org.org_id, of_plan=True) == []
    assert (await select_audit_rows(admin_db, org.org_id))[-1].event == "organization:ceilings_changed"
