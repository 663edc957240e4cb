"""Each figure by itself: what it is added to, what it is taken from, and what it leaves as it was."""

from __future__ import annotations

import pytest

from gateway.usage_figures import Figures
from tests.gateway.test_usage_figures import RARE, anthropic, openai, shown


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


@pytest.mark.parametrize("figure", [-1, 1_000_000_001])
@pytest.mark.parametrize(
    "name",
    ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"],
)
def test_a_figure_that_cannot_be_keeps_what_was_told(name: str, figure: int) -> None:
    assert shown(anthropic("m", TOLD, {name: figure})) == TOLD_SHOWN | {"wrong": True}
    told: dict[str, object] = {"input_tokens": 5, "output_tokens": 7}
    if name in told:
        assert shown(openai(told, told | {name: figure})) == told | {"wrong": True}


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
        pytest.param(
            {"output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0}},
            {"output_tokens": 7, "reasoning_tokens": 4},
            id="reasoning alone",
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
        (40, 0, 10, None, None, (0, 0, 0, 10)),
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


def test_figures_of_which_nothing_was_told() -> None:
    found = Figures()
    assert (found.model, found.service_tier, found.speed) == (None, None, None)
    assert (found.wrong, found.parted, found.iterations, found.runs) == (False, False, None, ())
    told = [name for name in RARE if name not in ("model", "service_tier", "speed", "wrong", "parted")]
    assert [getattr(found, name) for name in told] == [0] * len(told)
    assert (found.tokens, found.server_tool_calls) == (0, 0)
