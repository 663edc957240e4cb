"""One answer on its way, moved by events: in turns with others, held up by its client, and ended once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway import operations
from gateway.api_request import recognise
from gateway.authorize import Grant
from gateway.connection import Connection
from gateway.dial import Upstream
from gateway.exchange import _READS_MAX, Exchange
from gateway.limits import Limits
from gateway.readiness import Readiness
from gateway.refusal import Dialect
from gateway.request_reader import RequestReader
from gateway.response_reader import UpstreamBroken
from gateway.tally import Tally
from gateway.upstream_response import NothingReceived
from gateway.wait import Overdue, Waiting
from gateway.watchdog import NEVER, Watchdog
from gateway.wire import RECEIVE_BYTES, PlainTransport
from storage.model import CredentialKind, Outcome
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.repeated import repeated
from tests.gateway.socket_pairs import RawTLSPeer, tcp_pair, tls_pair
from tests.support.gateway import poll
from tests.support.requests import post
from tests.support.scripted_provider import Line

OPERATIONS = operations.load()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n"


class Metered:
    """What `Metering` would be told."""

    def __init__(self) -> None:
        self.request_id = "0" * 32
        self.response_bytes = 0
        self.tally: Tally | None = None
        self.late = None
        self.outcomes: list[Outcome] = []

    def begin_answer(self, status: int, head: object) -> None:
        del status, head
        self.tally = Tally(Dialect.ANTHROPIC, streamed=False)

    def settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class Provider:
    host = "provider.test"
    origin = None
    usage_dialect = Dialect.ANTHROPIC


class Case:
    """An exchange between two real sockets, and what it told of its end."""

    def __init__(self, connection: Connection, upstream: Upstream, client: Any, provider: Any) -> None:
        self.connection = connection
        self.client = client
        self.provider = provider
        self.ends: list[Exception | None] = []
        self.metered = Metered()
        reader = RequestReader()
        reader.feed(post("kt_live_x"))
        request = recognise(reader.ready[0], OPERATIONS, Limits())
        caller = SimpleNamespace(key=SimpleNamespace(org_id="an organization", key_id="a key"))
        grant = Grant(cast(Any, caller), request, cast(Any, Provider()), CredentialKind.PLATFORM, None)
        self.exchange = Exchange(
            connection,
            upstream,
            grant,
            cast(Any, self.metered),
            Limits(),
            lambda _exchange, error: self.ends.append(error),
        )
        self.exchange.asked = b"asked"
        self.upstream = upstream

    async def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            await trio.lowlevel.wait_readable(self.client)
            more = self.client.recv(65_536)
            assert more
            data += more
        return data


@asynccontextmanager
async def case(*, tls: bool = False, buffer_bytes: int | None = None) -> AsyncIterator[Case]:
    async with AsyncExitStack() as stack:
        ours, client = stack.enter_context(tcp_pair(buffer_bytes=buffer_bytes))
        transport: Any
        provider: Any
        if tls:
            transport, provider = await stack.enter_async_context(tls_pair())
        else:
            theirs, provider = stack.enter_context(tcp_pair())
            transport = PlainTransport(theirs)
        async with trio.open_nursery() as nursery:
            readiness = Readiness()
            nursery.start_soon(readiness.run)
            watchdog = Watchdog()
            connection = Connection(PlainTransport(ours), "address", Limits(), watchdog, nursery)
            connection.transport.watch(readiness, connection.on_hangup)
            transport.watch(readiness)
            upstream = Upstream(transport, cast(Any, None))
            yield Case(connection, upstream, client, provider)
            connection.close()
            transport.unwatch()
            nursery.cancel_scope.cancel()


async def settle() -> None:
    await wait_all_tasks_blocked(0.01)


def is_over(one: Case) -> bool:
    """Neither side hears of it from here, and no limit is left."""
    return (
        one.exchange.ended
        and one.upstream.transport.listener is None
        and one.connection.exchange is None
        and one.connection.deadline == NEVER
    )


async def test_an_answer_passes_and_ends_once() -> None:
    async with case() as one:
        one.exchange.await_answer()
        one.provider.send(HEAD % 4 + b"12")
        await settle()
        assert not one.exchange.ended
        assert one.exchange.asked == b"", "nothing will be sent again"
        one.provider.send(b"34")
        await poll(lambda: one.ends)
        assert (await one.receive(1)).endswith(b"1234")
        one.exchange.on_upstream()
        one.exchange.fail(UpstreamBroken("late"))
        one.exchange.leave()
        one.exchange.expire(Overdue(Waiting.UPSTREAM))
        assert one.ends == [None]
        assert one.metered.outcomes == [Outcome.COMPLETED]
        assert is_over(one)


async def test_what_came_before_it_was_listened_for_is_read() -> None:
    async with case() as one:
        one.provider.send(HEAD % 2 + b"12")
        await settle()
        one.exchange.await_answer()
        assert one.ends == [None]


async def test_a_long_answer_takes_turns() -> None:
    """However fast provider and client are: after so many reads others are served."""
    async with case() as one:
        reads = 0
        transport = one.upstream.transport

        class Endless:
            ready = True

            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

            def __setattr__(self, name: str, value: Any) -> None:
                setattr(transport, name, value)

            def receive_now(self) -> bytes:
                nonlocal reads
                reads += 1
                return HEAD % 10**9 if reads == 1 else bytes(RECEIVE_BYTES)

        class Taking:
            def __getattr__(self, name: str) -> Any:
                return getattr(client, name)

            def send_now(self, data: bytes) -> int:
                return len(data)

        client = one.connection.transport
        one.connection.transport = cast(Any, Taking())
        one.upstream.transport = cast(Any, Endless())
        one.exchange.await_answer()
        assert reads == _READS_MAX
        # And it goes on by itself, a turn in each pass of the set.
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        assert reads > _READS_MAX
        one.exchange.stop()


@pytest.mark.parametrize("size", [100, 16_384, 40_000, 300_000])
async def test_what_openssl_holds_is_not_waited_for(size: int) -> None:
    """A record is read from the socket whole and handed on in parts: no event tells of the rest."""
    async with case(tls=True) as one:
        assert isinstance(one.provider, RawTLSPeer)
        body = bytes(range(256)) * (size // 256 + 1)
        one.exchange.await_answer()
        sealed = one.provider.seal(HEAD % len(body) + body)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.provider.send, sealed)
            received = await one.receive(len(HEAD % len(body)) + len(body))
        assert received.endswith(body)
        await poll(lambda: one.ends)
        assert one.ends == [None]


async def test_what_openssl_holds_while_the_client_is_slow_is_read_afterwards() -> None:
    async with case(tls=True, buffer_bytes=4096) as one:
        body = bytes(200_000)
        one.exchange.await_answer()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.provider.send, one.provider.seal(HEAD % len(body) + body))
            await settle()
            assert one.connection._waiting is Waiting.WRITE
            assert one.upstream.transport.listener is None
            assert (await one.receive(len(body))).endswith(bytes(1000))
        await poll(lambda: one.ends)
        assert one.ends == [None]


async def test_nothing_is_read_while_the_client_takes_nothing() -> None:
    async with case(buffer_bytes=4096) as one:
        one.exchange.await_answer()
        one.provider.send(HEAD % 10**6 + bytes(100_000))
        await settle()
        passed = one.metered.response_bytes
        one.provider.send(bytes(1000))
        await settle()
        assert one.metered.response_bytes == passed
        assert one.upstream.transport.listener is None
        one.exchange.stop()


# Ends.


async def test_nothing_received_is_told_as_that() -> None:
    async with case() as one:
        one.exchange.await_answer()
        one.provider.close()
        await poll(lambda: one.ends)
        assert [type(error) for error in one.ends] == [NothingReceived]
        assert is_over(one)


@pytest.mark.parametrize("said", [b"HTTP/1.1 2", HEAD % 9, HEAD % 9 + b"123"])
async def test_a_broken_answer_is_told_as_that(said: bytes) -> None:
    async with case() as one:
        one.exchange.await_answer()
        one.provider.send(said)
        await settle()
        one.provider.close()
        await poll(lambda: one.ends)
        assert [type(error) for error in one.ends] == [UpstreamBroken]
        assert is_over(one)


async def test_leaving_ends_a_write_under_way() -> None:
    async with case(buffer_bytes=4096) as one:
        gone: list[object] = []
        one.exchange.on_gone = gone.append
        one.exchange.await_answer()
        one.provider.send(HEAD % 10**6 + bytes(100_000))
        await settle()
        one.exchange.leave()
        one.exchange.leave()
        await settle()
        assert gone == [one.exchange]
        assert one.ends == []
        assert one.exchange.ended


async def test_a_stalled_write_ends_it() -> None:
    async with case(buffer_bytes=4096) as one:
        one.exchange.await_answer()
        one.provider.send(HEAD % 10**6 + bytes(100_000))
        await settle()
        one.connection.end_wait()
        await poll(lambda: one.ends)
        (error,) = one.ends
        assert isinstance(error, Overdue)
        assert error.waiting is Waiting.WRITE
        assert is_over(one)


@pytest.mark.parametrize("when", ["on an event", "by the watchdog", "on leaving", "after a slow write"])
async def test_a_fault_at_its_end_costs_one_connection(when: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever called it serves all the others too."""

    def fault(*told: object) -> None:
        raise ZeroDivisionError(f"a secret: {told}")

    async with case(buffer_bytes=4096) as one:
        one.exchange._on_end = fault
        one.exchange.on_gone = fault
        one.exchange.await_answer()
        if when == "on an event":
            one.provider.send(HEAD % 0)
        elif when == "by the watchdog":
            one.exchange.expire(Overdue(Waiting.UPSTREAM))
        elif when == "on leaving":
            one.exchange.leave()
        else:
            one.provider.send(HEAD % 100_000 + bytes(100_000))
            await settle()
            with pytest.raises(OSError, match="reset"):
                await one.receive(10**6)
        await poll(lambda: one.connection.transport.sock.fileno() < 0)
        assert one.exchange.ended
        assert one.connection.finished
        # The set goes on.
        one.connection.nursery.start_soon(settle)
        await settle()
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_task_that_hears_late_does_not_touch_the_next_answer() -> None:
    async with case() as one:
        one.exchange.await_answer()
        one.provider.send(HEAD % 0)
        await poll(lambda: one.ends)
        one.connection.answered = True
        one.exchange.fail(UpstreamBroken("its connection was closed"))
        assert one.connection.transport.sock.fileno() >= 0


async def test_a_busy_answer_leaves_others_their_turn(stage: Stage, tenant: Tenant) -> None:
    """A huge answer to one client, and a small one to another in the meantime."""
    size = 50_000_000

    async def provider(line: Line) -> None:
        while body := (await line.read_request())[1]:
            if b"large" in body:
                await line.answer(bytes(size))
            else:
                await line.answer(b"{}")

    async with repeated(stage, tenant, provider, post(tenant.token, b'{"x":"large"}')) as lane:
        await lane.ask()
        await lane.client.read_head()
        assert (await lane.gateway.ask(post(tenant.token))).body == b"{}"
        read = 0
        while read < size:
            read += len(await lane.client.receive())
        assert read == size
