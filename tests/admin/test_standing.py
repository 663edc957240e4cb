"""Limits in words: how much is used, and what follows."""

from __future__ import annotations

from uuid import UUID

import pytest

from admin.standing import describe, describe_all
from storage.limits import LimitStanding
from storage.model import Limit, LimitKind, Period

DOLLAR = 10**12


def standing(used: int, **limit: object) -> LimitStanding:
    made = {
        "limit_id": 1,
        "org_id": UUID(int=1),
        "key_id": None,
        "model": None,
        "kind": LimitKind.MONEY,
        "period": Period.MONTH,
        "amount": 10 * DOLLAR,
        "hard": True,
        "thresholds": (50, 80, 100),
        **limit,
    }
    return LimitStanding(limit=Limit(**made), settled=used, held=0, written_off=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("used", "hard", "percent", "state"),
    [
        (0, True, 0, "free"),
        (7 * DOLLAR, True, 70, "free"),
        (8 * DOLLAR, True, 80, "near"),
        (10 * DOLLAR - 1, True, 99, "near"),
        (10 * DOLLAR, True, 100, "spent"),
        (30 * DOLLAR, False, 300, "over"),
    ],
)
def test_the_state_follows_from_the_share(used: int, hard: bool, percent: int, state: str) -> None:
    told = describe(standing(used, hard=hard), {})
    assert (told.percent, told.state) == (percent, state)
    assert (told.name, told.whom, told.amount) == ("Budget of the month", "Organization", "$10.00")


def test_what_is_held_or_written_off_counts() -> None:
    held = LimitStanding(limit=standing(0).limit, settled=DOLLAR, held=2 * DOLLAR, written_off=DOLLAR)
    assert describe(held, {}).used == "$4.00"


def test_a_key_and_a_model_are_named_and_the_nearest_to_its_end_comes_first() -> None:
    requests = {"kind": LimitKind.REQUESTS, "period": Period.MINUTE, "amount": 2000}
    told = describe_all(
        [standing(0), standing(1500, key_id="abc", model="gpt-6", **requests)], {"abc": "Production web"}
    )
    assert [one.whom for one in told] == ["Production web, gpt-6", "Organization"]
    assert (told[0].used, told[0].amount, told[0].name) == ("1,500", "2,000", "Requests a minute")
