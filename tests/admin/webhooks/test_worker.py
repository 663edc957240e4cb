"""The worker against real receivers and a real database: what is sent, what is kept of it, how it ends."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import trio
from standardwebhooks import Webhook

from admin.webhooks.dialing import Dialer
from admin.webhooks.safe_address import Rules
from admin.webhooks.worker import LEFT, NO_SECRET, Worker, readable, try_once
from storage.bridge import Database, open_database
from storage.model import Actor, ActorKind, Organization, Plan, Role
from storage.organizations import create_organization
from storage.outbox import select_waiting
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import add_member, create_user
from storage.webhook_deliveries import LEASE_SECONDS, Claimed
from storage.webhook_events import CHOICES, emit
from storage.webhook_log import Delivery, redeliver, select_deliveries, select_delivery
from storage.webhooks import Endpoint, NewEndpoint, create_endpoint, rotate_secret, select_endpoint
from tests.admin.webhooks.receiver import HOST, Received, Receiver, answer, running_receiver
from tests.storage.test_webhook_events import INVOICE
from tests.support.database_line import database_line

ACTOR = Actor(kind=ActorKind.CLI, actor_id="tester")
KEYS = MasterKeys({1: bytes(range(32))})
RULES = Rules(allowed_networks=(ipaddress.ip_network("127.0.0.0/8"),))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as receiver:
        yield receiver


@pytest.fixture
async def org(admin_db: Database) -> Organization:
    return await create_organization(admin_db, ACTOR, name="Example", plan=Plan.PRO)


def dialer(receiver: Receiver) -> Dialer:
    async def resolve(_: str, __: int) -> list[str]:
        return ["127.0.0.1"]

    return Dialer(RULES, receiver.trusting(), resolve)


@asynccontextmanager
async def working(db: Database, receiver: Receiver) -> AsyncIterator[Worker]:
    worker = Worker(db, KEYS, dialer(receiver), idle_seconds=0.02)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        yield worker
        nursery.cancel_scope.cancel()


async def make_endpoint(
    db: Database, org: Organization, receiver: Receiver, *, ordered: bool = False
) -> tuple[Endpoint, str]:
    chosen = NewEndpoint(url=receiver.url(), events=CHOICES, ordered=ordered)
    return await create_endpoint(db, ACTOR, KEYS, org.org_id, chosen)


async def emit_many(db: Database, org: Organization, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        await emit(db, org.org_id, "invoice.paid", {**INVOICE, "invoice_id": f"in_{number}"})


async def wait_until_all(db: Database, endpoint: Endpoint, state: str, count: int) -> list[Delivery]:
    with trio.fail_after(30):
        while True:
            found = await select_deliveries(db, endpoint.org_id, endpoint.endpoint_id)
            if [one.state for one in found] == [state] * count:
                return found
            await trio.sleep(0.02)


async def test_an_event_arrives_signed_and_is_in_the_log(
    admin_db: Database, org: Organization, receiver: Receiver
) -> None:
    endpoint, secret = await make_endpoint(admin_db, org, receiver)
    await emit_many(admin_db, org, 1)
    async with working(admin_db, receiver):
        [one] = await receiver.wait_for(1)
        [delivery] = await wait_until_all(admin_db, endpoint, "delivered", 1)
    told = Webhook(secret).verify(one.body, one.headers)
    assert (told["type"], told["data"]["invoice_id"]) == ("invoice.paid", "in_0")
    assert one.headers["host"] == f"{HOST}:{receiver.port}"
    assert one.headers["content-type"] == "application/json"
    _, body, [attempt] = await select_delivery(
        admin_db, org.org_id, endpoint.endpoint_id, delivery.delivery_id
    )
    assert body == one.body.decode()
    assert (attempt.status, attempt.excerpt, attempt.reason) == (200, "thank you", None)
    assert (
        attempt.headers["X-Karta-Request-Id"] == one.headers["x-karta-request-id"] == attempt.attempt_id.hex
    )
    assert secret not in str(attempt)
    assert "v1," not in str(attempt)


async def test_after_a_rotation_both_secrets_sign(
    admin_db: Database, org: Organization, receiver: Receiver
) -> None:
    endpoint, old = await make_endpoint(admin_db, org, receiver)
    _, new = await rotate_secret(admin_db, ACTOR, KEYS, org.org_id, endpoint.endpoint_id)
    await emit_many(admin_db, org, 1)
    async with working(admin_db, receiver):
        [one] = await receiver.wait_for(1)
    for secret in (old, new):
        Webhook(secret).verify(one.body, one.headers)


async def test_a_failure_is_tried_again_and_a_2xx_alone_delivers(
    admin_db: Database, org: Organization, receiver: Receiver
) -> None:
    endpoint, _ = await make_endpoint(admin_db, org, receiver)
    statuses = [500, 302, 404, 429, 204]
    receiver.respond = lambda _: answer(statuses[len(receiver.received) - 1], b"\x00\x1b[31m<b>")
    await emit_many(admin_db, org, 1)
    async with working(admin_db, receiver):
        for tries in range(1, len(statuses)):
            await receiver.wait_for(tries)
            with trio.fail_after(20):
                while True:
                    [one] = await select_deliveries(admin_db, org.org_id, endpoint.endpoint_id)
                    if one.tries == tries:
                        break
                    await trio.sleep(0.02)
            assert one.state == "pending"
            assert one.due_at is not None
            assert one.due_at > datetime.now(UTC)
            await admin_db.execute("UPDATE webhook_deliveries SET due_at = now()")
        [delivery] = await wait_until_all(admin_db, endpoint, "delivered", 1)
        assert len({one.headers["webhook-id"] for one in receiver.received}) == 1
        *_, attempts = await select_delivery(admin_db, org.org_id, endpoint.endpoint_id, delivery.delivery_id)
        assert [one.status for one in attempts] == statuses[::-1]
        assert attempts[1].excerpt == "\ufffd\ufffd[31m<b>"
        await redeliver(admin_db, ACTOR, org.org_id, endpoint.endpoint_id, delivery.delivery_id)
        receiver.respond = lambda _: answer(200)
        await receiver.wait_for(6)
        await wait_until_all(admin_db, endpoint, "delivered", 1)


async def test_an_ordered_endpoint_is_told_in_order(
    admin_db: Database, org: Organization, receiver: Receiver
) -> None:
    endpoint, _ = await make_endpoint(admin_db, org, receiver, ordered=True)
    seen: list[str] = []
    at_once: list[int] = []
    under_way = 0

    async def slowly(one: Received) -> bytes:
        nonlocal under_way
        under_way += 1
        at_once.append(under_way)
        await trio.sleep(0.005)
        seen.append(Webhook(secret).verify(one.body, one.headers)["data"]["invoice_id"])
        under_way -= 1
        return answer(200)

    secret = _
    receiver.respond = slowly
    await emit_many(admin_db, org, 12)
    async with working(admin_db, receiver), working(admin_db, receiver):
        await wait_until_all(admin_db, endpoint, "delivered", 12)
    assert seen == [f"in_{number}" for number in range(12)]
    assert set(at_once) == {1}


async def test_who_says_gone_is_left_alone_and_the_owners_are_told(
    admin_db: Database, org: Organization, receiver: Receiver
) -> None:
    user = await create_user(admin_db, ACTOR, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(admin_db, ACTOR, org.org_id, user.user_id, Role.OWNER)
    endpoint, _ = await make_endpoint(admin_db, org, receiver)
    receiver.respond = lambda _: answer(410)
    await emit_many(admin_db, org, 1)
    async with working(admin_db, receiver):
        await wait_until_all(admin_db, endpoint, "failed", 1)
        with trio.fail_after(20):
            while (
                found := await select_endpoint(admin_db, org.org_id, endpoint.endpoint_id)
            ).state == "enabled":
                await trio.sleep(0.02)
    assert found.reason == "gone"
    [letter] = [one.letter for one in await select_waiting(admin_db, KEYS)]
    assert letter is not None
    assert (letter.recipient, letter.facts["cause"]) == ("ada@example.com", "gone")


async def test_one_slow_receiver_holds_up_no_other(
    admin_db: Database, org: Organization, receiver: Receiver
) -> None:
    never = trio.Event()

    async def silent(_: Received) -> bytes:
        await never.wait()
        return b""

    async with running_receiver() as slow:
        slow.respond = silent
        await make_endpoint(admin_db, org, slow)
        await emit_many(admin_db, org, 90)
        endpoint, _ = await make_endpoint(admin_db, org, receiver)
        await emit_many(admin_db, org, 5, first=90)
        async with working(admin_db, receiver) as worker:
            trust = worker.dialer.ssl_context
            slow.authority.configure_trust(trust)
            await wait_until_all(admin_db, endpoint, "delivered", 5)
        assert slow.received
        assert len(slow.received) <= 16


async def test_a_worker_that_is_stopped_gives_back_what_it_holds(
    admin_db: Database, org: Organization, receiver: Receiver
) -> None:
    never = trio.Event()

    async def silent(_: Received) -> bytes:
        await never.wait()
        return b""

    receiver.respond = silent
    endpoint, _ = await make_endpoint(admin_db, org, receiver)
    await emit_many(admin_db, org, 3)
    async with working(admin_db, receiver):
        await receiver.wait_for(3)
    receiver.respond = lambda _: answer(200)
    async with working(admin_db, receiver):
        await wait_until_all(admin_db, endpoint, "delivered", 3)
    assert {one.tries for one in await select_deliveries(admin_db, org.org_id, endpoint.endpoint_id)} == {1}


async def test_stopped_after_the_database_it_says_so_in_one_line(
    admin_db: Database,
    database_url: str,
    org: Organization,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    never = trio.Event()

    async def silent(_: Received) -> bytes:
        await never.wait()
        return b""

    receiver.respond = silent
    await make_endpoint(admin_db, org, receiver)
    await emit_many(admin_db, org, 3)
    async with (
        database_line(database_url) as line,
        open_database(line.url, role="karta_admin") as db,
        working(db, receiver),
    ):
        await receiver.wait_for(3)
        line.cut()
        caplog.clear()
    told = [one.getMessage() for one in caplog.records if "webhooks under way" in one.getMessage()]
    assert told == [LEFT % LEASE_SECONDS]


async def test_without_a_secret_nothing_is_sent(receiver: Receiver) -> None:
    claimed = Claimed(
        delivery_id=1, endpoint_id=UUID(int=1), url=receiver.url(), event_id=uuid4(), body="{}", tries=9
    )
    settlement = await try_once(dialer(receiver), claimed, [])
    assert (settlement.state, settlement.attempt.reason) == ("failed", NO_SECRET)
    assert receiver.connections == 0


def test_any_bytes_can_be_kept_and_shown() -> None:
    assert readable(b"a\nb\x00\xff\xf0\x9f\x94\x91\xe2\x80\xae") == "a\nb\ufffd\ufffd🔑\ufffd"
    assert len(readable(bytes(range(256)) * 40).encode()) <= 4096
