"""What is written of an answer, and when. That there is no HTTP/2 is tested with the server."""

from __future__ import annotations

from hypercorn.config import Config
from hypercorn.events import Event, RawData
from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from admin.http1 import HTTP1

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
