"""Rates, bands and tiers; what is not known is None, never nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.price_table import FREE, UNKNOWN, PriceTable, Rates, Tier, tier_of
from gateway.usage_figures import TOKENS_MAX, Figures


def table(rates: Rates, *bands: tuple[int, Rates]) -> PriceTable:
    return PriceTable(rates=rates, bands=bands, version="1", source="a test")


def used(parted: bool = False, **counts: int) -> Figures:
    figures = Figures()
    for name, value in counts.items():
        setattr(figures, name, value)
    figures.parted = parted
    return figures


@pytest.mark.parametrize(
    ("word", "speed", "tier"),
    [
        (None, None, Tier.STANDARD),
        ("default", None, Tier.STANDARD),
        ("standard", "standard", Tier.STANDARD),
        ("auto", None, Tier.STANDARD),
        ("", None, Tier.STANDARD),
        ("standard_only", None, Tier.STANDARD),
        ("on_demand", None, Tier.STANDARD),
        ("scale", None, Tier.STANDARD),
        ("batch", None, Tier.BATCH),
        ("flex", None, Tier.FLEX),
        ("priority", None, Tier.PRIORITY),
        ("fast", None, Tier.FAST),
        ("standard", "fast", Tier.FAST),
        ("tomorrow's", None, Tier.UNKNOWN),
    ],
)
def test_the_providers_words_for_tiers(word: str | None, speed: str | None, tier: Tier) -> None:
    assert tier_of(word, speed) is tier


CLASSES = {
    "input": {"input_tokens": 1},
    "output": {"output_tokens": 1},
    "cache_read": {"cache_read_tokens": 1},
    "cache_write_5m": {"cache_write_5m_tokens": 1},
    "cache_write_1h": {"cache_write_1h_tokens": 1},
    "reasoning": {"output_tokens": 1, "reasoning_tokens": 1},
    "input_audio": {"input_tokens": 1, "input_audio_tokens": 1},
    "input_image": {"input_tokens": 1, "input_image_tokens": 1},
    "cache_read_audio": {"cache_read_tokens": 1, "cache_read_audio_tokens": 1},
    "cache_read_image": {"cache_read_tokens": 1, "cache_read_image_tokens": 1},
    "output_audio": {"output_tokens": 1, "output_audio_tokens": 1},
    "output_image": {"output_tokens": 1, "output_image_tokens": 1},
    "web_search": {"web_searches": 1},
    "file_search": {"file_searches": 1},
    "audio_hour": {"audio_ms": 3_600_000},
}


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_has_its_own_rate(name: str) -> None:
    """Known alone it is the whole cost; unknown alone it makes the cost unknown."""
    counts = used(parted=True, **CLASSES[name])
    others = dict.fromkeys(CLASSES, 0)
    assert table(Rates(**others | {name: 7})).cost(counts) == 7
    assert table(Rates(**others | {name: UNKNOWN})).cost(counts) is None
    assert table(FREE).cost(counts) == 0


@pytest.mark.parametrize("parted", [False, True])
def test_what_was_used_of_each_class_adds_up(parted: bool) -> None:
    rates = Rates(
        input=2, output=3, cache_read=5, cache_write_5m=7, cache_write_1h=11, reasoning=13, request=17
    )
    counts = used(
        parted,
        input_tokens=100,
        output_tokens=50,
        cache_read_tokens=30,
        cache_write_5m_tokens=20,
        cache_write_1h_tokens=10,
        reasoning_tokens=8,
    )
    assert table(rates).cost(counts) == 17 + 2 * 100 + 3 * 42 + 5 * 30 + 7 * 20 + 11 * 10 + 13 * 8
    for name in ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning"):
        assert table(replace(rates, **{name: UNKNOWN})).cost(counts) is None


PARTS = Rates(
    input=2,
    input_audio=3,
    input_image=5,
    cache_read=7,
    cache_read_audio=11,
    cache_read_image=13,
    cache_write_5m=17,
    cache_write_1h=19,
    output=23,
    reasoning=29,
    output_audio=31,
    output_image=37,
    web_search=41,
    file_search=43,
    audio_hour=100,
    request=47,
)


def test_parts_are_taken_out_of_what_they_are_parts_of() -> None:
    counts = used(
        True,
        input_tokens=100,
        input_audio_tokens=20,
        input_image_tokens=30,
        cache_read_tokens=60,
        cache_read_audio_tokens=10,
        cache_read_image_tokens=15,
        cache_write_5m_tokens=8,
        cache_write_1h_tokens=9,
        output_tokens=90,
        reasoning_tokens=20,
        output_audio_tokens=25,
        output_image_tokens=5,
        web_searches=2,
        file_searches=3,
        audio_ms=1_800_000,
    )
    inputs = 2 * 50 + 3 * 20 + 5 * 30
    cached = 7 * 35 + 11 * 10 + 13 * 15 + 17 * 8 + 19 * 9
    outputs = 23 * 40 + 29 * 20 + 31 * 25 + 37 * 5
    assert table(PARTS).cost(counts) == 47 + inputs + cached + outputs + 41 * 2 + 43 * 3 + 50


def test_parts_are_never_more_than_what_they_are_parts_of() -> None:
    counts = used(True, output_tokens=50, reasoning_tokens=40, output_audio_tokens=30, output_image_tokens=20)
    assert table(PARTS).cost(counts) == 47 + 29 * 40 + 31 * 10
    counts.reasoning_tokens, counts.output_audio_tokens = 10, 30
    assert table(PARTS).cost(counts) == 47 + 29 * 10 + 31 * 30 + 37 * 10


@pytest.mark.parametrize("name", CLASSES)
def test_the_dearest_that_a_token_may_turn_out_to_be(name: str) -> None:
    rates = Rates(**dict.fromkeys(CLASSES, 1) | {name: 9})
    inputs, outputs = ("input", "cache_write_5m", "input_audio"), ("output", "reasoning")
    assert rates.dearest_input == (9 if name in inputs else 1)
    assert rates.dearest_output == (9 if name in (*outputs, "output_audio", "output_image") else 1)


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_counted_may_be_free(name: str) -> None:
    assert Rates(**{name: 0}).by_tokens is (name in ("input", "output", "audio_hour"))


@pytest.mark.parametrize("parted", [False, True])
def test_reasoning_costs_as_output_unless_it_has_a_rate(parted: bool) -> None:
    counts = used(parted, output_tokens=10, reasoning_tokens=4)
    assert table(Rates(input=1, output=5, reasoning=5)).cost(counts) == 50
    assert table(Rates(input=1, output=5, reasoning=2)).cost(counts) == 38
    # A provider that says more reasoning than output is not believed.
    counts.reasoning_tokens = 11
    assert table(Rates(input=1, output=5, reasoning=2)).cost(counts) == 20


def test_bands_go_by_all_input() -> None:
    cheap, dear, dearest = (Rates(input=n, output=n, reasoning=n, cache_read=n) for n in (1, 2, 3))
    prices = table(cheap, (10, dear), (20, dearest))
    for count, rate in [(10, 1), (11, 2), (20, 2), (21, 3)]:
        assert prices.cost(used(input_tokens=count)) == count * rate
        assert prices.cost(used(input_tokens=count - 5, cache_read_tokens=5)) == count * rate
    assert prices.cost(used(output_tokens=100)) == 100


def test_a_request_may_cost_of_itself() -> None:
    assert table(Rates(input=1, output=1, reasoning=1, request=50)).cost(used(input_tokens=2)) == 52


def test_what_is_billed_by_characters_is_unknown_even_when_nothing_was_counted() -> None:
    assert table(Rates()).cost(used()) is None
    assert table(Rates(input=3)).cost(used()) == 0


def test_sound_by_time_is_rounded_up_and_has_a_least() -> None:
    assert table(Rates(audio_hour=3_600_001)).cost(used(True, audio_ms=1)) == 2
    assert table(Rates(audio_hour=3_600_000, audio_ms_min=10)).cost(used(True, audio_ms=1)) == 10
    assert table(Rates(audio_hour=3_600_000, audio_ms_min=10)).cost(used(True, audio_ms=0)) == 0


def test_no_known_sum_hides_an_unknown_class() -> None:
    """The largest counts at the largest prices stay below what a single unknown token takes away."""
    rates = Rates(**dict.fromkeys(CLASSES, 10**12) | {"web_search": UNKNOWN, "audio_hour": 10**18})
    most = used(parted=True, **{name: TOKENS_MAX for counts in CLASSES.values() for name in counts})
    most.web_searches = 1
    assert table(rates).cost(most) is None
