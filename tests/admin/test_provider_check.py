"""A key is tried at its provider: what the provider says of it, and what happens when it says nothing."""

from __future__ import annotations

import pytest
import trio

from admin import provider_check
from admin.provider_check import Endpoint, Verdict, check
from tests.support.scripted_provider import Line, ScriptedProvider, scripted_provider, silent

KEY = b"sk-ant-api03-0123456789-wxyz"


def endpoint(provider: ScriptedProvider, path: str = "/v1/models") -> Endpoint:
    return Endpoint(
        f"{provider.base_url}{path}", "Authorization", "Bearer ", {"anthropic-version": "2023-06-01"}
    )


async def ask(status: str, headers: str = "") -> tuple[Verdict, bytes]:
    async def handler(line: Line) -> None:
        await line.read_request()
        await line.answer(b"{}", status=status, headers=headers)

    async with scripted_provider(handler) as provider:
        return await check(endpoint(provider), KEY), provider.received


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("200 OK", Verdict.ACCEPTED),
        ("401 Unauthorized", Verdict.REFUSED),
        ("403 Forbidden", Verdict.UNTOLD),
        ("404 Not Found", Verdict.UNTOLD),
        ("429 Too Many Requests", Verdict.UNTOLD),
        ("500 Internal Server Error", Verdict.UNTOLD),
    ],
)
async def test_the_status_says_it(status: str, verdict: Verdict) -> None:
    told, received = await ask(status)
    assert told is verdict
    assert received.startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"authorization: bearer sk-ant-api03-0123456789-wxyz\r\n" in received.lower()
    assert b"anthropic-version: 2023-06-01" in received


async def test_a_redirect_is_no_answer_and_takes_no_key_along() -> None:
    async with scripted_provider(silent) as elsewhere:
        told, _ = await ask("302 Found", f"location: {elsewhere.base_url}/v1/models\r\n")
        assert told is Verdict.UNTOLD
        assert elsewhere.lines == []


async def test_who_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_check, "SECONDS_MAX", 0.2)
    async with scripted_provider(silent) as provider:
        with trio.fail_after(20):
            assert await check(endpoint(provider), KEY) is Verdict.UNTOLD


async def test_an_answer_without_end_is_not_read() -> None:
    async def endless(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        await line.wait_closed()

    async with scripted_provider(endless) as provider:
        with trio.fail_after(20):
            assert await check(endpoint(provider), KEY) is Verdict.ACCEPTED


async def test_who_is_not_there_tells_nothing() -> None:
    async with scripted_provider(silent) as provider:
        gone = endpoint(provider)
    assert await check(gone, KEY) is Verdict.UNTOLD
    assert await check(None, KEY) is Verdict.UNTOLD


async def test_what_cannot_stand_in_a_header_is_not_sent() -> None:
    async with scripted_provider(silent) as provider:
        assert await check(endpoint(provider), b"sk-1\r\nx: y") is Verdict.UNTOLD
        assert provider.lines == []


async def test_a_certificate_nobody_vouches_for_gets_no_key(tmp_path: object) -> None:
    import ssl

    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def handler(line: Line) -> None:
        if (await line.read_request())[0]:
            await line.answer(b"{}")

    async with scripted_provider(handler, tls=context) as provider:
        assert await check(endpoint(provider), KEY) is Verdict.UNTOLD
        assert provider.received == b""
    with authority.cert_pem.tempfile() as ca_file:
        async with scripted_provider(handler, tls=context) as provider:
            trusted = endpoint(provider)._replace(ca_file=ca_file)
            assert await check(trusted, KEY) is Verdict.ACCEPTED
