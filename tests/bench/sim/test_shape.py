"""Streams shaped by behaviours."""

from bench.sim.answer import Answer
from bench.sim.behaviour import Behaviour
from bench.sim.shape import shape
from bench.sim.sse import Event

EVENTS = [Event(b'data: {"n":0}\n\n'), Event(b'data: {"n":1}\n\n', 1), Event(b'data: {"n":2}\n\n')]


def shaped(behaviour: Behaviour, *, lazily: bool = False) -> list[bytes]:
    answer = Answer(events=(lambda: iter(EVENTS)) if lazily else list(EVENTS), behaviour=behaviour)
    shape(answer, "anthropic", "req_1", flat_errors=False)
    return [event.data for event in answer.event_iterator()]


def test_a_plain_behaviour_changes_nothing() -> None:
    assert shaped(Behaviour()) == [event.data for event in EVENTS]
    assert shaped(Behaviour(tokens=3)) == [event.data for event in EVENTS]


def test_pings_comments_and_events_of_the_future() -> None:
    assert len(shaped(Behaviour(pings=1))) == 6
    assert len(shaped(Behaviour(pings=2))) == 4
    assert shaped(Behaviour(comments=True))[1] == b": keep-alive\n\n"
    assert b"future_event" in shaped(Behaviour(future_event=True), lazily=True)[1]


def test_line_ends_and_the_missing_end() -> None:
    assert shaped(Behaviour(newline="crlf"))[0] == b'data: {"n":0}\r\n\r\n'
    assert shaped(Behaviour(no_blank_end=True))[-1] == b'data: {"n":2}\n'


def test_an_error_ends_the_stream() -> None:
    found = shaped(Behaviour(error_after=1))
    assert len(found) == 2
    assert b"overloaded_error" in found[1]


def test_wrong_payloads() -> None:
    assert shaped(Behaviour(malformed="json"))[1] != EVENTS[1].data
    assert shaped(Behaviour(malformed="json"))[0] == EVENTS[0].data
    assert shaped(Behaviour(malformed="utf8", malformed_after=0))[0].count(b"\xff\xfe") == 1
