"""What is left of a stream that was made to report usage is what the provider sends when nobody asks.

The streams are the simulator's own: asked and not asked, in every shape it has, cut at every byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.sim import sse
from bench.sim.behaviour import of_request
from bench.sim.openai_api import chat, completions
from bench.sim.request import Request
from bench.sim.state import State
from gateway.include_usage import ask_for_usage
from gateway.usage_stripper import HELD_BYTES_MAX, PLACES_MAX, TAIL_BYTES, UsageStripper
from tests.gateway.pieces import cut

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"usage": {"type": "string"}}},
        },
    }
]
NEWLINES = ["lf", "crlf", "cr"]


def stream(path: str, model: str, newline: str = "lf", **members: object) -> tuple[bytes, bytes]:
    """The simulator's stream when it was not asked for usage, and when Karta asked."""
    document: dict[str, Any] = {"model": model, "stream": True, **members}
    if path == "/v1/chat/completions":
        create, document["messages"] = chat.create, [{"role": "user", "content": "hi"}]
    else:
        create, document["prompt"] = completions.create, "hi"
    body = json.dumps(document).encode()
    asked = ask_for_usage(body)
    assert asked is not None
    found = []
    for sent in (body, asked):
        request = Request(path.encode())
        # Ids derive from the body; the same for both.
        request.receive(body)
        request.document = json.loads(sent)
        answer = create(State(), request, of_request(model, None))
        events = answer.events() if callable(answer.events) else answer.events
        assert events is not None
        found.append(sse.with_newline(b"".join(event.data for event in events), newline))
    assert found[0] != found[1]
    return found[0], found[1]


def strip(*pieces: bytes) -> bytes:
    stripper = UsageStripper()
    return b"".join([*map(stripper.feed, pieces), stripper.finish()])


STREAMS = [
    pytest.param("/v1/chat/completions", "sim:tokens=4", {}, id="chat"),
    pytest.param(
        "/v1/chat/completions", "sim:tokens=4", {"stream_options": {"include_obfuscation": False}}, id="plain"
    ),
    pytest.param("/v1/chat/completions", "sim:tokens=3,tool=1", {"tools": TOOLS}, id="tools"),
    pytest.param("/v1/chat/completions", "sim:tokens=3", {"n": 3, "stream_options": None}, id="choices"),
    pytest.param("/v1/completions", "sim:tokens=4", {"n": 2}, id="completions"),
]


@pytest.mark.parametrize("newline", NEWLINES)
@pytest.mark.parametrize(("path", "model", "members"), STREAMS)
def test_the_simulator_s_streams_cut_at_every_byte(
    path: str, model: str, members: dict[str, object], newline: str
) -> None:
    plain, asked = stream(path, model, newline, **members)
    assert strip(asked) == plain
    assert strip(plain) == plain
    for at in range(len(asked)):
        assert strip(asked[:at], asked[at:]) == plain, at
    for size in (1, 2, 3, 5, 64, 1000):
        assert strip(*cut(asked, size)) == plain, size


@pytest.mark.parametrize("newline", NEWLINES)
def test_an_event_goes_on_when_it_is_complete(newline: str) -> None:
    """Byte by byte: all that belongs to complete events has been given back, but for the usage chunk."""
    plain, asked = stream("/v1/chat/completions", "sim:tokens=3", newline)
    # The last LF of CRLF CRLF may follow: an event counts from the CR before it.
    end = {"lf": b"\n\n", "crlf": b"\r\n\r", "cr": b"\r\r"}[newline]
    stripper = UsageStripper()
    given_back = b""
    seen = b""
    for byte in cut(asked, 1):
        seen += byte
        given_back += stripper.feed(byte)
        complete = seen.count(end) - (b'"choices":[],' in seen.rpartition(end)[0])
        assert given_back.count(end) >= complete
    assert given_back == plain


@given(st.data(), st.integers(0, 30), st.sampled_from(NEWLINES))
@settings(max_examples=100, deadline=None)
def test_any_cuts(data: st.DataObject, seed: int, newline: str) -> None:
    plain, asked = stream("/v1/chat/completions", f"sim:tokens=8,seed={seed}", newline)
    marks = sorted(data.draw(st.lists(st.integers(0, len(asked)), max_size=12)))
    assert strip(*(asked[a:b] for a, b in pairwise([0, *marks, len(asked)]))) == plain


# Other writers of JSON, and the word in other places.


def chunks(*documents: dict[str, object], spaced: bool = False) -> bytes:
    separators = None if spaced else (",", ":")
    return b"".join(b"data: %s\n\n" % json.dumps(one, separators=separators).encode() for one in documents)


CHOICE: dict[str, object] = {"choices": [{"delta": {"content": "x"}}]}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4}


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize(
    "before",
    [
        {"usage": None},
        {"usage": None, "id": 1},
        {"id": 1, "usage": None, "a": "b", "c": None, "d": -1.5e3},
        {"id": 1, "usage": None, **CHOICE},
        {"usage": None, **CHOICE},
        {**CHOICE, "usage": None, "x": {"usage": None}},
        {**CHOICE, "x": {"usage": None}, "usage": None},
        {"choices": [{"delta": {"content": "usage"}}], "usage": None},
        {"choices": [{"delta": {"content": '","usage":null'}}], "usage": None},
        {"choices": [], "prompt_filter_results": [{"usage": None}], "usage": None},
    ],
)
def test_only_the_chunk_s_own_member_goes(before: dict[str, object], spaced: bool) -> None:
    after = {name: value for name, value in before.items() if name != "usage"}
    sent, left = chunks(before, spaced=spaced), chunks(after, spaced=spaced)
    assert strip(sent) == left
    assert strip(*cut(sent, 1)) == left


@pytest.mark.parametrize(
    "kept",
    [
        {**CHOICE, "x_groq": {"usage": None}},
        {**CHOICE, "x_groq": {"usage": USAGE}},
        {**CHOICE, "usage": USAGE},
        {"choices": [], "x": {"usage": USAGE}},
        {"choices": [{"choices": [], "usage": USAGE}]},
        {"choices": [], "usage": []},
        {"usage": USAGE},
        {"choices": [], 'x"usage': None},
        {"error": {"message": '{"choices":[],"usage":{}}'}},
    ],
)
def test_what_is_no_answer_to_our_asking_stays(kept: dict[str, object]) -> None:
    sent = chunks(kept, CHOICE)
    assert strip(sent) == sent
    assert strip(*cut(sent, 1)) == sent


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_usage_chunk_in_other_shapes(end: bytes) -> None:
    shapes = [
        b'data:{"choices":[],"usage":{"a":1}}',
        b'data: { "usage" : {"a":1} , "choices" : [ ] }  ',
        b'event: x\ndata: {"choices":[],"usage":{"a":1}}',
        b'data: {"choices":[],\ndata: "usage":{"a":1}}',
        b'\xef\xbb\xbfdata: {"choices":[],"usage":{"a":1}}',
    ]
    for shape in shapes:
        event = (shape + b"\n\n").replace(b"\n", end)
        after = (b'data: {"choices":[1]}\n\ndata: [DONE]\n\n').replace(b"\n", end)
        for size in (1, 7, 1000):
            assert strip(*cut(event + after, size)) == after, shape


def test_a_stream_that_ends_in_the_middle() -> None:
    event = b'data: {"choices":[],"usage":{"a":1}}'
    assert strip(b"data: 1\n\n", event) == b"data: 1\n\n"
    assert strip(event[:-5]) == event[:-5]
    assert strip(b'data: {"choices":[1],"usage":null}') == b'data: {"choices":[1]}'
    assert strip() == b""
    assert strip(b"", b": comment\n", b"") == b": comment\n"


def large(size: int) -> Iterator[tuple[bytes, bytes]]:
    text = b"x" * size
    for tail in (b"}", b',"obfuscation":"abc"}', b' , "s" : null }'):
        before = b'data: {"id":1,"choices":[{"delta":{"content":"%s"}}]' % text
        yield before + b',"usage":null' + tail + b"\n\n", before + tail + b"\n\n"
    rest = b'"choices":[{"delta":{"content":"%s"}}]}\n\n' % text
    yield b'data: {"usage":null,' + rest, b"data: {" + rest
    yield b'data: {"id":1,"usage":null,' + rest, b'data: {"id":1,' + rest


@pytest.mark.parametrize("size", [HELD_BYTES_MAX - 60, HELD_BYTES_MAX + TAIL_BYTES, 300_000])
@pytest.mark.parametrize("piece", [700, 16_384, 65_536])
def test_long_events_are_not_held(size: int, piece: int) -> None:
    for sent, left in large(size):
        both = sent + chunks({"choices": [], "usage": USAGE}) + sent
        stripper = UsageStripper()
        found = []
        for part in cut(both, piece):
            found.append(stripper.feed(part))
            assert len(stripper._held) <= HELD_BYTES_MAX
        found.append(stripper.finish())
        assert b"".join(found) == left + left


@given(st.binary(max_size=300), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_bytes_without_the_word_pass_whatever_they_are(noise: bytes, size: int) -> None:
    assert strip(*cut(noise, size)) == noise


def test_many_nulls_in_one_event_are_not_each_looked_for_to_its_end() -> None:
    """Of 50 KB each look would pass them all: seconds."""
    many = b'"usage":null,' * 4000
    event = b'data: {"a":{' + many + b'"b":1},"choices":[]}\n\n'
    assert UsageStripper().feed(event) == event
    few = b'data: {"a":{' + b'"usage":null,' * (PLACES_MAX - 1) + b'"b":1},"choices":[],"usage":null}\n\n'
    assert UsageStripper().feed(few) == few.replace(b',"usage":null}\n', b"}\n")


def test_what_is_nested_in_the_end_of_a_long_event_is_not_taken_for_the_chunk_s_own() -> None:
    """Its beginning has gone on, so nothing is told by how many brackets are open."""
    end = b'"d":{"usage":null,"e":{}},"f":{}}\n\n'
    event = b'data: {"a":"' + b"x" * (HELD_BYTES_MAX + 1) + b'",' + end
    stripper = UsageStripper()
    assert stripper.feed(event[: -len(end)]) + stripper.feed(end) == event
    # The next one is seen from its beginning again.
    assert stripper.feed(b'data: {"d":{},"usage":null,"e":{}}\n\n') == b'data: {"d":{},"e":{}}\n\n'


def test_what_is_nested_where_a_long_event_is_parted_is_not_taken_for_the_chunk_s_own() -> None:
    beginning = b'data: {"a":"' + b"x" * HELD_BYTES_MAX + b'","b":{"usage":null}'
    stripper = UsageStripper()
    assert stripper.feed(beginning + b"," + b"y" * (TAIL_BYTES - 1)) == beginning
    # Of a long event no more than that is held.
    assert stripper.feed(b"z" * 100) == b"," + b"y" * 99
    assert len(stripper.finish()) == TAIL_BYTES
    assert stripper.finish() == b""
