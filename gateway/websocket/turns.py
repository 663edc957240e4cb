"""What each response on a WebSocket may use, and what it used: one reservation and one usage row a response.

A client's message is shown to `ask` before it goes up: one that asks for a response passes the key's scope
and limits like a request of its own, or is refused and never reaches the provider. A provider's message is
shown to `told` before it goes down, so that what the client saw to its end is always counted.

Realtime's provider also begins responses by itself, when it hears somebody stop speaking. Such a response is
admitted when it says that it began; if a limit has none left, the socket is cut, and the provider stops.

What comes in over a conversation's life is the input of its next response. It is kept count of (`_context`):
what the last response told, and what the client sent since, sound at its own rate.

Bounds: `OPEN_MAX` responses at once; a message is one of `FrameReader`'s.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import msgspec

from gateway.admission import Admission
from gateway.api_request import APIRequest
from gateway.authorize import Grant, Upstreams, authorize_on, check_standing
from gateway.body_fields import BodyFields, Other
from gateway.members import renamed, renamed_within
from gateway.meter import Meter, Metering
from gateway.named_once import refuse_second
from gateway.operations import Operation
from gateway.refusal import Dialect, Kind, Refusal
from gateway.tally import Tally
from gateway.websocket.events import (
    TEXT_BYTES_PER_TOKEN,
    Asked,
    Told,
    asked_decoder,
    settings_of,
    tokens_of,
    told_decoder,
    transcriber_of,
)
from gateway.websocket.frames import Message
from gateway.websocket.upgrade import REALTIME, RESPONSE
from storage.model import Outcome

OPEN_MAX = 64
"""More responses at once than either API runs on one socket."""
NAMES_MAX = 16
"""Models that a realtime client may ask for in one session, one after the other."""
ANSWERED_MAX = 256
"""Responses that a client may go on from: those told last."""

_CREATE = "response.create"
ENDS = frozenset(f"response.{word}" for word in ("done", "completed", "incomplete", "failed", "cancelled"))
_TRANSCRIBED = "input_audio_transcription.completed"
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}\Z")
_NO_LINEENDS = bytes.maketrans(b"\r\n", b"  ")


class _Turn:
    """One response, from the moment it is admitted."""

    __slots__ = ("event_id", "grant", "metering", "response_id")

    def __init__(self, grant: Grant, metering: Metering, event_id: str | None) -> None:
        self.grant = grant
        self.metering = metering
        self.event_id = event_id
        self.response_id: str | None = None


class Turns:
    """The responses of one socket, whose own `grant` was given when it was opened."""

    def __init__(
        self,
        grant: Grant,
        *,
        upstreams: Upstreams,
        admission: Admission,
        meter: Meter,
        new_request_id: Callable[[], str],
    ) -> None:
        self._grant = grant
        self._upstreams = upstreams
        self._admission = admission
        self._meter = meter
        self._new_request_id = new_request_id
        self._realtime = grant.request.operation.path == REALTIME.path
        self._model = grant.request.model
        self._names: dict[str, str] = {}
        """By the provider's names of models the client's, of each that it asked for."""
        if self._model is not None:
            self._names[grant.model or self._model] = self._model
        self._wished: str | None = None
        """What it asked for last, to which the provider has not said anything yet."""
        self._transcriber: str | None = None
        """The model by which the provider says it writes down what the client says."""
        self._output_tokens_max: int | float | str | Other | None = None
        self._context = 0
        """Tokens of a realtime conversation so far, at most."""
        self._open: list[_Turn] = []
        self._answered: dict[str, None] = {}
        """Ids of responses that were told here, which are this client's for certain."""

    def __len__(self) -> int:
        """Responses under way."""
        return len(self._open)

    def check_standing(self) -> None:
        """Raises `Refusal` when the key or its organization may not go on."""
        check_standing(self._grant.caller, time.time())

    # The client's messages.

    async def ask(self, message: bytes) -> bytes:
        """A client's message, before it goes up; what is to go up. Raises `Refusal` when it must not."""
        try:
            asked = asked_decoder.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refusal(Kind.MALFORMED, "A message that is not a JSON object.") from None
        self._refuse_second_type(asked, message)
        if asked.type != _CREATE:
            self._context += tokens_of(asked, len(message))
            return self._take_settings(asked.session, message) if asked.type == "session.update" else message
        require_journal(self._meter)
        if len(self._open) >= OPEN_MAX:
            raise Refusal(Kind.RATE_LIMITED, f"More than {OPEN_MAX} responses at once.", retry_after=1)
        grant = self._turn_grant(self._fields(asked), message)
        # Before anything is held for it.
        told = message if self._realtime else _aimed(message, grant)
        started_us = time.time_ns() // 1000
        reservation = await self._admission.reserve(self._sized(grant), started_us)
        event_id = asked.event_id if isinstance(asked.event_id, str) else None
        began = time.perf_counter()
        metering = self._meter.begin(
            grant, self._new_request_id(), began, started_us, reservation, len(message)
        )
        metering.sent = True
        metering.sent_us = metering.elapsed_us()
        self._open.append(_Turn(grant, metering, event_id))
        return told

    def _refuse_second_type(self, asked: Asked, message: bytes) -> None:
        """Of two `type` members Karta reads the last: with the first, a response could be asked for past the
        key's scope."""
        if asked.type == _CREATE or (b"response.create" not in message and b"\\u00" not in message):
            return
        refuse_second(message)

    def _take_settings(self, session: msgspec.Raw, message: bytes) -> bytes:
        settings = settings_of(session)
        model = settings.model
        changed = message
        if isinstance(model, str):
            refuse_second(message)
            if model != self._model or self._grant.routed:
                grant = self._turn_grant(BodyFields(model=model), b"")
                if grant.model not in (None, model):
                    changed = renamed_within(message, "session", grant.model)
                self._names[grant.model or model] = model
                if len(self._names) > NAMES_MAX:
                    raise Refusal(Kind.RATE_LIMITED, f"More than {NAMES_MAX} models in one session.")
            self._wished = model
        told = settings.max_output_tokens or settings.max_response_output_tokens
        if told is not None:
            self._output_tokens_max = told
        return changed

    def _fields(self, asked: Asked) -> BodyFields:
        if not self._realtime:
            if asked.model is None:
                asked.model = self._model
            self._model = asked.model if isinstance(asked.model, str) else None
            return asked
        told = settings_of(asked.response)
        output = told.max_output_tokens or told.max_response_output_tokens or self._output_tokens_max
        return BodyFields(model=self._model, max_output_tokens=output)

    def _turn_grant(self, fields: BodyFields, message: bytes, operation: Operation | None = None) -> Grant:
        """As a request of its own would get it, but on the connection that is open. Raises `Refusal`."""
        opened = self._grant
        operation = operation or (REALTIME if self._realtime else RESPONSE)
        request = APIRequest(opened.request.inbound, operation, opened.request.target)
        request.bearer = opened.request.bearer
        request.buffered = True
        request.body = message
        request.fields = fields
        request.answered_here = self._goes_on(fields, message)
        return authorize_on(opened, request, self._upstreams, time.time())

    def _goes_on(self, fields: BodyFields, message: bytes) -> bool:
        """From a response that was told on this socket, and from nothing else."""
        earlier = fields.previous_response_id
        return (
            isinstance(earlier, str)
            and earlier in self._answered
            and fields.conversation is fields.container is fields.thread is None
            and message.count(b'"previous_response_id"') == 1
        )

    def _sized(self, grant: Grant) -> Grant:
        """What admission shall see: a realtime event is small, and its input is the conversation."""
        if not self._realtime:
            return grant
        return with_length(grant, TEXT_BYTES_PER_TOKEN * self._context + len(grant.request.body))

    # The provider's messages.

    def told(self, message: Message) -> None:
        """A provider's message, before it goes down. Raises `Refusal` when it begins what must not be."""
        data = message.whole()
        try:
            event = told_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if message.ends is None:
                return
            event = Told(type="response.done" if len(self._open) == 1 else None)
        kind = event.type or ""
        if kind == "response.created":
            self._begun(event, len(data))
        elif kind in ENDS:
            self._ended(event, message, len(data))
        elif kind.endswith(_TRANSCRIBED):
            self._transcribed(data)
        elif kind == "error":
            self._failed(event)
        elif kind in ("session.created", "session.updated"):
            self._take_model(kind, None if event.session is None else event.session.model)
            if event.session is not None:
                # One that is switched off may still have something to write down.
                self._transcriber = transcriber_of(event.session) or self._transcriber
        else:
            self._went_on(event, kind, len(data))

    def _take_model(self, kind: str, told: str | None) -> None:
        """What a session runs on is the provider's word: by a wish that it does not grant a client would have
        the one model at the price of another."""
        if kind == "session.updated":
            # Of several that were asked for in a row each is told, and one that changes no model, too.
            known = self._wished
            if told is not None:
                known = self._names.get(told) or self._names.get(_DATED.sub("", told))
            self._model, self._wished = known or self._model, None
        if self._model is None and told is not None:
            self._model = self._names[told] = told

    def _find(self, response_id: str | None) -> _Turn | None:
        for turn in self._open:
            if response_id is not None and turn.response_id == response_id:
                return turn
        # Of one nobody named there is no doubt.
        return self._open[0] if len(self._open) == 1 else None

    def _begun(self, event: Told, size: int) -> None:
        turn = next((one for one in self._open if one.response_id is None), None)
        if turn is None:
            turn = self._admit_unasked(event)
        response_id = event.response.id if event.response is not None else None
        turn.response_id = response_id
        if response_id is not None and not self._realtime:
            self._answered[response_id] = None
            if len(self._answered) > ANSWERED_MAX:
                del self._answered[next(iter(self._answered))]
        metering = turn.metering
        metering.status = 200
        metering.first_byte_us = metering.elapsed_us()
        metering.provider_request_id = response_id
        metering.tally = _new_tally(self._context)
        metering.response_bytes += size

    def _admit_unasked(self, event: Told) -> _Turn:
        """The provider began by itself."""
        require_journal(self._meter)
        model = self._model or (event.response.model if event.response is not None else None)
        grant = self._turn_grant(BodyFields(model=model, max_output_tokens=self._output_tokens_max), b"")
        started_us = time.time_ns() // 1000
        if len(self._open) >= OPEN_MAX:
            raise Refusal(Kind.RATE_LIMITED, f"More than {OPEN_MAX} responses at once.", retry_after=1)
        reservation = self._admission.reserve_now(self._sized(grant), started_us)
        began = time.perf_counter()
        metering = self._meter.begin(grant, self._new_request_id(), began, started_us, reservation, 0)
        metering.sent = True
        turn = _Turn(grant, metering, None)
        self._open.append(turn)
        return turn

    def _went_on(self, event: Told, kind: str, size: int) -> None:
        turn = self._find(event.response_id)
        if turn is not None:
            turn.metering.response_bytes += size
            if turn.metering.tally is not None and kind.endswith(".delta"):
                turn.metering.tally.deltas += 1

    def _ended(self, event: Told, message: Message, size: int) -> None:
        turn = self._find(event.response.id if event.response is not None else None)
        if turn is None:
            return
        metering = turn.metering
        metering.status = 200
        metering.response_bytes += size
        tally = _new_tally(0)
        if metering.tally is not None:
            tally.deltas = metering.tally.deltas
        metering.tally = tally
        if message.ends is not None:
            tally.read_ends(message.ends)
        else:
            tally.feed(message.whole())
            self._tell_later(turn, event, message.whole())
        self._close(turn, Outcome.COMPLETED)
        if self._realtime:
            self._context = tally.input_tokens + tally.cache_read_tokens + tally.output_tokens

    def _tell_later(self, turn: _Turn, event: Told, data: bytes) -> None:
        """One in the background is counted once, by its own id, whether here or when somebody looks."""
        fields = turn.grant.request.fields
        if fields.background is True and event.response is not None and event.response.background is not True:
            # It was asked for, and did not happen.
            fields.background = None
        if fields.background is True:
            metering = turn.metering
            metering.late = self._meter.late_reader(turn.grant, streamed=True)
            if metering.late is not None:
                # As the event it would be in a stream. Line ends stand between tokens only.
                metering.feed_late(b"data: " + data.translate(_NO_LINEENDS) + b"\n\n")

    def _transcribed(self, data: bytes) -> None:
        """What a client said was written down, by another model: a row of its own."""
        grant = self._turn_grant(BodyFields(model=self._model), b"")
        if self._transcriber is not None:
            # The key's scope is asked about the session's model; the price is that of who did the work.
            grant = grant.of(grant.request, self._transcriber)
        started_us = time.time_ns() // 1000
        metering = self._meter.begin(grant, self._new_request_id(), time.perf_counter(), started_us, None, 0)
        metering.status, metering.sent, metering.response_bytes = 200, True, len(data)
        metering.tally = _new_tally(0)
        # The event has figures and no name.
        metering.tally.model = self._transcriber
        metering.tally.feed(data)
        metering.settle(Outcome.COMPLETED)

    def _failed(self, event: Told) -> None:
        """An error instead of a response, or about something else: then what it is taken for is admitted
        anew when it begins."""
        about = event.error.event_id if event.error is not None else None
        for turn in self._open:
            if turn.response_id is None and (about is None or about == turn.event_id):
                told = event.status
                turn.metering.status = told if told is not None and 400 <= told <= 599 else 400
                self._close(turn, Outcome.COMPLETED)
                return

    def _close(self, turn: _Turn, outcome: Outcome) -> None:
        turn.metering.settle(outcome)
        self._open.remove(turn)

    def end(self, outcome: Outcome) -> None:
        """The socket has ended: what is under way is counted as far as it came."""
        for turn in list(self._open):
            self._close(turn, outcome)


def require_journal(meter: Meter) -> None:
    """Raises `Refusal` while what is used cannot be recorded."""
    if meter.spool.full:
        raise Refusal(Kind.UNAVAILABLE, "Karta cannot record usage at the moment.", retry_after=10)


def _aimed(message: bytes, grant: Grant) -> bytes:
    """A request that is a whole message, with the target's name for its model. Raises `Refusal`."""
    if grant.model is None or grant.model == grant.request.model:
        return message
    return renamed(message, grant.model)


def _new_tally(context: int) -> Tally:
    """Of one message that tells all; `context` is what went in, should it never come."""
    tally = Tally(Dialect.OPENAI, streamed=False)
    tally.streamed = True
    tally.input_tokens = context
    return tally


def with_length(grant: Grant, length: int) -> Grant:
    """What admission shall see instead: a request of so many bytes, at the rate by which it reads one."""
    request = grant.request
    seen = APIRequest(request.inbound, request.operation, request.target)
    seen.fields = request.fields
    seen.json, seen.content_length = False, length
    return grant.of(seen, grant.model)
