"""Answers of the lane whose rest does not come: never what looks like an end, and one record each."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from gateway.wait import Waiting
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.repeated import Repeated, repeated
from tests.gateway.test_accept_limits import flood
from tests.gateway.test_forward_cut import APIS, CHUNKED, HALF_SAID, HEAD, anthropic_error, dying
from tests.support.gateway import poll
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import Line, silent
from tests.support.streams import ANTHROPIC, STREAM_BODY, chunk, dechunk

RESETS = pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])


@RESETS
@pytest.mark.parametrize("name", APIS)
async def test_a_stream_that_breaks_between_events_says_so_in_its_dialect(
    name: str, reset: bool, stage: Stage, tenant: Tenant
) -> None:
    api = APIS[name]
    said = b"".join(chunk(event) for event in api.events[:-1])
    handler = dying(CHUNKED + said, reset=reset)
    async with repeated(stage, tenant, handler, api.ask(tenant.token)) as lane:
        await lane.ask()
        await lane.client.read_head()
        body, ended_well = dechunk(await lane.client.read_to_end())
        assert not ended_well
        assert body.startswith(b"".join(api.events[:-1]))
        error = api.error(body.removeprefix(b"".join(api.events[:-1])))
        assert "not complete" in str(error["message"])
        row = await lane.row()
    assert (row["outcome"], row["status"]) == ("upstream_failed", 200)
    assert row["input_tokens"] + row["output_tokens"] > 0


@pytest.mark.parametrize("where", HALF_SAID)
async def test_a_stream_that_breaks_elsewhere_just_breaks(where: str, stage: Stage, tenant: Tenant) -> None:
    said = HALF_SAID[where]
    async with repeated(stage, tenant, dying(CHUNKED + said), post(tenant.token, STREAM_BODY)) as lane:
        await lane.ask()
        await lane.client.read_head()
        received = await lane.client.read_to_end()
        assert not dechunk(received)[1]
        assert received == said
        assert (await lane.row())["outcome"] == "upstream_failed"


async def test_a_stream_until_the_end_that_is_reset_has_no_end(stage: Stage, tenant: Tenant) -> None:
    handler = dying(HEAD + b"\r\n" + ANTHROPIC[0], reset=True)
    async with repeated(stage, tenant, handler, post(tenant.token, STREAM_BODY)) as lane:
        await lane.ask()
        await lane.client.read_head()
        received = await lane.client.read_to_end()
        assert received.startswith(ANTHROPIC[0])
        assert anthropic_error(received.removeprefix(ANTHROPIC[0]))["type"] == "api_error"
        assert lane.client.was_reset


@RESETS
async def test_an_answer_short_of_its_length_is_cut(reset: bool, stage: Stage, tenant: Tenant) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    async with repeated(stage, tenant, dying(head + b'{"usage"', reset=reset)) as lane:
        await lane.ask()
        assert (await lane.client.read_head()).headers["content-length"] == "100"
        assert await lane.client.read_to_end() == b'{"usage"'
        assert (await lane.row())["outcome"] == "upstream_failed"


@RESETS
@pytest.mark.parametrize(
    "said",
    [b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 103 Early Hints\r\n\r\n"],
    ids=["half a head", "interim"],
)
async def test_an_answer_that_broke_off_in_its_head_is_a_502(
    said: bytes, reset: bool, stage: Stage, tenant: Tenant
) -> None:
    """It began, so it is not asked for again; and the client's connection goes on."""
    async with repeated(stage, tenant, dying(said, reset=reset)) as lane:
        await lane.ask()
        answer = await lane.client.read_answer()
        assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
        row = await lane.row()
        assert (row["outcome"], row["status"]) == ("upstream_failed", 502)
        assert len(lane.provider.lines) == 1
        await lane.ask()
        assert (await lane.client.read_answer()).status == 502


# A connection that lay idle and turns out dead.


@RESETS
async def test_a_dead_idle_connection_is_replaced_and_counted_once(
    reset: bool, stage: Stage, tenant: Tenant
) -> None:
    """The provider closes as the request arrives, before a byte of an answer."""

    async def provider(line: Line) -> None:
        head, body = await line.read_request()
        asked.append((head, body))
        if len(provider_.lines) == 1:
            if reset:
                await line.reset()
        else:
            await line.answer(ANSWER)
            await line.wait_closed()

    asked: list[tuple[bytes, bytes]] = []
    async with repeated(stage, tenant, provider) as lane:
        provider_ = lane.provider
        await lane.ask()
        assert (await lane.client.read_answer()).body == ANSWER
        assert len(asked) == 2
        assert asked[0] == asked[1]
        row = await lane.row()
        assert (row["outcome"], row["status"]) == ("completed", 200)
        assert lane.gateway.worker.meter.settled == 2


async def test_what_was_tried_on_a_dead_connection_is_tried_once_more_and_no_oftener(
    stage: Stage, tenant: Tenant
) -> None:
    """However many connections lie idle: the second try is made on a new one."""
    both = trio.Event()

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            asked.append(line)
            if len(asked) > 2:
                # By now all of them die when they are asked.
                return
            if len(asked) == 2:
                both.set()
            await both.wait()
            await line.answer(ANSWER)

    asked: list[Line] = []
    async with repeated(stage, tenant, provider) as lane:
        async with lane.gateway.client() as another:
            await another.send(lane.request.replace(b"host: karta", b"host: other"))
            await poll(lambda: asked)
            await lane.client.send(lane.request.replace(b"host: karta", b"host: third"))
            assert (await another.read_answer()).body == (await lane.client.read_answer()).body == ANSWER
        assert len(lane.provider.lines) == 2
        await lane.ask()
        assert (await lane.client.read_answer()).status == 502
        assert len(asked) == 4
        assert len(lane.provider.lines) == 3
        rows = await lane.gateway.settled(4)
    assert [row["outcome"] for row in rows] == [*["completed"] * 3, "upstream_failed"]


# Limits in time.


async def test_the_first_byte_has_a_limit(stage: Stage, tenant: Tenant) -> None:
    async with repeated(stage, tenant, silent, first_byte_seconds=0.05) as lane:
        await lane.ask()
        answer = await lane.client.read_answer()
        assert answer.status == 504
        assert json.loads(answer.body)["error"]["type"] == "timeout_error"
        row = await lane.row()
        assert (row["outcome"], row["status"], row["usage_complete"]) == ("timed_out", 504, False)
        await lane.provider.lines[0].closed.wait()
        await lane.ask()
        assert (await lane.client.read_answer()).status == 504


@pytest.mark.parametrize("name", APIS)
async def test_silence_in_a_stream_has_a_limit(name: str, stage: Stage, tenant: Tenant) -> None:
    api = APIS[name]

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(CHUNKED + chunk(api.events[0]))
        await line.wait_closed()

    request = api.ask(tenant.token)
    async with repeated(stage, tenant, provider, request, between_bytes_seconds=0.05) as lane:
        await lane.ask()
        await lane.client.read_head()
        body, ended_well = dechunk(await lane.client.read_to_end())
        assert not ended_well
        api.error(body.removeprefix(api.events[0]))
        assert (await lane.row())["outcome"] == "timed_out"


async def test_silence_in_an_answer_has_a_limit(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await line.wait_closed()

    async with repeated(stage, tenant, provider, between_bytes_seconds=0.05) as lane:
        await lane.ask()
        await lane.client.read_head()
        assert await lane.client.read_to_end() == b"{"
        assert (await lane.row())["outcome"] == "timed_out"


@pytest.mark.parametrize("round_", range(8))
async def test_a_client_that_takes_nothing_is_cut(round_: int, stage: Stage, tenant: Tenant) -> None:
    """Whichever of those who wait for this connection hears of it first, it is the same end."""
    del round_
    request = post(tenant.token, STREAM_BODY)
    async with repeated(stage, tenant, flood, request, receive_buffer=4096, write_stall_seconds=0.05) as lane:
        await lane.ask()
        await lane.provider.lines[0].closed.wait()
        row = await lane.row()
        assert (row["outcome"], row["status"], row["usage_complete"]) == ("timed_out", 200, False)
        await lane.client.read_to_end()
        assert lane.client.was_reset


async def test_a_client_that_takes_little_is_not_cut(stage: Stage, tenant: Tenant) -> None:
    request = post(tenant.token, STREAM_BODY)
    async with repeated(stage, tenant, flood, request, receive_buffer=4096) as lane:
        await lane.ask()
        await lane.client.read_head()
        connection = await lane.gateway.only_connection()
        await poll(lambda: connection._waiting is Waiting.WRITE)
        await trio.testing.wait_all_tasks_blocked(0.02)
        before = connection._taken_bytes
        await lane.client.read_exactly(50_000)
        await trio.testing.wait_all_tasks_blocked(0.02)
        connection.expire()
        assert connection._taken_bytes > before
        assert not lane.provider.lines[0].closed.is_set()

        def cut() -> bool:
            # Not at the first look for certain: its kernel may take some more by itself.
            connection.expire()
            return lane.provider.lines[0].closed.is_set()

        await poll(cut)


# Requests that do not fit into the provider's buffers at once.

LARGE = post("%TOKEN%", b'{"model":"claude-test","x":"' + b"y" * 60_000 + b'"}')


def large(tenant: Tenant) -> bytes:
    return LARGE.replace(b"%TOKEN%", tenant.token.encode())


def take_little_at_once(lane: Repeated) -> None:
    """The provider's kernel seems to take a hundred bytes of what is sent at first."""
    (pool,) = lane.gateway.worker.pools.all()
    (upstream,) = pool._idle
    transport = upstream.transport

    class Narrow:
        def __getattr__(self, name: str) -> object:
            return getattr(transport, name)

        def __setattr__(self, name: str, value: object) -> None:
            setattr(transport, name, value)

        def send_now(self, data: bytearray) -> int:
            return transport.send_now(data[:100])

    upstream.transport = Narrow()  # type: ignore[assignment]


async def test_a_request_that_does_not_fit_is_sent_to_its_end(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        bodies.append((await line.read_request())[1])
        await line.answer(ANSWER)
        await line.wait_closed()

    bodies: list[bytes] = []
    async with repeated(stage, tenant, provider, large(tenant)) as lane:
        take_little_at_once(lane)
        await lane.ask()
        assert (await lane.client.read_answer()).body == ANSWER
        assert [len(body) for body in bodies] == [60_030]


async def test_after_a_request_that_did_not_fit_the_first_byte_has_its_limit(
    stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        read.set()
        await line.wait_closed()

    read = trio.Event()
    async with repeated(stage, tenant, provider, large(tenant), first_byte_seconds=0.5) as lane:
        take_little_at_once(lane)
        await lane.ask()
        await read.wait()
        assert (await lane.client.read_answer()).status == 504
        assert (await lane.row())["outcome"] == "timed_out"


async def test_a_provider_that_answers_before_it_has_read_all_is_not_asked_again(
    stage: Stage, tenant: Tenant
) -> None:
    """The rest of one client's request must not come out of the middle of another's."""

    async def provider(line: Line) -> None:
        head = await line.read_head()
        if not head:
            return
        await line.answer(b"early", status="429 Too Many Requests")
        await line.wait_closed()

    async with repeated(stage, tenant, provider, large(tenant)) as lane:
        hold = hold_writes(lane)
        await lane.ask()
        await hold.entered.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        (pool,) = lane.gateway.worker.pools.all()
        assert pool.idle == 0
        hold.released.set()
        assert (await lane.client.read_answer()).body == b"early"


class Hold:
    def __init__(self) -> None:
        self.entered = trio.Event()
        self.released = trio.Event()


def hold_writes(lane: Repeated) -> Hold:
    """The head of the request goes out, and the rest of it only when the test says so."""
    (pool,) = lane.gateway.worker.pools.all()
    (upstream,) = pool._idle
    transport = upstream.transport
    hold = Hold()

    class Held:
        def __getattr__(self, name: str) -> object:
            return getattr(transport, name)

        def __setattr__(self, name: str, value: object) -> None:
            setattr(transport, name, value)

        def send_now(self, data: bytearray) -> int:
            return transport.send_now(data[:1000])

        async def send_rest(self, data: bytearray, sent: int) -> None:
            hold.entered.set()
            await hold.released.wait()
            await transport.send_rest(data, sent)

    upstream.transport = Held()  # type: ignore[assignment]
    return hold


async def test_a_client_that_leaves_while_its_request_is_sent_ends_it(stage: Stage, tenant: Tenant) -> None:
    async with repeated(stage, tenant, silent, large(tenant)) as lane:
        hold = hold_writes(lane)
        await lane.ask()
        await hold.entered.wait()
        lane.client.half_close()
        await poll(lambda: not lane.gateway.worker.watchdog.watched)
        hold.released.set()
        row = await lane.row()
        assert row["outcome"] == "client_gone"
        (pool,) = lane.gateway.worker.pools.all()
        assert (pool.open, pool.idle) == (0, 0)
