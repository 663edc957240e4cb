"""`karta usage …` on a real database."""

from __future__ import annotations

import argparse
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from karta.commands.usage import moment
from storage.bridge import open_database
from tests.karta.conftest import Document, Karta
from tests.storage.usage_records import insert_usage, usage
from tests.support.postgres import run_in_own_trio

START = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)


@pytest.fixture
def used(database_url: str, org_id: str) -> str:
    """An organization's id, some requests of which are stored."""
    records = [
        usage(org_id=UUID(org_id), started_at=START + timedelta(minutes=20 * number), model_answered=model)
        for number, model in enumerate(["a", "=b()", "a", None])
    ]
    records.append(usage(org_id=UUID(org_id), started_at=START, cost_picodollars=None, charged_picodollars=0))

    async def store() -> None:
        async with open_database(database_url, role="karta_gateway") as db:
            await insert_usage(db, records)

    run_in_own_trio(store)
    return org_id


def report(karta: Karta, database_url: str, org_id: str, *arguments: object) -> Document:
    code, out, err = karta(
        "usage", "report", "--org", org_id, *arguments, "--json", "--database-url", database_url
    )
    assert code == 0, err
    found: Document = json.loads(out)
    return found


def test_the_whole_and_its_parts(karta: Karta, database_url: str, used: str) -> None:
    whole = report(karta, database_url, used)
    assert (whole["requests"], whole["input_tokens"], whole["output_tokens"]) == (5, 50, 100)
    assert (whole["cost_usd"], whole["unpriced"], whole["rows"]) == (0.004938, 1, [])
    by_day = report(karta, database_url, used, "--by", "day")
    assert [(row["day"], row["requests"]) for row in by_day["rows"]] == [("2026-01-31", 3), ("2026-02-01", 2)]
    by_model = report(karta, database_url, used, "--by", "model", "--since", "2026-01-31T23:45")
    assert by_model["requests"] == 3
    assert {row["model"]: row["requests"] for row in by_model["rows"]} == {"=b()": 1, "a": 1, "claude-x": 1}
    assert (
        report(karta, database_url, used, "--by", "key", "--until", "2026-02-01")["rows"][0]["requests"] == 3
    )


def test_as_a_table(karta: Karta, database_url: str, used: str) -> None:
    out = karta("usage", "report", "--org", used, "--by", "day", "--database-url", database_url)[1]
    heading, *days, total = out.splitlines()
    assert heading.split() == ["DAY", "REQUESTS", "INPUT", "OUTPUT", "CACHED", "COST", "UNPRICED"]
    assert len(days) == 2
    assert total.split() == ["(total)", "5", "50", "100", "30", "$0.004938", "1"]


def test_as_csv(karta: Karta, database_url: str, used: str) -> None:
    out = karta("usage", "report", "--org", used, "--by", "model", "--csv", "--database-url", database_url)[1]
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["model"], row["requests"], row["cost_usd"]) for row in rows] == [
        ("'=b()", "1", "0.0012345"),
        ("a", "2", "0.002469"),
        ("claude-x", "1", "0.0012345"),
        ("claude-x-20260101", "1", "0.00"),
    ]
    out = karta("usage", "report", "--org", used, "--csv", "--database-url", database_url)[1]
    assert out.count("\n") == 2


def test_nothing_and_nobody(karta: Karta, database_url: str, org_id: str) -> None:
    assert report(karta, database_url, org_id, "--by", "day")["requests"] == 0
    unknown = "00000000-0000-0000-0000-000000000000"
    assert karta("usage", "report", "--org", unknown, "--database-url", database_url)[0] == 1


def test_retention_and_rebuilding(karta: Karta, database_url: str, used: str) -> None:
    span = ("--since", "2026-01-31", "--until", "2026-02-02")
    code, out, _ = karta("usage", "rebuild", "--org", used, *span, "--json", "--database-url", database_url)
    assert (code, json.loads(out)) == (0, {"rows": 5})
    assert report(karta, database_url, used)["requests"] == 5
    code, out, _ = karta("usage", "retention", "--days", 1, "--json", "--database-url", database_url)
    assert (code, json.loads(out)) == (0, {"dropped": ["rows of usage_default"]})
    assert (
        "Nothing is that old" in karta("usage", "retention", "--days", 1, "--database-url", database_url)[1]
    )
    assert report(karta, database_url, used)["requests"] == 5
    wrong = ("--since", "2026-02-02", "--until", "2026-02-01")
    assert karta("usage", "rebuild", "--org", used, *wrong, "--database-url", database_url)[0] == 2
    assert karta("usage", "retention", "--days", 0, "--database-url", database_url)[0] == 2


def test_times() -> None:
    assert moment("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)
    assert moment("2026-01-31T12:00+02:00") == datetime(2026, 1, 31, 10, tzinfo=UTC)
    with pytest.raises(argparse.ArgumentTypeError):
        moment("yesterday")
