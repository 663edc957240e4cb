"""Rates, bands and tiers; what is not known is None, never nothing."""

from __future__ import annotations

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
