"""A bar for each day, as the numbers an SVG needs: no styles in the markup, so that the page's policy holds,
and no script to draw it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

from storage.usage_report import UsageTotal

WIDTH, HEIGHT = 900, 180
GAP_SHARE = 0.25
"""Of a bar's place, what is left free."""
VISIBLE_MIN = 2.0
"""The least height of a bar that is not nothing."""


class Bar(NamedTuple):
    day: date
    total: UsageTotal | None
    """None for a day without requests."""
    x: float
    y: float
    width: float
    height: float


def make_bars(totals: Sequence[UsageTotal], first: date, days: int) -> list[Bar]:
    """One bar for each of `days` days from `first` on, as high as its cost is to the highest; where nothing
    cost anything, as its requests are."""
    by_day = {total.group: total for total in totals}
    use_cost = any(total.cost_picodollars for total in totals)

    def value(total: UsageTotal | None) -> int:
        if total is None:
            return 0
        return total.cost_picodollars if use_cost else total.requests

    highest = max((value(total) for total in totals), default=0) or 1
    place = WIDTH / days
    bars = []
    for number in range(days):
        day = first + timedelta(days=number)
        total = by_day.get(day.isoformat())
        height = value(total) / highest * HEIGHT
        if value(total):
            height = max(height, VISIBLE_MIN)
        x = place * (number + GAP_SHARE / 2)
        bars.append(
            Bar(
                day=day,
                total=total,
                x=round(x, 2),
                y=round(HEIGHT - height, 2),
                width=round(place * (1 - GAP_SHARE), 2),
                height=round(height, 2),
            )
        )
    return bars
