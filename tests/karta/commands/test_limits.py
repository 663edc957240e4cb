"""`karta limits …` on a real database."""

from __future__ import annotations

import json

import pytest

from karta.commands import limits
from storage.model import LimitKind, Period
from tests.karta.conftest import Document, Karta


def run(karta: Karta, database_url: str, *arguments: object) -> list[Document]:
    code, out, err = karta("limits", *arguments, "--json", "--database-url", database_url)
    assert code == 0, err
    found: list[Document] = json.loads(out)["limits"]
    return found


def test_set_change_remove(karta: Karta, database_url: str, org_id: str) -> None:
    told = run(
        karta, database_url, "set", "--org", org_id, "--requests-per-minute", 60, "--tokens-per-minute", 9000
    )
    assert [(one["kind"], one["period"], one["amount"], one["hard"]) for one in told] == [
        ("requests", "minute", 60, True),
        ("tokens", "minute", 9000, True),
    ]
    told = run(karta, database_url, "set", "--org", org_id, "--concurrent", 5, "--requests-per-minute", 0)
    assert [(one["kind"], one["amount"]) for one in told] == [("concurrent", 5), ("tokens", 9000)]
    told = run(karta, database_url, "set", "--org", org_id, "--model", "m", "--concurrent", 2)
    assert [(one["kind"], one["model"]) for one in told] == [
        ("concurrent", None),
        ("tokens", None),
        ("concurrent", "m"),
    ]
    assert run(karta, database_url, "show", "--org", org_id) == told
    assert {(one["used"], one["held"], one["written_off"]) for one in told} == {(0, 0, 0)}
    shown = karta("limits", "show", "--org", org_id, "--database-url", database_url)[1]
    assert "tokens/minute" in shown
    assert "9,000" in shown


def test_of_a_key(karta: Karta, database_url: str, org_id: str) -> None:
    minted = karta("keys", "mint", "--org", org_id, "--name", "k", "--json", "--database-url", database_url)[
        1
    ]
    key_id = json.loads(minted)["key_id"]
    shown = karta("limits", "show", "--key", key_id, "--database-url", database_url)[1]
    assert shown.startswith("No limits.")
    [told] = run(karta, database_url, "set", "--key", key_id, "--requests-per-minute", 10)
    assert (told["key_id"], told["org_id"]) == (key_id, org_id)
    assert run(karta, database_url, "show", "--org", org_id) == [told]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("set", "--requests-per-minute", "5"), 2),
        (("set", "--org", "{org}"), 2),
        (("set", "--org", "{org}", "--key", "k", "--concurrent", "1"), 2),
        (("set", "--org", "{org}", "--concurrent", "-1"), 2),
        (("set", "--org", "{org}", "--concurrent", "1e3"), 2),
        (("set", "--key", "unknown", "--concurrent", "1"), 1),
        (("show", "--org", "00000000-0000-0000-0000-000000000000"), 1),
        (("show", "--key", "unknown"), 1),
    ],
)
def test_wrong_calls(
    karta: Karta, database_url: str, org_id: str, arguments: tuple[str, ...], code: int
) -> None:
    given = [argument.replace("{org}", org_id) for argument in arguments]
    assert karta("limits", *given, "--database-url", database_url)[0] == code


def test_the_words_are_those_of_storage() -> None:
    assert {(LimitKind(kind), Period(period)) for kind, period in limits.KINDS.values()}
    assert limits.amount("none") == limits.amount("0") == 0
