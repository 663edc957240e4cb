"""Costs by hand, and the library's own arithmetic against ours."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from genai_prices.data import providers
from genai_prices.types import ModelInfo, Provider
from genai_prices.types import Usage as TheirUsage
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.price_library import Library
from gateway.price_table import Tier, tier_of
from gateway.usage_figures import Figures
from tests.gateway.price_cases import CASES, DAY, Case

LIBRARY = Library()


def figures(counts: dict[str, int]) -> Figures:
    found = Figures()
    for name, value in counts.items():
        setattr(found, name, value)
    found.parted = True
    return found


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 70


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.provider} {case.model}")
def test_a_cost_by_hand(case: Case) -> None:
    tier = tier_of(case.tier, case.speed)
    table = LIBRARY.compile(case.provider, case.model, tier, case.at.timestamp())
    counted = figures(case.used)
    cost = None if table is None else table.cost(counted)
    assert cost == case.picodollars
    if table is not None and not any(
        name.endswith(("audio_tokens", "_ms", "searches")) for name in case.used
    ):
        counted.parted = any("image" in name for name in case.used)
        assert table.cost(counted) == case.picodollars


# Against the library. Its names for what we count; totals include parts and caches there.

COUNTS = st.integers(0, 400_000)
NOTHING = dict.fromkeys(
    ("text", "audio", "image", "read", "read_audio", "read_image", "written", "written_1h"), 0
)
PARTS = st.fixed_dictionaries(dict.fromkeys(NOTHING, COUNTS))
OUT = st.fixed_dictionaries(dict.fromkeys(("text", "audio", "image"), COUNTS))

MODELS = [
    pytest.param(owner, model, id=f"{owner.id} {model.id}")
    for owner in providers
    if owner.id in ("anthropic", "openai")
    for model in owner.models
    # Not by an id that is the name of another model.
    if owner.find_model(model.id) is model
]
TIERS = {
    Tier.STANDARD: None,
    Tier.BATCH: {"processing": "batch"},
    Tier.FLEX: {"service_tier": "flex"},
    Tier.PRIORITY: {"service_tier": "priority"},
    Tier.FAST: {"service_tier": "fast", "speed": "fast"},
}
# Where we differ on purpose:
# - A class without any price is unknown; the library says it costs nothing.
# - A dearer tier without a price is unknown; the library takes the standard price.
# - Sound of models of which it knows the text's price only is unknown; the library takes that.


@pytest.mark.parametrize(("owner", "model"), MODELS)
def test_the_library_s_own_arithmetic(owner: Provider, model: ModelInfo) -> None:
    @given(PARTS, OUT, st.integers(0, 20), st.integers(0, 700), st.sampled_from(list(Tier)[:5]))
    @settings(max_examples=25, deadline=None)
    # Nothing but what was written to a cache: a model may have no price for just that.
    @example(NOTHING | {"written": 1}, {"text": 0, "audio": 0, "image": 0}, 0, 0, Tier.STANDARD)
    @example(NOTHING | {"written_1h": 1}, {"text": 0, "audio": 0, "image": 0}, 0, 0, Tier.STANDARD)
    def check(ins: dict[str, int], outs: dict[str, int], searches: int, days: int, tier: Tier) -> None:
        at = datetime(2025, 3, 1, 12, tzinfo=UTC) + timedelta(days=days)
        table = LIBRARY.compile(owner.id, model.id, tier, at.timestamp())
        if table is None:
            assert tier in (Tier.PRIORITY, Tier.FAST)
            return
        ours, theirs = both(model, ins, outs, searches)
        cost = table.cost(ours)
        if cost is None:
            assert lacks_a_price(model, ours, table.rates_for(ours.tokens - ours.output_tokens))
            return
        price = model.calc_price(
            theirs, owner, genai_request_timestamp=at, price_context=TIERS[tier]
        ).total_price
        assert Decimal(cost) == price * 10**12

    check()


def both(
    model: ModelInfo, ins: dict[str, int], outs: dict[str, int], searches: int
) -> tuple[Figures, TheirUsage]:
    """The same usage in our figures and in the library's."""
    prices = model.prices if not isinstance(model.prices, list) else model.prices[-1].prices
    # A model without any price for sound or images does not take them; ours would be the same as text.
    audio = int(prices.input_audio_mtok is not None or prices.output_audio_mtok is not None)
    image = int(prices.input_image_mtok is not None or prices.output_image_mtok is not None)
    ours = Figures()
    ours.parted = bool(audio or image or searches)
    ours.input_audio_tokens, ours.input_image_tokens = ins["audio"] * audio, ins["image"] * image
    ours.input_tokens = ins["text"] + ours.input_audio_tokens + ours.input_image_tokens
    ours.cache_read_audio_tokens = ins["read_audio"] * audio
    ours.cache_read_image_tokens = ins["read_image"] * image
    ours.cache_read_tokens = ins["read"] + ours.cache_read_audio_tokens + ours.cache_read_image_tokens
    ours.cache_write_5m_tokens, ours.cache_write_1h_tokens = ins["written"], ins["written_1h"]
    ours.output_audio_tokens, ours.output_image_tokens = outs["audio"] * audio, outs["image"] * image
    ours.output_tokens = outs["text"] + ours.output_audio_tokens + ours.output_image_tokens
    ours.web_searches = searches
    theirs = TheirUsage(
        input_tokens=ours.tokens - ours.output_tokens,
        output_tokens=ours.output_tokens,
        cache_read_tokens=ours.cache_read_tokens,
        cache_write_tokens=ours.cache_write_5m_tokens + ours.cache_write_1h_tokens,
        cache_write_5m_tokens=ours.cache_write_5m_tokens,
        cache_write_1h_tokens=ours.cache_write_1h_tokens,
        input_audio_tokens=ours.input_audio_tokens + ours.cache_read_audio_tokens,
        input_image_tokens=ours.input_image_tokens + ours.cache_read_image_tokens,
        cache_audio_read_tokens=ours.cache_read_audio_tokens,
        cache_image_read_tokens=ours.cache_read_image_tokens,
        output_audio_tokens=ours.output_audio_tokens,
        output_image_tokens=ours.output_image_tokens,
        web_searches=searches,
    )
    return ours, theirs


def lacks_a_price(model: ModelInfo, ours: Figures, rates: object) -> bool:
    """True when a class that was used has no price: then ours is unknown on purpose."""
    used = {
        "input": ours.input_tokens - ours.input_audio_tokens - ours.input_image_tokens,
        "output": ours.output_tokens,
        "input_audio": ours.input_audio_tokens,
        "output_audio": ours.output_audio_tokens,
        "cache_read": ours.cache_read_tokens,
        "cache_write_5m": ours.cache_write_5m_tokens,
        "cache_write_1h": ours.cache_write_1h_tokens,
        "web_search": ours.web_searches,
    }
    del model
    by_other_units = not rates.by_tokens  # type: ignore[attr-defined]
    return by_other_units or any(count and getattr(rates, name) < 0 for name, count in used.items())


def test_a_table_holds_until_a_price_may_change() -> None:
    noon = DAY.timestamp()
    table = LIBRARY.compile("anthropic", "claude-sonnet-5", Tier.STANDARD, noon)
    assert table is not None
    assert (table.valid_from, table.valid_until) == (noon - 12 * 3600, noon + 12 * 3600)
    assert table.context_tokens == 1_000_000
    assert table.version == LIBRARY.version
    # DeepSeek's hours: from one to four, from six to ten.
    night = LIBRARY.compile("deepseek", "deepseek-flash", Tier.STANDARD, noon - 7 * 3600)
    assert night is not None
    assert (night.valid_from, night.valid_until) == (noon - 8 * 3600, noon - 6 * 3600)


def test_nothing_is_fetched_and_nothing_remembered() -> None:
    """In a process of its own: importing and compiling open no socket, and names leave no trace."""
    program = """
import socket
def refuse(*args, **kwargs): raise AssertionError("a socket")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from gateway.price_library import Library
from gateway.price_table import Tier
library = Library()
for number in range(50):
    assert library.compile("openai", f"gpt-4o-stranger-{number}", Tier.STANDARD, 0.0) or True
from genai_prices import data_snapshot, update_prices
assert not data_snapshot._bundled_snapshot.cache_info().currsize
assert data_snapshot._custom_snapshot is None
"""
    subprocess.run([sys.executable, "-c", program], check=True)
