"""Usage by key: sums in groups, and requests one by one; page after page, nothing twice and nothing left
out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from storage.bridge import Database
from storage.model import UsageRecord
from tests.admin.conftest import Person
from tests.admin.management_api.client import Client, check
from tests.storage.usage_records import insert_usage, usage

BEGIN = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)


@pytest.fixture
async def records(gateway_db: Database, person: Person) -> list[UsageRecord]:
    made = [
        usage(
            org_id=person.organization.org_id,
            started_at=BEGIN + timedelta(hours=7 * number),
            key_id=f"key{number % 3:09}",
            provider=("anthropic", "openai")[number % 2],
            model_answered=f"model-{number % 5}",
            input_tokens=number,
            cost_picodollars=None if number == 0 else number * 10**9,
        )
        for number in range(20)
    ]
    await insert_usage(gateway_db, made)
    return made


SUMS_IN_GROUPS = [("day", 6), ("key", 3), ("model", 5), ("provider", 2)]


async def test_sums_in_groups(api: Client, records: list[UsageRecord]) -> None:
    for by, groups in SUMS_IN_GROUPS:
        items = await api.all_items(f"{api.org}/usage", 2, by=by)
        assert len(items) == len({item["group"] for item in items}) == groups
        assert sum(item["requests"] for item in items) == 20
        assert sum(item["input_tokens"] for item in items) == sum(range(20))
        assert sum(Decimal(item["cost_usd"]) for item in items) == Decimal("0.19")
        check("UsageSumPage", await api.get(f"{api.org}/usage", by=by))


async def test_one_sum_of_a_span(api: Client, records: list[UsageRecord]) -> None:
    since, until = records[5].started_at, records[9].started_at
    query = {"since": since.isoformat(), "until": until.isoformat()}
    page = await api.get(f"{api.org}/usage", **query)
    [item] = page["items"]
    assert (item["group"], item["requests"], page["next_cursor"]) == (None, 4, None)
    # The other way round nothing lies between.
    backwards = {"since": query["until"], "until": query["since"]}
    assert (await api.get(f"{api.org}/usage", **backwards))["items"][0]["requests"] == 0


async def test_requests_newest_first(api: Client, records: list[UsageRecord]) -> None:
    path = f"{api.org}/usage/requests"
    items = await api.all_items(path, 7)
    assert [item["request_id"] for item in items] == [one.request_id for one in reversed(records)]
    assert (items[0]["cost_usd"], items[-1]["cost_usd"]) == ("0.019", None)
    recent = await api.all_items(path, 7, since=records[15].started_at.isoformat())
    assert recent == items[:5]
    check("UsageRowPage", await api.get(path))


WHAT_IS_NOT_ASKED = [
    {"by": "hour"},
    {"since": "yesterday"},
    {"since": "2026-01-01T00:00:00"},
    {"since": "null"},
    {"since": "1767225600"},
    {"since": "0001-01-01T00:00:00+14:00"},
    {"until": "9999-12-31T23:59:59-14:00"},
    {"limit": "0"},
    {"limit": "101"},
    {"limit": "x"},
    {"cursor": "x"},
    {"else": "x"},
]


async def test_what_is_not_asked(api: Client) -> None:
    for query in WHAT_IS_NOT_ASKED:
        assert (await api.call("GET", f"{api.org}/usage", params=query)).status_code == 422


async def test_one_request_by_its_id(api: Client, records: list[UsageRecord], gateway_db: Database) -> None:
    path = f"{api.org}/usage/requests"
    told = await api.get(f"{path}/{records[3].request_id}")
    assert told == next(item for item in (await api.get(path))["items"] if item["input_tokens"] == 3)
    hers = usage(started_at=BEGIN)
    await insert_usage(gateway_db, [hers])
    for other in (hers.request_id, "0" * 32, "x", "%00"):
        assert (await api.call("GET", f"{path}/{other}")).status_code == 404, other


async def test_a_cursor_belongs_to_its_grouping(api: Client, records: list[UsageRecord]) -> None:
    page = await api.get(f"{api.org}/usage", by="model", limit=1)
    other = {"by": "key", "cursor": page["next_cursor"]}
    assert (await api.call("GET", f"{api.org}/usage", params=other)).status_code == 422
