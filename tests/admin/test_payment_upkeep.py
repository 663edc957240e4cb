"""Seats, meter reports and other looks, against localstripe and the desk; with deaths in between."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from admin.allowed_addresses import AllowedAddresses
from admin.payment_events import PaymentEvents
from admin.payment_upkeep import EVERY_SECONDS, PaymentUpkeep
from admin.payments import PaymentsUnavailable
from admin.settings import AdminSettings
from admin.stripe_payments import StripePayments
from storage import error_reports, ledger
from storage.bridge import Database, open_database
from storage.errors import DatabaseBusy, DatabaseUnavailable, Denied, StorageError
from storage.ledger import Account, EntryKind
from storage.model import Organization, Plan, Role
from storage.organizations import create_organization
from storage.stripe_checkouts import begin_checkout, keep_session
from storage.stripe_customers import ensure_customer_row, keep_customer
from storage.stripe_subscriptions import select_subscriptions
from storage.users import add_member, create_user
from tests.admin.conftest import ACTOR, password_digest, stripe_settings
from tests.support.localstripe import Desk, call

DOLLAR = 10**12


@pytest.fixture
def payments(desk: Desk, database_url: str) -> StripePayments:
    return StripePayments(AdminSettings.load(database_url=database_url, **stripe_settings(desk.origin)))


@pytest.fixture
async def org(admin_db: Database, payments: StripePayments, desk: Desk) -> Organization:
    """One that subscribes for one seat, at Stripe and here."""
    org = await create_organization(admin_db, ACTOR, name="Acme", plan=Plan.FREE)
    row = await ensure_customer_row(admin_db, org.org_id)
    customer = await payments.create_customer(org.org_id, "Acme", "a@example.com", row.idempotency_key)
    await keep_customer(admin_db, ACTOR, row, customer)
    made: dict[str, Any] = {"customer": customer, "trial_period_days": 30}
    made["items"] = [{"plan": "price_pro", "quantity": 1}]
    subscription = call(desk.behind, "POST", "/v1/subscriptions", made)[1]
    events = PaymentEvents(admin_db, payments)
    await put_in_subscription(admin_db, events, subscription["id"])
    return org


async def put_in_subscription(db: Database, events: PaymentEvents, subscription_id: str) -> None:
    await db.execute(
        "INSERT INTO stripe_events (event_id, kind, object_kind, object_id, happened_at)"
        " VALUES ('evt_made_up', 'x', 'subscription', $1, now())",
        subscription_id,
    )
    assert await events.do_next()


def make_upkeep(db: Database, payments: StripePayments, **more: Any) -> PaymentUpkeep:
    return PaymentUpkeep(db, payments, more.get("addresses") or AllowedAddresses(), metered=True)


async def test_seats_follow_the_members(
    admin_db: Database, payments: StripePayments, desk: Desk, org: Organization
) -> None:
    await admin_db.execute("UPDATE stripe_subscriptions SET status = 'active'")
    for number in range(3):
        email = f"m{number}@example.com"
        user = await create_user(admin_db, ACTOR, email=email, password_digest=password_digest())
        await add_member(admin_db, ACTOR, org.org_id, user.user_id, Role.DEVELOPER)
    upkeep = make_upkeep(admin_db, payments)
    assert await upkeep.follow_members() == 1
    assert await upkeep.follow_members() == 0
    (kept,) = await select_subscriptions(admin_db, org.org_id)
    found = call(desk.behind, "GET", f"/v1/subscriptions/{kept.subscription_id}")[1]
    assert found["items"]["data"][0]["quantity"] == 3
    # An organization that is gone has no subscription.
    await admin_db.execute("UPDATE stripe_subscriptions SET seats_after = now()")
    await admin_db.execute("UPDATE organizations SET deleted_at = now() WHERE org_id = $1", org.org_id)
    assert await upkeep.follow_members() == 1
    found = call(desk.behind, "GET", f"/v1/subscriptions/{kept.subscription_id}")[1]
    assert found["status"] == "canceled"


async def test_usage_is_reported_once_whatever_dies(
    admin_db: Database, owner_db: Database, payments: StripePayments, desk: Desk, org: Organization
) -> None:
    await admin_db.execute("UPDATE stripe_subscriptions SET status = 'active', metered = true")
    async with admin_db.transaction() as tx:
        entries = {Account.CREDIT: -3 * DOLLAR, Account.USAGE: 3 * DOLLAR}
        await ledger.post(tx, org.org_id, EntryKind.USAGE, "u1", entries)
    upkeep = make_upkeep(admin_db, payments)
    assert await upkeep.add_reports() == 1
    assert await upkeep.add_reports() == 0
    desk.failing = [500] * 3
    assert await upkeep.send_reports() == 0
    await owner_db.execute("UPDATE meter_reports SET try_after = now()")
    # Stripe takes it, and whoever sent it dies before that is noted.
    real = payments.report_usage

    async def report_and_die(*args: Any) -> None:
        await real(*args)
        raise PaymentsUnavailable("gone")

    payments.report_usage = report_and_die  # type: ignore[method-assign]
    assert await upkeep.send_reports() == 0
    payments.report_usage = real  # type: ignore[method-assign]
    await owner_db.execute("UPDATE meter_reports SET try_after = now()")
    assert await upkeep.send_reports() == 1
    assert await upkeep.send_reports() == 0
    (told,) = desk.meter_events.values()
    assert told["payload[value]"] == "3000000"
    assert told["event_name"] == "karta_usage"


async def test_what_stripe_refuses_is_told(
    admin_db: Database,
    payments: StripePayments,
    desk: Desk,
    org: Organization,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await admin_db.execute("UPDATE stripe_subscriptions SET status = 'active', metered = true")
    async with admin_db.transaction() as tx:
        entries = {Account.CREDIT: -DOLLAR, Account.USAGE: DOLLAR}
        await ledger.post(tx, org.org_id, EntryKind.USAGE, "u1", entries)
    upkeep = make_upkeep(admin_db, payments)
    await upkeep.add_reports()
    desk.failing = [400]
    assert await upkeep.send_reports() == 0
    assert await admin_db.fetch_value("SELECT state FROM meter_reports") == "refused"
    assert "was refused by the meter" in caplog.text


async def test_another_look(
    admin_db: Database,
    owner_db: Database,
    payments: StripePayments,
    org: Organization,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    visit = await begin_checkout(admin_db, ACTOR, org.org_id, uuid4(), top_up_cents=500)
    await keep_session(admin_db, visit.checkout_id, "cs_1")
    await owner_db.execute("UPDATE stripe_checkouts SET created_at = now() - interval '1 hour'")
    file = tmp_path / "ips.json"
    file.write_text('{"as_of": "2020-01-01", "WEBHOOKS": ["192.0.2.1"]}')
    upkeep = make_upkeep(admin_db, payments, addresses=AllowedAddresses((), file))
    await upkeep.look()
    assert "days old" in caplog.text
    looks = await admin_db.fetch("SELECT object_id FROM stripe_events WHERE kind = 'karta.look'")
    assert {row["object_id"][:3] for row in looks} == {"cs_", "sub"}


def test_what_takes_too_long_is_told_once_until_a_round_is_whole(
    payments: StripePayments, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, away, odd = DatabaseBusy("too long"), DatabaseUnavailable("away"), StorageError("odd")
    rounds = iter((away, busy, busy, odd, None, busy, away, odd, None, odd))
    told: list[BaseException] = []

    async def follow_members() -> int:
        error = next(rounds, None)
        if error is not None:
            raise error
        return 0

    upkeep = PaymentUpkeep(None, payments, AllowedAddresses(), metered=False)  # type: ignore[arg-type]
    monkeypatch.setattr(upkeep, "follow_members", follow_members)
    monkeypatch.setattr(upkeep, "look", trio.lowlevel.checkpoint)
    monkeypatch.setattr(error_reports, "report", lambda error, _: told.append(error))

    async def run() -> None:
        with trio.move_on_after(20 * EVERY_SECONDS):
            await upkeep.run()

    trio.run(run, clock=MockClock(autojump_threshold=0))
    assert told == [busy, odd, busy, odd, odd]


async def test_it_goes_on_when_the_database_is_away(
    payments: StripePayments, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin.payment_upkeep.EVERY_SECONDS", 0.01)
    async with open_database("postgresql://nobody@127.0.0.1:1/none", role=None) as db:
        upkeep = make_upkeep(db, payments)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.run)
            with trio.fail_after(30):
                while caplog.text.count("was cut short") < 2:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


async def test_what_it_cannot_do_is_reported(
    admin_db: Database, owner_db: Database, payments: StripePayments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault, unlike a database that is away, does not mend itself."""
    monkeypatch.setattr("admin.payment_upkeep.EVERY_SECONDS", 0.01)
    reported: list[StorageError] = []
    monkeypatch.setattr("storage.error_reports.report", lambda error, _: reported.append(error))
    await owner_db.execute("REVOKE SELECT ON stripe_subscriptions FROM karta_admin")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_upkeep(admin_db, payments).run)
        with trio.fail_after(30):
            while not reported:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert isinstance(reported[0], Denied)
