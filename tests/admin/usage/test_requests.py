"""Single requests: the newest, one by its id, and nobody else's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from admin.usage.requests import OUTCOMES
from storage.api_keys import mint_key
from storage.bridge import Database
from storage.model import Mode, Outcome, Plan, UsageRecord
from storage.organizations import set_plan
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, Person, make_person
from tests.storage.usage_records import insert_usage, usage


def at(org_id: UUID, request_id: str = "") -> str:
    return f"/organizations/{org_id}/requests{request_id and '/' + request_id}"


@pytest.fixture
async def record(person: Person, admin_db: Database, gateway_db: Database) -> UsageRecord:
    org_id = person.organization.org_id
    key, _ = await mint_key(admin_db, ACTOR, org_id=org_id, name="Web <b>", mode=Mode.LIVE)
    made = usage(
        org_id=org_id,
        key_id=key.key_id,
        started_at=datetime(2026, 11, 25, 12, 30, 15, 250_001, tzinfo=UTC),
        outcome=Outcome.CLIENT_GONE,
        usage_complete=False,
    )
    await insert_usage(gateway_db, [made])
    return made


async def test_the_newest_link_to_each(signed_in: Visitor, person: Person, record: UsageRecord) -> None:
    org_id = person.organization.org_id
    page = (await signed_in.get(at(org_id))).text
    assert "data-live" in page
    link = f"{at(org_id, record.request_id)}?at=1795609815250001"
    assert link in page
    one = await signed_in.get(link)
    assert one.status_code == 200
    for shown in (record.request_id, "Web &lt;b&gt;", "The client left", "partly estimated", "req_1"):
        assert shown in one.text
    assert "12:30:15" in one.text


async def test_it_is_found_by_its_id(signed_in: Visitor, person: Person, record: UsageRecord) -> None:
    org_id = person.organization.org_id
    for typed in (record.request_id, str(UUID(record.request_id)), f" {record.request_id.upper()} "):
        found = await signed_in.get(at(org_id), params={"id": typed})
        assert found.status_code == 303
        assert found.headers["location"].startswith(at(org_id, record.request_id))
    assert (await signed_in.get(at(org_id, record.request_id))).status_code == 200


@pytest.mark.parametrize("typed", ["", "x", "<b>", "0" * 33, "0" * 32])
async def test_what_is_not_there_is_said(signed_in: Visitor, person: Person, typed: str) -> None:
    missing = await signed_in.get(at(person.organization.org_id), params={"id": typed})
    assert missing.status_code == 404
    assert "no such request" in missing.text
    assert "<b>" not in missing.text


@pytest.mark.parametrize("when", ["", "?at=0", "?at=x", "?at=" + "9" * 17, "?at=" + "9" * 16, "?at=-1"])
async def test_a_wrong_time_or_id_finds_nothing(signed_in: Visitor, person: Person, when: str) -> None:
    assert (await signed_in.get(at(person.organization.org_id, uuid4().hex) + when)).status_code == 404


async def test_a_request_of_somebody_else_is_not_there(
    signed_in: Visitor, person: Person, admin_db: Database, gateway_db: Database
) -> None:
    eve = await make_person(admin_db, "eve@example.com")
    theirs = usage(org_id=eve.organization.org_id)
    await insert_usage(gateway_db, [theirs])
    when = (theirs.started_at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    for query in ("", f"?at={round(when * 1e6)}"):
        path = at(person.organization.org_id, theirs.request_id)
        assert (await signed_in.get(path + query)).status_code == 404


async def test_a_plan_shows_single_requests_for_so_long(
    signed_in: Visitor, person: Person, admin_db: Database, gateway_db: Database
) -> None:
    org_id = person.organization.org_id
    old = usage(org_id=org_id, started_at=datetime.now(UTC) - timedelta(days=31))
    new = usage(org_id=org_id, started_at=datetime.now(UTC) - timedelta(days=29))
    await insert_usage(gateway_db, [old, new])
    for plan, there in ((Plan.PRO, 200), (Plan.FREE, 404)):
        await set_plan(admin_db, ACTOR, org_id, plan)
        newest = (await signed_in.get(at(org_id))).text
        assert (old.request_id[-8:] in newest) is (there == 200)
        assert new.request_id[-8:] in newest
        assert (await signed_in.get(at(org_id, old.request_id))).status_code == there
        assert (await signed_in.get(at(org_id, new.request_id))).status_code == 200


async def test_following_live_does_not_keep_a_session_awake(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    await admin_db.execute("UPDATE sessions SET last_seen_at = now() - interval '30 minutes'")
    fresh = "SELECT last_seen_at > now() - interval '1 minute' FROM sessions"
    await signed_in.get(at(person.organization.org_id), headers={"X-Karta-Look": "1"})
    assert not await admin_db.fetch_value(fresh)
    await signed_in.get(at(person.organization.org_id))
    assert await admin_db.fetch_value(fresh)


def test_each_outcome_has_its_words() -> None:
    assert set(OUTCOMES) == set(Outcome)
