"""The steady state: what the lane takes and what it leaves, and that nothing is lost or kept on the way.

What its answers look like is driven in `test_lane_answers`, `test_lane_cuts`, `test_lane_clients` and
`test_lane_changes`.
"""

from __future__ import annotations

import gc

import pytest
import trio
import trio.testing

from tests.gateway.conftest import Stage, Tenant
from tests.gateway.repeated import repeated
from tests.support.gateway import PLATFORM_KEY, RunningGateway, poll
from tests.support.requests import ANSWER, chat, get, post
from tests.support.scripted_provider import Line, answering, silent
from tests.support.streams import STREAM_BODY


async def test_the_second_of_two_equal_requests_is_taken(stage: Stage, tenant: Tenant) -> None:
    async with repeated(stage, tenant, answering(ANSWER), taken=3) as lane:
        for _ in range(3):
            await lane.ask()
            assert (await lane.client.read_answer()).body == ANSWER
        assert lane.gateway.worker.pipeline.requests == 1
        assert len(await lane.gateway.settled(4)) == 4


async def test_what_one_connection_taught_another_may_use(stage: Stage, tenant: Tenant) -> None:
    async with repeated(stage, tenant, answering(ANSWER)) as lane:
        assert (await lane.gateway.ask(lane.request)).body == ANSWER


async def test_no_task_is_started_for_it(stage: Stage, tenant: Tenant) -> None:
    asked = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_request()
        asked.set()
        await line.answer(ANSWER)
        await line.wait_closed()

    async with repeated(stage, tenant, provider) as lane:
        connection = await lane.gateway.only_connection()
        before = set(connection.nursery.child_tasks)
        await lane.ask()
        await asked.wait()
        assert connection.exchange is not None or lane.taken
        assert set(connection.nursery.child_tasks) == before
        assert (await lane.client.read_answer()).body == ANSWER


LEFT = {
    "another body of the same head": (lambda token: post(token, b"{}"), True),
    "another path": (lambda token: post(token, path="/v1/messages/count_tokens"), False),
    "another API": (chat, False),
    "no body": (get, False),
    "the last of its connection": (lambda token: post(token, close=True), False),
    "a wrong key": (lambda _token: post("kt_live_wrong"), False),
    "too long for one read": (lambda token: post(token, b'{"x":"' + b"y" * 70_000 + b'"}'), False),
}


@pytest.mark.parametrize("what", LEFT)
async def test_what_is_taken_and_what_is_left(what: str, stage: Stage, tenant: Tenant) -> None:
    make, taken = LEFT[what]
    async with repeated(stage, tenant, answering(ANSWER), taken=int(taken)) as lane:
        await lane.client.send(make(tenant.token))
        assert (await lane.client.read_answer()).status == (401 if "wrong" in what else 200)


async def test_without_an_idle_connection_it_is_left(stage: Stage, tenant: Tenant) -> None:
    async with repeated(stage, tenant, answering(ANSWER), taken=0) as lane:
        lane.gateway.worker.pools.close_idle(0)
        await lane.ask()
        assert (await lane.client.read_answer()).body == ANSWER
        assert len(lane.provider.lines) == 2


async def test_the_pool_has_all_connections_back(stage: Stage, tenant: Tenant) -> None:
    """Whatever became of the requests: none is given back twice, and none is lost."""

    async def provider(line: Line) -> None:
        while body := (await line.read_request())[1]:
            if b"die" in body:
                return
            if b"half" in body:
                await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")
                return
            if b"odd" in body:
                await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{}")
            else:
                await line.answer(ANSWER)

    # Nobody is suspected for it: this is about connections.
    async with stage(provider, breaker_failure_percent=0) as (gateway, _):
        for kind in (b"well", b"die", b"well", b"half", b"well", b"odd") * 3:
            async with gateway.client() as client:
                for body in (b'{"x":"well"}', b'{"x":"%s"}' % kind):
                    await client.send(post(tenant.token, body))
                    await client.read_head()
                await client.close()
        await poll(lambda: not gateway.worker.watchdog.watched)
        (pool,) = gateway.worker.pools.all()
        assert pool.open == pool.idle
        assert len({id(one) for one in pool._idle}) == pool.idle
        assert gateway.worker.lane.requests > 15
        rows = await gateway.settled(36)
    assert len({row["request_id"] for row in rows}) == 36


# Secrets.


@pytest.mark.parametrize("body", [STREAM_BODY, b'{"model":"m","x":"what the prompt says"}'])
async def test_an_open_answer_keeps_neither_the_key_nor_the_prompt(
    body: bytes, stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        await line.send_chunk(b"data: {}\n\n")
        await line.wait_closed()

    async with repeated(stage, tenant, provider, post(tenant.token, body)) as lane:
        await lane.ask()
        await lane.client.read_until(b"data: {}\n\n")
        connection = await lane.gateway.only_connection()
        assert connection.exchange is not None
        held = reachable(connection)
        assert not [one for one in held if tenant.token.encode() in one]
        assert not [one for one in held if body in one]
        assert not [one for one in held if PLATFORM_KEY.encode() in one]


async def test_at_rest_a_connection_keeps_nothing(stage: Stage, tenant: Tenant) -> None:
    async with repeated(stage, tenant, answering(ANSWER)) as lane:
        await lane.ask()
        assert (await lane.client.read_answer()).body == ANSWER
        connection = await lane.gateway.only_connection()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not [one for one in reachable(connection) if tenant.token.encode() in one]


def reachable(start: object) -> list[bytes | bytearray]:
    """All bytes that an object of the gateway's holds, directly or through others of the gateway's.

    Not through what is shared by all: settings, prices, pools and the tasks.
    """
    shared = (
        "Nursery",
        "Watchdog",
        "Limits",
        "Readiness",
        "Pool",
        "Pools",
        "Meter",
        "Lane",
        "KeyRecord",
        "Provider",
    )
    foreign = ("type", "function", "module", "builtin_function_or_method")
    seen: dict[int, object] = {}
    waiting = [start]
    while waiting:
        one = waiting.pop()
        kind = type(one)
        own = kind.__module__.partition(".")[0] in ("builtins", "gateway") and kind.__name__ not in shared
        if id(one) not in seen and own and kind.__name__ not in foreign:
            seen[id(one)] = one
            waiting += gc.get_referents(one)
    return [one for one in seen.values() if isinstance(one, bytes | bytearray)]


# Faults of Karta's own.


async def test_a_fault_in_the_lane_costs_one_connection(
    stage: Stage, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        stage(answering(ANSWER), faulty=True) as (gateway, _),
        gateway.client() as client,
        gateway.client() as other,
    ):
        for one in (client, other):
            await one.send(post(tenant.token))
            assert (await one.read_answer()).body == ANSWER
        break_lane(gateway)
        await client.send(post(tenant.token))
        assert await client.read_to_end() == b""
        gateway.worker.lane._heads = gateway.worker.pipeline.heads
        await other.send(post(tenant.token))
        assert (await other.read_answer()).body == ANSWER
    assert "AttributeError" in caplog.text


async def test_a_fault_after_admission_holds_nothing(
    stage: Stage, tenant: Tenant, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with stage(answering(ANSWER), faulty=True) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token))
        assert (await client.read_answer()).body == ANSWER
        with monkeypatch.context() as patch:
            patch.setattr("gateway.lane.request_head", fail)
            await client.send(post(tenant.token))
            assert await client.read_to_end() == b""
        assert len(gateway.worker.meter.spool.in_flight) == 0
        assert [pool.open for pool in gateway.worker.pools.all()] == [0]
        assert (await gateway.ask(post(tenant.token))).body == ANSWER
        await gateway.settled(2)
    assert "ZeroDivisionError" in caplog.text


def break_lane(gateway: RunningGateway) -> None:
    gateway.worker.lane._heads = None  # type: ignore[assignment]


async def test_a_fault_within_an_answer_never_ends_it(
    stage: Stage, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    """With the journal gone the answer cannot be settled: neither when its end comes, nor when it is cut."""

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        spool, gateway.worker.meter.spool = gateway.worker.meter.spool, None  # type: ignore[assignment]
        await line.end_stream()
        await line.wait_closed()
        gateway.worker.meter.spool = spool

    async with repeated(stage, tenant, provider, faulty=True) as lane:
        gateway = lane.gateway
        await lane.ask()
        assert not (await lane.client.read_to_end()).endswith(b"\r\n0\r\n\r\n")
        await lane.provider.lines[0].closed.wait()
        await poll(lambda: gateway.worker.meter.spool)
        assert (await gateway.exchange(b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert "AttributeError" in caplog.text


async def test_a_worker_that_is_cancelled_leaves_one_record(stage: Stage, tenant: Tenant) -> None:
    async with repeated(stage, tenant, silent) as lane:
        await lane.ask()
        await poll(lambda: lane.taken)
        spool = lane.gateway.worker.meter
    assert spool.settled == 2
