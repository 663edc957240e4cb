"""Request bodies of a worker together have a bound, and honest requests do not meet it."""

from __future__ import annotations

import pytest
import trio

from gateway.bodies import SMALL_BYTES, Bodies
from gateway.refusal import Kind, Refusal
from gateway.request_reader import Inbound
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import RunningGateway, poll
from tests.support.requests import ANSWER
from tests.support.scripted_provider import Line

MIB = 1024 * 1024


def coming(size: int) -> Inbound:
    inbound = Inbound()
    inbound.body_bytes = size
    return inbound


def test_what_is_held_is_counted_once_and_let_go() -> None:
    bodies = Bodies(10 * MIB)
    one, other = coming(MIB), coming(3 * MIB)
    for _ in range(2):
        bodies.hold(one, verified=True)
        bodies.hold(other, verified=True)
        assert bodies.bytes == 4 * MIB
    one.body_bytes = 2 * MIB
    bodies.hold(one, verified=True)
    assert bodies.bytes == 5 * MIB
    for _ in range(2):
        bodies.let_go(one)
        assert bodies.bytes == 3 * MIB
    bodies.let_go(other)
    assert (bodies.bytes, bodies.refused) == (0, 0)


def test_beyond_the_bound_the_large_ones_are_refused() -> None:
    bodies = Bodies(10 * MIB)
    bodies.hold(coming(10 * MIB), verified=True)
    bodies.hold(coming(SMALL_BYTES), verified=True)
    late = coming(SMALL_BYTES + 1)
    with pytest.raises(Refusal) as found:
        bodies.hold(late, verified=True)
    assert (found.value.kind, found.value.retry_after) == (Kind.UNAVAILABLE, 1)
    assert bodies.refused == 1
    assert bodies.bytes == 10 * MIB + SMALL_BYTES


def test_strangers_leave_room() -> None:
    bodies = Bodies(10 * MIB)
    with pytest.raises(Refusal):
        bodies.hold(coming(6 * MIB), verified=False)
    bodies.hold(coming(3 * MIB), verified=True)


def head(tenant: Tenant, size: int) -> bytes:
    return (
        f"POST /v1/messages HTTP/1.1\r\nhost: karta\r\nx-api-key: {tenant.token}\r\n"
        f"anthropic-version: 2023-06-01\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n"
    ).encode()


def body(size: int) -> bytes:
    begin, end = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"', b'"}]}'
    return begin + b"x" * (size - len(begin) - len(end)) + end


def held(gateway: RunningGateway) -> int:
    return gateway.worker.pipeline.bodies.bytes


async def test_who_comes_too_late_is_told_and_room_comes_back(stage: Stage, tenant: Tenant) -> None:
    async def answering(line: Line) -> None:
        await line.read_request()
        await asked.wait()
        await line.answer(ANSWER)

    asked = trio.Event()
    stand = stage(answering, limits={"bodies_bytes_max": 2 * MIB})
    async with stand as (gateway, _), gateway.client() as first, gateway.client() as second:
        await first.send(head(tenant, 2 * MIB) + body(2 * MIB))
        await poll(lambda: held(gateway) == 2 * MIB)
        await second.send(head(tenant, MIB) + body(MIB)[: SMALL_BYTES * 3])
        refused = await second.read_answer()
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert held(gateway) == 2 * MIB
        # Small ones go on.
        async with gateway.client() as third:
            await third.send(head(tenant, 1000) + body(1000))
            asked.set()
            assert (await third.read_answer()).status == 200
        assert (await first.read_answer()).status == 200
        assert held(gateway) == 0
        assert gateway.worker.pipeline.bodies.refused == 1
        await gateway.settled(2)


async def test_a_body_is_held_no_longer_than_until_its_answer_begins(stage: Stage, tenant: Tenant) -> None:
    async def answering(line: Line) -> None:
        await line.read_request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{")
        await ended.wait()
        await line.send(b"}")

    ended = trio.Event()
    async with stage(answering) as (gateway, _), gateway.client() as client:
        await client.send(head(tenant, MIB) + body(MIB))
        await client.read_head()
        assert held(gateway) == 0
        ended.set()


async def test_a_client_that_leaves_before_the_first_byte_leaves_nothing(
    stage: Stage, tenant: Tenant
) -> None:
    async with stage(Line.wait_closed) as (gateway, _):
        bodies = gateway.worker.pipeline.bodies
        async with gateway.client() as client:
            chunked = b"transfer-encoding: chunked\r\nexpect: 100-continue"
            await client.send(head(tenant, 0).replace(b"content-length: 0", chunked))
            await client.read_head()
            await client.send(b"1")
            await poll(lambda: bodies.holding)
            assert bodies.bytes == 0
        await poll(lambda: not bodies.holding)


async def test_a_client_that_leaves_lets_go_of_its_body(stage: Stage, tenant: Tenant) -> None:
    async def silent(line: Line) -> None:
        await line.wait_closed()

    async with stage(silent) as (gateway, _):
        async with gateway.client() as client:
            await client.send(head(tenant, MIB) + body(MIB)[: MIB // 2])
            await poll(lambda: held(gateway) == MIB // 2)
        await poll(lambda: held(gateway) == 0)
