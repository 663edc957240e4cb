from __future__ import annotations

import pytest

from storage import csp_violations
from storage.bridge import Database
from storage.csp_violations import Violation, count_violation, select_violations


def violation(source: str) -> Violation:
    return Violation(directive="script-src", blocked="inline", source=source, page="https://x/")


async def test_one_kind_is_one_row(admin_db: Database) -> None:
    for source in ("a", "b", "a"):
        await count_violation(admin_db, violation(source))
    found = await select_violations(admin_db)
    assert [(one.violation.source, one.count) for one in found] == [("a", 2), ("b", 1)]
    assert found[0].first_at <= found[0].last_at


async def test_there_are_so_many_kinds_and_no_more(
    admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csp_violations, "KINDS_MAX", 3)
    for source in ("a", "b", "c", "a", "d", "e"):
        await count_violation(admin_db, violation(source))
    assert {one.violation.source for one in await select_violations(admin_db)} == {"a", "d", "e"}


async def test_what_a_stranger_sends_is_cut_and_cannot_hide(admin_db: Database) -> None:
    await count_violation(admin_db, violation("\0\n\u202e" + "x" * 1000))
    [found] = await select_violations(admin_db)
    assert found.violation.source.startswith("\\u0000\\u000a\\u202e")
    assert len(found.violation.source) == 200
