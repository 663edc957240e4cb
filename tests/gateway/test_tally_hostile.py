"""Figures that cannot be, answers too large to keep, and bytes that are no answer at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.refusal import Dialect
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
    Facts,
    chat,
    message,
    named,
    read,
    tally,
)

# Figures that cannot be.


@pytest.mark.parametrize(
    "figure",
    [
        "-1",
        "-9223372036854775809",
        "1000000001",
        "1000000000000000000000000000000",
        "1e309",
        "-1e309",
        "NaN",
        "Infinity",
        "1.5",
        "3.0",
        "true",
        '"7"',
        "[7]",
        "{}",
        "1" * 5000,
    ],
)
@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        (ANTHROPIC, "output_tokens"),
        (ANTHROPIC, "input_tokens"),
        (ANTHROPIC, "cache_creation_input_tokens"),
        (ANTHROPIC, "cache_read_input_tokens"),
        (OPENAI, "prompt_tokens"),
        (OPENAI, "completion_tokens"),
    ],
)
def test_a_figure_that_cannot_be_is_ignored_and_marked(dialect: Dialect, name: str, figure: str) -> None:
    good = message({"input_tokens": 5, "cache_creation_input_tokens": 8, "cache_read_input_tokens": 9})
    good += message({}, {"output_tokens": 7})
    if dialect is OPENAI:
        good = chat({"prompt_tokens": 5, "completion_tokens": 7}).replace(b"data: [DONE]\n\n", b"")
    kind = b"message_delta" if dialect is ANTHROPIC else b"chunk"
    bad = b'data: {"type":"%s","usage":{"%s":%s}}\n\n' % (kind, name.encode(), figure.encode())
    before = read(dialect, good)
    assert before["complete"]
    assert read(dialect, good, bad) == before | {"complete": False}


@given(
    st.binary(max_size=200), st.integers(0, len(MESSAGE)), st.sampled_from([ANTHROPIC, OPENAI]), st.booleans()
)
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_it_raise_or_count_below_zero(
    noise: bytes, at: int, dialect: Dialect, streamed: bool
) -> None:
    source = MESSAGE if dialect is ANTHROPIC else CHAT
    counted = tally(dialect, source[:at] + noise + source[at:], streamed=streamed)
    counted.estimate(100)
    assert all(0 <= getattr(counted, name) <= 10**9 for name in FIGURES)


figures = st.one_of(st.none(), st.integers(-5, 2_000_000_000))
usages = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "input_tokens": figures,
            "output_tokens": figures,
            "cache_creation_input_tokens": figures,
            "cache_read_input_tokens": figures,
            "cache_creation": st.one_of(
                st.none(),
                st.fixed_dictionaries(
                    {}, optional={"ephemeral_5m_input_tokens": figures, "ephemeral_1h_input_tokens": figures}
                ),
            ),
            "prompt_tokens": figures,
            "completion_tokens": figures,
            "prompt_tokens_details": st.one_of(
                st.none(),
                st.fixed_dictionaries({}, optional={"cached_tokens": figures, "cache_write_tokens": figures}),
            ),
        },
    ),
)


@given(st.lists(usages, max_size=5), st.integers(1, 200), st.sampled_from([ANTHROPIC, OPENAI]))
@settings(max_examples=200, deadline=None)
def test_any_figures_in_any_pieces(
    given_usages: list[dict[str, object]], size: int, dialect: Dialect
) -> None:
    stream = message({}, *given_usages) if dialect is ANTHROPIC else chat(*given_usages)
    found = read(dialect, stream)
    assert read(dialect, *cut(stream, size)) == found
    counted = tally(dialect, stream)
    assert all(0 <= getattr(counted, name) <= 10**9 for name in FIGURES)


# Too large to keep.

LARGE = "x" * 3_000_000


@pytest.mark.parametrize("size", [65_536, 4096])
def test_a_completed_response_beyond_the_window(size: int) -> None:
    stream = RESPONSE.replace(b'"tools": []', b'"tools": ["%s"]' % LARGE.encode())
    assert read(OPENAI, *cut(stream, size)) == RESPONSE_FACTS
    assert tally(OPENAI, *cut(stream, size)).deltas == 4


def test_a_large_image_event_does_not_hide_the_usage_after_it() -> None:
    partial = named({"type": "image_generation.partial_image", "b64_json": LARGE})
    done = named({"type": "image_generation.completed", "b64_json": LARGE, "usage": {"input_tokens": 4}})
    assert read(OPENAI, *cut(partial + done, 65_536)) == {"input_tokens": 4, "complete": True}


def test_content_of_anthropic_s_large_events_is_not_believed() -> None:
    block = {
        "type": "content_block_start",
        "content_block": {"text": LARGE, "usage": {"cache_read_input_tokens": 9}},
    }
    stream = MESSAGE.replace(b"event: ping\n", named(block) + b"event: ping\n")
    assert read(ANTHROPIC, *cut(stream, 65_536)) == MESSAGE_FACTS


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(
            {"model": "m", "choices": [LARGE], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
            {"model": "m", "input_tokens": 3, "output_tokens": 4, "complete": True},
            id="chat",
        ),
        pytest.param(
            {"data": [LARGE], "model": "m", "usage": {"prompt_tokens": 3}},
            {"model": "m", "input_tokens": 3, "complete": True},
            id="embeddings",
        ),
        pytest.param(
            {
                "model": "m",
                "output": [LARGE],
                "usage": {"input_tokens": 3},
                "metadata": {"usage": "mine"},
                "tools": [{"usage": {"type": "object"}}, {"usage": None}, {"usage": 7}],
            },
            {"model": "m", "input_tokens": 3, "complete": True},
            id="other things of that name behind it",
        ),
        pytest.param({"data": LARGE}, {"complete": False}, id="none"),
        pytest.param({"data": LARGE, "x": ['"usage"'] * 20_000}, {"complete": False}, id="text about it"),
    ],
)
def test_an_unary_answer_beyond_the_window(answer: dict[str, object], expected: Facts) -> None:
    assert read(OPENAI, *cut(json.dumps(answer).encode(), 65_536), streamed=False) == expected


def test_a_message_beyond_the_window() -> None:
    usage = {"input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 4}
    answer = {"model": "m", "content": [LARGE], "usage": usage}
    found = read(ANTHROPIC, *cut(json.dumps(answer).encode(), 65_536), streamed=False)
    assert found == {
        "model": "m",
        "input_tokens": 3,
        "cache_read_tokens": 5,
        "output_tokens": 4,
        "complete": True,
    }


@pytest.mark.parametrize(
    "tail", [b'"usage"', b'"usage":{', b'"usage":' + b"[" * 100, b'"usage":' + b"9" * 50]
)
def test_a_file_full_of_the_word_costs_a_glance(tail: bytes) -> None:
    assert read(OPENAI, *cut(b"x" * 2_000_000 + tail * 50_000, 65_536), streamed=False) == {"complete": False}


def test_deep_nesting_is_survived() -> None:
    for deep in (b"[" * 100_000, b'{"usage":' * 100_000):
        body = b'{"model":"m","usage":' + deep
        assert read(OPENAI, body, streamed=False) == {"complete": False}
        assert read(OPENAI, b"data: " + body + b"\n\n" + CHAT) | {"complete": True} == CHAT_FACTS
        assert read(OPENAI, *cut(b"x" * 2_000_000 + body, 65_536), streamed=False)["complete"] is False
