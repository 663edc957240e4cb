"""One accepted connection: bytes in, requests out, answers written in order.

Strategy: an asyncio Protocol around httptools' C parser. An answer that can be written at once is, from
within the parser's callback and by a single write: no task, no await. Only answers that wait, break or flood
get a task (`delivery`). Requests that arrive while one is being answered (pipelining) queue up; a long queue
stops the reading. Bounds: 16 queued requests, 256 KiB of head; a body is bounded by `request`.
"""

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from bench.sim.answer import Answer
from bench.sim.connection_log import ConnectionRecord
from bench.sim.delivery import Delivery
from bench.sim.prepared import is_calm
from bench.sim.request import Request
from bench.sim.response_headers import REASONS, date_line, head
from bench.sim.web_socket import WebSocket, wants_socket

if TYPE_CHECKING:
    from bench.sim.app import Simulator

PIPELINED_MAX = 16
"""More than any client sends ahead; beyond it the sender waits in its socket."""
HEAD_BYTES_MAX = 256 * 1024
"""Far above what real edges take (8 to 64 KiB), so that it is the gateway's limit which is tested."""
LINGER_NONE = struct.pack("ii", 1, 0)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """The protocol object of one connection."""

    def __init__(self, simulator: "Simulator", tasks: asyncio.TaskGroup, peers: set["Connection"]) -> None:
        self._simulator = simulator
        self._tasks = tasks
        self._peers = peers
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self.record: ConnectionRecord
        self._request: Request | None = None
        self._waiting: deque[Request] = deque()
        self._answering: Request | None = None
        self._last: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._head_bytes = 0
        self._in_head = True
        self._deaf = False
        self._socket: WebSocket | None = None
        self._paused = False
        self.writable = asyncio.Event()
        self.writable.set()

    # ---- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface of asyncio.Transport without deriving from it.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.record = self._simulator.connections.accepted(peer)
        self._peers.add(self)

    def data_received(self, data: bytes) -> None:
        self.record.bytes_received += len(data)
        if self._deaf:
            return
        if self._socket is not None:
            self._socket.receive(data)
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and self._request is not None and not self._request.method:
                self.record.malformed = True
                self._refuse_bytes(431)
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._socket is None:
                # The request itself has been answered as an ordinary one; what follows is not HTTP.
                self._deaf = True
            elif data[upgrade.args[0] :]:
                self._socket.receive(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            # Not the sender's fault: a callback of ours raised.
            self._simulator.log_failure()
            self._refuse_bytes(500)
        except httptools.HttpParserError:
            self.record.malformed = True
            self._refuse_bytes(400)

    def eof_received(self) -> None:
        self._client_left()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if not self.record.closed_by_us:
            self._client_left()
        self.record.closed_at = time.time()
        self._simulator.connections.closed(self.record)
        self._peers.discard(self)
        self._stop_answering()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # ---- httptools' callbacks

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        if self._request is None:
            self._request = Request(url)
        else:
            self._request = Request(self._request.target + url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._request is not None:
            self._request.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        request = self._request
        assert request is not None
        self._in_head = False
        parser = self._parser
        request.method = parser.get_method().decode("latin-1")
        request.http10 = parser.get_http_version() == "1.0"
        request.keep_alive = parser.should_keep_alive()
        request.headers_complete()
        self._simulator.receive_head(request, self.record)
        expects = b"expect" in request.header_map
        if request.entry.refused is not None and expects:
            # As real edges do: the final answer instead of 100, and the body is never taken.
            self._answer_early(request)
        elif expects and self._answering is None:
            self._transport.write(CONTINUE)
        if b"x-sim-behaviour" in request.header_map and not self._deaf:
            self._obey_head(request)

    def on_body(self, data: bytes) -> None:
        if self._request is not None and not self._deaf:
            self._request.receive(data)

    def on_message_complete(self) -> None:
        request = self._request
        self._request = None
        if request is None or self._deaf:
            return
        request.entry.body_bytes = request.size_bytes
        if self._answering is None and wants_socket(request):
            self._change_protocol(request)
        elif self._answering is None:
            self._answer(request)
        else:
            self._waiting.append(request)
            if len(self._waiting) >= PIPELINED_MAX:
                self._paused = True
                self._transport.pause_reading()

    # ---- answering

    def _change_protocol(self, request: Request) -> None:
        """From here on the connection is a WebSocket."""
        self.record.requests += 1
        self._last = request
        self._socket = WebSocket(self, self._simulator, request)
        self._transport.write(self._socket.accept())
        self._task = self._tasks.create_task(self._run_socket(self._socket))

    async def _run_socket(self, socket: WebSocket) -> None:
        try:
            await socket.run()
        except Exception:
            self._simulator.log_failure()
            self.die(abruptly=True)

    def _obey_head(self, request: Request) -> None:
        """Behaviours that apply before the body: they can only come by the header."""
        behaviour = self._simulator.head_behaviour(request)
        if behaviour.die_at == "headers":
            self._deaf = True
            self.die(abruptly=behaviour.die == "rst")
        elif behaviour.read == "stop":
            self._deaf = True
            self._transport.pause_reading()
        elif behaviour.early:
            self._answer_early(request)

    def _answer_early(self, request: Request) -> None:
        """Answer without the body; behind an answer under way it must wait its turn like any other."""
        request.keep_alive = False
        if self._answering is None:
            self._deaf = True
            self._answer(request)

    def _answer(self, request: Request) -> None:
        self.record.requests += 1
        self._last = request
        simulator = self._simulator
        key = simulator.prepared.key(request) if request.entry.refused is None else None
        ready = simulator.prepared.find(key)
        answer: Answer | None = None
        if ready is None:
            answer = simulator.answer(request)
            ready = simulator.prepared.put(key, request, answer)
        if ready is not None and request.keep_alive:
            self._transport.write(ready.render(request.entry, time.time()))
            return
        if answer is None:
            answer = simulator.answer(request)
        if (
            answer.events is None
            and answer.pieces is None
            and request.keep_alive
            and is_calm(answer.behaviour)
        ):
            self._write_at_once(request, answer)
            return
        self._answering = request
        delivery = Delivery(self, request, answer)
        self._task = self._tasks.create_task(self._deliver(delivery))

    def _write_at_once(self, request: Request, answer: Answer) -> None:
        """An unhurried answer with a whole body, on a connection that stays: one write."""
        entry = request.entry
        framing = b"content-length: %d\r\n" % len(answer.body)
        body = b"" if request.method == "HEAD" else answer.body
        self._transport.write(head(answer, request.dialect, entry.request_id, framing) + body)
        entry.status = answer.behaviour.status or answer.status
        entry.bytes_sent = len(body)
        entry.tokens_sent = answer.tokens
        entry.usage = answer.usage
        entry.response_sha256 = answer.body_sha256()
        entry.first_byte_at = entry.ended_at = time.time()
        entry.completed = True

    async def _deliver(self, delivery: Delivery) -> None:
        """Deliver one answer, then go on with the requests that waited behind it."""
        try:
            keep = await delivery.run()
        except Exception:
            # A bug in one answer must not end the other connections' task group.
            self._simulator.log_failure()
            self.die(abruptly=True)
            return
        finally:
            self._answering = None
            self._task = None
        if not keep:
            self.close()
        while keep and self._waiting and self._answering is None:
            self._answer(self._waiting.popleft())
        if self._paused and len(self._waiting) < PIPELINED_MAX:
            self._paused = False
            self._transport.resume_reading()

    def _refuse_bytes(self, status: int) -> None:
        """Answer what is not HTTP as an edge does, and hang up."""
        self._deaf = True
        reason = REASONS[status]
        page = b"<html><head><title>%d %s</title></head><body></body></html>\r\n" % (status, reason)
        date = date_line.at(time.time())
        if self._answering is None:
            self._transport.write(
                b"HTTP/1.1 %d %s\r\n%bcontent-type: text/html\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%b" % (status, reason, date, len(page), page)
            )
        self.close()

    # ---- what a delivery needs

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        self._transport.write(data)

    async def flushed(self) -> None:
        """Wait until the kernel has taken all that was written, or the connection is gone."""
        await asyncio.sleep(0)
        # The transport tells of its low-water mark, never of emptiness; only planned deaths wait here.
        while self._transport.get_write_buffer_size() and not self._transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    def close(self) -> None:
        """Close in order: what was written is sent, then FIN."""
        self.record.closed_by_us = True
        self._transport.close()

    def die(self, *, abruptly: bool) -> None:
        """End the connection without ceremony: with a reset when `abruptly`, else with a bare FIN."""
        self.record.closed_by_us = True
        if not abruptly:
            self._transport.close()
            return
        raw = self._transport.get_extra_info("socket")
        # The transport's socket is not to be touched; a duplicate shares its options. Gone already: nothing
        # to reset.
        if raw is not None:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(raw.fileno())) as duplicate:
                duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        self._transport.abort()

    def _client_left(self) -> None:
        now = time.time()
        if self.record.client_closed_at is None:
            self.record.client_closed_at = now
        for request in (self._request, self._answering, self._last, *self._waiting):
            if request is not None and request.method and request.entry.client_closed_at is None:
                request.entry.client_closed_at = now
                request.entry.body_bytes = request.size_bytes
        self._stop_answering()

    def _stop_answering(self) -> None:
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
