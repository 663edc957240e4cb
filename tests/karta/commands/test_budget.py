"""`karta budget …` on a real database."""

from __future__ import annotations

import argparse
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karta.commands.budget import PICODOLLARS, percentages, picodollars, show_dollars
from tests.karta.conftest import Document, Karta


def run(karta: Karta, database_url: str, *arguments: object) -> list[Document]:
    code, out, err = karta("budget", *arguments, "--json", "--database-url", database_url)
    assert code == 0, err
    found: list[Document] = json.loads(out)["budgets"]
    return found


def test_set_change_remove(karta: Karta, database_url: str, org_id: str) -> None:
    [told] = run(karta, database_url, "set", "--org", org_id, "--usd", "12.50", "--period", "month")
    assert (told["usd"], told["spent_usd"], told["period"], told["hard"]) == (12.5, 0, "month", True)
    assert (told["amount"], told["thresholds"]) == (12_500_000_000_000, [50, 80, 100])
    [changed] = run(
        *(karta, database_url, "set", "--org", org_id, "--usd", "20", "--period", "month"),
        *("--soft", "--thresholds", "90"),
    )
    assert changed["limit_id"] == told["limit_id"]
    assert (changed["usd"], changed["hard"], changed["thresholds"]) == (20, False, [90])
    both = run(karta, database_url, "set", "--org", org_id, "--usd", "1", "--period", "day", "--model", "m")
    assert run(karta, database_url, "show", "--org", org_id) == both
    shown = karta("budget", "show", "--org", org_id, "--database-url", database_url)[1]
    assert "$20.00" in shown
    assert "soft" in shown
    left = run(karta, database_url, "set", "--org", org_id, "--none", "--period", "month")
    assert [one["period"] for one in left] == ["day"]
    # Budgets and limits are told apart.
    limits = karta("limits", "show", "--org", org_id, "--json", "--database-url", database_url)[1]
    assert json.loads(limits) == {"limits": []}
    run(karta, database_url, "set", "--org", org_id, "--usd", "0", "--period", "day", "--model", "m")
    assert karta("budget", "show", "--org", org_id, "--database-url", database_url)[1].startswith(
        "No budgets"
    )


@pytest.mark.parametrize("usd", ["-1", "x", "1e-13", "1000001", "NaN", "Infinity", ""])
def test_amounts_that_are_none(karta: Karta, org_id: str, usd: str) -> None:
    assert karta("budget", "set", "--org", org_id, f"--usd={usd}", "--period", "day")[0] == 2


@pytest.mark.parametrize("text", ["0", "1001", "a", "1,,2", "1,2,3,4,5,6,7,8,9,10,11"])
def test_thresholds_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        percentages(text)


def test_soft_needs_an_amount(karta: Karta, org_id: str) -> None:
    assert karta("budget", "set", "--org", org_id, "--none", "--period", "day", "--soft")[0] == 2


@given(st.integers(0, 10**6 * PICODOLLARS))
def test_what_is_shown_is_exact(amount: int) -> None:
    assert picodollars(show_dollars(amount).replace(",", "")) == amount
