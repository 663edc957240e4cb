"""Before the first request: the handshake, the PROXY header of a trusted proxy, and strangers that dawdle."""

from __future__ import annotations

import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import trio

from gateway.accept import listen
from tests.gateway.conftest import Stage, Tenant
from tests.support.certificates import ServerFiles
from tests.support.gateway import RunningGateway, poll
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, get, post
from tests.support.scripted_provider import Line, answering
from tests.support.streams import ANTHROPIC, STREAM_BODY

LOOPBACK = [ip_network("127.0.0.1/32")]
HEADER = b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 443\r\n"
SAID: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def files(tmp_path: Path) -> ServerFiles:
    return ServerFiles(tmp_path)


def secured(files: ServerFiles, **limits: Any) -> dict[str, Any]:
    """Options of a gateway that speaks TLS."""
    return {"tls_cert_file": files.cert_file, "tls_key_file": files.key_file, "limits": limits}


@asynccontextmanager
async def tls_client(
    gateway: RunningGateway, context: ssl.SSLContext, before: bytes = b""
) -> AsyncIterator[RawClient]:
    """A client whose handshake is done; `before` is sent ahead of it, in the clear."""
    async with await gateway.connect() as raw:
        if before:
            await raw.send_all(before)
        secure = trio.SSLStream(raw, context, server_hostname="127.0.0.1", https_compatible=False)
        await secure.do_handshake()
        yield RawClient(secure)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_requests_are_answered_over_tls(
    version: ssl.TLSVersion, stage: Stage, tenant: Tenant, files: ServerFiles
) -> None:
    context = files.client(version=version)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with stage(answering(ANSWER), **secured(files)) as (gateway, _):
        async with tls_client(gateway, context) as client:
            assert client.stream.selected_alpn_protocol() == "http/1.1"  # type: ignore[attr-defined]
            for _ in range(4):
                await client.send(post(tenant.token))
                assert (await client.read_answer()).body == ANSWER
            await client.send(post(tenant.token, close=True))
            assert (await client.read_answer()).headers["connection"] == "close"
            # An end that nobody signed would be an error here.
            assert await client.read_to_end() == b""
            assert not client.was_reset
        await gateway.settled(5)
        assert gateway.worker.lane.requests >= 2


async def test_a_large_request_and_a_stream_go_through_tls(
    stage: Stage, tenant: Tenant, files: ServerFiles
) -> None:
    received: list[bytes] = []

    async def provider(line: Line) -> None:
        while (request := await line.read_request())[0]:
            received.append(request[1])
            await line.begin_stream()
            for event in ANTHROPIC:
                await line.send_chunk(event)
            await line.end_stream()

    body = STREAM_BODY[:-1] + b',"metadata":"' + b"x" * 300_000 + b'"}'
    stand = stage(provider, **secured(files))
    async with stand as (gateway, _), tls_client(gateway, files.client()) as client:
        for _ in range(2):
            await client.send(post(tenant.token, body))
            assert (await client.read_answer()).body == b"".join(ANTHROPIC)
        assert received == [body, body]


async def test_an_address_of_karta_s_in_an_answer_is_one_of_tls(
    stage: Stage, tenant: Tenant, files: ServerFiles
) -> None:
    """To the other the SDK would send its key in the clear."""
    batch = b'{"id":"b","results_url":"https://api.anthropic.com/v1/messages/batches/b/results"}'
    stand = stage(answering(batch), **secured(files))
    async with stand as (gateway, _), tls_client(gateway, files.client()) as client:
        await client.send(get(tenant.token, "/v1/messages/batches/b"))
        assert b'"results_url":"https://karta/v1' in (await client.read_answer()).body


async def test_a_refusal_is_read_although_the_body_was_not(
    stage: Stage, tenant: Tenant, files: ServerFiles
) -> None:
    stand = stage(answering(ANSWER), **secured(files))
    async with stand as (gateway, _), tls_client(gateway, files.client()) as client:
        # Within its body: most of it is still on its way when the answer is.
        await client.send(post(tenant.token, bytes(1_000_000), path="/nowhere")[:500_000])
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (404, "close")


def ask_anthropic(url: str, token: str, verify: ssl.SSLContext) -> str:
    http = anthropic.DefaultHttpxClient(verify=verify)
    with anthropic.Anthropic(base_url=url, api_key=token, http_client=http, max_retries=0) as client:
        message = client.messages.create(model="claude-test", max_tokens=10, messages=SAID)
        return str(message.model)


def ask_openai(url: str, token: str, verify: ssl.SSLContext) -> str:
    http = openai.DefaultHttpxClient(verify=verify)
    with openai.OpenAI(base_url=f"{url}/v1", api_key=token, http_client=http, max_retries=0) as client:
        return str(client.chat.completions.create(model="claude-test", messages=SAID).model)


@pytest.mark.parametrize("ask", [ask_anthropic, ask_openai])
async def test_the_official_sdks_use_https(
    ask: Callable[[str, str, ssl.SSLContext], str], stage: Stage, tenant: Tenant, files: ServerFiles
) -> None:
    async with stage(answering(ANSWER), **secured(files)) as (gateway, _):
        url = f"https://127.0.0.1:{gateway.port}"
        assert (
            await trio.to_thread.run_sync(ask, url, tenant.token, files.client(), abandon_on_cancel=True)
            == "claude-test"
        )


async def test_plain_http_is_told_to_use_https(stage: Stage, tenant: Tenant, files: ServerFiles) -> None:
    async with stage(answering(ANSWER), **secured(files)) as (gateway, provider):
        answer = await gateway.ask(post(tenant.token))
        assert (answer.status, b"https://" in answer.body) == (400, True)
        assert provider.lines == []
        await poll(lambda: gateway.worker.acceptor.turned_away == 1)


@pytest.mark.parametrize("said", [b"\x16\x03\x01", b"\x80\x00nonsense", b"\x16\x03\x01\x00\x05hello"])
async def test_what_is_no_handshake_costs_only_itself(
    said: bytes, stage: Stage, tenant: Tenant, files: ServerFiles
) -> None:
    stand = stage(answering(ANSWER), **secured(files, handshake_seconds=1.0))
    async with stand as (gateway, _), gateway.client() as stranger:
        await stranger.send(said)
        await stranger.read_to_end()
        async with tls_client(gateway, files.client()) as client:
            await client.send(post(tenant.token))
            assert (await client.read_answer()).status == 200
        await poll(lambda: gateway.worker.acceptor.turned_away == 1)


async def test_of_too_many_handshakes_the_oldest_gives_way(
    stage: Stage, tenant: Tenant, files: ServerFiles
) -> None:
    async with (
        stage(answering(ANSWER), **secured(files, handshakes_max=3)) as (gateway, _),
        gateway.client() as first,
    ):
        await poll(lambda: gateway.worker.acceptor.entering == 1)
        async with gateway.client() as second, gateway.client() as third:
            await poll(lambda: gateway.worker.acceptor.entering == 3)
            async with tls_client(gateway, files.client()) as client:
                await client.send(post(tenant.token))
                assert (await client.read_answer()).status == 200
            assert await first.read_to_end() == b""
            # The other two were left alone, and may still begin.
            for late in (second, third):
                secure = trio.SSLStream(late.stream, files.client(), server_hostname="127.0.0.1")
                await secure.do_handshake()


async def test_a_new_certificate_is_shown_without_a_restart_and_old_connections_stay(
    stage: Stage, tenant: Tenant, files: ServerFiles
) -> None:
    def shown(client: RawClient) -> str:
        return str(client.stream.getpeercert()["serialNumber"])  # type: ignore[attr-defined]

    stand = stage(answering(ANSWER), **secured(files))
    async with stand as (gateway, _), tls_client(gateway, files.client()) as client:
        before = files.serial
        assert shown(client) == before
        files.write()
        signal.raise_signal(signal.SIGHUP)
        await poll(lambda: gateway.worker.certificates.reloads == 1)
        async with tls_client(gateway, files.client()) as other:
            assert shown(other) == files.serial != before
            for one in (client, other):
                await one.send(post(tenant.token))
                assert (await one.read_answer()).body == ANSWER


async def test_a_stop_ends_handshakes_under_way(stage: Stage, files: ServerFiles) -> None:
    async with stage(answering(ANSWER), **secured(files)) as (gateway, _), gateway.client() as stranger:
        await poll(lambda: gateway.worker.acceptor.entering == 1)
        await gateway.worker.acceptor.drain()
        assert await stranger.read_to_end() == b""


@pytest.mark.parametrize("tls", [False, True])
async def test_a_stop_lets_in_whom_the_kernel_has_accepted(
    tls: bool, stage: Stage, tenant: Tenant, files: ServerFiles
) -> None:
    """As a worker does that takes what lies in the queue of one that has gone, and is stopped itself."""
    options = secured(files) if tls else {"limits": {}}
    options["limits"] |= {"drain_idle_seconds": 60.0}
    with listen("127.0.0.1", 0) as spare:
        async with stage(answering(ANSWER), **options) as (gateway, _):
            gateway.worker.spares = (spare,)
            async with await trio.open_tcp_stream(*spare.getsockname()) as raw:
                signal.raise_signal(signal.SIGTERM)
                if not tls:
                    client = RawClient(raw)
                else:
                    secure = trio.SSLStream(raw, files.client(), server_hostname="127.0.0.1")
                    await secure.do_handshake()
                    client = RawClient(secure)  # type: ignore[arg-type]
                await client.send(post(tenant.token))
                assert (await client.read_answer()).body == ANSWER


# What proxies say.


@pytest.mark.parametrize("tls", [False, True])
async def test_a_trusted_proxy_tells_who_it_speaks_for(
    tls: bool, stage: Stage, tenant: Tenant, files: ServerFiles
) -> None:
    options = secured(files) if tls else {}
    stand = stage(answering(ANSWER), proxy_protocol=True, trusted_proxies=LOOPBACK, **options)
    async with (
        stand as (gateway, _),
        tls_client(gateway, files.client(), HEADER) if tls else gateway.client() as client,
    ):
        if not tls:
            # In two pieces, and the request right behind it.
            await client.send(HEADER[:10])
            await client.send(HEADER[10:] + post(tenant.token))
        else:
            await client.send(post(tenant.token))
        assert (await client.read_answer()).body == ANSWER
        assert (await gateway.only_connection()).address == "198.51.100.7"


async def test_a_trusted_proxy_that_says_nothing_of_a_client_is_turned_away(
    stage: Stage, tenant: Tenant
) -> None:
    stand = stage(answering(ANSWER), proxy_protocol=True, trusted_proxies=LOOPBACK)
    async with stand as (gateway, provider):
        assert await gateway.exchange(post(tenant.token)) == b""
        await poll(lambda: gateway.worker.acceptor.turned_away == 1)
        assert provider.lines == []


@pytest.mark.parametrize("switched_on", [True, False])
async def test_nobody_else_is_believed(switched_on: bool, stage: Stage, tenant: Tenant) -> None:
    """From an address that is no proxy's the header is nonsense, and without it all is as ever; the same
    where it is not switched on."""
    trusted = [ip_network("192.0.2.0/24")] if switched_on else LOOPBACK
    stand = stage(answering(ANSWER), proxy_protocol=switched_on, trusted_proxies=trusted)
    async with stand as (gateway, _):
        assert (await gateway.exchange(HEADER + post(tenant.token))).startswith(b"HTTP/1.1 400 ")
        async with gateway.client() as client:
            await client.send(post(tenant.token))
            assert (await client.read_answer()).body == ANSWER
            assert (await gateway.only_connection()).address == "127.0.0.1"


async def test_a_proxy_that_dawdles_is_turned_away(stage: Stage) -> None:
    stand = stage(
        answering(ANSWER),
        proxy_protocol=True,
        trusted_proxies=LOOPBACK,
        limits={"handshake_seconds": 0.1},
    )
    async with stand as (gateway, _), gateway.client() as client:
        await client.send(HEADER[:20])
        await client.read_to_end()
        await poll(lambda: gateway.worker.acceptor.turned_away == 1)
