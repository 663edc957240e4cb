"""A connection that has changed to WebSocket: messages in, events out, in order and at their pace.

wsproto keeps the frames; `openai_api.sockets` knows what is said. Each response has an entry of its own in
the ledger, and the upgrade one as well. Of the behaviours these work here: what is answered and reported,
`pace_ms`, `ttft_ms`, `error`, `die_after`, `hang_after`, `pings` (of the protocol) and `split` (a message in
pieces of N bytes).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from typing import TYPE_CHECKING

import msgspec
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from bench.sim.behaviour import Behaviour
from bench.sim.ledger import Entry
from bench.sim.openai_api.sockets import PATHS, Realtime, Responses
from bench.sim.request import Request
from bench.sim.sse import Event

if TYPE_CHECKING:
    from bench.sim.app import Simulator
    from bench.sim.connection import Connection

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MESSAGES_WAITING_MAX = 1_000
"""A client that asks more without listening is cut off."""


def wants_socket(request: Request) -> bool:
    """True for an opening handshake that this provider takes."""
    upgrade = request.header_map.get(b"upgrade", b"").lower()
    return upgrade == b"websocket" and request.path in PATHS and request.entry.refused is None


class WebSocket:
    """One socket. `receive` is fed by the connection; `run` is its task."""

    def __init__(self, connection: Connection, simulator: Simulator, request: Request) -> None:
        self._connection = connection
        self._simulator = simulator
        self._frames = Frames(ConnectionType.SERVER)
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue(MESSAGES_WAITING_MAX)
        self._text = ""
        realtime = request.path == "/v1/realtime"
        self._side = Realtime(request) if realtime else Responses(simulator.state, request)
        self._entry = request.entry
        self._request = request

    def accept(self) -> bytes:
        """The answer to the handshake."""
        key = self._request.header_map.get(b"sec-websocket-key", b"")
        proof = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
        offered = self._request.header_map.get(b"sec-websocket-protocol", b"").split(b",")[0].strip()
        chosen = b"sec-websocket-protocol: %b\r\n" % offered if offered else b""
        self._entry.status = 101
        self._entry.first_byte_at = time.time()
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: %b\r\nx-request-id: %b\r\nset-cookie: __cf_bm=x\r\n%b\r\n"
        ) % (proof, self._entry.request_id.encode(), chosen)

    def receive(self, data: bytes) -> None:
        """Bytes of the client."""
        try:
            self._frames.receive_data(data)
            for event in self._frames.events():
                if isinstance(event, TextMessage):
                    self._text += event.data
                    if event.message_finished:
                        self._waiting.put_nowait(self._text)
                        self._text = ""
                elif isinstance(event, Ping):
                    self._connection.write(self._frames.send(event.response()))
                elif isinstance(event, CloseConnection):
                    self._connection.write(self._frames.send(event.response()))
                    self._waiting.put_nowait(None)
        except (RemoteProtocolError, asyncio.QueueFull):
            self._connection.die(abruptly=True)

    async def run(self) -> None:
        """Answer messages in their order until the client closes."""
        try:
            for event in self._side.greet():
                await self._send(event.data, None)
            while (message := await self._waiting.get()) is not None:
                await self._answer(message)
            self._entry.completed = True
        except LocalProtocolError:
            # The client has closed within an answer.
            pass
        finally:
            self._entry.ended_at = time.time()
        self._connection.close()

    async def _answer(self, message: str) -> None:
        document = msgspec.json.decode(message)
        behaviour, model, events = self._side.answer(document)
        entry: Entry | None = None
        for index, event in enumerate(events):
            if entry is None and b'"type":"response.created"' in event.data:
                entry = self._simulator.ledger.open("openai")
                entry.model, entry.status, entry.streamed = model, 200, True
                entry.path = self._request.path
                entry.connection_id = self._entry.connection_id
                entry.credential, entry.credential_header = self._entry.credential, "authorization"
                entry.first_byte_at = time.time()
            if not await self._obey(behaviour, index, event, entry):
                return
            await self._send(event.data, behaviour)
            if entry is not None:
                entry.events_sent += 1
                entry.tokens_sent += event.tokens
                entry.bytes_sent += len(event.data)
                entry.usage = event.usage or entry.usage
        if entry is not None:
            entry.completed, entry.ended_at = True, time.time()

    async def _obey(self, behaviour: Behaviour, index: int, event: Event, entry: Entry | None) -> bool:
        """What comes before an event; False when it ended the connection."""
        if index == behaviour.die_after:
            self._connection.die(abruptly=behaviour.die == "rst")
            return False
        if index == behaviour.hang_after:
            await asyncio.get_running_loop().create_future()
        if behaviour.pings and index % behaviour.pings == behaviour.pings - 1:
            self._connection.write(self._frames.send(Ping(payload=b"sim")))
        if event.tokens:
            first = entry is not None and entry.tokens_sent == 0
            await asyncio.sleep((behaviour.ttft_ms if first else behaviour.pace_ms) / 1000)
        return True

    async def _send(self, payload: bytes, behaviour: Behaviour | None) -> None:
        said = payload.decode()
        size = behaviour.split if behaviour is not None and behaviour.split else len(said) or 1
        for start in range(0, len(said), size):
            last = start + size >= len(said)
            piece = TextMessage(data=said[start : start + size], message_finished=last)
            self._connection.write(self._frames.send(piece))
            await asyncio.sleep(0)
        await self._connection.writable.wait()
