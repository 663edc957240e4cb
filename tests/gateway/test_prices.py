"""Precedence, the bounded cache, several models in one answer, and what is charged for the unknown."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from gateway import prices as prices_module
from gateway.price_library import Library
from gateway.price_table import PriceTable, Rates, Tier
from gateway.prices import NoLibrary, Prices
from gateway.usage_figures import Figures
from storage.prices import PriceOverride
from tests.gateway.price_cases import DAY

ORG, OTHER = UUID(int=1), UUID(int=2)
AT = DAY.timestamp()
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


class Shelf:
    """A source that knows a few models, and counts how often it was asked."""

    def __init__(self, **rates: int) -> None:
        self.rates = rates
        self.asked: list[tuple[str, str]] = []

    def compile(self, provider: str, model: str, tier: Tier, at: float) -> PriceTable | None:
        self.asked.append((provider, model))
        if model not in self.rates or tier is Tier.UNKNOWN:
            return None
        day = at // 86_400 * 86_400
        rate = self.rates[model]
        return PriceTable(
            rates=Rates(input=rate, output=rate, cache_read=rate, reasoning=rate, web_search=rate),
            bands=((1000, Rates(input=9 * rate, output=9 * rate, reasoning=9 * rate)),),
            version="lib",
            source="shelf",
            valid_from=day,
            valid_until=day + 86_400,
        )


def used(model: str | None = "m", **counts: int) -> Figures:
    figures = Figures(model)
    for name, value in counts.items():
        setattr(figures, name, value)
    return figures


def cost(
    prices: Prices, figures: Figures, *, org_id: UUID = ORG, asked: str | None = None, at: float = AT
) -> tuple[int | None, str | None]:
    return prices.cost(figures, provider="p", model_asked=asked, org_id=org_id, at=at)


def override(
    number: int, model: str, org_id: UUID | None = None, tier: str | None = None, **rates: int
) -> PriceOverride:
    return PriceOverride(
        override_id=number,
        org_id=org_id,
        provider="p",
        model=model,
        tier=tier,
        rates=rates,
        created_at=CREATED,
    )


def test_who_answered_is_priced_then_who_was_asked() -> None:
    prices = Prices(Shelf(m=2, asked=3), 100)
    assert cost(prices, used("m", input_tokens=5), asked="asked") == (10, "lib")
    assert cost(prices, used("m-next", input_tokens=5), asked="asked") == (15, "lib")
    assert cost(prices, used(None, input_tokens=5), asked="asked") == (15, "lib")
    assert cost(prices, used("m-next", input_tokens=5), asked="m-later") == (None, None)
    assert cost(prices, used(None, input_tokens=5)) == (None, None)


def test_a_real_library_is_a_source() -> None:
    prices = Prices(Library(), 100, {"claude_eu": "anthropic"})
    figures = used("claude-sonnet-5-5", input_tokens=2)
    for provider in ("anthropic", "claude_eu"):
        found = prices.cost(figures, provider=provider, model_asked=None, org_id=ORG, at=AT)
        assert found == (4_000_000, Library.version)


def test_the_simulated_provider_costs_nothing() -> None:
    prices = Prices(NoLibrary(), 100)
    figures = used("whatever", input_tokens=2, web_searches=1, parted=True)
    assert prices.cost(figures, provider="simulated", model_asked=None, org_id=ORG, at=AT) == (0, "free")


def test_precedence_class_by_class() -> None:
    prices = Prices(Shelf(m=2), 100)
    prices.set_overrides(
        [
            override(1, "m", input=10, output=20),
            override(2, "m", ORG, output=30),
        ]
    )
    figures = used(input_tokens=1, output_tokens=1, cache_read_tokens=1)
    assert cost(prices, figures, org_id=ORG) == (10 + 30 + 2, "o2")
    assert cost(prices, figures, org_id=OTHER) == (10 + 20 + 2, "o1")
    prices.set_overrides([])
    assert cost(prices, figures) == (6, "lib")


def test_an_override_holds_for_prompts_of_any_length() -> None:
    prices = Prices(Shelf(m=2), 100)
    prices.set_overrides([override(1, "m", input=1)])
    assert cost(prices, used(input_tokens=2000, output_tokens=1)) == (2000 + 18, "o1")


@pytest.mark.parametrize(
    ("tier", "version"), [(None, "o3"), ("batch", "o4"), ("flex", "o3"), ("a new one", "o3")]
)
def test_tiers_and_names_of_overrides(tier: str | None, version: str) -> None:
    prices = Prices(Shelf(model=2), 100)
    prices.set_overrides(
        [
            override(1, "m*", input=1, output=1),
            override(2, "mod*", input=1, output=1),
            override(3, "model", input=1, output=1),
            override(4, "mod*", tier="batch", input=1, output=1),
            override(5, "model-x", input=1, output=1),
        ]
    )
    figures = used("model", input_tokens=1)
    figures.service_tier = tier
    assert cost(prices, figures) == (1, version)
    assert cost(prices, used("modest", input_tokens=1)) == (1, "o2")
    assert cost(prices, used("x", input_tokens=1), asked="mx") == (1, "o1")


def test_a_model_that_only_an_override_knows() -> None:
    prices = Prices(NoLibrary(), 100)
    prices.set_overrides([override(1, "own", input=3, output=5)])
    figures = used("own", input_tokens=1, output_tokens=1, cache_read_tokens=1, cache_write_1h_tokens=1)
    assert cost(prices, figures) == (3 + 5 + 3 + 3, "o1")
    figures.input_audio_tokens, figures.parted = 1, True
    assert cost(prices, figures) == (None, None)


def test_several_models_in_one_answer() -> None:
    prices = Prices(Shelf(big=10, small=1), 100)
    figures = used("small", input_tokens=5, output_tokens=2, web_searches=3, parted=True)
    figures.runs = (
        used("big", input_tokens=2, output_tokens=1),
        used("small", input_tokens=3, output_tokens=1),
    )
    assert cost(prices, figures, asked="big") == (3 * 10 + 4 * 1 + 3 * 1, "lib")
    figures.runs += (used("stranger", input_tokens=1),)
    assert cost(prices, figures) == (None, None)


def test_a_table_is_put_together_once_a_day() -> None:
    shelf = Shelf(m=2)
    prices = Prices(shelf, 100)
    for _ in range(3):
        cost(prices, used())
        cost(prices, used("stranger"))
    assert shelf.asked == [("p", "m"), ("p", "stranger")]
    cost(prices, used(), at=AT + 86_400)
    cost(prices, used("stranger"), at=AT + 86_400)
    assert shelf.asked == [("p", "m"), ("p", "stranger")] * 2


def test_strangers_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices_module, "TABLES_MAX", 10)
    shelf = Shelf(m=2)
    prices = Prices(shelf, 100)
    for number in range(50):
        assert cost(prices, used(f"m{number}" + "x" * 1000)) == (None, None)
    assert len(prices._tables) == 10
    assert max(len(model) for _, model in shelf.asked) == 200


def test_what_is_charged_when_the_price_is_unknown() -> None:
    prices = Prices(NoLibrary(), 100)
    figures = used(input_tokens=5, output_tokens=3, cache_read_tokens=2)
    assert prices.charge(figures, 7) == 7
    assert prices.charge(figures, 0) == 0
    assert prices.charge(figures, None) == 1000
    assert prices.charge(figures, None, request_bytes=80) == 2000
    assert prices.charge(used(audio_ms=1000), None) == 10_000
