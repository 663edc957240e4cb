"""Usage pages, over rows as the gateway writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from admin import throttle
from storage import usage_report
from storage.api_keys import mint_key
from storage.bridge import Database
from storage.limits import LimitScope, set_limit
from storage.model import LimitKind, Mode, Period
from storage.throttles import Rule
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, Person, make_person
from tests.storage.usage_records import insert_usage, usage

DOLLAR = 10**12


def at(person: Person, page: str = "usage") -> str:
    return f"/organizations/{person.organization.org_id}/{page}"


async def fill(db: Database, gateway_db: Database, person: Person) -> str:
    """Ten requests of today, two of fifty days ago, and one of somebody else; returns the key's id."""
    org_id = person.organization.org_id
    key, _ = await mint_key(db, ACTOR, org_id=org_id, name="Web <b>", mode=Mode.LIVE)
    now = datetime.now(UTC)
    eve = await make_person(db, "eve@example.com")
    mine = {"org_id": org_id, "key_id": key.key_id, "model_answered": "=model"}
    rows = [usage(started_at=now, cost_picodollars=DOLLAR // 4, **mine) for _ in range(10)]
    rows += [
        usage(started_at=now - timedelta(days=50), cost_picodollars=cost, **mine) for cost in (DOLLAR, None)
    ]
    theirs = usage(started_at=now, org_id=eve.organization.org_id, cost_picodollars=77 * DOLLAR)
    await insert_usage(gateway_db, [*rows, theirs])
    return key.key_id


async def test_what_was_used_and_what_it_cost(
    signed_in: Visitor, person: Person, admin_db: Database, gateway_db: Database
) -> None:
    assert "Nothing yet" in (await signed_in.get(at(person))).text
    await fill(admin_db, gateway_db, person)
    page = (await signed_in.get(at(person))).text
    assert "$2.50" in page
    assert "Web &lt;b&gt;" in page
    assert page.count("<rect") == 30
    assert "style=" not in page
    assert "$77" not in page
    longer = (await signed_in.get(at(person) + "?days=90")).text
    assert "$3.50" in longer
    assert "1 unpriced" in longer
    assert longer.count("<rect") == 90


async def test_as_csv(signed_in: Visitor, person: Person, admin_db: Database, gateway_db: Database) -> None:
    key_id = await fill(admin_db, gateway_db, person)
    by_key = await signed_in.get(at(person, "usage.csv?by=key&days=90"))
    assert by_key.headers["content-type"] == "text/csv; charset=utf-8"
    assert by_key.headers["content-disposition"] == 'attachment; filename="usage-by-key-90-days.csv"'
    assert by_key.text.splitlines()[1].startswith(f"{key_id},12,")
    by_model = await signed_in.get(at(person, "usage.csv?by=model"))
    by_provider = await signed_in.get(at(person, "usage.csv?by=provider"))
    assert by_provider.text.splitlines()[1].startswith("anthropic,10,")
    assert by_model.text.splitlines()[1].startswith("'=model,10,")


async def test_as_csv_to_the_last_group_and_not_without_end(
    signed_in: Visitor,
    person: Person,
    admin_db: Database,
    gateway_db: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usage_report, "PAGE_ROWS_MAX", 2)
    await fill(admin_db, gateway_db, person)
    now, org_id = datetime.now(UTC), person.organization.org_id
    models = [f"model-{number}" for number in range(4)]
    await insert_usage(
        gateway_db, [usage(started_at=now, org_id=org_id, model_answered=model) for model in models]
    )
    told = (await signed_in.get(at(person, "usage.csv?by=model"))).text.splitlines()
    assert [line.split(",")[0] for line in told] == ["group", "'=model", *models]
    monkeypatch.setattr(throttle, "EXPORT_ACCOUNT", Rule("export:account", 1, throttle.HOUR))
    assert (await signed_in.get(at(person, "usage.csv"))).status_code == 429


async def test_limits_with_their_state(
    signed_in: Visitor, person: Person, admin_db: Database, gateway_db: Database
) -> None:
    scope = LimitScope(org_id=person.organization.org_id, kind=LimitKind.MONEY, period=Period.MONTH)
    await fill(admin_db, gateway_db, person)
    await set_limit(admin_db, ACTOR, scope, DOLLAR // 100)
    page = (await signed_in.get(at(person))).text
    assert "of $0.01 used" in page
    assert "requests are refused" in page


@pytest.mark.parametrize("page", ["usage?days=8", "usage?days=x", "usage.csv?by=prompt"])
async def test_what_there_is_no_page_of(signed_in: Visitor, person: Person, page: str) -> None:
    assert (await signed_in.get(at(person, page))).status_code == 404
