"""OpenAI's Live API: a session on a socket, which costs by the second for as long as it lasts.

`session.start` names the model, so it is what is admitted. The provider tells the seconds of sound by and by,
cumulated (`session.usage.updated`, `session.closed`). Each minute of them is a request: reserved before it
begins, with a usage row when it is over, so that a limit holds within a session, and a killed worker loses a
minute at most. Where nothing is left for the next one, the socket is cut. What the session delegates to the
Responses API is told as that API's own events within others, and each such response has its row when it ends.

Other sockets of a session, which tell of the same seconds, are not forwarded (`upgrade`).
"""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec

from gateway.authorize import Grant
from gateway.body_fields import BodyFields, Lenient, Other
from gateway.members import renamed_within
from gateway.meter import Metering
from gateway.named_once import refuse_second
from gateway.refusal import Dialect, Kind, Refusal
from gateway.tally import Tally
from gateway.websocket.frames import Message
from gateway.websocket.turns import ENDS, Turns, require_journal, with_length
from gateway.websocket.upgrade import LIVE
from storage.model import Outcome

MINUTE_MS = 60_000
_SESSION_SECONDS_MAX = 7 * 86_400
# What is reserved for a minute, as text of so many bytes: at the rate for what has no price by the token that
# is a little more than a minute costs.
_MINUTE_BYTES = 1200


class _Start(msgspec.Struct, gc=False):
    """`session` of a client's `session.start`."""

    model: str | Other | None = None


class _Session(msgspec.Struct, gc=False):
    id: str | None = None


class _Asked(msgspec.Struct, gc=False):
    """A client's event."""

    type: str | Other | None = None
    session: msgspec.Raw = msgspec.Raw()


class _Usage(msgspec.Struct, gc=False):
    seconds: float | None = None


class _Told(msgspec.Struct, gc=False):
    """A provider's event."""

    type: str | None = None
    session: _Session | None = None
    usage: _Usage | None = None
    event: msgspec.Raw = msgspec.Raw()


# A message that is too long to be kept says what it is before the first member that is no plain value, as all
# that OpenAI tells does.
_BEFORE = rb'\s*\{\s*(?:"\w+"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,\s*)*?'
_TYPE = re.compile(_BEFORE + rb'"type"\s*:\s*"([\w.]+)"')
_NESTED = re.compile(_BEFORE + rb'"event"\s*:')

_asked_decoder = Lenient(_Asked)
_start_decoder = Lenient(_Start)
_told_decoder = msgspec.json.Decoder(_Told)


class Live(Turns):
    """The minutes of one session, and the responses that it delegates."""

    def __init__(self, grant: Grant, **services: Any) -> None:
        super().__init__(grant, **services)
        # Delegated responses have models of their own, whatever a query says.
        self._model = None
        self._voice: str | None = None
        """The session's model, as the client names it."""
        self._minute: Metering | None = None
        self._session_id: str | None = None
        self._told_ms = 0
        self._counted_ms = 0
        """Of those, what has its row."""

    def __len__(self) -> int:
        return super().__len__() + (self._minute is not None)

    async def ask(self, message: bytes) -> bytes:
        try:
            asked = _asked_decoder.decode(message)
            if b"session.start" in message or b"\\u00" in message:
                refuse_second(message)
            if asked.type != "session.start":
                return message
            if self._minute is not None:
                # The provider would take the one it likes, and only the first was admitted.
                raise Refusal(Kind.MALFORMED, "A session has been started on this socket already.")
            session = _start_decoder.decode(bytes(asked.session)) if asked.session else _Start()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refusal(Kind.MALFORMED, "A message that is not a JSON object.") from None
        if not isinstance(session.model, str):
            raise Refusal(Kind.MALFORMED, "A session's start names its model: session.model.")
        require_journal(self._meter)
        grant = self._grant_of(session.model, message)
        # Before anything is held for it.
        told = message
        if grant.model not in (None, session.model):
            told = renamed_within(message, "session", grant.model)
        started_us = time.time_ns() // 1000
        reservation = await self._admission.reserve(with_length(grant, _MINUTE_BYTES), started_us)
        self._voice = session.model
        # Of another session than one before, if there was one.
        self._told_ms = self._counted_ms = 0
        self._minute = self._meter.begin(
            grant, self._new_request_id(), time.perf_counter(), started_us, reservation, len(message)
        )
        self._minute.sent = True
        return told

    def _grant_of(self, model: str | None, message: bytes) -> Grant:
        return self._turn_grant(BodyFields(model=model, max_output_tokens=0), message, LIVE)

    def told(self, message: Message) -> None:
        try:
            event = _told_decoder.decode(message.whole())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if message.ends is not None and _ends_response(message.ends.head):
                super().told(message)
            return
        kind = event.type or ""
        if kind == "response.event" and event.event:
            nested = Message(keep_ends=False)
            nested.add(bytes(event.event))
            super().told(nested)
        elif kind == "session.started":
            self._session_id = event.session.id if event.session is not None else None
            if self._minute is None:
                # An error about something else was taken for its end.
                self._begin_minute()
            assert self._minute is not None
            self._minute.status = 200
            self._minute.first_byte_us = self._minute.elapsed_us()
        elif kind in ("session.usage.updated", "session.closed"):
            self._take_seconds(event.usage, closed=kind == "session.closed")
        elif kind == "error" and self._minute is not None and self._minute.status == 0:
            # It did not start.
            self._close_minute(Outcome.COMPLETED, 400)

    def _take_seconds(self, usage: _Usage | None, *, closed: bool) -> None:
        seconds = usage.seconds if usage is not None else None
        if seconds is not None and 0 <= seconds <= _SESSION_SECONDS_MAX:
            # They are totals, and grow.
            self._told_ms = max(self._told_ms, round(seconds * 1000))
        if self._minute is None and self._told_ms > self._counted_ms:
            self._begin_minute()
        if self._minute is None or not (closed or self._told_ms - self._counted_ms >= MINUTE_MS):
            return
        self._close_minute(Outcome.COMPLETED, 200, final=True)
        if not closed:
            self._begin_minute()

    def _begin_minute(self) -> None:
        """Raises `Refusal` when nothing is left for one more."""
        require_journal(self._meter)
        grant = self._grant_of(self._voice, b"")
        started_us = time.time_ns() // 1000
        reservation = self._admission.reserve_now(with_length(grant, _MINUTE_BYTES), started_us)
        self._minute = self._meter.begin(
            grant, self._new_request_id(), time.perf_counter(), started_us, reservation, 0
        )
        self._minute.sent = True
        self._minute.status = 200

    def _close_minute(self, outcome: Outcome, status: int, *, final: bool = False) -> None:
        metering, self._minute = self._minute, None
        assert metering is not None
        metering.status = status
        metering.provider_request_id = self._session_id
        tally = metering.tally = Tally(Dialect.OPENAI, streamed=False)
        tally.streamed = True
        tally.audio_ms, self._counted_ms = self._told_ms - self._counted_ms, self._told_ms
        tally.parted = True
        # What was told is paid; if nothing was, nobody knows what it costs.
        tally.final = final or tally.audio_ms > 0
        metering.request_bytes = 0
        metering.settle(outcome)

    def end(self, outcome: Outcome) -> None:
        """The last minute is counted as far as it was told."""
        if self._minute is not None:
            self._close_minute(outcome, self._minute.status)
        super().end(outcome)


def _ends_response(head: bytes) -> bool:
    """Whether what begins so is the last event of a delegated response."""
    outer, nested = _TYPE.match(head), _NESTED.match(head)
    if outer is None or nested is None or outer[1] != b"response.event":
        return False
    inner = _TYPE.match(head, nested.end())
    return inner is not None and inner[1].decode() in ENDS
