"""Webhook endpoints, their secrets and their log. A secret is in the answer that makes it, in no other."""

from __future__ import annotations

from typing import Any

from admin import throttle, webhook_check
from admin.management_api import cursors
from admin.management_api.call import Call
from admin.management_api.forms import Done, Page
from admin.management_api.problems import Problem
from admin.management_api.values import invalid, require_choice, require_printable
from admin.management_api.webhook_forms import (
    DeliveryAnswer,
    DeliveryPage,
    MadeWebhook,
    NewWebhook,
    SecretRotation,
    SentTest,
    WebhookPage,
)
from admin.services import services
from storage.webhook_events import CHOICES
from storage.webhook_log import Delivery, redeliver, select_deliveries, select_delivery, send_test
from storage.webhooks import (
    Endpoint,
    NewEndpoint,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    disable_endpoint,
    enable_endpoint,
    rotate_secret,
    select_endpoint,
    select_endpoints,
)


async def list_webhooks(call: Call[None, Page]) -> WebhookPage:
    after = cursors.read("webhooks", call.query.cursor, int)
    # Few, by the plan's own bound: so a page is cut from all of them.
    found = list(enumerate(await select_endpoints(call.db, call.org_id)))
    rest = [one for one in found if after is None or one[0] > after]
    items, following = cursors.cut(rest, call.query.limit, "webhooks", lambda one: one[0])
    return WebhookPage(items=[endpoint for _, endpoint in items], next_cursor=following)


async def create_webhook(call: Call[NewWebhook, None]) -> MadeWebhook:
    chosen = await _read(call)
    endpoint, secret = await create_endpoint(call.db, call.actor, services().master_keys, call.org_id, chosen)
    return MadeWebhook(webhook=endpoint, secret=secret)


async def get_webhook(call: Call[None, None]) -> Endpoint:
    return await select_endpoint(call.db, call.org_id, call.path["endpoint_id"])


async def change_webhook(call: Call[NewWebhook, None]) -> Endpoint:
    await select_endpoint(call.db, call.org_id, call.path["endpoint_id"])
    chosen = await _read(call)
    return await change_endpoint(call.db, call.actor, call.org_id, call.path["endpoint_id"], chosen)


async def delete_webhook(call: Call[None, None]) -> Done:
    await delete_endpoint(call.db, call.actor, call.org_id, call.path["endpoint_id"])
    return Done()


async def enable_webhook(call: Call[None, None]) -> Endpoint:
    return await enable_endpoint(call.db, call.actor, call.org_id, call.path["endpoint_id"])


async def disable_webhook(call: Call[None, None]) -> Endpoint:
    return await disable_endpoint(call.db, call.actor, call.org_id, call.path["endpoint_id"])


async def rotate_webhook_secret(call: Call[SecretRotation, None]) -> MadeWebhook:
    endpoint, secret = await rotate_secret(
        call.db,
        call.actor,
        services().master_keys,
        call.org_id,
        call.path["endpoint_id"],
        overlap_seconds=call.body.overlap_seconds,
    )
    return MadeWebhook(webhook=endpoint, secret=secret)


async def test_webhook(call: Call[None, None]) -> SentTest:
    await throttle.count(throttle.WEBHOOK_SEND_ACCOUNT, str(call.acting.key.user_id))
    return SentTest(await send_test(call.db, call.actor, call.org_id, call.path["endpoint_id"]))


async def list_webhook_deliveries(call: Call[None, Page]) -> DeliveryPage:
    before = cursors.read("webhook_deliveries", call.query.cursor, int)
    found = await select_deliveries(
        call.db, call.org_id, call.path["endpoint_id"], before=before, limit=call.query.limit + 1
    )
    items, following = cursors.cut(
        found, call.query.limit, "webhook_deliveries", lambda delivery: delivery.delivery_id
    )
    return DeliveryPage(items=items, next_cursor=following)


async def get_webhook_delivery(call: Call[None, None]) -> DeliveryAnswer:
    delivery, body, attempts = await select_delivery(
        call.db, call.org_id, call.path["endpoint_id"], _delivery_id(call)
    )
    return DeliveryAnswer(delivery=delivery, body=body, attempts=attempts)


async def redeliver_webhook(call: Call[None, None]) -> Delivery:
    await throttle.count(throttle.WEBHOOK_SEND_ACCOUNT, str(call.acting.key.user_id))
    return await redeliver(call.db, call.actor, call.org_id, call.path["endpoint_id"], _delivery_id(call))


def _delivery_id(call: Call[Any, Any]) -> int:
    number: int = call.path["delivery_id"]
    if number >= 2**63:
        raise Problem("not-found")
    return number


async def _read(call: Call[NewWebhook, None]) -> NewEndpoint:
    """What was chosen. Raises `Problem`."""
    for number, name in enumerate(call.body.events):
        require_choice(name, CHOICES, f"$.events[{number}]")
    require_printable(call.body.description or "-", "$.description")
    # With the pages' look-ups together.
    await throttle.count(throttle.WEBHOOK_CHANGE_ACCOUNT, str(call.acting.key.user_id))
    problem = await webhook_check.find_problem(call.body.url)
    if problem is not None:
        raise invalid(problem, "$.url")
    return NewEndpoint(
        url=call.body.url,
        events=tuple(call.body.events),
        description=call.body.description,
        ordered=call.body.ordered,
    )
