"""The order of things: what happens at the same time, and what never happens before the verdict."""

from __future__ import annotations

import trio

from tests.gateway.conftest import Tenant
from tests.support.gateway import PLATFORM_KEY, running_gateway
from tests.support.scripted_provider import Line, scripted_provider

BODY = b'{"model":"claude-test","max_tokens":10,"messages":[]}'
ANSWER = b'{"type":"message","model":"claude-test","usage":{"input_tokens":3,"output_tokens":4}}'


def request(token: str, *, path: str = "/v1/messages", body: bytes = BODY, headers: str = "") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: karta\r\nx-api-key: {token}\r\nanthropic-version: 2023-06-01\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{headers}\r\n"
    )
    return head.encode() + body


async def test_a_request_goes_up_with_the_platform_key_and_is_recorded(tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        head, body = await line.read_request()
        assert f"x-api-key: {PLATFORM_KEY}".encode() in head
        assert tenant.token.encode() not in head
        assert body == BODY
        await line.answer(ANSWER, headers="request-id: req_1\r\n")
        await line.wait_closed()

    async with (
        scripted_provider(provider) as upstream,
        running_gateway(tenant.database_url, tenant.spool_dir, provider_url=upstream.base_url) as gateway,
    ):
        answer = await gateway.exchange(request(tenant.token))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\n" + ANSWER)
        (row,) = await gateway.settled(1)
    assert (row["org_id"], row["key_id"]) == (tenant.org_id, tenant.key_id)
    assert (row["input_tokens"], row["output_tokens"], row["usage_complete"]) == (3, 4, True)
    assert (row["provider_request_id"], row["status"]) == ("req_1", 200)


async def test_everything_but_sending_overlaps_verification(tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.answer(ANSWER)
        await line.wait_closed()

    async with (
        scripted_provider(provider) as upstream,
        running_gateway(tenant.database_url, tenant.spool_dir, provider_url=upstream.base_url) as gateway,
    ):
        await gateway.exchange(request(tenant.token))
        verified = gateway.steps.index("verified")
        for step in ("body read", "looked up", "dialled"):
            assert gateway.steps.index(step) < verified


async def test_no_prompt_byte_leaves_for_a_wrong_key(tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.wait_closed()

    wrong = forge(tenant.token)
    async with (
        scripted_provider(provider) as upstream,
        running_gateway(tenant.database_url, tenant.spool_dir, provider_url=upstream.base_url) as gateway,
    ):
        answer = await gateway.exchange(request(wrong))
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b'"authentication_error"' in answer
        # It was connected to in advance, which is the point of the overlap, and told nothing.
        await upstream.accepted.wait()
        assert upstream.received == b""


def forge(token: str) -> str:
    """The same key id with another secret and a right checksum: all a thief of ids could do."""
    from storage import key_format
    from storage.model import Mode

    other = key_format.mint(Mode.LIVE)
    body = token[: len("kt_live_") + 12] + other.token[len("kt_live_") + 12 : -6]
    forged = body + key_format._checksum(body.encode())
    assert key_format.parse(forged.encode()) is not None
    return forged
