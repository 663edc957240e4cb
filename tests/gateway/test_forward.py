"""What the provider wrote is what the client reads: byte for byte, piece for piece, and no byte more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from tests.gateway.conftest import Stage, Tenant
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, chat, get, post
from tests.support.scripted_provider import Handler, Line, answering
from tests.support.streams import ANTHROPIC, CHAT, RESPONSES, STREAM_BODY, chunk

JSON = b"content-type: application/json\r\n"
EVENTS = b"content-type: text/event-stream; charset=utf-8\r\n"

# What the provider sends after its status line, and whether the client's connection goes on afterwards.
ANSWERS = {
    "length": (b"200 OK", JSON + b"content-length: 4\r\n", b"\x00\xff{}", True),
    "empty": (b"200 OK", JSON + b"content-length: 0\r\n", b"", True),
    "chunks": (
        b"200 OK",
        EVENTS + b"transfer-encoding: chunked\r\n",
        b"3\r\nabc\r\n10\r\n" + b"d" * 16 + b"\r\n0\r\n\r\n",
        True,
    ),
    "chunk extensions": (
        b"200 OK",
        JSON + b"transfer-encoding: chunked\r\n",
        b"2;a=b\r\n{}\r\n0\r\n\r\n",
        True,
    ),
    "upper-case sizes": (
        b"200 OK",
        JSON + b"transfer-encoding: chunked\r\n",
        b"00A\r\n0123456789\r\n0\r\n\r\n",
        True,
    ),
    "no chunks": (b"200 OK", JSON + b"transfer-encoding: chunked\r\n", b"0\r\n\r\n", True),
    "trailers": (
        b"200 OK",
        JSON + b"transfer-encoding: chunked\r\n",
        b"2\r\n{}\r\n0\r\nx-sum: 1\r\n\r\n",
        False,
    ),
    "no content": (b"204 No Content", b"x-a: b\r\n", b"", True),
    "not modified": (b"304 Not Modified", b'etag: "a"\r\n', b"", True),
    "an error": (b"529 Overloaded", JSON + b"content-length: 2\r\nretry-after: 7\r\n", b"{}", True),
}


def saying(data: bytes, *, then_end: bool = False) -> Handler:
    """A provider that answers every request with these bytes."""

    async def handler(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.send(data)
            if then_end:
                return

    return handler


async def receive(client: RawClient, size: int) -> tuple[bytes, bytes]:
    """A head, and as many bytes as follow it."""
    head = await client.read_head()
    return head.raw, await client.read_exactly(size)


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_passes_unchanged(name: str, stage: Stage, tenant: Tenant) -> None:
    status, fields, body, goes_on = ANSWERS[name]
    start = b"HTTP/1.1 " + status + b"\r\n" + fields
    async with (
        stage(saying(start + b"\r\n" + body)) as (gateway, provider),
        gateway.client() as client,
    ):
        for _ in range(2 if goes_on else 1):
            await client.send(post(tenant.token))
            head, received = await receive(client, len(body))
            assert received == body
            assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
            own = [line for line in head.splitlines() if line.startswith(b"x-karta-request-id: ")]
            assert sorted(head.splitlines()) == sorted([*start.splitlines(), *own, b""])
        if goes_on:
            # The same two connections carried both.
            assert len(provider.lines) == 1
        else:
            assert await client.read_to_end() == b""
            assert not client.was_reset


async def test_an_answer_without_a_length_ends_with_its_connection(stage: Stage, tenant: Tenant) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n\r\n" + bytes(range(256))
    async with (
        stage(saying(answer, then_end=True)) as (gateway, _),
        gateway.client() as client,
    ):
        await client.send(post(tenant.token))
        head = await client.read_head()
        assert head.headers["connection"] == "close"
        assert await client.read_to_end() == bytes(range(256))
        assert not client.was_reset
        row = await gateway.only_row()
    assert (row["outcome"], row["response_bytes"]) == ("completed", 256)


async def test_an_http_1_0_provider_is_understood(stage: Stage, tenant: Tenant) -> None:
    answer = b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\n" + ANSWER
    async with stage(saying(answer, then_end=True)) as (gateway, _):
        assert (await gateway.exchange(post(tenant.token))).endswith(b"\r\n\r\n" + ANSWER)


async def test_an_http_1_0_client_gets_no_chunks(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        for event in CHAT:
            await line.send_chunk(event)
        await line.end_stream()
        await line.wait_closed()

    async with stage(provider) as (gateway, _), gateway.client() as client:
        await client.send(get(tenant.token, version="1.0"))
        head = await client.read_head()
        assert "transfer-encoding" not in head.headers
        assert head.headers["connection"] == "close"
        assert await client.read_to_end() == b"".join(CHAT)
        assert not client.was_reset


async def test_an_http_1_0_client_gets_a_length_as_it_is(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, _):
        answer = await gateway.exchange(get(tenant.token, version="1.0"))
    assert b"content-length: %d\r\n" % len(ANSWER) in answer
    assert answer.endswith(b"\r\n\r\n" + ANSWER)


@pytest.mark.parametrize(
    "framing",
    [b"content-length: 1234\r\n", b"transfer-encoding: chunked\r\n", b""],
    ids=["length", "chunks", "none"],
)
async def test_head_has_the_fields_of_a_body_and_none(framing: bytes, stage: Stage, tenant: Tenant) -> None:
    async with (
        stage(saying(b"HTTP/1.1 200 OK\r\n" + JSON + framing + b"\r\n")) as (gateway, _),
        gateway.client() as client,
    ):
        await client.send(get(tenant.token, method="HEAD"))
        head = await client.read_head()
        assert framing in head.raw
        # Nothing of a body comes before the next answer.
        await client.send(get(tenant.token, method="HEAD"))
        assert (await client.read_head()).status == 200


async def test_interim_answers_are_not_the_answer(stage: Stage, tenant: Tenant) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\n" + JSON + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
    async with stage(saying(interim + answer)) as (gateway, provider):
        for _ in range(2):
            told = await gateway.ask(post(tenant.token))
            assert (told.status, told.body) == (200, ANSWER)
            assert "link" not in told.headers
        assert len(provider.lines) == 1


@pytest.mark.parametrize("cut_at", range(1, len(b"3\r\nabc\r\n0\r\n\r\n")))
async def test_framing_cut_anywhere_arrives_whole(cut_at: int, stage: Stage, tenant: Tenant) -> None:
    framed = b"3\r\nabc\r\n0\r\n\r\n"
    relayed = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        await line.send(framed[:cut_at])
        await relayed.wait()
        await line.send(framed[cut_at:])
        await line.wait_closed()

    async with stage(provider) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token, close=True))
        await client.read_head()
        assert await client.read_exactly(cut_at) == framed[:cut_at]
        relayed.set()
        assert await client.read_to_end() == framed[cut_at:]
        assert not client.was_reset


@pytest.mark.parametrize(
    ("events", "ask"),
    [
        (ANTHROPIC, lambda token: post(token, STREAM_BODY)),
        (CHAT, chat),
        (RESPONSES, lambda token: chat(token, path="/v1/responses")),
    ],
    ids=["anthropic", "chat", "responses"],
)
async def test_each_event_arrives_before_the_next_is_sent(
    events: tuple[bytes, ...], ask: Callable[[str], bytes], stage: Stage, tenant: Tenant
) -> None:
    """No event waits for another: the provider says the next only when the client has read the one before."""
    may_go_on, go_on = trio.open_memory_channel[None](0)

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        for event in events:
            await line.send_chunk(event)
            await go_on.receive()
        await line.end_stream()
        await line.wait_closed()

    async with stage(provider) as (gateway, _), gateway.client() as client:
        await client.send(ask(tenant.token))
        await client.read_head()
        for event in events:
            assert await client.read_exactly(len(chunk(event))) == chunk(event)
            await may_go_on.send(None)
        assert await client.read_exactly(5) == b"0\r\n\r\n"
        row = await gateway.only_row()
    assert (row["input_tokens"], row["output_tokens"], row["usage_complete"]) == (7, 5, True)
    assert (row["streamed"], row["outcome"]) == (True, "completed")


PLAIN_CHAT = b'{"model":"gpt-test","stream":true,"messages":[]}'


@pytest.mark.parametrize("framing", ["chunks", "length", "until the end"])
async def test_usage_that_only_karta_asked_for_is_taken_out_again(
    framing: str, stage: Stage, tenant: Tenant
) -> None:
    """The client gets what it would have got; the row has the provider's figures. The second time its head is
    known."""
    wanted = b"".join(event for event in CHAT if b"usage" not in event)
    start = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            if framing == "chunks":
                await line.begin_stream()
                for event in CHAT:
                    await line.send_chunk(event.replace(b"}}]}", b'}}],"usage":null}'))
                await line.end_stream()
            elif framing == "length":
                body = b"".join(CHAT)
                await line.send(start + b"content-length: %d\r\n\r\n" % len(body) + body)
            else:
                await line.send(start + b"\r\n" + b"".join(CHAT))
                return

    async with stage(provider) as (gateway, provider_):
        for _ in range(2):
            if framing == "until the end":
                answer = await gateway.exchange(chat(tenant.token, PLAIN_CHAT))
                assert answer.endswith(b"\r\n\r\n" + wanted)
            else:
                answered = await gateway.ask(chat(tenant.token, PLAIN_CHAT))
                assert answered.body == wanted
                assert "content-length" not in answered.headers
        rows = await gateway.settled(2)
        received = provider_.received
    assert received.count(b'{"stream_options":{"include_usage":true},"model":"gpt-test","stream":true,') == 2
    for row in rows:
        assert (row["input_tokens"], row["output_tokens"], row["usage_complete"]) == (7, 5, True)


async def test_fields_that_are_not_the_clients_are_dropped(stage: Stage, tenant: Tenant) -> None:
    dropped = (
        "Server: edge\r\nSet-Cookie: a=b\r\nalt-svc: h3\r\nStrict-Transport-Security: max-age=1\r\n"
        "connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nproxy-authenticate: Basic\r\n"
    )
    kept = "X-Custom: Kept\r\nrequest-id: req_7\r\nanthropic-organization-id: org\r\nretry-after: 3\r\n"

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.answer(ANSWER, headers=dropped + kept)
        await line.wait_closed()

    async with stage(provider) as (gateway, _):
        answer = await gateway.ask(post(tenant.token))
    told = {name: value for name, value in answer.headers.items() if name != "x-karta-request-id"}
    assert told == {
        "content-type": "application/json",
        "content-length": str(len(ANSWER)),
        "x-custom": "Kept",
        "request-id": "req_7",
        "anthropic-organization-id": "org",
        "retry-after": "3",
    }


@pytest.mark.parametrize("shared", [False, True])
async def test_a_shared_account_is_not_named(shared: bool, stage: Stage, tenant: Tenant) -> None:
    """Neither to the client nor by it: not the first time, nor by the lane, nor by the shape of the head."""

    async def provider(line: Line) -> None:
        for _ in range(3):
            await line.read_request()
            await line.answer(ANSWER, headers="anthropic-organization-id: org\r\nopenai-organization: o\r\n")
        await line.wait_closed()

    told = "OpenAI-Organization: of-a-client\r\nopenai-project: of-a-client\r\nx-number: %d\r\n"
    async with stage(provider, platform_account_shared=shared) as (gateway, upstream):
        async with gateway.client() as client:
            for number in (1, 1, 2):
                await client.send(post(tenant.token, headers=told % number))
                answer = await client.read_answer()
                named = [name for name in answer.headers if "organization" in name]
                assert len(named) == (0 if shared else 2)
        assert gateway.worker.lane.requests == 2
    assert upstream.received.count(b"of-a-client") == (0 if shared else 6)
    assert upstream.received.count(b"x-number: ") == 3


async def test_a_redirect_within_the_provider_stays_with_karta(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        host, port = line.stream.socket.getsockname()
        location = f"location: http://{host}:{port}/v1/models?page=2\r\n"
        await line.answer(b"", status="307 Temporary Redirect", headers=location)
        await line.wait_closed()

    async with stage(provider) as (gateway, _):
        answer = await gateway.ask(get(tenant.token))
    assert (answer.status, answer.headers["location"]) == (307, "/v1/models?page=2")


@pytest.mark.parametrize(
    "location", ["https://elsewhere.example/v1", "//elsewhere.example/v1", "http://[broken"]
)
async def test_a_redirect_to_elsewhere_is_refused(location: str, stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.answer(b"", status="302 Found", headers=f"location: {location}\r\n")
        await line.wait_closed()

    async with stage(provider) as (gateway, _), gateway.client() as client:
        await client.send(get(tenant.token))
        answer = await client.read_answer()
        assert answer.status == 502
        assert "location" not in answer.headers
        assert "elsewhere" not in answer.raw.decode()
        assert (await gateway.only_row())["outcome"] == "upstream_failed"


async def test_results_url_leads_to_karta(stage: Stage, tenant: Tenant) -> None:
    batch = b'{"id":"b1","results_url": "https://api.anthropic.com/v1/messages/batches/b1/results"}'
    async with stage(answering(batch)) as (gateway, _):
        answer = await gateway.ask(get(tenant.token, "/v1/messages/batches/b1"))
    assert answer.body == b'{"id":"b1","results_url": "http://karta/v1/messages/batches/b1/results"}'
    assert answer.headers["content-length"] == str(len(answer.body))


async def test_an_answer_to_rewrite_is_bounded(stage: Stage, tenant: Tenant) -> None:
    page = b'{"data":"' + b"x" * 500_000 + b'"}'
    async with stage(answering(page), limits={"answer_rewrite_bytes_max": 100_000}) as (gateway, _):
        answer = await gateway.ask(get(tenant.token, "/v1/messages/batches"))
        assert answer.status == 502
        assert (await gateway.only_row())["status"] == 502
