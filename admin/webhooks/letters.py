"""The mail that says that an endpoint was switched off."""

from __future__ import annotations

from collections.abc import Callable

from storage.outbox import Letter
from storage.webhook_deliveries import FAILING_DAYS, KEPT_DAYS
from storage.webhooks import Endpoint


def write_switched_off(origin: str) -> Callable[[Endpoint, str], Letter]:
    """Writes it, for an endpoint with its reason and one of the owners' addresses."""

    def write(endpoint: Endpoint, recipient: str) -> Letter:
        cause = (
            "It answered 410 Gone, which asks for nothing more."
            if endpoint.reason == "gone"
            else f"Every message of the last {FAILING_DAYS} days failed."
        )
        link = f"{origin}/organizations/{endpoint.org_id}/webhooks/{endpoint.endpoint_id}"
        return Letter(
            kind="webhook_switched_off",
            recipient=recipient,
            subject="A webhook endpoint was switched off",
            text=f"Karta no longer sends webhooks to {endpoint.host}. {cause}\n\n"
            f"What went wrong is in its log. Messages that waited are kept for {KEPT_DAYS} days, and go out "
            f"when you switch the endpoint on again:\n\n{link}\n\nKarta\n",
        )

    return write
