"""The part of the table of operations that is about webhooks."""

from __future__ import annotations

from admin.management_api import forms as f
from admin.management_api import webhook_forms as w
from admin.management_api import webhooks
from admin.management_api.call import Operation
from storage.webhook_log import Delivery
from storage.webhooks import Endpoint

_WEBHOOKS = "/organizations/{org_id}/webhooks"
_WEBHOOK = f"{_WEBHOOKS}/{{endpoint_id}}"
_DELIVERIES = f"{_WEBHOOK}/deliveries"

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "list_webhooks",
        "GET",
        _WEBHOOKS,
        "List webhook endpoints, oldest first",
        webhooks.list_webhooks,
        w.WebhookPage,
        query=f.Page,
    ),
    Operation(
        "create_webhook",
        "POST",
        _WEBHOOKS,
        "Make a webhook endpoint, whose signing secret is shown this once",
        webhooks.create_webhook,
        w.MadeWebhook,
        body=w.NewWebhook,
        status=201,
        once="secret",
    ),
    Operation("get_webhook", "GET", _WEBHOOK, "Show a webhook endpoint", webhooks.get_webhook, Endpoint),
    Operation(
        "change_webhook",
        "PUT",
        _WEBHOOK,
        "Change a webhook endpoint: its URL, events, description and order",
        webhooks.change_webhook,
        Endpoint,
        body=w.NewWebhook,
    ),
    Operation(
        "delete_webhook",
        "DELETE",
        _WEBHOOK,
        "Delete a webhook endpoint, with its log and what still waits",
        webhooks.delete_webhook,
        f.Done,
    ),
    Operation(
        "enable_webhook",
        "POST",
        f"{_WEBHOOK}/enable",
        "Switch a webhook endpoint on; what waited is sent",
        webhooks.enable_webhook,
        Endpoint,
    ),
    Operation(
        "disable_webhook",
        "POST",
        f"{_WEBHOOK}/disable",
        "Switch a webhook endpoint off; what waits is kept",
        webhooks.disable_webhook,
        Endpoint,
    ),
    Operation(
        "rotate_webhook_secret",
        "POST",
        f"{_WEBHOOK}/rotate-secret",
        "Make another signing secret, shown this once; the old one signs on until the overlap ends",
        webhooks.rotate_webhook_secret,
        w.MadeWebhook,
        body=w.SecretRotation,
        once="secret",
    ),
    Operation(
        "test_webhook",
        "POST",
        f"{_WEBHOOK}/test",
        "Send a test event to a webhook endpoint",
        webhooks.test_webhook,
        w.SentTest,
        status=202,
    ),
    Operation(
        "list_webhook_deliveries",
        "GET",
        _DELIVERIES,
        "List an endpoint's messages, newest first",
        webhooks.list_webhook_deliveries,
        w.DeliveryPage,
        query=f.Page,
    ),
    Operation(
        "get_webhook_delivery",
        "GET",
        f"{_DELIVERIES}/{{delivery_id}}",
        "Show a message: its body, and each try",
        webhooks.get_webhook_delivery,
        w.DeliveryAnswer,
    ),
    Operation(
        "redeliver_webhook",
        "POST",
        f"{_DELIVERIES}/{{delivery_id}}/redeliver",
        "Send a message again",
        webhooks.redeliver_webhook,
        Delivery,
    ),
)
