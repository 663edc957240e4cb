"""What the webhook operations take and answer."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from admin.management_api.forms import NextCursor
from storage.webhook_deliveries import Attempt
from storage.webhook_events import CHOICES
from storage.webhook_log import Delivery
from storage.webhooks import (
    DESCRIPTION_CHARS_MAX,
    OVERLAP_SECONDS,
    OVERLAP_SECONDS_MAX,
    URL_CHARS_MAX,
    Endpoint,
)

EventName = Annotated[str, Meta(min_length=1, max_length=64, extra_json_schema={"enum": list(CHOICES)})]


class WebhookPage(Struct, frozen=True, kw_only=True):
    items: list[Endpoint]
    next_cursor: NextCursor


class NewWebhook(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """All of what is chosen of an endpoint: what is left out takes its default, also in a change."""

    url: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=URL_CHARS_MAX,
            description="`https`, a name of the public internet in small letters, port 443 or 8443.",
            examples=["https://hooks.example.com/karta"],
        ),
    ]
    events: Annotated[list[EventName], Meta(min_length=1, max_length=100)]
    description: Annotated[str, Meta(max_length=DESCRIPTION_CHARS_MAX)] = ""
    ordered: Annotated[
        bool,
        Meta(description="One message at a time, in order: one that fails holds up those behind it."),
    ] = False


class MadeWebhook(Struct, frozen=True, kw_only=True):
    """An endpoint and its signing secret, shown this once: in an answer that is repeated for an
    Idempotency-Key it is null."""

    webhook: Endpoint
    secret: str | None

    def __repr__(self) -> str:
        return f"MadeWebhook({self.webhook!r})"


class SecretRotation(Struct, forbid_unknown_fields=True, frozen=True):
    overlap_seconds: Annotated[
        int,
        Meta(ge=0, le=OVERLAP_SECONDS_MAX, description="How long the old secret signs beside the new one."),
    ] = OVERLAP_SECONDS


class SentTest(Struct, frozen=True):
    """A test event is on its way."""

    event_id: UUID


class DeliveryPage(Struct, frozen=True, kw_only=True):
    items: list[Delivery]
    next_cursor: NextCursor


class DeliveryAnswer(Struct, frozen=True, kw_only=True):
    """One message with its tries, newest first."""

    delivery: Delivery
    body: Annotated[str, Meta(description="As it is sent, byte for byte.")]
    attempts: list[Attempt]
