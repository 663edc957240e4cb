"""Both ends of a WebSocket through the gateway, on raw connections, with wsproto to keep the frames."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from tests.support.gateway import RunningGateway
from tests.support.raw_client import Answer, RawClient
from tests.support.scripted_provider import Line

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
REALTIME = "/v1/realtime?model=gpt-realtime"
RESPONSES = "/v1/responses"
CREATED = {"type": "response.created", "response": {"id": "resp_1", "usage": None}}
DELTA = {"type": "response.output_text.delta", "response_id": "resp_1", "delta": "word"}
USAGE = {"input_tokens": 30, "output_tokens": 5, "input_token_details": {"cached_tokens": 10}}
DONE = {"type": "response.done", "response": {"id": "resp_1", "usage": USAGE}}
COMPLETED = {
    "type": "response.completed",
    "response": {"id": "resp_1", "model": "gpt-test-1", "usage": {"input_tokens": 8, "output_tokens": 2}},
}


def opening(token: str, path: str = REALTIME, *lines: str, key: str = KEY) -> bytes:
    """A client's handshake, as the `websockets` library writes it."""
    fields = [
        f"GET {path} HTTP/1.1",
        "Host: karta",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        f"Authorization: Bearer {token}",
        *lines,
    ]
    return "\r\n".join(fields).encode() + b"\r\n\r\n"


def proof(key: str = KEY) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


class Closed(Exception):
    """The other side has sent a close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Side:
    """Messages over something with `send` and `receive`."""

    def __init__(self, transport: Any, kind: ConnectionType) -> None:
        self.transport = transport
        self.frames = Connection(kind)
        self._events: list[Event] = []
        self.pongs = 0
        self.raw = b""
        """Every byte that came."""

    async def send(self, *messages: Any) -> None:
        """Each as one text message (bytes: as a binary one)."""
        data = b""
        for message in messages:
            binary = isinstance(message, bytes)
            event = BytesMessage(message) if binary else TextMessage(json.dumps(message))
            data += self.frames.send(event)
        await self.transport.send(data)

    async def close(self, code: int = 1000) -> None:
        await self.transport.send(self.frames.send(CloseConnection(code, "bye")))

    def take(self, data: bytes) -> None:
        self.raw += data
        self.frames.receive_data(data)
        self._events += self.frames.events()

    async def next(self) -> Any:
        """The next message, parsed. Raises `Closed`, and `EOFError` at a bare end."""
        text = ""
        while True:
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, TextMessage):
                    text += event.data
                    if event.message_finished:
                        return json.loads(text)
                elif isinstance(event, CloseConnection):
                    raise Closed(event.code, event.reason or "")
                elif isinstance(event, Ping):
                    await self.transport.send(self.frames.send(event.response()))
                elif isinstance(event, Pong):
                    self.pongs += 1
            data = await self.transport.receive()
            if not data:
                raise EOFError
            self.take(data)

    async def until(self, kind: str) -> list[Any]:
        """Messages up to the first of a type."""
        found = [await self.next()]
        while found[-1]["type"] != kind:
            found.append(await self.next())
        return found


class ClientSide(Side):
    def __init__(self, client: RawClient, answer: Answer) -> None:
        super().__init__(client, ConnectionType.CLIENT)
        self.client = client
        self.answer = answer
        if client._unread:
            data, client._unread = client._unread, b""
            self.take(data)


@asynccontextmanager
async def connected(
    gateway: RunningGateway, token: str, path: str = REALTIME, *lines: str, **options: Any
) -> AsyncIterator[ClientSide]:
    """A client whose handshake has been answered with 101."""
    async with gateway.client(**options) as client:
        await client.send(opening(token, path, *lines))
        answer = await client.read_head()
        assert answer.status == 101, answer
        yield ClientSide(client, answer)


async def accept(line: Line, *lines: str, first: bytes = b"") -> Side:
    """The provider's end, once it has agreed; `first` goes out in one write with the answer."""
    head = await line.read_head()
    key = next(row for row in head.decode().split("\r\n") if row.lower().startswith("sec-websocket-key"))
    fields = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {proof(key.split(': ')[1])}",
        *lines,
    ]
    await line.send("\r\n".join(fields).encode() + b"\r\n\r\n" + first)
    side = Side(line, ConnectionType.SERVER)
    if unread := line.take_unread():
        side.take(unread)
    return side
