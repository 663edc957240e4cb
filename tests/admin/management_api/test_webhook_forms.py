"""Forms of the webhook operations: what their reprs keep to themselves, and what the document says."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from admin.management_api.document import make
from admin.management_api.webhook_forms import MadeWebhook
from storage.webhook_events import CHOICES
from storage.webhooks import Endpoint


def test_a_secret_is_in_no_repr() -> None:
    endpoint = Endpoint(
        endpoint_id=UUID(int=1),
        org_id=UUID(int=2),
        url="https://hooks.example.com/",
        description="",
        events=("key.minted",),
        ordered=False,
        state="enabled",
        reason=None,
        created_at=datetime.now(UTC),
        failing_since=None,
    )
    assert "whsec_" not in repr(MadeWebhook(webhook=endpoint, secret="whsec_x"))


def test_the_document_names_the_events() -> None:
    schema = make()["components"]["schemas"]["NewWebhook"]["properties"]["events"]
    assert schema["items"]["enum"] == list(CHOICES)
