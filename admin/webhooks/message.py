"""A message as it is sent: Standard Webhooks' headers, signed by that specification's own library.

With two secrets there are two signatures, joined by a space: a receiver that knows either takes the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from standardwebhooks import Webhook

USER_AGENT = "Karta-Webhooks/1"
_UNSHOWN = frozenset({"webhook-signature"})


def write_headers(
    event_id: UUID, attempt_id: UUID, body: str, secrets: Sequence[str], now: datetime
) -> dict[str, str]:
    """`now` is when the message is sent: receivers refuse what is older than some minutes."""
    # The library takes any time's wall clock for UTC, and drops what is less than a second.
    moment = now.astimezone(UTC).replace(microsecond=0)
    message_id = name_message(event_id)
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "Webhook-Id": message_id,
        "Webhook-Timestamp": str(int(moment.timestamp())),
        "Webhook-Signature": " ".join(Webhook(secret).sign(message_id, moment, body) for secret in secrets),
        "X-Karta-Request-Id": attempt_id.hex,
    }


def name_message(event_id: UUID) -> str:
    """The `webhook-id`: the same at each try, so that a receiver knows a repetition."""
    return f"msg_{event_id.hex}"


def shown_headers(headers: dict[str, str]) -> dict[str, str]:
    """Those that may be kept and shown."""
    return {name: value for name, value in headers.items() if name.lower() not in _UNSHOWN}
