"""Prepared answers: only calm, repeatable ones, within bounds."""

import hashlib

import pytest

from bench.sim import prepared as module
from bench.sim.answer import Answer
from bench.sim.behaviour import PLAIN, Behaviour
from bench.sim.ledger import Ledger
from bench.sim.prepared import PreparedAnswers, is_calm
from bench.sim.request import Request
from bench.sim.sse import Event


def request_for(body: bytes = b"{}") -> Request:
    request = Request(b"/v1/messages")
    request.method = "POST"
    request.receive(body)
    request.entry = Ledger().open("openai")
    return request


def test_calm_is_what_can_be_written_at_once() -> None:
    assert is_calm(PLAIN)
    assert is_calm(Behaviour(tokens=5, refusal=True, cache_read=3))
    assert not is_calm(Behaviour(pace_ms=1))
    assert not is_calm(Behaviour(split=1))


def test_a_body_is_prepared_once() -> None:
    answers, request = PreparedAnswers(), request_for()
    key = answers.key(request)
    ready = answers.put(
        key, request, Answer(body=b"{}", repeatable=True, model="m", tokens=2, usage={"x": 1})
    )
    assert ready is not None
    assert answers.find(key) is ready
    data = ready.render(request.entry, 0.0)
    assert data.endswith(b"1970 00:00:00 GMT\r\n\r\n{}")
    assert request.entry.request_id.encode() in data
    assert (request.entry.completed, request.entry.bytes_sent, request.entry.model) == (True, 2, "m")
    answers.clear()
    assert answers.find(key) is None


def test_a_stream_is_prepared_in_chunks() -> None:
    answers, request = PreparedAnswers(), request_for()
    events = [Event(b"ab", 1, {"input": 1}), Event(b"c", 2, {"output": 2})]
    ready = answers.put(answers.key(request), request, Answer(events=events, repeatable=True))
    assert ready is not None
    assert ready.tail == b"\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert (ready.events, ready.tokens, ready.usage) == (2, 3, {"input": 1, "output": 2})
    assert ready.response_sha256 == hashlib.sha256(b"abc").hexdigest()


def test_what_does_not_qualify() -> None:
    answers, request = PreparedAnswers(), request_for()
    key = answers.key(request)
    assert answers.put(key, request, Answer(body=b"x")) is None
    assert answers.put(key, request, Answer(body=b"x", repeatable=True, behaviour=Behaviour(split=1))) is None
    assert answers.put(key, request, Answer(events=lambda: iter([]), repeatable=True)) is None
    assert answers.put(key, request, Answer(body=b"x" * 300_000, repeatable=True)) is None
    assert answers.key(request_for(b"x" * 20_000)) is None


def test_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PREPARED_MAX", 2)
    answers = PreparedAnswers()
    requests = [request_for(body) for body in (b"1", b"2", b"3")]
    for request in requests:
        answers.put(answers.key(request), request, Answer(body=b"x", repeatable=True))
    assert [answers.find(answers.key(request)) is not None for request in requests] == [False, True, True]
