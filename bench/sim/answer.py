"""What an endpoint answers, before HTTP: a body, a long body made as it is read, or a stream of events."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from bench.sim.behaviour import PLAIN, Behaviour
from bench.sim.sse import Event

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"

_encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, kw_only=True):
    """One answer. Exactly one of `body`, `pieces` and `events` is in use."""

    status: int = 200
    content_type: bytes = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()
    """Headers beyond those every answer of the dialect carries."""
    body: bytes = b""
    pieces: Callable[[], Iterator[bytes]] | None = None
    """Makes a body too long to hold; `length` says how long, None when it is not known (it is then
    chunked)."""
    length: int | None = None
    events: Sequence[Event] | Callable[[], Iterator[Event]] | None = None
    usage: dict[str, Any] | None = None
    """What a body reports of usage; events carry their own."""
    tokens: int = 0
    behaviour: Behaviour = PLAIN
    repeatable: bool = False
    """True when equal requests always get equal answers, so that it may be prepared once."""
    model: str | None = None

    def body_sha256(self) -> str:
        """Hexadecimal digest of a whole body."""
        return hashlib.sha256(self.body).hexdigest()

    def body_pieces(self) -> Iterator[bytes]:
        """The body of an answer without events, in pieces."""
        if self.pieces is not None:
            yield from self.pieces()
        elif self.body:
            yield self.body

    def event_iterator(self) -> Iterator[Event]:
        """The events of a streamed answer, from the first."""
        if callable(self.events):
            return self.events()
        return iter(self.events or ())


def json_answer(document: dict[str, Any], *, indent: bool = False, status: int = 200) -> Answer:
    """An answer holding a JSON document; `indent` as OpenAI prints most of its own."""
    body = _encode(document)
    return Answer(status=status, body=msgspec.json.format(body, indent=2) if indent else body)
