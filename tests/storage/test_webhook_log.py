"""The log of deliveries, trials, sending again, and switching off who does nothing but fail."""

from __future__ import annotations

from uuid import uuid4

import pytest

from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import Conflict, NotFound
from storage.model import Actor, Organization, Plan, Role
from storage.organizations import create_organization
from storage.outbox import select_waiting
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import add_member, create_user
from storage.webhook_deliveries import settle, spread
from storage.webhook_log import (
    redeliver,
    select_deliveries,
    select_delivery,
    send_test,
    switch_off_failing,
)
from storage.webhooks import Endpoint, disable_endpoint, select_endpoint
from tests.storage.test_webhook_deliveries import WORKER, emit_many, outcome, take
from tests.storage.test_webhook_events import listen


async def test_the_log_tells_of_each_try(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    endpoint = await listen(admin_db, actor, master_keys, org.org_id)
    place = (org.org_id, endpoint.endpoint_id)
    await emit_many(admin_db, org.org_id, 3)
    for one in await take(admin_db):
        await settle(admin_db, WORKER, [outcome(one, "failed", 502)])
    newest, *_, oldest = await select_deliveries(admin_db, *place)
    assert [one.delivery_id for one in await select_deliveries(admin_db, *place, before=newest.delivery_id)][
        -1
    ] == (oldest.delivery_id)
    assert len(await select_deliveries(admin_db, *place, limit=2)) == 2
    told, body, [attempt] = await select_delivery(admin_db, *place, oldest.delivery_id)
    assert told == oldest
    assert (told.type, told.state, told.tries, told.due_at) == ("invoice.paid", "failed", 1, None)
    assert '"in_0"' in body
    assert (attempt.status, attempt.reason, attempt.excerpt) == (502, None, "fine")
    assert attempt.headers == {"Webhook-Id": "msg_1"}
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.PRO)
    with pytest.raises(NotFound):
        await select_deliveries(admin_db, other.org_id, endpoint.endpoint_id)
    with pytest.raises(NotFound):
        await select_delivery(admin_db, other.org_id, endpoint.endpoint_id, oldest.delivery_id)
    with pytest.raises(NotFound):
        await select_delivery(admin_db, *place, 10**9)


async def test_a_message_can_be_sent_again(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    endpoint = await listen(admin_db, actor, master_keys, org.org_id)
    place = (org.org_id, endpoint.endpoint_id)
    await emit_many(admin_db, org.org_id, 1)
    [one] = await take(admin_db)
    assert (await redeliver(admin_db, actor, *place, one.delivery_id)).state == "pending"
    assert await take(admin_db, uuid4()) == [], "somebody is at it"
    await settle(admin_db, WORKER, [outcome(one, "delivered")])
    again = await redeliver(admin_db, actor, *place, one.delivery_id)
    assert (again.state, again.tries) == ("pending", 0)
    [second] = await take(admin_db)
    assert (second.event_id, second.body) == (one.event_id, one.body)
    assert (await select_audit_rows(admin_db, org.org_id))[-1].event == "webhook:redelivered"
    with pytest.raises(NotFound):
        await redeliver(admin_db, actor, *place, 10**9)
    await disable_endpoint(admin_db, actor, *place)
    with pytest.raises(Conflict):
        await redeliver(admin_db, actor, *place, one.delivery_id)


async def test_a_trial_goes_to_one_endpoint(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    endpoint = await listen(admin_db, actor, master_keys, org.org_id, ("key.minted",))
    await listen(admin_db, actor, master_keys, org.org_id)
    event_id = await send_test(admin_db, actor, org.org_id, endpoint.endpoint_id)
    await spread(admin_db)
    [one] = await take(admin_db)
    assert (one.endpoint_id, one.event_id) == (endpoint.endpoint_id, event_id)
    assert str(endpoint.endpoint_id) in one.body
    await disable_endpoint(admin_db, actor, org.org_id, endpoint.endpoint_id)
    with pytest.raises(Conflict):
        await send_test(admin_db, actor, org.org_id, endpoint.endpoint_id)


async def test_who_only_fails_is_switched_off_and_the_owners_are_told(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    for email, role in (
        ("a@example.com", Role.OWNER),
        ("b@example.com", Role.OWNER),
        ("c@example.com", Role.ADMIN),
        ("d@example.com", Role.DEVELOPER),
    ):
        user = await create_user(admin_db, actor, email=email, password_digest=REFERENCE_DIGEST)
        await add_member(admin_db, actor, org.org_id, user.user_id, role)
    failing = await listen(admin_db, actor, master_keys, org.org_id)
    gone = await listen(admin_db, actor, master_keys, org.org_id)

    async def switch_off(endpoint: Endpoint, *, is_gone: bool = False) -> Endpoint | None:
        return await switch_off_failing(admin_db, actor, endpoint.endpoint_id, gone=is_gone)

    assert await switch_off(failing) is None
    await admin_db.execute(
        "UPDATE webhook_endpoints SET failing_since = now() - interval '6 days' WHERE endpoint_id = $1",
        failing.endpoint_id,
    )
    off = await switch_off(failing)
    assert off is not None
    assert (off.state, off.reason) == ("disabled", "failing")
    assert await switch_off(failing) is None, "once"
    assert await switch_off(gone, is_gone=True) == await select_endpoint(
        admin_db, org.org_id, gone.endpoint_id
    )
    letters = [one.letter for one in await select_waiting(admin_db, master_keys)]
    assert sorted((one.recipient, one.facts["cause"]) for one in letters if one is not None) == [
        *(("a@example.com", "failing"), ("a@example.com", "gone")),
        *(("b@example.com", "failing"), ("b@example.com", "gone")),
        *(("c@example.com", "failing"), ("c@example.com", "gone")),
    ]
    events = [row.event for row in await select_audit_rows(admin_db, org.org_id)]
    assert events.count("webhook:disabled") == 2
