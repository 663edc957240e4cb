"""The table of plans, and what is asked of it."""

from __future__ import annotations

from datetime import UTC, datetime

from storage.model import Plan
from storage.plan_terms import TERMS, Allowance, Feature, allows, describe_lack, limit_of, shown_since


def test_the_table_has_each_plan_and_grows() -> None:
    assert tuple(TERMS) == tuple(Plan)
    assert {plan for plan in Plan if allows(plan, Feature.BYOK)} == {Plan.PRO, Plan.ENTERPRISE}
    for allowance in Allowance:
        amounts = [limit_of(plan, allowance) for plan in TERMS]
        known = [amount for amount in amounts if amount is not None]
        # None is without end, and nothing smaller comes after it.
        assert amounts[: len(known)] == known == sorted(known)
    assert all((limit_of(plan, Allowance.AUDIT_DAYS) or 365) >= 365 for plan in Plan)
    assert limit_of(Plan.PRO, Allowance.SEATS, seats=7) == 7
    assert "Pro and Enterprise" in describe_lack(Feature.BYOK)


def test_how_far_back_a_plan_shows() -> None:
    now = datetime(2026, 3, 31, tzinfo=UTC)
    assert shown_since(Plan.FREE, Allowance.USAGE_DAYS, now) == datetime(2026, 3, 1, tzinfo=UTC)
    assert shown_since(Plan.FREE, Allowance.AUDIT_DAYS, now) == datetime(2025, 3, 31, tzinfo=UTC)
    assert shown_since(Plan.PRO, Allowance.USAGE_DAYS) is None
