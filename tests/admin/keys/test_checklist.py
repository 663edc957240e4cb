"""First steps: shown until they are taken, each leading to the next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from admin.keys.checklist import make_checklist
from storage.api_keys import mint_key, select_keys
from storage.bridge import Database
from storage.credentials import set_credential
from storage.model import Mode, Plan
from storage.organizations import set_plan
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, MASTER_KEYS, Person
from tests.storage.usage_records import insert_usage, usage


async def test_each_step_leads_to_the_next(
    signed_in: Visitor, person: Person, admin_db: Database, gateway_db: Database
) -> None:
    org_id = person.organization.org_id
    home = f"/organizations/{org_id}"

    async def steps() -> tuple[int, str]:
        page = (await signed_in.get(home)).text.partition('id="first-steps"')[2].partition("</ol>")[0]
        return page.count("(done)"), page

    done, page = await steps()
    assert done == 1
    assert f"{home}/keys/new" in page
    key, _ = await mint_key(admin_db, ACTOR, org_id=org_id, name="Web", mode=Mode.LIVE)
    done, page = await steps()
    assert done == 2
    assert f"{home}/provider-keys/new" in page
    await set_credential(
        admin_db,
        ACTOR,
        MASTER_KEYS,
        org_id=org_id,
        provider="openai",
        secret=bytearray(b"sk-0123456789-wxyz"),
    )
    done, page = await steps()
    assert done == 3
    assert "wxyz" in page
    await insert_usage(
        gateway_db, [usage(org_id=org_id, key_id=key.key_id, started_at=datetime.now(UTC), streamed=True)]
    )
    done, page = await steps()
    assert done == 4
    assert "streamed" in page
    assert f"{home}/requests/" in page


async def test_the_free_plan_is_told_that_the_platforms_key_is_used(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    await set_plan(admin_db, ACTOR, person.organization.org_id, Plan.FREE)
    page = (await signed_in.get(f"/organizations/{person.organization.org_id}")).text
    assert "Your own come with the Pro" in page


async def test_it_goes_an_hour_after_the_first_request(
    person: Person, admin_db: Database, gateway_db: Database
) -> None:
    org, now = person.organization, datetime.now(UTC)
    key, _ = await mint_key(admin_db, ACTOR, org_id=org.org_id, name="Web", mode=Mode.LIVE)
    assert await make_checklist(admin_db, org, [key], now) is not None
    first = usage(org_id=org.org_id, key_id=key.key_id, started_at=now)
    await insert_usage(gateway_db, [first])
    keys = await select_keys(admin_db, org.org_id)
    shown = await make_checklist(admin_db, org, keys, now + timedelta(minutes=59))
    assert shown is not None
    assert shown.first is not None
    assert shown.first.request_id == first.request_id
    assert await make_checklist(admin_db, org, keys, now + timedelta(minutes=61)) is None


async def test_an_old_organization_in_use_is_not_asked_about(person: Person, admin_db: Database) -> None:
    org, later = person.organization, datetime.now(UTC) + timedelta(days=8)
    key, _ = await mint_key(admin_db, ACTOR, org_id=org.org_id, name="Web", mode=Mode.LIVE)
    assert await make_checklist(admin_db, org, [key], later) is not None
    used = msgspec.structs.replace(key, last_used_at=later)
    assert await make_checklist(admin_db, org, [used], later) is None
