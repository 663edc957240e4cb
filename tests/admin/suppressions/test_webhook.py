"""What Postmark tells, in its documented shapes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from storage.bridge import Database
from storage.suppressions import select_suppressions
from tests.admin.conftest import running_admin

PASSWORD = "a-password-of-the-webhook"
BOUNCE = {
    "RecordType": "Bounce",
    "MessageStream": "outbound",
    "ID": 4323372036854775807,
    "Type": "HardBounce",
    "TypeCode": 1,
    "Name": "Hard bounce",
    "Tag": "reset_password",
    "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
    "Metadata": {"outbox": "883953f4-6105-42a2-a16a-77a8eac79483"},
    "ServerID": 23,
    "Description": "The server was unable to deliver your message (ex: unknown user, mailbox not found).",
    "Details": "Test bounce details",
    "Email": "Ada@example.com",
    "From": "karta@example.com",
    "BouncedAt": "2026-11-05T16:33:54.9070259Z",
    "DumpAvailable": True,
    "Inactive": True,
    "CanActivate": True,
    "Subject": "Test subject",
}
COMPLAINT = {
    **BOUNCE,
    "RecordType": "SpamComplaint",
    "Type": "SpamComplaint",
    "TypeCode": 512,
    "BouncedAt": "2026-11-05T16:34:54.9070259Z",
}
CHANGE = {
    "RecordType": "SubscriptionChange",
    "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
    "ServerID": 23,
    "MessageStream": "broadcast",
    "ChangedAt": "2026-11-05T17:00:00.1234567-05:00",
    "Recipient": "ada@example.com",
    "Origin": "Recipient",
    "SuppressSending": True,
    "SuppressionReason": "ManualSuppression",
    "Tag": "incident",
    "Metadata": {},
}
END = {**CHANGE, "ChangedAt": "2026-11-06T10:00:00Z", "SuppressSending": False, "SuppressionReason": None}


class Teller:
    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self.client, self.url = client, f"{url}/webhooks/postmark"

    async def __call__(self, told: Any, auth: tuple[str, str] | None = ("postmark", PASSWORD)) -> int:
        body = {"content": told} if isinstance(told, bytes) else {"json": told}
        answer = await self.client.post(self.url, auth=auth, **body)
        return answer.status_code


@pytest.fixture
async def tell(database_url: str) -> AsyncIterator[Teller]:
    async with (
        running_admin(database_url, postmark_webhook_password=PASSWORD) as url,
        httpx.AsyncClient() as client,
    ):
        yield Teller(client, url)


async def found(db: Database) -> set[tuple[str, str, str]]:
    return {(one.email, one.stream, one.reason.value) for one in await select_suppressions(db)}


async def test_what_is_told_is_noted_once(tell: Teller, admin_db: Database) -> None:
    for _ in range(2):
        assert await tell(BOUNCE) == 204
        assert await tell(CHANGE) == 204
    assert await found(admin_db) == {
        ("ada@example.com", "*", "hard_bounce"),
        ("ada@example.com", "broadcast", "unsubscribed"),
    }
    assert await tell(END) == 204
    assert await found(admin_db) == set(), "it gets mail again, of the hard bounce as well"


async def test_in_whatever_order(tell: Teller, admin_db: Database) -> None:
    for number, told in enumerate(itertools.permutations((BOUNCE, CHANGE, END))):
        email = f"{number}@example.com"
        for one in told:
            assert await tell(one | {"Email": email, "Recipient": email}) == 204
    assert await found(admin_db) == set()


async def test_what_passes_is_no_reason(tell: Teller, admin_db: Database) -> None:
    assert await tell(BOUNCE | {"Type": "SoftBounce", "Inactive": False}) == 204
    assert await tell({"RecordType": "Delivery", "Recipient": "ada@example.com"}) == 204
    assert await found(admin_db) == set()
    assert await tell(COMPLAINT) == 204
    assert await found(admin_db) == {("ada@example.com", "outbound", "spam_complaint")}


@pytest.mark.parametrize(
    "auth", [None, ("postmark", ""), ("postmark", "wrong"), ("root", PASSWORD), ("postmark", "é" * 30)]
)
async def test_nobody_else_may_tell(tell: Teller, admin_db: Database, auth: tuple[str, str] | None) -> None:
    assert await tell(BOUNCE, auth) == 401
    assert await found(admin_db) == set()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"RecordType": "Bounce", "Inactive": 7}'])
async def test_what_is_nothing_of_postmarks(tell: Teller, body: bytes) -> None:
    assert await tell(body) == 422


async def test_an_address_that_is_none_and_too_much(tell: Teller, admin_db: Database) -> None:
    assert await tell(BOUNCE | {"Email": ""}) == 422
    assert await tell(BOUNCE | {"Email": "ada\0@example.com"}) == 422
    assert await tell(BOUNCE | {"MessageStream": "x; y", "Type": "SpamComplaint"}) == 422
    assert await tell(b" " * 70_000) == 413


async def test_without_a_password_there_is_no_such_page(database_url: str) -> None:
    async with running_admin(database_url) as url, httpx.AsyncClient() as client:
        assert await Teller(client, url)(BOUNCE) == 404
