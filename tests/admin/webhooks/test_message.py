"""Messages, verified by Standard Webhooks' own library as a receiver would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from admin.webhooks.message import name_message, shown_headers, write_headers

OLD, NEW, OTHER = ("whsec_" + letter * 43 + "=" for letter in ("A", "B", "C"))
BODY = '{"type":"key.minted","data":{"name":"clé 🔑"}}'


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-7))])
def test_a_receiver_with_either_secret_takes_it(zone: timezone) -> None:
    headers = write_headers(uuid4(), uuid4(), BODY, [NEW, OLD], datetime.now(zone))
    for secret in (OLD, NEW):
        assert Webhook(secret).verify(BODY, headers)["type"] == "key.minted"
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(BODY + " ", headers)
    assert headers["Webhook-Signature"].count("v1,") == 2


def test_a_message_keeps_its_id_and_each_try_has_its_own() -> None:
    event_id = UUID(int=5)
    assert name_message(event_id) == "msg_" + "0" * 31 + "5"
    first, second = (write_headers(event_id, uuid4(), BODY, [NEW], datetime.now(UTC)) for _ in range(2))
    assert first["Webhook-Id"] == second["Webhook-Id"] == name_message(event_id)
    assert first["X-Karta-Request-Id"] != second["X-Karta-Request-Id"]


def test_what_is_kept_of_a_message_signs_nothing() -> None:
    headers = write_headers(uuid4(), uuid4(), BODY, [NEW], datetime.now(UTC))
    shown = shown_headers(headers)
    assert set(headers) - set(shown) == {"Webhook-Signature"}
    assert "v1," not in str(shown)
