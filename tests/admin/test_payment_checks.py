"""What was sent to Stripe's meter, and what it says it has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

from admin.payment_checks import check_meter
from admin.payments import Payments
from storage.bridge import Database
from storage.model import Plan
from storage.organizations import create_organization
from tests.admin.conftest import ACTOR


class Meter:
    def __init__(self, value: int) -> None:
        self.value = value

    async def sum_usage(self, customer_id: str, since: datetime, until: datetime) -> int:
        assert customer_id == "cus_1"
        return self.value


async def test_the_meter_has_what_was_sent(admin_db: Database, owner_db: Database) -> None:
    org = await create_organization(admin_db, ACTOR, name="Acme", plan=Plan.PRO)
    await owner_db.execute(
        "INSERT INTO meter_reports (org_id, hour, customer_id, value, state)"
        " VALUES ($1, date_trunc('hour', now(), 'UTC'), 'cus_1', 7, 'sent')",
        org.org_id,
    )
    until = datetime.now(UTC) + timedelta(hours=1)
    span = until - timedelta(days=1), until
    assert await check_meter(cast("Payments", Meter(7)))(admin_db, org.org_id, *span) == []
    (found,) = await check_meter(cast("Payments", Meter(6)))(admin_db, org.org_id, *span)
    assert (found.expected, found.found) == (7, 6)
