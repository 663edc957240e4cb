"""Overrides of prices: set, replaced, removed; audited and told to gateways; who may do what."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio

from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.changes import CHANNEL, Change, decode_change
from storage.errors import CheckFailed, Conflict, Denied, InvalidValue, NotFound
from storage.model import Actor, Organization
from storage.prices import (
    CLASSES,
    PriceOverride,
    remove_price_override,
    select_price_overrides,
    set_price_override,
)


async def put(
    db: Database, actor: Actor, org_id: UUID | None, model: str = "m", tier: str | None = None, **rates: int
) -> PriceOverride:
    return await set_price_override(
        db, actor, org_id=org_id, provider="openai", model=model, tier=tier, rates=rates or {"input": 5}
    )


async def test_set_replace_remove(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization
) -> None:
    first = await put(admin_db, actor, org.org_id, input=5, output=0)
    assert (first.org_id, first.provider, first.model, first.tier) == (org.org_id, "openai", "m", None)
    assert first.rates == {"input": 5, "output": 0}
    own = await put(admin_db, actor, None)
    batch = await put(admin_db, actor, org.org_id, tier="batch")
    second = await put(admin_db, actor, org.org_id, input=6)
    assert await select_price_overrides(gateway_db) == [own, batch, second]
    assert second.override_id > first.override_id
    removed = await remove_price_override(admin_db, actor, batch.override_id)
    assert removed.removed_at is not None
    assert await select_price_overrides(admin_db, UUID(int=9)) == [own]
    assert await select_price_overrides(admin_db, org.org_id) == [own, second]
    with pytest.raises(Conflict, match="already"):
        await remove_price_override(admin_db, actor, batch.override_id)
    with pytest.raises(NotFound):
        await remove_price_override(admin_db, actor, 10**9)


async def test_audit(admin_db: Database, owner_db: Database, actor: Actor, org: Organization) -> None:
    first = await put(admin_db, actor, org.org_id)
    second = await put(admin_db, actor, org.org_id, input=6)
    await remove_price_override(admin_db, actor, second.override_id)
    own = await put(admin_db, actor, None)
    rows = [row for row in await select_audit_rows(owner_db, org.org_id) if row.event.startswith("price:")]
    assert [(row.event, row.subject) for row in rows] == [
        ("price:set", str(first.override_id)),
        ("price:set", str(second.override_id)),
        ("price:removed", str(second.override_id)),
    ]
    assert f'"replaced": {first.override_id}' in rows[1].details
    assert [row.subject for row in await select_audit_rows(owner_db, None)][-1] == str(own.override_id)


async def test_gateways_are_told(
    admin_db: Database, gateway_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    async with gateway_db.listen(CHANNEL) as changes:
        await put(admin_db, actor, None)
        override = await put(admin_db, actor, org.org_id)
        await remove_price_override(admin_db, actor, override.override_id)
        with trio.fail_after(10):
            told = [decode_change(await changes.receive()) for _ in range(3)]
    about_org = Change("price_overrides", org.org_id)
    assert told == [Change("price_overrides", None), about_org, about_org]


@pytest.mark.parametrize(
    ("tier", "rates"),
    [
        (None, {}),
        (None, {"inputs": 5}),
        (None, {"input": -1}),
        (None, {"input": 10**12 + 1}),
        (None, {"audio_hour": 10**18 + 1}),
        ("someday", {"input": 5}),
    ],
)
async def test_what_is_no_override(
    admin_db: Database, actor: Actor, tier: str | None, rates: dict[str, int]
) -> None:
    with pytest.raises(InvalidValue):
        await set_price_override(
            admin_db, actor, org_id=None, provider="openai", model="m", tier=tier, rates=rates
        )
    assert await select_price_overrides(admin_db) == []


async def test_bounds_are_the_database_s_too(admin_db: Database, actor: Actor) -> None:
    everything = dict.fromkeys(CLASSES, 10**12)
    assert (await put(admin_db, actor, None, model="x" * 200, **everything)).rates == everything
    for model in ("", "x" * 201, "a*b", "**"):
        with pytest.raises(CheckFailed):
            await put(admin_db, actor, None, model=model)
    with pytest.raises(NotFound, match="karta org list"):
        await put(admin_db, actor, UUID(int=7))


async def test_a_gateway_reads_only_and_nobody_rewrites(
    admin_db: Database, gateway_db: Database, actor: Actor
) -> None:
    await put(admin_db, actor, None)
    with pytest.raises(Denied):
        await gateway_db.execute("UPDATE price_overrides SET removed_at = now()")
    for statement in ("UPDATE price_overrides SET rates = '{\"input\": 1}'", "DELETE FROM price_overrides"):
        with pytest.raises(Denied):
            await admin_db.execute(statement)
