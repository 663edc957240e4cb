"""Two sockets, on the real loopback: what is sent arrives, what ends is seen, what waits can be woken."""

from __future__ import annotations

import random
import select
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway import wire
from gateway.readiness import Readiness
from gateway.socket_state import bytes_waiting
from gateway.wire import RECEIVE_BYTES, PlainTransport, Transport
from tests.gateway.socket_pairs import RawTLSPeer, plain_pair, reset, tcp_pair, tls_pair
from tests.support.gateway import PATIENCE_SECONDS

Pair = tuple[Transport, RawTLSPeer | PlainTransport]
PLAIN = ["plain", "plain, watched"]
TLS = ["TLS, we dial", "TLS, we serve", "TLS, watched"]
KINDS = [*PLAIN, *TLS]


@asynccontextmanager
async def pair(kind: str, *, buffer_bytes: int | None = None) -> AsyncIterator[Pair]:
    ours: Transport
    peer: RawTLSPeer | PlainTransport
    async with AsyncExitStack() as stack:
        if kind in PLAIN:
            ours, peer = stack.enter_context(plain_pair(buffer_bytes=buffer_bytes))
        else:
            ours, peer = await stack.enter_async_context(
                tls_pair(we_are_server="serve" in kind, buffer_bytes=buffer_bytes)
            )
        if "watched" in kind:
            ours.watch(await stack.enter_async_context(watching()))
        yield ours, peer
        ours.unwatch()


@asynccontextmanager
async def watching() -> AsyncIterator[Readiness]:
    async with trio.open_nursery() as nursery:
        readiness = Readiness()
        nursery.start_soon(readiness.run)
        yield readiness
        nursery.cancel_scope.cancel()


async def send_from(peer: RawTLSPeer | PlainTransport, data: bytes) -> None:
    if isinstance(peer, RawTLSPeer):
        await peer.send(peer.seal(data))
    else:
        await wire.send(peer, data)


async def receive_all(transport: Transport | RawTLSPeer, size: int) -> bytes:
    received = b""
    while len(received) < size:
        data = await transport.receive()
        assert data, "ended early"
        received += data
    return received


async def soon_untouched(transport: Transport, expected: bool) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while transport.untouched() is not expected:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_go_both_ways(kind: str) -> None:
    async with pair(kind) as (ours, peer):
        for size in (1, 5, 16_384, 16_385, 100_000):
            data = random.Random(size).randbytes(size)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_from, peer, data)
                assert await receive_all(ours, size) == data
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wire.send, ours, bytearray(data))
                assert await receive_all(peer, size) == data
        await wire.send(ours, b"")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_send_waits_for_a_slow_reader_and_loses_nothing(kind: str) -> None:
    data = random.Random(0).randbytes(2_000_000)
    async with pair(kind, buffer_bytes=8192) as (ours, peer), trio.open_nursery() as nursery:
        sent = trio.Event()

        async def send() -> None:
            await wire.send(ours, data)
            sent.set()

        nursery.start_soon(send)
        await wait_all_tasks_blocked(0.05)
        assert not sent.is_set(), "more went out than the peer's buffers can hold"
        received = b""
        while len(received) < len(data):
            received += await peer.receive()
            await trio.lowlevel.checkpoint()
        assert received == data
        await sent.wait()


@pytest.mark.parametrize("kind", KINDS)
async def test_send_now_says_how_much_fitted(kind: str) -> None:
    data = random.Random(0).randbytes(1_000_000)
    async with pair(kind, buffer_bytes=8192) as (ours, peer):
        sent = ours.send_now(data)
        assert sent < len(data)
        # OpenSSL says nothing went while part of it did: the same bytes are then sent again, and it knows.
        assert sent > 0 or kind in TLS
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send_rest, data, sent)
            assert await receive_all(peer, len(data)) == data


@pytest.mark.parametrize("kind", KINDS)
async def test_a_send_that_is_cancelled_ends_at_once(kind: str) -> None:
    async with pair(kind, buffer_bytes=8192) as (ours, _):
        with trio.move_on_after(0.05) as scope:
            await wire.send(ours, bytes(2_000_000))
        assert scope.cancelled_caught


@pytest.mark.parametrize("kind", KINDS)
async def test_a_read_is_bounded(kind: str) -> None:
    async with pair(kind) as (ours, peer), trio.open_nursery() as nursery:
        nursery.start_soon(send_from, peer, bytes(300_000))
        received = 0
        while received < 300_000:
            data = await ours.receive()
            assert 0 < len(data) <= RECEIVE_BYTES
            received += len(data)


# Ends.


async def test_plain_end_and_reset() -> None:
    with plain_pair() as (ours, peer):
        peer.sock.close()
        assert await ours.receive() == b""
    with plain_pair() as (ours, peer):
        reset(peer.sock)
        with pytest.raises(ConnectionResetError):
            await ours.receive()


async def test_what_was_sent_before_an_end_is_received_first() -> None:
    with plain_pair() as (ours, peer):
        peer.send_now(b"last words")
        peer.sock.close()
        assert await ours.receive() == b"last words"
        assert await ours.receive() == b""


@pytest.mark.parametrize("kind", TLS)
async def test_a_tls_end_counts_only_when_it_is_signed(kind: str) -> None:
    async with pair(kind) as (ours, peer):
        assert isinstance(peer, RawTLSPeer)
        await peer.send(peer.seal(b"last words") + peer.seal_end())
        peer.sock.close()
        assert await ours.receive() == b"last words"
        assert await ours.receive() == b""
    async with pair(kind) as (ours, peer):
        await send_from(peer, b"half an answer")
        peer.sock.close()
        assert await ours.receive() == b"half an answer"
        # A reset, when the peer had something unread: no end either.
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            await ours.receive()


@pytest.mark.parametrize("kind", KINDS)
async def test_sending_to_a_peer_that_reset_is_an_os_error(kind: str) -> None:
    async with pair(kind) as (ours, peer):
        reset(peer.sock)
        with pytest.raises(OSError, match=r".") as caught:
            for _ in range(1000):
                await wire.send(ours, b"x" * 1000)
        assert not isinstance(caught.value, BlockingIOError)


@pytest.mark.parametrize("kind", TLS)
async def test_a_damaged_record_is_an_error_not_data(kind: str) -> None:
    async with pair(kind) as (ours, peer):
        assert isinstance(peer, RawTLSPeer)
        record = bytearray(peer.seal(b"secret"))
        record[-1] ^= 1
        await peer.send(bytes(record))
        with pytest.raises(ssl.SSLError):
            await ours.receive()


# TLS records are not reads.


@pytest.mark.parametrize("kind", TLS)
async def test_a_record_in_pieces_is_waited_for(kind: str) -> None:
    async with pair(kind) as (ours, peer):
        assert isinstance(peer, RawTLSPeer)
        record = peer.seal(b"an event")
        for at in range(1, len(record)):
            got: list[bytes] = []

            async def receive(found: list[bytes] = got) -> None:
                found.append(await ours.receive())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await peer.send(record[:at])
                await wait_all_tasks_blocked()
                assert got == []
                await peer.send(record[at:])
            assert got == [b"an event"]
            record = peer.seal(b"an event")


@pytest.mark.parametrize("kind", TLS)
async def test_records_that_came_together_are_read_without_waiting_for_more(kind: str) -> None:
    async with pair(kind) as (ours, peer):
        assert isinstance(peer, RawTLSPeer)
        await peer.send(peer.seal(b"one") + peer.seal(b"two") + peer.seal(bytes(16_384) * 3))
        assert await receive_all(ours, 6 + 3 * 16_384) == b"onetwo" + bytes(16_384) * 3


# Waking, reuse and closing.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["interrupt", "close", "abort"])
async def test_a_waiting_task_is_woken(kind: str, how: str) -> None:
    async with pair(kind, buffer_bytes=8192) as (ours, _):
        woken = []

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ours.receive()
            woken.append("receive")

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await wire.send(ours, bytes(2_000_000))
            woken.append("send")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(send)
            await wait_all_tasks_blocked(0.05)
            if how == "interrupt":
                ours.interrupt()
            else:
                getattr(wire, how)(ours)
        assert sorted(woken) == ["receive", "send"]
        assert (ours.sock.fileno() >= 0) is (how == "interrupt")


@pytest.mark.parametrize("kind", KINDS)
async def test_an_interrupted_socket_stays_usable(kind: str) -> None:
    async with pair(kind) as (ours, peer):
        ours.interrupt()
        await send_from(peer, b"still here")
        assert await ours.receive() == b"still here"


@pytest.mark.parametrize("wait", ["receive", "park"])
async def test_who_was_woken_in_the_same_moment_is_interrupted_all_the_same(wait: str) -> None:
    """It may find no more than a part of a TLS record, and there is no deadline any more to end the wait for
    the rest."""
    with plain_pair() as (ours, peer):
        async with watching() as readiness:
            ours.watch(readiness)
            await wait_all_tasks_blocked(0.02)

            async def interrupted() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await getattr(ours, wait)()

            with trio.fail_after(PATIENCE_SECONDS):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(interrupted)
                    await wait_all_tasks_blocked()
                    ours._on_event(select.EPOLLIN)
                    ours.interrupt()
                peer.send_now(b"still here")
                assert await ours.receive() == b"still here"
            ours.unwatch()


async def test_what_was_put_back_for_a_task_is_read_though_it_was_interrupted() -> None:
    with plain_pair() as (ours, _):
        async with watching() as readiness:
            ours.watch(readiness)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.park)
                await wait_all_tasks_blocked(0.02)
                ours.unread(b"one")
                ours.interrupt()
            assert await ours.receive() == b"one"
            ours.unwatch()


async def test_that_the_peer_has_gone_is_told_once() -> None:
    """First its end, then the end of both ways, then a reset: one peer, one departure."""
    told: list[None] = []
    with plain_pair() as (ours, peer):
        async with watching() as readiness:
            ours.watch(readiness, lambda: told.append(None))
            peer.sock.shutdown(socket.SHUT_WR)
            await wait_all_tasks_blocked(0.02)
            assert told == [None]
            ours.send_now(b"late")
            ours.sock.shutdown(socket.SHUT_WR)
            reset(peer.sock)
            await wait_all_tasks_blocked(0.02)
            assert told == [None]
            ours.unwatch()


async def test_bytes_that_are_put_back_come_first_and_wake_whoever_parked() -> None:
    with plain_pair() as (ours, peer):
        async with watching() as readiness:
            ours.watch(readiness)
            offered: list[bytes | None] = []

            def offer() -> None:
                offered.append(ours.receive_now())
                ours.unread(b"one")

            ours.listener = offer
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.park)
                await wait_all_tasks_blocked()
                peer.send_now(b"one")
            # The listener has handed over, so what follows is nobody's but the task's.
            peer.send_now(b"two")
            await wait_all_tasks_blocked(0.02)
            assert offered == [b"one"]
            assert [await ours.receive(), await ours.receive()] == [b"one", b"two"]
            ours.unwatch()


async def test_close_delivers_and_abort_does_not() -> None:
    with plain_pair() as (ours, peer):
        ours.send_now(b"goodbye")
        wire.close(ours)
        assert await peer.receive() == b"goodbye"
        assert await peer.receive() == b""
    with plain_pair() as (ours, peer):
        wire.abort(ours)
        with pytest.raises(ConnectionResetError):
            await peer.receive()


async def test_ending_what_has_ended_is_no_error() -> None:
    with plain_pair() as (ours, _):
        wire.close(ours)
        wire.close(ours)
        wire.abort(ours)
        ours.interrupt()
        assert ours.sock.fileno() < 0


@pytest.mark.parametrize("kind", KINDS)
async def test_untouched_until_a_byte_arrives(kind: str) -> None:
    async with pair(kind) as (ours, peer):
        assert ours.untouched()
        assert ours.untouched(), "asking changes nothing"
        await send_from(peer, b"unasked")
        await soon_untouched(ours, False)


async def test_a_byte_seen_by_untouched_is_still_there() -> None:
    with plain_pair() as (ours, peer):
        peer.send_now(b"unasked")
        await soon_untouched(ours, False)
        assert await ours.receive() == b"unasked"


async def test_session_tickets_are_no_bytes_of_an_answer() -> None:
    """A TLS 1.3 server sends them after the handshake; the connection is as good as new."""
    async with tls_pair() as (ours, _):
        assert ours.sock.version() == "TLSv1.3"
        with trio.fail_after(PATIENCE_SECONDS):
            while not bytes_waiting(ours.sock):
                await trio.lowlevel.checkpoint()
        assert ours.untouched()
        assert not bytes_waiting(ours.sock)


async def test_a_signed_end_touches() -> None:
    async with tls_pair() as (ours, peer):
        await peer.send(peer.seal_end())
        await soon_untouched(ours, False)


async def test_bytes_openssl_has_read_already_are_not_overlooked() -> None:
    async with tls_pair() as (ours, peer):
        await peer.send(peer.seal(bytes(2)))
        await trio.lowlevel.wait_readable(ours.sock)
        with trio.fail_after(PATIENCE_SECONDS):
            while not ours.sock.pending():
                try:
                    assert ours.sock.recv(1) == b"\0"
                except ssl.SSLWantReadError:
                    await trio.lowlevel.wait_readable(ours.sock)
        assert not bytes_waiting(ours.sock)
        assert not ours.untouched()
        assert await ours.receive() == b"\0"


async def test_prepare() -> None:
    with tcp_pair() as (ours, _):
        assert not ours.getblocking()
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    left, right = socket.socketpair()
    with left, right:
        wire.prepare(left)
        assert not left.getblocking()
