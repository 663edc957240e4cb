"""What happens on a socket is told at once, once, and never in the name of another."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway.readiness import GONE, READABLE, Readiness
from tests.gateway.socket_pairs import reset, tcp_pair, tls_pair
from tests.support.gateway import PATIENCE_SECONDS


@asynccontextmanager
async def watching() -> AsyncIterator[Readiness]:
    async with trio.open_nursery() as nursery:
        watch = Readiness()
        nursery.start_soon(watch.run)
        yield watch
        nursery.cancel_scope.cancel()


class Departure:
    """What a socket's owner gives the set: counts what it is told, and can be waited for."""

    def __init__(self) -> None:
        self.count = 0
        self.readable = 0
        self._event = trio.Event()

    def __call__(self, mask: int) -> None:
        if mask & READABLE:
            self.readable += 1
        if mask & GONE:
            self.count += 1
            self._event.set()

    async def seen(self) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            await self._event.wait()


async def quiet(departure: Departure) -> None:
    """Nothing is noticed, although whatever was to be noticed has had its turn."""
    await wait_all_tasks_blocked(0.02)
    assert departure.count == 0


@pytest.mark.parametrize("how", ["close", "shutdown", "reset"])
@pytest.mark.parametrize("unread", [b"", b"a pipelined byte"])
async def test_a_departure_is_noticed_whatever_is_left_unread(how: str, unread: bytes) -> None:
    with tcp_pair() as (ours, peer):
        async with watching() as watch:
            departure = Departure()
            watch.add(ours.fileno(), departure)
            await quiet(departure)
            if unread:
                peer.send(unread)
                await quiet(departure)
            if how == "reset":
                reset(peer)
            elif how == "shutdown":
                peer.shutdown(socket.SHUT_WR)
            else:
                peer.close()
            await departure.seen()
            watch.discard(ours.fileno())


async def test_traffic_is_no_departure() -> None:
    with tcp_pair() as (ours, peer):
        async with watching() as watch:
            departure = Departure()
            watch.add(ours.fileno(), departure)
            for _ in range(10):
                peer.send(b"x" * 1000)
                ours.send(b"y" * 1000)
                await trio.lowlevel.wait_readable(ours)
                ours.recv(100_000)
                await trio.lowlevel.wait_readable(peer)
                peer.recv(100_000)
            peer.shutdown(socket.SHUT_RD)
            await quiet(departure)


async def test_a_client_that_left_before_it_was_added_is_noticed_too() -> None:
    with tcp_pair() as (ours, peer):
        peer.close()
        await trio.lowlevel.wait_readable(ours)
        async with watching() as watch:
            departure = Departure()
            watch.add(ours.fileno(), departure)
            await departure.seen()


async def test_each_read_is_told_once() -> None:
    with tcp_pair() as (ours, peer):
        async with watching() as watch:
            told = Departure()
            watch.add(ours.fileno(), told)
            for number in range(1, 4):
                peer.send(b"x")
                await wait_all_tasks_blocked(0.02)
                assert told.readable == number
            watch.discard(ours.fileno())


async def test_what_is_discarded_is_not_told() -> None:
    with tcp_pair() as (ours, peer):
        async with watching() as watch:
            departure = Departure()
            watch.add(ours.fileno(), departure)
            watch.discard(ours.fileno())
            watch.discard(ours.fileno())
            watch.discard(12_345)
            peer.close()
            await quiet(departure)


@pytest.mark.parametrize("discarded", [True, False])
async def test_a_reused_descriptor_is_another_client(discarded: bool) -> None:
    async with watching() as watch:
        first, second = Departure(), Departure()
        with tcp_pair() as (ours, peer):
            descriptor = ours.fileno()
            watch.add(descriptor, first)
            if discarded:
                watch.discard(descriptor)
            ours.close()
            with tcp_pair() as (other, other_peer):
                reused = other if other.fileno() == descriptor else other_peer
                assert reused.fileno() == descriptor
                watch.add(descriptor, second)
                peer.close()
                await quiet(first)
                await quiet(second)
                (other_peer if reused is other else other).close()
                await second.seen()
                watch.discard(descriptor)
        assert (first.count, second.count) == (0, 1)


async def test_more_departures_than_one_pass_takes() -> None:
    async with watching() as watch:
        departures = []
        pairs = [socket.socketpair() for _ in range(400)]
        for ours, _ in pairs:
            departures.append(Departure())
            watch.add(ours.fileno(), departures[-1])
        for _, peer in pairs:
            peer.close()
        for departure in departures:
            await departure.seen()
        for ours, _ in pairs:
            watch.discard(ours.fileno())
            ours.close()
        assert {departure.count for departure in departures} == {1}


async def test_a_callback_may_cancel_the_task_that_serves_the_client() -> None:
    with tcp_pair() as (ours, peer):
        async with watching() as watch, trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            watch.add(ours.fileno(), lambda mask: scope.cancel() if mask & GONE else None)

            async def serve() -> None:
                with scope:
                    await trio.sleep_forever()
                watch.discard(ours.fileno())

            nursery.start_soon(serve)
            await wait_all_tasks_blocked()
            peer.close()
            with trio.fail_after(PATIENCE_SECONDS):
                while nursery.child_tasks:
                    await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught


@pytest.mark.parametrize("signed", [True, False])
async def test_tls_clients_leave_as_plain_ones_do(signed: bool) -> None:
    async with tls_pair(we_are_server=True) as (ours, peer), watching() as watch:
        departure = Departure()
        watch.add(ours.sock.fileno(), departure)
        assert isinstance(ours.sock, ssl.SSLSocket)
        if signed:
            await peer.send(peer.seal_end())
        await quiet(departure)
        peer.sock.close()
        await departure.seen()
        watch.discard(ours.sock.fileno())


async def test_the_watch_may_end_before_its_connections_do() -> None:
    """As in a worker that is cancelled: every task cleans up, in any order."""
    with tcp_pair() as (ours, _):
        async with watching() as watch:
            watch.add(ours.fileno(), Departure())
        watch.discard(ours.fileno())


async def test_a_descriptor_the_kernel_refuses_leaves_nothing_behind() -> None:
    async with watching() as watch:
        with pytest.raises(OSError, match="Bad file descriptor"):
            watch.add(9999, Departure())
        assert watch._callbacks == {}


async def test_who_wants_to_be_told_again_is_told_after_what_is_new() -> None:
    with tcp_pair() as (ours, peer), tcp_pair() as (others, other_peer):
        async with watching() as watch:
            told: list[str] = []

            def greedy(_mask: int) -> None:
                told.append("greedy")
                if told.count("greedy") == 1:
                    other_peer.send(b"x")
                if told.count("greedy") < 4:
                    watch.again(ours.fileno())

            watch.add(ours.fileno(), greedy)
            watch.add(others.fileno(), lambda _mask: told.append("other"))
            peer.send(b"x")
            await wait_all_tasks_blocked(0.02)
            assert told.count("greedy") == 4
            assert told.index("other") < 3
            watch.discard(ours.fileno())
            # Of one that is not there any more nobody is told.
            watch.again(ours.fileno())
            await wait_all_tasks_blocked(0.02)
            assert told.count("greedy") == 4


async def test_who_asks_again_while_the_set_sleeps_is_told() -> None:
    """As a task does that went on with an answer once its client had taken what came before."""
    with tcp_pair() as (ours, _peer):
        async with watching() as watch:
            told = Departure()
            watch.add(ours.fileno(), told)
            for number in range(1, 4):
                await wait_all_tasks_blocked(0.02)
                watch.again(ours.fileno())
                await wait_all_tasks_blocked(0.02)
                assert told.readable == number
            watch.discard(ours.fileno())
