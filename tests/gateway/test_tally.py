"""What answers of both APIs used, from streams as they were recorded, cut anywhere."""

from __future__ import annotations

import json

import pytest

from gateway.refusal import Dialect
from gateway.sse import EVENT_BYTES_MAX, Window
from gateway.tally import BYTES_PER_TOKEN, UNHEARD_TOKENS_PER_SECOND, Tally
from tests.gateway.pieces import cut
from tests.gateway.recorded_streams import (
    ANTHROPIC,
    CHAT,
    CHAT_FACTS,
    FIGURES,
    MESSAGE,
    MESSAGE_FACTS,
    OPENAI,
    RESPONSE,
    RESPONSE_FACTS,
    RESPONSE_USAGE,
    Facts,
    chat,
    facts,
    message,
    named,
    read,
    tally,
)

STREAMS = [
    pytest.param(ANTHROPIC, MESSAGE, MESSAGE_FACTS, id="messages"),
    pytest.param(OPENAI, CHAT, CHAT_FACTS, id="chat"),
    pytest.param(OPENAI, RESPONSE, RESPONSE_FACTS, id="responses"),
]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(("dialect", "stream", "expected"), STREAMS)
def test_a_recorded_stream_cut_anywhere(
    dialect: Dialect, stream: bytes, expected: Facts, line_end: bytes
) -> None:
    stream = stream.replace(b"\n", line_end)
    assert read(dialect, stream) == expected
    for at in range(1, len(stream)):
        assert read(dialect, stream[:at], stream[at:]) == expected, at
    for size in (1, 2, 3, 7, 100):
        assert read(dialect, *cut(stream, size)) == expected, size
    deltas = tally(dialect, stream).deltas
    assert {tally(dialect, *cut(stream, size)).deltas for size in (1, 10, 100)} == {deltas}


@pytest.mark.parametrize(("dialect", "stream", "expected"), STREAMS)
def test_data_over_several_lines(dialect: Dialect, stream: bytes, expected: Facts) -> None:
    for old, new in [(b'"usage":', b'"usage":\ndata: '), (b'"usage":', b'"usage"\ndata:: ')]:
        spread = stream.replace(old, new)
        assert read(dialect, spread) == expected
        assert read(dialect, *cut(spread, 5)) == expected


@pytest.mark.parametrize(("dialect", "stream", "expected"), STREAMS)
def test_a_stream_cut_off_is_complete_only_with_its_final_figures(
    dialect: Dialect, stream: bytes, expected: Facts
) -> None:
    last = stream.rindex(b'"usage":{' if b'"usage":{' in stream else b'"usage": {')
    final = stream.index(b"\n\n", last)
    for at in range(0, len(stream), 7):
        counted = tally(dialect, stream[:at])
        assert counted.complete is (at >= final), at
        assert all(getattr(counted, name) >= 0 for name in FIGURES)
    assert read(dialect, stream[: final + 2]) == expected


def test_the_last_event_counts_without_its_blank_line() -> None:
    assert read(ANTHROPIC, MESSAGE[: MESSAGE.index(b"event: message_stop") - 2]) == MESSAGE_FACTS


# Anthropic's rule: totals so far, each that is present and not null overwrites.


@pytest.mark.parametrize(
    ("start", "deltas", "expected"),
    [
        pytest.param(
            {"input_tokens": 2234, "output_tokens": 26},
            [{"output_tokens": 510, "input_tokens": 9281, "server_tool_use": {"web_search_requests": 2}}],
            {"input_tokens": 9281, "output_tokens": 510, "server_tool_calls": 2},
            id="server tools raise the input",
        ),
        pytest.param(
            {"input_tokens": 5, "output_tokens": 1},
            [{"output_tokens": 3}, {"output_tokens": 7}, {"output_tokens": 9}],
            {"input_tokens": 5, "output_tokens": 9},
            id="several deltas are totals, not increments",
        ),
        pytest.param(
            {"input_tokens": 5, "cache_read_input_tokens": 6, "output_tokens": 1},
            [{"output_tokens": 3, "input_tokens": None, "cache_read_input_tokens": None}],
            {"input_tokens": 5, "cache_read_tokens": 6, "output_tokens": 3},
            id="null keeps",
        ),
        pytest.param(
            {"input_tokens": 5, "cache_read_input_tokens": 6, "output_tokens": 9},
            [{"output_tokens": 0, "input_tokens": 0, "cache_read_input_tokens": 0}],
            {},
            id="zero overwrites: a refusal",
        ),
        pytest.param(
            {
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            },
            [{"output_tokens": 1, "cache_creation_input_tokens": 35}],
            {"cache_write_5m_tokens": 15, "cache_write_1h_tokens": 20, "output_tokens": 1},
            id="cache writes that grow are of the short class",
        ),
        pytest.param(
            {"cache_creation_input_tokens": 30, "cache_creation": None},
            [{"output_tokens": 1}],
            {"cache_write_5m_tokens": 30, "output_tokens": 1},
            id="no split",
        ),
        pytest.param(
            {"server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 1}},
            [{"output_tokens": 1, "server_tool_use": {"web_search_requests": None, "web_fetch_requests": 2}}],
            {"server_tool_calls": 5, "output_tokens": 1},
            id="null keeps in nested objects too",
        ),
        pytest.param(
            {"input_tokens": 5, "output_tokens": 1},
            [{"output_tokens": 3, "iterations": [{"input_tokens": 99}], "future_field": [{}]}],
            {"input_tokens": 5, "output_tokens": 3},
            id="unknown fields",
        ),
    ],
)
def test_anthropic_merge(start: dict[str, object], deltas: list[dict[str, object]], expected: Facts) -> None:
    stream = message(start, *deltas)
    for size in (1, len(stream)):
        assert read(ANTHROPIC, *cut(stream, size)) == expected | {"model": "m", "complete": True}


def test_message_start_alone_is_not_final() -> None:
    stream = message({"input_tokens": 5, "output_tokens": 1}, None)
    assert read(ANTHROPIC, stream) == {
        "model": "m",
        "input_tokens": 5,
        "output_tokens": 1,
        "complete": False,
    }


# OpenAI's rule: the last usage counts; cached tokens are inside the input.


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        pytest.param(
            [{"prompt_tokens": 5, "completion_tokens": 1}, {"prompt_tokens": 6, "completion_tokens": 2}],
            {"input_tokens": 6, "output_tokens": 2},
            id="twice: the last one",
        ),
        pytest.param(
            [{"prompt_tokens": 5, "completion_tokens": 1}, None],
            {"input_tokens": 5, "output_tokens": 1},
            id="null after figures",
        ),
        pytest.param(
            [
                {
                    "prompt_tokens": 5,
                    "completion_tokens": 1,
                    "prompt_tokens_details": {"cached_tokens": 2},
                },
                {"prompt_tokens": None, "completion_tokens": 4, "prompt_tokens_details": None},
            ],
            {"input_tokens": 3, "cache_read_tokens": 2, "output_tokens": 4},
            id="null keeps",
        ),
        pytest.param(
            [{"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 50}}],
            {"cache_read_tokens": 5, "output_tokens": 1},
            id="more cached than asked",
        ),
        pytest.param(
            [
                {
                    "prompt_tokens": 5,
                    "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 50},
                }
            ],
            {"cache_read_tokens": 3, "cache_write_5m_tokens": 2},
            id="more written than asked",
        ),
        pytest.param([{"prompt_tokens": 8, "total_tokens": 8}], {"input_tokens": 8}, id="embeddings"),
        pytest.param([{"type": "duration", "seconds": 9}], {}, id="by time"),
    ],
)
def test_openai_merge(usages: list[object], expected: Facts) -> None:
    stream = chat(*usages)
    for size in (1, len(stream)):
        assert read(OPENAI, *cut(stream, size)) == expected | {"model": "m", "complete": True}


@pytest.mark.parametrize("done", [b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"event: x\ndata: [DONE] \n\n"])
@pytest.mark.parametrize("between", [b"", b'data: {"model":"m"}\n\n'])
def test_what_follows_done_is_not_read(done: bytes, between: bytes) -> None:
    stream = CHAT.replace(b"data: [DONE]\n\n", done + between + chat({"prompt_tokens": 1}))
    assert read(OPENAI, stream) == CHAT_FACTS
    for at in range(stream.index(done), len(stream)):
        assert read(OPENAI, stream[:at], stream[at:]) == CHAT_FACTS, at
    before, _, after = stream.partition(done)
    assert read(OPENAI, before, done, after) == CHAT_FACTS


def test_done_in_text_is_text() -> None:
    talk = b'data: {"model":"m","choices":[{"delta":{"content":"data: [DONE]"}}],"usage":null}\n\n'
    assert read(OPENAI, talk + CHAT)["output_tokens"] == 30


@pytest.mark.parametrize("ending", ["completed", "incomplete", "failed"])
def test_the_last_event_of_a_response(ending: str) -> None:
    stream = RESPONSE.replace(b"response.completed", b"response." + ending.encode())
    assert read(OPENAI, stream) == RESPONSE_FACTS


def test_a_failed_response_may_have_no_usage() -> None:
    stream = named({"type": "response.failed", "response": {"model": "m", "usage": None}})
    assert read(OPENAI, stream) == {"model": "m", "complete": False}


@pytest.mark.parametrize(
    "kind",
    ["transcript.text.done", "image_generation.completed", "image_edit.completed", "speech.audio.done"],
)
def test_other_streaming_endpoints_have_final_events_too(kind: str) -> None:
    usage = {"input_tokens": 4, "output_tokens": 6, "total_tokens": 10}
    assert read(OPENAI, named({"type": kind, "usage": usage})) == {
        "input_tokens": 4,
        "output_tokens": 6,
        "complete": True,
    }


# Answers that are not streamed.


@pytest.mark.parametrize(
    ("dialect", "answer", "expected"),
    [
        pytest.param(
            ANTHROPIC,
            {
                "type": "message",
                "model": "m",
                "content": [],
                "usage": {"input_tokens": 3, "output_tokens": 4},
            },
            {"model": "m", "input_tokens": 3, "output_tokens": 4, "complete": True},
            id="message",
        ),
        pytest.param(
            OPENAI,
            {"object": "response", "model": "m", "output": [], "usage": RESPONSE_USAGE},
            RESPONSE_FACTS | {"model": "m"},
            id="response",
        ),
        pytest.param(
            OPENAI,
            {"object": "list", "data": [], "model": "m", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
            {"model": "m", "input_tokens": 8, "complete": True},
            id="embeddings",
        ),
        pytest.param(
            ANTHROPIC,
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            {"complete": False},
            id="error",
        ),
        pytest.param(ANTHROPIC, {"input_tokens": 2095}, {"complete": False}, id="count_tokens"),
        pytest.param(
            OPENAI, {"model": "m", "usage": None}, {"model": "m", "complete": False}, id="background"
        ),
    ],
)
def test_unary(dialect: Dialect, answer: dict[str, object], expected: Facts) -> None:
    for data in (json.dumps(answer).encode(), json.dumps(answer, indent=2).encode()):
        assert read(dialect, data, streamed=False) == expected
        assert read(dialect, *cut(data, 1), streamed=False) == expected


@pytest.mark.parametrize("body", [b"", b"plain text", b"\x00\xff" * 500, b"[]", b"null", b'"usage"', b"{}"])
def test_a_body_that_is_no_answer_counts_nothing(body: bytes) -> None:
    assert read(OPENAI, body, streamed=False) == {"complete": False}
    assert read(OPENAI, body) == {"complete": False}


SEARCH = {"type": "web_search_call", "action": {"type": "search"}}
SEARCH_UNTOLD = {"type": "web_search_call"}
PAGE = {"type": "web_search_call", "action": {"type": "open_page"}}
FILES = {"type": "file_search_call"}
CODE = {"type": "code_interpreter_call"}


@pytest.mark.parametrize(
    ("output", "counts", "parted"),
    [
        ([], (0, 0, 0), False),
        ([{"type": "message"}], (0, 0, 0), False),
        ([SEARCH], (1, 0, 0), True),
        ([SEARCH, PAGE, SEARCH_UNTOLD], (2, 0, 0), True),
        ([PAGE], (0, 0, 0), False),
        ([FILES], (0, 1, 0), True),
        ([FILES, SEARCH], (1, 1, 0), True),
        ([CODE, CODE], (0, 0, 2), False),
    ],
)
def test_the_tools_of_a_response_are_counted(
    output: list[object], counts: tuple[int, int, int], parted: bool
) -> None:
    answer = {"object": "response", "model": "m", "output": output, "usage": RESPONSE_USAGE}
    counted = tally(OPENAI, json.dumps(answer).encode(), streamed=False)
    assert (counted.web_searches, counted.file_searches, counted.code_runs) == counts
    assert counted.parted is parted


def test_an_answer_of_which_only_the_ends_were_kept() -> None:
    body = Window()
    body.add(b'{"model":"m","data":"')
    for _ in range(2 * EVENT_BYTES_MAX // 65_536):
        body.add(b"x" * 65_536)
    body.add(b'","usage":{"prompt_tokens":3,"completion_tokens":4}}')
    counted = Tally(OPENAI, streamed=False)
    counted.read_ends(body)
    assert facts(counted) == {"model": "m", "input_tokens": 3, "output_tokens": 4, "complete": True}


# Estimates.


def test_an_estimate_fills_in_what_is_not_known() -> None:
    counted = tally(ANTHROPIC)
    counted.estimate(4000)
    assert facts(counted) == {"input_tokens": 4000 // BYTES_PER_TOKEN, "complete": False}
    cut_short = tally(ANTHROPIC, MESSAGE[: MESSAGE.index(b"event: message_delta")])
    cut_short.estimate(4000)
    assert (cut_short.input_tokens, cut_short.output_tokens) == (25, 5)
    unary = tally(ANTHROPIC, b'{"type":"mess', streamed=False)
    unary.estimate(400)
    assert (unary.input_tokens, unary.output_tokens) == (100, 0)


def test_what_nobody_heard_is_taken_from_the_time_it_took() -> None:
    cut_short = tally(ANTHROPIC, MESSAGE[: MESSAGE.index(b"event: message_delta")])
    cut_short.estimate(4000)
    cut_short.service_tier, cut_short.speed = "priority", "fast"
    before = facts(cut_short)
    unheard = cut_short.unheard(2.5)
    assert unheard.output_tokens == 2.5 * UNHEARD_TOKENS_PER_SECOND
    assert (unheard.model, unheard.input_tokens) == (cut_short.model, 25)
    assert (unheard.service_tier, unheard.speed) == ("priority", "fast")
    # More was heard than one would think.
    assert cut_short.unheard(0.01).output_tokens == cut_short.output_tokens == 5
    assert facts(cut_short) == before


def test_between_events_is_asked_of_streams_only() -> None:
    counted = Tally(OPENAI, streamed=True)
    assert counted.between_events
    counted.feed(b"data: {")
    assert not counted.between_events
    assert not Tally(OPENAI, streamed=False).between_events


def test_finish_may_be_called_again() -> None:
    for streamed, body in [(True, CHAT), (False, b'{"usage":{"prompt_tokens":3}}')]:
        counted = tally(OPENAI, body, streamed=streamed)
        before = facts(counted)
        counted.finish()
        assert facts(counted) == before
