"""Answers prepared once and written many times.

A load generator repeats a few request bodies for ever, and answers to equal requests are equal by design; so
the whole answer but its request id and its date is kept as bytes under the request that got it, and a
repeated request costs a dictionary look-up and one write. Only calm behaviours qualify: nothing timed, split
or broken. Bounds: 512 answers, of requests up to 16 KiB and answers up to 256 KiB each.
"""

import hashlib
from typing import Any, NamedTuple

from bench.sim.answer import Answer
from bench.sim.behaviour import PLAIN, Behaviour
from bench.sim.ledger import Entry
from bench.sim.request import Request
from bench.sim.response_headers import after_request_id, before_request_id, date_line
from bench.sim.sse import Event

PREPARED_MAX = 512
REQUEST_BYTES_MAX = 16 * 1024
ANSWER_BYTES_MAX = 256 * 1024

_DELIVERY_FIELDS = (
    *("headers_ms", "ttft_ms", "pace_ms", "flush", "framing", "encoding", "split", "split_ms", "close"),
    *("close_silently", "interim", "die_at", "die_after", "hang", "hang_after", "malformed", "extra_bytes"),
    *("short_bytes", "read", "early"),
)

Key = tuple[str, bytes, bytes, bytes | None]


def is_calm(behaviour: Behaviour) -> bool:
    """True when the answer can be written at once: no delay, no fault, no special framing."""
    if behaviour is PLAIN:
        return True
    # A status that forbids a body changes the framing.
    bodiless = behaviour.status in (204, 304)
    return not bodiless and all(getattr(behaviour, f) == getattr(PLAIN, f) for f in _DELIVERY_FIELDS)


class Prepared(NamedTuple):
    """An answer as bytes, less its request id and date, and what the ledger notes of it."""

    before: bytes
    after: bytes
    tail: bytes
    status: int
    model: str | None
    streamed: bool
    events: int
    size_bytes: int
    tokens: int
    usage: dict[str, Any] | None
    body_sha256: str
    response_sha256: str

    def render(self, entry: Entry, now: float) -> bytes:
        """Fill the entry and give the whole response to write."""
        entry.status = self.status
        entry.model = self.model
        entry.streamed = self.streamed
        entry.events_sent = self.events
        entry.bytes_sent = self.size_bytes
        entry.tokens_sent = self.tokens
        entry.usage = self.usage
        entry.body_sha256 = self.body_sha256
        entry.response_sha256 = self.response_sha256
        entry.first_byte_at = entry.ended_at = now
        entry.completed = True
        return b"".join((self.before, entry.request_id.encode(), self.after, date_line.at(now), self.tail))


class PreparedAnswers:
    """The bounded cache of prepared answers, oldest first out."""

    def __init__(self) -> None:
        self._answers: dict[Key, Prepared] = {}

    @staticmethod
    def key(request: Request) -> Key | None:
        """What makes two requests get equal answers; None for a request too big to be worth it."""
        if request.size_bytes > REQUEST_BYTES_MAX or request.method != "POST" or request.http10:
            return None
        return (request.dialect, request.target, request.body, request.header_map.get(b"x-sim-behaviour"))

    def find(self, key: Key | None) -> Prepared | None:
        """The prepared answer for a request's key."""
        return None if key is None else self._answers.get(key)

    def clear(self) -> None:
        """Forget all."""
        self._answers.clear()

    def put(self, key: Key | None, request: Request, answer: Answer) -> Prepared | None:
        """Prepare a repeatable, calm answer; None when it does not qualify."""
        if key is None or not answer.repeatable or not is_calm(answer.behaviour):
            return None
        if answer.events is None:
            prepared = _prepare_body(request, answer)
        elif not callable(answer.events):
            prepared = _prepare_stream(request, answer, list(answer.events))
        else:
            return None
        if len(prepared.tail) > ANSWER_BYTES_MAX:
            return None
        if len(self._answers) >= PREPARED_MAX:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = prepared
        return prepared


def _prepare_body(request: Request, answer: Answer) -> Prepared:
    body = b"".join(answer.body_pieces())
    framing = b"content-length: %d\r\n" % len(body)
    return Prepared(
        before_request_id(answer, request.dialect, framing),
        after_request_id(request.dialect),
        b"\r\n" + body,
        answer.behaviour.status or answer.status,
        answer.model,
        False,
        0,
        len(body),
        answer.tokens,
        answer.usage,
        request.sha256(),
        hashlib.sha256(body).hexdigest(),
    )


def _prepare_stream(request: Request, answer: Answer, events: list[Event]) -> Prepared:
    usage: dict[str, Any] | None = None
    for event in events:
        if event.usage is not None:
            usage = event.usage if usage is None else usage | event.usage
    body = b"".join(event.data for event in events)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(event.data), event.data) for event in events)
    return Prepared(
        before_request_id(answer, request.dialect, b"transfer-encoding: chunked\r\n"),
        after_request_id(request.dialect),
        b"\r\n" + chunks + b"0\r\n\r\n",
        answer.behaviour.status or answer.status,
        answer.model,
        True,
        len(events),
        len(body),
        sum(event.tokens for event in events),
        usage,
        request.sha256(),
        hashlib.sha256(body).hexdigest(),
    )
