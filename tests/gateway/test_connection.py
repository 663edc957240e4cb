"""One connection: who hears of what arrives on it, at each moment, and what becomes of it in the end."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway.connection import Connection
from gateway.limits import Limits
from gateway.readiness import GONE, READABLE, Readiness
from gateway.request_reader import Inbound
from gateway.wait import Overdue, Waiting
from gateway.watchdog import NEVER, Watchdog
from gateway.wire import PlainTransport
from tests.gateway.socket_pairs import tcp_pair
from tests.support.gateway import PATIENCE_SECONDS
from tests.support.requests import post

REQUEST = post("kt_live_x")


class Case:
    """A connection, the client's socket, and what `take` was offered."""

    def __init__(self, connection: Connection, client: socket.socket, nursery: trio.Nursery) -> None:
        self.connection = connection
        self.client = client
        self.offered: list[bytes] = []
        self.takes = True
        self.result: list[Any] = []
        self.ended = trio.Event()
        self._nursery = nursery
        connection.take = self.take

    def take(self, connection: Connection, data: bytes) -> bool:
        assert connection is self.connection
        self.offered.append(data)
        if self.takes:
            connection.exchange = Exchange()
        return self.takes

    def wait(self) -> None:
        """As the connection's task does."""

        async def run() -> None:
            try:
                with self.connection.scope:
                    self.result.append(await self.connection.next_request())
            except (Overdue, OSError) as error:
                self.result.append(error)
            finally:
                self.ended.set()

        self._nursery.start_soon(run)

    def event(self, mask: int = READABLE) -> None:
        """As the set tells of it."""
        self.connection.transport._on_event(mask)  # type: ignore[attr-defined]


class Exchange:
    """An answer on its way, that nobody moves."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def expire(self, overdue: Overdue) -> None:
        self.told.append(overdue.waiting)

    def leave(self) -> None:
        self.told.append("left")


@asynccontextmanager
async def case() -> AsyncIterator[Case]:
    with tcp_pair() as (ours, client):
        async with trio.open_nursery() as nursery:
            readiness = Readiness()
            nursery.start_soon(readiness.run)
            connection = Connection(PlainTransport(ours), "address", Limits(), Watchdog(), nursery)
            connection.transport.watch(readiness, connection.on_hangup)
            yield Case(connection, client, nursery)
            connection.close()
            nursery.cancel_scope.cancel()


async def settle() -> None:
    await wait_all_tasks_blocked(0.01)


async def test_what_is_taken_the_task_never_hears_of() -> None:
    async with case() as one:
        one.wait()
        for number in range(1, 4):
            one.client.send(REQUEST)
            await settle()
            assert one.offered == [REQUEST] * number
            one.connection.exchange = None
            one.connection.rest()
        assert one.result == []


async def test_what_is_not_taken_the_task_reads() -> None:
    async with case() as one:
        one.takes = False
        one.wait()
        one.client.send(REQUEST)
        await one.ended.wait()
        (inbound,) = one.result
        assert isinstance(inbound, Inbound)
        assert inbound.complete
        assert one.offered == [REQUEST]


async def test_what_came_before_it_was_waited_for_is_offered_too() -> None:
    async with case() as one:
        one.client.send(REQUEST)
        await settle()
        one.wait()
        await settle()
        assert one.offered == [REQUEST]


async def test_a_request_in_pieces_is_the_tasks_from_the_first_on() -> None:
    async with case() as one:
        one.takes = False
        one.wait()
        for byte in (REQUEST[:30], REQUEST[30:60], REQUEST[60:]):
            one.client.send(byte)
            await settle()
        await one.ended.wait()
        assert one.offered == [REQUEST[:30]]
        assert one.result[0].complete


async def test_a_second_request_waits_for_the_answer_to_the_first() -> None:
    async with case() as one:
        one.wait()
        one.client.send(REQUEST)
        await settle()
        one.client.send(b"another")
        await settle()
        assert one.offered == [REQUEST]
        one.connection.exchange = None
        one.connection.rest()
        assert one.offered == [REQUEST, b"another"]


async def test_nothing_is_taken_for_a_client_that_has_gone() -> None:
    async with case() as one:
        one.wait()
        await settle()
        one.client.send(REQUEST)
        one.client.shutdown(socket.SHUT_WR)
        await one.ended.wait()
        # Whether or not the two were told of at once.
        assert one.connection.gone
        one.event()
        assert len(one.offered) <= 1


async def test_a_client_that_goes_is_told_to_the_answer_under_way() -> None:
    async with case() as one:
        one.wait()
        one.client.send(REQUEST)
        await settle()
        exchange = one.connection.exchange
        assert isinstance(exchange, Exchange)
        one.client.close()
        await one.ended.wait()
        assert exchange.told == ["left"]
        assert one.result == []


# Between an end and its hearing.


async def test_what_comes_after_the_wait_was_too_long_is_not_taken() -> None:
    """The task has been woken to end the connection, and has not run yet: a request that was taken now would
    be asked for, paid for, and answered to nobody."""
    async with case() as one:
        one.wait()
        await settle()
        one.client.send(REQUEST)
        one.connection.end_wait()
        one.event()
        assert one.offered == []
        await one.ended.wait()
        (overdue,) = one.result
        assert overdue.waiting is Waiting.REQUEST


async def test_what_comes_after_the_connection_was_cancelled_is_not_taken() -> None:
    async with case() as one:
        one.wait()
        await settle()
        one.client.send(REQUEST)
        one.connection.scope.cancel()
        one.event()
        assert one.offered == []
        await one.ended.wait()


async def test_what_comes_after_something_was_put_back_is_not_taken() -> None:
    async with case() as one:
        one.takes = False
        one.wait()
        await settle()
        one.client.send(REQUEST)
        # Nobody else runs in between.
        one.event()
        assert one.offered == [REQUEST]
        one.client.send(b"more")
        one.event()
        await one.ended.wait()
        assert one.offered == [REQUEST]
        assert one.result[0].complete


async def test_a_connection_that_broke_while_its_task_is_not_parked_ends_at_once() -> None:
    """The task finds that out by reading, before the set tells of it: nobody would wake it any more."""
    async with case() as one:
        transport = one.connection.transport

        class Broken:
            ready = True

            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

            def receive_now(self) -> bytes:
                raise ConnectionResetError

        one.connection.transport = Broken()  # type: ignore[assignment]
        one.wait()
        with trio.fail_after(PATIENCE_SECONDS):
            await one.ended.wait()
        assert one.result == [None]
        assert transport.sock.fileno() < 0


async def test_a_fault_in_what_takes_requests_costs_this_connection_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fault(connection: Connection, data: bytes) -> bool:
        raise RuntimeError(f"a secret of {connection}: {data!r}")

    async with case() as one:
        one.connection.take = fault
        one.wait()
        one.client.send(REQUEST)
        await one.ended.wait()
        assert one.connection.transport.sock.fileno() < 0
        # The set itself goes on.
        with tcp_pair() as (ours, peer):
            told: list[int] = []
            one.connection.nursery.start_soon(_watch, one, ours, told.append)
            peer.send(b"x")
            await settle()
            assert told == [READABLE]
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


async def _watch(one: Case, ours: socket.socket, told: Callable[[int], None]) -> None:
    readiness = Readiness()
    readiness.add(ours.fileno(), told)
    await readiness.run()


# Limits.


async def test_a_stalled_write_wakes_who_writes_and_not_who_waits() -> None:
    async with case() as one:
        one.wait()
        await settle()
        failed: list[BaseException] = []

        async def write() -> None:
            try:
                await one.connection.send(bytes(50_000_000))
            except Overdue as error:
                failed.append(error)

        one.connection.nursery.start_soon(write)
        await settle()
        assert one.connection._waiting is Waiting.WRITE
        one.connection.end_wait()
        await settle()
        assert [error.waiting for error in failed if isinstance(error, Overdue)] == [Waiting.WRITE]
        assert one.result == []
        assert not one.ended.is_set()


async def test_an_overlong_wait_for_the_provider_is_the_answers() -> None:
    async with case() as one:
        one.wait()
        one.client.send(REQUEST)
        await settle()
        exchange = one.connection.exchange
        assert isinstance(exchange, Exchange)
        one.connection.begin_wait(Waiting.UPSTREAM, 1.0)
        one.connection.expire()
        assert exchange.told == [Waiting.UPSTREAM]
        assert one.result == []


async def test_at_rest_the_wait_for_a_request_is_limited_anew() -> None:
    async with case() as one:
        one.wait()
        one.client.send(REQUEST)
        await settle()
        one.connection.deadline = NEVER
        one.connection.answered = True
        one.connection.exchange = None
        one.connection.rest()
        assert one.connection.deadline < NEVER
        assert not one.connection.answered
        one.connection.end_wait()
        await one.ended.wait()
        assert [overdue.waiting for overdue in one.result] == [Waiting.REQUEST]


async def test_after_a_last_answer_the_task_ends() -> None:
    async with case() as one:
        one.wait()
        one.client.send(REQUEST)
        await settle()
        one.connection.exchange = None
        one.connection.keep_alive = False
        one.connection.rest()
        await one.ended.wait()
        assert one.result == [None]


async def test_a_client_that_only_ends_is_no_error() -> None:
    async with case() as one:
        one.wait()
        await settle()
        one.client.shutdown(socket.SHUT_WR)
        await one.ended.wait()
        one.event(READABLE | GONE)
        assert one.offered == []
        assert one.result in ([], [None])
