"""Bodies that stream through: piece by piece, in bounded memory, with an ear for an early answer."""

from __future__ import annotations

import contextlib
import hashlib
import json

import pytest
import trio
import trio.testing

from gateway.dial import Upstream
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import RunningGateway, poll
from tests.support.gateway_process import gateway_process
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, BODY, get, post
from tests.support.scripted_provider import Line, ScriptedProvider, answering, scripted_provider, silent
from tests.support.streams import chunk

PATH = "/v1/files"
MULTIPART = "multipart/form-data; boundary=b"
MIB = 1024 * 1024


def upload_head(token: str, length: int | None, *, headers: str = "", path: str = PATH) -> bytes:
    """The head of a POST whose body follows: of a length, or in chunks."""
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    head = (
        f"POST {path} HTTP/1.1\r\nhost: karta\r\nx-api-key: {token}\r\nanthropic-version: 2023-06-01\r\n"
        f"content-type: {MULTIPART}\r\n{framing}\r\n{headers}\r\n"
    )
    return head.encode()


async def test_pieces_go_up_as_they_come(stage: Stage, tenant: Tenant) -> None:
    arrived, pieces = trio.open_memory_channel[bytes](0)

    async def provider(line: Line) -> None:
        await line.read_head()
        for _ in range(4):
            await arrived.send(line.take_unread() or await line.receive())
        await line.answer(ANSWER)
        await line.wait_closed()

    async with stage(provider) as (gateway, _), gateway.client() as client:
        await client.send(upload_head(tenant.token, 12) + b"not")
        assert await pieces.receive() == b"not"
        for piece in (b"one", b"two", b"end"):
            await client.send(piece)
            # The next is not sent before this one has arrived.
            assert await pieces.receive() == piece
        assert (await client.read_answer()).body == ANSWER
        row = await gateway.only_row()
    assert (row["outcome"], row["request_bytes"], row["endpoint"]) == ("completed", 12, PATH)


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_chunks_go_up_as_chunks(cold: bool, stage: Stage, tenant: Tenant) -> None:
    bodies: list[bytes] = []

    async def provider(line: Line) -> None:
        while head := await line.read_head():
            assert b"\r\ntransfer-encoding: chunked\r\n" in head
            assert b"content-length" not in head.lower()
            bodies.append(await line.read_chunks())
            await line.answer(ANSWER)

    async with stage(provider, cold=cold) as (gateway, provider_), gateway.client() as client:
        for number, size in enumerate((0, 1, 100_000)):
            body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            framed = b"".join(chunk(body[at : at + 999]) for at in range(0, size, 999))
            await client.send(upload_head(tenant.token, None))
            # A body that is here with its head goes up with a length.
            await until_asked(provider_, number + 1)
            await client.send(framed + b"0\r\nx-trailer: dropped\r\n\r\n")
            assert (await client.read_answer()).body == ANSWER
            assert bodies[-1] == body
        assert b"dropped" not in provider_.received


async def until_asked(provider: ScriptedProvider, times: int) -> None:
    await poll(lambda: provider.received.count(b"POST") == times)


async def test_a_whole_body_in_chunks_goes_up_with_its_length(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, provider), gateway.client() as client:
        await client.send(upload_head(tenant.token, None) + chunk(b"who") + chunk(b"le") + b"0\r\n\r\n")
        assert (await client.read_answer()).body == ANSWER
        assert b"\r\ncontent-length: 5\r\n" in provider.received
        assert provider.received.endswith(b"\r\n\r\nwhole")


async def test_a_length_goes_up_as_a_length(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, provider), gateway.client() as client:
        for size in (0, 1, 100_000, 1):
            await client.send(upload_head(tenant.token, size))
            await client.send(b"x" * size)
            assert (await client.read_answer()).body == ANSWER
        assert provider.received.count(b"x" * 100_000) == 1


async def test_much_passes_through_little_memory(tenant: Tenant) -> None:
    """64 MB up by length, up in chunks, and down, through a process that grows by less than 8."""
    piece, pieces = bytes(MIB), 64
    digest = hashlib.sha256(piece * pieces).digest()

    async def provider(line: Line) -> None:
        while head := await line.read_head():
            if head.startswith(b"GET"):
                fields = b"content-type: application/octet-stream\r\ncontent-length: %d\r\n" % (pieces * MIB)
                await line.send(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
                for _ in range(pieces):
                    await line.send(piece)
                continue
            seen = hashlib.sha256()
            left = pieces * MIB
            chunked = b"transfer-encoding: chunked" in head
            while left:
                data = line.take_unread() or bytes(await line.stream.receive_some(MIB))
                if chunked:
                    # Lengths are enough here: what the framing looks like is another test's business.
                    left -= data.count(0)
                else:
                    seen.update(data)
                    left -= len(data)
            if chunked:
                while not data.endswith(b"0\r\n\r\n"):
                    data = data[-5:] + bytes(await line.stream.receive_some(MIB))
            assert chunked or seen.digest() == digest
            await line.answer(ANSWER)

    async with (
        scripted_provider(provider) as upstream,
        gateway_process(tenant.database_url, tenant.spool_dir, provider_url=upstream.base_url) as gateway,
        await gateway.connect() as stream,
    ):
        client = RawClient(stream)
        await client.send(get(tenant.token))
        await read_body(client, pieces * MIB)
        before = gateway.resident_bytes()
        await client.send(upload_head(tenant.token, pieces * MIB))
        for _ in range(pieces):
            await client.send(piece)
        assert (await client.read_answer()).body == ANSWER
        await client.send(upload_head(tenant.token, None))
        for _ in range(pieces):
            await client.send(chunk(piece))
        await client.send(b"0\r\n\r\n")
        assert (await client.read_answer()).body == ANSWER
        await client.send(get(tenant.token))
        await read_body(client, pieces * MIB)
        assert gateway.resident_bytes() - before < 8 * MIB


async def read_body(client: RawClient, size: int) -> None:
    await client.read_head()
    while size:
        size -= len(await client.receive())


@pytest.mark.parametrize("length", [None, 50 * MIB], ids=["chunks", "length"])
async def test_an_early_answer_ends_the_upload(length: int | None, stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_head()
        await line.answer(b'{"early":true}', status="413 Payload Too Large")
        await line.wait_closed()

    async with stage(provider) as (gateway, provider_), gateway.client() as client:
        await client.send(upload_head(tenant.token, length) + chunk(b"beginning"))
        answer = await client.read_answer()
        assert (answer.status, answer.body) == (413, b'{"early":true}')
        assert await client.read_to_end() == b""
        await provider_.lines[0].closed.wait()
        row = await gateway.only_row()
    assert (row["status"], row["outcome"]) == (413, "completed")


async def test_an_early_answer_leaves_no_half_request_for_the_next(stage: Stage, tenant: Tenant) -> None:
    """The client has sent all and the provider has not taken it: the rest must not meet the next request."""
    may_answer = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_head()
        if len(provider_.lines) == 1:
            await may_answer.wait()
            await line.answer(b"{}", status="413 Payload Too Large")
            await line.wait_closed()
        else:
            await line.answer(ANSWER)
            await line.wait_closed()

    async with stage(provider) as (gateway, provider_), gateway.client() as client:
        await narrow(gateway)
        provider_.narrow()
        await client.send(upload_head(tenant.token, 50_000))
        await until_asked(provider_, 1)
        connection = await gateway.only_connection()
        await client.send(b"x" * 50_000)
        await poll(lambda: connection.inbound and connection.inbound.complete)
        await trio.testing.wait_all_tasks_blocked(0.02)
        may_answer.set()
        assert (await client.read_answer()).status == 413
        # The client's connection is as good as ever, the provider's is not.
        await client.send(get(tenant.token))
        assert (await client.read_answer()).body == ANSWER
        assert len(provider_.lines) == 2
        await provider_.lines[0].closed.wait()
        assert provider_.lines[0].received.count(b"HTTP/1.1") == 1


async def narrow(gateway: RunningGateway) -> None:
    """Let the kernel take little of what goes to the provider from now on."""
    pool = gateway.worker.pools.of(gateway.worker.settings.providers()["anthropic"].origin)
    dial = pool.dial

    async def dial_narrowly() -> Upstream:
        upstream = await dial()
        upstream.transport.sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 2048)
        return upstream

    pool.dial = dial_narrowly  # type: ignore[method-assign]


async def test_a_provider_that_takes_nothing_is_not_waited_for(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_head()
        await trio.sleep_forever()

    async with stage(provider, between_bytes_seconds=0.05) as (gateway, _), gateway.client() as client:
        await narrow(gateway)
        with contextlib.suppress(trio.BrokenResourceError):
            await client.send(upload_head(tenant.token, 50 * MIB) + bytes(MIB))
        assert (await client.read_answer()).status == 504
        assert (await gateway.only_row())["outcome"] == "timed_out"
        # And the worker lives.
        assert (await gateway.ask(get("kt_live_no"))).status == 401


async def test_a_provider_that_dies_within_an_upload_is_not_asked_twice(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_head()
        assert line.take_unread() or await line.receive() == b"x"

    async with stage(provider) as (gateway, provider_), gateway.client() as client:
        await client.send(upload_head(tenant.token, MIB) + b"x")
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (502, "close")
        assert len(provider_.lines) == 1
        assert (await gateway.only_row())["outcome"] == "upstream_failed"


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_body_that_streams_goes_on_a_connection_that_cannot_be_stale(
    cold: bool, stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        if len(provider_.lines) == 1:
            await line.read_request()
            await line.answer(ANSWER)
            await line.stream.send_eof()
            await line.wait_closed()
        else:
            _, body = await line.read_request()
            assert body == b"x" * 10
            await line.answer(ANSWER)
            await line.wait_closed()

    async with stage(provider) as (gateway, provider_), gateway.client() as client:
        assert (await gateway.ask(get(tenant.token))).body == ANSWER
        if cold:
            gateway.authenticator._verified.clear()
        # The provider has ended the idle connection.
        await client.send(upload_head(tenant.token, 10))
        await client.send(b"x" * 10)
        assert (await client.read_answer()).body == ANSWER
        assert len(provider_.lines) == 2


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("kind", ["message", "upload"])
async def test_a_client_that_asks_first_is_told_to_go_on(
    kind: str, cold: bool, stage: Stage, tenant: Tenant
) -> None:
    async with stage(answering(ANSWER), cold=cold) as (gateway, provider), gateway.client() as client:
        expect = "expect: 100-continue\r\n"
        if kind == "upload":
            await client.send(upload_head(tenant.token, len(BODY), headers=expect))
        else:
            await client.send(post(tenant.token, headers=expect).removesuffix(BODY))
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(BODY)
        assert (await client.read_answer()).body == ANSWER
        assert b"expect" not in provider.received
        assert provider.received.endswith(BODY)


async def test_a_client_that_asks_first_is_refused_before_its_body(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent) as (gateway, provider):
        for status, request in (
            (413, upload_head(tenant.token, 10**12, headers="expect: 100-continue\r\n")),
            (401, upload_head("kt_live_no", 10, headers="expect: 100-continue\r\n")),
            (404, upload_head(tenant.token, 10, headers="expect: 100-continue\r\n", path="/v1/unknown")),
            (417, upload_head(tenant.token, 10, headers="expect: a miracle\r\n")),
        ):
            async with gateway.client() as client:
                await client.send(request)
                answer = await client.read_answer()
                assert (answer.status, answer.headers["connection"]) == (status, "close")
                assert await client.read_to_end() == b""
        assert provider.lines == []


LIMITS = {"upload_bytes_max": 5000, "body_bytes_max": 4000}


async def test_a_length_beyond_the_limit_is_refused_unread(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent, limits=LIMITS) as (gateway, provider):
        for request in (
            upload_head(tenant.token, 5001),
            post(tenant.token, b"x" * 4001).removesuffix(b"x" * 4001),
        ):
            async with gateway.client() as client:
                await client.send(request)
                answer = await client.read_answer()
                assert (answer.status, answer.headers["connection"]) == (413, "close")
                assert json.loads(answer.body)["error"]["type"] == "request_too_large"
                # What the client still sends does not take the answer away.
                await client.send(b"x" * 5000)
                assert await client.read_to_end() == b""
                assert not client.was_reset
        assert provider.lines == []
        assert await gateway.settled(0) == []


async def test_chunks_beyond_the_limit_are_cut(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_head()
        await line.wait_closed()

    async with stage(provider, limits=LIMITS) as (gateway, provider_), gateway.client() as client:
        await client.send(upload_head(tenant.token, None) + chunk(b"x" * 4000))
        await poll(lambda: b"x" * 4000 in provider_.received)
        await client.send(chunk(b"x" * 1001))
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        await provider_.lines[0].closed.wait()
        assert not provider_.received.endswith(b"0\r\n\r\n")
        row = await gateway.only_row()
    assert (row["outcome"], row["status"], row["request_bytes"]) == ("refused", 413, 5001)


async def test_a_whole_body_beyond_the_limit_in_chunks_goes_nowhere(stage: Stage, tenant: Tenant) -> None:
    head = post(tenant.token).removesuffix(BODY).replace(b"content-length: 53", b"transfer-encoding: chunked")
    async with stage(silent, limits=LIMITS) as (gateway, provider), gateway.client() as client:
        await client.send(head + chunk(b"x" * 4000))
        await client.send(chunk(b"x" * 1001))
        assert (await client.read_answer()).status == 413
        assert provider.lines == []


async def test_a_body_that_does_not_parse_is_refused(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent) as (gateway, provider), gateway.client() as client:
        await client.send(upload_head(tenant.token, None) + chunk(b"good"))
        await poll(lambda: b"good" in provider.received)
        await client.send(b"not a size\r\n")
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        await provider.lines[0].closed.wait()
        assert not provider.received.endswith(b"0\r\n\r\n")
        assert (await gateway.only_row())["outcome"] == "refused"


async def test_an_upload_that_stalls_is_cut(stage: Stage, tenant: Tenant) -> None:
    async with (
        stage(silent, limits={"body_stall_seconds": 0.05}) as (gateway, provider),
        gateway.client() as client,
    ):
        await client.send(upload_head(tenant.token, 10) + b"x")
        assert (await client.read_answer()).status == 408
        await provider.lines[0].closed.wait()
        assert (await gateway.only_row())["outcome"] == "timed_out"


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
async def test_a_client_that_leaves_within_an_upload_ends_it(
    reset: bool, stage: Stage, tenant: Tenant
) -> None:
    async with stage(silent) as (gateway, provider):
        async with gateway.client() as client:
            await client.send(upload_head(tenant.token, MIB) + b"xyz")
            await poll(lambda: provider.received.endswith(b"xyz"))
            await (client.reset() if reset else client.close())
            await provider.lines[0].closed.wait()
        row = await gateway.only_row()
    assert (row["outcome"], row["request_bytes"], row["status"]) == ("client_gone", 3, 0)


async def test_a_cold_upload_waits_for_its_verdict(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent, cold=True) as (gateway, provider), gateway.client() as client:
        async with gateway.authenticator._threads:
            dialled = gateway.step("dialled")
            await client.send(upload_head(tenant.token, 10) + b"x" * 10)
            await dialled.wait()
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert provider.received == b""
        await poll(lambda: provider.received.endswith(b"x" * 10))
