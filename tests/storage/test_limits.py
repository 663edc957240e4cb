"""Limits as the control plane sees them: set, changed, removed, inherited; and what they know of the past."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest

from storage import limits
from storage.api_keys import mint_key, revoke_key, rotate_key, select_gateway_key
from storage.audit import select_audit_rows
from storage.audit_chain import verify_chain
from storage.bridge import Database
from storage.changes import CHANNEL, decode_change
from storage.errors import CheckFailed, Conflict, NotFound
from storage.limits import LimitScope, select_limits, set_limit, unset_limit
from storage.model import Actor, Limit, LimitKind, Mode, Organization, Period, Plan, Role
from storage.organizations import create_organization
from storage.outbox import select_waiting
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import add_member, create_user
from tests.storage.test_webhook_events import listen
from tests.storage.usage_records import insert_usage, usage

MONTHLY = {"kind": LimitKind.MONEY, "period": Period.MONTH}


async def plain_key(owner_db: Database, org: Organization, key_id: str = "0123456789ab") -> str:
    """A key without the cost of its digest."""
    await owner_db.execute(
        """
        INSERT INTO api_keys (key_id, org_id, name, mode, last_four, secret_digest)
        VALUES ($1, $2, 'k', 'live', 'abcd', $3)
        """,
        key_id,
        org.org_id,
        b"$2b$12$" + b"a" * 53,
    )
    return key_id


async def test_a_limit_from_setting_to_removal(
    admin_db: Database, gateway_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    key_id = await plain_key(owner_db, org)
    scope = LimitScope(key_id=key_id, model="m", **MONTHLY)
    async with gateway_db.listen(CHANNEL) as changes:
        limit = await set_limit(admin_db, actor, scope, 5)
        assert decode_change(await changes.receive()).key_id == key_id
        changed = await set_limit(admin_db, actor, scope, 7, hard=False, thresholds=(90,))
        assert decode_change(await changes.receive()).table == "limits"
        whole = await set_limit(admin_db, actor, LimitScope(org_id=org.org_id, **MONTHLY), 9)
        assert decode_change(await changes.receive()).key_id is None
    assert changed == msgspec.structs.replace(limit, amount=7, hard=False, thresholds=(90,))
    assert [told.limit for told in await select_limits(admin_db, org.org_id)] == [whole, changed]
    assert [told.limit for told in await select_limits(admin_db, org.org_id, key_id)] == [changed]
    seen = await select_gateway_key(gateway_db, key_id)
    assert seen is not None
    assert seen.limits == (changed, whole)

    assert await unset_limit(admin_db, actor, scope) == changed
    assert await unset_limit(admin_db, actor, scope) is None
    assert [told.limit for told in await select_limits(admin_db, org.org_id)] == [whole]
    again = await set_limit(admin_db, actor, scope, 5)
    assert again.limit_id != limit.limit_id

    rows = await select_audit_rows(admin_db, org.org_id, after_seq=1)
    assert [(row.event, row.subject) for row in rows] == [
        ("limit:set", str(limit.limit_id)),
        ("limit:set", str(limit.limit_id)),
        ("limit:set", str(whole.limit_id)),
        ("limit:removed", str(limit.limit_id)),
        ("limit:set", str(again.limit_id)),
    ]


async def test_what_cannot_be_limited(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.PRO)
    key_id = await plain_key(owner_db, other)
    for scope in (
        LimitScope(org_id=uuid4(), **MONTHLY),
        LimitScope(key_id="unknown", **MONTHLY),
        LimitScope(org_id=org.org_id, key_id=key_id, **MONTHLY),
        LimitScope(**MONTHLY),
    ):
        with pytest.raises(NotFound):
            await set_limit(admin_db, actor, scope, 5)
        with pytest.raises(NotFound):
            await unset_limit(admin_db, actor, scope)
    for kind, period, amount in (
        (LimitKind.MONEY, Period.MONTH, 0),
        (LimitKind.MONEY, Period.MONTH, 10**18 + 1),
        (LimitKind.MONEY, Period.MINUTE, 1),
        (LimitKind.CONCURRENT, Period.DAY, 1),
        (LimitKind.TOKENS, Period.NONE, 1),
    ):
        with pytest.raises(CheckFailed):
            await set_limit(admin_db, actor, LimitScope(org_id=org.org_id, kind=kind, period=period), amount)
    monkeypatch.setattr(limits, "ORG_LIMITS_MAX", 1)
    await set_limit(admin_db, actor, LimitScope(org_id=org.org_id, **MONTHLY), 5)
    await set_limit(admin_db, actor, LimitScope(org_id=org.org_id, **MONTHLY), 6)
    with pytest.raises(Conflict):
        await set_limit(admin_db, actor, LimitScope(org_id=org.org_id, model="m", **MONTHLY), 5)


async def test_a_limit_knows_its_period_from_the_beginning(
    admin_db: Database, gateway_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    key_id = await plain_key(owner_db, org)
    now = datetime.now(UTC)
    mine = {"org_id": org.org_id, "key_id": key_id, "started_at": now, "charged_picodollars": 10}
    await insert_usage(
        gateway_db,
        [
            usage(**mine),
            usage(**mine | {"model_asked": "other"}),
            usage(**mine | {"key_id": "another"}),
            usage(**mine | {"started_at": now - timedelta(days=40)}),
            usage(**mine | {"org_id": uuid4()}),
        ],
    )
    for scope, settled in (
        (LimitScope(org_id=org.org_id, **MONTHLY), 30),
        (LimitScope(key_id=key_id, **MONTHLY), 20),
        (LimitScope(key_id=key_id, model="other", **MONTHLY), 10),
        (LimitScope(org_id=org.org_id, kind=LimitKind.REQUESTS, period=Period.MONTH), 3),
        (LimitScope(org_id=org.org_id, kind=LimitKind.TOKENS, period=Period.MONTH), 3 * 36),
        (LimitScope(org_id=org.org_id, kind=LimitKind.REQUESTS, period=Period.MINUTE), 0),
    ):
        limit = await set_limit(admin_db, actor, scope, 1000)
        standings = {told.limit: told for told in await select_limits(admin_db, org.org_id)}
        assert standings[limit].settled == settled


async def test_budgets_tell_once_a_period(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization
) -> None:
    now = datetime.now(UTC)
    user = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(admin_db, actor, org.org_id, user.user_id, Role.BILLING)
    hard = await set_limit(admin_db, actor, LimitScope(org_id=org.org_id, **MONTHLY), 100)
    soft = await set_limit(
        admin_db, actor, LimitScope(org_id=org.org_id, model="m", **MONTHLY), 50, hard=False, thresholds=[90]
    )

    async def told() -> list[tuple[int, int, int]]:
        rows = await admin_db.fetch(
            "SELECT limit_id, threshold, settled FROM budget_events ORDER BY created_at, limit_id, threshold"
        )
        return [(row["limit_id"], row["threshold"], row["settled"]) for row in rows]

    async def spend(amount: int, started_at: datetime = now) -> None:
        record = usage(org_id=org.org_id, started_at=started_at, charged_picodollars=amount, model_asked="m")
        await insert_usage(gateway_db, [record])

    await spend(1, now - timedelta(days=32))
    assert [standing.settled for standing in await select_limits(admin_db, org.org_id)] == [0, 0]
    await spend(44)
    assert await told() == []
    await spend(6)
    await spend(7)
    assert await told() == [(hard.limit_id, 50, 50), (soft.limit_id, 90, 50)]
    await spend(70)
    assert (await told())[2:] == [(hard.limit_id, 80, 127), (hard.limit_id, 100, 127)]
    letters = [message.letter for message in await select_waiting(admin_db, MasterKeys({1: bytes(32)}))]
    written = [(one.recipient, one.facts["threshold"], one.facts["settled"]) for one in letters if one]
    assert sorted(written) == [
        ("ada@example.com", 50, "50"),
        ("ada@example.com", 90, "50"),
        ("ada@example.com", 100, "127"),
    ], "of several at once the highest"
    await spend(54, now - timedelta(days=32))
    assert (await told())[4:] == [(hard.limit_id, 50, 55), (soft.limit_id, 90, 55)]
    rows = await select_audit_rows(admin_db, org.org_id, after_seq=4)
    assert [(row.event, row.actor_kind) for row in rows] == [("budget:threshold_reached", "gateway")] * 6
    assert (await verify_chain(admin_db, org.org_id)).intact


async def test_a_successor_inherits(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization
) -> None:
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)
    await set_limit(admin_db, actor, LimitScope(key_id=key.key_id, model="m", **MONTHLY), 100, hard=False)
    await set_limit(admin_db, actor, LimitScope(key_id=key.key_id, **MONTHLY), 100)
    spent = usage(org_id=org.org_id, key_id=key.key_id, started_at=datetime.now(UTC), charged_picodollars=7)
    await insert_usage(gateway_db, [spent])
    new, _ = await rotate_key(admin_db, actor, key.key_id)

    def shape(limit: Limit) -> Limit:
        return msgspec.structs.replace(limit, limit_id=0, key_id=None)

    old_ones = await select_limits(admin_db, org.org_id, key.key_id)
    new_ones = await select_limits(admin_db, org.org_id, new.key_id)
    assert [shape(told.limit) for told in new_ones] == [shape(told.limit) for told in old_ones]
    assert [told.settled for told in new_ones] == [7, 0]


_TOLD = """
    SELECT ARRAY(SELECT (facts ->> 'threshold')::integer FROM outbox
                  WHERE kind = 'budget_reached' ORDER BY 1) AS letters,
           ARRAY(SELECT (details ->> 'threshold')::integer FROM audit_log
                  WHERE event = 'budget:threshold_reached' ORDER BY 1) AS audited,
           ARRAY(SELECT (data #>> '{details,threshold}')::integer FROM webhook_events
                  WHERE type = 'budget.threshold_reached' ORDER BY 1) AS webhooks
"""


async def test_a_successor_does_not_tell_again_what_its_key_told(
    admin_db: Database,
    gateway_db: Database,
    owner_db: Database,
    actor: Actor,
    org: Organization,
    master_keys: MasterKeys,
) -> None:
    user = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(admin_db, actor, org.org_id, user.user_id, Role.BILLING)
    await listen(admin_db, actor, master_keys, org.org_id, ("budget.threshold_reached",))
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)
    await set_limit(admin_db, actor, LimitScope(key_id=key.key_id, **MONTHLY), 100)

    async def spend(amount: int) -> list[list[int]]:
        record = usage(
            org_id=org.org_id,
            key_id=key.key_id,
            started_at=datetime.now(UTC),
            charged_picodollars=amount,
        )
        await insert_usage(gateway_db, [record])
        told = await owner_db.fetch_row(_TOLD)
        assert told is not None
        return [told["letters"], told["audited"], told["webhooks"]]

    assert await spend(51) == [[50]] * 3
    key, _ = await rotate_key(admin_db, actor, key.key_id)
    assert await spend(1) == [[50]] * 3
    assert await spend(30) == [[50, 80]] * 3, "but what the key had not told"
    key, _ = await rotate_key(admin_db, actor, key.key_id)
    assert await spend(1) == [[50, 80]] * 3
    events = await admin_db.fetch("SELECT settled, created_at FROM budget_events WHERE threshold = 50")
    assert len(events) == 3
    assert len({event["created_at"] for event in events}) == 1
    assert {event["settled"] for event in events} == {51}


# A request of one key, charged 7.
_SETTLE = """
    SELECT settle_usage(gen_random_uuid(), ARRAY[ROW(
               $1::uuid, date_trunc('minute', now()), $2::text, 'p', 'm', 'm', 1, 0, 0,
               1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 7, now(), true)::usage_group], NULL)
"""


async def test_settling_reads_no_limits_of_keys_that_used_nothing(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    """Keys that were rotated keep theirs, a thousand each at most."""
    key_id = await plain_key(owner_db, org)
    ended = await plain_key(owner_db, org, "0123456789ac")
    await owner_db.execute("UPDATE api_keys SET revoked_at = now() WHERE key_id = $1", ended)
    for scope in (LimitScope(org_id=org.org_id, **MONTHLY), LimitScope(key_id=key_id, **MONTHLY)):
        await set_limit(admin_db, actor, scope, 1000)
    await owner_db.execute(
        """
        INSERT INTO limits (org_id, key_id, model, kind, period, amount)
        SELECT $1, $2, 'm' || n, 'requests', 'day', 5 FROM generate_series(1, 5000) n
        """,
        org.org_id,
        ended,
    )
    await owner_db.execute("ANALYZE limits")
    async with owner_db.transaction() as tx:
        # As of a table too large to be gone through.
        await tx.execute("SET LOCAL enable_seqscan = off")
        await tx.execute(_SETTLE, org.org_id, key_id)
        read = await tx.fetch_value(
            """
            SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables
             WHERE relid = 'limits'::regclass
            """
        )
    assert 2 <= read < 100
    assert [told.settled for told in await select_limits(admin_db, org.org_id)] == [7, 7]


async def test_limits_of_keys_that_ended_count_for_nothing(
    admin_db: Database, actor: Actor, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or who rotates keys would have no room for another limit one day, and find theirs among hundreds."""
    monkeypatch.setattr(limits, "ORG_LIMITS_MAX", 2)
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)
    await set_limit(admin_db, actor, LimitScope(key_id=key.key_id, **MONTHLY), 100)
    for _ in range(3):
        key, _ = await rotate_key(admin_db, actor, key.key_id)
    await set_limit(admin_db, actor, LimitScope(org_id=org.org_id, **MONTHLY), 5)
    assert [told.limit.key_id for told in await select_limits(admin_db, org.org_id)] == [None, key.key_id]
    with pytest.raises(Conflict):
        await set_limit(admin_db, actor, LimitScope(key_id=key.key_id, model="m", **MONTHLY), 5)
    await revoke_key(admin_db, actor, key.key_id)
    assert [told.limit.key_id for told in await select_limits(admin_db, org.org_id)] == [None]
