"""Stripe's events twice, late, in any order, with workers that die between any two statements and readings
that are put in late: the end is always what it would have been by the book."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from admin.billing.webhook import is_signed, read_event
from admin.payment_events import NOT_OURS, PaymentEvents, put_in
from admin.payments import Payments, PaymentsUnavailable
from storage.bridge import Database, open_database
from storage.ledger import Account
from storage.model import Actor, ActorKind, Plan
from storage.organizations import create_organization
from storage.payment_checks import check_payments
from storage.plans import change_plan
from storage.stripe_checkouts import begin_checkout, keep_session
from storage.stripe_customers import ensure_customer_row, keep_customer
from storage.stripe_events import TRIES_MAX, select_events, store_event
from storage.stripe_objects import ObjectKind
from tests.storage.ledger_posts import select_accounts
from tests.support.stripe_world import SECRET, StripeWorld, sign

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="tests")
EXAMPLES = int(os.environ.get("KARTA_TEST_STRIPE_EXAMPLES", "6"))
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = ("active", "past_due", "unpaid", "paused", "canceled")
_numbers = iter(range(1, 10**9))


class Crash(Exception):
    """The process is gone."""


class Scene(NamedTuple):
    db: Database
    world: StripeWorld
    org_id: UUID
    top_up: str
    other: str
    subscribing: str

    @property
    def worker(self) -> PaymentEvents:
        return PaymentEvents(self.db, cast("Payments", self.world))


async def make_scene(db: Database) -> Scene:
    world = StripeWorld(f"w{os.getpid()}n{next(_numbers)}x")
    organization = await create_organization(db, ACTOR, name="Acme", plan=Plan.FREE)
    org_id = organization.org_id
    row = await ensure_customer_row(db, org_id)
    await keep_customer(db, ACTOR, row, world.customer_id)
    sessions = []
    for cents in (1000, 700, None):
        checkout = await begin_checkout(db, ACTOR, org_id, uuid4(), top_up_cents=cents)
        session_id = world.open_session(str(checkout.checkout_id), cents=cents)
        # Of one, the answer of Stripe was lost: only its reference tells whose it is.
        if cents != 700:
            await keep_session(db, checkout.checkout_id, session_id)
        sessions.append(session_id)
    return Scene(db, world, org_id, *sessions)


STEPS: dict[str, Callable[[Scene], list[bytes]]] = {
    **{status: lambda scene, status=status: scene.world.change(status) for status in STATUSES},  # type: ignore[misc]
    "seats": lambda scene: scene.world.set_seats_there(7),
    "ends": lambda scene: scene.world.end_with_period(True),
    "goes on": lambda scene: scene.world.end_with_period(False),
    "refund": lambda scene: scene.world.refund(scene.top_up, 150),
    "refund fails": lambda scene: scene.world.fail_refund() if scene.world.refunds else [],
    "dispute": lambda scene: scene.world.dispute(scene.top_up, "needs_response"),
    "dispute won": lambda scene: scene.world.dispute(scene.top_up, "won"),
    "invoice refunded": lambda scene: scene.world.refund_invoice(655),
    "invoice disputed": lambda scene: scene.world.dispute(next(iter(scene.world.invoices)), "lost"),
    "credit note": lambda scene: scene.world.credit(60, 0, how="refund"),
    "credit note to the balance": lambda scene: scene.world.credit(20, 500, how="balance"),
    "credit note before": lambda scene: scene.world.credit(30, 100, how="before"),
    "credit note void": lambda scene: scene.world.void_note() if scene.world.notes else [],
    "other paid": lambda scene: scene.world.pay(scene.other),
    "tax id": lambda scene: scene.world.add_tax_id("DE123456789"),
}


async def tell(scene: Scene, body: bytes) -> None:
    """As the webhook does it."""
    assert is_signed(body, sign(body), (SECRET,))
    event = read_event(msgspec.json.decode(body), live=False)
    assert event is not None
    await store_event(scene.db, event)


async def see(scene: Scene) -> dict[str, Any]:
    """All that events may change, but what only counts them."""
    db, org_id = scene.db, scene.org_id
    organization = await db.fetch_row(
        "SELECT plan, payment_state FROM organizations WHERE org_id = $1", org_id
    )
    found: dict[str, Any] = {"organization": dict(cast("Any", organization))}
    for table, left_out in (
        ("stripe_customers", {"reading", "org_id", "customer_id"}),
        ("stripe_subscriptions", {"reading", "org_id", "subscription_id", "seat_item_id", "seats_after"}),
        ("stripe_invoices", {"reading", "org_id", "invoice_id"}),
        ("stripe_checkouts", {"reading", "org_id", "checkout_id", "session_id", "created_at"}),
    ):
        rows = await db.fetch(f"SELECT * FROM {table} WHERE org_id = $1", org_id)
        kept = [{name: row[name] for name in dict(row) if name not in left_out} for row in rows]
        found[table] = sorted(kept, key=repr)
    accounts = await select_accounts(db, org_id)
    assert sum(accounts.values()) == 0
    # Two that cancel each other out are as good as none.
    found["accounts"] = {account: amount for account, amount in accounts.items() if amount}
    return found


def crash_at(db: Database, statement: int, *, after: bool) -> None:
    """The process dies at that statement from now (BEGIN and COMMIT count), before or after it is done."""
    whole, count = type(db)._ask, 0

    async def ask(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count < statement:
            return await whole(db, *args)
        db._ask = lambda *rest: whole(db, *rest)  # type: ignore[method-assign]
        if after:
            await whole(db, *args)
        raise Crash

    db._ask = ask  # type: ignore[method-assign, assignment]


async def work(scene: Scene, crashes: list[tuple[int, bool]]) -> None:
    """Until nothing is due, with the deaths that are asked for; each time the claim runs out at once."""
    due = "UPDATE stripe_events SET try_after = now() WHERE state = 'waiting'"
    while True:
        await scene.db.execute(due)
        statement, after = crashes.pop() if crashes else (0, False)
        if statement:
            crash_at(scene.db, statement, after=after)
        try:
            while await scene.worker.do_next():
                pass
        except Crash:
            continue
        finally:
            scene.db._ask = type(scene.db)._ask.__get__(scene.db)  # type: ignore[method-assign]
        if not await scene.db.fetch_value("SELECT count(*) FROM stripe_events WHERE state = 'waiting'"):
            return


async def by_the_book(db: Database, steps: list[str]) -> dict[str, Any]:
    scene = await make_scene(db)
    begin = (
        lambda scene: scene.world.subscribe(scene.subscribing, 3),
        lambda scene: scene.world.pay(scene.top_up),
    )
    for step in (*begin, *(STEPS[name] for name in steps)):
        for body in step(scene):
            await tell(scene, body)
            await work(scene, [])
    return await see(scene)


class Delivery(NamedTuple):
    """How one example goes: of each choice a bit of chance."""

    steps: list[str]
    shuffle: Any
    crashes: list[tuple[int, bool]]
    early: list[bool]
    held: list[bool]


deliveries = st.builds(
    Delivery,
    st.lists(st.sampled_from(sorted(STEPS)), max_size=6),
    st.randoms(use_true_random=False),
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=5),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
)


async def in_disorder(db: Database, delivery: Delivery) -> dict[str, Any]:
    scene = await make_scene(db)
    begin = (
        lambda scene: scene.world.subscribe(scene.subscribing, 3),
        lambda scene: scene.world.pay(scene.top_up),
    )
    waiting: list[bytes] = []
    held: list[tuple[int, Any]] = []
    for index, step in enumerate((*begin, *(STEPS[name] for name in delivery.steps))):
        waiting += step(scene)
        delivery.shuffle.shuffle(waiting)
        if not delivery.early[index]:
            continue
        # Some are told now, and once more later; and somebody has read who will only put it in at the end.
        for body in waiting:
            await tell(scene, body)
            if delivery.held[index]:
                event = read_event(msgspec.json.decode(body), live=False)
                assert event is not None
                held += await scene.worker.read(event.object_kind, event.object_id)
        await work(scene, delivery.crashes)
    told = waiting * 2
    delivery.shuffle.shuffle(told)
    for body in told:
        await tell(scene, body)
    await work(scene, delivery.crashes)
    for number, reading in held:
        async with db.transaction() as tx:
            await put_in(tx, reading, number)
    return await see(scene)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(delivery=deliveries)
def test_whatever_the_order_the_end_is_the_same(database_url: str, delivery: Delivery) -> None:
    async def run() -> None:
        async with open_database(database_url, role="karta_admin") as db:
            expected = await by_the_book(db, delivery.steps)
            assert await in_disorder(db, delivery) == expected

    trio.run(run)


@pytest.fixture
async def scene(admin_db: Database) -> Scene:
    return await make_scene(admin_db)


async def happen(scene: Scene, bodies: list[bytes]) -> None:
    for body in bodies:
        await tell(scene, body)
    await work(scene, [])


async def test_a_late_reading_changes_nothing(scene: Scene) -> None:
    await happen(scene, scene.world.subscribe(scene.subscribing, 3) + scene.world.pay(scene.top_up))
    named = (
        (ObjectKind.CHECKOUT, scene.top_up),
        (ObjectKind.SUBSCRIPTION, "the one"),
        (ObjectKind.INVOICE, next(iter(scene.world.invoices))),
        (ObjectKind.CUSTOMER, scene.world.customer_id),
    )
    late = [reading for kind, name in named for reading in await scene.worker.read(kind, name)]
    assert len(late) == 5
    # The invoice is void, the subscription over, money went back.
    scene.world.invoices[named[2][1]]["status"] = "void"
    events = scene.world.change("canceled") + scene.world.refund(scene.top_up, 400)
    await happen(scene, events + scene.world.add_tax_id("DE123456789"))
    for kind, name in named:
        for number, reading in await scene.worker.read(kind, name):
            async with scene.db.transaction() as tx:
                await put_in(tx, reading, number)
    expected = await see(scene)
    assert expected["organization"] == {"plan": "free", "payment_state": None}
    assert expected["accounts"][Account.CREDIT] == 600 * 10**10
    for number, reading in late:
        async with scene.db.transaction() as tx:
            await put_in(tx, reading, number)
    assert await see(scene) == expected


async def test_money_is_credited_once(scene: Scene) -> None:
    bodies = scene.world.pay(scene.top_up)
    for _ in range(3):
        await happen(scene, bodies)
        for number, reading in await scene.worker.read(ObjectKind.CHECKOUT, scene.top_up):
            async with scene.db.transaction() as tx:
                await put_in(tx, reading, number)
    assert (await see(scene))["accounts"] == {Account.CREDIT: 10**13, Account.STRIPE: -(10**13)}


async def balance(scene: Scene) -> dict[Account, int]:
    """In cents."""
    accounts = (await see(scene))["accounts"]
    assert await check_payments(scene.db, scene.org_id, LONG_AGO, LONG_AGO) == []
    return {account: amount // 10**10 for account, amount in accounts.items()}


async def test_what_comes_back_of_an_invoice(scene: Scene) -> None:
    """An invoice of $26.20, of it $1.20 for usage, and what each kind of giving back does to the ledger."""
    world = scene.world
    await happen(scene, world.subscribe(scene.subscribing, 3))
    assert await balance(scene) == {Account.CREDIT: 120, Account.STRIPE: -120}
    # A quarter of the invoice is a quarter of its usage: owed again.
    await happen(scene, world.refund_invoice(655))
    assert await balance(scene) == {Account.CREDIT: 90, Account.STRIPE: -120, Account.REFUNDS: 30}
    await happen(scene, world.fail_refund())
    assert await balance(scene) == {Account.CREDIT: 120, Account.STRIPE: -120}
    # A note with its refund: the money is gone, and nothing is owed for it.
    await happen(scene, world.credit(60, 0, how="refund"))
    expected = {Account.STRIPE: -120, Account.REFUNDS: 60, Account.ADJUSTMENTS: -60, Account.CREDIT: 120}
    assert await balance(scene) == expected
    # Its refund did not get through: the note holds, the money is here.
    await happen(scene, world.fail_refund())
    assert await balance(scene) == {Account.STRIPE: -120, Account.ADJUSTMENTS: -60, Account.CREDIT: 180}
    await happen(scene, world.void_note())
    assert await balance(scene) == {Account.CREDIT: 120, Account.STRIPE: -120}
    await happen(scene, world.credit(20, 500, how="balance"))
    expected = {Account.STRIPE: -120, Account.REFUNDS: 20, Account.ADJUSTMENTS: -20, Account.CREDIT: 120}
    assert await balance(scene) == expected


async def test_a_credit_note_before_payment(scene: Scene) -> None:
    world = scene.world
    await happen(scene, world.subscribe(scene.subscribing, 3) + world.change("past_due"))
    await happen(scene, world.credit(30, 100, how="before"))
    assert await balance(scene) == {Account.CREDIT: 150, Account.STRIPE: -120, Account.ADJUSTMENTS: -30}
    await happen(scene, world.change("active"))
    # Of the second invoice 90 were paid.
    assert await balance(scene) == {Account.CREDIT: 240, Account.STRIPE: -210, Account.ADJUSTMENTS: -30}


async def test_what_stops_when(scene: Scene) -> None:
    await happen(scene, scene.world.subscribe(scene.subscribing, 3))
    for status, plan, told in (
        ("past_due", "pro", "past_due"),
        ("unpaid", "free", "unpaid"),
        ("active", "pro", None),
        ("paused", "free", None),
        ("canceled", "free", None),
    ):
        await happen(scene, scene.world.change(status))
        assert (await see(scene))["organization"] == {"plan": plan, "payment_state": told}, status


async def test_a_plan_by_agreement_stays(scene: Scene) -> None:
    async with scene.db.transaction() as tx:
        await change_plan(tx, ACTOR, scene.org_id, Plan.ENTERPRISE)
    for happens in (
        lambda: scene.world.subscribe(scene.subscribing, 3),
        lambda: scene.world.change("canceled"),
    ):
        await happen(scene, happens())
        assert (await see(scene))["organization"]["plan"] == "enterprise"


async def test_what_is_not_ours_is_done_with(scene: Scene) -> None:
    bodies = scene.world.subscribe(scene.subscribing, 3)
    scene.world.subscription = {**cast("Any", scene.world.subscription), "customer": "cus_elsewhere"}
    await tell(scene, bodies[0])
    await work(scene, [])
    (event,) = await select_events(scene.db)
    assert (event.state, event.problem, event.org_id) == ("done", NOT_OURS, None)


async def test_what_never_works_is_given_up(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    class Away:
        async def read_subscription(self, subscription_id: str) -> None:
            raise PaymentsUnavailable("Stripe is away")

    await tell(scene, scene.world.subscribe(scene.subscribing, 3)[0])
    worker = PaymentEvents(scene.db, cast("Payments", Away()))
    for left in range(TRIES_MAX, 0, -1):
        (event,) = await select_events(scene.db, "waiting")
        assert event.tries == TRIES_MAX - left
        assert await worker.do_next()
        assert not await worker.do_next()  # not before its time
        await scene.db.execute("UPDATE stripe_events SET try_after = now() WHERE state = 'waiting'")
    (event,) = await select_events(scene.db, "dead")
    assert event.problem == "Stripe is away"
    assert "was given up" in caplog.text


async def test_an_object_of_an_unknown_form_is_put_off_alone(scene: Scene) -> None:
    await tell(scene, scene.world.subscribe(scene.subscribing, 3)[0])
    assert scene.world.subscription is not None
    del scene.world.subscription["customer"]
    assert await scene.worker.do_next()
    (event,) = await select_events(scene.db, "waiting")
    assert event.problem is not None
    assert event.problem.startswith("KeyError at stripe_shapes.py:")


async def test_an_event_that_was_told_is_done_soon(scene: Scene) -> None:
    worker = scene.worker
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        await trio.testing.wait_all_tasks_blocked(0.01)
        for body in scene.world.subscribe(scene.subscribing, 3):
            await tell(scene, body)
        worker.wake()
        with trio.fail_after(30):
            while (await see(scene))["organization"]["plan"] != "pro":
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
