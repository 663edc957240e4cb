"""The proxy does what it says, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.faults.fault_proxy import (
    Bandwidth,
    Fault,
    FaultProxy,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    fault_proxy,
)

DATA = bytes(range(256)) * 40


@asynccontextmanager
async def echoing(*faults: Fault) -> AsyncIterator[FaultProxy]:
    """A proxy before a server that sends back what it gets."""

    async def echo(stream: trio.SocketStream) -> None:
        try:
            async for data in stream:
                await stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(20):
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, echo, [listener])
            async with fault_proxy(listener.socket.getsockname()[1]) as proxy:
                proxy.faults = list(faults)
                yield proxy
            nursery.cancel_scope.cancel()


async def said(proxy: FaultProxy, data: bytes = DATA, *, end: bool = True) -> bytes:
    """What comes back, up to the end; a reset shows as `!`."""
    async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        received = b""
        try:
            await stream.send_all(data)
            if end:
                await stream.send_eof()
            async for piece in stream:
                received += piece
        except trio.BrokenResourceError:
            received += b"!"
        return received


@pytest.mark.parametrize("faults", [[], [Slicer(bytes=100)], [Slicer(bytes=100, direction="up")]])
async def test_everything_passes_in_its_order(faults: list[Fault]) -> None:
    async with echoing(*faults) as proxy:
        assert await said(proxy) == DATA
        assert proxy.connections == 1


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (Latency(seconds=0.2), 0.2),
        (Bandwidth(bytes_per_second=len(DATA) * 4), 0.2),
        (SlowClose(seconds=0.2), 0.2),
    ],
)
async def test_what_is_slow_takes_its_time(fault: Fault, seconds: float) -> None:
    async with echoing(fault) as proxy:
        began = trio.current_time()
        assert await said(proxy) == DATA
        assert trio.current_time() - began >= seconds


async def test_a_timeout_lets_so_much_pass_and_then_nothing() -> None:
    async with (
        echoing(Timeout(after_bytes=1000)) as proxy,
        await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream,
    ):
        await stream.send_all(DATA)
        received = b""
        with trio.move_on_after(0.3):
            while data := await stream.receive_some():
                received += data
        assert received == DATA[:1000]


async def test_an_end_after_so_many_bytes() -> None:
    async with echoing(LimitData(after_bytes=1000)) as proxy:
        assert await said(proxy, end=False) == DATA[:1000]


async def test_a_reset_after_so_many_bytes() -> None:
    async with echoing(ResetPeer(after_bytes=1000)) as proxy:
        received = await said(proxy, end=False)
        # A reset may overtake what was sent before it.
        assert received.endswith(b"!")
        assert DATA.startswith(received[:-1])


async def test_down_ends_what_there_is_and_lets_nobody_in() -> None:
    async with echoing() as proxy, await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        proxy.down()
        assert await stream.receive_some() == b""
        assert await said(proxy, b"", end=False) in (b"", b"!")
        proxy.up()
        assert await said(proxy) == DATA
