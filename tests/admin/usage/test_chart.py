from __future__ import annotations

from datetime import date

import msgspec

from admin.usage.chart import HEIGHT, VISIBLE_MIN, WIDTH, make_bars
from storage.usage_report import UsageTotal

FIRST = date(2026, 1, 30)


def total(group: str, cost: int, requests: int = 1) -> UsageTotal:
    zeros = {name: 0 for name in UsageTotal.__struct_fields__ if name != "group"}
    made = UsageTotal(group=group, **zeros)
    return msgspec.structs.replace(made, cost_picodollars=cost, requests=requests)


def test_each_day_has_its_bar() -> None:
    totals = [total("2026-01-30", 100), total("2026-02-01", 50), total("2026-02-02", 1)]
    bars = make_bars(totals, FIRST, 4)
    assert [bar.day.isoformat() for bar in bars] == ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02"]
    assert [bar.height for bar in bars] == [HEIGHT, 0, HEIGHT / 2, VISIBLE_MIN]
    assert [bar.total for bar in bars] == [totals[0], None, totals[1], totals[2]]
    for bar in bars:
        assert bar.y + bar.height == HEIGHT
        assert 0 <= bar.x <= bar.x + bar.width <= WIDTH


def test_where_nothing_cost_anything_requests_are_shown() -> None:
    bars = make_bars([total("2026-01-30", 0, 4), total("2026-01-31", 0, 2)], FIRST, 2)
    assert [bar.height for bar in bars] == [HEIGHT, HEIGHT / 2]


def test_nothing_at_all() -> None:
    assert [bar.height for bar in make_bars([], FIRST, 7)] == [0] * 7
