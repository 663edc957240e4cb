"""An organization is one customer, whoever asks at the same time."""

from __future__ import annotations

import trio

from storage import audit
from storage.audit import Event, select_audit_rows
from storage.bridge import Database
from storage.model import Actor, Organization
from storage.stripe_customers import (
    apply_customer,
    ensure_customer_row,
    keep_customer,
    lock_owner,
    select_customer,
)
from storage.stripe_objects import CustomerReading, TaxId
from tests.storage.lock_waits import until_waiting
from tests.storage.stripe_readings import CUSTOMER, make_customer


async def test_a_customer_is_kept_once(admin_db: Database, actor: Actor, org: Organization) -> None:
    row = await ensure_customer_row(admin_db, org.org_id)
    assert row.customer_id is None
    assert row.idempotency_key == f"karta-customer-{org.org_id}-1"
    assert await keep_customer(admin_db, actor, row, "cus_1") == "cus_1"
    assert await keep_customer(admin_db, actor, row, "cus_2") == "cus_1"
    assert (await ensure_customer_row(admin_db, org.org_id)).customer_id == "cus_1"
    told = [row.event for row in await select_audit_rows(admin_db, org.org_id)]
    assert told.count(Event.PAYMENT_CUSTOMER_MADE) == 1
    async with admin_db.transaction() as tx:
        assert await lock_owner(tx, "cus_1") == org.org_id
        assert await lock_owner(tx, "cus_2") is None
        assert await lock_owner(tx, None) is None


async def test_tax_ids_and_a_customer_that_is_gone(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    await make_customer(admin_db, actor, org)
    tax_ids = (TaxId(kind="eu_vat", value="DE123456789", verification="pending"),)
    known = CustomerReading(customer_id=CUSTOMER, deleted=False, tax_ids=tax_ids)
    gone = CustomerReading(customer_id=CUSTOMER, deleted=True, tax_ids=())
    for number, reading, kept in ((2, known, tax_ids), (1, gone, tax_ids), (3, gone, ())):
        async with admin_db.transaction() as tx:
            assert await apply_customer(tx, actor, reading, number) == org.org_id
        found = await select_customer(admin_db, org.org_id)
        assert found is not None
        assert found.tax_ids == kept
    assert (found.customer_id, found.generation) == (None, 2)
    async with admin_db.transaction() as tx:
        assert await apply_customer(tx, actor, known, 4) is None


async def test_the_organization_comes_before_its_audit_log(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    """As for everybody who locks both: else two wait for each other."""
    await make_customer(admin_db, actor, org)
    done = trio.Event()

    async def put_in() -> None:
        async with admin_db.transaction() as tx:
            await lock_owner(tx, CUSTOMER)
            await audit.record(tx, actor, Event.PAYMENT_TAX_IDS_CHANGED, org.org_id, "x", {})
        done.set()

    async with trio.open_nursery() as nursery, admin_db.transaction() as tx:
        await tx.fetch("SELECT FROM organizations WHERE org_id = $1 FOR NO KEY UPDATE", org.org_id)
        nursery.start_soon(put_in)
        await until_waiting(admin_db)
        await audit.record(tx, actor, Event.PAYMENT_CUSTOMER_MADE, org.org_id, "x", {})
    assert done.is_set()
