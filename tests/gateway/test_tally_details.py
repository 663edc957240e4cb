"""The corners of reading: estimates, words in odd places, and the ends of what is too large to keep."""

from __future__ import annotations

import json

import pytest

from gateway.refusal import Dialect
from gateway.sse import EVENT_BYTES_MAX, TAIL_BYTES_KEPT, Window
from gateway.tally import Tally
from tests.gateway.pieces import cut
from tests.gateway.recorded_streams import (
    ANTHROPIC,
    CHAT,
    CHAT_FACTS,
    OPENAI,
    RESPONSE,
    RESPONSE_FACTS,
    Facts,
    chat,
    facts,
    message,
    named,
    read,
    tally,
)

# Estimates.


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # Four bytes are a token, and what is left over is none.
        ({"output_tokens": 1}, (1000, 0)),
        ({"input_tokens": 7, "output_tokens": 1}, (7, 0)),
        # All of the prompt came from the cache.
        ({"input_tokens": 0, "cache_read_input_tokens": 9, "output_tokens": 1}, (0, 9)),
    ],
)
def test_a_prompt_that_was_told_is_not_estimated(usage: dict[str, object], expected: tuple[int, int]) -> None:
    counted = tally(ANTHROPIC, named({"type": "message_start", "message": {"model": "m", "usage": usage}}))
    counted.estimate(4003)
    assert (counted.input_tokens, counted.cache_read_tokens) == expected


def test_an_estimate_never_lowers_what_was_told() -> None:
    told = tally(ANTHROPIC, message({"input_tokens": 5, "output_tokens": 700}, None))
    assert told.deltas == 3
    told.estimate(400)
    assert told.output_tokens == 700
    unary = tally(OPENAI, b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}', streamed=False)
    unary.estimate(400)
    assert (unary.input_tokens, unary.output_tokens) == (3, 4)


def test_events_are_counted_one_by_one_however_large() -> None:
    """A floor for the output of a stream that is cut: three small events, two large ones and one more."""
    small = named({"type": "response.output_text.delta", "delta": "x"})
    large = named({"type": "response.image_generation_call.partial_image", "b64": "x" * EVENT_BYTES_MAX})
    counted = tally(OPENAI, small * 3, *cut(large + large, 65_536), small)
    assert counted.deltas == 6


# The model.


def test_the_model_is_known_before_any_usage() -> None:
    chunk = b'data: {"model":"m","choices":[{"delta":{"content":"x"}}],"usage":null}\n\n'
    assert read(OPENAI, chunk) == {"model": "m", "complete": False}
    assert read(OPENAI, chunk, chunk.replace(b'"m"', b'"n"')) == {"model": "m", "complete": False}


def test_the_model_of_an_event_that_wraps_the_answer_is_the_answer_s() -> None:
    begun = {"type": "response.created", "model": "outer", "response": {"model": "asked", "usage": None}}
    done = {"type": "response.completed", "response": {"model": "answered", "usage": {"input_tokens": 3}}}
    nameless = {"type": "response.completed", "response": {"usage": {"input_tokens": 3}}}
    assert read(OPENAI, named(begun))["model"] == "asked"
    assert read(OPENAI, named(begun, done))["model"] == "answered"
    assert read(OPENAI, named(begun, nameless))["model"] == "asked"
    again = {"type": "message_start", "model": "outer", "message": {"model": "n", "usage": {}}}
    nameless = {"type": "message_start", "message": {"usage": {"input_tokens": 3}}}
    assert read(ANTHROPIC, message({}), named(again))["model"] == "n"
    assert read(ANTHROPIC, message({}), named(nameless))["model"] == "m"


# Which events have the last word.


@pytest.mark.parametrize("kind", ["message", "response", "anything"])
@pytest.mark.parametrize("dialect", [ANTHROPIC, OPENAI])
def test_what_is_not_streamed_is_final_whatever_its_type(dialect: Dialect, kind: str) -> None:
    body = json.dumps({"type": kind, "usage": {"input_tokens": 3}}).encode()
    assert read(dialect, body, streamed=False) == {"input_tokens": 3, "complete": True}


@pytest.mark.parametrize("dialect", [ANTHROPIC, OPENAI])
def test_a_streamed_event_is_final_by_its_type_or_by_having_none(dialect: Dialect) -> None:
    usage = {"input_tokens": 3}
    assert read(dialect, named({"type": "progress", "usage": usage})) == {
        "input_tokens": 3,
        "complete": False,
    }
    assert read(dialect, b"data: " + json.dumps({"usage": usage}).encode() + b"\n\n")["complete"]


def test_tools_are_counted_in_the_last_word_only() -> None:
    output = [{"type": "web_search_call"}, {"type": "web_search_call"}]
    event = {"type": "response.progress", "response": {"output": output, "usage": {"input_tokens": 3}}}
    counted = tally(OPENAI, named(event))
    assert (counted.web_searches, counted.final) == (0, False)
    counted = tally(OPENAI, named(event, event | {"type": "response.completed"}))
    assert (counted.web_searches, counted.final) == (2, True)


def test_sound_told_beside_searches_stays_told() -> None:
    usage = {"input_tokens": 9, "input_tokens_details": {"audio_tokens": 4}}
    answer = {"output": [{"type": "code_interpreter_call"}], "usage": usage}
    counted = tally(OPENAI, json.dumps(answer).encode(), streamed=False)
    assert (counted.code_runs, counted.input_audio_tokens, counted.parted) == (1, 4, True)


# What cannot be read.


@pytest.mark.parametrize(
    ("event", "complete"),
    [
        (b"no JSON at all", True),
        (b'{"usage":null,}', True),
        (b'{"usage": "of words",}', True),
        (b'{"text":"\\"usage\\":{",}', True),
        (b'{"usage":{"prompt_tokens":3},}', False),
        (b'{"usage"            :            {"prompt_tokens":3},}', False),
        (b'{"usage":null, "x":{"usage" : {"prompt_tokens":3},}', False),
        (b'{"usage":\n{"prompt_tokens":3},}', False),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_what_cannot_be_decoded_matters_only_if_it_speaks_of_usage(
    event: bytes, complete: bool, before: bool
) -> None:
    data = b"data: " + event.replace(b"\n", b"\ndata: ") + b"\n\n"
    stream = CHAT.replace(b"data: [DONE]\n\n", b"")
    assert read(OPENAI, *((data, stream) if before else (stream, data))) == CHAT_FACTS | {
        "complete": complete
    }


def test_usage_after_much_space_is_read() -> None:
    stream = chat({"prompt_tokens": 3}).replace(b'"usage":', b'"usage"' + b" " * 50 + b":" + b" " * 50)
    first = b'data: {"model":"m","choices":[]}\n\n'
    assert read(OPENAI, first, stream) == {"model": "m", "input_tokens": 3, "complete": True}


# Too large to keep: only the ends are read.

FILLER = b"x" * 65_536


def ends(head: bytes, tail: bytes, dialect: Dialect = OPENAI) -> Facts:
    """The facts of a body of which only the ends were kept."""
    body = Window()
    body.add(head)
    for _ in range(EVENT_BYTES_MAX // len(FILLER) + 5):
        body.add(FILLER)
    body.add(tail)
    counted = Tally(dialect, streamed=False)
    counted.read_ends(body)
    return facts(counted)


USAGE = b'"usage":{"input_tokens":3}}'
USED: Facts = {"input_tokens": 3, "complete": True}


@pytest.mark.parametrize(
    ("head", "tail", "model"),
    [
        (b'{"model":"a","x":{"model":"b"},"y":"', b'",' + USAGE, "a"),
        (b'{"model" : "a","y":"', b'","z":{"model":"b"},' + USAGE, "a"),
        (b'{"y":"', b'","z":{"model":"b"},"model": "a",' + USAGE, "a"),
        (b'{"model":"a\xff","y":"', b'",' + USAGE, "a\ufffd"),
        (b'{"y":"', b'",' + USAGE, None),
    ],
)
def test_the_model_stands_first_or_last(head: bytes, tail: bytes, model: str | None) -> None:
    assert ends(head, tail) == USED | ({} if model is None else {"model": model})


def test_a_model_that_is_known_stays() -> None:
    begun = named({"type": "response.created", "response": {"model": "m", "usage": None}})
    done = RESPONSE[RESPONSE.index(b"event: response.completed") :]
    large = done.replace(b'"tools": []', b'"tools": ["%s"]' % (FILLER * 20))
    assert read(OPENAI, begun, *cut(large, 65_536)) == RESPONSE_FACTS | {"model": "m"}


@pytest.mark.parametrize("behind", [b',"x":"\xff"}', b',"x":"' + b"\xe2\x82\xac" * 10_000 + b'"}'])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_text_behind_the_usage_may_be_cut_anywhere(behind: bytes, shift: int) -> None:
    assert ends(b'{"y":"', b'",' + b" " * shift + USAGE[:-1] + behind) == USED


@pytest.mark.parametrize(
    "other", [b'{"type":"object"}', b"null", b"7", b'"words"', b"[1]", b"{", b'{"input_tokens":"x"}', b"{}"]
)
@pytest.mark.parametrize("dialect", [ANTHROPIC, OPENAI])
def test_another_thing_of_that_name_is_passed_over(dialect: Dialect, other: bytes) -> None:
    tail = b'",' + USAGE[:-1] + b',"tool":{"usage":' + other + b"}}"
    assert ends(b'{"y":"', tail, dialect) == USED


@pytest.mark.parametrize(("others", "found"), [(7, True), (8, False)])
def test_only_so_many_things_of_that_name_are_looked_at(others: int, found: bool) -> None:
    tail = b'",' + USAGE[:-1] + b',"a":{"usage":null}' * others + b"}"
    assert ends(b'{"y":"', tail) == (USED if found else {"complete": False})


def test_the_last_usage_is_the_one() -> None:
    tail = b'","x":{"usage":{"input_tokens":9,"output_tokens":9}},' + USAGE
    assert ends(b'{"y":"', tail) == USED


def test_usage_at_the_very_edge_of_what_is_kept() -> None:
    tail = USAGE[:-1] + b',"x":"'
    assert ends(b'{"y":"', tail + b"x" * (TAIL_BYTES_KEPT - len(tail))) == USED
    assert ends(b'{"y":"', tail + b"x" * (TAIL_BYTES_KEPT - len(tail) + 1)) == {"complete": False}


def test_what_is_large_and_follows_done_is_not_read() -> None:
    late = named({"type": "response.completed", "x": "x" * 2 * EVENT_BYTES_MAX, "usage": {"input_tokens": 9}})
    assert read(OPENAI, CHAT, *cut(late, 65_536)) == CHAT_FACTS
    # The last event of a stream may lack its blank line.
    assert read(OPENAI, CHAT, *cut(late[:-2], 65_536)) == CHAT_FACTS
    assert read(OPENAI, *cut(late[:-2], 65_536)) == {"input_tokens": 9, "complete": True}


def test_what_follows_done_without_a_blank_line_is_not_read() -> None:
    assert read(OPENAI, CHAT, b'data: {"usage":{"prompt_tokens":9}}') == CHAT_FACTS
