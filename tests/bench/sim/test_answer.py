"""Answers before HTTP."""

import hashlib

from bench.sim.answer import Answer, json_answer
from bench.sim.sse import Event


def test_json_compact_or_indented() -> None:
    assert json_answer({"a": 1}).body == b'{"a":1}'
    assert json_answer({"a": 1}, indent=True).body == b'{\n  "a": 1\n}'
    assert json_answer({}, status=404).status == 404


def test_a_body_comes_in_pieces_whatever_it_is_made_of() -> None:
    assert list(Answer(body=b"abc").body_pieces()) == [b"abc"]
    assert list(Answer().body_pieces()) == []
    assert list(Answer(pieces=lambda: iter([b"a", b"b"])).body_pieces()) == [b"a", b"b"]
    assert Answer(body=b"abc").body_sha256() == hashlib.sha256(b"abc").hexdigest()


def test_events_from_a_list_or_a_maker() -> None:
    event = Event(b"x")
    assert list(Answer(events=[event]).event_iterator()) == [event]
    assert list(Answer(events=lambda: iter([event])).event_iterator()) == [event]
