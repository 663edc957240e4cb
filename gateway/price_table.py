"""What one model costs, as whole numbers: picodollars for each thing of each class (sans-IO).

A price of $0.0375 per million tokens is 37,500 picodollars a token, so every cost is an exact integer, and a
warm cost is a handful of multiplications. A class whose price is not known has the rate `UNKNOWN`, so far
below zero that a single token of it makes the sum negative: the cost is then None, never silently 0.

Long-context prices come as bands: above a number of input tokens, cached ones included, other rates hold for
all of the request's tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

from gateway.usage_figures import Figures

# No sum of known parts reaches it: a billion tokens of each class at a dollar each is under 10**23.
UNKNOWN = -(10**40)

_MS_PER_HOUR = 3_600_000


class Tier(StrEnum):
    """How a request was served, as far as prices differ by it."""

    STANDARD = "standard"
    BATCH = "batch"
    FLEX = "flex"
    PRIORITY = "priority"
    FAST = "fast"
    UNKNOWN = "unknown"


# The words of both APIs. `scale` is capacity paid for in advance: its list price is the standard one.
_TIERS: dict[str | None, Tier] = {
    None: Tier.STANDARD,
    "": Tier.STANDARD,
    "auto": Tier.STANDARD,
    "default": Tier.STANDARD,
    "standard": Tier.STANDARD,
    "standard_only": Tier.STANDARD,
    "on_demand": Tier.STANDARD,
    "scale": Tier.STANDARD,
    "batch": Tier.BATCH,
    "flex": Tier.FLEX,
    "priority": Tier.PRIORITY,
    "fast": Tier.FAST,
}


def tier_of(service_tier: str | None, speed: str | None = None) -> Tier:
    """The tier a provider's words mean; `UNKNOWN` for a word that is new."""
    return Tier.FAST if speed == "fast" else _TIERS.get(service_tier, Tier.UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Picodollars for one token, search, request, or hour of sound."""

    input: int = UNKNOWN
    output: int = UNKNOWN
    cache_read: int = UNKNOWN
    cache_write_5m: int = UNKNOWN
    cache_write_1h: int = UNKNOWN
    reasoning: int = UNKNOWN
    input_audio: int = UNKNOWN
    input_image: int = UNKNOWN
    cache_read_audio: int = UNKNOWN
    cache_read_image: int = UNKNOWN
    output_audio: int = UNKNOWN
    output_image: int = UNKNOWN
    web_search: int = UNKNOWN
    file_search: int = UNKNOWN
    audio_hour: int = UNKNOWN
    request: int = 0
    audio_ms_min: int = 0
    """Shorter sound is billed as this much."""

    dearest_input: int = field(init=False, compare=False, repr=False)
    """Of what a token of the input may turn out to be, unless it is cached for an hour."""
    dearest_output: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Worked out once: every request is reserved at these.
        ins = max(self.input, self.cache_write_5m, self.input_audio)
        outs = max(self.output, self.reasoning, self.output_audio, self.output_image)
        object.__setattr__(self, "dearest_input", ins)
        object.__setattr__(self, "dearest_output", outs)

    def cost(self, used: Figures) -> int | None:
        """Exact picodollars; None when a class that was used has no known price."""
        if used.parted:
            return self._cost_of_parts(used)
        total = (
            self.request
            + used.input_tokens * self.input
            + used.output_tokens * self.output
            + used.cache_read_tokens * self.cache_read
            + used.cache_write_5m_tokens * self.cache_write_5m
            + used.cache_write_1h_tokens * self.cache_write_1h
        )
        # Nearly all models bill reasoning as output.
        if self.reasoning != self.output:
            total += min(used.reasoning_tokens, used.output_tokens) * (self.reasoning - self.output)
        return total if total >= 0 else None

    def _cost_of_parts(self, used: Figures) -> int | None:
        """Sound, images and searches have rates of their own; taken out of what they are parts of."""
        reasoning = min(used.reasoning_tokens, used.output_tokens)
        spoken = min(used.output_audio_tokens, used.output_tokens - reasoning)
        drawn = min(used.output_image_tokens, used.output_tokens - reasoning - spoken)
        audio_ms = max(used.audio_ms, self.audio_ms_min) if used.audio_ms else 0
        total = (
            self.request
            + (used.input_tokens - used.input_audio_tokens - used.input_image_tokens) * self.input
            + used.input_audio_tokens * self.input_audio
            + used.input_image_tokens * self.input_image
            + (used.cache_read_tokens - used.cache_read_audio_tokens - used.cache_read_image_tokens)
            * self.cache_read
            + used.cache_read_audio_tokens * self.cache_read_audio
            + used.cache_read_image_tokens * self.cache_read_image
            + used.cache_write_5m_tokens * self.cache_write_5m
            + used.cache_write_1h_tokens * self.cache_write_1h
            + (used.output_tokens - reasoning - spoken - drawn) * self.output
            + reasoning * self.reasoning
            + spoken * self.output_audio
            + drawn * self.output_image
            + used.web_searches * self.web_search
            + used.file_searches * self.file_search
            # Rounded up: a second of sound need not be a whole number of picodollars.
            - (-audio_ms * self.audio_hour // _MS_PER_HOUR)
        )
        return total if total >= 0 else None

    @property
    def by_tokens(self) -> bool:
        """What Karta can count has a price; else the model is billed by characters or pixels."""
        return self.input >= 0 or self.output >= 0 or self.audio_hour >= 0


CLASSES: Final = tuple(one.name for one in fields(Rates) if one.init)
FREE: Final = Rates(**dict.fromkeys(CLASSES, 0))


@dataclass(frozen=True, kw_only=True)
class PriceTable:
    """The rates of one model in one tier, while they hold."""

    rates: Rates
    bands: tuple[tuple[int, Rates], ...] = ()
    """Ascending: above so many input tokens, these rates hold instead."""
    version: str
    """Short: `0.2.3` of the price library, `o17` for override 17."""
    source: str
    """For people: which entry of the library, or whose override."""
    model: str | None = None
    """The model's own name there, however it was asked for."""
    context_tokens: int | None = None
    """The model's context window, where it is known."""
    valid_from: float = float("-inf")
    valid_until: float = float("inf")

    def rates_for(self, input_tokens: int) -> Rates:
        """The rates for a request of so many input tokens, cached ones included."""
        found = self.rates
        for start, rates in self.bands:
            if input_tokens > start:
                found = rates
        return found

    def cost(self, used: Figures) -> int | None:
        """Exact picodollars; None when they cannot be known."""
        rates = self.rates
        if self.bands:
            rates = self.rates_for(used.tokens - used.output_tokens)
        return rates.cost(used) if rates.by_tokens else None
