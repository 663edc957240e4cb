"""What a behaviour does to a stream of events before it is written: pings, comments, line ends, wrong
payloads, errors.

Pure: a generator over a generator, so that a flood stays lazy.
"""

from collections.abc import Iterator, Sequence

from bench.sim import errors, sse
from bench.sim.answer import Answer
from bench.sim.behaviour import PLAIN, Behaviour
from bench.sim.malformed import spoil_payload

PING = sse.Event(b'event: ping\ndata: {"type": "ping"}\n\n')
COMMENT = sse.Event(b": keep-alive\n\n")
FUTURE = sse.Event(b'event: future_event\ndata: {"type":"future_event","of":"later"}\n\n')

_SHAPING_FIELDS = ("newline", "pings", "comments", "future_event", "no_blank_end", "error_after", "malformed")


def shape(answer: Answer, dialect: str, request_id: str, *, flat_errors: bool) -> None:
    """Make the answer's events, in place, what its behaviour asks for."""
    behaviour = answer.behaviour
    if behaviour is PLAIN or all(getattr(behaviour, f) == getattr(PLAIN, f) for f in _SHAPING_FIELDS):
        return
    source = answer.events
    assert source is not None
    if behaviour.error_after is not None:
        # Its body names the request, so it cannot be prepared for others.
        answer.repeatable = False

    def shaped() -> Iterator[sse.Event]:
        events = answer_events(source)
        events = _with_extras(events, behaviour)
        events = _with_error(events, behaviour, dialect, request_id, flat_errors)
        return _with_bytes(events, behaviour)

    answer.events = shaped if callable(source) else list(shaped())


def answer_events(source: object) -> Iterator[sse.Event]:
    """The events of a maker or of a sequence."""
    if callable(source):
        made: Iterator[sse.Event] = source()
        return made
    assert isinstance(source, Sequence)
    return iter(source)


def _with_extras(events: Iterator[sse.Event], behaviour: Behaviour) -> Iterator[sse.Event]:
    for index, event in enumerate(events):
        yield event
        if behaviour.pings and index % behaviour.pings == behaviour.pings - 1:
            yield PING
        if behaviour.comments:
            yield COMMENT
        if behaviour.future_event and index == 0:
            yield FUTURE


def _with_error(
    events: Iterator[sse.Event], behaviour: Behaviour, dialect: str, request_id: str, flat: bool
) -> Iterator[sse.Event]:
    for index, event in enumerate(events):
        if index == behaviour.error_after:
            name, payload = errors.error_event(dialect, flat, behaviour, request_id, index)
            yield sse.Event(sse.named(name, payload, pad=False) if name else sse.bare(payload))
            return
        yield event


def _with_bytes(events: Iterator[sse.Event], behaviour: Behaviour) -> Iterator[sse.Event]:
    """Line ends, wrong payloads, and the missing blank line at the end; one event of look-ahead for the
    last."""
    held: sse.Event | None = None
    for index, event in enumerate(events):
        data = sse.with_newline(event.data, behaviour.newline)
        if index == behaviour.malformed_after:
            data = spoil_payload(behaviour.malformed, data)
        if held is not None:
            yield held
        held = event._replace(data=data)
    if held is not None and behaviour.no_blank_end:
        held = held._replace(data=held.data.rstrip(b"\r\n") + b"\n")
    if held is not None:
        yield held
