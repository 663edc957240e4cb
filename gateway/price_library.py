"""The price library's data, compiled into tables of whole numbers. The only importer of `genai_prices`.

Job: for a provider, a model, a tier and a moment, a `PriceTable`. Order: `Library()` once at start-up, since
its import takes a tenth of a second (it drags in pydantic); `compile` once per model, tier and day, in about
half a millisecond. Only the data that came with the package is read: nothing is ever fetched, and the
library's own look-up, which remembers every name it was asked for, is not used.

Rules, where the library leaves a choice:

- Each class Karta counts takes the most specific price that covers it: a cache write for an hour the price of
  those, else of any cache write, else of input. Without any it is unknown.
- A tier without prices of its own: batch and flex cost no more than standard, so standard is taken, which
  never charges too little. Anthropic's priority tier is capacity under contract, whose list price is the
  standard one. Other dearer tiers are unknown.
- What the library is known to lack (`_UNPRICED`) is unknown, rather than taken for text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

import genai_prices
from genai_prices.data import providers as _providers
from genai_prices.data_units import unit_data
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    Provider,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import (
    Tier as Step,
)

from gateway.price_table import UNKNOWN, PriceTable, Rates, Tier

_PICODOLLARS = 10**12
_SECONDS_PER_HOUR = 3600

_INPUT = {"family": "tokens", "direction": "input"}
_OUTPUT = {"family": "tokens", "direction": "output"}
# What each of our classes is, in the library's dimensions.
_CLASSES: dict[str, dict[str, str]] = {
    "input": _INPUT | {"modality": "text"},
    "output": _OUTPUT | {"modality": "text"},
    "cache_read": _INPUT | {"modality": "text", "token_type": "cache_read"},
    "cache_write_5m": _INPUT | {"modality": "text", "token_type": "cache_write", "cache_ttl": "5m"},
    "cache_write_1h": _INPUT | {"modality": "text", "token_type": "cache_write", "cache_ttl": "1h"},
    "reasoning": _OUTPUT | {"modality": "text", "token_type": "reasoning"},
    "input_audio": _INPUT | {"modality": "audio"},
    "input_image": _INPUT | {"modality": "image"},
    "cache_read_audio": _INPUT | {"modality": "audio", "token_type": "cache_read"},
    "cache_read_image": _INPUT | {"modality": "image", "token_type": "cache_read"},
    "output_audio": _OUTPUT | {"modality": "audio"},
    "output_image": _OUTPUT | {"modality": "image"},
    "web_search": {"family": "tool_calls", "tool_type": "web_search"},
    "file_search": {"family": "tool_calls", "tool_type": "storage_search"},
    "audio_hour": {"family": "durations", "direction": "input", "modality": "audio"},
    "request": {"family": "requests"},
}

_CONTEXTS: dict[Tier, dict[str, str]] = {
    Tier.STANDARD: {},
    Tier.BATCH: {"processing": "batch"},
    Tier.FLEX: {"service_tier": "flex"},
    Tier.PRIORITY: {"service_tier": "priority"},
    # Anthropic's word for it is a speed, OpenAI's a tier.
    Tier.FAST: {"service_tier": "fast", "speed": "fast"},
}

# Models of which the library knows the price of text only, though sound is what they are for.
_AUDIO_CLASSES = ("input_audio", "cache_read_audio", "output_audio")
_UNPRICED = {
    ("openai", "gpt-4o-audio-preview"): _AUDIO_CLASSES,
    ("openai", "gpt-4o-mini-audio-preview"): _AUDIO_CLASSES,
}

# Written into the library's code, not its data: Groq bills ten seconds at least.
_AUDIO_MS_MIN = {("groq", "whisper-large-v3"): 10_000, ("groq", "whisper-large-v3-turbo"): 10_000}


class Library:
    """All prices of the library, by provider and model."""

    version = genai_prices.__version__

    def __init__(self) -> None:
        self._all = _providers
        self._by_id = {provider.id: provider for provider in _providers}

    def compile(self, provider: str, model: str, tier: Tier, at: float) -> PriceTable | None:
        """The prices in force at a moment (seconds since 1970); None for what the library does not know."""
        found = self._find(provider, model)
        if found is None or tier is Tier.UNKNOWN:
            return None
        owner, info = found
        moment = datetime.fromtimestamp(at, UTC)
        prices = _prices(owner, info, tier, moment)
        if prices is None:
            return None
        by_dimensions = dict(_priced(prices))
        unpriced = _UNPRICED.get((owner.id, info.id), ())
        starts = sorted({tier_.start for price in by_dimensions.values() for tier_ in _tiers(price)})
        shortest = _AUDIO_MS_MIN.get((owner.id, info.id), 0)
        rates = [_rates(by_dimensions, above, unpriced, shortest) for above in (-1, *starts)]
        valid_from, valid_until = _validity(info, moment)
        return PriceTable(
            rates=rates[0],
            bands=tuple(zip(starts, rates[1:], strict=True)),
            version=self.version,
            source=f"genai-prices {self.version}: {owner.id} {info.id}",
            model=info.id,
            context_tokens=info.context_window,
            valid_from=valid_from,
            valid_until=valid_until,
        )

    def _find(self, provider: str, model: str) -> tuple[Provider, ModelInfo] | None:
        owner = self._by_id.get(provider)
        info = owner.find_model(model, all_providers=self._all) if owner else None
        return (owner, info) if owner is not None and info is not None else None


def _prices(owner: Provider, info: ModelInfo, tier: Tier, moment: datetime) -> ModelPrice | None:
    context = _CONTEXTS[tier]
    standard = info.get_prices(moment)
    if tier is Tier.STANDARD:
        return standard
    # A model that another provider resells has that one's variants, which need not hold here.
    own = any(model is info for model in owner.models)
    variants = [
        variant
        for variant in (info.price_variants or () if own else ())
        if (variant.constraint is None or variant.constraint.active(moment))
        and all(context.get(name) == value for name, value in variant.when.items())
    ]
    if variants:
        return info.get_prices(moment, context)
    by_contract = tier is Tier.PRIORITY and owner.id == "anthropic"
    return standard if tier in (Tier.BATCH, Tier.FLEX) or by_contract else None


Price = Decimal | TieredPrices
Dimensions = frozenset[tuple[str, str]]


def _priced(prices: ModelPrice) -> Iterator[tuple[Dimensions, Price]]:
    """What a model has prices for, by dimensions, as dollars for one of it."""
    stored: Mapping[str, Price | None] = prices.__dict__
    for usage_key, unit in unit_data.items():
        price = stored.get(unit.get("price_key", usage_key))
        if price is not None:
            yield frozenset(unit["dimensions"].items()), _each(price, unit["per"])


def _each(price: Price, per: int) -> Price:
    if isinstance(price, Decimal):
        return price / per
    return TieredPrices(
        base=price.base / per,
        tiers=[Step(start=tier.start, price=tier.price / per) for tier in price.tiers],
    )


def _tiers(price: Price) -> list[Step]:
    return price.tiers if isinstance(price, TieredPrices) else []


def _rates(
    priced: Mapping[Dimensions, Price], above: int, unpriced: tuple[str, ...], audio_ms_min: int
) -> Rates:
    """The rates of a request with more than `above` input tokens."""
    rates: dict[str, int] = {"audio_ms_min": audio_ms_min}
    for name, dimensions in _CLASSES.items():
        wanted = frozenset(dimensions.items())
        covering = [found for found in priced if found <= wanted]
        if covering and name not in unpriced:
            dollars = _in_band(priced[max(covering, key=len)], above)
            # A second is what the library prices, an hour what we do, for whole numbers.
            dollars *= _SECONDS_PER_HOUR if name == "audio_hour" else 1
            rates[name] = int((dollars * _PICODOLLARS).to_integral_value(ROUND_HALF_EVEN))
        elif name != "request":
            rates[name] = UNKNOWN
    return Rates(**rates)


def _in_band(price: Price, above: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if tier.start <= above]
    return reached[-1] if reached else price.base


def _validity(info: ModelInfo, moment: datetime) -> tuple[float, float]:
    """The stretch of this UTC day in which no price begins or ends by the clock."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    edges = {midnight, midnight + timedelta(days=1)}
    conditions: list[object] = [variant.constraint for variant in info.price_variants or ()]
    if isinstance(info.prices, list):
        conditions += [conditional.constraint for conditional in info.prices]
    for condition in conditions:
        if isinstance(condition, TimeOfDateConstraint):
            for edge in (condition.start_time, condition.end_time):
                zone = edge.tzinfo or UTC
                at = datetime.combine(moment.astimezone(zone).date(), edge, zone).astimezone(UTC)
                edges.add(midnight.replace(hour=at.hour, minute=at.minute, second=at.second))
    before = max(edge for edge in edges if edge <= moment)
    after = min(edge for edge in edges if edge > moment)
    return before.timestamp(), after.timestamp()
