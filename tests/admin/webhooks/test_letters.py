"""The mail of an endpoint that was switched off."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec

from admin.webhooks.letters import write_switched_off
from storage.webhooks import Endpoint

ENDPOINT = Endpoint(
    endpoint_id=UUID(int=1),
    org_id=UUID(int=2),
    url="https://hooks.example.com/t0ken",
    description="",
    events=("key.minted",),
    ordered=False,
    state="enabled",
    reason="failing",
    created_at=datetime.now(UTC),
    failing_since=None,
)


def test_it_says_why_and_where_to_look_and_no_path() -> None:
    write = write_switched_off("https://admin.example.com")
    letter = write(ENDPOINT, "ada@example.com")
    assert letter.recipient == "ada@example.com"
    assert "last 5 days failed" in letter.text
    assert (
        f"https://admin.example.com/organizations/{ENDPOINT.org_id}/webhooks/{ENDPOINT.endpoint_id}"
        in letter.text
    )
    assert "hooks.example.com" in letter.text
    assert "t0ken" not in letter.text
    gone = write(msgspec.structs.replace(ENDPOINT, reason="gone"), "ada@example.com")
    assert "410 Gone" in gone.text
