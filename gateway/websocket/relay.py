"""A WebSocket on its way: frames as they came, in both directions, until one side ends it or Karta must.

Each direction is a task that reads, shows what it read to `turns`, and writes the same bytes: the next read
waits for the write, so that a side that stops reading stops the other. What a client sends is held until a
message is whole, because a message that asks for something must be admitted before any of it goes up; and one
that names a route's alias goes up anew, with the target's name for the model.

Karta says something of its own in two cases only: an error event for a message that was refused, between two
messages of the provider's; and a close frame at the end, with an error event before it where there is a
reason to tell. When the provider breaks off within a frame, nothing could be read as that: then the
connection just breaks.

Bounds: a client's message is `body_bytes_max`, and twice that with the heads of its frames; a write
`write_stall_seconds`; silence of both sides `socket_idle_seconds`, of the provider within a response
`between_bytes_seconds`; a farewell some seconds.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable

import msgspec
import trio

from gateway import wire
from gateway.authorize import Grant
from gateway.connection import Connection
from gateway.dial import Upstream
from gateway.ending import ending_of
from gateway.limits import Limits
from gateway.refusal import Dialect, Kind, Refusal, error_body
from gateway.wait import Overdue
from gateway.websocket.frames import (
    CLOSE,
    GOING_AWAY,
    INTERNAL,
    POLICY,
    TOO_BIG,
    FrameError,
    FrameReader,
    Message,
    close_frame,
    text_frame,
)
from gateway.websocket.turns import Turns
from storage.model import Outcome

_LOOK_SECONDS = 1.0
"""Between two looks at the clock, the key's standing and whether this worker stops."""
_FAREWELL_SECONDS = 5.0
_PIECE_BYTES = 64 * 1024
_REFUSALS_UNSENT_MAX = 64
_FRAMES_AT_ONCE = 16
"""Of one read, which may hold ten thousand of six bytes: then others are served."""


class _Ended(Exception):
    """How it ends; raised in whatever task finds out."""

    def __init__(
        self, outcome: Outcome, code: int | None = None, reason: str = "", refusal: Refusal | None = None
    ) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.code = code
        """What the close frame to the client says; None where the sides have said it themselves."""
        self.reason = reason
        self.refusal = refusal


class Relay:
    """One socket. It stands in the connection's `exchange`, and is told there when it must end."""

    def __init__(
        self,
        connection: Connection,
        upstream: Upstream,
        grant: Grant,
        turns: Turns,
        limits: Limits,
        request_id: str,
    ) -> None:
        self.grant = grant
        self._connection = connection
        self._upstream = upstream
        self._turns = turns
        self._limits = limits
        self._request_id = request_id
        bytes_max = limits.body_bytes_max
        self._up_reader = FrameReader(masked=True, message_bytes_max=bytes_max, keep_ends=False)
        self._down_reader = FrameReader(masked=False, message_bytes_max=bytes_max, keep_ends=True)
        self._scope = trio.CancelScope()
        self._ended: _Ended | None = None
        self._unsent: list[bytes] = []
        """Error events that wait for the end of a provider's message."""
        self._down_lock = trio.Lock()
        self._between_frames = self._between_messages = True
        """Where the client stands, who has what was written: `_down_reader` may be further by a read."""
        self._torn = False
        """A write to the client was cut short: nothing can follow it."""
        self._up_torn = False
        self._heard_at = self._told_at = self._closing_at = trio.current_time()
        self._draining = False

    async def run(self, first: bytes) -> None:
        """Relay until it ends. `first` is what of the provider's frames came along with its answer."""
        connection = self._connection
        connection.exchange = self
        connection.on_drain = self.drain
        outcome = Outcome.CLIENT_GONE
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._run_direction, self._down, first)
                    nursery.start_soon(self._run_direction, self._up, b"")
                    nursery.start_soon(self._look)
            assert self._ended is not None
            outcome = self._ended.outcome
        finally:
            connection.exchange = connection.on_drain = None
            # Before the client can see the end.
            self._turns.end(outcome)
            self._leave_upstream()
        if self._say_end(self._ended):
            # The client answers it, and is not to find a connection that was reset.
            await connection.linger()

    # What the connection tells.

    def expire(self, overdue: Overdue) -> None:
        """A socket keeps its own time, so that this does not happen."""
        self.fail(overdue)

    def fail(self, error: Exception) -> None:
        """Karta itself ends it: the worker's patience has, or the key."""
        ending = ending_of(error)
        code = GOING_AWAY if ending.outcome is Outcome.STOPPED else POLICY
        self._stop(_Ended(ending.outcome, code, ending.refusal.message, ending.refusal))

    def leave(self) -> None:
        """The client has gone: what runs for it is cancelled by its connection."""

    def drain(self) -> None:
        """The worker stops: no more responses, and those under way may end."""
        self._draining = True
        if not len(self._turns):
            self.expire_idle()

    def expire_idle(self) -> None:
        self._stop(_Ended(Outcome.COMPLETED, GOING_AWAY, "this gateway is stopping"))

    def _stop(self, ended: _Ended) -> None:
        if self._ended is None:
            self._ended = ended
            self._scope.cancel()

    # The two directions, and the clock.

    async def _run_direction(self, direction: Callable[[bytes], object], first: bytes) -> None:
        try:
            await direction(first)  # type: ignore[misc]
        except _Ended as ended:
            self._stop(ended)
        except FrameError as error:
            broken = Outcome.UPSTREAM_FAILED if direction == self._down else Outcome.CLIENT_GONE
            code = INTERNAL if direction == self._down else error.code
            self._stop(_Ended(broken, code, str(error)))
        except Refusal as refusal:
            self._stop(_Ended(Outcome.REFUSED, POLICY, refusal.message, refusal))

    async def _up(self, _first: bytes) -> None:
        held = bytearray()
        frame_at = 0
        """Where in it the frame under way begins."""
        while True:
            # One that always has something to read must not keep the others from it.
            await trio.lowlevel.checkpoint()
            try:
                data = await self._connection.transport.receive()
            except (OSError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise _Ended(Outcome.CLIENT_GONE)
            self._told_at = trio.current_time()
            at = 0
            for number, frame in enumerate(self._up_reader.feed(data), 1):
                if number % _FRAMES_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
                held += data[at : frame.end]
                at = frame.end
                if self._up_reader.closed:
                    self._closing_at = trio.current_time()
                if frame.opcode >= CLOSE:
                    # May come within a message, and waits for none.
                    await self._send_up(bytes(held[frame_at:]))
                    del held[frame_at:]
                elif frame.message is not None:
                    await self._send_up(await self._admitted(frame.message.whole(), bytes(held)))
                    held.clear()
                frame_at = len(held)
            held += data[at:]
            if len(held) > 2 * self._limits.body_bytes_max:
                raise FrameError(TOO_BIG, "a message is in too many pieces")

    async def _admitted(self, message: bytes, held: bytes) -> bytes:
        """What goes up for the client's message (which is never more than its bound, and so here whole): what
        came, another message in its place, or nothing; the client is told why then."""
        if self._draining:
            refusal = Refusal(Kind.UNAVAILABLE, "This gateway is stopping: connect again.", retry_after=1)
        else:
            try:
                told = await self._turns.ask(message)
            except Refusal as refused:
                refusal = refused
            else:
                return held if told is message else text_frame(told, masked=True)
        if len(self._unsent) >= _REFUSALS_UNSENT_MAX:
            raise _Ended(Outcome.REFUSED, POLICY, refusal.message, refusal)
        self._unsent.append(text_frame(self._error_event(refusal)))
        async with self._down_lock:
            await self._send_refusals()
        return b""

    async def _send_up(self, data: bytes) -> None:
        self._up_torn = True
        try:
            await self._send(self._upstream.transport, data)
        except (OSError, trio.ClosedResourceError):
            raise self._broken() from None
        except trio.TooSlowError:
            raise _Ended(Outcome.TIMED_OUT, INTERNAL, "the provider stopped reading") from None
        self._up_torn = False

    async def _down(self, data: bytes) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            if data:
                self._heard_at = trio.current_time()
                for number, frame in enumerate(self._down_reader.feed(data), 1):
                    if number % _FRAMES_AT_ONCE == 0:
                        await trio.lowlevel.checkpoint()
                    if frame.message is not None:
                        await self._tell(frame.message, data, frame.end)
                await self._send_down(data)
                if self._down_reader.closed:
                    self._closing_at = trio.current_time()
            try:
                data = await self._upstream.transport.receive()
            except (OSError, trio.ClosedResourceError):
                raise self._broken() from None
            if not data:
                raise self._broken()

    async def _tell(self, message: Message, data: bytes, end: int) -> None:
        """A provider's message, which ends there in `data`, is counted before it goes down. One that is
        refused goes down too: its beginning may have gone already, and what came before it is counted."""
        try:
            self._turns.told(message)
        except Refusal:
            await self._send_down(data[:end])
            raise

    def _broken(self) -> _Ended:
        if self._down_reader.closed or self._up_reader.closed:
            return _Ended(Outcome.COMPLETED if self._down_reader.closed else Outcome.CLIENT_GONE)
        refusal = Refusal(Kind.UPSTREAM_BROKEN, "The provider broke off.")
        return _Ended(Outcome.UPSTREAM_FAILED, INTERNAL, refusal.message, refusal)

    async def _send_down(self, data: bytes) -> None:
        async with self._down_lock:
            await self._write_down(data)
            # Nothing is fed while this waits for the lock or writes: this is where those bytes end.
            self._between_frames = self._down_reader.between_frames
            self._between_messages = self._down_reader.between_messages
            await self._send_refusals()

    async def _send_refusals(self) -> None:
        while self._unsent and self._between_messages and not self._down_reader.closed:
            await self._write_down(self._unsent.pop(0))

    async def _write_down(self, data: bytes) -> None:
        self._torn = True
        try:
            await self._send(self._connection.transport, data)
        except trio.TooSlowError:
            raise _Ended(Outcome.TIMED_OUT) from None
        except (OSError, trio.ClosedResourceError):
            raise _Ended(Outcome.CLIENT_GONE) from None
        self._torn = False

    async def _send(self, transport: wire.Transport, data: bytes) -> None:
        """A piece at a time, each with its own time: one that advances is no stall."""
        for at in range(0, len(data), _PIECE_BYTES):
            piece = data[at : at + _PIECE_BYTES]
            sent = transport.send_now(piece)
            if sent < len(piece):
                with trio.fail_after(self._limits.write_stall_seconds):
                    await transport.send_rest(piece, sent)

    async def _look(self) -> None:
        """What no byte tells of."""
        limits = self._limits
        while True:
            await trio.sleep(_LOOK_SECONDS)
            now = trio.current_time()
            try:
                if not len(self._turns):
                    # An answer of a key that merely expires may end. What is revoked is cut by `cutting`.
                    self._turns.check_standing()
            except Refusal as refusal:
                return self._stop(_Ended(Outcome.REFUSED, POLICY, refusal.message, refusal))
            if self._down_reader.closed or self._up_reader.closed:
                if now - self._closing_at > _FAREWELL_SECONDS:
                    return self._stop(self._broken())
            elif self._draining and not len(self._turns):
                return self.expire_idle()
            elif len(self._turns) and now - max(self._heard_at, self._told_at) > limits.between_bytes_seconds:
                late = Refusal(Kind.UPSTREAM_TIMEOUT, "The provider did not answer in time.")
                return self._stop(_Ended(Outcome.TIMED_OUT, INTERNAL, late.message, late))
            elif now - max(self._heard_at, self._told_at) > limits.socket_idle_seconds:
                return self._stop(_Ended(Outcome.TIMED_OUT, GOING_AWAY, "nothing was said for too long"))

    # The end.

    def _leave_upstream(self) -> None:
        """The provider learns at once that nobody listens any more."""
        upstream = self._upstream
        upstream.spoiled = True
        if not self._up_torn and not self._up_reader.closed:
            with contextlib.suppress(OSError):
                upstream.transport.send_now(close_frame(GOING_AWAY, "", masked=True))
        upstream.pool.give_back(upstream)

    def _say_end(self, ended: _Ended) -> bool:
        """Without waiting: whoever does not take it has had its time. False when it could not be said."""
        connection, reader = self._connection, self._down_reader
        data = b""
        if ended.code is not None and not reader.closed and self._between_frames and not self._torn:
            if ended.refusal is not None and self._between_messages:
                data = text_frame(self._error_event(ended.refusal))
            data += close_frame(ended.code, ended.reason)
        elif not reader.closed or self._torn:
            connection.abort()
            return False
        try:
            sent = connection.transport.send_now(data) if data else 0
        except OSError:
            sent = -1
        if sent < len(data):
            connection.abort()
        return sent >= len(data)

    def _error_event(self, refusal: Refusal) -> bytes:
        """The form that both APIs' sockets have in common."""
        body = msgspec.json.decode(
            error_body(refusal.kind, refusal.message, Dialect.OPENAI, self._request_id)
        )
        return msgspec.json.encode(
            {
                "type": "error",
                "event_id": f"event_{secrets.token_hex(12)}",
                "status": refusal.status,
                "error": {**body["error"], "event_id": None},
            }
        )
