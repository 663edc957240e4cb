"""`karta prices …`: overrides on a real database, and what people and programs are shown."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from karta.commands.prices import TIERS, UNITS, to_dollars, to_rate
from karta.terminal import CommandError
from storage import prices as storage_prices
from tests.karta.conftest import Document, Karta

MODEL = ("--provider", "anthropic", "--model", "claude-sonnet-5-5")


def test_the_classes_are_storage_s() -> None:
    assert tuple(UNITS) == storage_prices.CLASSES
    assert TIERS == storage_prices.TIERS


@pytest.mark.parametrize(
    ("name", "dollars", "rate"),
    [
        ("input", "0.0375", 37_500),
        ("output", "600", 600_000_000),
        ("cache_read", "0.000001", 1),
        ("web_search", "10", 10_000_000_000),
        ("audio_hour", "0.36", 360_000_000_000),
        ("input", "0", 0),
    ],
)
def test_dollars_and_picodollars(name: str, dollars: str, rate: int) -> None:
    assert to_rate(name, Decimal(dollars)) == rate
    assert to_dollars(name, rate) == dollars


def test_a_price_too_fine_is_refused() -> None:
    with pytest.raises(CommandError, match="--cache-read"):
        to_rate("cache_read", Decimal("0.0000001"))


def put(karta: Karta, database_url: str, *arguments: str) -> Document:
    code, out, err = karta("prices", "set", *arguments, "--json", "--database-url", database_url)
    assert code == 0, err
    document: Document = json.loads(out)
    return document


def show(karta: Karta, database_url: str, *arguments: str) -> Document:
    code, out, err = karta("prices", "show", *arguments, "--json", "--database-url", database_url)
    assert code == 0, err
    document: Document = json.loads(out)
    return document


def test_an_override_from_set_to_remove(karta: Karta, database_url: str, org_id: str) -> None:
    before = show(karta, database_url, *MODEL)
    assert (before["known"], before["rates"]["input"]) == (True, "2")
    assert before["source"].startswith("genai-prices")
    own = put(karta, database_url, *MODEL, "--input", "1.50", "--web-search", "8")
    assert own["rates"] == {"input": "1.5", "web_search": "8"}
    theirs = put(karta, database_url, *MODEL, "--org", org_id, "--tier", "batch", "--output", "3")
    # For everybody, and in a batch of the organization's.
    shown = show(karta, database_url, *MODEL)
    assert (shown["version"], shown["rates"]["input"]) == (f"o{own['override_id']}", "1.5")
    shown = show(karta, database_url, *MODEL, "--org", org_id, "--tier", "batch")
    assert (shown["version"], shown["rates"]["input"], shown["rates"]["output"]) == (
        f"o{theirs['override_id']}",
        "1.5",
        "3",
    )
    listed = json.loads(karta("prices", "list", "--json", "--database-url", database_url)[1])
    assert listed["overrides"] == [own, theirs]
    table = karta("prices", "list", "--database-url", database_url)[1]
    assert "input $1.5, web_search $8" in table
    for override in (own, theirs):
        arguments = ("prices", "remove", override["override_id"], "--database-url", database_url)
        code, out, _ = karta(*arguments)
        assert (code, f"Override {override['override_id']} " in out, "no longer" in out) == (0, True, True)
    assert karta(*arguments)[0] == 1
    assert "None: all prices" in karta("prices", "list", "--database-url", database_url)[1]
    assert show(karta, database_url, *MODEL) == before


def test_people_are_shown_a_table(karta: Karta) -> None:
    code, out, _ = karta("prices", "show", "--provider", "anthropic", "--model", "claude-haiku-5-5")
    assert code == 0
    assert "No database was found" in out
    lines = [line.split() for line in out.splitlines()]
    assert lines[2][:2] == ["CLASS", "PRICE"]
    assert "ABOVE 100000 INPUT TOKENS" in out
    assert ["cache_write_1h", "$0.2", "$1", "a", "million", "tokens"] in lines
    assert ["web_search", "$10", "$10", "a", "thousand"] in lines
    assert not any(line and line[0] == "request" for line in lines)


def test_an_unknown_model_is_said_to_be_unknown(karta: Karta) -> None:
    code, out, _ = karta("prices", "show", "--provider", "openai", "--model", "no-such", "--json")
    assert code == 0
    shown = json.loads(out)
    assert (shown["known"], shown["version"], shown["rates"]) == (False, None, {"request": "0"})
    assert "no price known" in karta("prices", "show", "--provider", "openai", "--model", "no-such")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("set", *MODEL), 1, "--input 2.50"),
        (("set", *MODEL, "--input", "cheap"), 2, "invalid price value"),
        (("set", *MODEL, "--input", "-1"), 2, ""),
        (("set", *MODEL, "--input", "NaN"), 2, "invalid price value"),
        (("set", *MODEL, "--input", "1000001"), 1, "between 0 and a dollar"),
        (("set", *MODEL, "--input", "0.00000001"), 1, "so fine"),
        (("set", "--provider", "nobody", "--model", "m", "--input", "1"), 1, "nobody"),
        (("set", *MODEL, "--tier", "slow", "--input", "1"), 2, "slow"),
        (("set", *MODEL, "--org", "00000000-0000-0000-0000-000000000009", "--input", "1"), 1, "org list"),
        (("list", "--org", "00000000-0000-0000-0000-000000000009"), 1, "org list"),
        (("remove", "999999999"), 1, "prices list"),
    ],
)
def test_what_is_wrong_is_told(
    karta: Karta, database_url: str, arguments: tuple[str, ...], code: int, message: str
) -> None:
    found, out, err = karta("prices", *arguments, "--database-url", database_url)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_an_organization_s_price_needs_a_database(karta: Karta) -> None:
    arguments = ("prices", "show", *MODEL, "--org", "00000000-0000-0000-0000-000000000009")
    code, _, err = karta(*arguments)
    assert (code, "no database" in err) == (1, True)
