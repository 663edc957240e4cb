"""Precedence, the bounded cache, several models in one answer, and what is charged for the unknown."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from gateway import prices as prices_module
from gateway.price_library import Library
from gateway.price_table import PriceTable, Rates, Tier
from gateway.prices import Prices
from gateway.usage_figures import Figures
from storage.prices import PriceOverride
from tests.gateway.price_cases import DAY
from tests.support.no_library import NoLibrary

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
    assert max(len(name or "") for _, _, *names, _ in prices._tables for name in names) == 200


def test_a_long_name_s_table_is_put_together_once() -> None:
    shelf = Shelf(m=2)
    prices = Prices(shelf, 100)
    for end in ("x", "y", "x"):
        cost(prices, used("m" * 1000 + end), asked="a" * 1000 + end)
    assert shelf.asked == [("p", "m" * 200), ("p", "a" * 200)]


def test_what_is_charged_when_the_price_is_unknown() -> None:
    prices = Prices(NoLibrary(), 100)
    figures = used(input_tokens=5, output_tokens=3, cache_read_tokens=2)
    assert prices.charge(figures, 7) == 7
    assert prices.charge(figures, 0) == 0
    assert prices.charge(figures, None) == 1000
    assert prices.charge(figures, None, request_bytes=80) == 2000
    assert prices.charge(used(audio_ms=1000), None) == 10_000


# Whose price it is.


def test_of_overrides_for_both_names_that_of_who_answered_holds() -> None:
    """However long the names are: what was asked for may be an alias."""
    prices = Prices(NoLibrary(), 100)
    both = [override(1, "m-of-last-week-latest", input=7), override(2, "m-2", input=3)]
    for overrides in (both, both[::-1]):
        prices.set_overrides(overrides)
        figures = used("m-2", input_tokens=1)
        assert cost(prices, figures, asked="m-of-last-week-latest") == (3, "o2")
        assert cost(prices, used("m-3", input_tokens=1), asked="m-of-last-week-latest") == (7, "o1")
    assert cost(prices, used("m-2-next", input_tokens=1)) == (None, None)
    # An exact name still beats the beginning of one.
    prices.set_overrides([override(1, "alias", input=7), override(2, "m*", input=3)])
    assert cost(prices, used("m-2", input_tokens=1), asked="alias") == (7, "o1")


def test_an_override_holds_at_its_provider_only() -> None:
    prices = Prices(Shelf(m=2), 100)
    prices.set_overrides([override(1, "m", input=7)])
    figures = used(input_tokens=1)
    assert cost(prices, figures) == (7, "o1")
    assert prices.cost(figures, provider="q", model_asked=None, org_id=ORG, at=AT) == (2, "lib")


def test_an_organization_s_own_override_without_any_of_the_operator_s() -> None:
    shelf = Shelf(m=2)
    prices = Prices(shelf, 100)
    prices.set_overrides([override(1, "m", ORG, input=7)])
    assert cost(prices, used(input_tokens=1), org_id=ORG) == (7, "o1")
    for other in (OTHER, UUID(int=3), UUID(int=4)):
        assert cost(prices, used(input_tokens=1), org_id=other) == (2, "lib")
    # Those without prices of their own share one table.
    assert shelf.asked == [("p", "m")] * 2


def test_an_override_for_one_tier_is_laid_over_that_for_all() -> None:
    prices = Prices(Shelf(m=2), 100)
    overrides = [override(1, "m", tier="batch", input=5), override(2, "m", input=7, output=11)]
    for given in (overrides, overrides[::-1]):
        prices.set_overrides(given)
        figures = used(input_tokens=1, output_tokens=1)
        assert cost(prices, figures) == (7 + 11, "o2")
        figures.service_tier = "batch"
        assert cost(prices, figures) == (5 + 11, "o1")


def test_tiers_and_speed_reach_the_library() -> None:
    """Of Opus 5.5: $4 a million in; in a batch $2; fast $8."""
    prices = Prices(Library(), 100)
    figures = used("claude-opus-5-5", input_tokens=3)
    for figures.service_tier, figures.speed, rate in [
        (None, None, 4_000_000),
        ("batch", None, 2_000_000),
        ("standard", "fast", 8_000_000),
        ("standard", "standard", 4_000_000),
    ]:
        found = prices.cost(figures, provider="anthropic", model_asked=None, org_id=ORG, at=AT)
        assert found == (3 * rate, Library.version)


RUNS = (
    used("claude-opus-5-5", input_tokens=3, output_tokens=5),
    used("claude-sonnet-5-5", input_tokens=7, output_tokens=11),
)


def test_runs_are_priced_in_the_tier_and_by_the_overrides_of_their_request() -> None:
    """In a batch Opus 5.5 is $2 in and $10 out, Sonnet 5.5 $1 and $5; a search is $10 a thousand for both."""
    prices = Prices(Library(), 100, {"claude_eu": "anthropic"})
    figures = used("claude-sonnet-5-5", web_searches=2, parted=True)
    figures.service_tier = "batch"
    figures.runs = RUNS

    def found(org_id: UUID, provider: str = "claude_eu") -> tuple[int | None, str | None]:
        return prices.cost(figures, provider=provider, model_asked="opus", org_id=org_id, at=AT)

    searches = 2 * 10_000_000_000
    opus, sonnet = 3 * 2_000_000 + 5 * 10_000_000, 7 * 1_000_000 + 11 * 5_000_000
    assert found(ORG) == (opus + sonnet + searches, Library.version)
    own = override(1, "claude-opus-5-5", ORG, tier="batch", input=1, output=2, web_search=10**12)
    prices.set_overrides([msgspec.structs.replace(own, provider="claude_eu")])
    assert found(ORG) == (3 * 1 + 5 * 2 + sonnet + searches, Library.version)
    assert found(OTHER) == (opus + sonnet + searches, Library.version)
    assert found(ORG, "nobody") == (None, None)


def test_a_run_of_unknown_price_makes_all_unknown() -> None:
    prices = Prices(Shelf(small=1), 100)
    figures = used("small", input_tokens=2)
    figures.runs = (used("stranger", input_tokens=1), used("small", input_tokens=1))
    assert cost(prices, figures, asked="small") == (None, None)
    # So does a search that has no price, where nothing else is unknown.
    prices.set_overrides([override(1, "s", input=1, output=1)])
    figures = used("s", web_searches=1, parted=True)
    figures.runs = (used("s", input_tokens=1),)
    assert cost(prices, figures) == (None, None)


# What a table says of itself, and how long it holds.


def test_a_table_with_an_override_laid_over_it() -> None:
    """Haiku 5.5 to 100,000 input tokens: $0.10 in, $0.50 out; above: $0.50 and $2.50."""
    prices = Prices(Library(), 100, {"p": "anthropic"})
    kept = ("p", None, "claude-haiku-5-5-20261001", Tier.STANDARD, AT)
    plain = prices.table(ORG, *kept)
    assert (plain.model, plain.version) == ("claude-haiku-5-5", Library.version)
    for owner, name in [(None, "the operator"), (ORG, f"organization {ORG}")]:
        prices.set_overrides([override(17, "claude-haiku*", owner, output=3, no_such_class=4)])
        table = prices.table(ORG, *kept)
        assert table == dataclasses.replace(
            plain,
            rates=dataclasses.replace(plain.rates, output=3),
            bands=((100_000, dataclasses.replace(plain.bands[0][1], output=3)),),
            version="o17",
            source=f"override 17 of {name}",
        )
        assert (table.rates.input, table.bands[0][1].input) == (100_000, 500_000)


def test_a_table_that_only_an_override_knows() -> None:
    """What it leaves out costs what covers it; sound, searches and time are never covered."""
    prices = Prices(NoLibrary(), 100)
    prices.set_overrides([override(17, "own", input=3, output=5, cache_read=1)])
    assert prices.table(ORG, "p", None, "own", Tier.FAST, AT) == PriceTable(
        rates=Rates(
            input=3,
            cache_read=1,
            cache_write_5m=3,
            cache_write_1h=3,
            input_image=3,
            output=5,
            reasoning=5,
            output_image=5,
        ),
        version="o17",
        source="override 17 of the operator",
        model="own",
    )


def test_a_table_holds_from_its_first_moment_until_before_its_last() -> None:
    shelf = Shelf(m=2)
    prices = Prices(shelf, 100)
    midnight = AT - 12 * 3600
    for model in ("m", "stranger"):
        shelf.asked.clear()
        for at, asked in [
            (AT, 1),
            (midnight, 1),
            (midnight + 86_399.9, 1),
            (midnight + 86_400, 2),
            (AT + 86_400, 2),
            (midnight + 86_399.9, 3),
        ]:
            cost(prices, used(model), at=at)
            assert len(shelf.asked) == asked, (model, at)


def test_a_table_that_is_put_together_anew_pushes_none_out_and_is_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prices_module, "TABLES_MAX", 2)
    shelf = Shelf(m=1)
    prices = Prices(shelf, 100)
    # Models that only an override knows have the same price every day.
    prices.set_overrides([override(1, "own*", input=1)])
    for model, day in [("own", 0), ("m", 0), ("m", 1), ("own", 1), ("own-2", 1), ("m", 1)]:
        cost(prices, used(model), at=AT + day * 86_400)
    assert [model for _, model in shelf.asked] == ["own", "m", "m", "own-2"]
    cost(prices, used("own"), at=AT)
    assert [model for _, model in shelf.asked][4:] == ["own"]


def test_a_model_s_own_name() -> None:
    prices = Prices(Library(), 100, {"azure": "openai"})
    assert prices.name_of("azure", "gpt-4o-2024-08-06", AT) == "gpt-4o"
    assert prices.name_of("azure", None, AT) is None
    assert prices.name_of("azure", "nobody-s", AT) is None
    assert prices.name_of("nobody", "gpt-4o-2024-08-06", AT) is None
    # Not an organization's word for it, nor a tier's: names are for everybody's eyes.
    overrides = [
        override(1, "own", ORG, input=1),
        override(2, "our*", input=1),
        override(3, "b*", tier="batch"),
    ]
    prices.set_overrides(msgspec.structs.replace(one, provider="azure") for one in overrides)
    assert prices.name_of("azure", "own", AT) is None
    assert prices.name_of("azure", "our-model", AT) == "our*"
    assert prices.name_of("azure", "b-model", AT) is None
    prices.set_overrides([])
    assert prices.name_of("azure", "our-model", AT) is None


def test_what_is_charged_is_a_whole_number() -> None:
    prices = Prices(NoLibrary(), 100)
    # Four bytes are a token, and ten milliseconds of sound; what is left over is none.
    assert prices.charge(used(), None, request_bytes=83) == 20 * 100
    assert prices.charge(used(input_tokens=1, audio_ms=1009), None) == 101 * 100
    assert prices.charge(used(), None, request_bytes=3) == 0
