"""What is written of an answer, and when, and when a connection ends. That there is no HTTP/2 is
tested with the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event, RawData
from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from admin.http1 import HTTP1, Idleness, Server, install
from tests.support.gateway import poll

STREAM = 1


async def written(method: bytes, *pieces: bytes) -> list[bytes]:
    """The writes that an answer of these pieces takes."""
    writes = []

    async def send(event: Event) -> None:
        assert isinstance(event, RawData)
        writes.append(event.data)

    protocol = HTTP1(
        app=None,  # type: ignore[arg-type]
        config=Config(),
        context=WorkerContext(None),
        task_group=None,  # type: ignore[arg-type]
        connection_state=ConnectionState({}),  # type: ignore[arg-type]
        ssl=False,
        client=None,
        server=None,
        send=send,
    )
    protocol.connection.receive_data(method + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    protocol.connection.next_event()
    length = str(sum(map(len, pieces))).encode()
    headers = [(b"content-length", length)]
    await protocol.stream_send(Response(stream_id=STREAM, headers=headers, status_code=200))
    for piece in pieces:
        await protocol.stream_send(Body(stream_id=STREAM, data=piece))
    await protocol.stream_send(EndBody(stream_id=STREAM))
    return writes


async def test_a_page_is_one_write() -> None:
    [write] = await written(b"GET", b"<p>Hello</p>")
    assert write.startswith(b"HTTP/1.1 200")
    assert write.endswith(b"\r\n\r\n<p>Hello</p>")


async def test_a_stream_is_written_piece_by_piece() -> None:
    first, second = await written(b"GET", b"one,", b"two")
    assert first.endswith(b"\r\n\r\none,")
    assert second == b"two"


async def test_an_answer_without_a_body_is_written_when_it_ends() -> None:
    [write] = await written(b"HEAD")
    assert write.startswith(b"HTTP/1.1 200")
    assert write.endswith(b"\r\n\r\n")


REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SECONDS_MAX = 30.0
BUSY_AFTER_SECONDS = 0.2
TRIES = 20


@asynccontextmanager
async def connection(
    idle_seconds: float, context: WorkerContext, answer: trio.Event, config: Config | None = None
) -> AsyncIterator[tuple[trio.SocketStream, trio.Event]]:
    """A client's end, and what is set when the server's is done. The app answers when it is told to."""
    install()

    async def app(_scope: object, _receive: object, send: Any) -> None:
        await answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = config or Config()
    config.keep_alive_timeout = idle_seconds
    done = trio.Event()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve() -> None:
        stream = await listeners[0].accept()
        await Server(ASGIWrapper(app), config, context, LifespanState({}), stream).run()  # type: ignore[arg-type]
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with await trio.open_tcp_stream(*listeners[0].socket.getsockname()[:2]) as client:
            with trio.fail_after(SECONDS_MAX):
                yield client, done
        await listeners[0].aclose()
        nursery.cancel_scope.cancel()


async def read_answer(client: trio.SocketStream) -> None:
    got = b""
    while not got.endswith(b"\r\n\r\nok"):
        piece = await client.receive_some()
        assert piece, "closed before the answer"
        got += piece


async def test_a_connection_ends_when_idle_and_not_while_busy() -> None:
    # Where the machine stands still between connection and request, the connection was idle, and has ended.
    for _ in range(TRIES):
        if await _is_kept_while_busy():
            return
    pytest.fail("it ends before it is asked anything")


async def _is_kept_while_busy() -> bool:
    """False where it was not in time."""
    answer, config = trio.Event(), Config()
    async with connection(BUSY_AFTER_SECONDS, WorkerContext(None), answer, config) as (client, done):
        await client.send_all(REQUEST)
        await poll(lambda: answer.statistics().tasks_waiting or done.is_set())
        if done.is_set():
            return False
        with trio.move_on_after(2 * BUSY_AFTER_SECONDS):
            pytest.fail(f"nothing is answered yet, but there came {bytes(await client.receive_some())!r}")
        config.keep_alive_timeout = 3600
        answer.set()
        await read_answer(client)
        # Idle for an hour if need be, busy once more, and then idle for a moment.
        config.keep_alive_timeout = 0.05
        await client.send_all(REQUEST)
        await read_answer(client)
        assert await client.receive_some() == b""
        await done.wait()
        return True


@pytest.mark.parametrize("asked", [False, True])
async def test_when_the_client_has_gone_so_is_the_connection(asked: bool) -> None:
    answer = trio.Event()
    answer.set()
    async with connection(3600, WorkerContext(None), answer) as (client, done):
        if asked:
            await client.send_all(REQUEST)
            await read_answer(client)
        await client.aclose()
        await done.wait()


@pytest.mark.parametrize("busy", [False, True])
async def test_a_stop_ends_it_at_once_or_after_its_answer(busy: bool) -> None:
    answer, context = trio.Event(), WorkerContext(None)
    async with connection(3600, context, answer) as (client, done):
        if busy:
            await client.send_all(REQUEST)
            await trio.testing.wait_all_tasks_blocked(0.1)
        await context.terminated.set()
        if busy:
            await trio.testing.wait_all_tasks_blocked(0.1)
            answer.set()
            await read_answer(client)
        assert await client.receive_some() == b""
        await done.wait()


class IdleServer:
    """What is known of a connection by what ends it."""

    def __init__(self, idle_seconds: float) -> None:
        self.config = Config()
        self.config.keep_alive_timeout = idle_seconds
        self.context = WorkerContext(None)
        self.has_ended = self.closed = False

    async def close_idle(self) -> None:
        self.closed = True


def test_a_request_that_comes_as_its_time_runs_out_is_answered() -> None:
    """In the same turn of the scheduler, which sees to the two in any order: so it is tried often."""
    servers = [IdleServer(10.0) for _ in range(64)]
    cut_off = []

    async def ask(server: IdleServer, idleness: Idleness, nursery: TaskGroup) -> None:
        await idleness.restart(nursery, ask)
        await trio.sleep(10.0)
        in_time = not server.closed
        await idleness.stop()
        await trio.sleep(1.0)
        if in_time and server.closed:
            cut_off.append(server)
        server.has_ended = True
        idleness.end()

    async def all_of_them() -> None:
        async with TaskGroup() as nursery:
            for server in servers:
                nursery.spawn(ask, server, Idleness(server), nursery)  # type: ignore[arg-type]
        assert cut_off == []

    trio.run(all_of_them, clock=trio.testing.MockClock(autojump_threshold=0))
    # Otherwise nothing was tried.
    assert {server.closed for server in servers} == {False, True}
