from __future__ import annotations

from admin.billing.terms import compare, describe, rank, show_number
from storage.model import Plan
from storage.plan_terms import TERMS
from storage.plans import PlanChange


def test_each_row_has_a_cell_for_each_plan() -> None:
    rows = {row.name: row.cells for row in compare()}
    assert all(len(cells) == len(TERMS) for cells in rows.values())
    assert rows["Your own provider keys"] == ("No", "Yes", "Yes")
    assert rows["Price, for a seat and month"] == ("Free", "$25.00", "By agreement")
    assert rows["Included credit a month"] == ("$5.00", "$20.00", "None")
    assert rows["Seats"][-1] == show_number(None) == "No ceiling"
    assert sorted(Plan, key=rank) == [Plan.FREE, Plan.PRO, Plan.ENTERPRISE]


def test_a_change_is_told_in_sentences() -> None:
    down = PlanChange(
        before=Plan.PRO, after=Plan.FREE, suspended=("anthropic", "openai"), seats_over=2, keys_over=1
    )
    told = " ".join(describe(down))
    for piece in ("anthropic, openai", "30 days", "2 of the members", "1 of the API keys", "3,000 requests"):
        assert piece in told
    up = describe(PlanChange(before=Plan.FREE, after=Plan.PRO, resumed=("openai",)))
    assert "in use again" in up[0]
    assert len(up) == 2
