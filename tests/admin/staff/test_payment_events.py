"""Staff see Stripe's events, and have one done once more, with proof and on record."""

from __future__ import annotations

from datetime import UTC, datetime

from storage.audit import Event, select_audit_rows
from storage.bridge import Database
from storage.stripe_events import NamedEvent, finish_event, select_events, store_event
from storage.stripe_objects import ObjectKind
from tests.admin.browsing import Visitor
from tests.admin.conftest import Person, make_stale
from tests.admin.staff.test_views import operator, subject

__all__ = ["operator", "subject"]


async def test_events_are_seen_and_replayed(operator: Visitor, admin_db: Database) -> None:
    assert "Stripe has told nothing" in (await operator.get("/staff/payments")).text
    for number in range(2):
        event = NamedEvent(
            event_id=f"evt_{number}",
            kind="invoice.paid",
            object_kind=ObjectKind.INVOICE,
            object_id=f"in_{number}",
            happened_at=datetime.now(UTC),
        )
        await store_event(admin_db, event)
        async with admin_db.transaction() as tx:
            await finish_event(tx, event.event_id, None, "<nothing>")
    await admin_db.execute("UPDATE stripe_events SET state = 'dead' WHERE event_id = 'evt_1'")
    page = (await operator.get("/staff/payments")).text
    assert "in_0" in page
    assert "&lt;nothing&gt;" in page
    assert "1 given up" in page
    dead = (await operator.get("/staff/payments?state=dead")).text
    assert "in_1" in dead
    assert "in_0" not in dead
    assert (await operator.get("/staff/payments?state=odd")).status_code == 404
    replay = "/staff/payments/evt_1/replay"
    await make_stale(admin_db)
    assert (await operator.submit("/staff/payments", {}, replay)).headers["location"] == "/prove"
    await admin_db.execute("UPDATE sessions SET stepped_up_at = now()")
    done = await operator.submit("/staff/payments", {}, replay)
    assert "is being done once more" in (await operator.get(done.headers["location"])).text
    (event_1,) = await select_events(admin_db, "waiting")
    assert (event_1.event_id, event_1.tries) == ("evt_1", 0)
    rows = await select_audit_rows(admin_db, None)
    assert Event.PAYMENT_EVENT_REPLAYED in [row.event for row in rows]
    assert [row.event for row in rows].count(Event.STAFF_VIEWED) >= 3
    gone = await operator.submit("/staff/payments", {}, "/staff/payments/evt_9/replay")
    assert gone.status_code == 404


async def test_reports_that_may_not_have_arrived_are_counted(
    operator: Visitor, subject: Person, owner_db: Database
) -> None:
    states = ("waiting", "sent", "unsure", "refused")
    for number, state in enumerate(states):
        assert "may not have reached" not in (await operator.get("/staff/payments")).text or number > 2
        await owner_db.execute(
            "INSERT INTO meter_reports (org_id, hour, customer_id, value, state)"
            " VALUES ($1, date_trunc('hour', now(), 'UTC') - $2 * interval '1 hour', 'cus_1', 7, $3)",
            subject.organization.org_id,
            number,
            state,
        )
    assert "2 reports of usage may not have reached" in (await operator.get("/staff/payments")).text
