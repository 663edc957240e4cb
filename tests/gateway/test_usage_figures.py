"""Token classes few answers have: sound, images, searches, tiers, time, and answers of several models."""

from __future__ import annotations

import json

import msgspec
import pytest

from gateway.usage_figures import RUNS_MAX, Figures
from gateway.usage_objects import AnthropicUsage, OpenAIUsage
from tests.gateway.recorded_streams import ANTHROPIC, OPENAI, chat, message, named, tally

RARE = (
    "audio_ms",
    "cache_read_audio_tokens",
    "cache_read_image_tokens",
    "cache_read_tokens",
    "cache_write_1h_tokens",
    "cache_write_5m_tokens",
    "code_runs",
    "file_searches",
    "input_audio_tokens",
    "input_image_tokens",
    "input_tokens",
    "model",
    "output_audio_tokens",
    "output_image_tokens",
    "output_tokens",
    "parted",
    "reasoning_tokens",
    "service_tier",
    "speed",
    "web_fetches",
    "web_searches",
    "wrong",
)


def shown(figures: Figures) -> dict[str, object]:
    """What is not nothing."""
    return {name: value for name in RARE if (value := getattr(figures, name))}


def openai(*usages: dict[str, object]) -> Figures:
    figures = Figures()
    for usage in usages:
        figures.merge_openai(msgspec.convert(usage, OpenAIUsage))
    figures.fold()
    return figures


def anthropic(model: str, *usages: dict[str, object]) -> Figures:
    figures = Figures(model)
    for usage in usages:
        figures.merge_anthropic(msgspec.convert(usage, AnthropicUsage))
    figures.fold()
    return figures


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(
            {
                "input_tokens": 100,
                "input_token_details": {
                    "text_tokens": 30,
                    "audio_tokens": 70,
                    "cached_tokens": 40,
                    "cached_tokens_details": {"text_tokens": 10, "audio_tokens": 30},
                },
                "output_tokens": 50,
                "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
            },
            {
                "input_tokens": 60,
                "cache_read_tokens": 40,
                "cache_read_audio_tokens": 30,
                "input_audio_tokens": 40,
                "output_tokens": 50,
                "output_audio_tokens": 40,
                "parted": True,
            },
            id="realtime",
        ),
        pytest.param(
            {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 60,
                "output_tokens_details": {"image_tokens": 55, "text_tokens": 5},
            },
            {
                "input_tokens": 50,
                "input_image_tokens": 40,
                "output_tokens": 60,
                "output_image_tokens": 55,
                "parted": True,
            },
            id="images",
        ),
        pytest.param(
            {"type": "tokens", "input_tokens": 14, "input_token_details": {"audio_tokens": 14}},
            {"input_tokens": 14, "input_audio_tokens": 14, "parted": True},
            id="a transcription by tokens",
        ),
        pytest.param(
            {"type": "duration", "seconds": 9.25},
            {"audio_ms": 9250, "parted": True},
            id="by time",
        ),
        pytest.param({"seconds": -1}, {"wrong": True}, id="time cannot run backwards"),
        pytest.param({"seconds": 1e12}, {"wrong": True}, id="nor for ever"),
        pytest.param(
            {
                "input_tokens": 100,
                "input_tokens_details": {
                    "cached_tokens": 0,
                    "cache_write_tokens": 90,
                    "cache_write_tokens_details": {"ttl_30m_tokens": 60, "ttl_12h_tokens": 30},
                },
            },
            {"input_tokens": 10, "cache_write_5m_tokens": 60, "cache_write_1h_tokens": 30},
            id="kept short and kept long",
        ),
        pytest.param(
            {"prompt_tokens": 10, "prompt_tokens_details": {"audio_tokens": 99, "image_tokens": 99}},
            {"input_tokens": 10, "input_audio_tokens": 10, "parted": True},
            id="parts never exceed the whole",
        ),
    ],
)
def test_openai(usage: dict[str, object], expected: dict[str, object]) -> None:
    assert shown(openai(usage)) == expected
    assert shown(openai(usage, usage)) == expected


def test_a_later_word_without_sound_takes_it_back() -> None:
    spoken: dict[str, object] = {"prompt_tokens": 10, "prompt_tokens_details": {"audio_tokens": 4}}
    assert openai(spoken, {"prompt_tokens": 10}).input_audio_tokens == 0


def test_tiers_and_speed() -> None:
    stream = message({"input_tokens": 5, "service_tier": "priority", "speed": "fast"}, {"output_tokens": 3})
    counted = tally(ANTHROPIC, stream)
    assert (counted.service_tier, counted.speed) == ("priority", "fast")
    chunk = {"model": "m", "service_tier": "flex", "choices": [], "usage": {"prompt_tokens": 3}}
    assert tally(OPENAI, json.dumps(chunk).encode(), streamed=False).service_tier == "flex"
    assert tally(OPENAI, chat({"prompt_tokens": 3})).service_tier is None
    done = {
        "type": "response.completed",
        "response": {"service_tier": "priority", "usage": {"input_tokens": 3}},
    }
    begun = {"type": "response.created", "response": {"service_tier": "auto", "model": "m"}}
    assert tally(OPENAI, named(begun, done)).service_tier == "priority"


OUTPUT = [
    {"type": "web_search_call", "action": {"type": "search", "query": "x"}},
    {"type": "web_search_call", "action": {"type": "open_page", "url": "x"}},
    {"type": "web_search_call"},
    {"type": "file_search_call"},
    {"type": "code_interpreter_call"},
    {"type": "message", "content": [{"text": "web_search_call"}]},
]


def test_searches_of_a_response() -> None:
    response = {"object": "response", "model": "m", "output": OUTPUT, "usage": {"input_tokens": 3}}
    whole = tally(OPENAI, json.dumps(response).encode(), streamed=False)
    streamed = tally(OPENAI, named({"type": "response.completed", "response": response}))
    for counted in (whole, streamed):
        assert (counted.web_searches, counted.file_searches, counted.code_runs) == (2, 1, 1)
        assert counted.server_tool_calls == 4
        assert counted.complete


@pytest.mark.parametrize("output", ["a_call", {"a_call": 1}, [1, "a_call"], [{"type": 7, "x": "a_call"}]])
def test_an_output_of_another_kind_counts_no_searches(output: object) -> None:
    body = json.dumps({"output": output, "usage": {"input_tokens": 3}}).encode()
    counted = tally(OPENAI, body, streamed=False)
    assert (counted.server_tool_calls, counted.input_tokens, counted.complete) == (0, 3, True)


# Anthropic's sampling runs.


def run(kind: str, model: str | None = None, **figures: object) -> dict[str, object]:
    return {"type": kind, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, **figures} | (
        {} if model is None else {"model": model}
    )


def test_a_compaction_is_added_once() -> None:
    iterations = [
        run("compaction", input_tokens=180, output_tokens=30),
        run("message", input_tokens=20, output_tokens=5),
    ]
    figures = anthropic("m", {"input_tokens": 20, "output_tokens": 5, "iterations": iterations})
    assert shown(figures) == {"model": "m", "input_tokens": 200, "output_tokens": 35}
    assert figures.runs == ()
    figures.fold()
    assert figures.input_tokens == 200


def test_a_fallback_is_told_apart_by_model() -> None:
    iterations = [
        run("message", "big", input_tokens=100, output_tokens=1),
        run("fallback_message", "small", input_tokens=100, output_tokens=50, cache_read_input_tokens=7),
    ]
    usage = {"input_tokens": 200, "output_tokens": 51, "cache_read_input_tokens": 7, "iterations": iterations}
    figures = anthropic("big", usage)
    assert shown(figures) == {
        "model": "small",
        "input_tokens": 200,
        "output_tokens": 51,
        "cache_read_tokens": 7,
    }
    assert [shown(part) for part in figures.runs] == [
        {"model": "big", "input_tokens": 100, "output_tokens": 1},
        {"model": "small", "input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 7},
    ]


def test_an_advisor_is_paid_for_apart() -> None:
    iterations = [
        run("message", input_tokens=10, output_tokens=2),
        run("advisor_message", "wise", input_tokens=30, output_tokens=4),
    ]
    figures = anthropic("m", {"input_tokens": 10, "output_tokens": 2, "iterations": iterations})
    assert shown(figures) == {"model": "m", "input_tokens": 40, "output_tokens": 6}
    assert [(part.model, part.tokens) for part in figures.runs] == [("m", 12), ("wise", 34)]


def test_an_advisor_that_is_in_the_totals_is_not_added() -> None:
    iterations = [
        run("message", input_tokens=10, output_tokens=2),
        run("advisor_message", "wise", input_tokens=30, output_tokens=4),
        run("compaction", input_tokens=5, output_tokens=1),
    ]
    figures = anthropic("m", {"input_tokens": 40, "output_tokens": 6, "iterations": iterations})
    assert shown(figures) == {"model": "m", "input_tokens": 45, "output_tokens": 7}
    assert [(part.model, part.tokens) for part in figures.runs] == [("m", 18), ("wise", 34)]


def test_a_breakdown_that_does_not_add_up_is_none() -> None:
    iterations = [run("message", "other", input_tokens=3, output_tokens=1)]
    figures = anthropic("m", {"input_tokens": 20, "output_tokens": 5, "iterations": iterations})
    assert shown(figures) == {"model": "m", "input_tokens": 20, "output_tokens": 5}
    assert figures.runs == ()


def test_models_of_one_answer_are_bounded() -> None:
    iterations = [run("message", f"m{index}", input_tokens=1, output_tokens=1) for index in range(100)]
    figures = anthropic("m", {"input_tokens": 100, "output_tokens": 100, "iterations": iterations})
    assert len(figures.runs) == RUNS_MAX
    assert sum(part.tokens for part in figures.runs) == figures.tokens == 200


def test_a_streamed_fallback() -> None:
    iterations = [
        run("message", "m", input_tokens=5, output_tokens=0),
        run("fallback_message", "n", input_tokens=5, output_tokens=9),
    ]
    stream = message(
        {"input_tokens": 5, "output_tokens": 1},
        {"input_tokens": 10, "output_tokens": 9, "iterations": iterations},
    )
    counted = tally(ANTHROPIC, stream)
    assert (counted.model, counted.tokens, counted.complete) == ("n", 19, True)
    assert [(part.model, part.tokens) for part in counted.runs] == [("m", 5), ("n", 14)]
    counted.finish()
    assert counted.tokens == 19
