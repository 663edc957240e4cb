from __future__ import annotations

from datetime import UTC, datetime

from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.suppressions import EVERY_STREAM, Reason, select_suppressions, suppress
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR
from tests.admin.staff.test_views import operator
from tests.admin.trust.test_views import check_html

__all__ = ["operator"]

PAGE = "/staff/mail"


async def test_staff_see_and_lift_it(operator: Visitor, admin_db: Database) -> None:
    page = (await operator.get(PAGE)).text
    check_html(page)
    assert "No address is suppressed" in page
    now = datetime.now(UTC)
    await suppress(admin_db, ACTOR, "ada@example.com", EVERY_STREAM, Reason.HARD_BOUNCE, now)
    await suppress(admin_db, ACTOR, "eve@example.com", "broadcast", Reason.SPAM_COMPLAINT, now)
    await admin_db.execute(
        "INSERT INTO outbox (message_id, kind, recipient, state, ended_at, reason)"
        " VALUES (gen_random_uuid(), 'reset_password', 'x@y.example', 'failed', now(), 'no <such> address')"
    )
    page = (await operator.get(PAGE)).text
    check_html(page)
    assert "Hard bounce" in page
    assert "no &lt;such&gt; address" in page
    found = (await operator.get(f"{PAGE}?email=ADA@example.com")).text
    assert "eve@example.com" not in found
    answer = await operator.submit(PAGE, {"email": "ada@example.com", "stream": "*"}, f"{PAGE}/lift")
    assert answer.headers["location"] == f"{PAGE}?done=lifted"
    again = await operator.submit(PAGE, {"email": "ada@example.com", "stream": "*"}, f"{PAGE}/lift")
    assert again.headers["location"] == PAGE
    assert [one.email for one in await select_suppressions(admin_db)] == ["eve@example.com"]
    lifted = [row for row in await select_audit_rows(admin_db, None) if row.event.startswith("mail:")][-1]
    assert (lifted.event, lifted.actor_kind) == ("mail:suppression_lifted", "user")


async def test_nobody_else_sees_it(signed_in: Visitor) -> None:
    assert (await signed_in.get(PAGE)).status_code == 404
