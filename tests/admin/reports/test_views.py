"""What strangers sent, as the staff sees it."""

from __future__ import annotations

from storage.abuse_reports import Category, file_report, make_reference, select_reports
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.csp_violations import Violation, count_violation
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR
from tests.admin.staff.test_views import operator
from tests.admin.trust.test_views import check_html

__all__ = ["operator"]

PAGE = "/staff/reports"


async def test_reports_are_read_and_closed(operator: Visitor, admin_db: Database) -> None:
    assert "Nobody has reported anything" in (await operator.get(PAGE)).text
    reference = make_reference()
    await file_report(admin_db, ACTOR, reference, Category.SPAM, "<script>x</script>", "e@x.org", None)
    page = (await operator.get(PAGE)).text
    check_html(page)
    assert "&lt;script&gt;x" in page
    answer = await operator.submit(PAGE, {"note": "Told them."}, f"{PAGE}/{reference}/close")
    assert answer.headers["location"] == f"{PAGE}?done=closed"
    [report] = await select_reports(admin_db)
    assert (report.note, report.closed_at is not None) == ("Told them.", True)
    assert "Told them." in (await operator.get(PAGE)).text
    again = await operator.submit(PAGE, {"note": "x"}, f"{PAGE}/{reference}/close")
    assert again.headers["location"] == PAGE
    for wrong in ("x", "2026-01-01"):
        assert (await operator.get(f"{PAGE}?before={wrong}")).status_code == 404
    viewed = [row for row in await select_audit_rows(admin_db, None) if row.event == "staff:viewed"]
    assert viewed[-1].details == '{"page": "abuse_reports"}'


async def test_violations_are_shown(operator: Visitor, admin_db: Database) -> None:
    assert "No browser has reported" in (await operator.get("/staff/violations")).text
    found = Violation(directive="script-src", blocked="<b>", source="", page="https://x/")
    await count_violation(admin_db, found)
    page = (await operator.get("/staff/violations")).text
    check_html(page)
    assert "script-src" in page
    assert "&lt;b&gt;" in page
