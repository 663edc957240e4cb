"""Reports, against sums of the very same records made in Python."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from storage import usage_report
from storage.bridge import Database
from storage.model import UsageRecord
from storage.usage_report import (
    Grouping,
    UsageTotal,
    add_up,
    select_first_usage,
    select_request,
    select_totals,
    select_usage,
)
from tests.storage.usage_records import ORG, insert_usage, usage

START = datetime(2026, 1, 30, 22, 17, 3, 500_000, tzinfo=UTC)


@pytest.fixture
async def records(gateway_db: Database) -> list[UsageRecord]:
    """Some hundred requests of three days; others are of another organization."""
    choose = random.Random(3)
    made = [
        usage(
            started_at=START + timedelta(seconds=choose.uniform(0, 50 * 3600)),
            key_id=choose.choice(["key1", "key2"]),
            provider=choose.choice(["anthropic", "openai"]),
            model_asked=choose.choice(["a", "b", None]),
            model_answered=choose.choice(["a", "a-2026", None]),
            usage_complete=choose.random() < 0.9,
            input_tokens=choose.randint(0, 10**6),
            cost_picodollars=choose.choice([None, 0, 123_456_789_012]),
            org_id=choose.choice([ORG, ORG, UUID(int=8)]),
        )
        for _ in range(500)
    ]
    await insert_usage(gateway_db, made)
    return [record for record in made if record.org_id == ORG]


def groups(records: list[UsageRecord], by: Grouping | None) -> dict[str | None, list[UsageRecord]]:
    found: dict[str | None, list[UsageRecord]] = {}
    for record in records:
        group = {
            None: None,
            Grouping.DAY: f"{record.started_at:%Y-%m-%d}",
            Grouping.KEY: record.key_id,
            Grouping.MODEL: record.model_answered or record.model_asked or "",
            Grouping.PROVIDER: record.provider,
        }[by]
        found.setdefault(group, []).append(record)
    return found


def total(group: str | None, records: list[UsageRecord]) -> UsageTotal:
    counted = {
        "requests": len(records),
        "incomplete": sum(not record.usage_complete for record in records),
        "unpriced": sum(record.cost_picodollars is None for record in records),
    }
    summed = {
        name: sum(getattr(record, name) or 0 for record in records)
        for name in UsageTotal.__struct_fields__
        if name not in counted and name != "group"
    }
    return UsageTotal(group=group, **counted, **summed)


@pytest.mark.parametrize("by", [None, *Grouping])
async def test_totals(admin_db: Database, records: list[UsageRecord], by: Grouping | None) -> None:
    spans = [
        (None, None),
        (START + timedelta(hours=3, minutes=7), START + timedelta(hours=30, seconds=5)),
        (START + timedelta(minutes=50), None),
        (None, datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (START + timedelta(minutes=50), START + timedelta(minutes=51)),
        (START + timedelta(minutes=10), START + timedelta(minutes=90)),
        (START + timedelta(hours=3), START + timedelta(hours=2)),
    ]
    for since, until in spans:
        within = [
            record
            for record in records
            if (since is None or record.started_at >= since) and (until is None or record.started_at < until)
        ]
        expected = groups(within, by)
        if by is None:
            expected.setdefault(None, [])
        found = await select_totals(admin_db, ORG, since=since, until=until, by=by)
        assert found == [total(group, expected[group]) for group in sorted(expected, key=str)]


async def test_groups_by_the_page(
    admin_db: Database, records: list[UsageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await select_totals(admin_db, ORG, by=Grouping.DAY)
    monkeypatch.setattr(usage_report, "PAGE_ROWS_MAX", 2)
    pages: list[UsageTotal] = []
    while page := await select_totals(
        admin_db, ORG, by=Grouping.DAY, after=pages[-1].group if pages else None
    ):
        pages += page
    assert pages == whole
    assert len(pages) == 4


async def test_the_dearest_of_all_groups(
    admin_db: Database, gateway_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the dearest among the first by name; of those that cost the same, the busiest."""
    monkeypatch.setattr(usage_report, "PAGE_ROWS_MAX", 3)
    costs = {"a": 1, "b": 0, "c": 0, "d": None, "y": 5, "z": 7}
    made = [
        usage(started_at=START, model_answered=name, cost_picodollars=cost) for name, cost in costs.items()
    ]
    made += [usage(started_at=START, model_answered="c", cost_picodollars=0)]
    await insert_usage(gateway_db, made)
    found = await select_totals(admin_db, ORG, by=Grouping.MODEL, dearest_first=True)
    assert [total.group for total in found] == ["z", "y", "a"]
    monkeypatch.undo()
    found = await select_totals(admin_db, ORG, by=Grouping.MODEL, dearest_first=True)
    assert [total.group for total in found] == ["z", "y", "a", "c", "b", "d"]


async def test_requests_by_the_page(admin_db: Database, records: list[UsageRecord]) -> None:
    seen: list[UsageRecord] = []
    place = None
    while page := await select_usage(admin_db, ORG, before=place, limit=100):
        assert len(page) <= 100
        seen += page
        place = (page[-1].started_at, page[-1].request_id)
    assert seen == sorted(records, key=lambda record: (record.started_at, record.request_id), reverse=True)
    since = seen[50].started_at
    recent = await select_usage(admin_db, ORG, since=since)
    assert recent == [record for record in seen if record.started_at >= since]


async def test_one_request_by_its_id(
    admin_db: Database, records: list[UsageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = min(records, key=lambda record: record.started_at)
    request_id = UUID(wanted.request_id)
    assert await select_request(admin_db, ORG, request_id) == wanted
    assert await select_request(admin_db, ORG, request_id, wanted.started_at) == wanted
    assert await select_request(admin_db, ORG, request_id, START + timedelta(days=9)) is None
    assert await select_request(admin_db, UUID(int=8), request_id, wanted.started_at) is None
    assert await select_request(admin_db, UUID(int=8), request_id) is None
    # Only so far back: the oldest is out of reach by its id alone.
    monkeypatch.setattr(usage_report, "SEARCHED_ROWS_MAX", len(records) - 1)
    assert await select_request(admin_db, ORG, request_id) is None


@pytest.mark.parametrize(
    ("later", "found"), [(0, True), (1, True), (-1, True), (600, True), (-600, True), (4000, False)]
)
async def test_an_id_that_tells_its_time_is_found_however_old(
    later: float, found: bool, admin_db: Database, gateway_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = START + timedelta(seconds=later)
    old = usage(started_at=START, request_id=f"{int(made.timestamp() * 1e9) << 64 | 99:032x}")
    newer = [usage(started_at=START + timedelta(days=1, seconds=number)) for number in range(3)]
    await insert_usage(gateway_db, [old, *newer])
    monkeypatch.setattr(usage_report, "SEARCHED_ROWS_MAX", len(newer))
    assert await select_request(admin_db, ORG, UUID(old.request_id)) == (old if found else None)
    assert await select_request(admin_db, UUID(int=8), UUID(old.request_id)) is None
    assert await select_request(admin_db, ORG, UUID(old.request_id), since=START + timedelta(1)) is None


async def test_the_first_request(admin_db: Database, records: list[UsageRecord]) -> None:
    first = await select_first_usage(admin_db, ORG)
    assert first == min(records, key=lambda record: record.started_at)
    assert await select_first_usage(admin_db, UUID(int=99)) is None


async def test_groups_add_up_to_the_whole(admin_db: Database, records: list[UsageRecord]) -> None:
    [whole] = await select_totals(admin_db, ORG)
    for by in Grouping:
        assert add_up(await select_totals(admin_db, ORG, by=by)) == whole
    assert add_up([]).requests == 0
