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


# Each figure by itself: what it is added to, what it is taken from, and what it leaves as it was.


def test_what_a_limit_on_tokens_counts() -> None:
    figures = Figures()
    figures.input_tokens, figures.output_tokens, figures.cache_read_tokens = 1, 20, 300
    figures.cache_write_5m_tokens, figures.cache_write_1h_tokens = 4_000, 50_000
    # Parts of those.
    figures.reasoning_tokens = figures.input_audio_tokens = figures.output_image_tokens = 1
    assert figures.tokens == 54_321
    figures.web_searches, figures.web_fetches, figures.file_searches, figures.code_runs = 1, 20, 300, 4_000
    assert figures.server_tool_calls == 4_321


TOLD: dict[str, object] = {
    "input_tokens": 3,
    "output_tokens": 9,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 30,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    "output_tokens_details": {"thinking_tokens": 5},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
}
TOLD_SHOWN = {
    "model": "m",
    "input_tokens": 3,
    "output_tokens": 9,
    "cache_read_tokens": 4,
    "cache_write_5m_tokens": 10,
    "cache_write_1h_tokens": 20,
    "reasoning_tokens": 5,
    "web_searches": 2,
    "web_fetches": 1,
    "parted": True,
}


@pytest.mark.parametrize("figure", [None, -1, 1_000_000_001])
@pytest.mark.parametrize(
    ("inside", "name"),
    [
        ("cache_creation", "ephemeral_5m_input_tokens"),
        ("cache_creation", "ephemeral_1h_input_tokens"),
        ("output_tokens_details", "thinking_tokens"),
        ("server_tool_use", "web_search_requests"),
        ("server_tool_use", "web_fetch_requests"),
    ],
)
def test_a_nested_figure_that_tells_nothing_keeps_what_was_told(
    inside: str, name: str, figure: int | None
) -> None:
    wrong = {} if figure is None else {"wrong": True}
    assert shown(anthropic("m", TOLD, {inside: {name: figure}})) == TOLD_SHOWN | wrong


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        # Everything written is kept for an hour, or more than everything: the short class has nothing left.
        ({"cache_creation_input_tokens": 20}, {"cache_write_5m_tokens": 0}),
        ({"cache_creation_input_tokens": 15}, {"cache_write_5m_tokens": 0}),
        ({"cache_creation_input_tokens": 21}, {"cache_write_5m_tokens": 1}),
        ({"output_tokens_details": {"thinking_tokens": 0}}, {"reasoning_tokens": 0}),
        ({"output_tokens": 1_000_000_000}, {"output_tokens": 1_000_000_000}),
    ],
)
def test_a_later_figure_of_anthropic_s(later: dict[str, object], expected: dict[str, object]) -> None:
    after = TOLD_SHOWN | expected
    assert shown(anthropic("m", TOLD, later)) == {name: value for name, value in after.items() if value}


def test_no_more_cache_writes_than_none() -> None:
    assert shown(anthropic("m", {"cache_creation_input_tokens": 5}, {"cache_creation_input_tokens": 0})) == {
        "model": "m"
    }


@pytest.mark.parametrize(("searches", "fetches", "parted"), [(1, 0, True), (0, 3, False), (0, 0, False)])
def test_only_searches_are_paid_for_apart(searches: int, fetches: int, parted: bool) -> None:
    tools = {"web_search_requests": searches, "web_fetch_requests": fetches}
    assert anthropic("m", {"server_tool_use": tools}).parted is parted
    # What was parted before stays so.
    assert anthropic("m", TOLD, {"server_tool_use": {"web_search_requests": 0}}).parted


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(
            {"output_tokens": 7, "output_tokens_details": {"image_tokens": 1}},
            {"output_tokens": 7, "output_image_tokens": 1, "parted": True},
            id="an image alone",
        ),
        pytest.param(
            {"completion_tokens": 7, "completion_tokens_details": {"audio_tokens": 1}},
            {"output_tokens": 7, "output_audio_tokens": 1, "parted": True},
            id="sound alone",
        ),
        pytest.param({"seconds": 0}, {"parted": True}, id="no time at all"),
        pytest.param({"seconds": 0.5004}, {"audio_ms": 500, "parted": True}, id="half a second"),
        pytest.param({"seconds": 1e6}, {"audio_ms": 10**9, "parted": True}, id="the longest time"),
        pytest.param(
            {
                "input_tokens": 50,
                "input_tokens_details": {
                    "cache_write_tokens": 40,
                    "cache_write_tokens_details": {"ttl_12h_tokens": 90},
                },
            },
            {"input_tokens": 10, "cache_write_1h_tokens": 40},
            id="no more is kept long than was written",
        ),
        pytest.param(
            {
                "input_tokens": 50,
                "input_tokens_details": {
                    "cache_write_tokens": 40,
                    "cache_write_tokens_details": {"ttl_30m_tokens": 40},
                },
            },
            {"input_tokens": 10, "cache_write_5m_tokens": 40},
            id="nothing kept long",
        ),
    ],
)
def test_openai_s_rare_figures(usage: dict[str, object], expected: dict[str, object]) -> None:
    assert shown(openai(usage)) == expected


@pytest.mark.parametrize(
    ("cached", "sound", "images", "cached_sound", "cached_images", "expected"),
    [
        # Of 100 tokens. Expected: sound and images read from the cache, then those that were not.
        (40, 70, 0, None, None, (0, 0, 60, 0)),
        (40, 20, 30, 15, 25, (15, 25, 5, 5)),
        # No more sound was cached than there was cache, or sound.
        (40, 70, 0, 50, 0, (40, 0, 30, 0)),
        (40, 20, 0, 30, 0, (20, 0, 0, 0)),
        # No more images than the cache has beside the sound, or than there were.
        (40, 20, 50, 15, 50, (15, 25, 5, 25)),
        (40, 0, 10, 0, 20, (0, 10, 0, 0)),
        # Images that were not cached, at most what the sound leaves of the input.
        (40, 50, 60, 0, 0, (0, 0, 50, 10)),
        (0, 1, 0, 0, 0, (0, 0, 1, 0)),
        (0, 0, 1, 0, 0, (0, 0, 0, 1)),
    ],
)
def test_sound_and_images_in_and_out_of_the_cache(
    cached: int,
    sound: int,
    images: int,
    cached_sound: int | None,
    cached_images: int | None,
    expected: tuple[int, int, int, int],
) -> None:
    cached_details = {"audio_tokens": cached_sound, "image_tokens": cached_images}
    details = {
        "cached_tokens": cached,
        "audio_tokens": sound,
        "image_tokens": images,
        "cached_tokens_details": cached_details,
    }
    found = openai({"input_tokens": 100, "input_tokens_details": details})
    assert (
        found.cache_read_audio_tokens,
        found.cache_read_image_tokens,
        found.input_audio_tokens,
        found.input_image_tokens,
    ) == expected
    assert (found.input_tokens, found.cache_read_tokens, found.parted) == (100 - cached, cached, True)


def test_openai_s_later_words() -> None:
    details = {"reasoning_tokens": 3, "audio_tokens": 2, "image_tokens": 1}
    first: dict[str, object] = {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": details}
    before = shown(openai(first))
    nothing = dict.fromkeys(details)
    assert shown(openai(first, {"output_tokens_details": nothing})) == before
    assert shown(openai(first, {"output_tokens_details": dict.fromkeys(details, -1)})) == before | {
        "wrong": True
    }
    assert openai(first, {"input_tokens": 0}).input_tokens == 0
