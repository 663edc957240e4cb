"""Answers that the lane passes on: byte for byte what the provider wrote, as the pipeline does it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio
import trio.testing

from tests.gateway.conftest import Stage, Tenant
from tests.gateway.repeated import repeated
from tests.gateway.test_forward import ANSWERS, JSON, receive, saying
from tests.gateway.test_forward_cut import POISON, SURPLUS, UNUSABLE
from tests.support.requests import ANSWER, chat, get, post
from tests.support.scripted_provider import Line, answering
from tests.support.streams import ANTHROPIC, CHAT, RESPONSES, STREAM_BODY, chunk


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_passes_unchanged(name: str, stage: Stage, tenant: Tenant) -> None:
    status, fields, body, goes_on = ANSWERS[name]
    start = b"HTTP/1.1 " + status + b"\r\n" + fields
    times = 3 if goes_on else 1
    async with repeated(stage, tenant, saying(start + b"\r\n" + body), taken=times) as lane:
        for _ in range(times):
            await lane.ask()
            head, received = await receive(lane.client, len(body))
            assert received == body
            assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
            own = [line for line in head.splitlines() if line.startswith(b"x-karta-request-id: ")]
            assert sorted(head.splitlines()) == sorted([*start.splitlines(), *own, b""])
        if not goes_on:
            assert await lane.client.read_to_end() == b""
            assert not lane.client.was_reset
        assert len(lane.provider.lines) == 1
        rows = await lane.gateway.settled(1 + times)
    assert {row["outcome"] for row in rows} == {"completed"}
    assert len({row["request_id"] for row in rows}) == 1 + times


async def test_what_goes_up_is_the_same_each_time(stage: Stage, tenant: Tenant) -> None:
    """But for the length of the body, which is each request's own."""
    headers = "x-stainless-lang: python\r\nUser-Agent: Anthropic/Python 1\r\n"
    heads = []

    async def provider(line: Line) -> None:
        while True:
            head, body = await line.read_request()
            if not head:
                return
            heads.append(head.replace(b"content-length: %d\r\n" % len(body), b""))
            assert len(heads[-1]) < len(head)
            await line.answer(ANSWER)

    async with stage(provider) as (gateway, _), gateway.client() as client:
        for size in (0, 1, 10, 1000, 30_000):
            body = b'{"model":"m","x":"%s"}' % (b"y" * size)
            await client.send(post(tenant.token, body, headers=headers))
            assert (await client.read_answer()).body == ANSWER
        assert gateway.worker.lane.requests == 4
        rows = await gateway.settled(5)
    assert len(set(heads)) == 1
    assert len({row["request_bytes"] for row in rows}) == 5


@pytest.mark.parametrize("extra", ["", "content-length: 0\r\n"])
async def test_a_request_without_a_body_too(extra: str, stage: Stage, tenant: Tenant) -> None:
    request = get(tenant.token).replace(b"host: karta\r\n", b"host: karta\r\n" + extra.encode())
    async with repeated(stage, tenant, answering(ANSWER), request) as lane:
        await lane.ask()
        assert (await lane.client.read_answer()).body == ANSWER
        first, second = lane.provider.received.split(b"\r\n\r\n")[:2]
    assert first == second


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_an_answer_without_a_length_ends_with_its_connection(
    version: bytes, stage: Stage, tenant: Tenant
) -> None:
    answer = b"HTTP/%s 200 OK\r\ncontent-type: audio/mpeg\r\n\r\n" % version + bytes(range(256))
    async with repeated(stage, tenant, saying(answer, then_end=True)) as lane:
        await lane.ask()
        head = await lane.client.read_head()
        assert head.headers["connection"] == "close"
        assert await lane.client.read_to_end() == bytes(range(256))
        assert not lane.client.was_reset
        row = await lane.row()
    assert (row["outcome"], row["response_bytes"]) == ("completed", 256)


async def test_interim_answers_are_not_the_answer(stage: Stage, tenant: Tenant) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\n" + JSON + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
    async with repeated(stage, tenant, saying(interim + answer), taken=2) as lane:
        for _ in range(2):
            await lane.ask()
            told = await lane.client.read_answer()
            assert (told.status, told.body) == (200, ANSWER)
            assert "link" not in told.headers


@pytest.mark.parametrize("cut_at", range(1, 155, 11))
async def test_a_head_cut_anywhere_is_put_together(cut_at: int, stage: Stage, tenant: Tenant) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + JSON + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
    go_on = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(answer[:cut_at])
        await go_on.wait()
        await line.send(answer[cut_at:])
        await line.wait_closed()

    async with repeated(stage, tenant, provider) as lane:
        await lane.ask()
        await trio.testing.wait_all_tasks_blocked(0.01)
        go_on.set()
        assert (await lane.client.read_answer()).body == ANSWER


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
    may_go_on, go_on = trio.open_memory_channel[None](0)

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        for event in events:
            await line.send_chunk(event)
            await go_on.receive()
        await line.end_stream()
        await line.wait_closed()

    async with repeated(stage, tenant, provider, ask(tenant.token)) as lane:
        await lane.ask()
        await lane.client.read_head()
        for event in events:
            assert await lane.client.read_exactly(len(chunk(event))) == chunk(event)
            await may_go_on.send(None)
        assert await lane.client.read_exactly(5) == b"0\r\n\r\n"
        row = await lane.row()
    assert (row["input_tokens"], row["output_tokens"], row["usage_complete"]) == (7, 5, True)
    assert (row["streamed"], row["outcome"]) == (True, "completed")


async def test_fields_that_are_not_the_clients_are_dropped(stage: Stage, tenant: Tenant) -> None:
    dropped = "Server: edge\r\nSet-Cookie: a=b\r\nconnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
    account = "anthropic-organization-id: org\r\n"

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(ANSWER, headers=dropped + account + "request-id: req_7\r\n")

    async with repeated(stage, tenant, provider, platform_account_shared=True) as lane:
        await lane.ask()
        answer = await lane.client.read_answer()
        row = await lane.row()
    assert set(answer.headers) == {"content-type", "content-length", "request-id", "x-karta-request-id"}
    assert row["provider_request_id"] == "req_7"
    assert row["request_id"].hex == answer.headers["x-karta-request-id"]


async def test_a_redirect_to_elsewhere_is_refused(stage: Stage, tenant: Tenant) -> None:
    elsewhere = b"HTTP/1.1 302 Found\r\nlocation: https://elsewhere.example/\r\ncontent-length: 0\r\n\r\n"
    async with repeated(stage, tenant, saying(elsewhere), get(tenant.token)) as lane:
        await lane.ask()
        answer = await lane.client.read_answer()
        assert (answer.status, b"elsewhere" in answer.raw) == (502, False)
        row = await lane.row()
        assert (row["outcome"], row["status"]) == ("upstream_failed", 502)
        # The client's connection is as good as ever; the provider's is not used again.
        await lane.ask()
        assert (await lane.client.read_answer()).status == 502
        assert len(lane.provider.lines) == 2


@pytest.mark.parametrize("what", UNUSABLE)
async def test_what_is_no_answer_is_a_502(what: str, stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(UNUSABLE[what])
        await line.wait_closed()

    async with repeated(stage, tenant, provider) as lane:
        await lane.ask()
        assert (await lane.client.read_answer()).status == 502
        assert (await lane.row())["outcome"] == "upstream_failed"
        await lane.ask()
        assert (await lane.client.read_answer()).status == 502
        assert len(lane.provider.lines) == 2


@pytest.mark.parametrize("poison", [POISON, b"poison", b"\r\n"], ids=["answer", "garbage", "line"])
@pytest.mark.parametrize("where", [where for where in SURPLUS if where != "after a head"])
async def test_bytes_after_an_answer_reach_nobody(
    where: str, poison: bytes, stage: Stage, tenant: Tenant
) -> None:
    """And the client is told by a refusal, where nothing of the answer is out: as by the pipeline."""

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(SURPLUS[where] + poison)
        await line.wait_closed()

    async with repeated(stage, tenant, provider) as lane:
        await lane.ask()
        by_lane = await lane.client.read_answer()
        assert lane.taken == 1
        # The same from the pipeline, on a connection that is new to everybody.
        by_pipeline = await lane.gateway.ask(post(tenant.token, headers="x-another: 1\r\n"))
        rows = await lane.gateway.settled(3)
    # A stray line end is no message: the answer before it is as good as any, its connection is not.
    status, end = (
        (200, "completed") if where == "after chunks" and poison == b"\r\n" else (502, "upstream_failed")
    )
    assert by_lane.status == by_pipeline.status == status
    assert b"poison" not in by_lane.raw + by_pipeline.raw
    assert [row["outcome"] for row in rows[1:]] == [end] * 2


async def test_bytes_that_come_after_an_answer_is_out_reach_nobody(stage: Stage, tenant: Tenant) -> None:
    """The provider's connection lies idle when they come, and is not used again."""
    spoke = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.answer(ANSWER)
        if len(provider_.lines) == 1:
            await go_on.wait()
            await line.send(POISON)
            spoke.set()
        await line.wait_closed()

    go_on = trio.Event()
    async with repeated(stage, tenant, provider) as lane:
        provider_ = lane.provider
        await lane.ask()
        assert (await lane.client.read_answer()).body == ANSWER
        go_on.set()
        await spoke.wait()
        await lane.ask()
        assert (await lane.client.read_answer()).body == ANSWER
        assert len(provider_.lines) == 2


async def test_pipelined_requests_are_answered_in_order(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(b"%d" % line.received.count(b"HTTP/1.1"))

    train = post(tenant.token)
    async with stage(provider) as (gateway, provider_), gateway.client() as client:
        number = 0
        for sent in ([train], [train] * 3, [train * 3], [train[:50], train[50:] + train, train]):
            for piece in sent:
                await client.send(piece)
            for _ in range(b"".join(sent).count(b"POST")):
                number += 1
                assert (await client.read_answer()).body == b"%d" % number
        assert len(provider_.lines) == 1
        assert gateway.worker.lane.requests > 0
        assert gateway.worker.lane.requests + gateway.worker.pipeline.requests == number
        await gateway.settled(number)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 20_000_000])
async def test_a_huge_answer_arrives_whole(size: int, stage: Stage, tenant: Tenant) -> None:
    body = random.Random(size).randbytes(size)
    async with repeated(stage, tenant, answering(body)) as lane:
        await lane.ask()
        answer = await lane.client.read_answer()
        assert answer.body == body
        row = await lane.row()
    assert (row["outcome"], row["response_bytes"]) == ("completed", size)


async def test_a_body_beyond_the_limit_is_refused_although_its_head_is_known(
    stage: Stage, tenant: Tenant
) -> None:
    async with stage(answering(ANSWER), limits={"body_bytes_max": 100}) as (gateway, _):
        async with gateway.client() as client:
            await client.send(post(tenant.token))
            assert (await client.read_answer()).body == ANSWER
            await client.send(post(tenant.token, b"{" + b" " * 1000 + b"}"))
            assert (await client.read_answer()).status == 413
        assert gateway.worker.lane.requests == 0
        assert len(await gateway.settled(1)) == 1
