"""The relay between real sockets: bytes unchanged, connections reused, deaths told truthfully."""

import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from bench.load.learn import learn_expectation
from bench.load.plan import Question
from bench.process import child_process
from bench.relay.server import accept_connections, send_all
from bench.relay.upstream import UpstreamPool
from tests.bench.scripted_server import (
    CLOSE,
    RESET,
    Asked,
    Script,
    ScriptedServer,
    chunk,
    events,
    scripted_server,
    stream_head,
    unary,
)

DEADLINE_SECONDS = 10.0
REQUEST = b"POST /v1/messages HTTP/1.1\r\nHost: karta\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def relay_to(upstream_url: str) -> AsyncIterator[int]:
    """Run a relay in this process; gives its port."""
    pool = UpstreamPool(upstream_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_connections, listener, pool)
            with trio.fail_after(DEADLINE_SECONDS):
                yield listener.getsockname()[1]
            nursery.cancel_scope.cancel()
    pool.close()


@asynccontextmanager
async def relayed(script: Script) -> AsyncIterator[tuple[ScriptedServer, trio.SocketStream]]:
    """A scripted upstream, a relay to it, and a connection to the relay."""
    with scripted_server(script) as server:
        async with relay_to(server.base_url) as port, await trio.open_tcp_stream("127.0.0.1", port) as client:
            yield server, client


async def read_exactly(client: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await client.receive_some(count - len(data))
        assert more, f"closed after {data!r}"
        data += more
    return data


async def read_to_end(client: trio.SocketStream) -> bytes:
    data = b""
    try:
        while more := await client.receive_some():
            data += more
    except trio.BrokenResourceError:
        pass
    return data


async def test_answers_come_back_unchanged_over_one_connection_each_way() -> None:
    answer = unary(b'{"a":1}', headers="X-Odd-Case: kept\r\n")
    async with relayed(lambda _: [answer]) as (server, client):
        for _ in range(3):
            await client.send_all(REQUEST)
            assert await read_exactly(client, len(answer)) == answer
        assert server.connections == 1
        assert server.asked[0].head == (
            f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\nContent-Length: 2".encode()
        )
        assert server.asked[2].body == b"{}"


async def test_a_request_cut_anywhere_arrives_whole() -> None:
    async with relayed(lambda asked: [unary(asked.body)]) as (_, client):
        for piece in (REQUEST[:10], REQUEST[10:40], REQUEST[40:-1], REQUEST[-1:]):
            await client.send_all(piece)
            await wait_all_tasks_blocked(0.005)
        assert await read_exactly(client, len(unary(b"{}"))) == unary(b"{}")


async def test_a_chunked_upload_keeps_its_framing() -> None:
    pieces = [chunk(b"x" * 70_000), chunk(b"y"), chunk(b"")]
    async with relayed(lambda _: [unary(b"done")]) as (server, client):
        await client.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in pieces:
            await client.send_all(piece)
        assert await read_exactly(client, len(unary(b"done"))) == unary(b"done")
        assert server.asked[0].body == b"".join(pieces)


async def test_a_client_that_waits_for_100_continue_gets_one() -> None:
    async with relayed(lambda asked: [unary(asked.body)]) as (_, client):
        await client.send_all(
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
        )
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await read_exactly(client, len(interim)) == interim
        await client.send_all(b"ok")
        assert (await read_exactly(client, len(interim + unary(b"ok")))).endswith(unary(b"ok"))


async def test_events_pass_one_by_one() -> None:
    # Each event is written only after the client has read the one before: what holds any back ends in a
    # timeout.
    seen = [threading.Event() for _ in range(3)]
    pieces = [stream_head(), *(chunk(event) for event in events(3))]

    def script(_: Asked) -> Iterator[bytes]:
        yield pieces[0]
        for gate, piece in zip(seen, pieces[1:], strict=True):
            assert gate.wait(DEADLINE_SECONDS)
            yield piece

    async with relayed(script) as (_, client):
        await client.send_all(REQUEST)
        for gate, piece in zip([*seen, threading.Event()], pieces, strict=True):
            assert await read_exactly(client, len(piece)) == piece
            gate.set()


async def test_a_large_answer_meets_a_slow_reader() -> None:
    body = bytes(range(256)) * 40_000
    async with relayed(lambda _: [unary(body)]) as (_, client):
        await client.send_all(REQUEST)
        await wait_all_tasks_blocked(0.05)
        assert await read_exactly(client, len(unary(body))) == unary(body)


async def test_an_upstream_that_dies_in_mid_stream_ends_the_client_too() -> None:
    pieces = [stream_head(), chunk(events(3)[0])]
    async with relayed(lambda _: [*pieces, RESET]) as (_, client):
        await client.send_all(REQUEST)
        assert b"".join(pieces).startswith(await read_to_end(client))


async def test_an_answer_that_ends_with_its_connection_does_so_for_the_client() -> None:
    answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall of it"
    async with relayed(lambda _: [answer, CLOSE]) as (_, client):
        await client.send_all(REQUEST)
        assert await read_to_end(client) == answer


async def test_head_has_no_body_to_wait_for() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"
    async with relayed(lambda _: [answer]) as (_, client):
        await client.send_all(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert await read_to_end(client) == answer


async def test_a_connection_that_went_stale_is_replaced() -> None:
    def script(asked: Asked) -> list[bytes | float | str]:
        # The first connection answers once and is closed as soon as it is used again.
        return [CLOSE] if asked.connection == 1 and asked.number > 1 else [unary(b"%d" % asked.connection)]

    async with relayed(script) as (server, client):
        for expected in (b"1", b"2"):
            await client.send_all(REQUEST)
            assert await read_exactly(client, len(unary(expected))) == unary(expected)
        assert server.connections == 2


@pytest.mark.parametrize("fault", [CLOSE, RESET])
async def test_no_answer_at_all_is_a_502(fault: str) -> None:
    async with relayed(lambda _: [fault]) as (_, client):
        await client.send_all(REQUEST)
        assert (await read_to_end(client)).startswith(b"HTTP/1.1 502 ")


async def test_no_upstream_is_a_502() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = listener.getsockname()[1]
    async with (
        relay_to(f"http://127.0.0.1:{nobody}") as port,
        await trio.open_tcp_stream("127.0.0.1", port) as client,
    ):
        await client.send_all(REQUEST)
        assert (await read_to_end(client)).startswith(b"HTTP/1.1 502 ")


async def test_what_is_not_http_is_hung_up_on() -> None:
    async with relayed(lambda _: [unary(b"{}")]) as (server, client):
        await client.send_all(b"\x16\x03\x01 hello\r\n\r\n")
        assert await read_to_end(client) == b""
        assert server.asked == []


async def test_send_all_waits_for_room() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        data = b"z" * 3_000_000
        received = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, ours, data)
            reader = trio.socket.from_stdlib_socket(
                socket.fromfd(theirs.fileno(), theirs.family, theirs.type)
            )
            with reader:
                while received < len(data):
                    received += len(await reader.recv(65_536))
        assert received == len(data)


async def test_the_program_relays_to_the_simulated_provider(provider_url: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "bench.relay", "--port", "0", "--upstream", provider_url, "--json"]
    async with child_process(argv, stderr_path=tmp_path / "stderr") as child:
        base_url = (await child.announcement(DEADLINE_SECONDS))["base_url"]
        for question in (Question(behaviour="tokens=5"), Question(behaviour="tokens=5", stream=True)):
            through = await learn_expectation(base_url, question, "sk-test")
            assert through == await learn_expectation(provider_url, question, "sk-test")
            assert through.body_crc32 is not None
    assert child.returncode == 0
    assert child.stderr_end() == ""
