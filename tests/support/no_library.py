"""What stands for the library of prices where only what is set is to count."""

from __future__ import annotations

from gateway.price_table import PriceTable, Tier


class NoLibrary:
    """A source that knows no model."""

    def compile(self, provider: str, model: str, tier: Tier, at: float) -> PriceTable | None:
        del provider, model, tier, at
        return None
