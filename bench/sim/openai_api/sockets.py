"""What the provider says on its WebSockets: Realtime, and the WebSocket mode of responses.

Pure: a client's event in, the provider's events out, each with what the ledger should know. A realtime
conversation here is text only, and keeps count of what was said; sound that is appended and committed is
answered by itself, as when the provider hears somebody stop speaking.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from bench.sim import behaviour as grammar
from bench.sim import errors, fields, sse, text
from bench.sim.answer import Answer
from bench.sim.behaviour import Behaviour
from bench.sim.openai_api import responses
from bench.sim.request import Request
from bench.sim.shape import answer_events
from bench.sim.state import State

PATHS = frozenset({"/v1/realtime", "/v1/responses"})
SOUND_BYTES_PER_TOKEN = 6_400
"""Base64 of 24 kHz in 16 bits: ten tokens a second."""

_encode = msgspec.json.Encoder().encode


def _event(
    kind: str, payload: dict[str, Any], tokens: int = 0, usage: dict[str, Any] | None = None
) -> sse.Event:
    event_id = text.identifier("event_", 20, kind, len(payload))
    return sse.Event(_encode({"type": kind, "event_id": event_id, **payload}), tokens, usage)


def error(status: int, message: str, *, about: object = None) -> sse.Event:
    """An error event; `about` is the id of the client's event."""
    kind, code = "invalid_request_error", None
    told = {"type": kind, "code": code, "message": message, "param": None, "event_id": about}
    return _event("error", {"status": status, "error": told})


class Responses:
    """The WebSocket mode: each `response.create` is a request like a POST."""

    def __init__(self, state: State, request: Request) -> None:
        self._state = state
        self._header = request.header_map.get(b"x-sim-behaviour")

    def greet(self) -> Iterator[sse.Event]:
        """Nothing: the client begins."""
        return iter(())

    def answer(self, document: dict[str, Any]) -> tuple[Behaviour, str | None, Iterator[sse.Event]]:
        """The behaviour, the model and the events that one event of a client brings."""
        if document.get("type") != "response.create":
            return grammar.PLAIN, None, iter((error(400, f"Unknown event: {document.get('type')}"),))
        asked = {name: value for name, value in document.items() if name != "type"}
        request = Request.inner("/v1/responses", {**asked, "stream": True})
        model = fields.string(asked, "model")
        try:
            behaviour = grammar.of_request(model, self._header)
            if behaviour.error:
                return behaviour, model, iter((error(behaviour.error, "as asked"),))
            made = responses.create(self._state, request, behaviour)
        except (grammar.BehaviourError, errors.Invalid) as refused:
            return grammar.PLAIN, model, iter((error(400, str(refused)),))
        return behaviour, model, _payloads(made)


def _payloads(made: Answer) -> Iterator[sse.Event]:
    """The same events as in a stream, without the stream's framing."""
    for event in answer_events(made.events):
        yield event._replace(data=event.data.partition(b"data: ")[2].rstrip(b"\n"))


class Realtime:
    """One conversation with the model that the query names."""

    def __init__(self, request: Request) -> None:
        self.model = request.asked("model", "gpt-realtime")
        self._behaviour = grammar.of_request(self.model, request.header_map.get(b"x-sim-behaviour"))
        self._said = 0
        self._sound = 0
        self._turns = 0

    def greet(self) -> Iterator[sse.Event]:
        """The session begins."""
        yield _event("session.created", {"session": self._session()})

    def _session(self) -> dict[str, Any]:
        return {"type": "realtime", "object": "realtime.session", "id": "sess_1", "model": self.model}

    def answer(self, document: dict[str, Any]) -> tuple[Behaviour, str | None, Iterator[sse.Event]]:
        """As `Responses.answer`."""
        return self._behaviour, self.model, self._answer(document)

    def _answer(self, document: dict[str, Any]) -> Iterator[sse.Event]:
        kind = document.get("type")
        if kind == "session.update":
            yield _event("session.updated", {"session": self._session()})
        elif kind == "conversation.item.create":
            item = fields.nested(document, "item")
            self._said += text.estimate_tokens(len(_encode(item)))
            yield _event("conversation.item.added", {"item": {"id": "item_1", **item}})
        elif kind == "input_audio_buffer.append":
            # Nothing is said of it.
            self._sound += len(str(document.get("audio", "")))
        elif kind == "input_audio_buffer.commit":
            self._said += self._sound // SOUND_BYTES_PER_TOKEN
            yield _event("input_audio_buffer.committed", {"item_id": "item_1", "previous_item_id": None})
            yield from self._respond()
        elif kind == "response.create" and not self._behaviour.error:
            yield from self._respond()
        else:
            status = self._behaviour.error or 400
            yield error(status, f"Cannot answer {kind}", about=document.get("event_id"))

    def _respond(self) -> Iterator[sse.Event]:
        behaviour = self._behaviour
        self._turns += 1
        response_id = text.hex_identifier("resp_", 24, behaviour.seed, self._turns)
        whole = {"id": response_id, "object": "realtime.response", "status": "in_progress", "output": []}
        yield _event("response.created", {"response": {**whole, "usage": None}})
        at = {"response_id": response_id, "item_id": "item_2", "output_index": 0, "content_index": 0}
        said = text.grouped(text.tokens(behaviour.seed, behaviour.tokens), behaviour.chunk_tokens)
        for piece in said:
            yield _event("response.output_text.delta", {**at, "delta": piece}, behaviour.chunk_tokens)
        usage = {
            "input_tokens": self._said + 10,
            "output_tokens": behaviour.tokens,
            "total_tokens": self._said + 10 + behaviour.tokens,
            "input_token_details": {"text_tokens": self._said + 10, "audio_tokens": 0, "cached_tokens": 0},
            "output_token_details": {"text_tokens": behaviour.tokens, "audio_tokens": 0},
        }
        self._said += behaviour.tokens
        done = {**whole, "status": "completed", "usage": usage}
        yield _event("response.done", {"response": done}, 0, usage)
