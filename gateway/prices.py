"""What a request cost, and what it may cost at most: exact, in memory, without a look at any library.

Order: `Prices(library)` at start-up, `set_overrides` whenever they changed, then `cost` after each request. A
table of rates (`price_table`) is put together when a model is first seen, and kept. Precedence, class by
class: the organization's override, the operator's, the library (`price_library`); of two overrides of one
owner, one for the tier beats one for any tier, an exact model name beats a prefix, and one for the model that
answered beats one for the model that was asked for.

The model that answered is priced; the model that was asked for only when the library does not know the other.

Unknown: a model or class without a price costs None. Money limits are then charged `unknown_rate` for every
token, which is high on purpose: docs/decisions/0030-unknown-prices.md.

Bounds: `TABLES_MAX` tables, the oldest out first; names are strangers' words and cut at 200 characters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final, Protocol
from uuid import UUID

from gateway.price_table import CLASSES, FREE, UNKNOWN, PriceTable, Rates, Tier, tier_of
from gateway.usage_figures import Figures
from gateway.worst_case import WINDOW_TOKENS_DEFAULT
from storage.prices import PriceOverride

# A table takes half a kilobyte.
TABLES_MAX: Final = 4096
_NAME_CHARACTERS_MAX: Final = 200
SIMULATED: Final = "simulated"
# Sound of unknown price is charged as if it were spoken text, at ten tokens a second and ten times that for
# safety.
_MS_PER_TOKEN: Final = 10
_BYTES_PER_TOKEN: Final = 4
_DAY_SECONDS: Final = 86_400.0

_FREE: Final = PriceTable(rates=FREE, version="free", source="the simulated provider costs nothing")
_NO_PRICE: Final = PriceTable(rates=Rates(), version="", source="no price known")

# What a class costs on a model only an override knows, when the override does not say: never less than this.
_COVERED_BY: Final = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "input",
    "input_image": "input",
    "reasoning": "output",
    "output_image": "output",
}

Key = tuple[UUID | None, str, str | None, str | None, Tier]


class Source(Protocol):
    """Where prices come from when nobody overrides them: `price_library.Library`, or nothing in tests."""

    def compile(self, provider: str, model: str, tier: Tier, at: float) -> PriceTable | None: ...


class Prices:
    """All prices, as one worker knows them."""

    def __init__(self, source: Source, unknown_rate: int, providers: Mapping[str, str] | None = None) -> None:
        """`unknown_rate` is picodollars a token; `providers` the library's names for those that differ."""
        self._source = source
        self._names = dict(providers or {})
        self._tables: dict[Key, PriceTable] = {}
        self._overrides: dict[UUID | None, list[PriceOverride]] = {}
        self.unknown_rate = unknown_rate

    def set_overrides(self, overrides: Iterable[PriceOverride]) -> None:
        """All overrides there are, in place of those before."""
        found: dict[UUID | None, list[PriceOverride]] = {}
        for override in overrides:
            found.setdefault(override.org_id, []).append(override)
        self._overrides = found
        self._tables.clear()

    def cost(
        self, used: Figures, *, provider: str, model_asked: str | None, org_id: UUID, at: float
    ) -> tuple[int | None, str | None]:
        """Exact picodollars and the version of the price; (None, None) when it is not known."""
        tier = tier_of(used.service_tier, used.speed)
        table = self.table(org_id, provider, model_asked, used.model, tier, at)
        if used.runs:
            cost = self._cost_of_runs(used, table, provider=provider, org_id=org_id, tier=tier, at=at)
        else:
            cost = table.cost(used)
        return (None, None) if cost is None else (cost, table.version)

    def _cost_of_runs(
        self, used: Figures, table: PriceTable, *, provider: str, org_id: UUID, tier: Tier, at: float
    ) -> int | None:
        """Several models had a part: each run at its own price, the searches at the answering model's."""
        searches = Figures()
        searches.web_searches, searches.parted = used.web_searches, used.parted
        costs = [
            table.cost(searches),
            *(self.table(org_id, provider, None, run.model, tier, at).cost(run) for run in used.runs),
        ]
        total = 0
        for cost in costs:
            if cost is None:
                return None
            total += cost
        return total

    def window(
        self, used: Figures, *, provider: str, model_asked: str | None, org_id: UUID, at: float
    ) -> int:
        """How many tokens the model that answered can have read."""
        tier = tier_of(used.service_tier, used.speed)
        table = self.table(org_id, provider, model_asked, used.model, tier, at)
        return table.context_tokens or WINDOW_TOKENS_DEFAULT

    def charge(self, used: Figures, cost: int | None, request_bytes: int = 0) -> int:
        """What money limits are charged: the cost, or the configured default for all that was seen."""
        if cost is not None:
            return cost
        tokens = used.tokens + used.audio_ms // _MS_PER_TOKEN
        return max(tokens, request_bytes // _BYTES_PER_TOKEN) * self.unknown_rate

    def table(
        self,
        org_id: UUID | None,
        provider: str,
        model_asked: str | None,
        model_answered: str | None,
        tier: Tier,
        at: float,
    ) -> PriceTable:
        """The rates that hold at a moment (seconds since 1970); all unknown when there are none."""
        # An id's hash is dear: it is asked for only where somebody has prices of his own.
        owner = org_id if self._overrides and org_id in self._overrides else None
        key = (owner, provider, model_asked, model_answered, tier)
        table = self._tables.get(key)
        if table is not None and table.valid_from <= at < table.valid_until:
            return table
        if provider == SIMULATED:
            return _FREE
        asked, answered = _cut(model_asked), _cut(model_answered)
        if (asked, answered) != (model_asked, model_answered):
            # A name may be as long as a body: it is kept by as much of it as is looked at.
            return self.table(org_id, provider, asked, answered, tier, at)
        table = self._compile(key, at)
        self._tables.pop(key, None)
        if len(self._tables) >= TABLES_MAX:
            del self._tables[next(iter(self._tables))]
        self._tables[key] = table
        return table

    def name_of(self, provider: str, model: str | None, at: float) -> str | None:
        """A model's name as the operator's overrides or the library have it; None if they do not know it."""
        if model is None:
            return None
        return self.table(None, provider, None, model, Tier.STANDARD, at).model

    def _compile(self, key: Key, at: float) -> PriceTable:
        org_id, provider, asked, answered, tier = key
        names = [name for name in dict.fromkeys((answered, asked)) if name is not None]
        library_name = self._names.get(provider, provider)
        table = None
        for name in names:
            table = table or self._source.compile(library_name, name, tier, at)
        found = table
        owners = (None,) if org_id is None else (None, org_id)
        for owner in owners:
            for override in _matching(self._overrides.get(owner, []), provider, names, tier):
                found = _overlay(found or _NO_PRICE, override)
        if found is None:
            # Names nobody knows are remembered, too. Until midnight: the library's data has dates.
            midnight = at // _DAY_SECONDS * _DAY_SECONDS
            return dataclasses.replace(_NO_PRICE, valid_from=midnight, valid_until=midnight + _DAY_SECONDS)
        return found if table is not None else _covered(found)


def _cut(name: str | None) -> str | None:
    return None if name is None else name[:_NAME_CHARACTERS_MAX]


def _matching(
    overrides: list[PriceOverride], provider: str, names: list[str], tier: Tier
) -> list[PriceOverride]:
    """One owner's overrides that apply, the strongest last: at most one for any tier and one for this."""
    best: dict[str | None, tuple[tuple[bool, int, int], PriceOverride]] = {}
    for override in overrides:
        if override.provider != provider or override.tier not in (None, tier):
            continue
        prefix = override.model.removesuffix("*")
        exact = prefix == override.model
        matching = [name == prefix if exact else name.startswith(prefix) for name in names]
        if True not in matching:
            continue
        # The first name is that of the model which answered.
        rank = (exact, -matching.index(True), len(prefix))
        if override.tier not in best or rank > best[override.tier][0]:
            best[override.tier] = (rank, override)
    return [best[name][1] for name in (None, tier.value) if name in best]


def _overlay(table: PriceTable, override: PriceOverride) -> PriceTable:
    """The table with the override's classes in place of its own, for prompts of any length."""
    owner = "the operator" if override.org_id is None else f"organization {override.org_id}"
    return PriceTable(
        rates=_with(table.rates, override.rates),
        bands=tuple((start, _with(rates, override.rates)) for start, rates in table.bands),
        version=f"o{override.override_id}",
        source=f"override {override.override_id} of {owner}",
        model=table.model or override.model,
        context_tokens=table.context_tokens,
        valid_from=table.valid_from,
        valid_until=table.valid_until,
    )


def _with(rates: Rates, changes: Mapping[str, int]) -> Rates:
    values = {name: getattr(rates, name) for name in CLASSES}
    return Rates(**(values | {name: rate for name, rate in changes.items() if name in values}))


def _covered(table: PriceTable) -> PriceTable:
    """A model that only overrides know: what they leave out costs what covers it."""
    rates = table.rates
    missing = {
        name: getattr(rates, cover) for name, cover in _COVERED_BY.items() if getattr(rates, name) == UNKNOWN
    }
    return PriceTable(
        rates=_with(rates, missing),
        version=table.version,
        source=table.source,
        model=table.model,
    )
