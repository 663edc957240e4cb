from __future__ import annotations

import re

import pytest

from storage.abuse_reports import Category, close_report, file_report, make_reference, select_reports
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import CheckFailed, NotFound
from storage.model import Actor


async def file(db: Database, actor: Actor, report: str = "x") -> str:
    reference = make_reference()
    await file_report(db, actor, reference, Category.OTHER, report, None, None)
    return reference


async def test_a_report_is_closed_once(admin_db: Database, actor: Actor) -> None:
    reference = await file(admin_db, actor)
    await close_report(admin_db, actor, reference, "nothing to it")
    [report] = await select_reports(admin_db)
    assert report.closed_at is not None
    assert report.note == "nothing to it"
    with pytest.raises(NotFound):
        await close_report(admin_db, actor, reference, "again")
    rows = await select_audit_rows(admin_db, None)
    assert [(row.event, row.subject) for row in rows] == [
        ("abuse:reported", reference),
        ("abuse:closed", reference),
    ]


async def test_pages_newest_first(admin_db: Database, actor: Actor) -> None:
    references = [await file(admin_db, actor, str(number)) for number in range(3)]
    first = await select_reports(admin_db, limit=2)
    assert [one.reference for one in first] == references[:0:-1]
    [last] = await select_reports(admin_db, before=first[-1].received_at)
    assert last.reference == references[0]


async def test_a_report_has_bounds(admin_db: Database, actor: Actor) -> None:
    for report in ("", "x" * 3001):
        with pytest.raises(CheckFailed):
            await file(admin_db, actor, report)


def test_references_are_not_guessed() -> None:
    made = {make_reference() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"AB-[0-9A-HJKMNP-TV-Z]{10}", one) for one in made)
